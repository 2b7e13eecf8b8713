//! `tokens.toml`: the tokens as `loopgate token` writes and people read them. Changed atomically, refused whole.

use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::file::{self, FileError, LineProblem};
use super::token::{Token, Tokens};
use crate::disk::rewrite;

const HEADER: &str = "# Written by `loopgate token`. Only hashes of the secrets are here: a token that is lost cannot be read from it.\n";

/// Why the tokens were not changed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TokenFileError {
    #[error("{0}")]
    Token(String),
    #[error("there is no token `{0}`")]
    NotThere(String),
    #[error("there is a token `{0}` already; revoke it first or choose another name")]
    Taken(String),
    #[error("the tokens file has mistakes and was not changed")]
    Mistakes(#[from] FileError),
    #[error("the tokens file cannot be changed: {0}")]
    File(#[from] io::Error),
}

/// Reads the tokens file and what is unwise about it. Blocks on the disk.
pub fn load(path: &Path) -> Result<(Tokens, Vec<LineProblem>), FileError> {
    let (bytes, warnings) = file::read(path, "run `loopgate token add --name NAME`")?;
    Ok((Tokens::new(parse(&bytes)?), warnings))
}

/// Adds a token; its name must be new. Blocks on the disk.
pub fn add(path: &Path, token: Token) -> Result<(), TokenFileError> {
    if let Some(problem) = token.problem() {
        return Err(TokenFileError::Token(problem));
    }
    change(path, |list| {
        if list.iter().any(|other| other.name == token.name) {
            return Err(TokenFileError::Taken(token.name.clone()));
        }
        list.push(token);
        Ok(())
    })
}

/// Takes a token away, by its name or its public part. Blocks on the disk.
pub fn revoke(path: &Path, which: &str) -> Result<Token, TokenFileError> {
    let mut revoked = None;
    change(path, |list| {
        let at = list
            .iter()
            .position(|token| token.name == which || token.id == which);
        revoked = Some(list.remove(at.ok_or(TokenFileError::NotThere(which.into()))?));
        Ok(())
    })?;
    revoked.ok_or(TokenFileError::NotThere(which.into()))
}

fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<Token>) -> Result<(), TokenFileError>,
) -> Result<(), TokenFileError> {
    rewrite(path, |old| {
        let mut list = parse(old.unwrap_or_default())?;
        change(&mut list)?;
        text(&list).map(|text| Some(text.into_bytes()))
    })
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    token: Vec<toml::Spanned<RawToken>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    id: String,
    name: String,
    sha256: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
}

/// All tokens of the text, or all that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Vec<Token>, FileError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| LineProblem::whole("it is not UTF-8", "save the file as UTF-8"))?;
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        problem(text, at, error.message())
    })?;
    let mut problems = Vec::new();
    let mut list: Vec<Token> = Vec::new();
    for raw in raw.token {
        let at = raw.span().start;
        match token(raw.into_inner()) {
            Err(message) => problems.push(problem(text, at, &message)),
            Ok(token) => {
                let mut twice = list
                    .iter()
                    .filter(|t| t.id == token.id || t.name == token.name);
                if twice.next().is_some() {
                    let message = format!("token `{}` is here twice", token.name);
                    problems.push(problem(text, at, &message));
                }
                list.push(token);
            }
        }
    }
    if problems.is_empty() {
        return Ok(list);
    }
    Err(FileError { problems })
}

fn token(raw: RawToken) -> Result<Token, String> {
    let name = &raw.name;
    let moment = |text: &str, key| match text.parse::<Timestamp>() {
        Ok(moment) => Ok(moment.as_second()),
        Err(_) => Err(format!(
            "`{key}` of token `{name}` is not a time such as 2026-01-31T12:00:00Z"
        )),
    };
    let digest = HEXLOWER.decode(raw.sha256.as_bytes()).ok();
    let sha256 = digest.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let sha256 = sha256.ok_or(format!(
        "`sha256` of token `{name}` is not 64 hexadecimal digits"
    ))?;
    let created = moment(&raw.created, "created")?;
    let expires = raw
        .expires
        .as_deref()
        .map(|text| moment(text, "expires"))
        .transpose()?;
    let token = Token {
        id: raw.id,
        name: raw.name,
        sha256,
        created,
        expires,
        paths: raw.paths,
        methods: raw.methods,
    };
    match token.problem() {
        Some(problem) => Err(problem),
        None => Ok(token),
    }
}

