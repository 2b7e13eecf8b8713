//! Listeners and services that a plan does not have any more. Nobody new comes in by them or is led there; what runs there finishes
//! within `server.drain`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::{Listener, Plan, Route};
use crate::auth::certificate::Clients;
use crate::upstream::Upstream;

/// Addresses that are leaving, and former services of one route, however many reloads there are within `server.drain`. Those that left
/// first are forgotten first: what runs there is cut.
const MOST: usize = 1024;

/// An address of a plan before, whose connections may finish.
#[derive(Clone, Debug)]
pub struct Leaving {
    address: SocketAddr,
    rules: Arc<Listener>,
    until: Instant,
}

/// A service that a route led to before: what it answers may finish.
#[derive(Clone, Debug)]
pub struct Former {
    upstream: Arc<Upstream>,
    until: Instant,
}

/// The services of a plan by their numbers, counted once, so that nobody walks through all routes and what each has had.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// What routes lead to.
    named: HashSet<u64>,
    /// What they led to, each once, with the last of its ends.
    former: HashMap<u64, Former>,
    /// Every end of a former one.
    ends: BTreeSet<Instant>,
}

impl Services {
    /// Those of these routes.
    pub fn of(routes: &[Route]) -> Self {
        let mut found = Self::default();
        // Routes that are new have one list for all.
        let mut lists = HashSet::new();
        for route in routes {
            found.named.insert(route.upstream.id());
            if !lists.insert(Arc::as_ptr(&route.former)) {
                continue;
            }
            for former in route.former.iter() {
                found.ends.insert(former.until);
                let known = found.former.entry(former.upstream.id());
                let known = known.or_insert_with(|| former.clone());
                known.until = known.until.max(former.until);
            }
        }
        found
    }
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
        self.leaving = removed
            .chain(still)
            .filter(|l| !named(&l.address))
            .take(MOST)
            .collect();
        self.inherit(before, now, until);
    }

    /// Each route has the former services of the routes that were written for the same host and path, and what they led to. One that is
    /// written for a host and path of its own has them of all: it was not there, so what it answers for now ran by another one, which
    /// was narrower or wider. So who had a route that is removed gets nothing from a wider one that was there beside it.
    fn inherit(&mut self, before: &Self, now: Instant, until: Instant) {
        let places: HashMap<_, _> = before.site.table.places().collect();
        let mut heirs = vec![HashSet::new(); self.routes.len()];
        for (place, route) in self.site.table.places() {
            if let (Some(heir), Some(old)) = (heirs.get_mut(route), places.get(&place)) {
                heir.insert(*old);
            }
        }
        let all: Arc<[Former]> = formers(&before.routes, now, until).collect();
        for (route, heir) in self.routes.iter_mut().zip(heirs) {
            let old = heir.iter().filter_map(|at| before.routes.get(*at));
            let its = formers(old, now, until);
            route.former = match heir.is_empty() {
                true => Arc::clone(&all),
                false => its.filter(|f| !f.is_at(&route.upstream)).collect(),
            };
        }
        self.services = Services::of(&self.routes);
    }

    /// Every service that something runs at: those that routes lead to, and those that may finish. The same one may come twice.
    pub fn services(&self, now: Instant) -> impl Iterator<Item = &Arc<Upstream>> {
        let former = self.services.former.values();
        let former = former.filter(move |f| f.until > now).map(|f| &f.upstream);
        self.routes.iter().map(|r| &r.upstream).chain(former)
    }

    /// Whether one of these services has this number.
    pub fn has_service(&self, id: u64, now: Instant) -> bool {
        let former = self.services.former.get(&id);
        self.services.named.contains(&id) || former.is_some_and(|f| f.until > now)
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

    /// Whose client certificates count on a connection that is open. Where its listener is leaving, those of one that is there and believes
    /// the same authorities: what was revoked since then is known there. `source` is whose connection it is: that of a trusted proxy
    /// carries the requests of many, and its certificate is none of theirs.
    pub fn clients(
        &self,
        by: SocketAddr,
        local: SocketAddr,
        source: IpAddr,
    ) -> Option<&Arc<Clients>> {
        let rules = self.rules(by, local).filter(|l| !l.gate.trusts(source))?;
        let clients = rules.clients.as_ref()?;
        if !self.is_leaving(by, local) {
            return Some(clients);
        }
        let mut there = self.open().filter_map(|l| l.clients.as_ref());
        there.find(|c| c.is_like(clients))
    }

    /// Whether a connection should end when what runs on it has finished.
    pub fn is_leaving(&self, by: SocketAddr, local: SocketAddr) -> bool {
        !self.leaving.is_empty() && self.entrance(by, local).is_none()
    }

    /// When the first of what is leaving is over.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        let ends = self.services.ends.iter().copied();
        self.leaving
            .iter()
            .map(|l| l.until)
            .chain(ends)
            .filter(|until| *until > now)
            .min()
    }
}

