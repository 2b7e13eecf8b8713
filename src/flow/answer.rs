//! The upstream's answer: its head read strictly, its body handed on, its connection given back when all of it was read.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::body::{Cut, CutError, Piece, Reader};
use super::state::Worker;
use super::trailers::Of;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::framing::{self, Body};
use crate::http1::head::{self, Field, HeadError, Version};
use crate::limit::Exchange;
use crate::net::Wire;
use crate::plan::Limits;
use crate::upstream::{Link, Upstream};

/// Most fields and bytes of an answer's head. Larger than what we take from clients: applications send long ones.
const HEAD_SIZE: usize = 128 << 10;
const FIELDS: usize = 256;
/// A body that is taken whole when it came with its head; one full TLS record.
const SHORT: usize = 16 << 10;
/// Interim answers before a final one.
const INTERIM: u8 = 16;

/// The head of an answer; its bytes and fields are the caller's.
#[derive(Debug)]
pub struct Head {
    /// Status.
    pub status: u16,
    /// Reason phrase, as a range of the head's bytes.
    pub phrase: std::ops::Range<u32>,
    /// The body that follows.
    pub body: Body,
    /// The connection may be used again afterwards.
    pub keep: bool,
    /// Of HTTP/1.1 or 1.0.
    pub version: Version,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ended before the first byte of an answer: a pooled one had died.
    Dead,
    /// Anything else.
    Refused(Refusal),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Dead => broken("the upstream closed the connection without an answer"),
            Fault::Refused(refusal) => refusal,
        }
    }
}

pub(super) fn broken(detail: &'static str) -> Refusal {
    Refusal::new(Reason::UpstreamBroken, detail)
}

/// Counts interim answers; a flood of them is no answer.
#[derive(Debug, Default)]
pub struct Interim(u8);

/// How long the head of an answer is waited for: without end while its request is being sent, then as long as whoever sends
/// says, from that moment on and once more after each interim answer.
#[derive(Debug, Default)]
pub struct Patience {
    wait: Cell<Option<Duration>>,
    is_over: Cell<bool>,
}

impl Patience {
    /// For a request that is sent already.
    pub fn of(wait: Duration) -> Self {
        Self {
            wait: Cell::new(Some(wait)),
            is_over: Cell::new(false),
        }
    }

    /// The request has been sent, or no more of it is taken. An answer that is under way has a clock of its own.
    pub fn begin(&self, wire: &Wire, wait: Duration) {
        self.wait.set(Some(wait));
        if !self.is_over.get() {
            wire.read_by(wait);
        }
    }

    /// The final head is there.
    pub fn end(&self) {
        self.is_over.set(true);
    }
}

/// Reads the next head, final or interim, into `bytes` and `fields`. Once its first byte is there, all of it must be within `whole`.
pub async fn head(
    wire: &Wire,
    bytes: &mut Vec<u8>,
    fields: &mut Vec<Field>,
    to_head: bool,
    interim: &mut Interim,
    patience: &Patience,
    whole: Duration,
) -> Result<Head, Fault> {
    let (mut seen, mut has_begun) = (0, false);
    loop {
        let end = head::end(wire.input.borrow().data(), &mut seen);
        match end {
            Ok(Some(n)) => {
                let mut input = wire.input.borrow_mut();
                bytes.clear();
                bytes.extend_from_slice(&input.data()[..n]);
                input.consume(n);
                if has_begun {
                    wire.read_done();
                }
                break;
            }
            Ok(None) => {
                // HTTP/0.9, or another protocol: there may never be a line end.
                let input = wire.input.borrow();
                if !input.data().iter().zip(b"HTTP/1.").all(|(c, p)| c == p) {
                    return Err(Fault::Refused(broken("an answer that is not HTTP/1")));
                }
            }
            Err(_) => {
                return Err(Fault::Refused(broken(
                    "a bare CR or LF in the head of the answer",
                )));
            }
        }
        let nothing = wire.input.borrow().is_empty();
        let filled = if nothing {
            let wait = patience.wait.get().unwrap_or(Limits::FOREVER);
            wire.fill(HEAD_SIZE, wait).await
        } else {
            if !std::mem::replace(&mut has_begun, true) {
                wire.read_by(whole);
            }
            wire.fill_by(HEAD_SIZE).await
        };
        match filled {
            Ok(0) if nothing => return Err(silent(interim)),
            Ok(0) => return Err(Fault::Refused(broken("the head of the answer was cut"))),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                return Err(Fault::Refused(Refusal::new(
                    Reason::UpstreamTimeout,
                    "the upstream did not answer in time",
                )));
            }
            Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
                return Err(Fault::Refused(broken("the head of the answer is too long")));
            }
            Err(_) if nothing => return Err(silent(interim)),
            Err(_) => {
                return Err(Fault::Refused(broken(
                    "the connection failed within the head of the answer",
                )));
            }
        }
    }
    let parsed =
        head::response(bytes, fields, FIELDS).map_err(|e| Fault::Refused(broken(detail(e))))?;
    if (100..200).contains(&parsed.status) && parsed.status != 101 {
        interim.0 += 1;
        if interim.0 > INTERIM || parsed.version == Version::Http10 {
            return Err(Fault::Refused(broken("too many interim answers")));
        }
    }
    let (body, keep) = framing::of_response(bytes, fields, parsed.version, parsed.status, to_head)
        .map_err(|d| Fault::Refused(broken(d)))?;
    Ok(Head {
        status: parsed.status,
        phrase: parsed.phrase,
        body,
        keep,
        version: parsed.version,
    })
}

