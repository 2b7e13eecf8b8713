//! `loopgate upstream-cert list|accept|forget`: the certificates of https services that are held to.

use clap::Subcommand;
use serde_json::{Value, json};

use super::control::{PATIENCE, name};
use super::output::{Output, plain};
use super::serve::{env, ground};
use super::table::Table;
use super::{Code, Failure};
use crate::app::control::{Gate, Verb, ask, client_dirs, find};
use crate::app::state_dir;
use crate::tls::Fingerprint;
use crate::upstream::first_seen;

/// `loopgate upstream-cert`.
#[derive(Debug, Subcommand)]
pub enum UpstreamCert {
    /// List what is remembered, and what running gates have refused
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Hold to this certificate from now on; running gates notice at once
    Accept {
        /// The service, as `https://127.0.0.1:8006`
        service: String,
        /// Its certificate, as the log and `list` show it: `sha256:HEX`
        fingerprint: String,
    },
    /// Forget the certificate of a service: the next one that is seen is remembered
    Forget {
        /// The service
        service: String,
    },
}

pub(super) fn upstream_cert(output: &Output, act: &UpstreamCert) -> Result<(), Failure> {
    let path = ground()?.kept.first_seen.path;
    match act {
        UpstreamCert::List { json } => {
            let known = first_seen::load(&path).map_err(Failure::failed)?;
            let (gates, _) = find(&client_dirs(&env, state_dir(&env).as_deref()));
            let text = list(output, &known, &gates, *json);
            output.print(text.trim_end()).map_err(Failure::failed)
        }
        UpstreamCert::Accept {
            service,
            fingerprint,
        } => {
            let service = named(service)?;
            let one: Fingerprint = fingerprint
                .parse()
                .map_err(|what: &str| Failure::new(Code::Usage, what))?;
            let before = first_seen::accept(&path, &service, one).map_err(Failure::failed)?;
            output.say(&match before {
                Some(before) if before == one => format!("{service} is held to {one} already"),
                Some(before) => format!("{service} is held to {one} now, not to {before} any more"),
                None => format!("{service} is held to {one} now"),
            });
            tell(output)
        }
        UpstreamCert::Forget { service } => {
            let service = named(service)?;
            match first_seen::forget(&path, &service).map_err(Failure::failed)? {
                Some(before) => output.say(&format!("{service} is not held to {before} any more")),
                None => {
                    let what = format!("no certificate of {service} is remembered");
                    return Err(Failure::failed(what));
                }
            }
            tell(output)
        }
    }
}

fn named(service: &str) -> Result<String, Failure> {
    first_seen::service_name(service).ok_or_else(|| {
        let what = format!(
            "`{}` is no https service on loopback; write it as in the configuration, for example `https://127.0.0.1:8006`",
            plain(service)
        );
        Failure::new(Code::Usage, what)
    })
}

/// Has the running gates read the list. One that does not goes on with the certificate before.
fn tell(output: &Output) -> Result<(), Failure> {
    let (gates, silent) = find(&client_dirs(&env, state_dir(&env).as_deref()));
    let mut failed: Vec<String> = silent.iter().map(ToString::to_string).collect();
    for gate in &gates {
        match ask(&gate.path, &Verb::Reload, PATIENCE) {
            Ok(_) => output.say(&format!("in force at {}", name(gate))),
            Err(error) => failed.push(format!("{}:\n{error}", name(gate))),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "the list is changed, but here it is not in force yet; repair what is said, then `loopgate reload`:\n{}",
            failed.join("\n")
        ))),
    }
}

fn list(output: &Output, known: &first_seen::List, gates: &[Gate], as_json: bool) -> String {
    let refused = refused(gates);
    if as_json {
        let one = |(service, one): (&String, &Fingerprint)| json!({ "service": service, "certificate": one.to_string() });
        let no =
            |(service, one): &(String, String)| json!({ "service": service, "certificate": one });
        return json!({
            "remembered": known.iter().map(one).collect::<Value>(),
            "refused": refused.iter().map(no).collect::<Value>(),
        })
        .to_string();
    }
    if known.is_empty() && refused.is_empty() {
        return "no certificate of an https service is remembered".into();
    }
    let mut text = String::new();
    if !known.is_empty() {
        let mut table = Table::new(["SERVICE", "CERTIFICATE"]);
        for (service, one) in known {
            table.row([service, &one.to_string()]);
        }
        // A fingerprint is compared whole.
        text = table.render(output.width.max(120), output.paint());
    }
    for (service, one) in refused {
        let paint = output.paint();
        text += &format!(
            "\n{}\nif you know why it has changed: loopgate upstream-cert accept {service} {one}\n",
            paint.bad(&format!(
                "{service} has come with another certificate, which is refused:"
            ))
        );
    }
    text
}

/// What running gates have refused last.
fn refused(gates: &[Gate]) -> Vec<(String, String)> {
    let routes = gates
        .iter()
        .filter_map(|gate| gate.status["routes"].as_array());
    let mut all: Vec<(String, String)> = routes
        .flatten()
        .filter_map(|route| {
            let one = route["certificate"]["refused"].as_str()?;
            let service = route["upstream"].as_str()?;
            Some((plain(service).into_owned(), plain(one).into_owned()))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}
