//! `loopgate unlock`: ends what somebody has to wait after failed logins.

use std::net::IpAddr;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::Failure;
use super::args::WhichGate;
use super::control::{failure, one, reached};
use super::output::Output;
use crate::app::control::{Verb, ask};

const PATIENCE: Duration = Duration::from_secs(10);

/// `loopgate unlock`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("whom").args(["user", "client"]).required(true).multiple(true))]
pub struct Unlock {
    /// The user, wherever he comes from
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// An address of the network (IPv6: its /64); with --user also that user there, where he has logged in before
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    #[command(flatten)]
    pub which: WhichGate,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

pub(super) fn unlock(output: &Output, asked: &Unlock) -> Result<(), Failure> {
    let (mut gates, left) = reached(&asked.which)?;
    if !asked.which.all {
        one(&gates, "unlock")?;
    }
    // What is counted there would come back with its last word.
    gates.extend(left);
    let whom: Vec<String> = [
        asked.user.as_ref().map(|user| format!("user {user}")),
        asked
            .client
            .map(|client| format!("the network of {client}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let whom = whom.join(" and ");
    let verb = Verb::Unlock {
        user: asked.user.clone(),
        client: asked.client,
    };
    let mut told = Vec::new();
    for gate in &gates {
        let done = ask(&gate.path, &verb, PATIENCE).map_err(failure)?;
        let (pid, ended) = (&gate.status["pid"], done["ended"] == json!(true));
        if !asked.json {
            let what = match ended {
                true => format!("{pid}: {whom} may try again"),
                false => format!("{pid}: nothing was counted against {whom}"),
            };
            output.print(&what).map_err(Failure::failed)?;
        }
        told.push(json!({ "pid": pid, "ended": ended }));
    }
    if asked.json {
        let text = Value::from(told).to_string();
        output.print(&text).map_err(Failure::failed)?;
    }
    Ok(())
}
