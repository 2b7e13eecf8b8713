//! Text to raw structs, and how mistakes are shown. Every layer is checked strictly by itself, with places, before the
//! `config` crate merges them. What the values mean is the business of the room that compiles them.

mod check;
mod example;
mod find;
mod layers;
mod mask;
mod nearest;
mod origin;
mod problem;
pub mod raw;
mod reference;
mod report;
mod schema;
mod shape;
mod syntax;
pub mod unit;
mod value;
mod variables;
mod wording;

use std::path::PathBuf;

pub use example::example;
pub use find::find;
pub use layers::{files, from_text, load};
pub use origin::{Origins, Place, Source};
pub use problem::{Problem, Severity};
pub use reference::reference;
pub use report::Report;
pub use schema::schema;

/// A configuration without mistakes of form.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was written, and the defaults.
    pub raw: raw::Config,
    /// Where it was written.
    pub origins: Origins,
    /// The files that it came from: what to watch for changes.
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn disk(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// What is generated stands on the disk. `UPDATE=1` writes it there.
    fn assert_on_disk(path: &str, text: &str) {
        let file = disk(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, text).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            there, text,
            "{path} is not what is generated; run with UPDATE=1"
        );
    }

    #[test]
    fn every_bad_file_says_what_is_wrong_and_what_to_write() {
        let mut seen = 0;
        for entry in std::fs::read_dir(disk("tests/fixtures/config")).unwrap() {
            let file = entry.unwrap().path();
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            if file.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let report = from_text(&format!("{stem}.toml"), &text).expect_err(&stem);
            for problem in &report.problems {
                assert!(problem.place.is_some(), "{stem}: {problem} has no place");
                assert!(problem.hint.is_some(), "{stem}: {problem} has no hint");
            }
            let path = format!("tests/fixtures/config/{stem}.txt");
            assert_on_disk(&path, &report.render(false, 120));
            seen += 1;
        }
        assert!(seen >= 15, "{seen}");
    }
    #[test]
    fn documents_on_the_disk_are_the_generated_ones() {
        let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        assert_on_disk("config/example.toml", &example());
        assert_on_disk("docs/configuration.md", &reference());
        assert_on_disk("config/schema.json", &schema);
    }

    /// The example with every key in use; of a key that is shown in several forms the `n`th one.
    fn in_use(n: usize) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut keys: Vec<(String, Vec<usize>)> = Vec::new();
        for line in example().lines() {
            let bare = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            let line = bare.unwrap_or(line);
            if line.starts_with('[') {
                keys.clear();
            }
            if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                match keys.iter_mut().find(|(known, _)| known == key) {
                    Some((_, places)) if places.len() > n => continue,
                    Some((_, places)) => {
                        lines[places[places.len() - 1]].clear();
                        places.push(lines.len());
                    }
                    None => keys.push((key.to_owned(), vec![lines.len()])),
                }
            }
            lines.push(line.to_owned());
        }
        lines.join("\n")
    }

    #[test]
    fn the_example_and_the_minimal_file_load() {
        let minimal = std::fs::read_to_string(disk("config/minimal.toml")).unwrap();
        let texts = [example(), minimal, in_use(0), in_use(1), in_use(2)];
        for (i, text) in texts.iter().enumerate() {
            let loaded = from_text("example.toml", text);
            assert!(
                loaded.is_ok(),
                "{i}: {}",
                loaded.unwrap_err().render(false, 120)
            );
        }
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let raw = from_text("example.toml", &in_use(0)).unwrap().raw;
        assert_eq!(raw.server, raw::Server::default());
        assert_eq!(raw.limits, raw::Limits::default());
        assert_eq!(raw.log, raw::Log::default());
        assert_eq!(raw.auth.session, raw::Session::default());
        assert_eq!(raw.auth.lockout, raw::Lockout::default());
        let route = raw::Route {
            hosts: raw.route[0].hosts.clone(),
            upstream_secret: raw.route[0].upstream_secret.clone(),
            ..raw::Route::new("127.0.0.1:3000")
        };
        assert_eq!(raw.route, [route]);
    }
}
