//! A secret, or where to find it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::base;
use crate::config::Problem;

/// A secret is a line, not a film.
const LONGEST: u64 = 64 << 10;

/// A secret, or where to find it: text, `{ file = "…" }`, or `{ env = "…" }`.
#[derive(Clone, Debug)]
pub enum Secret {
    /// Written in the file itself.
    Plain(base::secret::Secret<String>),
    /// The content of a file, without the newline at its end.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
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

/// The content without the line end that every editor adds.
fn first_line(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(LONGEST).read_to_string(&mut text)?;
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
}
