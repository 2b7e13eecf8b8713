//! A secret, or where to find it.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::base;
use crate::config::Problem;
use crate::disk;

/// A secret is a line, not a film.
const LONGEST: u64 = 64 << 10;

/// A secret, or where to find it: text, `{ file = "…" }`, `{ env = "…" }`, or `{ credential = "…" }`.
#[derive(Clone, Debug)]
pub enum Secret {
    /// Written in the file itself.
    Plain(base::secret::Secret<String>),
    /// The content of a file, without the newline at its end.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
    /// The content of a file in `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=` names.
    Credential(String),
}

impl Secret {
    /// The secret itself, looked up now. `key` is where it was written, for the mistake when there is none.
    pub fn read(
        &self,
        key: &str,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<base::secret::Secret<String>, Problem> {
        let missing = |message: String| Problem::error("no-secret", key, message);
        let text = match self {
            Self::Plain(text) => text.expose().clone(),
            Self::File(file) => first_line(file).map_err(|error| {
                missing(format!(
                    "the secret file `{}` cannot be read: {error}",
                    file.display()
                ))
                .hint("write the secret into it, readable by the user that runs loopgate")
            })?,
            Self::Credential(name) => credential(name, env)
                .and_then(|file| first_line(&file).map_err(|error| error.to_string()))
                .map_err(|why| {
                    missing(format!("the credential `{name}` cannot be read: {why}")).hint(format!(
                        "write `LoadCredential={name}:/etc/loopgate/{name}` in the unit file"
                    ))
                })?,
            Self::Env(name) => env(name)
                .and_then(|value| value.into_string().ok())
                .ok_or_else(|| {
                    missing(format!("the environment variable `{name}` is not set"))
                        .hint("set it for the process that runs loopgate")
                })?,
        };
        if text.is_empty() || text.contains(['\n', '\r', '\0']) {
            let what = if text.is_empty() {
                "is empty"
            } else {
                "has more than one line"
            };
            return Err(missing(format!("the secret {what}")).hint("a secret is one line of text"));
        }
        Ok(base::secret::Secret::new(text))
    }
}

/// Where a credential is: in the directory, and nowhere else.
fn credential(name: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
    if name.is_empty() || name.contains(['/', '\0']) || matches!(name, "." | "..") {
        return Err("a credential is the name of a file, not a path".into());
    }
    let dir = env("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    let dir = dir.ok_or("`CREDENTIALS_DIRECTORY` is not set")?;
    Ok(Path::new(&dir).join(name))
}

/// The content without the line end that every editor adds.
fn first_line(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    disk::regular(file)?
        .take(LONGEST)
        .read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let length = line.strip_suffix('\r').unwrap_or(line).len();
    text.truncate(length);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_from_where_it_stands_and_never_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |secret: &Secret| {
            let found = secret.read("key", &|name| (name == "SET").then(|| "from-env".into()));
            found
                .map(|text| text.expose().clone())
                .map_err(|problem| problem.code)
        };
        let in_file = Secret::File(file.path().to_owned());
        for (written, want) in [
            ("from-file\n", Ok("from-file".to_owned())),
            ("from-file", Ok("from-file".to_owned())),
            ("", Err("no-secret")),
            ("\n", Err("no-secret")),
            ("two\nlines\n", Err("no-secret")),
        ] {
            std::fs::write(file.path(), written).unwrap();
            assert_eq!(read(&in_file), want, "{written:?}");
        }
        assert_eq!(read(&Secret::Env("SET".into())), Ok("from-env".into()));
        assert_eq!(read(&Secret::Env("UNSET".into())), Err("no-secret"));
        assert_eq!(
            read(&Secret::File("/nowhere/at/all".into())),
            Err("no-secret")
        );
    }

    #[test]
    fn a_credential_is_read_from_its_directory_and_from_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("api"), "from-manager\n").unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/api"), "elsewhere\n").unwrap();
        let set = dir.path().as_os_str().to_owned();
        let read = |name: &str, set: Option<OsString>| {
            let found = Secret::Credential(name.into()).read("key", &|env| {
                set.clone().filter(|_| env == "CREDENTIALS_DIRECTORY")
            });
            found.map(|text| text.expose().clone())
        };
        assert_eq!(
            read("api", Some(set.clone())).ok().as_deref(),
            Some("from-manager")
        );
        for (name, set) in [
            ("api", None),
            ("other", Some(set.clone())),
            ("below/api", Some(set.clone())),
            ("..", Some(set.clone())),
            ("", Some(set)),
        ] {
            assert_eq!(
                read(name, set).map_err(|problem| problem.code),
                Err("no-secret"),
                "{name}"
            );
        }
    }
}
