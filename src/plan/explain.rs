//! The decision for a request that nobody sent, step by step: the same pure functions as on the live path. `explain` prints
//! the steps, and a `[[test]]` compares the end of them.

use std::net::IpAddr;

use super::{Plan, visitor};
use crate::access::{Asked, Need, People, Rule};
use crate::auth::{Method, Who};
use crate::base::host::{Authority, Host};
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};
use crate::config::Problem;
use crate::config::raw::{self, Expect};

/// A request that nobody sent.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The address that connects.
    pub from: IpAddr,
    /// Whom it names when it is a trusted proxy: the value of `X-Forwarded-For`, behind it whom the PROXY header names.
    pub forwarded_for: Option<&'a str>,
    /// The user who is logged in.
    pub user: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// `https://host[:port]/path`, or a path on the first host of the file.
    pub url: &'a str,
}

/// One step of the order of judgement (contract 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What it found.
    pub found: String,
    /// The key of the configuration that decided.
    pub key: Option<String>,
    /// Whether the request goes on.
    pub passes: bool,
}

/// The steps, and how they end.
#[derive(Clone, Debug)]
pub struct Explained {
    /// As far as the request came.
    pub steps: Vec<Step>,
    /// Forwarded, or why not.
    pub decision: Result<(), Refusal>,
    /// The connection is a proxy's, so a refusal of the client is answered.
    pub(super) is_answered: bool,
}

impl Explained {
    /// `allowed`, or the word of the refusal.
    pub fn word(&self) -> &'static str {
        match self.decision {
            Ok(()) => "allowed",
            Err(refusal) => refusal.reason.word(),
        }
    }

    /// What the client sees: 0 where the socket is closed, `None` where the request is forwarded.
    pub fn status(&self) -> Option<u16> {
        let row = *self.decision.err()?.reason.row();
        Some(
            if self.is_answered {
                row.answered()
            } else {
                row
            }
            .status,
        )
    }

    pub(super) fn step(
        &mut self,
        name: &'static str,
        found: impl Into<String>,
        key: Option<String>,
    ) {
        self.steps.push(Step {
            name,
            found: found.into(),
            key,
            passes: true,
        });
    }

    fn refused(
        mut self,
        name: &'static str,
        refusal: Refusal,
        found: impl Into<String>,
        key: Option<String>,
    ) -> Self {
        self.step(name, found, key);
        self.ended(refusal)
    }

    /// Refused in the last step.
    fn ended(mut self, refusal: Refusal) -> Self {
        if let Some(last) = self.steps.last_mut() {
            last.passes = false;
        }
        Self {
            decision: Err(refusal),
            ..self
        }
    }
}

/// Judges the question. `Err` says what is wrong with the question itself.
pub fn explain(
    plan: &Plan,
    config: &raw::Config,
    question: &Question<'_>,
) -> Result<Explained, String> {
    let (authority, target) = split(question.url, config)?;
    let authority =
        Authority::parse(&authority).map_err(|what| format!("`{}`: {what}", question.url))?;
    let raw_path = target.split(['?', '#']).next().unwrap_or("/");
    let path = Path::parse(raw_path).map_err(|what| format!("`{}`: {what}", question.url))?;
    let mut told = Explained {
        steps: Vec::new(),
        decision: Ok(()),
        is_answered: false,
    };

    let gates = gates(plan, authority.port);
    let admits = |i: &&usize| {
        let mut trial = told.clone();
        visitor::judge(&plan.listeners[**i].gate, "", question, &mut trial).is_ok()
    };
    let Some(listener) = gates.iter().find(admits).or(gates.first()).copied() else {
        return Err("there is no listener".into());
    };
    let gate = &plan.listeners[listener].gate;
    let from = match visitor::judge(gate, &format!("listener[{listener}]"), question, &mut told) {
        Ok(client) => client,
        Err(refusal) => return Ok(told.ended(refusal)),
    };
    if let Some(why) = plan.listeners[listener].closed() {
        let key = Some(format!("listener[{listener}].only_on"));
        told.step("listener", format!("but it is closed now: {why}"), key);
    }

    let sni = match &authority.host {
        Host::Name(name) => Some(name.as_ref()),
        Host::Ip(_) => None,
    };
    let local = match &authority.host {
        Host::Ip(address) if plan.site.table.is_own(*address) => *address,
        Host::Ip(_) | Host::Name(_) => IpAddr::from([127, 0, 0, 1]),
    };
    let asked = Asked {
        host: &authority.host,
        sni,
        path: &path,
        method: question.method,
        client: from,
        local,
    };
    if let Err(refusal) = plan.site.host(&asked) {
        return Ok(told.refused("host", refusal, refusal.detail, None));
    }
    told.step("host", format!("{} is one of ours", authority.host), None);

    let stage = match plan.site.before(&asked) {
        Ok(stage) => stage,
        Err(refusal) => {
            let (name, route) = match refusal.reason {
                Reason::RouteNetworkDenied => ("route's networks", true),
                Reason::MethodDenied => ("method", true),
                Reason::NotPermitted => ("may they", true),
                _ => ("route", false),
            };
            let found = plan.site.table.find(&authority.host, local, &path).ok();
            let key = found
                .filter(|_| route)
                .map(|f| format!("route[{}].access", f.route));
            return Ok(told.refused(name, refusal, refusal.detail, key));
        }
    };
    let at = stage.route();
    let route = plan.routes.get(at).ok_or("the route has no target")?;
    told.step(
        "route",
        format!("{} leads to {}", route.label, route.upstream.target()),
        Some(format!("route[{at}]")),
    );

    let who = question.user.and_then(|name| who(plan, name));
    let rule_key = Some(format!("route[{at}].access"));
    match (stage.need(), question.user, &who) {
        (Need::Nobody, _, _) => told.step("who", "nobody is asked for", rule_key.clone()),
        (Need::Person, None, _) => {}
        (Need::Person, Some(name), None) => {
            let refusal = Refusal::new(Reason::CredentialsWrong, "there is no such user");
            return Ok(told.refused(
                "who",
                refusal,
                format!("there is no user `{name}`"),
                Some("auth.users_file".into()),
            ));
        }
        (Need::Person, Some(_), Some(who)) => told.step(
            "who",
            format!("{} is logged in", who.user),
            Some("auth.users_file".into()),
        ),
    }
    let need = stage.need();
    if let Err(refusal) = plan.site.after(stage, who) {
        let name = if refusal.reason == Reason::CredentialsMissing {
            "who"
        } else {
            "may they"
        };
        return Ok(told.refused(name, refusal, refusal.detail, rule_key));
    }
    if need == Need::Person {
        told.step("may they", rule(plan.site.rules.get(at)), rule_key);
    }
    Ok(told)
}

