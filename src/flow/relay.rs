//! The exchange with the upstream: the request's body one way, the answer the other, side by side in one task.

use std::cell::Cell;
use std::time::Duration;

use super::answer::{self, Fault, Interim, Patience, broken};
use super::body::{Cut, Piece, Reader};
use super::h1::{Room, Stop, Visit};
use super::intake::{Intake, Line};
use super::response::{self, Inbound};
use super::trailers::{Of, write_trailers};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::chunked;
use crate::http1::field::Name;
use crate::http1::framing::{self, Body};
use crate::http1::head::Version;
use crate::net::{Gone, Wire};
use crate::plan::Limits;

/// Input that is read ahead while an answer is under way; a client that sends more has to wait.
const AHEAD: usize = 8 << 10;

/// How an exchange with the upstream ended.
pub(super) enum Ended {
    /// The answer was passed on whole. `keep`: the upstream keeps the connection; `sent`: all of the request was sent;
    /// `close`: the client was told that its connection ends.
    Whole { keep: bool, sent: bool, close: bool },
    /// Both sides agreed on a tunnel.
    Tunnel,
}

/// Sends the request and passes the answer on, side by side, watching that the client is there.
#[allow(
    clippy::too_many_arguments,
    reason = "one call, and each is a part of the exchange"
)]
pub(super) async fn attempt(
    visit: &Visit<'_>,
    intake: &Intake<'_>,
    up: &Wire,
    request: &[u8],
    upgrade: Option<&[u8]>,
    inbound: &Inbound<'_>,
    withdrawn: impl Future<Output = ()>,
    room: &mut Room<'_>,
) -> Result<Ended, Stop> {
    let sent = Cell::new(false);
    let limits = &visit.plan.limits;
    let patience = match visit.body.is_empty() {
        true => Patience::of(limits.answer),
        false => Patience::default(),
    };
    let feed = async {
        match pump(visit, up, request).await {
            Ok(()) => {
                sent.set(true);
                if !visit.body.is_empty() {
                    patience.begin(up, limits.answer);
                }
                gone(visit).await
            }
            Err(Some(stop)) => stop,
            // The upstream takes no more; its answer may still come.
            Err(None) => {
                patience.begin(up, limits.body_idle);
                gone(visit).await
            }
        }
    };
    tokio::select! {
        biased; // What was withdrawn while it waited for a connection is not sent.
        () = withdrawn => Err(Stop::Cut),
        stop = feed => Err(stop),
        ended = relay(visit, intake, up, upgrade, inbound, room, &patience, &sent) => ended,
    }
}

/// Waits until the client is gone, or has ended its side and is told nothing for too long.
pub(super) async fn gone(visit: &Visit<'_>) -> Stop {
    match visit.client.gone(AHEAD, visit.plan.limits.body_idle).await {
        Gone::Vanished => Stop::Cut,
        Gone::Silent => Refusal::new(
            Reason::UpstreamTimeout,
            "the client has ended its side, and the upstream is silent",
        )
        .into(),
    }
}

/// Sends head and body. `Err(None)`: the upstream does not take it.
async fn pump(visit: &Visit<'_>, up: &Wire, request: &[u8]) -> Result<(), Option<Stop>> {
    let limits = &visit.plan.limits;
    let client = visit.client;
    if visit.body.is_empty() {
        return up.write(request, limits.body_idle).await.map_err(|_| None);
    }
    let mut reader = Reader::new(visit.body);
    let mut out = Vec::with_capacity(request.len() + 1024);
    out.extend_from_slice(request);
    loop {
        let piece = match reader.at_hand(client).map_err(|cut| Some(stopped(cut)))? {
            Some(piece) => piece,
            None => {
                up.write(&out, limits.body_idle).await.map_err(|_| None)?;
                out.clear();
                reader
                    .next(client, limits.body_idle)
                    .await
                    .map_err(|cut| Some(stopped(cut)))?
            }
        };
        match piece {
            Piece::Data(n) => {
                visit.bytes_in.set(visit.bytes_in.get() + n as u64);
                if limits
                    .body_size
                    .is_some_and(|most| visit.bytes_in.get() > most)
                {
                    return Err(Some(
                        Refusal::new(Reason::TooLarge, "the body is larger than `body_size`")
                            .into(),
                    ));
                }
                pass(
                    client,
                    up,
                    n,
                    visit.body == Body::Chunked,
                    &mut out,
                    limits.body_idle,
                )
                .await
                .map_err(|_| None)?;
                reader.took(client, n);
                if reader.is_done() {
                    break;
                }
            }
            Piece::End(n) => {
                if visit.body == Body::Chunked {
                    let map = trailers_of(client, n, Of::Request)
                        .map_err(|d| Some(Refusal::bad(d).into()))?;
                    out.extend_from_slice(b"0\r\n");
                    write_trailers(&map, &mut out);
                }
                break;
            }
        }
    }
    up.write(&out, limits.body_idle).await.map_err(|_| None)
}

