//! An HTTP/1.1 connection: one task that reads a head, has it served, and begins again.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::base::refusal::{Reason, Refusal};
use crate::flow::{Conn, Done, Scratch, Worker, exchange, refuse_unread};
use crate::http1::head::{self, HeadError};
use crate::net::Wire;

/// How long a client may take to read our last answer.
const LINGER: Duration = Duration::from_secs(2);

/// A client that has connected shortly before the end was promised an answer: so long its handshake, and then its first request, may
/// take to arrive.
pub(super) const FIRST: Duration = Duration::from_secs(2);

/// A client that keeps its connection busy sends the next request before it can have read that we leave: so long that one may take
/// to arrive, and is answered with `Connection: close`.
const NEXT: Duration = Duration::from_secs(2);

/// Serves the connection to its end.
pub(super) async fn serve(conn: Conn, wire: Wire, worker: Rc<Worker>) {
    let mut epoch = worker.epoch();
    let mut is_first = true;
    loop {
        if worker.epoch() != epoch {
            epoch = worker.epoch();
            if !conn.is_welcome(&worker) {
                return;
            }
        }
        let mut scratch = match next_head(&conn, &wire, &worker, is_first).await {
            Ok(Some(scratch)) => scratch,
            Ok(None) => {
                let _ = wire.shutdown(LINGER).await;
                return;
            }
            Err(refusal) => {
                if refuse_unread(&worker, &conn, &wire, refusal).await == Done::Linger {
                    wire.linger(LINGER).await;
                }
                return;
            }
        };
        let done = Box::pin(exchange(&worker, &conn, &wire, &mut scratch)).await;
        scratch.give();
        is_first = false;
        match done {
            Done::Again => {}
            Done::Linger => return wire.linger(LINGER).await,
            Done::Cut => return,
        }
    }
}

/// Waits for the next request head; `None` when the connection has ended, was idle for too long, or is drained.
async fn next_head(
    conn: &Conn,
    wire: &Wire,
    worker: &Worker,
    is_first: bool,
) -> Result<Option<Scratch>, Refusal> {
    if wire.input.borrow().is_empty() && !first_byte(conn, wire, worker, is_first).await {
        return Ok(None);
    }
    let plan = worker.plan();
    let most = plan.limits.head_size;
    let (mut seen, mut timed) = (0, false);
    loop {
        {
            let mut input = wire.input.borrow_mut();
            match head::end(&input.data()[..input.len().min(most)], &mut seen) {
                Ok(Some(n)) => {
                    let mut scratch = Scratch::take();
                    scratch.head.clear();
                    scratch.head.extend_from_slice(&input.data()[..n]);
                    input.consume(n);
                    wire.read_done();
                    return Ok(Some(scratch));
                }
                Ok(None) if input.len() >= most => {
                    return Err(Refusal::new(
                        Reason::HeaderTooLarge,
                        "the head is larger than `head_size`",
                    ));
                }
                Ok(None) => {}
                Err(HeadError::Bad(detail)) => return Err(Refusal::bad(detail)),
                Err(HeadError::TooManyFields) => {
                    return Err(Refusal::new(Reason::HeaderTooLarge, "too many fields"));
                }
            }
        }
        if !std::mem::replace(&mut timed, true) {
            wire.read_by(plan.limits.head);
        }
        match wire.fill_by(most.max(8 << 10) + 1).await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                return Err(Refusal::new(
                    Reason::RequestTimeout,
                    "the head did not arrive in time",
                ));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Waits for the first byte of a head, holding no buffer. False when the connection is at its end.
async fn first_byte(conn: &Conn, wire: &Wire, worker: &Worker, is_first: bool) -> bool {
    let idle = worker.plan().limits.idle;
    let mut epoch = worker.epoch();
    let last = if is_first { FIRST } else { NEXT }.min(idle);
    let mut is_leaving = conn.is_leaving(worker);
    if is_leaving {
        wire.read_by(last);
    }
    poll_fn(|cx| {
        conn.bell.listen(cx);
        if worker.epoch() != epoch {
            epoch = worker.epoch();
            if !conn.is_welcome(worker) {
                return Poll::Ready(false);
            }
            if conn.is_leaving(worker) && !std::mem::replace(&mut is_leaving, true) {
                wire.read_by(last);
            }
        }
        wire.poll_fill(cx, 8 << 10, idle)
            .map(|read| matches!(read, Ok(n) if n > 0))
    })
    .await
}