fn rule(rule: Option<&Rule>) -> &'static str {
    match rule.map(|r| &r.people) {
        Some(People::Some(_)) => "named, or in a named group",
        Some(People::Users | People::Anyone | People::Nobody) | None => "every user may",
    }
}

/// Authority and target of a URL; a path alone is meant on the first host of the file.
fn split(url: &str, config: &raw::Config) -> Result<(String, String), String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        if !url.starts_with('/') {
            return Err(format!(
                "`{url}` is neither a path nor a URL; write `/path` or `https://host/path`"
            ));
        }
        let host = config
            .route
            .iter()
            .find_map(|r| r.hosts.first())
            .filter(|_| config.route.iter().all(|r| !r.hosts.is_empty()));
        return Ok((
            host.cloned().unwrap_or_else(|| "localhost".into()),
            url.into(),
        ));
    };
    if !matches!(scheme, "https" | "http") {
        return Err(format!("`{url}`: the scheme is https"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let target = if rest[end..].starts_with('/') {
        rest[end..].to_owned()
    } else {
        format!("/{}", &rest[end..])
    };
    Ok((rest[..end].to_owned(), target))
}

/// The listeners that the port can mean; all of them when none has it.
fn gates(plan: &Plan, port: Option<u16>) -> Vec<usize> {
    let all = || 0..plan.listeners.len();
    let with: Vec<usize> = all()
        .filter(|i| {
            plan.listeners[*i]
                .addresses
                .iter()
                .any(|a| Some(a.port()) == port)
        })
        .collect();
    if with.is_empty() {
        all().collect()
    } else {
        with
    }
}

fn who(plan: &Plan, name: &str) -> Option<Who> {
    let person = plan.people.get(name)?;
    Some(Who {
        user: person.user.clone(),
        groups: person.groups.clone(),
        by: Method::Session,
    })
}

/// Runs the `[[test]]` tables; each that ends otherwise is a mistake of the file.
pub(super) fn run(plan: &Plan, config: &raw::Config, problems: &mut Vec<Problem>) {
    for (i, test) in config.test.iter().enumerate() {
        let (method, url) = test
            .request
            .split_once(' ')
            .unwrap_or(("GET", &test.request));
        let question = Question {
            from: test.from,
            forwarded_for: test.forwarded_for.as_deref(),
            user: test.user.as_deref(),
            method,
            url: url.trim(),
        };
        let told = match explain(plan, config, &question) {
            Ok(told) => told,
            Err(what) => {
                problems.push(Problem::error(
                    "bad-test",
                    format!("test[{i}].request"),
                    what,
                ));
                continue;
            }
        };
        let want = match test.expect {
            Expect::Allowed => "allowed",
            Expect::Refused(reason) => reason.word(),
        };
        if told.word() != want {
            let last = told.steps.last().map_or("", |step| step.found.as_str());
            let message = format!("the decision is `{}`, not `{want}`: {last}", told.word());
            let user = test
                .user
                .as_ref()
                .map(|u| format!(" --user {u}"))
                .unwrap_or_default();
            let through = test
                .forwarded_for
                .as_ref()
                .map(|list| format!(" --forwarded-for '{list}'"))
                .unwrap_or_default();
            let hint = format!(
                "see every step with `loopgate explain --from {}{through}{user} {}`, then correct the file or the test",
                test.from, test.request
            );
            problems.push(
                Problem::error("test-failed", format!("test[{i}].expect"), message).hint(hint),
            );
        }
    }
}
