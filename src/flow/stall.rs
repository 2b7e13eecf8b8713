//! HTTP/2 streams whose client takes nothing. hyper asks a body for more only when the stream's window has room, and waits for
//! that without end: who does not ask for so long is ended, and the upstream with it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

tokio::task_local! {
    /// Since when the stream of this task has had nothing to wait for but its window.
    static SINCE: Rc<Cell<Option<Instant>>>;
}

/// Notes that the answer's body was asked: `waits` when it waits for the upstream, so that the client is not to blame.
pub(super) fn asked(waits: bool) {
    // A body on its way to an upstream has no such task.
    let _ = SINCE.try_with(|since| since.set((!waits).then(Instant::now)));
}

/// Runs a stream to its end, or until its client has taken nothing for `limit`. Dropping it resets the stream.
pub fn unless_stalled<F: Future>(stream: F, limit: Duration) -> impl Future<Output = ()> {
    let since = Rc::new(Cell::new(None));
    SINCE.scope(Rc::clone(&since), async move {
        let mut stream = pin!(stream);
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = since.get() else {
                return Poll::Pending;
            };
            let due = since + limit;
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            alarm.as_mut().poll(cx)
        })
        .await;
    })
}
