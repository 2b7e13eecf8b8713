//! `loopgate share`: a link that logs one visitor in; `share list` and `share revoke`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::WhichGate;
use super::control::{failure, gates, name, one, reached};
use super::output::{Output, plain};
use super::table::Table;
use super::{Failure, qr};
use crate::app::control::{AskError, Gate, Verb, ask};
use crate::config::unit::{parse_duration, write_duration};

const PATIENCE: Duration = Duration::from_secs(10);

/// `loopgate share`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Share {
    /// What to do instead of making a link
    #[command(subcommand)]
    pub act: Option<Act>,
    /// How long the link and the visit are good, at most 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, default_value = "2h")]
    pub duration: Duration,
    /// Only below this path
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Only on this host; needed where the gate has several
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    #[command(flatten)]
    pub which: WhichGate,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// `loopgate share list|revoke`.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// List the links that are good
    List {
        #[command(flatten)]
        which: WhichGate,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Revoke a link; its visitor is out at once
    Revoke {
        /// Its id, as `share list` and the log have it; without it all of them
        id: Option<String>,
        #[command(flatten)]
        which: WhichGate,
    },
}

pub(super) fn share(output: &Output, asked: &Share) -> Result<(), Failure> {
    match &asked.act {
        None => make(output, asked),
        Some(Act::List { which, json }) => {
            let (gate, left) = meant(which, "share list")?;
            let mut list: Vec<Value> = Vec::new();
            for gate in [gate].iter().chain(&left) {
                let mut done = ask(&gate.path, &Verb::Shares, PATIENCE).map_err(failure)?;
                if let Value::Array(some) = done["shares"].take() {
                    // Both know those of before.
                    let known = |one: &Value| list.iter().any(|other| other["id"] == one["id"]);
                    let new: Vec<Value> = some.into_iter().filter(|one| !known(one)).collect();
                    list.extend(new);
                }
            }
            let text = match json {
                true => Value::from(list).to_string(),
                false => table(output, &list),
            };
            output.print(text.trim_end()).map_err(Failure::failed)
        }
        Some(Act::Revoke { id, which }) => revoke(output, id.as_deref(), which),
    }
}

/// In the process that serves, and in those that drain beside it: visitors of before are still there.
fn revoke(output: &Output, id: Option<&str>, which: &WhichGate) -> Result<(), Failure> {
    let (gate, left) = meant(which, "share revoke")?;
    let id = id.map(str::to_owned);
    let (mut revoked, mut failed) = (0, Vec::new());
    for gate in [gate].iter().chain(&left) {
        match ask(&gate.path, &Verb::Unshare { id: id.clone() }, PATIENCE) {
            // Both know the links of before, and tell each other which are revoked.
            Ok(done) => revoked = revoked.max(done["revoked"].as_u64().unwrap_or(0)),
            Err(error) => failed.push((error, name(gate))),
        }
    }
    // That one of them does not know the link is no failure where another does; that one cannot be asked is.
    let is_unknown = |error: &AskError| matches!(error, AskError::Failed(_));
    if let Some(at) = failed.iter().position(|(error, _)| !is_unknown(error)) {
        let (error, name) = failed.swap_remove(at);
        let what = format!("what was revoked may still count in {name}:\n{error}");
        return Err(Failure::failed(what));
    }
    match failed.into_iter().next() {
        Some((error, _)) if revoked == 0 => return Err(failure(error)),
        Some(_) | None => {}
    }
    let text = match revoked {
        1 => "1 link is revoked".to_owned(),
        n => format!("{n} links are revoked"),
    };
    output.print(&text).map_err(Failure::failed)
}

/// The one gate that is meant, and those that drain beside it.
fn meant(which: &WhichGate, command: &str) -> Result<(Gate, Vec<Gate>), Failure> {
    let (mut gates, left) = reached(which)?;
    one(&gates, command)?;
    Ok((gates.remove(0), left))
}

fn told(which: &WhichGate, command: &str, verb: &Verb) -> Result<Value, Failure> {
    let gates = gates(which)?;
    ask(&one(&gates, command)?.path, verb, PATIENCE).map_err(failure)
}

fn make(output: &Output, asked: &Share) -> Result<(), Failure> {
    let verb = Verb::Share {
        seconds: asked.duration.as_secs(),
        path: asked.path.clone(),
        host: asked.host.clone(),
    };
    let done = told(&asked.which, "share", &verb)?;
    if asked.json {
        return output.print(&done.to_string()).map_err(Failure::failed);
    }
    let mut text = qr::links(&done["urls"], "Link", 9, output);
    let id = plain(done["id"].as_str().unwrap_or_default()).into_owned();
    text += &format!(
        "\n  It opens once, and whoever opens it is share:{id} for {}{}.\n  loopgate share revoke {id}\n",
        write_duration(asked.duration),
        match asked.path.as_str() {
            "/" => String::new(),
            path => format!(", below {}", plain(path)),
        }
    );
    output.print(&text).map_err(Failure::failed)
}

fn table(output: &Output, list: &[Value]) -> String {
    if list.is_empty() {
        return "there is no link".into();
    }
    let words = |value: &Value, none: &str| plain(value.as_str().unwrap_or(none)).into_owned();
    let mut table = Table::new(["ID", "UNTIL", "USED", "HOST", "PATH"]);
    for share in list {
        table.row([
            &*words(&share["id"], "-"),
            &words(&share["until"], "-"),
            &words(&share["used"], "not yet"),
            &words(&share["host"], "any"),
            &words(&share["path"], "/"),
        ]);
    }
    table.render(output.width, output.paint())
}
