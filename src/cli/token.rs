//! `loopgate token add|revoke|list`. A token is shown once and stored hashed.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::args::{Token as Act, TokensFile};
use super::control::{Written, enforce_written, in_force};
use super::output::Output;
use super::serve::{env, wrong};
use super::table::Table;
use super::{Code, Failure};
use crate::auth::token::Token;
use crate::auth::token_file::{self, TokenFileError};
use crate::config;

/// Those that applications are called with (RFC 9110, PATCH, WebDAV).
const METHODS: [&str; 18] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "COPY",
    "LOCK",
    "MKCOL",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "REPORT",
    "SEARCH",
    "UNLOCK",
    "MKCALENDAR",
];

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64)
}

pub(super) fn token(output: &Output, act: Act) -> Result<(), Failure> {
    match act {
        Act::Add {
            name,
            duration,
            path,
            method,
            file,
        } => {
            let (into, config) = tokens_file(output, &file)?;
            for method in method.iter().filter(|m| !METHODS.contains(&m.as_str())) {
                output.warn(&format!(
                    "warning: `{method}` is no usual method; is it written as it is meant?"
                ));
            }
            let expires =
                duration.map(|d| now() + i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2));
            let (mut token, text) = Token::new(&name, now(), expires);
            token.paths = path;
            token.methods = method;
            token_file::add(&into, token).map_err(not_added)?;
            output.say(&format!(
                "token `{name}` is in {}; this is the only time that it is shown.\nSend it as `Authorization: Bearer …` or `Loopgate-Token: …`.{}",
                into.display(),
                match expires {
                    Some(_) => "",
                    None => "\nIt never ends: `--for 30d` makes one that does.",
                }
            ));
            output.print(text.expose()).map_err(Failure::failed)?;
            let written = Written {
                key: "tokens_file",
                file: &into,
                config,
                still: None,
                counts: &|_| true,
            };
            enforce_written(output, &written)
        }
        Act::Revoke { name, file } => {
            let (from, config) = tokens_file(output, &file)?;
            let gone = token_file::revoke(&from, &name).map_err(Failure::failed)?;
            output.say(&format!("token `{}` is revoked", gone.name));
            let has = |other: &Path| {
                let is_it = |token: &Token| token.id == gone.id;
                token_file::load(other).map_or(true, |(all, _)| all.iter().any(is_it))
            };
            let written = Written {
                key: "tokens_file",
                file: &from,
                config,
                still: Some(format!("takes the token `{}`", gone.name)),
                counts: &has,
            };
            enforce_written(output, &written)
        }
        Act::List { file, json } => list(output, &tokens_file(output, &file)?.0, json),
    }
}

/// Only what was written after the command is wrong usage.
fn not_added(error: TokenFileError) -> Failure {
    let code = match &error {
        TokenFileError::Token(_) => Code::Usage,
        TokenFileError::NotThere(_)
        | TokenFileError::Taken(_)
        | TokenFileError::Mistakes(_)
        | TokenFileError::File(_) => Code::Failed,
    };
    Failure::new(code, error.to_string())
}

fn list(output: &Output, path: &Path, as_json: bool) -> Result<(), Failure> {
    let (tokens, _) = token_file::load(path).map_err(|e| {
        let lines: Vec<String> = e
            .problems
            .iter()
            .map(|p| format!("{}:{}: {}\n  {}", path.display(), p.line, p.message, p.hint))
            .collect();
        Failure::new(Code::Config, lines.join("\n"))
    })?;
    let day = |seconds: i64| {
        jiff::Timestamp::from_second(seconds)
            .map(|t| t.strftime("%Y-%m-%d %H:%M").to_string())
            .unwrap_or_default()
    };
    let until = |t: &Token| match t.expires {
        Some(end) if end <= now() => format!("{} (expired)", day(end)),
        Some(end) => day(end),
        None => "never".into(),
    };
    let text = if as_json {
        let rows: Vec<_> = tokens
            .iter()
            .map(|t| json!({ "name": t.name, "id": t.id, "created": t.created, "expires": t.expires, "paths": t.paths, "methods": t.methods }))
            .collect();
        json!(rows).to_string()
    } else {
        let mut table = Table::new(["NAME", "EXPIRES", "PATHS", "METHODS"]);
        let all = |list: &[String]| {
            if list.is_empty() {
                "all".to_owned()
            } else {
                list.join(" ")
            }
        };
        for token in tokens.iter() {
            table.row([
                &token.name,
                &until(token),
                &all(&token.paths),
                &all(&token.methods),
            ]);
        }
        table.render(output.width, output.paint())
    };
    output.print(text.trim_end()).map_err(Failure::failed)
}

/// The file named by the option, else by the configuration, and that.
fn tokens_file(output: &Output, file: &TokensFile) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if let Some(path) = &file.tokens_file {
        return Ok((path.clone(), file.config.config.clone()));
    }
    let config = config::find(file.config.config.as_deref(), &env).map_err(|p| {
        Failure::new(
            Code::Usage,
            format!(
                "{}; name the tokens file with `--tokens-file FILE`",
                p.message
            ),
        )
    })?;
    let loaded = match config::load(&config, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(report) => {
            let path = in_force(&config, "tokens_file").ok_or_else(|| wrong(output, &report))?;
            return Ok((path, Some(config)));
        }
    };
    let missing = || {
        Failure::new(
            Code::Config,
            format!(
                "{} names no tokens file; add `tokens_file = \"tokens.toml\"` under `[auth]`",
                config.display()
            ),
        )
    };
    let named = loaded.raw.auth.tokens_file;
    let path = named.or_else(|| in_force(&config, "tokens_file"));
    Ok((path.ok_or_else(missing)?, Some(config)))
}
