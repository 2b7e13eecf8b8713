//! Adds, replaces and removes one user in a users file; comments, order and line ends stay as they are.
//! Works on files with mistakes too: `loopgate user add` is how they are repaired.

use std::io;
use std::path::Path;

use thiserror::Error;

use super::password::Hash;
use super::stored::HashError;
use super::users::name_problem;
use crate::disk::rewrite;

/// What to change.
#[derive(Clone, Copy, Debug)]
pub enum Edit<'a> {
    /// The user has this stored hash from now on.
    Put {
        /// The user.
        name: &'a str,
        /// As made by [`super::password::hash`].
        hash: &'a str,
    },
    /// The user is gone.
    Remove {
        /// The user.
        name: &'a str,
    },
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The user is new.
    Added,
    /// The user has another hash.
    Replaced,
    /// The user is gone.
    Removed,
    /// There was no such user; the file is untouched.
    NotThere,
}

/// Why nothing was changed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum EditError {
    #[error("{0}")]
    Name(&'static str),
    #[error("the new hash is not one")]
    Hash(#[from] HashError),
    #[error("the users file cannot be changed: {0}")]
    File(#[from] io::Error),
}

/// Changes the users file whole or not at all; see [`rewrite`] for what is kept. Blocks on the disk.
pub fn edit(path: &Path, edit: Edit<'_>) -> Result<Edited, EditError> {
    let (name, hash) = match edit {
        Edit::Put { name, hash } => {
            Hash::parse(hash)?;
            (name, Some(hash))
        }
        Edit::Remove { name } => (name, None),
    };
    if let (Some(problem), Some(_)) = (name_problem(name), hash) {
        return Err(EditError::Name(problem));
    }
    let mut edited = Edited::NotThere;
    rewrite(path, |old| {
        let (text, done) = edit_text(old.unwrap_or_default(), name, hash);
        edited = done;
        Ok::<_, EditError>((done != Edited::NotThere).then_some(text))
    })?;
    Ok(edited)
}

/// The text with the user's first line replaced and any further ones left out; a new user comes last.
fn edit_text(old: &[u8], name: &str, hash: Option<&str>) -> (Vec<u8>, Edited) {
    let mut text = Vec::with_capacity(old.len() + 256);
    let mut is_found = false;
    for line in old.split_inclusive(|c| *c == b'\n') {
        if !is_of(line, name) {
            text.extend_from_slice(line);
            continue;
        }
        if let (false, Some(hash)) = (is_found, hash) {
            text.extend_from_slice(format!("{name}:{hash}").as_bytes());
            text.extend_from_slice(ending(line));
        }
        is_found = true;
    }
    let edited = match (is_found, hash) {
        (true, Some(_)) => Edited::Replaced,
        (true, None) => Edited::Removed,
        (false, None) => Edited::NotThere,
        (false, Some(hash)) => {
            let end: &[u8] = if old.ends_with(b"\r\n") {
                b"\r\n"
            } else {
                b"\n"
            };
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.extend_from_slice(end);
            }
            text.extend_from_slice(format!("{name}:{hash}").as_bytes());
            text.extend_from_slice(end);
            Edited::Added
        }
    };
    (text, edited)
}

/// Whether a line is about the user, even where white space makes it a mistake.
fn is_of(line: &[u8], name: &str) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let line = line.trim_ascii_start();
    let found = line.split(|c| *c == b':').next().unwrap_or_default();
    !line.starts_with(b"#") && found.len() < line.len() && found.trim_ascii_end() == name.as_bytes()
}

fn ending(line: &[u8]) -> &'static [u8] {
    if line.ends_with(b"\r\n") {
        b"\r\n"
    } else if line.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";

    #[test]
    fn keeps_everything_but_the_user() {
        for (old, hash, want, edited) in [
            ("", Some("H"), "bob:H\n", Edited::Added),
            ("# x\na:1", Some("H"), "# x\na:1\nbob:H\n", Edited::Added),
            ("a:1\r\n", Some("H"), "a:1\r\nbob:H\r\n", Edited::Added),
            (
                "a:1\nbob:old\n# end\n",
                Some("H"),
                "a:1\nbob:H\n# end\n",
                Edited::Replaced,
            ),
            (
                "bob:old\r\nz:1\r\n",
                Some("H"),
                "bob:H\r\nz:1\r\n",
                Edited::Replaced,
            ),
            (
                "bob:1\nx:2\nbob:3\n",
                Some("H"),
                "bob:H\nx:2\n",
                Edited::Replaced,
            ),
            (" bob :weak\n", Some("H"), "bob:H\n", Edited::Replaced),
            ("\u{feff}bob:1\n", Some("H"), "bob:H\n", Edited::Replaced),
            (
                "#bob:1\nbobby:2\nbob\n",
                Some("H"),
                "#bob:1\nbobby:2\nbob\nbob:H\n",
                Edited::Added,
            ),
            ("a:1\nbob:2\nc:3", None, "a:1\nc:3", Edited::Removed),
            ("a:1\n", None, "a:1\n", Edited::NotThere),
        ] {
            let (text, done) = edit_text(old.as_bytes(), "bob", hash);
            assert_eq!(
                (String::from_utf8(text).unwrap().as_str(), done),
                (want, edited)
            );
        }
    }

    #[test]
    fn writes_a_file_that_can_be_read_and_refuses_bad_names_and_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let put = |name, hash| edit(&path, Edit::Put { name, hash });
        assert_eq!(put("alice", HASH).unwrap(), Edited::Added);
        assert_eq!(super::super::users::load(&path).unwrap().users.len(), 1);
        assert!(matches!(put("a b", HASH), Err(EditError::Name(_))));
        assert!(matches!(put("a\nroot", HASH), Err(EditError::Name(_))));
        assert!(matches!(put("a", "hunter2"), Err(EditError::Hash(_))));
        assert_eq!(
            edit(&path, Edit::Remove { name: "bob" }).unwrap(),
            Edited::NotThere
        );
        assert_eq!(
            edit(&path, Edit::Remove { name: "alice" }).unwrap(),
            Edited::Removed
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
