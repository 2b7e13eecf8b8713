//! The counters of one data thread. It alone writes them, so an addition is a load and a store that no other core waits for;
//! a scrape on another thread reads what is there, at most one addition behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::labels::{
    self, AuthResult, CODES, DECISIONS, HTTP2_ERRORS, LOGINS, Method, RESULTS, UPSTREAM_ERRORS,
};
use super::{MOST, Slot};
use crate::observe::Record;

/// The upper edges of the histogram, and how they are written.
pub(super) const BUCKETS: [(Duration, &str); 14] = [
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
    (Duration::from_secs(60), "60"),
];

const METHODS: usize = Method::ALL.len();

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        // No read-modify-write: nobody else writes here.
        let next = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(next, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn counts<const N: usize>() -> [Count; N] {
    std::array::from_fn(|_| Count::default())
}

/// A route's requests by code and method: 5 KiB, made when the first request of that route ends on this thread.
type Grid = Box<[Count]>;

/// The counters of one data thread. Nothing shares its cache lines (two at a time, as processors fetch them).
#[derive(Debug)]
#[repr(align(128))]
pub struct Tally {
    routes: Box<[OnceLock<Grid>]>,
    pub(super) durations: [Count; BUCKETS.len() + 1],
    pub(super) micros: Count,
    pub(super) connections: Box<[Count]>,
    pub(super) upgraded: Count,
    pub(super) decisions: [Count; DECISIONS],
    pub(super) logins: [Count; LOGINS.len() * RESULTS.len()],
    pub(super) cache_hits: Count,
    pub(super) cache_misses: Count,
    pub(super) upstream_errors: [Count; UPSTREAM_ERRORS.len()],
    pub(super) http2_errors: [Count; HTTP2_ERRORS.len()],
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
    pub(super) cut: Count,
    pub(super) behind_nat: Count,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            routes: (0..MOST).map(|_| OnceLock::new()).collect(),
            durations: counts(),
            micros: Count::default(),
            connections: (0..MOST).map(|_| Count::default()).collect(),
            upgraded: Count::default(),
            decisions: counts(),
            logins: counts(),
            cache_hits: Count::default(),
            cache_misses: Count::default(),
            upstream_errors: counts(),
            http2_errors: counts(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            cut: Count::default(),
            behind_nat: Count::default(),
        }
    }
}

impl Tally {
    /// Counts a request that has ended. The one call per request.
    pub fn request(&self, record: &Record) {
        self.count(record.slot, record.status, record.method);
        // How long a tunnel was open says nothing of how fast an answer came.
        if record.status != 101 && record.method != Method::Connect {
            let place = BUCKETS.iter().position(|(edge, _)| record.took <= *edge);
            self.durations[place.unwrap_or(BUCKETS.len())].add(1);
            self.micros
                .add(u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX));
        }
        let reason = record.refusal.map(|refusal| refusal.reason);
        self.decisions[labels::of_refusal(reason)].add(1);
        if let Some(kind) = record.refusal.and_then(labels::upstream_error) {
            self.upstream_errors[kind].add(1);
        }
        self.bytes_in.add(record.bytes_in);
        self.bytes_out.add(record.bytes_out);
        self.cut.add(u64::from(record.cut));
    }

    pub(super) fn count(&self, slot: Slot, status: u16, method: Method) {
        let Some(route) = self.routes.get(usize::from(slot.0)) else {
            return;
        };
        let grid = route.get_or_init(|| {
            (0..CODES.len() * METHODS)
                .map(|_| Count::default())
                .collect()
        });
        grid[labels::code(status) * METHODS + method as usize].add(1);
    }

    pub(super) fn of_route(&self, route: usize, code: usize, method: Method) -> u64 {
        let grid = self.routes.get(route).and_then(OnceLock::get);
        grid.map_or(0, |grid| grid[code * METHODS + method as usize].get())
    }

    pub(super) fn requests(&self) -> u64 {
        let grids = self.routes.iter().filter_map(OnceLock::get);
        grids.flat_map(|grid| grid.iter()).map(Count::get).sum()
    }

    /// Counts a socket that was closed for its address, before there was a request.
    pub fn denied(&self, is_behind_nat: bool) {
        let reason = crate::base::refusal::Reason::NetworkDenied;
        self.decisions[labels::of_refusal(Some(reason))].add(1);
        self.behind_nat.add(u64::from(is_behind_nat));
    }

    /// Counts streams, and connections, that a broken rule of HTTP/2 has ended.
    pub fn broke_rules(&self, streams: u32, connections: u32) {
        for (count, n) in self.http2_errors.iter().zip([streams, connections]) {
            count.add(u64::from(n));
        }
    }

    /// Counts an attempt to log in. A method of no known word is not counted.
    pub fn login(&self, method: &str, result: AuthResult) {
        if let Some(place) = LOGINS.iter().position(|word| *word == method) {
            self.logins[place * RESULTS.len() + result as usize].add(1);
        }
    }

    /// Counts whether a password was remembered.
    pub fn remembered(&self, is_remembered: bool) {
        match is_remembered {
            true => self.cache_hits.add(1),
            false => self.cache_misses.add(1),
        }
    }

    /// Counts a connection of a listener until the guard is dropped, on this thread.
    pub fn connection(self: &Arc<Self>, listener: Slot) -> Gauged {
        Gauged::new(self, Gauge::Connection(listener))
    }

    /// Counts a tunnel until the guard is dropped, on this thread.
    pub fn tunnel(self: &Arc<Self>) -> Gauged {
        Gauged::new(self, Gauge::Tunnel)
    }

    fn gauge(&self, what: Gauge) -> Option<&Count> {
        match what {
            Gauge::Connection(slot) => self.connections.get(usize::from(slot.0)),
            Gauge::Tunnel => Some(&self.upgraded),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Gauge {
    Connection(Slot),
    Tunnel,
}

/// Something that is open now. It is dropped on the thread that made it, which keeps the one writer.
#[derive(Debug)]
pub struct Gauged {
    tally: Arc<Tally>,
    what: Gauge,
    /// Not `Send`: there would be a second writer.
    _here: std::marker::PhantomData<std::rc::Rc<()>>,
}

impl Gauged {
    fn new(tally: &Arc<Tally>, what: Gauge) -> Self {
        if let Some(count) = tally.gauge(what) {
            count.add(1);
        }
        Self {
            tally: Arc::clone(tally),
            what,
            _here: std::marker::PhantomData,
        }
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        if let Some(count) = self.tally.gauge(self.what) {
            count.add(u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_until_it_closes() {
        let tally = Arc::new(Tally::default());
        let first = tally.connection(Slot(3));
        let second = tally.connection(Slot(3));
        let tunnel = tally.tunnel();
        assert_eq!(tally.connections[3].get(), 2);
        drop((first, tunnel));
        assert_eq!((tally.connections[3].get(), tally.upgraded.get()), (1, 0));
        drop(second);
        assert_eq!(tally.connections[3].get(), 0);
    }

    #[test]
    fn no_two_tallies_share_a_cache_line() {
        assert_eq!(align_of::<Tally>() % 128, 0);
        assert_eq!(size_of::<Tally>() % 128, 0);
    }
}
