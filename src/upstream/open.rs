//! How many connections to services are open, used and idle: never more than descriptors were counted on for, and never all of
//! them to one service. Counted where a connection is made and where it ends, so that a request on a pooled one costs nothing.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::Upstream;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Wire;

/// How long is waited for idle connections that other threads let go.
const PATIENCE: Duration = Duration::from_millis(100);
/// They are not asked again so soon: what they had idle has gone, and who comes meanwhile is told at once that it is too much.
const APART: Duration = Duration::from_secs(1);

/// Within what a connection to a service is made.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long it may take.
    pub connect: Duration,
    /// How many there may be in all.
    pub all: usize,
    /// How many there may be to one service.
    pub each: usize,
}

/// The count of all threads.
#[derive(Debug, Default)]
pub struct Open {
    all: AtomicUsize,
    /// When all threads were asked to let idle connections go.
    asked: watch::Sender<Option<Instant>>,
    /// One of them has.
    freed: Notify,
}

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    open: Arc<Open>,
    each: Arc<AtomicUsize>,
}

/// Adds one, unless that is more than `most`.
pub(super) fn take(count: &AtomicUsize, most: usize) -> bool {
    let has_room = count.fetch_add(1, Ordering::Relaxed) < most;
    if !has_room {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    has_room
}

impl Open {
    /// How many there are.
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Changes when somebody has found no room: whoever keeps idle connections lets them go.
    pub fn asked(&self) -> watch::Receiver<Option<Instant>> {
        self.asked.subscribe()
    }

    /// A thread has let go what it had idle.
    pub(super) fn gave_way(&self) {
        self.freed.notify_waiters();
    }

    /// As [`Open::place`]. Where there is no room all threads are asked to let idle ones go, which is waited for a little.
    pub(super) async fn room(
        self: &Arc<Self>,
        upstream: &Upstream,
        bounds: Bounds,
        shed: impl Fn() -> bool,
    ) -> Result<Place, Refusal> {
        match self.place(upstream, bounds, shed) {
            Ok(place) => Ok(place),
            // Boxed: the rare branch must not make the future of every request larger.
            Err(_) => Box::pin(self.wait(upstream, bounds)).await,
        }
    }

    async fn wait(self: &Arc<Self>, upstream: &Upstream, bounds: Bounds) -> Result<Place, Refusal> {
        let mut asked = Instant::now();
        self.asked.send_if_modified(|last| match last {
            Some(last) if last.elapsed() < APART => {
                asked = *last;
                false
            }
            Some(_) | None => {
                *last = Some(asked);
                true
            }
        });
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing is missed.
            freed.as_mut().enable();
            let found = self.place(upstream, bounds, || false);
            if found.is_ok() || timeout_at(asked + PATIENCE, freed).await.is_err() {
                return found;
            }
        }
    }

    /// Room for a connection to this service. Where there is none in all, `shed` is asked to let an idle one go.
    fn place(
        self: &Arc<Self>,
        upstream: &Upstream,
        bounds: Bounds,
        shed: impl Fn() -> bool,
    ) -> Result<Place, Refusal> {
        if !take(&upstream.open, bounds.each) {
            let detail = "too many connections to this service";
            return Err(Refusal::new(Reason::TooBusy, detail));
        }
        while !take(&self.all, bounds.all) {
            if !shed() {
                upstream.open.fetch_sub(1, Ordering::Relaxed);
                let detail = "too many connections to services";
                return Err(Refusal::new(Reason::TooBusy, detail));
            }
        }
        Ok(Place {
            open: Arc::clone(self),
            each: Arc::clone(&upstream.open),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        self.each.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a service, counted.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    _place: Place,
}

impl Link {
    pub(super) fn new(wire: Wire, place: Place) -> Self {
        Self {
            wire,
            _place: place,
        }
    }
}

impl Deref for Link {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Trust;

    #[test]
    fn there_is_room_for_so_many_in_all_and_each_and_it_is_given_back() {
        let upstream = |target: &str| {
            Upstream::new(
                target.parse().unwrap(),
                (Trust::Any, &Arc::default()),
                true,
                &Arc::default(),
            )
        };
        let (a, b) = (upstream("127.0.0.1:1"), upstream("127.0.0.1:2"));
        let open = Arc::new(Open::default());
        let bounds = Bounds {
            connect: Duration::ZERO,
            all: 4,
            each: 3,
        };
        let get = |of| open.place(of, bounds, || false);
        let mut list: Vec<_> = (0..3).map(|_| get(&a).unwrap()).collect();
        assert_eq!(get(&a).unwrap_err().reason, Reason::TooBusy);
        list.push(get(&b).unwrap());
        assert_eq!(get(&b).unwrap_err().reason, Reason::TooBusy);
        assert_eq!(open.all(), 4);
        let idle = std::cell::RefCell::new(list);
        let shed = || idle.borrow_mut().pop().is_some();
        let last = open.place(&b, bounds, shed).unwrap();
        assert_eq!(open.all(), 4, "an idle one made room");
        drop((last, idle));
        assert_eq!(open.all(), 0);
        let counts = [&a, &b].map(|u| u.open.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_threads_let_idle_ones_go_and_are_not_asked_all_the_time() {
        let target = "127.0.0.1:1".parse().unwrap();
        let trust = (Trust::Any, &Arc::default());
        let service = Upstream::new(target, trust, true, &Arc::default());
        let open = Arc::new(Open::default());
        // As many to one as in all: there is no other service.
        let bounds = Bounds {
            connect: Duration::ZERO,
            all: 2,
            each: 2,
        };
        let room = || open.room(&service, bounds, || false);
        let idle = [room().await.unwrap(), room().await.unwrap()];
        let mut asked = open.asked();
        let other = async {
            asked.changed().await.unwrap();
            drop(idle);
            open.gave_way();
        };
        let (found, again, ()) = tokio::join!(room(), room(), other);
        let held = (found.unwrap(), again.unwrap());
        // Nobody has anything idle: it is told soon, and at once when it was so a moment ago.
        tokio::time::advance(APART).await;
        for limit in [PATIENCE, Duration::ZERO] {
            let begun = Instant::now();
            assert_eq!(room().await.unwrap_err().reason, Reason::TooBusy);
            assert!(begun.elapsed() <= limit + Duration::from_millis(1));
        }
        drop(held);
        assert_eq!(open.all(), 0);
    }
}