/// The connection ended between two heads. After an interim answer it was not a dead one: the request has arrived, and the
/// client may have been told so.
fn silent(interim: &Interim) -> Fault {
    match interim.0 {
        0 => Fault::Dead,
        _ => Fault::Refused(broken("the connection ended after an interim answer")),
    }
}

fn detail(error: HeadError) -> &'static str {
    match error {
        HeadError::Bad(detail) => detail,
        HeadError::TooManyFields => "the answer has too many fields",
    }
}

/// The body of an answer on its way to an HTTP/2 client.
#[derive(Debug)]
pub struct Answer {
    pub(super) wire: Option<Rc<Link>>,
    /// The exchange counts until the connection is given back.
    pub(super) counted: Option<Exchange>,
    pub(super) reader: Reader,
    pub(super) worker: Rc<Worker>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) keep: bool,
    pub(super) wait: Duration,
    pub(super) length: Option<u64>,
    /// The request's body, when it is still being sent.
    pub(super) pump: Option<Pump>,
}

/// The task that sends a request's body. It sends no more when this is dropped, which is the end of the answer.
#[derive(Debug)]
pub struct Pump {
    pub(super) _stop: oneshot::Sender<()>,
    pub(super) sent: Rc<Cell<bool>>,
}

impl Answer {
    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// A short body that came with its head, whole; the connection goes back to its pool at once.
    pub fn at_hand(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.length?).ok()?;
        if length == 0 || length > SHORT {
            return None;
        }
        let wire = self.wire.as_ref()?;
        let body = Bytes::copy_from_slice(wire.input.borrow().data().get(..length)?);
        self.reader.took(wire, length);
        self.finish();
        Some(body)
    }

    /// What is known of the length.
    pub fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The next frame. When the last one is out the connection goes back to its pool.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        let Some(wire) = &self.wire else {
            return Poll::Ready(None);
        };
        let piece = match ready!(self.reader.poll(wire, cx, self.wait)) {
            Ok(piece) => piece,
            Err(Cut::Gone | Cut::Stalled | Cut::Broken(_)) => {
                self.wire = None;
                return Poll::Ready(Some(Err(CutError)));
            }
        };
        match piece {
            Piece::Data(n) => {
                let data = Bytes::copy_from_slice(&wire.input.borrow().data()[..n]);
                self.reader.took(wire, n);
                self.length = self.length.map(|l| l.saturating_sub(n as u64));
                if self.reader.is_done() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Piece::End(n) => {
                let map = (n > 0).then(|| Of::Answer.trailers(&wire.input.borrow().data()[..n]));
                wire.input.borrow_mut().consume(n);
                match map {
                    Some(Err(_)) => {
                        self.wire = None;
                        Poll::Ready(Some(Err(CutError)))
                    }
                    Some(Ok(map)) if !map.is_empty() => {
                        self.finish();
                        Poll::Ready(Some(Ok(Frame::trailers(map))))
                    }
                    Some(Ok(_)) | None => {
                        self.finish();
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    /// Gives the connection back when the request was sent to its end too.
    pub(super) fn finish(&mut self) {
        self.counted = None;
        let sent = self.pump.take().is_none_or(|pump| pump.sent.get());
        if let Some(wire) = self.wire.take().and_then(|wire| Rc::try_unwrap(wire).ok())
            && self.keep
            && sent
        {
            self.worker.pool.give(&self.upstream, wire);
        }
    }
}
