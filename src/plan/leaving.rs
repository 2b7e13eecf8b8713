//! Listeners and services that a plan does not have any more. Nobody new comes in by them or is led there; what runs there finishes
//! within `server.drain`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Listener, Plan};
use crate::upstream::Upstream;

/// An address of a plan before, whose connections may finish.
#[derive(Clone, Debug)]
pub struct Leaving {
    address: SocketAddr,
    rules: Arc<Listener>,
    until: Instant,
}

/// A service of a plan before that no route leads to any more: what it answers may finish.
#[derive(Clone, Debug)]
pub struct Retired {
    upstream: Arc<Upstream>,
    until: Instant,
}

impl Plan {
    /// Takes over from the plan before: what it listened on or led to and this one does not is leaving from now on. A listener that is
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
        self.retired = self.retired_since(before, now, until);
    }

    /// Services that `before` led to and this plan does not. One that is still named is none of them: what its route allows counts.
    fn retired_since(&self, before: &Self, now: Instant, until: Instant) -> Vec<Retired> {
        let mut found: Vec<Retired> = Vec::new();
        let targets = self.routes.iter().map(|r| r.upstream.target().to_string());
        let named: HashSet<String> = targets.collect();
        let still = before.retired.iter().filter(|r| r.until > now).cloned();
        let removed = before.routes.iter().filter(|r| !r.upstream.is_refused());
        let removed = removed.map(|route| Retired {
            upstream: Arc::clone(&route.upstream),
            until,
        });
        for one in still.chain(removed) {
            let is_known = found
                .iter()
                .any(|r| Arc::ptr_eq(&r.upstream, &one.upstream));
            if !is_known && !named.contains(&one.upstream.target().to_string()) {
                found.push(one);
            }
        }
        found
    }

    /// Whether what runs at this service may finish, though no route leads there any more. Not where it can be reached around the gate.
    pub fn lets_finish(&self, upstream: &str) -> bool {
        let now = Instant::now();
        let is_it = |r: &&Retired| r.until > now && r.upstream.target().to_string() == upstream;
        let mut found = self.retired.iter().filter(is_it).peekable();
        found.peek().is_some() && found.all(|r| !r.upstream.is_refused())
    }

    /// Every service that something runs at: those that routes lead to, and those that may finish. The same one may come twice.
    pub fn services(&self, now: Instant) -> impl Iterator<Item = &Arc<Upstream>> {
        let retired = self.retired.iter().filter(move |r| r.until > now);
        let routes = self.routes.iter().map(|route| &route.upstream);
        routes.chain(retired.map(|r| &r.upstream))
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
        let services = self.retired.iter().map(|r| r.until);
        self.leaving
            .iter()
            .map(|l| l.until)
            .chain(services)
            .filter(|until| *until > now)
            .min()
    }
}
