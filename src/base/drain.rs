//! One mechanism for reload, drain and stop: a phase that everybody can watch, and a count of who is still at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far the end has come. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serve.
    Run,
    /// Finish what has begun, begin nothing.
    Drain,
    /// Leave at once.
    Stop,
}

/// The one who says when; kept by whoever waits for the end.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    count: Arc<Count>,
}

/// The ones who listen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch {
    phase: watch::Receiver<Phase>,
    count: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    busy: AtomicUsize,
    zero: Notify,
}

/// Held for as long as somebody is at work; the drain waits until all are dropped.
#[derive(Debug)]
pub struct Guard(Arc<Count>);

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.zero.notify_waiters();
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Run),
            count: Arc::default(),
        }
    }
}

impl Drain {
    /// A listener of this drain.
    pub fn watch(&self) -> Watch {
        Watch {
            phase: self.phase.subscribe(),
            count: Arc::clone(&self.count),
        }
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let moves = phase > *now;
            *now = phase.max(*now);
            moves
        });
    }

    /// How many guards are held.
    pub fn busy(&self) -> usize {
        self.count.busy.load(Ordering::Acquire)
    }

    /// Waits until nobody is at work, at most `limit`. True when it came to that.
    pub async fn idle(&self, limit: Duration) -> bool {
        self.watch().idle(limit).await
    }
}

impl Watch {
    /// Waits until nobody is at work, at most `limit`. True when it came to that.
    pub async fn idle(&self, limit: Duration) -> bool {
        let wait = async {
            loop {
                let zero = self.count.zero.notified();
                if self.count.busy.load(Ordering::Acquire) == 0 {
                    return;
                }
                // The count may fall between the look and the wait: look again at least this often.
                let _ = tokio::time::timeout(Duration::from_millis(100), zero).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Counts the holder as at work until the guard is dropped.
    pub fn guard(&self) -> Guard {
        self.count.busy.fetch_add(1, Ordering::AcqRel);
        Guard(Arc::clone(&self.count))
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits for at least `phase`. Cancel safe. Also ends when the drain itself is gone.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.phase.wait_for(|now| *now >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_guards_and_never_goes_back() {
        let drain = Drain::default();
        let mut watch = drain.watch();
        let guard = watch.guard();
        drain.advance(Phase::Stop);
        drain.advance(Phase::Drain);
        watch.reached(Phase::Drain).await;
        assert_eq!(watch.phase(), Phase::Stop);
        assert!(!drain.idle(Duration::from_millis(5)).await);
        drop(guard);
        assert!(drain.idle(Duration::from_millis(500)).await);
    }
}
