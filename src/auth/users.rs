//! The users file: who may log in, by which stored hash. As `htpasswd` and Caddy write it: `name:hash`, one a line.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;

use aws_lc_rs::hmac;

use super::file;
pub use super::file::{FileError as UsersError, LineProblem};
use super::password::{Fingerprint, Hash};
use super::presented::LONGEST_NAME;

/// More than these are counted, not shown.
const MOST_PROBLEMS: usize = 100;

/// One who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    hash: Hash,
    line: usize,
}

impl User {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stored hash.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Names the stored hash: another one after the password was changed.
    pub fn fingerprint(&self) -> Fingerprint {
        self.hash.fingerprint()
    }

    /// The line of the file.
    pub fn line(&self) -> usize {
        self.line
    }
}

/// All who may log in. Replaced whole when the file changes.
#[derive(Clone, Debug, Default)]
pub struct Users {
    list: Vec<User>,
    by_name: HashMap<String, usize>,
    /// The users by the kind of their hash, for [`Users::decoy`].
    by_kind: Vec<usize>,
    seed: [u8; 32],
}

/// A users file that can be used, and what is unwise about it.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Who may log in.
    pub users: Users,
    /// What is unwise.
    pub warnings: Vec<LineProblem>,
}

impl Users {
    /// The user of that name; names are compared byte by byte.
    pub fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name).map(|at| &self.list[*at])
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A hash that costs what some user's hash costs and that nothing matches. In a file of mixed kinds every kind is
    /// as likely for an unknown name as it is for a known one, and a name has the same kind whenever it is asked for, after a
    /// restart too: else the names whose time never changes would be those of users. So it is drawn by a keyed hash of the name, whose
    /// key is made of a stored hash, which nobody knows and which rarely changes; and a user more or less moves few names.
    pub fn decoy(&self, name: &str) -> Hash {
        let Some(n) = NonZeroUsize::new(self.by_kind.len()) else {
            return Hash::default_decoy();
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        let tag = hmac::sign(&key, name.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&tag.as_ref()[..8]);
        let place = (u128::from(u64::from_be_bytes(bytes)) * n.get() as u128) >> 64;
        self.list[self.by_kind[place as usize]].hash.decoy()
    }

    /// Which user stands for which part of the unknown names.
    fn draw(&mut self) {
        self.by_kind = (0..self.list.len()).collect();
        let list = &self.list;
        self.by_kind
            .sort_by_cached_key(|at| format!("{:?}", list[*at].hash.kind()));
        let prints = self.list.iter().map(|user| user.fingerprint().0);
        self.seed = prints.min().unwrap_or([0; 32]);
    }

    /// Reads the text of a users file: all mistakes at once, or all users.
    pub fn parse(bytes: &[u8]) -> Result<Loaded, UsersError> {
        let mut reader = Reader::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (i, line) in bytes.split(|c| *c == b'\n').enumerate() {
            reader.read(i + 1, line.strip_suffix(b"\r").unwrap_or(line));
        }
        reader.finish()
    }
}

/// Reads a users file. Blocks on the disk.
pub fn load(path: &Path) -> Result<Loaded, UsersError> {
    let (bytes, warnings) = file::read(path, "run `loopgate user add NAME`")?;
    let mut loaded = Users::parse(&bytes)?;
    loaded.warnings.splice(0..0, warnings);
    Ok(loaded)
}

/// Why a name cannot be a user's.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the user name is empty");
    }
    if name.len() > LONGEST_NAME {
        return Some("the user name is longer than 128 bytes");
    }
    if name.starts_with('#') {
        return Some("the user name begins with `#`, which begins a comment");
    }
    if name.contains(':') {
        return Some("the user name has a colon in it");
    }
    if name.chars().any(char::is_whitespace) {
        return Some("the user name has white space in it");
    }
    if name.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Some("the user name has a character in it that cannot be seen");
    }
    None
}

/// Characters that make two names look alike: zero-width ones, direction marks, the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[derive(Default)]
struct Reader {
    loaded: Loaded,
    problems: Vec<LineProblem>,
}