fn text(list: &[Token]) -> Result<String, TokenFileError> {
    let moment = |second: i64| {
        let moment = Timestamp::from_second(second);
        moment
            .map(|moment| moment.to_string())
            .map_err(|_| TokenFileError::Token("the time is out of range".into()))
    };
    let mut text = HEADER.to_owned();
    for token in list {
        let raw = RawToken {
            id: token.id.clone(),
            name: token.name.clone(),
            sha256: token.sha256_text(),
            created: moment(token.created)?,
            expires: token.expires.map(moment).transpose()?,
            paths: token.paths.clone(),
            methods: token.methods.clone(),
        };
        let table =
            toml::to_string(&raw).map_err(|error| TokenFileError::Token(error.to_string()))?;
        text += &format!("\n[[token]]\n{table}");
    }
    Ok(text)
}

fn problem(text: &str, at: usize, message: &str) -> LineProblem {
    LineProblem::at(text, at, message, "`loopgate token` writes this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Token {
        let (mut token, _) = Token::new(name, 1_700_000_000, Some(1_800_000_000));
        token.paths = vec!["/api".into()];
        token
    }

    #[test]
    fn adds_lists_and_revokes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (ci, mut backup) = (named("ci"), named("backup"));
        (backup.expires, backup.methods) = (None, vec!["PUT".into()]);
        add(&path, ci.clone()).unwrap();
        add(&path, backup.clone()).unwrap();
        let read = || load(&path).unwrap().0.iter().cloned().collect::<Vec<_>>();
        assert_eq!(read(), [ci.clone(), backup.clone()]);
        assert!(matches!(
            add(&path, named("ci")),
            Err(TokenFileError::Taken(_))
        ));
        assert_eq!(revoke(&path, "ci").unwrap(), ci);
        assert!(matches!(
            revoke(&path, "ci"),
            Err(TokenFileError::NotThere(_))
        ));
        assert_eq!(revoke(&path, &backup.id).unwrap(), backup);
        assert_eq!(read(), []);
    }

    #[test]
    fn the_text_is_readable_and_has_no_secret() {
        let (token, secret) = Token::new("ci", 1_700_000_000, Some(1_800_000_000));
        let text = text(&[token]).unwrap();
        assert!(
            text.contains("expires = \"2027-01-15T08:00:00Z\""),
            "{text}"
        );
        assert!(!text.contains(&secret.expose()[13..]));
    }

    #[test]
    fn refuses_a_file_with_mistakes_and_says_where() {
        let good = text(&[named("a")]).unwrap();
        let twice = good.clone() + good.trim_start_matches(HEADER);
        for (text, line, want) in [
            (good.replace("name", "nane"), 5, "nane"),
            (good.replace("2023-", "x"), 3, "`created` of token `a`"),
            (good.replace("2027-", "x"), 3, "`expires` of token `a`"),
            (
                good.replace("\"/api\"", "\"api\""),
                3,
                "`api` is not a plain path",
            ),
            (
                good.replace("sha256 = \"", "sha256 = \"0"),
                3,
                "64 hexadecimal digits",
            ),
            (twice, 11, "twice"),
            ("[[token]".into(), 1, ""),
        ] {
            let problem = &parse(text.as_bytes()).unwrap_err().problems[0];
            assert!(problem.message.contains(want), "{problem:?}\n{text}");
            assert_eq!(problem.line, line, "{problem:?}\n{text}");
        }
        assert!(parse(b"\xff").is_err());
        assert_eq!(parse(b"").unwrap(), []);
    }
}