/// The trailer section of `n` bytes at the front of the input; 0 for none.
fn trailers_of(wire: &Wire, n: usize, of: Of) -> Result<http::HeaderMap, &'static str> {
    if n == 0 {
        return Ok(http::HeaderMap::new());
    }
    let map = of.trailers(&wire.input.borrow().data()[..n]);
    wire.input.borrow_mut().consume(n);
    map
}

/// Small pieces are gathered in `out`, so that head and body are one write; larger ones go straight from the input.
const STRAIGHT: usize = 8 << 10;

/// Passes `n` bytes of data from the front of one input on, as a chunk or as they are. They are not consumed.
async fn pass(
    from: &Wire,
    to: &Wire,
    n: usize,
    chunked: bool,
    out: &mut Vec<u8>,
    wait: Duration,
) -> std::io::Result<()> {
    if chunked {
        chunked::write(&from.input.borrow().data()[..n], out);
    } else if n < STRAIGHT {
        out.extend_from_slice(&from.input.borrow().data()[..n]);
    } else {
        if !out.is_empty() {
            to.write(out, wait).await?;
            out.clear();
        }
        let mut done = 0;
        return std::future::poll_fn(|cx| {
            to.poll_write(cx, &from.input.borrow().data()[..n], &mut done, wait)
        })
        .await;
    }
    if out.len() >= super::body::WINDOW {
        to.write(out, wait).await?;
        out.clear();
    }
    Ok(())
}

/// A request body that was cut.
pub(super) fn stopped(cut: Cut) -> Stop {
    match cut {
        Cut::Gone => Stop::Cut,
        Cut::Stalled => {
            Refusal::new(Reason::RequestTimeout, "the body did not arrive in time").into()
        }
        Cut::Broken(detail) => Refusal::bad(detail).into(),
    }
}

