//! A deadline that costs nothing to move further away: the runtime's timer is touched only when it fires or must fire earlier.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// At most one deadline at a time.
#[derive(Debug, Default)]
pub struct Timer {
    due: Cell<Option<Instant>>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
    waiting: RefCell<Option<Waker>>,
}

impl Timer {
    /// Sets the deadline, unless one is set already: a wait is measured from its first moment.
    pub fn arm(&self, after: Duration) {
        if self.due.get().is_none() {
            self.due.set(Some(Instant::now() + after));
        }
    }

    /// Sets another deadline, also from another task than the one that waits: that one is woken to see it.
    pub fn rearm(&self, after: Duration) {
        self.due.set(Some(Instant::now() + after));
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Takes the deadline away; the runtime's timer stays where it is.
    pub fn disarm(&self) {
        self.due.set(None);
    }

    /// Ready when the deadline has passed.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due.get() else {
            return Poll::Pending;
        };
        let mut slot = self.sleep.borrow_mut();
        let sleep = slot.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_last_deadline_that_was_set() {
        let timer = Timer::default();
        let start = Instant::now();
        timer.arm(Duration::from_secs(10));
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx))).await.is_pending());
        timer.disarm();
        timer.arm(Duration::from_secs(75));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 75);
        timer.disarm();
        timer.arm(Duration::from_secs(1));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 76);
    }
}
