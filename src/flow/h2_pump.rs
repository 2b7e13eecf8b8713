//! The body of an HTTP/2 request on its way to an HTTP/1.1 upstream, in a task of its own.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answer::{Patience, Pump, broken};
use super::body::{Carried, discard};
use super::state::Worker;
use super::trailers::{Of, write_trailers};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::chunked;
use crate::http1::framing::Body;
use crate::net::Wire;
use crate::observe::contained;
use crate::plan::Limits;
use crate::upstream::Link;

/// Bytes of a body that are worth a write of their own.
const ENOUGH: usize = 48 << 10;

/// What whoever waits for the answer is told of the body.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Why it cannot be sent.
    pub failed: Cell<Option<Refusal>>,
    /// How long the answer may take.
    pub patience: Patience,
}

/// Sends the body in a task of its own, which ends with the answer. What the upstream does not want is thrown away.
pub(super) fn spawn_pump(
    worker: &Rc<Worker>,
    mut body: Incoming,
    wire: &Rc<Link>,
    framing: Body,
    limits: &Limits,
    news: &Rc<News>,
) -> Pump {
    let sent = Rc::new(Cell::new(false));
    let (stop, stopped) = oneshot::channel();
    let (wire, done, news) = (Rc::clone(wire), Rc::clone(&sent), Rc::clone(news));
    let (idle, answer, most) = (limits.body_idle, limits.answer, limits.body_size);
    let shared = Arc::clone(&worker.shared);
    worker.spawn("discard", async move {
        let sends = async {
            tokio::select! {
                biased;
                ended = pump(&mut body, &wire, framing, idle, most) => Some(ended),
                _ = stopped => None,
            }
        };
        let sends = contained("upload", &shared.log, &shared.metrics, sends).await;
        // After a panic somebody still waits for an answer.
        let ended = sends.unwrap_or(Some(Err(Some(broken("the body was not sent")))));
        match ended {
            Some(Ok(())) => {
                done.set(true);
                news.patience.begin(&wire, answer);
            }
            Some(Err(Some(refusal))) => {
                news.failed.set(Some(refusal));
                // Whoever waits for an answer waits no more. The end of our side alone would leave that to the upstream.
                wire.read_by(Duration::ZERO);
            }
            // The upstream takes no more; its answer may still come.
            Some(Err(None)) => news.patience.begin(&wire, idle),
            None => {}
        }
        drop(wire);
        if !done.get() {
            discard(Carried::Request(body)).await;
        }
    });
    Pump { _stop: stop, sent }
}

/// Waits for the end of a body that is to be empty: one that goes on is no whole request.
pub(super) async fn nothing(body: &mut Incoming, idle: Duration) -> Result<(), Refusal> {
    while !body.is_end_stream() {
        match timeout(idle, body.frame()).await {
            Err(_) => {
                let detail = "the body did not arrive in time";
                return Err(Refusal::new(Reason::RequestTimeout, detail));
            }
            Ok(Some(Ok(frame))) if frame.data_ref().is_none_or(|data| data.is_empty()) => {}
            Ok(Some(Ok(_))) => return Err(Refusal::bad("a body beyond its content-length")),
            Ok(Some(Err(_)) | None) if !body.is_end_stream() => {
                return Err(Refusal::bad("the body was cut"));
            }
            Ok(Some(Err(_)) | None) => {}
        }
    }
    Ok(())
}

/// `Err(None)`: the upstream takes no more.
async fn pump(
    body: &mut Incoming,
    wire: &Wire,
    framing: Body,
    idle: Duration,
    most: Option<u64>,
) -> Result<(), Option<Refusal>> {
    let chunked = framing == Body::Chunked;
    let (mut out, mut total) = (Vec::new(), 0u64);
    // The last of a body with a length waits for the end of its stream: one that goes on is no whole request.
    let mut last = None;
    loop {
        // What is there already goes out with what came before.
        let at_hand = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
        let frame = match at_hand {
            Poll::Ready(frame) if out.len() < ENOUGH => frame,
            Poll::Ready(frame) => {
                wire.write(&out, idle).await.map_err(|_| None)?;
                out.clear();
                frame
            }
            Poll::Pending => {
                if !out.is_empty() {
                    wire.write(&out, idle).await.map_err(|_| None)?;
                    out.clear();
                }
                timeout(idle, body.frame()).await.map_err(|_| {
                    let detail = "the body did not arrive in time";
                    Some(Refusal::new(Reason::RequestTimeout, detail))
                })?
            }
        };
        let frame = match frame {
            Some(Err(_)) => return Err(Some(Refusal::bad("the body was cut"))),
            Some(Ok(frame)) => frame,
            None if body.is_end_stream() => break,
            // A reset without an error, or a connection that was given up: hyper takes both for the end of the body.
            None => return Err(Some(Refusal::bad("the body was cut"))),
        };
        match frame.into_data() {
            Ok(data) => {
                total += data.len() as u64;
                if most.is_some_and(|most| total > most) {
                    return Err(Some(Refusal::new(
                        Reason::TooLarge,
                        "the body is larger than `body_size`",
                    )));
                }
                if chunked {
                    chunked::write(&data, &mut out);
                } else if framing == Body::Length(total) && !body.is_end_stream() {
                    last = last.or(Some(data));
                } else {
                    out.extend_from_slice(&data);
                }
            }
            Err(frame) => {
                let Ok(map) = frame.into_trailers() else {
                    continue;
                };
                if !Of::Request.may_have(&map) {
                    return Err(Some(Refusal::bad(
                        "a trailer that no trailer section may have",
                    )));
                }
                if chunked {
                    out.extend_from_slice(b"0\r\n");
                    write_trailers(&map, &mut out);
                    return wire.write(&out, idle).await.map_err(|_| None);
                }
            }
        }
    }
    out.extend_from_slice(last.as_deref().unwrap_or_default());
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    wire.write(&out, idle).await.map_err(|_| None)
}
