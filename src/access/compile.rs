//! Access rules, from text.

use std::collections::{HashMap, HashSet};

use super::{People, Rule};
use crate::config::Problem;
use crate::config::raw::{self, Access, AccessTable, AccessWord, CertificateUse, Require};
use crate::gate::network_set;
use crate::net::Machine;

/// The rule of the route under `key`. `groups` are the members of each group; `known` tells whether there is such a user.
pub fn compile(
    route: &raw::Route,
    key: &str,
    groups: &HashMap<String, HashSet<String>>,
    known: &dyn Fn(&str) -> bool,
    machine: &Machine,
    problems: &mut Vec<Problem>,
) -> Rule {
    let word = |people| Rule {
        people,
        methods: None,
        networks: None,
        certificate: CertificateUse::Off,
        either: false,
    };
    match &route.access {
        Access::Word(AccessWord::Users) => word(People::Users),
        Access::Word(AccessWord::Anyone) => word(People::Anyone),
        Access::Word(AccessWord::Nobody) => word(People::Nobody),
        Access::Table(table) => Rule {
            people: people(table, key, groups, known, problems),
            methods: methods(&table.methods, key, problems),
            networks: (!table.networks.is_empty()).then(|| {
                network_set(
                    &table.networks,
                    &format!("{key}.access.networks"),
                    machine,
                    problems,
                )
            }),
            certificate: table.certificate,
            either: either(table, key, problems),
        },
    }
}

fn people(
    table: &AccessTable,
    key: &str,
    groups: &HashMap<String, HashSet<String>>,
    known: &dyn Fn(&str) -> bool,
    problems: &mut Vec<Problem>,
) -> People {
    if table.users.is_empty() && table.groups.is_empty() {
        return People::Users;
    }
    let mut all = HashSet::new();
    for (i, user) in table.users.iter().enumerate() {
        if !known(user) {
            let (what, how) = match user.strip_prefix("token:") {
                Some(token) => (
                    format!("there is no token `{token}` in the tokens file"),
                    format!("`loopgate token add --name {token}`"),
                ),
                None => (
                    format!("there is no user `{user}` in the users file"),
                    format!("`loopgate user add {user}`"),
                ),
            };
            let key = format!("{key}.access.users[{i}]");
            problems.push(Problem::error("unknown-user", key, what).hint(format!(
                "take the name out, correct it, or add it with {how}"
            )));
        }
        all.insert(user.clone());
    }
    for (i, group) in table.groups.iter().enumerate() {
        match groups.get(group) {
            Some(members) => all.extend(members.iter().cloned()),
            None => {
                let problem = Problem::error(
                    "unknown-group",
                    format!("{key}.access.groups[{i}]"),
                    format!("there is no group `{group}`"),
                );
                problems.push(problem.hint(format!(
                    "add `[[group]]` with `name = \"{group}\"`, or correct the name"
                )));
            }
        }
    }
    People::Some(all)
}

fn methods(list: &[String], key: &str, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    for (i, method) in list.iter().enumerate() {
        let token =
            !method.is_empty() && method.bytes().all(|c| c.is_ascii_uppercase() || c == b'-');
        if !token || method == "CONNECT" {
            let problem = Problem::error(
                "bad-method",
                format!("{key}.access.methods[{i}]"),
                format!("`{method}` is no method that passes here"),
            );
            problems.push(problem.hint("write methods in capitals, such as `GET`, `POST`"));
        }
    }
    let mut methods = list.to_vec();
    // Whoever may GET may ask for the head alone (RFC 9110, 9.3.2).
    if methods.iter().any(|m| m == "GET") && !methods.iter().any(|m| m == "HEAD") {
        methods.push("HEAD".into());
    }
    (!methods.is_empty()).then_some(methods)
}

fn either(table: &AccessTable, key: &str, problems: &mut Vec<Problem>) -> bool {
    if table.require == Require::All {
        return false;
    }
    let at = format!("{key}.access.require");
    if table.networks.is_empty() {
        problems.push(
            Problem::error(
                "bad-require",
                at,
                "`require = \"any\"` needs networks to choose from",
            )
            .hint("add `networks = [...]`, or write `require = \"all\"`"),
        );
        return false;
    }
    match table.certificate {
        CertificateUse::Off | CertificateUse::Accepted => {}
        CertificateUse::Required | CertificateUse::WithLogin => {
            let message = "a certificate that is required and `require = \"any\"` contradict each other: these networks would come in without one";
            let problem = Problem::error("bad-require", at, message);
            problems
                .push(problem.hint("write `require = \"all\"`, or `certificate = \"accepted\"`"));
            return false;
        }
    }
    problems.push(
        Problem::warning(
            "require-any",
            at,
            "everybody in these networks gets in without a password",
        )
        .hint("write `require = \"all\"` unless you mean that"),
    );
    true
}
