//! What is counted. Each data thread writes into a [`Tally`] of its own, without a lock and without a cache line that another
//! one writes; a scrape adds them up. Labels come from closed sets: never a path, a name that a client chose, or an address.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

mod families;
mod labels;
mod tally;
mod text;

pub use families::{FAMILIES, Family, Kind};
pub use labels::{AuthResult, Method};
pub use tally::{Gauged, Tally};
pub use text::{CONTENT_TYPE, Text};

use labels::{CODES, DECISIONS, HTTP2_ERRORS, LOGINS, RESULTS, UPSTREAM_ERRORS};
use tally::BUCKETS;

/// Routes and listeners that have a place of their own. Routes of plans that are gone keep theirs, because a counter never falls; that of
/// a listener is free once it and its connections are gone. Whatever finds none shares the last one.
const MOST: usize = 512;
/// The label of what shares the last place.
const REST: &str = "other";

/// The place of a route or listener among the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u16);

impl Slot {
    /// Requests that found no route.
    pub const NONE: Self = Self(0);
}

/// A listener has its place for as long as this is there.
#[derive(Debug)]
pub struct Listened {
    /// The place.
    pub slot: Slot,
    _name: Arc<str>,
}

/// Everything that is counted, for as long as the process lives.
#[derive(Debug)]
pub struct Metrics {
    tallies: Mutex<Vec<Arc<Tally>>>,
    routes: Mutex<Vec<Arc<str>>>,
    listeners: Mutex<Vec<Arc<str>>>,
    /// When the process began.
    pub started: SystemTime,
    reload_ok: AtomicBool,
    reload_at: AtomicU64,
    reloads: [AtomicU64; 2],
    /// When NAT in front of each listener was last spoken of.
    nat_told: [AtomicU64; MOST],
    /// Accepts that failed.
    pub accept_failures: AtomicU64,
    /// Connections beyond the limits that were closed unheard.
    pub surplus_closed: AtomicU64,
    /// Panics that were caught; each is a mistake of ours.
    pub panics: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            tallies: Mutex::default(),
            routes: Mutex::new(vec!["none".into()]),
            listeners: Mutex::default(),
            started: now,
            reload_ok: AtomicBool::new(true),
            reload_at: AtomicU64::new(unix(now)),
            reloads: Default::default(),
            nat_told: [const { AtomicU64::new(0) }; MOST],
            accept_failures: AtomicU64::new(0),
            surplus_closed: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// The counters of one more data thread.
    pub fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        lock(&self.tallies).push(Arc::clone(&tally));
        tally
    }

    /// The place of a route; the same for the same label, reloads included. Called when a plan goes into force.
    pub fn route(&self, label: &Arc<str>) -> Slot {
        slot(&self.routes, label)
    }

    /// The place of a listener, until it and its connections are gone.
    pub fn listener(&self, address: &str) -> Listened {
        let mut places = lock(&self.listeners);
        let known = places.iter().position(|name| **name == *address);
        let free = || (0..places.len()).find(|i| !self.is_there(*i, &places[*i]));
        let place = known.or_else(free).unwrap_or(places.len()).min(MOST - 1);
        let name = if place + 1 == MOST { REST } else { address };
        match places.get_mut(place) {
            Some(there) if **there == *name => {}
            Some(there) => *there = name.into(),
            None => places.push(name.into()),
        }
        Listened {
            slot: Slot(u16::try_from(place).unwrap_or(0)),
            _name: Arc::clone(&places[place]),
        }
    }

    /// Whether the listener of this place listens somewhere, or has connections still.
    fn is_there(&self, place: usize, name: &Arc<str>) -> bool {
        Arc::strong_count(name) > 1 || self.sum(|tally| tally.connections[place].get()) > 0
    }

    /// Notes what came of a reload.
    pub fn reloaded(&self, is_accepted: bool) {
        self.reload_ok.store(is_accepted, Ordering::Relaxed);
        self.reloads[usize::from(is_accepted)].fetch_add(1, Ordering::Relaxed);
        if is_accepted {
            self.reload_at
                .store(unix(SystemTime::now()), Ordering::Relaxed);
        }
    }

    /// Whether it is time to speak of NAT in front of a listener: once in ten minutes, whatever comes.
    pub fn is_news_behind_nat(&self, listener: Slot, now: SystemTime) -> bool {
        let cell = &self.nat_told[usize::from(listener.0)];
        let (now, told) = (unix(now), cell.load(Ordering::Relaxed));
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        let swap = || cell.compare_exchange(told, now, order.0, order.1);
        now.abs_diff(told) >= 600 && swap().is_ok()
    }

    /// Connections of each listener that are open now.
    pub fn listeners(&self) -> Vec<(String, u64)> {
        let listeners = lock(&self.listeners);
        let open = |i: usize| self.sum(|tally| tally.connections[i].get());
        let all = listeners.iter().enumerate();
        all.filter(|(i, name)| self.is_there(*i, name))
            .map(|(i, name)| (name.to_string(), open(i)))
            .collect()
    }

    /// Connections that are open now.
    pub fn connections(&self) -> u64 {
        self.sum(|tally| tally.connections.iter().map(tally::Count::get).sum())
    }

    /// Requests that have ended, and refused ones among all decisions.
    pub fn totals(&self) -> (u64, u64) {
        let refused = 1..DECISIONS;
        (
            self.sum(Tally::requests),
            self.sum(|tally| refused.clone().map(|i| tally.decisions[i].get()).sum()),
        )
    }

    /// Tunnels that are open now.
    pub fn upgraded(&self) -> u64 {
        self.sum(|tally| tally.upgraded.get())
    }

    /// Bytes of bodies and tunnels: from clients, and to them.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.sum(|tally| tally.bytes_in.get()),
            self.sum(|tally| tally.bytes_out.get()),
        )
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        lock(&self.tallies).iter().map(|tally| of(tally)).sum()
    }

    /// Writes all that is counted here. Walks every counter: for a scrape.
    pub fn write(&self, text: &mut Text) {
        let tallies = lock(&self.tallies).clone();
        let sum = |of: &dyn Fn(&Tally) -> u64| tallies.iter().map(|t| of(t)).sum::<u64>();
        text.one(
            "loopgate_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        text.one(
            "loopgate_config_last_reload_successful",
            &[],
            u64::from(self.reload_ok.load(Ordering::Relaxed)),
        );
        let at = self.reload_at.load(Ordering::Relaxed);
        text.one(
            "loopgate_config_last_reload_success_timestamp_seconds",
            &[],
            at,
        );
        for (result, count) in ["rejected", "accepted"].iter().zip(&self.reloads) {
            let count = count.load(Ordering::Relaxed);
            text.one(
                "loopgate_config_reloads_total",
                &[("result", result)],
                count,
            );
        }
        let routes = lock(&self.routes).clone();
        for (i, route) in routes.iter().enumerate() {
            for (c, code) in CODES.iter().enumerate() {
                for method in Method::ALL {
                    let n = sum(&|t| t.of_route(i, c, method));
                    if n > 0 {
                        let labels = [
                            ("route", &**route),
                            ("code", code.1),
                            ("method", method.word()),
                        ];
                        text.one("loopgate_requests_total", &labels, n);
                    }
                }
            }
        }
        let buckets = BUCKETS.iter().enumerate();
        let counts: Vec<_> = buckets
            .map(|(i, (_, le))| (*le, sum(&|t| t.durations[i].get())))
            .collect();
        let above = sum(&|t| t.durations[BUCKETS.len()].get());
        let micros = sum(&|t| t.micros.get());
        text.histogram("loopgate_request_duration_seconds", &counts, above, micros);
        for (listener, n) in self.listeners() {
            text.one("loopgate_connections", &[("listener", &*listener)], n);
        }
        text.one("loopgate_upgraded_streams", &[], sum(&|t| t.upgraded.get()));
        for i in 0..DECISIONS {
            let (decision, reason) = labels::decision(i);
            let labels = [("decision", decision), ("reason", reason)];
            text.one(
                "loopgate_decisions_total",
                &labels,
                sum(&|t| t.decisions[i].get()),
            );
        }
        for (i, method) in LOGINS.iter().enumerate() {
            for (j, result) in RESULTS.iter().enumerate() {
                let n = sum(&|t| t.logins[i * RESULTS.len() + j].get());
                let labels = [("method", *method), ("result", *result)];
                text.one("loopgate_auth_attempts_total", &labels, n);
            }
        }
        text.one(
            "loopgate_auth_cache_hits_total",
            &[],
            sum(&|t| t.cache_hits.get()),
        );
        text.one(
            "loopgate_auth_cache_misses_total",
            &[],
            sum(&|t| t.cache_misses.get()),
        );
        for (i, kind) in UPSTREAM_ERRORS.iter().enumerate() {
            let n = sum(&|t| t.upstream_errors[i].get());
            text.one("loopgate_upstream_errors_total", &[("kind", kind)], n);
        }
        for (i, kind) in HTTP2_ERRORS.iter().enumerate() {
            let n = sum(&|t| t.http2_errors[i].get());
            text.one("loopgate_http2_errors_total", &[("kind", kind)], n);
        }
        text.one(
            "loopgate_received_bytes_total",
            &[],
            sum(&|t| t.bytes_in.get()),
        );
        text.one(
            "loopgate_sent_bytes_total",
            &[],
            sum(&|t| t.bytes_out.get()),
        );
        text.one("loopgate_answers_cut_total", &[], sum(&|t| t.cut.get()));
        text.one(
            "loopgate_behind_nat_total",
            &[],
            sum(&|t| t.behind_nat.get()),
        );
        let failures = self.accept_failures.load(Ordering::Relaxed);
        text.one("loopgate_accept_failures_total", &[], failures);
        let closed = self.surplus_closed.load(Ordering::Relaxed);
        text.one("loopgate_surplus_closed_total", &[], closed);
        let panics = self.panics.load(Ordering::Relaxed);
        text.one("loopgate_panics_total", &[], panics);
    }
}