/// Reads the answer and passes it on.
#[allow(
    clippy::too_many_arguments,
    reason = "one call, and each is a part of the exchange"
)]
async fn relay(
    visit: &Visit<'_>,
    intake: &Intake<'_>,
    up: &Wire,
    upgrade: Option<&[u8]>,
    inbound: &Inbound<'_>,
    room: &mut Room<'_>,
    patience: &Patience,
    sent: &Cell<bool>,
) -> Result<Ended, Stop> {
    let limits = &visit.plan.limits;
    let mut interim = Interim::default();
    let to_head = intake.method == "HEAD";
    loop {
        let head = answer::head(
            up,
            room.answer,
            room.answer_fields,
            to_head,
            &mut interim,
            patience,
            limits.answer,
        )
        .await
        .map_err(|fault| match fault {
            Fault::Dead => Stop::Dead,
            Fault::Refused(refusal) => Stop::Refused(refusal),
        })?;
        let (bytes, fields) = (&*room.answer, &*room.answer_fields);
        let lines = fields.iter().map(|f| Line {
            known: f.known,
            underscore: f.underscore,
            name: f.name(bytes),
            value: f.value(bytes),
        });
        let out = &mut *room.out;
        response::begin(
            out,
            head.status,
            &bytes[head.phrase.start as usize..head.phrase.end as usize],
        );
        inbound.fields(lines.clone(), |name, value| {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        });
        match head.status {
            101 => {
                let Some(asked) = upgrade else {
                    return Err(broken("the upstream switched protocols unasked").into());
                };
                let agreed =
                    framing::agreed_upgrade(bytes, fields, head.version).map_err(broken)?;
                if !asked.eq_ignore_ascii_case(agreed) {
                    return Err(
                        broken("the upstream switched to another protocol than asked").into(),
                    );
                }
                for part in [b"Connection: Upgrade\r\nUpgrade: ", agreed, b"\r\n\r\n"] {
                    out.extend_from_slice(part);
                }
                visit.begun.set(true);
                visit.status.set(101);
                visit
                    .client
                    .write(out, limits.body_idle)
                    .await
                    .map_err(|_| Stop::Cut)?;
                return Ok(Ended::Tunnel);
            }
            100..200 => {
                if visit.version == Version::Http11 {
                    out.extend_from_slice(b"\r\n");
                    visit
                        .client
                        .write(out, limits.body_idle)
                        .await
                        .map_err(|_| Stop::Cut)?;
                }
                continue;
            }
            _ => {}
        }
        let body = match head.body {
            Body::Chunked | Body::Close if visit.version == Version::Http10 => Body::Close,
            Body::Chunked | Body::Close => Body::Chunked,
            Body::None | Body::Length(_) => head.body,
        };
        let announced = framing::announced_length(bytes, fields).filter(|_| head.status != 204);
        let close = !visit.keep || visit.conn.is_leaving(visit.worker);
        response::end(out, body, announced, close);
        let streams = lines
            .clone()
            .any(|l| l.known == Name::ContentType && l.value.starts_with(b"text/event-stream"));
        let wait = if streams {
            Limits::FOREVER
        } else {
            limits.answer
        };
        visit.status.set(head.status);
        patience.end();
        relay_body(visit, up, head.body, body == Body::Chunked, out, wait).await?;
        return Ok(Ended::Whole {
            keep: head.keep,
            sent: sent.get(),
            close,
        });
    }
}

/// An answer that broke off. While none of it is out it can still be refused; a connection that ends without a byte would
/// look idle to the client, which may then send its request again.
fn torn(visit: &Visit<'_>) -> Stop {
    if visit.begun.get() {
        return Stop::Cut;
    }
    broken("the answer broke off").into()
}

/// Passes the answer's body on; `out` holds the head, which goes out with the first of it.
async fn relay_body(
    visit: &Visit<'_>,
    up: &Wire,
    body: Body,
    chunked: bool,
    out: &mut Vec<u8>,
    wait: Duration,
) -> Result<(), Stop> {
    let idle = visit.plan.limits.body_idle;
    let client = visit.client;
    let mut reader = Reader::new(body);
    loop {
        let piece = match reader.at_hand(up).map_err(|_| torn(visit))? {
            Some(piece) => piece,
            None => next(visit, &mut reader, up, out, wait).await?,
        };
        match piece {
            Piece::Data(n) => {
                visit.bytes_out.set(visit.bytes_out.get() + n as u64);
                pass(up, client, n, chunked, out, idle)
                    .await
                    .map_err(|_| Stop::Cut)?;
                if out.is_empty() {
                    visit.begun.set(true);
                }
                reader.took(up, n);
                if reader.is_done() && !chunked {
                    break;
                }
            }
            Piece::End(n) => {
                let map = trailers_of(up, n, Of::Answer).map_err(|_| torn(visit))?;
                if chunked {
                    out.extend_from_slice(b"0\r\n");
                    write_trailers(&map, out);
                }
                break;
            }
        }
    }
    visit.begun.set(true);
    client.write(out, idle).await.map_err(|_| Stop::Cut)
}

/// Waits for more of the answer; what is gathered goes out first, unless more is there at once.
async fn next(
    visit: &Visit<'_>,
    reader: &mut Reader,
    up: &Wire,
    out: &mut Vec<u8>,
    wait: Duration,
) -> Result<Piece, Stop> {
    if !out.is_empty() {
        let ready =
            std::future::poll_fn(|cx| std::task::Poll::Ready(reader.poll(up, cx, wait))).await;
        if let std::task::Poll::Ready(piece) = ready {
            return piece.map_err(|_| torn(visit));
        }
        visit.begun.set(true);
        visit
            .client
            .write(out, visit.plan.limits.body_idle)
            .await
            .map_err(|_| Stop::Cut)?;
        out.clear();
    }
    reader.next(up, wait).await.map_err(|_| Stop::Cut)
}
