//! An upgraded connection: bytes both ways until both sides have ended. Silence may last for ever; a write may not.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::net::Wire;

/// What one side may still send after the other has ended.
pub(super) const HALF_OPEN: Duration = Duration::from_secs(60);

/// Runs the tunnel until it is over or `ended`; returns the bytes that went up and down.
pub async fn run(
    client: &Wire,
    up: &Wire,
    ended: impl Future<Output = ()>,
    idle: Duration,
) -> (u64, u64) {
    let (sent, received) = (Cell::new(0), Cell::new(0));
    let both = async {
        let one = async { copy(client, up, &sent, idle).await };
        let other = async { copy(up, client, &received, idle).await };
        tokio::pin!(one, other);
        let first = tokio::select! { r = &mut one => (true, r), r = &mut other => (false, r) };
        // An error ends both; an end of one side lets the other finish.
        if first.1.is_ok() {
            let rest = async { if first.0 { other.await } else { one.await } };
            let _ = tokio::time::timeout(HALF_OPEN, rest).await;
        }
    };
    tokio::select! { () = both => {}, () = ended => {} }
    (sent.get(), received.get())
}

/// Copies until the end of `from`, then ends `to`.
async fn copy(from: &Wire, to: &Wire, count: &Cell<u64>, idle: Duration) -> io::Result<()> {
    loop {
        let n = from.input.borrow().len();
        if n > 0 {
            let mut done = 0;
            poll_fn(|cx| to.poll_write(cx, from.input.borrow().data(), &mut done, idle)).await?;
            from.input.borrow_mut().consume(n);
            count.set(count.get() + n as u64);
        }
        if poll_fn(|cx| from.poll_fill_forever(cx, super::body::WINDOW)).await? == 0 {
            return to.shutdown(idle).await;
        }
    }
}
