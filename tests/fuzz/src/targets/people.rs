//! Files of users and tokens, and cookies.

use loopgate::auth::cookie::{self, CookieName, Stripped};
use loopgate::auth::presented;
use loopgate::auth::token::Tokens;
use loopgate::auth::token_file;
use loopgate::auth::users::{self, Users};

pub fn users(data: &[u8]) {
    let lines = data.split(|c| *c == b'\n').count();
    match Users::parse(data) {
        Ok(loaded) => {
            let mut names = std::collections::HashSet::new();
            for user in loaded.users.iter() {
                assert!(
                    names.insert(user.name().to_owned()),
                    "a user who is there twice"
                );
                assert_eq!(users::name_problem(user.name()), None);
                assert!((1..=lines).contains(&user.line()));
                let found = loaded.users.find(user.name()).map(|u| u.line());
                assert_eq!(found, Some(user.line()));
                let _ = (user.fingerprint(), format!("{user:?}"));
            }
            assert_eq!(names.len(), loaded.users.len());
            let _ = loaded.users.decoy("nobody");
            assert!(loaded.warnings.iter().all(|w| w.line <= lines));
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(
                    problem.line <= lines && !problem.message.is_empty(),
                    "{problem:?}"
                );
                let _ = error.to_string();
            }
        }
    }
    if let Some(first) = data.split(|c| *c == b'\n').next() {
        let _ = presented::authorization(first).map(|p| format!("{p:?}"));
    }
}

pub fn tokens(data: &[u8]) {
    let lines = data.split(|c| *c == b'\n').count();
    match token_file::parse(data) {
        Ok(list) => {
            for token in &list {
                assert_eq!(token.problem(), None, "{token:?}");
            }
            let tokens = Tokens::new(list.clone());
            assert_eq!(tokens.iter().count(), list.len());
            for token in &list {
                assert!(
                    tokens
                        .by_id(&token.id)
                        .is_some_and(|t| t.name == token.name)
                );
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(problem.line <= lines, "{problem:?} of {lines} lines");
            }
        }
    }
}

/// Names and values of the cookies in a `Cookie` field, as most servers read them: without `=` all is value.
fn parts(value: &[u8]) -> Vec<(&[u8], &[u8])> {
    let parts = value
        .split(|c| *c == b';')
        .map(|p| match p.iter().position(|c| *c == b'=') {
            Some(at) => (p[..at].trim_ascii(), p[at + 1..].trim_ascii()),
            None => (&b""[..], p.trim_ascii()),
        });
    parts
        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
        .collect()
}

/// Cookies of gates, of this one and of others on the same host.
const OURS: &[u8] = b"__host-loopgate-";

pub fn cookie(data: &[u8]) {
    let name = CookieName::session("a1");
    // No other control byte comes as far as this (`http1/head`).
    let plain = |v: &&[u8]| !v.iter().any(|c| *c < b' ' && *c != b'\t');
    let values: Vec<&[u8]> = data.split(|c| *c == b'\n').filter(plain).collect();
    let is_named = |n: &[u8]| n == name.as_str().as_bytes();
    let named = values
        .iter()
        .flat_map(|v| parts(v))
        .filter(|(n, _)| is_named(n))
        .count();
    let found = name.find(values.iter().copied());
    if let Ok(Some(id)) = found {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        assert!(named > 0 && id.bytes().all(plain));
    }
    if named == 0 {
        assert_eq!(found, Ok(None));
    }
    let begins = |text: &[u8]| text.trim_ascii_start().to_ascii_lowercase().starts_with(OURS);
    // A cookie without a name is sent as its bare value; behind a comma some readers begin another one.
    let is_ours = |(n, v): &(&[u8], &[u8])| {
        let text = if n.is_empty() { v } else { n };
        let behind = |text: &[u8]| text.split(|c| *c == b',').skip(1).any(begins);
        begins(text) || behind(n) || behind(v)
    };
    let exact = |n: &[u8]| n.starts_with(b"__Host-loopgate-");
    for value in values {
        let all = parts(value);
        match cookie::strip(value) {
            Stripped::Untouched => assert!(!all.iter().any(|(n, _)| exact(n)), "ours stays"),
            Stripped::Gone => assert!(all.iter().all(is_ours), "others go with ours"),
            Stripped::Rest(rest) => {
                let rest = parts(&rest);
                assert!(!rest.iter().any(|(n, _)| exact(n)), "ours stays");
                let others = |list: &[(&[u8], &[u8])]| -> Vec<(Vec<u8>, Vec<u8>)> {
                    let others = list.iter().filter(|part| !is_ours(part));
                    others.map(|(n, v)| (n.to_vec(), v.to_vec())).collect()
                };
                assert_eq!(others(&rest), others(&all), "the others are as they were");
            }
        }
        let first = value.split(|c| *c == b';').next().unwrap_or_default();
        if parts(first).first().is_some_and(is_ours) {
            let known = cookie::is_about_a_gate(value);
            assert!(known, "a service can set our cookie");
        }
    }
}
