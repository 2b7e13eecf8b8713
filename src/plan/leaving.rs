//! Listeners and services that a plan does not have any more. Nobody new comes in by them or is led there; what runs there finishes
//! within `server.drain`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::{Listener, Plan, Route};
use crate::auth::certificate::Clients;
use crate::upstream::Upstream;

/// Addresses that are leaving, and services that a route had left before the last reload, however many there are within
/// `server.drain`. Those that left first are forgotten first: what runs there is cut.
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
        for route in routes {
            found.named.insert(route.upstream.id());
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

    /// Each route has the former services of the routes that were written for the same host and path, and what they led to. For a host and
    /// path of its own it has those of all that may have answered there: it was not there, so they were narrower or wider. So who had a
    /// route that is removed gets nothing from a wider one that was there beside it.
    fn inherit(&mut self, before: &Self, now: Instant, until: Instant) {
        let there: HashSet<_> = self.site.table.places().map(|(place, _)| place).collect();
        let (mut places, mut gone) = (Places::new(), Places::new());
        for (place, route) in before.site.table.places() {
            if !there.contains(&place) {
                let all = gone.entry((String::new(), place.1)).or_default();
                all.push(route);
            }
            places.entry(place).or_default().push(route);
        }
        let mut heirs = vec![BTreeSet::new(); self.routes.len()];
        for (place, route) in self.site.table.places() {
            let Some(heir) = heirs.get_mut(route) else {
                continue;
            };
            if let Some(old) = places.get(&place) {
                heir.extend(old);
                continue;
            }
            let (host, path) = place;
            if !host.is_empty() {
                heir.extend(beside(&places, &host, path));
            }
            // Who has no host of his own answers where no host does, as he did before, and now where none does any more.
            heir.extend(beside(&places, "", path));
            if host.is_empty() {
                heir.extend(beside(&gone, "", path));
            }
        }
        for (route, heir) in self.routes.iter_mut().zip(heirs) {
            let old = heir.iter().filter_map(|at| before.routes.get(*at));
            let its = formers(old, now, until);
            route.former = its.filter(|f| !f.is_at(&route.upstream)).collect();
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
    /// Whether it leads to this service now, and trusts the certificate that it may have.
    pub fn leads_to(&self, upstream: &Upstream) -> bool {
        let now = &*self.upstream;
        let is_it = || now.target() == upstream.target() && upstream.pin().stands_by(now.pin());
        (std::ptr::eq(now, upstream) || is_it()) && !now.is_refused()
    }

    /// Whether what it led to this service before may finish there. Not where that can be reached around the gate and the route refused
    /// such a service then, or does now.
    pub fn lets_finish_at(&self, upstream: &Upstream) -> bool {
        let (now, refuses) = (Instant::now(), self.upstream.refuses_exposed());
        let is_refused = |u: &Upstream| u.is_refused() || (refuses && u.is_exposed());
        let mut its = self
            .former
            .iter()
            .filter(|f| f.until > now && f.is_at(upstream))
            .filter(|f| upstream.pin().stands_by(f.upstream.pin()))
            .peekable();
        its.peek().is_some() && !its.any(|f| is_refused(&f.upstream))
    }
}

impl Former {
    fn is_at(&self, upstream: &Upstream) -> bool {
        self.upstream.target() == upstream.target()
    }
}

/// Routes by the host and path that they are written for.
type Places<'a> = BTreeMap<(String, &'a str), Vec<usize>>;

/// Those of this host that are narrower than a path, or wider. `/private` counts as narrower than `/p`: nothing under `/p` ran there.
fn beside<'a>(places: &'a Places<'_>, host: &'a str, path: &'a str) -> impl Iterator<Item = usize> {
    let narrower = places
        .range((host.to_owned(), path)..)
        .take_while(move |((on, at), _)| on == host && at.starts_with(path))
        .map(|(_, routes)| routes);
    let above = path.rmatch_indices('/').map(|(at, _)| &path[..at.max(1)]);
    let wider = above.filter_map(move |above| places.get(&(host.to_owned(), above)));
    narrower.chain(wider).flatten().copied()
}

