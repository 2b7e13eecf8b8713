//! What is known of an upstream by looking: whether it can be reached around the gate, and whether whatever is there now has been
//! looked at. Who was not there may come back bound otherwise, so it is looked at before it is served.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::refusal::{Reason, Refusal};

/// How long a request waits for a look. One takes milliseconds; the control thread may be at a reload.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a look is asked for; one for a process.
#[derive(Debug, Default)]
pub struct Looks {
    wanted: Notify,
    is_watched: AtomicBool,
}

impl Looks {
    /// Waits until somebody asks for a look at once. Cancel safe.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether somebody looks when asked to. Where nobody does, nobody waits.
    pub fn watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Release);
    }
}

/// What the looks at one upstream have found.
#[derive(Debug)]
pub(super) struct Seen {
    looks: Arc<Looks>,
    exposed: AtomicBool,
    /// The ways around it, as one number.
    ways: AtomicU64,
    /// Why it cannot be told who can reach it.
    unsure: Mutex<Option<Arc<str>>>,
    open_socket: AtomicBool,
    /// Nobody was there at the last look.
    absent: AtomicBool,
    /// Counts reasons to look; the first is that nobody has looked yet.
    doubts: AtomicU64,
    /// As many as the last look that found somebody knew of.
    settled: AtomicU64,
    looked: Notify,
}

impl Seen {
    pub fn new(looks: &Arc<Looks>) -> Self {
        Self {
            looks: Arc::clone(looks),
            exposed: AtomicBool::new(false),
            ways: AtomicU64::new(0),
            unsure: Mutex::default(),
            open_socket: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            doubts: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            looked: Notify::new(),
        }
    }

    /// Waits until whatever is there now has been looked at. Two loads where there is no doubt.
    pub async fn settle(&self) -> Result<(), Refusal> {
        if !self.is_doubted() || !self.looks.is_watched.load(Ordering::Acquire) {
            return Ok(());
        }
        let settled = async {
            loop {
                let mut looked = std::pin::pin!(self.looked.notified());
                looked.as_mut().enable();
                if !self.is_doubted() {
                    return;
                }
                self.looks.wanted.notify_one();
                looked.await;
            }
        };
        timeout(PATIENCE, settled).await.map_err(|_| {
            let detail = "the service has come back, and could not be looked at in time";
            Refusal::new(Reason::UpstreamTimeout, detail)
        })
    }

    fn is_doubted(&self) -> bool {
        self.doubts.load(Ordering::Acquire) != self.settled.load(Ordering::Acquire)
    }

    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
    }
}

/// What was known when a look began.
#[derive(Clone, Copy, Debug)]
pub struct Begun(u64);

impl super::Upstream {
    /// Whether it was last found to be reachable around the gate. One relaxed load.
    pub fn is_exposed(&self) -> bool {
        self.seen.exposed.load(Ordering::Relaxed)
    }

    /// Whether its routes say `exposed_upstream = "refuse"`: it is not served while it can be reached around the gate.
    pub fn refuses_exposed(&self) -> bool {
        self.refuses_exposed
    }

    /// Whether it is not served now for that reason.
    pub fn is_refused(&self) -> bool {
        self.refuses_exposed && self.is_exposed()
    }

