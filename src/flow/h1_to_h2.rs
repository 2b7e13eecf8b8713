//! An HTTP/1.1 client in front of an HTTP/2 upstream: the uncommon crossing, in one place.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::broken;
use super::body::{Carried, Piece, Reader};
use super::h1::{Done, Stop, Visit};
use super::h2_head::{h2_request, strip};
use super::intake::Line;
use super::outbound::Outbound;
use super::relay::{gone, stopped};
use super::response::{self, Inbound};
use super::trailers::{Of, write_trailers};
use super::upload::{self, Progress, Upload};
use crate::base::refusal::{Reason, Refusal};
use crate::http1::chunked;
use crate::http1::field::Name;
use crate::http1::framing::Body;
use crate::http1::head;
use crate::plan::Limits;

/// Pieces of a body that wait for the upstream.
const AHEAD: usize = 4;

/// Forwards the request and writes the answer.
pub(super) async fn forward<'l>(
    visit: &Visit<'_>,
    head: &Outbound<'_>,
    inbound: &Inbound<'_>,
    lines: impl Iterator<Item = Line<'l>> + Clone,
    out: &mut Vec<u8>,
) -> Result<Done, Stop> {
    let limits = &visit.plan.limits;
    let (pieces, body) = mpsc::channel(AHEAD);
    let whole = Rc::new(Cell::new(false));
    let body = if visit.body.is_empty() {
        Carried::Empty
    } else {
        Carried::Pieces(body, Rc::clone(&whole))
    };
    let progress = Progress::begin(!visit.body.is_empty());
    let grpc = lines
        .clone()
        .any(|l| l.known == Name::ContentType && l.value.starts_with(b"application/grpc"));
    let idle = if grpc {
        Limits::FOREVER
    } else {
        limits.body_idle
    };
    let make = |body| {
        let mut request = h2_request(head, lines.clone(), body)?;
        *request.version_mut() = Version::HTTP_2;
        Ok::<_, Refusal>(request)
    };
    // The clock and the size of what the client sends are watched where it is read.
    let body = Upload::carry(visit.worker, body, Limits::FOREVER, None, &progress);
    let send = visit.worker.h2c.send(
        head.permit,
        &head.route.upstream,
        make(body)?,
        || {
            head.may_repeat()
                .then(|| make(Carried::Empty).ok())
                .flatten()
        },
        limits.dial(),
    );
    let answer = async {
        let answer = progress.head(send, limits).await?;
        relay(visit, head, inbound, answer, out, &progress).await
    };
    let feed = async {
        match pump(visit, &pieces, idle).await {
            Ok(()) => {
                whole.set(true);
                drop(pieces);
                gone(visit).await
            }
            Err(stop) => stop,
        }
    };
    tokio::select! { biased; stop = feed => Err(stop), done = answer => done }
}

async fn pump(
    visit: &Visit<'_>,
    pieces: &mpsc::Sender<Frame<Bytes>>,
    idle: Duration,
) -> Result<(), Stop> {
    let mut reader = Reader::new(visit.body);
    while !visit.body.is_empty() {
        match reader.next(visit.client, idle).await.map_err(stopped)? {
            Piece::Data(n) => {
                visit.bytes_in.set(visit.bytes_in.get() + n as u64);
                if visit
                    .plan
                    .limits
                    .body_size
                    .is_some_and(|most| visit.bytes_in.get() > most)
                {
                    return Err(Refusal::new(
                        Reason::TooLarge,
                        "the body is larger than `body_size`",
                    )
                    .into());
                }
                let data = Bytes::copy_from_slice(&visit.client.input.borrow().data()[..n]);
                reader.took(visit.client, n);
                if pieces.send(Frame::data(data)).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            Piece::End(0) => return Ok(()),
            Piece::End(n) => {
                let map = Of::Request.trailers(&visit.client.input.borrow().data()[..n]);
                visit.client.input.borrow_mut().consume(n);
                let _ = pieces
                    .send(Frame::trailers(map.map_err(Refusal::bad)?))
                    .await;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn relay(
    visit: &Visit<'_>,
    head: &Outbound<'_>,
    inbound: &Inbound<'_>,
    answer: http::Response<hyper::body::Incoming>,
    out: &mut Vec<u8>,
    progress: &Progress,
) -> Result<Done, Stop> {
    let (mut parts, mut body) = answer.into_parts();
    let length = parts
        .headers
        .remove(http::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let wait = upload::silence(&parts.headers, &visit.plan.limits);
    strip(&mut parts.headers, inbound)?;
    let status = parts.status.as_u16();
    let framing = match length {
        _ if head.intake.method == "HEAD" || matches!(status, 204 | 304) => Body::None,
        Some(n) => Body::Length(n),
        None if body.is_end_stream() => Body::Length(0),
        None if visit.version == head::Version::Http10 => Body::Close,
        None => Body::Chunked,
    };
    let close = !visit.keep || visit.conn.is_leaving(visit.worker);
    response::begin(
        out,
        status,
        parts.status.canonical_reason().unwrap_or("").as_bytes(),
    );
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    response::end(out, framing, length.filter(|_| status != 204), close);
    visit.status.set(status);
    visit.begun.set(true);
    let idle = visit.plan.limits.body_idle;
    visit.client.write(out, idle).await.map_err(|_| Stop::Cut)?;
    out.clear();
    let (mut ended, mut left) = (
        false,
        match framing {
            Body::None => Some(0),
            Body::Length(n) => Some(n),
            Body::Chunked | Body::Close => None,
        },
    );
    while let Some(frame) = timeout(wait, body.frame()).await.map_err(|_| Stop::Cut)? {
        match frame
            .map_err(|_| Stop::Refused(broken("the upstream cut its answer")))?
            .into_data()
        {
            Ok(data) if left.is_some_and(|left| data.len() as u64 > left) => return Err(Stop::Cut),
            Ok(data) if framing == Body::Chunked => chunked::write(&data, out),
            Ok(data) => {
                left = left.map(|left| left - data.len() as u64);
                out.extend_from_slice(&data);
            }
            Err(frame) => {
                if let (Ok(map), Body::Chunked) = (frame.into_trailers(), framing) {
                    if !Of::Answer.may_have(&map) {
                        return Err(Stop::Cut);
                    }
                    out.extend_from_slice(b"0\r\n");
                    write_trailers(&map, out);
                    ended = true;
                }
            }
        }
        visit
            .bytes_out
            .set(visit.bytes_out.get() + out.len() as u64);
        visit.client.write(out, idle).await.map_err(|_| Stop::Cut)?;
        out.clear();
    }
    if left.is_some_and(|left| left > 0) {
        return Err(Stop::Cut);
    }
    if framing == Body::Chunked && !ended {
        visit
            .client
            .write(b"0\r\n\r\n", idle)
            .await
            .map_err(|_| Stop::Cut)?;
    }
    // What is left of the request's body is not the next request.
    Ok(if close || framing == Body::Close || !progress.is_sent() {
        Done::Linger
    } else {
        Done::Again
    })
}
