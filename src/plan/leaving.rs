//! Listeners that a plan does not have any more. Nobody new comes in by them; what runs there finishes within `server.drain`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Listener, Plan};

/// An address of a plan before, whose connections may finish.
#[derive(Clone, Debug)]
pub struct Leaving {
    address: SocketAddr,
    rules: Arc<Listener>,
    until: Instant,
}

impl Plan {
    /// Takes over from the plan before: what it listened on and this one does not is leaving from now on. A listener that is
    /// closed because the machine is elsewhere (`only_on`) does not linger: there its rules let nobody in.
    pub fn succeed(&mut self, before: &Self, now: Instant) {
        let until = now + self.drain;
        let removed = before.open().flat_map(|rules| {
            rules.addresses.iter().map(move |address| Leaving {
                address: *address,
                rules: Arc::clone(rules),
                until,
            })
        });
        let still = before.leaving.iter().filter(|l| l.until > now).cloned();
        let named =
            |address: &SocketAddr| self.listeners.iter().any(|l| l.addresses.contains(address));
        self.leaving = still
            .chain(removed)
            .filter(|l| !named(&l.address))
            .collect();
    }

    /// The rules for somebody new who came in by the listener `by` at the address `local`: those of that listener, or else of the
    /// one that has taken the address over.
    pub fn entrance(&self, by: SocketAddr, local: SocketAddr) -> Option<&Arc<Listener>> {
        let any = |at: &&SocketAddr| {
            at.ip().is_unspecified() && at.is_ipv4() == local.is_ipv4() && at.port() == local.port()
        };
        self.listener(by)
            .or_else(|| self.listener(local))
            .or_else(|| self.open().find(|l| l.addresses.iter().any(|at| any(&at))))
    }

    /// The rules for a connection that is open: as [`Plan::entrance`], or those of a listener that is leaving.
    pub fn rules(&self, by: SocketAddr, local: SocketAddr) -> Option<&Arc<Listener>> {
        let leaving = || {
            let now = Instant::now();
            self.leaving
                .iter()
                .find(|l| l.address == by && l.until > now)
        };
        self.entrance(by, local).or_else(|| Some(&leaving()?.rules))
    }

    /// Whether a connection should end when what runs on it has finished.
    pub fn is_leaving(&self, by: SocketAddr, local: SocketAddr) -> bool {
        !self.leaving.is_empty() && self.entrance(by, local).is_none()
    }

    /// When the first of what is leaving is over.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.leaving
            .iter()
            .map(|l| l.until)
            .filter(|until| *until > now)
            .min()
    }
}
