//! `loopgate user` and `hash-password`. A password comes from a prompt or from standard input, never from an argument.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::args::{User, UsersFile};
use super::control::{Written, enforce_written, in_force};
use super::output::Output;
use super::serve::{env, wrong};
use super::table::Table;
use super::{Code, Failure};
use crate::auth::password;
use crate::auth::stored::Kind;
use crate::auth::users;
use crate::auth::users_edit::{Edit, Edited, edit};
use crate::base::secret::Secret;
use crate::config;

pub(super) fn user(output: &Output, act: User) -> Result<(), Failure> {
    match act {
        User::Add { name, file } => {
            if let Some(problem) = users::name_problem(&name) {
                return Err(Failure::new(
                    Code::Usage,
                    format!("`{name}` cannot be a user name: {problem}"),
                ));
            }
            let (path, config) = users_file(output, &file)?;
            let hash = hashed(output, &format!("Password for {name}: "))?;
            let done = edit(
                &path,
                Edit::Put {
                    name: &name,
                    hash: &hash,
                },
            )
            .map_err(Failure::failed)?;
            let verb = if done == Edited::Added {
                "added"
            } else {
                "has a new password"
            };
            output.say(&format!("{name} {verb} in {}", path.display()));
            let written = Written {
                key: "users_file",
                file: &path,
                config,
                still: None,
                counts: &|_| true,
            };
            enforce_written(output, &written)
        }
        User::Remove { name, file } => {
            let (path, config) = users_file(output, &file)?;
            match edit(&path, Edit::Remove { name: &name }).map_err(Failure::failed)? {
                Edited::Removed => {
                    output.say(&format!("{name} removed from {}", path.display()));
                    let has = |other: &Path| {
                        users::load(other).map_or(true, |all| all.users.find(&name).is_some())
                    };
                    let written = Written {
                        key: "users_file",
                        file: &path,
                        config,
                        still: Some(format!("lets {name} in")),
                        counts: &has,
                    };
                    enforce_written(output, &written)
                }
                Edited::Added | Edited::Replaced | Edited::NotThere => Err(Failure::failed(
                    format!("there is no user `{name}` in {}", path.display()),
                )),
            }
        }
        User::List { file, json } => list(output, &users_file(output, &file)?.0, json),
    }
}

fn list(output: &Output, path: &Path, as_json: bool) -> Result<(), Failure> {
    let loaded = users::load(path).map_err(|e| {
        let lines: Vec<String> = e
            .problems
            .iter()
            .map(|p| format!("{}:{}: {}\n  {}", path.display(), p.line, p.message, p.hint))
            .collect();
        Failure::new(Code::Config, lines.join("\n"))
    })?;
    let kind = |u: &users::User| match u.hash().kind() {
        Kind::Argon2id { .. } => "argon2id",
        Kind::Bcrypt { .. } => "bcrypt",
        Kind::Sha256 { .. } => "sha256-crypt",
        Kind::Sha512 { .. } => "sha512-crypt",
    };
    let text = if as_json {
        let rows: Vec<_> = loaded
            .users
            .iter()
            .map(|u| json!({ "name": u.name(), "hash": kind(u), "line": u.line() }))
            .collect();
        json!(rows).to_string()
    } else {
        let mut table = Table::new(["USER", "HASH", "LINE"]);
        for user in loaded.users.iter() {
            table.row([user.name(), kind(user), &user.line().to_string()]);
        }
        table.render(output.width, output.paint())
    };
    output.print(text.trim_end()).map_err(Failure::failed)
}

pub(super) fn hash_password(output: &Output) -> Result<(), Failure> {
    let hash = hashed(output, "Password: ")?;
    output.print(&hash).map_err(Failure::failed)
}

/// The file named by the option, else by the configuration, and that.
fn users_file(output: &Output, file: &UsersFile) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if let Some(path) = &file.users_file {
        return Ok((path.clone(), file.config.config.clone()));
    }
    let config = config::find(file.config.config.as_deref(), &env).map_err(|p| {
        Failure::new(
            Code::Usage,
            format!(
                "{}; name the users file with `--users-file FILE`",
                p.message
            ),
        )
    })?;
    let loaded = match config::load(&config, std::env::vars()) {
        Ok(loaded) => loaded,
        Err(report) => {
            let path = in_force(&config, "users_file").ok_or_else(|| wrong(output, &report))?;
            return Ok((path, Some(config)));
        }
    };
    let named = loaded.raw.auth.users_file;
    let path = named.or_else(|| in_force(&config, "users_file"));
    let path = path.ok_or_else(|| {
        Failure::new(
            Code::Config,
            format!(
                "{} names no users file; add `users_file = \"users.htpasswd\"` under `[auth]`",
                config.display()
            ),
        )
    })?;
    Ok((path, Some(config)))
}

/// Reads a password, twice from a terminal, and hashes it.
fn hashed(output: &Output, prompt: &str) -> Result<String, Failure> {
    let password = read(prompt)?;
    if io::stdin().is_terminal() && read("Again: ")?.expose() != password.expose() {
        return Err(Failure::failed(
            "the two passwords differ; nothing was changed",
        ));
    }
    let _ = output;
    password::hash(password.expose().as_bytes())
        .map_err(|e| Failure::new(Code::Usage, e.to_string()))
}

/// One line from the terminal without echo, or from standard input.
fn read(prompt: &str) -> Result<Secret<String>, Failure> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        let before = tcgetattr(&stdin).map_err(Failure::failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let _ = write!(io::stderr(), "{prompt}").and_then(|()| io::stderr().flush());
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(Failure::failed)?;
        let got = stdin.lock().read_line(&mut line);
        let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
        let _ = writeln!(io::stderr());
        got.map_err(Failure::failed)?;
    } else {
        stdin.lock().read_line(&mut line).map_err(Failure::failed)?;
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(Secret::new(line))
}
