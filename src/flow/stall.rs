//! HTTP/2 streams whose client takes nothing. hyper asks a body for more only when the stream's window has room, and waits for
//! that without end: who does not ask for so long is ended, and the upstream with it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// Since when the stream that is polled now has had nothing to wait for but its window.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Notes that the answer's body was asked: `waits` when it waits for the upstream, so that the client is not to blame.
pub(super) fn asked(waits: bool) {
    // What a body on its way to an upstream says here nobody hears.
    SINCE.set((!waits).then(Instant::now));
}

pin_project! {
    /// A stream that ends when its client has taken nothing for so long. Dropping it resets the stream.
    #[derive(Debug)]
    pub struct UnlessStalled<F> {
        #[pin]
        stream: F,
        limit: Duration,
        since: Option<Instant>,
        alarm: Option<Pin<Box<Sleep>>>,
    }
}

/// Runs a stream to its end, or until its client has taken nothing for `limit`.
pub fn unless_stalled<F: Future>(stream: F, limit: Duration) -> UnlessStalled<F> {
    UnlessStalled {
        stream,
        limit,
        since: None,
        alarm: None,
    }
}

impl<F: Future> Future for UnlessStalled<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.project();
        SINCE.set(*me.since);
        let is_ready = me.stream.poll(cx).is_ready();
        *me.since = SINCE.take();
        if is_ready {
            return Poll::Ready(());
        }
        let Some(since) = *me.since else {
            return Poll::Pending;
        };
        let due = since + *me.limit;
        let alarm = me.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }
}
