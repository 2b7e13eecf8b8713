//! Users and groups, from their files.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::Person;
use crate::auth::token::Tokens;
use crate::auth::token_file;
use crate::auth::users::{self, LineProblem, Users};
use crate::config::Problem;
use crate::config::raw;

/// The users of the file, and nobody where no file is named.
pub(super) fn users(raw: &raw::Auth, base: &Path, problems: &mut Vec<Problem>) -> Users {
    let Some(file) = &raw.users_file else {
        return Users::default();
    };
    let path = base.join(file);
    let key = "auth.users_file";
    match users::load(&path) {
        Ok(loaded) => {
            problems.extend(
                loaded.warnings.iter().map(|p| {
                    Problem::warning("users-file", key, told(&path, p)).hint(p.hint.clone())
                }),
            );
            loaded.users
        }
        Err(error) => {
            problems.extend(
                error.problems.iter().map(|p| {
                    Problem::error("users-file", key, told(&path, p)).hint(p.hint.clone())
                }),
            );
            Users::default()
        }
    }
}

/// The API tokens of their file, and none where no file is named. A file that is not there yet is an empty one:
/// `loopgate token add` makes it. It may be a mistyped name or one that got lost, too.
pub(super) fn tokens(raw: &raw::Auth, base: &Path, problems: &mut Vec<Problem>) -> Tokens {
    let Some(path) = raw.tokens_file.as_ref().map(|file| base.join(file)) else {
        return Tokens::default();
    };
    let key = "auth.tokens_file";
    if matches!(path.try_exists(), Ok(false)) {
        let message = format!(
            "{}: there is no such file, so no token lets anybody in",
            path.display()
        );
        let hint = "`loopgate token add --name NAME` makes it; or correct the name";
        problems.push(Problem::warning("tokens-file", key, message).hint(hint));
        return Tokens::default();
    }
    match token_file::load(&path) {
        Ok((tokens, warnings)) => {
            problems.extend(warnings.iter().map(|p| {
                Problem::warning("tokens-file", key, told(&path, p)).hint(p.hint.clone())
            }));
            tokens
        }
        Err(error) => {
            problems.extend(
                error.problems.iter().map(|p| {
                    Problem::error("tokens-file", key, told(&path, p)).hint(p.hint.clone())
                }),
            );
            Tokens::default()
        }
    }
}

pub(super) fn told(path: &Path, problem: &LineProblem) -> String {
    match problem.line {
        0 => format!("{}: {}", path.display(), problem.message),
        line => format!(
            "{}:{line}:{}: {}",
            path.display(),
            problem.column.max(1),
            problem.message
        ),
    }
}

/// The members of each group. A group that is named twice is a mistake, and so is a member that does not exist.
pub(super) fn groups(
    list: &[raw::Group],
    users: &Users,
    problems: &mut Vec<Problem>,
) -> HashMap<String, HashSet<String>> {
    let mut groups = HashMap::new();
    for (i, group) in list.iter().enumerate() {
        let key = format!("group[{i}]");
        if group.name.is_empty()
            || group
                .name
                .bytes()
                .any(|c| !c.is_ascii_graphic() || c == b',')
        {
            let problem = Problem::error(
                "bad-group",
                format!("{key}.name"),
                "a group's name is visible ASCII without commas",
            );
            problems.push(problem.hint("write for example `name = \"ops\"`"));
        }
        for (j, user) in group.users.iter().enumerate() {
            if users.find(user).is_none() {
                let problem = Problem::error(
                    "unknown-user",
                    format!("{key}.users[{j}]"),
                    format!("there is no user `{user}` in the users file"),
                );
                problems.push(problem.hint(format!(
                    "take the name out, correct it, or add it with `loopgate user add {user}`"
                )));
            }
        }
        if groups
            .insert(group.name.clone(), group.users.iter().cloned().collect())
            .is_some()
        {
            let problem = Problem::error(
                "duplicate-group",
                format!("{key}.name"),
                format!("there is another group `{}`", group.name),
            );
            problems.push(problem.hint("put all its users into one `[[group]]`"));
        }
    }
    groups
}

/// Each user with the groups that it is in.
pub(super) fn people(
    users: &Users,
    groups: &HashMap<String, HashSet<String>>,
) -> HashMap<String, Person> {
    let person = |name: &str| {
        let mut of: Vec<&str> = groups
            .iter()
            .filter(|(_, members)| members.contains(name))
            .map(|(group, _)| group.as_str())
            .collect();
        of.sort_unstable();
        Person {
            user: name.into(),
            groups: Arc::from(of.join(",")),
        }
    };
    users
        .iter()
        .map(|u| (u.name().to_owned(), person(u.name())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_file_that_is_not_there_is_told_and_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let raw = raw::Auth {
            tokens_file: Some("tokens.toml".into()),
            ..raw::Auth::default()
        };
        let mut problems = Vec::new();
        assert!(tokens(&raw, dir.path(), &mut problems).is_empty());
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        assert_eq!(problem.severity, crate::config::Severity::Warning);
        assert!(problem.message.contains("no such file"));
        std::fs::write(dir.path().join("tokens.toml"), "version = 1\n").unwrap();
        problems.clear();
        let _ = tokens(&raw, dir.path(), &mut problems);
        assert!(!problems.iter().any(|p| p.message.contains("no such file")));
        // And where none is named nothing is missing.
        problems.clear();
        let _ = tokens(&raw::Auth::default(), dir.path(), &mut problems);
        assert!(problems.is_empty());
    }
}