fn slot(places: &Mutex<Vec<Arc<str>>>, label: &Arc<str>) -> Slot {
    let mut places = lock(places);
    let known = places.iter().position(|place| *place == *label);
    let place = known.unwrap_or_else(|| {
        if places.len() < MOST {
            let is_last = places.len() + 1 == MOST;
            places.push(if is_last {
                REST.into()
            } else {
                Arc::clone(label)
            });
        }
        places.len() - 1
    });
    Slot(u16::try_from(place).unwrap_or(0))
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nat_is_news_once_in_ten_minutes_for_each_listener() {
        let (metrics, start) = (Metrics::default(), SystemTime::now());
        let news = |listener: u16, seconds| {
            let now = start + std::time::Duration::from_secs(seconds);
            metrics.is_news_behind_nat(Slot(listener), now)
        };
        assert!(news(0, 0));
        assert!((0..600).all(|seconds| !news(0, seconds)));
        assert!(news(1, 1), "another listener");
        assert!(news(0, 600) && !news(0, 601));
    }

    #[test]
    fn a_listener_has_its_place_until_it_and_its_connections_are_gone() {
        let metrics = Metrics::default();
        let tally = metrics.tally();
        let shown = || {
            let mut text = Text::default();
            metrics.write(&mut text);
            let text = text.into_string();
            let lines = text
                .lines()
                .filter(|l| l.starts_with("loopgate_connections{"));
            let all = lines.map(|l| l.split(['"', ' ']).skip(1).step_by(2).collect::<String>());
            all.collect::<Vec<_>>().join(" ")
        };
        let (one, again) = (metrics.listener("a:1"), metrics.listener("a:1"));
        let two = metrics.listener("b:2");
        assert_eq!(one.slot, again.slot);
        let open = tally.connection(one.slot);
        assert_eq!(shown(), "a:11 b:20");
        drop((one, again, two));
        assert_eq!(shown(), "a:11", "its connection goes on");
        // Its place is not given away, the other one is; with its name it is itself again.
        let three = metrics.listener("c:3");
        assert_ne!(three.slot, metrics.listener("a:1").slot);
        assert_eq!(shown(), "a:11 c:30");
        drop(open);
        assert_eq!(shown(), "c:30");
        // Years of other addresses need no more places, and many at once share the last one.
        for n in 0..3 * MOST {
            assert!(metrics.listener(&format!("d:{n}")).slot.0 < 2);
        }
        let many: Vec<_> = (0..2 * MOST)
            .map(|n| metrics.listener(&n.to_string()))
            .collect();
        assert_eq!(usize::from(many[2 * MOST - 1].slot.0), MOST - 1);
        assert!(shown().ends_with("other0"));
        drop((many, three));
        assert_eq!(shown(), "");
        assert_eq!(metrics.listener("e:5").slot, Slot(0));
    }

    #[test]
    fn a_label_keeps_its_place_and_there_is_an_end_of_places() {
        let metrics = Metrics::default();
        let label = |n: usize| -> Arc<str> { format!("*/{n}").into() };
        assert_eq!(metrics.route(&label(7)), metrics.route(&label(7)));
        assert_ne!(metrics.route(&label(7)), Slot::NONE);
        let places: Vec<_> = (0..2 * MOST).map(|n| metrics.route(&label(n)).0).collect();
        assert_eq!(places.iter().max(), Some(&(MOST as u16 - 1)));
        assert_eq!(&*metrics.routes.lock().unwrap()[MOST - 1], REST);
        // Two threads count into one sum.
        let (one, two) = (metrics.tally(), metrics.tally());
        one.count(Slot(7), 200, Method::Get);
        two.count(Slot(7), 200, Method::Get);
        two.count(Slot(MOST as u16 - 1), 599, Method::Other);
        let mut text = Text::default();
        metrics.write(&mut text);
        let text = text.into_string();
        assert!(text.contains("code=\"200\",method=\"GET\"} 2\n"), "{text}");
        let rest = "loopgate_requests_total{route=\"other\",code=\"5xx\",method=\"other\"} 1\n";
        assert!(text.contains(rest), "{text}");
    }
}
