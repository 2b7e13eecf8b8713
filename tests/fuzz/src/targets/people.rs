//! Files of users and tokens, and cookies.

use loopgate::auth::cookie::{CookieName, Stripped};
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
            let _ = loaded.users.decoy(lines as u64);
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

pub fn cookie(data: &[u8]) {
    let name = CookieName::session("a1");
    let values: Vec<&[u8]> = data.split(|c| *c == b'\n').collect();
    let ours = |value: &[u8]| {
        parts(value)
            .iter()
            .filter(|(n, _)| *n == name.as_str().as_bytes())
            .count()
    };
    let all: usize = values.iter().map(|v| ours(v)).sum();
    if let Ok(Some(id)) = name.find(values.iter().copied()) {
        assert!(
            all > 0
                && id
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        );
    }
    if all == 0 {
        assert_eq!(name.find(values.iter().copied()), Ok(None));
    }
    for value in values {
        let mut kept = parts(value);
        kept.retain(|(n, _)| *n != name.as_str().as_bytes());
        match name.strip(value) {
            Stripped::Untouched => assert_eq!(ours(value), 0, "ours stays"),
            Stripped::Gone => assert!(kept.is_empty(), "others go with ours"),
            Stripped::Rest(rest) => {
                assert_eq!(ours(&rest), 0, "ours stays");
                assert_eq!(parts(&rest), kept, "the others are as they were");
            }
        }
        let first = value.split(|c| *c == b';').next().unwrap_or_default();
        if parts(first)
            .first()
            .is_some_and(|(n, _)| n.eq_ignore_ascii_case(name.as_str().as_bytes()))
        {
            assert!(name.is_set_by(value), "a service can set our cookie");
        }
    }
}