impl Route {
    /// Whether it leads to this service now.
    pub fn leads_to(&self, upstream: &Upstream) -> bool {
        self.upstream.target() == upstream.target() && !self.upstream.is_refused()
    }

    /// Whether what it led to this service before may finish there. Not where that can be reached around the gate.
    pub fn lets_finish_at(&self, upstream: &Upstream) -> bool {
        let now = Instant::now();
        let mut its = self
            .former
            .iter()
            .filter(|f| f.until > now && f.is_at(upstream))
            .peekable();
        its.peek().is_some() && its.all(|f| !f.upstream.is_refused())
    }
}

impl Former {
    fn is_at(&self, upstream: &Upstream) -> bool {
        self.upstream.target() == upstream.target()
    }
}

/// What these routes of the plan before led to, each service once, the last one first.
fn formers<'a>(
    routes: impl IntoIterator<Item = &'a Route> + Clone,
    now: Instant,
    until: Instant,
) -> impl Iterator<Item = Former> {
    let mut seen = HashSet::new();
    let last = routes.clone().into_iter().map(move |route| Former {
        upstream: Arc::clone(&route.upstream),
        until,
    });
    let former = routes.into_iter().flat_map(|route| route.former.iter());
    let still = former.filter(move |f| f.until > now).cloned();
    last.chain(still)
        .filter(move |f| seen.insert(Arc::as_ptr(&f.upstream)))
        .take(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Machine;
    use crate::plan::{Kept, compile};

    fn plan(host: &str, services: std::ops::Range<u16>) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let (kept, machine) = (Kept::new(dir.path().into()), Machine::default());
        let listener =
            "[[listener]]\naddress = \"127.0.0.1:0\"\nnetworks = { allow = [\"loopback\"] }\n";
        let route = |port: u16| {
            format!(
                "[[route]]\nhosts = [\"{host}{port}.lan\"]\nupstream = \"127.0.0.1:{port}\"\naccess = \"anyone\"\n"
            )
        };
        let text: String = services.map(route).collect();
        let raw = crate::config::from_text("leaving", &format!("{listener}{text}"));
        let made = compile(&raw.unwrap().raw, dir.path(), &machine, &kept, None, None);
        made.unwrap_or_else(|problems| panic!("{problems:#?}")).0
    }

    #[test]
    fn services_are_counted_once_however_many_routes_are_new() {
        let now = Instant::now();
        let (first, mut second) = (plan("a", 3000..3300), plan("b", 4000..4300));
        second.succeed(&first, now);
        assert_eq!(second.services(now).count(), 600);
        let old = first.routes[7].upstream.id();
        assert!(second.has_service(old, now));
        let end = now + second.drain;
        assert_eq!(second.next_end(now), Some(end));
        assert!(!second.has_service(old, end), "its time is over");
        assert_eq!(second.services(end).count(), 300);
        assert_eq!(second.next_end(end), None);
        assert!(!first.has_service(second.routes[0].upstream.id(), now));
    }
}