/// What these routes of the plan before led to, each service once with the last of its ends, the last one first.
fn formers<'a>(
    routes: impl Iterator<Item = &'a Route>,
    now: Instant,
    until: Instant,
) -> impl Iterator<Item = Former> {
    let (mut last, mut older) = (Vec::new(), Vec::new());
    for route in routes {
        let upstream = Arc::clone(&route.upstream);
        last.push(Former { upstream, until });
        older.extend(route.former.iter().filter(|f| f.until > now).cloned());
    }
    older.sort_by_key(|former| Reverse(former.until));
    let mut seen = HashSet::new();
    let mut is_new = move |former: &Former| seen.insert(Arc::as_ptr(&former.upstream));
    last.retain(&mut is_new);
    last.into_iter()
        .chain(older.into_iter().filter(is_new).take(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Machine;
    use crate::plan::{Kept, compile};

    fn route(host: &str, path: &str, upstream: &str, more: &str) -> String {
        let hosts = match host {
            "" => String::new(),
            host => format!("hosts = [\"{host}\"]\n"),
        };
        format!(
            "[[route]]\n{hosts}path = \"{path}\"\nupstream = \"{upstream}\"\naccess = \"anyone\"\n{more}"
        )
    }

    /// Routes `/p0`, `/p1` and so on to services on 3000, 3001 and so on.
    fn routes(host: &str, numbers: std::ops::Range<u16>) -> String {
        let one = |n| {
            route(
                host,
                &format!("/p{n}"),
                &format!("127.0.0.1:{}", 3000 + n),
                "",
            )
        };
        numbers.map(one).collect()
    }

    fn plan(routes: &str) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let (kept, machine) = (Kept::new(dir.path().into()), Machine::default());
        let listener =
            "[[listener]]\naddress = \"127.0.0.1:0\"\nnetworks = { allow = [\"loopback\"] }\n";
        let raw = crate::config::from_text("leaving", &format!("{listener}{routes}"));
        let made = compile(&raw.unwrap().raw, dir.path(), &machine, &kept, None, None);
        made.unwrap_or_else(|problems| panic!("{problems:#?}")).0
    }

    #[test]
    fn a_service_counts_as_long_as_what_runs_there_may_finish() {
        let now = Instant::now();
        let first = plan(&routes("app.lan", 0..300));
        let mut second = plan(&route("app.lan", "/", "127.0.0.1:2999", ""));
        second.succeed(&first, now);
        assert_eq!(second.services(now).count(), 301);
        let old = first.routes[7].upstream.id();
        assert!(second.has_service(old, now));
        let end = now + second.drain;
        assert_eq!(second.next_end(now), Some(end));
        assert!(!second.has_service(old, end), "its time is over");
        assert_eq!(second.services(end).count(), 1);
        assert_eq!(second.next_end(end), None);
        assert!(!first.has_service(second.routes[0].upstream.id(), now));
        // The same again: their time is that of the reload that moved them.
        let mut third = second.clone();
        third.succeed(&second, now + second.drain / 2);
        assert_eq!(third.services(now).count(), 301);
        assert_eq!(third.next_end(now), Some(end));
    }

    #[test]
    fn a_new_route_has_the_former_services_of_those_beside_it_alone() {
        let old =
            |host: &str| [routes(host, 0..3), route(host, "/", "127.0.0.1:4000", "")].concat();
        let first = plan(&[old("app.lan"), route("", "/", "127.0.0.1:5000", "")].concat());
        for (host, path, want) in [
            // Whoever has no host of his own answers where a host has no path.
            ("app.lan", "/p1/deep", &[3001, 4000, 5000][..]),
            ("app.lan", "/other", &[4000, 5000]),
            ("new.lan", "/p1", &[5000]),
            // It was there: what was narrower and is gone has no heir.
            ("app.lan", "/", &[4000]),
            // Without a host: what hosts had there and have no more.
            ("", "/p2", &[3002, 4000, 5000]),
        ] {
            let kept = route("kept.lan", "/", "127.0.0.1:6000", "");
            let mut second = plan(&[route(host, path, "127.0.0.1:2999", ""), kept].concat());
            second.succeed(&first, Instant::now());
            let port = |f: &Former| f.upstream.target().address.port();
            let mut found: Vec<_> = second.routes[0].former.iter().filter_map(port).collect();
            found.sort_unstable();
            assert_eq!(found, want, "{host} {path}");
        }
    }

    #[test]
    fn many_routes_that_stay_take_no_room() {
        let (now, mut text) = (Instant::now(), routes("other.lan", 0..1100));
        text += &route("app.lan", "/p", "127.0.0.1:2000", "");
        let first = plan(&text);
        let mut second = plan(&(text + &route("app.lan", "/p/sub", "127.0.0.1:2001", "")));
        second.succeed(&first, now);
        let (old, new) = (&first.routes[1100].upstream, &second.routes[1101]);
        assert!(new.lets_finish_at(old) && !new.leads_to(old));
        let lists: usize = second.routes.iter().map(|r| r.former.len()).sum();
        assert_eq!(lists, 1, "nobody else has moved");
    }

    #[test]
    fn nothing_finishes_at_a_service_that_the_route_of_now_would_refuse() {
        let by = |path: &str, upstream: &str, exposed: &str| {
            let more = format!("exposed_upstream = \"{exposed}\"\n");
            plan(&route("app.lan", path, upstream, &more))
        };
        let (was, spelled) = ("127.0.0.1:4000", "localhost:4000");
        for (before, after, path, upstream, stays) in [
            ("warn", "warn", "/", spelled, true),
            ("warn", "refuse", "/", spelled, false),
            ("warn", "refuse", "/", "127.0.0.1:4001", false),
            ("refuse", "warn", "/", spelled, false),
            ("warn", "refuse", "/x", was, false),
        ] {
            let case = format!("{before} {after} {path} {upstream}");
            let (first, mut second) = (by("/", was, before), by(path, upstream, after));
            second.succeed(&first, Instant::now());
            let (old, route) = (&first.routes[0].upstream, &second.routes[0]);
            if upstream != was {
                assert!(route.lets_finish_at(old), "{case}: nobody else reaches it");
            }
            old.note_exposed(true);
            route.upstream.note_exposed(upstream != "127.0.0.1:4001");
            let may = route.leads_to(old) || route.lets_finish_at(old);
            assert_eq!(may, stays, "{case}");
        }
    }

    #[test]
    fn another_certificate_is_another_service() {
        let by = |cert: &str| {
            let more = format!("upstream_cert = \"{cert}\"\n");
            plan(&route("app.lan", "/", "https://127.0.0.1:4000", &more))
        };
        let (one, two) = (
            format!("sha256:{}", "ab".repeat(32)),
            format!("sha256:{}", "cd".repeat(32)),
        );
        for (before, after, stays) in [
            (&*one, &*one, true),
            ("any", "any", true),
            ("any", &*one, false),
            (&*one, &*two, false),
            (&*one, "any", true),
            ("first-seen", "any", true),
            // Nobody has been seen, so nobody is refused yet.
            (&*one, "first-seen", true),
        ] {
            let (first, mut second) = (by(before), by(after));
            second.succeed(&first, Instant::now());
            let (old, route) = (&first.routes[0].upstream, &second.routes[0]);
            assert_eq!(route.leads_to(old), stays, "{before} {after}");
            assert!(!route.lets_finish_at(old), "{before} {after}");
        }
    }
}