    /// Step 10 of the order of judgement.
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.is_refused() {
            return Ok(());
        }
        let detail =
            "the service can be reached around this gate; the log and `loopgate audit` say how";
        Err(Refusal::new(Reason::UpstreamExposed, detail))
    }

    /// A look begins: what gives doubt from now on is not settled by it.
    pub fn begin_look(&self) -> Begun {
        Begun(self.seen.doubts.load(Ordering::Acquire))
    }

    /// A look has ended, and what it found is noted. What was not there is looked at again when it is.
    pub fn end_look(&self, begun: Begun, is_there: bool) {
        self.seen.absent.store(!is_there, Ordering::Relaxed);
        if is_there {
            self.seen.settled.store(begun.0, Ordering::Release);
        } else if !self.seen.is_doubted() {
            self.doubt();
        }
        self.seen.looked.notify_waiters();
    }

    /// Whether nobody was there at the last look.
    pub fn is_absent(&self) -> bool {
        self.seen.absent.load(Ordering::Relaxed)
    }

    /// It did not take a connection: whatever does next is looked at first.
    pub(super) fn doubt(&self) {
        self.seen.doubt();
    }

    /// Notes what the last look at the kernel's socket table found; true when that is news.
    pub fn note_exposed(&self, exposed: bool) -> bool {
        self.seen.exposed.swap(exposed, Ordering::Relaxed) != exposed
    }

    /// Notes which ways around it the last look found, none for none; true when they are others than before.
    pub fn note_ways(&self, ways: &[String]) -> bool {
        let mut hasher = std::hash::DefaultHasher::new();
        ways.hash(&mut hasher);
        let number = if ways.is_empty() { 0 } else { hasher.finish() };
        self.seen.ways.swap(number, Ordering::Relaxed) != number
    }

    /// Notes why it could not be told who can reach it, if so; true when that is news.
    pub fn note_unsure(&self, why: Option<&str>) -> bool {
        let mut unsure = self.unsure_now();
        let is_news = unsure.as_deref() != why;
        if is_news {
            *unsure = why.map(Arc::from);
        }
        is_news
    }

    /// Why the last look could not tell who can reach it; `None` when it could. Not for the request path.
    pub fn unsure(&self) -> Option<Arc<str>> {
        self.unsure_now().clone()
    }

    fn unsure_now(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        let unsure = self.seen.unsure.lock();
        unsure.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether others than they should may connect to its Unix socket; true when that is news.
    pub fn note_open_socket(&self, is_open: bool) -> bool {
        self.seen.open_socket.swap(is_open, Ordering::Relaxed) != is_open
    }
}

#[cfg(test)]
mod tests {
    use super::super::Upstream;
    use super::*;
    use crate::upstream::Trust;

    fn upstream() -> (Arc<Looks>, Upstream) {
        let looks = Arc::new(Looks::default());
        let target = "127.0.0.1:1".parse().unwrap();
        let upstream = Upstream::new(target, (Trust::Any, &Arc::default()), true, &looks);
        (looks, upstream)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_is_looked_at_first() {
        let (looks, upstream) = upstream();
        assert!(upstream.seen.settle().await.is_ok(), "nobody looks here");
        looks.watched(true);
        for (exposed, is_there) in [(false, true), (true, true), (false, true)] {
            upstream.doubt();
            let asked = async {
                looks.wanted().await;
                let begun = upstream.begin_look();
                upstream.note_exposed(exposed);
                upstream.end_look(begun, is_there);
                looks.wanted().await;
            };
            let settled = tokio::select! { settled = upstream.seen.settle() => settled, () = asked => panic!("asked twice"), };
            assert!(settled.is_ok(), "{exposed}");
            assert_eq!(upstream.check().is_err(), exposed);
            assert_eq!(upstream.is_absent(), !is_there);
            if is_there {
                assert!(!upstream.seen.is_doubted());
            }
        }
    }

    #[test]
    fn another_way_around_is_news() {
        let (_, upstream) = upstream();
        let python = vec!["python3 (pid 1) 0.0.0.0:3000".to_owned()];
        let both = [&python[..], &["socat (pid 2)".to_owned()]].concat();
        assert!(!upstream.note_ways(&[]));
        for ways in [&python, &both, &python] {
            assert!(upstream.note_ways(ways) && !upstream.note_ways(ways));
        }
        assert!(upstream.note_ways(&[]) && !upstream.note_ways(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_began_before_settles_nothing() {
        let (looks, upstream) = upstream();
        looks.watched(true);
        let begun = upstream.begin_look();
        upstream.doubt();
        upstream.end_look(begun, true);
        let refused = upstream.seen.settle().await.unwrap_err();
        assert_eq!(refused.reason, Reason::UpstreamTimeout);
        let begun = upstream.begin_look();
        upstream.end_look(begun, true);
        assert!(upstream.seen.settle().await.is_ok());
    }
}
