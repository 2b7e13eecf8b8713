//! The house holds: rooms use only rooms above them, no file is too long, and every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in import order: each may use those before it, and itself.
const ROOMS: &[&str] = &[
    "base", "disk", "config", "net", "http1", "observe", "tls", "gate", "route", "auth", "access",
    "limit", "upstream", "plan", "exposure", "child", "web", "demo", "flow", "serve", "app", "cli",
];

/// The most lines that a file has, its tests not counted.
const LONGEST: usize = 400;

/// A source file: its place below `src` and its text.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The modules that the file is in: `src/flow/h1.rs` is `flow::h1`, `src/flow/mod.rs` is `flow`.
    fn modules(&self) -> Vec<String> {
        let mut parts: Vec<String> = self
            .path
            .iter()
            .map(|p| p.to_string_lossy().trim_end_matches(".rs").to_owned())
            .collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        parts
    }

    /// The text before the tests. A file of tests alone has none.
    fn without_tests(&self) -> &str {
        if self.path.ends_with("tests.rs") {
            return "";
        }
        self.text
            .split("\n#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default()
    }
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(&root).expect("below src").to_owned();
                found.push(File { path, text });
            }
        }
    }
    assert!(found.len() > 100, "the sources were found");
    found
}

/// The first segments below the crate's root of every path in `text`, a file of the module `modules`.
fn roots(text: &str, modules: &[String]) -> Vec<String> {
    let code = bare(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let before = word_before(&code[..at]);
        let after = &code[at + 2..];
        match before {
            "crate" => found.extend(firsts(after)),
            // `super` of the only module below the root is the root.
            "super" if climbs(&code[..at]) == modules.len() => found.extend(firsts(after)),
            _ => {}
        }
    }
    found
}

/// How many `super` stand in a row at the end of `before`, `self::` in front of them not counted.
fn climbs(before: &str) -> usize {
    let mut rest = before;
    let mut count = 0;
    while let Some(shorter) = rest.strip_suffix("super") {
        count += 1;
        rest = shorter.strip_suffix("::").unwrap_or("");
    }
    count
}

fn word_before(text: &str) -> &str {
    let start = text
        .rfind(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(0, |i| i + 1);
    &text[start..]
}

/// The name that follows, or the first name of every member of the group that follows.
fn firsts(after: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = after.strip_prefix('{') else {
        return vec![name(after)];
    };
    let (mut depth, mut member, mut found) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(name(&std::mem::take(&mut member))),
            _ => member.push(c),
        }
    }
    found.push(name(&member));
    found.retain(|f| !f.is_empty());
    found
}

/// The code without comments, texts and white space around `::`.
fn bare(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let mut code = lines.collect::<Vec<_>>().join("\n");
    for spaced in [" ::", "\n::", ":: ", "::\n"] {
        while code.contains(spaced) {
            code = code.replace(spaced, "::");
        }
    }
    code
}

#[test]
fn rooms_use_only_rooms_above_them() {
    let mut wrong = Vec::new();
    for file in files() {
        let modules = file.modules();
        let Some(own) = ROOMS.iter().position(|r| *r == modules[0]) else {
            let known = ["lib", "main"].contains(&&*modules[0]);
            assert!(known, "{} is in no room of the list", file.path.display());
            continue;
        };
        for root in roots(&file.text, &modules) {
            if ROOMS
                .iter()
                .position(|r| *r == root)
                .is_some_and(|used| used > own)
            {
                wrong.push(format!(
                    "{} uses {root}, which is below {}",
                    file.path.display(),
                    ROOMS[own]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_exists() {
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("src/lib.rs");
    for room in ROOMS {
        assert!(
            library.contains(&format!("pub mod {room};")),
            "{room} is in the list but not in the library"
        );
    }
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = files()
        .iter()
        .map(|f| (f, f.without_tests().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(f, lines)| format!("{} has {lines} lines", f.path.display()))
        .collect();
    assert!(
        long.is_empty(),
        "more than {LONGEST} lines, tests not counted; look for the seam:\n{}",
        long.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = files()
        .into_iter()
        .filter(|f| !f.text.starts_with("//! "))
        .map(|f| f.path)
        .collect();
    assert!(
        silent.is_empty(),
        "these do not begin with `//! `: {silent:?}"
    );
}

#[test]
fn edges_are_found_however_they_are_written() {
    let own = ["flow".to_owned(), "h1".to_owned()];
    for (text, want) in [
        ("use crate::base::cidr;", vec!["base"]),
        (
            "use crate::{base::{cidr, host::Host}, net, self};",
            vec!["base", "net", "self"],
        ),
        ("use crate :: net;", vec!["net"]),
        (
            "use crate::{\n    net::Wire,\n    tls,\n};",
            vec!["net", "tls"],
        ),
        ("fn f() { crate::web::page() }", vec!["web"]),
        ("pub(in crate::serve) fn f()", vec!["serve"]),
        ("use super::super::serve::accept;", vec!["serve"]),
        (
            "use super::super::{serve, tls::Names};",
            vec!["serve", "tls"],
        ),
        ("use self::super::super::cli;", vec!["cli"]),
        ("use super::state::Conn;", vec![]),
        ("use std::crate_like::net;", vec![]),
        ("// use crate::cli;", vec![]),
        ("let x = a::crate_::cli;", vec![]),
    ] {
        assert_eq!(roots(text, &own), want, "{text}");
    }
    assert_eq!(
        roots("use super::tls::Names;", &["flow".to_owned()]),
        ["tls"]
    );
}

#[test]
fn every_event_stands_in_the_manual() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let manual = fs::read_to_string(path).expect("the manual");
    let table = manual
        .split_once("\n| event | level |")
        .and_then(|(_, rest)| rest.split("\n\n").next())
        .expect("the table of events");
    let told: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split('`').skip(1).step_by(2))
        .collect();
    let mut seen = 0;
    for file in files() {
        for level in ["info", "warn", "error"] {
            let call = format!("Event::{level}(");
            for rest in file.without_tests().split(call.as_str()).skip(1) {
                let name = rest.trim_start().strip_prefix('"');
                let name = name.and_then(|rest| rest.split('"').next());
                let Some(name) = name else { continue };
                seen += 1;
                let place = file.path.display();
                assert!(
                    told.contains(&name),
                    "{place}: docs/operations.md lacks `{name}`"
                );
            }
        }
    }
    assert!(seen > 40, "{seen} events were found");
}
