//! How many connections to services are open, used and idle: never more than descriptors were counted on for, and never all of
//! them to one service. Counted where a connection is made and where it ends, so that a request on a pooled one costs nothing.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Upstream;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Wire;

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
    /// Moves on when there was no room: whoever keeps idle connections lets them go.
    wanted: AtomicUsize,
}

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    open: Arc<Open>,
    each: Arc<AtomicUsize>,
}

/// Adds one, unless that is more than `most`.
fn take(count: &AtomicUsize, most: usize) -> bool {
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

    /// What moves on when somebody found no room.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Room for a connection to this service. Where there is none in all, `shed` is asked to let an idle one go.
    pub(super) fn place(
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
                self.wanted.fetch_add(1, Ordering::Relaxed);
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
        assert_eq!(open.wanted(), 0, "letting others go would not help");
        list.push(get(&b).unwrap());
        assert_eq!(get(&b).unwrap_err().reason, Reason::TooBusy);
        assert_eq!((open.all(), open.wanted()), (4, 1));
        let idle = std::cell::RefCell::new(list);
        let shed = || idle.borrow_mut().pop().is_some();
        let last = open.place(&b, bounds, shed).unwrap();
        assert_eq!(open.all(), 4, "an idle one made room");
        drop((last, idle));
        assert_eq!(open.all(), 0);
        let counts = [&a, &b].map(|u| u.open.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 0]);
    }
}
