//! Sockets that listen are shared with whoever was about to take our place, and with the service manager that gave them: what such a
//! process does to them is done to ours. So they are looked at when one leaves, and every two seconds.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::start::Running;
use crate::base::drain::Phase;
use crate::net::bind::Wrong;
use crate::observe::{Event, Log};

/// Addresses that take no connection, and why that cannot be put right.
#[derive(Debug, Default)]
pub(super) struct Deaf(BTreeMap<String, String>);

impl Deaf {
    /// For `status`.
    pub fn told(&self) -> Value {
        let all = self.0.iter();
        all.map(|(address, why)| json!({ "address": address, "why": why }))
            .collect()
    }

    /// What has come of a look, each thing said once.
    fn found(&mut self, address: String, found: io::Result<Option<Wrong>>, log: &Log) {
        let about = |event: Event| event.with("address", &address);
        let what = match found {
            Ok(None) if self.0.contains_key(&address) => "it is served again",
            Ok(None) => return,
            Ok(Some(Wrong::Deaf)) => "it took no connections any more, and does again",
            Ok(Some(Wrong::Blocks)) => {
                "whoever waited in it held up a thread; nobody does any more"
            }
            Err(error) => {
                let why = error.to_string();
                if self.0.get(&address) != Some(&why) {
                    log.event(about(Event::error("listener_deaf")).with("error", &why));
                    self.0.insert(address, why);
                }
                return;
            }
        };
        log.event(about(Event::warn("listener_mended")).with("why", what));
        self.0.remove(&address);
    }
}

impl Running {
    /// Puts right what another process has done to the sockets that we listen on. `all` of them are served anew, also those on which
    /// nothing is to be seen.
    pub(super) async fn mend(&mut self, all: bool) {
        // After that they are another one's, or closed.
        if self.phase() != Phase::Run {
            return;
        }
        let (log, threads) = (&self.shared.log, self.threads());
        let held = &self.held;
        let is_ours = |name: &String| held.iter().any(|h| h.bound.to_string() == *name);
        self.deaf.0.retain(|name, _| name == ADMIN || is_ours(name));
        let mut anew = Vec::new();
        for held in &mut self.held {
            let mut found = held.mend(!self.inherited.has(held.address));
            // Those too that could be put right, and not be served anew.
            let was_deaf = self.deaf.0.contains_key(&held.bound.to_string());
            let is_heard = matches!(found, Ok(None | Some(Wrong::Blocks)));
            if all || (was_deaf && is_heard) || matches!(found, Ok(Some(Wrong::Deaf))) {
                match held.again(threads) {
                    Ok(given) => anew.push(given),
                    Err(error) => found = Err(error),
                }
            }
            self.deaf.found(held.bound.to_string(), found, log);
        }
        let was_deaf = self.deaf.0.contains_key(ADMIN);
        let found = self.desk.mend(all || was_deaf, &self.health);
        self.deaf.found(ADMIN.to_owned(), found, log);
        for given in anew {
            self.hand_out(given).await;
            self.ring();
        }
    }
}

const ADMIN: &str = "the admin address";
