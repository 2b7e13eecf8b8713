//! Session tickets: what lets a client come back without a full handshake, on whichever core it lands.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

/// New tickets are sealed with one key for so long; those of the key before are opened for as long again.
const CHANGE: Duration = Duration::from_secs(6 * 60 * 60);

/// The keys that session tickets are sealed with: made once for the process, kept in memory only, changed every six hours,
/// shared by all threads, listeners and reloads.
///
/// A resumed session is not asked for its client certificate again: what it gave at first travels in the ticket, and is judged
/// at every request like any other. A listener that asks for certificates takes `Tickets` of its own all the same, and new ones
/// when the authority that it believes changes, so that no client goes on without a certificate that it was never asked for.
#[derive(Clone)]
pub struct Tickets(Arc<Changing>);

impl Tickets {
    /// New keys.
    ///
    /// # Panics
    /// When the system has no randomness to give: nothing that follows could be trusted.
    pub fn new() -> Self {
        let now = fresh().expect("the system's random generator works");
        Self(Arc::new(Changing(RwLock::new(Keys {
            now,
            before: None,
            until: Instant::now() + CHANGE,
        }))))
    }

    pub(super) fn ticketer(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.0) as Arc<dyn ProducesTickets>
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// The library changes its keys by the wall clock: one that was set back would keep them for as long as it was set back. So each
/// of its sets is one of ours, which ends by the monotonic clock.
#[derive(Debug)]
struct Changing(RwLock<Keys>);

type Key = Arc<dyn ProducesTickets>;

#[derive(Debug)]
struct Keys {
    now: Key,
    before: Option<Key>,
    until: Instant,
}

fn fresh() -> Option<Key> {
    Ticketer::new().ok()
}

impl Changing {
    /// The key to seal with, and the one before it. `None` when it is time for a new one and the system has no randomness: then
    /// there are no tickets, and every handshake is a whole one.
    fn keys(&self, now: Instant) -> Option<(Key, Option<Key>)> {
        let keys = self.0.read().ok()?;
        if now < keys.until {
            return Some((Arc::clone(&keys.now), keys.before.clone()));
        }
        drop(keys);
        let next = fresh()?;
        let mut keys = self.0.write().ok()?;
        if now >= keys.until {
            let old = std::mem::replace(&mut keys.now, next);
            // Nobody came for so long: what the old one sealed is over as well.
            keys.before = (now < keys.until + CHANGE).then_some(old);
            keys.until = now + CHANGE;
        }
        Some((Arc::clone(&keys.now), keys.before.clone()))
    }

    fn seal(&self, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.keys(now)?.0.encrypt(plain)
    }

    fn open(&self, sealed: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (key, before) = self.keys(now)?;
        key.decrypt(sealed).or_else(|| before?.decrypt(sealed))
    }
}

impl ProducesTickets for Changing {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * CHANGE.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Instant::now())
    }

    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(sealed, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_change_of_keys_whatever_the_wall_clock_says() {
        let (tickets, start) = (Tickets::new(), Instant::now());
        let at = |hours: u64| start + Duration::from_secs(hours * 3600 + 60);
        let first = tickets.0.seal(b"one", at(0)).unwrap();
        let open = |sealed: &[u8], hours| tickets.0.open(sealed, at(hours));
        assert_eq!(open(&first, 5).as_deref(), Some(&b"one"[..]));
        assert_eq!(open(&first, 6).as_deref(), Some(&b"one"[..]), "after one");
        let second = tickets.0.seal(b"two", at(7)).unwrap();
        assert_eq!(open(&first, 11).as_deref(), Some(&b"one"[..]));
        assert_eq!(open(&first, 12), None, "after two");
        assert_eq!(open(&second, 12).as_deref(), Some(&b"two"[..]));
        assert_eq!(open(&second, 60), None, "nobody came in between");
        assert_eq!(open(b"", 60), None);
        assert_eq!(Tickets::new().0.open(&second, at(7)), None, "others' keys");
        assert_eq!(tickets.ticketer().lifetime(), 12 * 60 * 60);
    }
}