impl Reader {
    fn read(&mut self, number: usize, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else {
            self.problem(number, 0, "the line is not UTF-8", "save the file as UTF-8");
            return;
        };
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return;
        }
        let Some((name, text)) = line.split_once(':') else {
            let hint = "write `name:hash`, or let `loopgate user add NAME` write it";
            self.problem(number, 0, "the line has no colon", hint);
            return;
        };
        if let Some(message) = name_problem(name) {
            self.problem(number, 1, message, "");
            return;
        }
        let column = name.chars().count() + 2;
        if text.chars().any(char::is_whitespace) {
            let hint = "remove it; a comment needs a line of its own";
            self.problem(number, column, "there is white space beside the hash", hint);
            return;
        }
        let hash = match Hash::parse(text) {
            Ok(hash) => hash,
            Err(error) => {
                self.problem(number, column, &error.to_string(), &error.repair(name));
                return;
            }
        };
        if let Some(first) = self.loaded.users.find(name) {
            let message = format!("user `{name}` is here twice, first in line {}", first.line);
            self.problem(number, 1, &message, "remove one of the two lines");
            return;
        }
        if let Some(advice) = hash.advice() {
            self.loaded.warnings.push(LineProblem {
                line: number,
                column,
                message: advice.into(),
                hint: format!("`loopgate user add {name}` stores a stronger one"),
            });
        }
        let users = &mut self.loaded.users;
        users.by_name.insert(name.to_owned(), users.list.len());
        users.list.push(User {
            name: name.to_owned(),
            hash,
            line: number,
        });
    }

    fn problem(&mut self, line: usize, column: usize, message: &str, hint: &str) {
        if self.problems.len() == MOST_PROBLEMS {
            self.problems.push(LineProblem {
                line,
                column: 0,
                message: "and more mistakes from here on".into(),
                hint: String::new(),
            });
        }
        if self.problems.len() > MOST_PROBLEMS {
            return;
        }
        self.problems.push(LineProblem {
            line,
            column,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    fn finish(mut self) -> Result<Loaded, UsersError> {
        if !self.problems.is_empty() {
            return Err(UsersError {
                problems: self.problems,
            });
        }
        if self.loaded.users.is_empty() {
            self.loaded.warnings.push(LineProblem {
                line: 0,
                column: 0,
                message: "it has no user: nobody can log in with a password".into(),
                hint: "run `loopgate user add NAME`".into(),
            });
        }
        self.loaded.users.draw();
        Ok(self.loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";

    #[test]
    fn reads_what_htpasswd_writes() {
        let text =
            format!("\u{feff}# people\r\nalice:{GOOD}\r\n\r\n  # more\njürgen@example.org:{GOOD}");
        let loaded = Users::parse(text.as_bytes()).unwrap();
        assert_eq!(loaded.warnings, []);
        let users = loaded.users;
        assert_eq!(users.len(), 2);
        assert_eq!(users.find("alice").unwrap().line(), 2);
        assert_eq!(
            users.find("jürgen@example.org").unwrap().hash().text(),
            GOOD
        );
        assert!(users.find("Alice").is_none() && users.find("").is_none());
    }

    #[test]
    fn tells_all_mistakes_at_once_with_their_places() {
        let text = format!(
            "alice:{GOOD}\nalice:{GOOD}\nbob:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nno colon\n:{GOOD}\n c:{GOOD}\n\
             dora: {GOOD}\ne\u{200b}ve:{GOOD}\nfay:hunter2\ngus:\nhans:{GOOD}:x"
        );
        let error = Users::parse(text.as_bytes()).unwrap_err();
        let places: Vec<_> = error.problems.iter().map(|p| (p.line, p.column)).collect();
        let want = [
            (2, 1),
            (3, 5),
            (4, 0),
            (5, 1),
            (6, 1),
            (7, 6),
            (8, 1),
            (9, 5),
            (10, 5),
            (11, 6),
        ];
        assert_eq!(places, want, "{:#?}", error.problems);
        assert!(error.problems[0].message.contains("line 1"));
        assert!(error.problems[1].hint.contains("`loopgate user add bob`"));
        assert!(!format!("{:?}", error.problems).contains("hunter2"));
    }

    #[test]
    fn refuses_bytes_that_are_not_text_and_stops_telling_after_a_hundred() {
        let error = Users::parse(b"\xff:x\n").unwrap_err();
        assert!(error.problems[0].message.contains("UTF-8"));
        let error = Users::parse("x\n".repeat(5000).as_bytes()).unwrap_err();
        assert_eq!(error.problems.len(), MOST_PROBLEMS + 1);
    }

    #[test]
    fn warns_of_what_is_unwise() {
        let loaded = Users::parse(b"").unwrap();
        assert!(loaded.warnings[0].message.contains("nobody"));
        let cheap = GOOD.replace("$10$", "$05$");
        let loaded = Users::parse(format!("a:{cheap}").as_bytes()).unwrap();
        assert!(loaded.warnings[0].message.contains("cheap"));
    }

    #[test]
    fn judges_who_else_can_read_or_write_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.htpasswd");
        std::fs::write(&path, format!("a:{GOOD}\n")).unwrap();
        for (mode, warnings) in [
            (0o600, Some(0)),
            (0o640, Some(0)),
            (0o644, Some(1)),
            (0o606, None),
        ] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(
                load(&path).ok().map(|l| l.warnings.len()),
                warnings,
                "{mode:o}"
            );
        }
    }

    #[test]
    fn a_missing_file_a_folder_and_a_fifo_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load(&dir.path().join("none")).unwrap_err();
        assert!(missing.problems[0].hint.contains("user add"));
        assert!(load(dir.path()).is_err());
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        assert!(
            load(&fifo).unwrap_err().problems[0]
                .message
                .contains("regular")
        );
    }

    #[test]
    fn a_decoy_looks_like_some_user_of_the_file() {
        let loaded = Users::parse(format!("a:{GOOD}").as_bytes()).unwrap();
        let user = loaded.users.find("a").unwrap();
        let decoy = loaded.users.decoy("b");
        assert_eq!(decoy.kind(), user.hash().kind());
        assert_ne!(decoy.text(), user.hash().text());
        assert_eq!(Users::default().decoy("x").memory(), 19_456 * 1024);
    }

    #[test]
    fn an_unknown_name_has_one_kind_and_every_kind_has_its_share() {
        let six = "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
        let text = format!("a:{GOOD}\nb:{six}\nc:{GOOD}\nd:{GOOD}\n");
        let read = |text: &str| Users::parse(text.as_bytes()).unwrap().users;
        let (users, again) = (read(&text), read(&text));
        let names: Vec<String> = (0..4000).map(|n| format!("name {n}")).collect();
        let kinds = |users: &Users| -> Vec<_> {
            names.iter().map(|name| users.decoy(name).kind()).collect()
        };
        let (first, second) = (kinds(&users), kinds(&again));
        assert_eq!(first, second, "after a restart");
        let rare = users.find("b").unwrap().hash().kind();
        let share = first.iter().filter(|kind| **kind == rare).count();
        assert!((800..1200).contains(&share), "a quarter, but {share}");
        // Another user: most names keep their kind.
        let other = kinds(&read(&format!("{text}e:{GOOD}\n")));
        let moved = first.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert!(moved < 400, "{moved}");
    }
}
