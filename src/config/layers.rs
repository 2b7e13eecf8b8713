//! How the layers become one: each is checked by itself, then the `config` crate lays one over the other. Tables of a
//! list (`[[route]]`) are put together; everything else is overridden by the later layer.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::FileFormat;
use serde::Deserialize as _;
use toml::{Table, Value};

use super::check::{Layer, check_file};
use super::origin::{Origins, Source};
use super::problem::Problem;
use super::report::Report;
use super::{Loaded, raw, shape, variables};
use crate::disk;

/// More than anybody writes, less than hurts.
const LARGEST_FILE: u64 = 4 << 20;

/// Loads `file`, `conf.d/*.toml` beside it, and what `env` overrides. All mistakes of all layers come back together.
pub fn load(
    file: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Report> {
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut stack = Stack::default();
    stack.file(file, &base, true);
    match snippets(&base.join("conf.d")) {
        Ok(files) => files.iter().for_each(|file| stack.file(file, &base, false)),
        Err(problem) => stack.problems.push(problem),
    }
    for layer in variables::layers(env, &base) {
        stack.push(layer);
    }
    stack.merge()
}

/// The files that [`load`] reads, whatever is in them.
pub fn files(file: &Path) -> Vec<PathBuf> {
    let base = file.parent().unwrap_or(Path::new(""));
    let beside = snippets(&base.join("conf.d")).unwrap_or_default();
    [file.to_owned()].into_iter().chain(beside).collect()
}

/// Loads a configuration that is no file; relative paths in it stay as they are.
pub fn from_text(name: &str, text: &str) -> Result<Loaded, Report> {
    let source = Source {
        name: name.into(),
        text: text.to_owned(),
    };
    let mut stack = Stack::default();
    stack.push(check_file(&Arc::new(source), Path::new("")));
    stack.merge()
}

/// The files of `conf.d` in name order; hidden ones and other endings are left alone, as editors leave such behind.
fn snippets(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| {
        let message = format!("the directory `{}` cannot be read: {error}", dir.display());
        Problem::error("unreadable-file", "", message)
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && file.extension().is_some_and(|ending| ending == "toml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file. The main one may be a pipe (`-c <(…)`).
fn read(file: &Path, is_main: bool) -> Result<String, Problem> {
    let failed = |what: String| {
        let message = format!("the configuration file `{}` {what}", file.display());
        Problem::error("unreadable-file", "", message)
    };
    let cannot = |error: std::io::Error| {
        let problem = failed(format!("cannot be read: {error}"));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                problem.hint("give the user that runs loopgate the right to read it")
            }
            _ => problem,
        }
    };
    let piped = match is_main {
        true => disk::pipe(file, LARGEST_FILE + 1).map_err(cannot)?,
        false => None,
    };
    let bytes = match piped {
        Some(bytes) => bytes,
        None => {
            let (mut bytes, file) = (Vec::new(), disk::regular(file).map_err(cannot)?);
            let limited = &mut file.take(LARGEST_FILE + 1);
            limited.read_to_end(&mut bytes).map_err(cannot)?;
            bytes
        }
    };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(failed(format!("is larger than {} MiB", LARGEST_FILE >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        failed(format!("is not UTF-8 text (line {line})")).hint("save it as UTF-8")
    })
}

#[derive(Default)]
struct Stack {
    tables: Vec<Table>,
    lists: BTreeMap<String, Vec<Value>>,
    origins: Origins,
    problems: Vec<Problem>,
    files: Vec<PathBuf>,
}

impl Stack {
    fn file(&mut self, file: &Path, base: &Path, is_main: bool) {
        self.files.push(file.to_owned());
        match read(file, is_main) {
            Ok(text) => {
                let name = file.to_owned();
                self.push(check_file(&Arc::new(Source { name, text }), base));
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn push(&mut self, mut layer: Layer) {
        let lists = &self.lists;
        let before = |list: &str| lists.get(list).map_or(0, Vec::len);
        for mut problem in layer.problems {
            problem.key = super::origin::shift(&problem.key, &before).unwrap_or(problem.key);
            self.problems.push(problem);
        }
        self.origins.adopt(layer.origins, &before);
        for field in shape::fields()
            .iter()
            .filter(|field| field.is_list_of_tables())
        {
            if let Some(Value::Array(tables)) = layer.table.remove(&field.name) {
                let list = self.lists.entry(field.name.clone()).or_default();
                list.extend(tables);
            }
        }
        self.tables.push(layer.table);
    }

    fn merge(self) -> Result<Loaded, Report> {
        if !self.problems.is_empty() {
            return Err(Report::new(self.problems, self.origins));
        }
        match merged(self.tables, self.lists) {
            Ok(raw) => Ok(Loaded {
                raw,
                origins: self.origins,
                files: self.files,
            }),
            // The check knows every rule of the raw structs, so this takes a mistake of ours. Refuse all the same.
            Err(message) => {
                let problem = Problem::error("unreadable-value", "", message);
                Err(Report::new(vec![problem], self.origins))
            }
        }
    }
}

fn merged(tables: Vec<Table>, lists: BTreeMap<String, Vec<Value>>) -> Result<raw::Config, String> {
    let mut builder = config::Config::builder();
    for table in tables {
        builder = builder.add_source(config::File::from_str(&table.to_string(), FileFormat::Toml));
    }
    let layered = builder.build().map_err(|error| error.to_string())?;
    let mut table: Table = layered
        .try_deserialize()
        .map_err(|error| error.to_string())?;
    table.extend(
        lists
            .into_iter()
            .map(|(name, list)| (name, Value::Array(list))),
    );
    raw::Config::deserialize(table).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MAIN: &str = r#"
[[listener]]
address = "0.0.0.0:8443"
networks = { allow = ["this-lan"] }
[[route]]
upstream = "127.0.0.1:3000"
[limits]
head = "1s"
idle = "2s"
[auth]
users_file = "users"
"#;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn load_with(dir: &tempfile::TempDir, env: &[(&str, &str)]) -> Result<Loaded, Report> {
        let pairs = env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        load(&dir.path().join("loopgate.toml"), pairs)
    }

    #[test]
    fn later_layers_override_values_and_add_tables() {
        let dir = dir(&[
            ("loopgate.toml", MAIN),
            (
                "conf.d/20.toml",
                "limits.head = '3s'\n[[route]]\nupstream = '127.0.0.1:3002'\npath = '/2'",
            ),
            (
                "conf.d/10.toml",
                "limits.head = '9s'\n[[route]]\nupstream = '127.0.0.1:3001'",
            ),
            ("conf.d/.hidden.toml", "broken"),
            ("conf.d/10.toml~", "broken"),
        ]);
        let env = [
            ("LOOPGATE__LIMITS__IDLE", "4s"),
            ("LOOPGATE__SERVER__WORKERS", "3"),
            ("LOOPGATE__LIMITS__FIELDS", "99"),
            ("LOOPGATE__AUTH__REALM", "0080"),
            ("LOOPGATE__LOG__QUERY", "true"),
            ("LOOPGATE__AUTH__SESSION__IDLE", "1h"),
            ("LOOPGATE__ADMIN__ADDRESS", "127.0.0.1:9095"),
            ("LOOPGATE_CONFIG", "elsewhere"),
        ];
        let loaded = load_with(&dir, &env).unwrap_or_else(|r| panic!("{}", r.render(false, 100)));
        let raw = &loaded.raw;
        assert_eq!(raw.limits.head, Duration::from_secs(3));
        assert_eq!(raw.limits.idle, Duration::from_secs(4));
        assert_eq!(raw.limits.connect, raw::Limits::default().connect);
        assert_eq!(raw.limits.fields, 99);
        assert_eq!(raw.auth.realm, "0080", "text stays what it is");
        assert_eq!(raw.auth.users_file, Some(dir.path().join("users")));
        assert_eq!(raw.auth.session.lifetime, raw::Session::default().lifetime);
        assert!(raw.log.query && raw.admin.is_some());
        let upstreams: Vec<_> = raw
            .route
            .iter()
            .map(|route| route.upstream.as_str())
            .collect();
        assert_eq!(
            upstreams,
            ["127.0.0.1:3000", "127.0.0.1:3001", "127.0.0.1:3002"]
        );
        assert_eq!(loaded.files.len(), 3);
        assert_eq!(files(&loaded.files[0]), loaded.files);
        fs::write(&loaded.files[1], "half = [").unwrap();
        assert_eq!(files(&loaded.files[0]), loaded.files, "a broken one too");
        for (key, want) in [
            ("route[2].path", "conf.d/20.toml:4:8"),
            ("route[0].path", "loopgate.toml:5:1"),
            ("limits.head", "conf.d/20.toml:1:15"),
            ("limits.idle", "environment:1:24"),
            ("auth.users_file", "loopgate.toml:11:14"),
        ] {
            let place = loaded.origins.place(key).unwrap().to_string();
            assert!(place.ends_with(want), "{key}: {place}");
        }
    }

    #[test]
    fn mistakes_of_all_layers_come_together() {
        let dir = dir(&[
            ("loopgate.toml", MAIN),
            ("conf.d/10.toml", "[[route]]\nupstream = 1"),
            ("conf.d/20.toml", "[[route]]\nupstrem = '127.0.0.1:3000'"),
        ]);
        fs::write(dir.path().join("conf.d/30.toml"), b"a = \"\xff\"").unwrap();
        let env = [
            ("LOOPGATE__LIMITS__IDEL", "4s"),
            ("LOOPGATE__limits__idle", "4s"),
            ("LOOPGATE__LIMITS__IDLE", "4"),
            ("LOOPGATE__LIMITS__FIELDS", "many"),
            ("LOOPGATE__SERVER__WORKERS", "0"),
            ("LOOPGATE__LOG__QUERY", "TRUE"),
            ("LOOPGATE__ROUTE__0__UPSTREAM", "127.0.0.1:1"),
            ("LOOPGATE__SERVER", "x"),
        ];
        let report = load_with(&dir, &env).unwrap_err();
        let mut found: Vec<_> = report
            .problems
            .iter()
            .map(|p| (p.code, p.key.as_str()))
            .collect();
        found.sort_unstable();
        let want = [
            ("bad-duration", "limits.idle"),
            ("out-of-range", "server.workers"),
            ("unknown-key", "route[2].upstrem"),
            ("unknown-variable", ""),
            ("unknown-variable", ""),
            ("unknown-variable", ""),
            ("unknown-variable", ""),
            ("unreadable-file", ""),
            ("wrong-type", "limits.fields"),
            ("wrong-type", "log.query"),
            ("wrong-type", "route[1].upstream"),
        ];
        assert_eq!(found, want, "{}", report.render(false, 100));
        let name = "LOOPGATE__LIMITS__IDLE";
        assert!(
            report
                .render(false, 100)
                .contains(&format!("write `{name}`"))
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_never_an_empty_one() {
        let dir = dir(&[]);
        assert_eq!(
            load_with(&dir, &[]).unwrap_err().problems[0].code,
            "unreadable-file"
        );
        fs::write(
            dir.path().join("loopgate.toml"),
            vec![b'#'; (LARGEST_FILE + 1) as usize],
        )
        .unwrap();
        assert_eq!(
            load_with(&dir, &[]).unwrap_err().problems[0].code,
            "unreadable-file"
        );
        fs::write(dir.path().join("loopgate.toml"), MAIN).unwrap();
        assert!(load_with(&dir, &[]).is_ok());
        fs::remove_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("conf.d"), "").unwrap();
        assert_eq!(
            load_with(&dir, &[]).unwrap_err().problems[0].code,
            "unreadable-file"
        );
    }

    #[test]
    fn nothing_that_is_written_makes_it_panic() {
        let text = include_str!("../../config/example.toml");
        let text: String = text
            .lines()
            .map(|line| line.strip_prefix('#').unwrap_or(line))
            .filter(|line| !line.starts_with(' '))
            .flat_map(|line| [line, "\n"])
            .collect();
        for (at, _) in text.char_indices() {
            for bad in [
                text[..at].to_owned(),
                format!("{}é\"[{}", &text[..at], &text[at..]),
            ] {
                if let Err(report) = from_text("x.toml", &bad) {
                    assert!(report.has_errors());
                    // Drawing is slow; every place has been seen after a few of them.
                    if at % 40 == 0 {
                        report.render(false, 80);
                        report.to_json();
                    }
                }
            }
        }
    }
}
