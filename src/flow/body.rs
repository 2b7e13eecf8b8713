//! Bodies as they arrive, from either side, and the one body type that HTTP/2 carries.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::stall;
use super::trailers::Of;
use crate::base::refusal::{Reason, Refusal};
use crate::http1::chunked::{Decoder, Step};
use crate::http1::framing;
use crate::net::Wire;

/// Input kept while a body is read: framing and trailers must fit.
pub const WINDOW: usize = 64 << 10;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The connection ended or failed.
    Gone,
    /// Nothing came in time.
    Stalled,
    /// Its framing is broken; constant text.
    Broken(&'static str),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of data stand at the front of the wire's input.
    Data(usize),
    /// The body has ended; so many bytes of trailer section stand at the front of the input (0: none).
    End(usize),
}

/// Reads one body from a wire.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Length(u64),
    Chunked(Decoder),
    Close,
    Done,
}

impl Reader {
    /// A reader for the body that a head announced.
    pub fn new(body: framing::Body) -> Self {
        let kind = match body {
            framing::Body::None | framing::Body::Length(0) => Kind::Done,
            framing::Body::Length(n) => Kind::Length(n),
            framing::Body::Chunked => Kind::Chunked(Decoder::default()),
            framing::Body::Close => Kind::Close,
        };
        Self { kind }
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.kind, Kind::Done)
    }

    /// The next piece; waits for it at most `wait`.
    pub async fn next(&mut self, wire: &Wire, wait: Duration) -> Result<Piece, Cut> {
        std::future::poll_fn(|cx| self.poll(wire, cx, wait)).await
    }

    /// The next piece from what is there already; `None` when that needs more input.
    pub fn at_hand(&mut self, wire: &Wire) -> Result<Option<Piece>, Cut> {
        let mut input = wire.input.borrow_mut();
        loop {
            let piece = match &mut self.kind {
                Kind::Done => Piece::End(0),
                _ if input.is_empty() => return Ok(None),
                Kind::Length(left) => Piece::Data(
                    usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len()),
                ),
                Kind::Close => Piece::Data(input.len()),
                Kind::Chunked(decoder) => match decoder.step(input.data()).map_err(Cut::Broken)? {
                    Step::More => return Ok(None),
                    Step::Skip(n) => {
                        input.consume(n);
                        continue;
                    }
                    Step::Data(n) => Piece::Data(n),
                    Step::End(n) => {
                        self.kind = Kind::Done;
                        // Two bytes are the empty trailer section.
                        if n <= 2 {
                            input.consume(n);
                            Piece::End(0)
                        } else {
                            Piece::End(n)
                        }
                    }
                },
            };
            return Ok(Some(piece));
        }
    }

    /// As [`Reader::next`], polled.
    pub fn poll(
        &mut self,
        wire: &Wire,
        cx: &mut Context<'_>,
        wait: Duration,
    ) -> Poll<Result<Piece, Cut>> {
        loop {
            if let Some(piece) = self.at_hand(wire)? {
                return Poll::Ready(Ok(piece));
            }
            match ready!(wire.poll_fill(cx, WINDOW, wait)) {
                Ok(0) if matches!(self.kind, Kind::Close) => self.kind = Kind::Done,
                Ok(0) => return Poll::Ready(Err(Cut::Gone)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Err(Cut::Stalled));
                }
                Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(Cut::Broken("framing that never ends")));
                }
                Err(_) => return Poll::Ready(Err(Cut::Gone)),
            }
        }
    }

    /// Takes `n` bytes of data from the wire's input.
    pub fn took(&mut self, wire: &Wire, n: usize) {
        wire.input.borrow_mut().consume(n);
        match &mut self.kind {
            Kind::Length(left) => {
                *left -= (n as u64).min(*left);
                if *left == 0 {
                    self.kind = Kind::Done;
                }
            }
            Kind::Chunked(decoder) => decoder.took(n),
            Kind::Close | Kind::Done => {}
        }
    }
}

/// Reads a small body whole: a form of ours.
pub async fn gather(
    wire: &Wire,
    body: framing::Body,
    most: usize,
    wait: Duration,
) -> Result<Vec<u8>, Refusal> {
    let (mut reader, mut all) = (Reader::new(body), Vec::new());
    loop {
        let piece = reader.next(wire, wait).await.map_err(|cut| match cut {
            Cut::Gone => Refusal::bad("the body was cut"),
            Cut::Stalled => Refusal::new(Reason::RequestTimeout, "the body did not arrive in time"),
            Cut::Broken(detail) => Refusal::bad(detail),
        })?;
        match piece {
            Piece::Data(n) if all.len() + n > most => {
                return Err(Refusal::new(Reason::TooLarge, "a form that is too large"));
            }
            Piece::Data(n) => {
                all.extend_from_slice(&wire.input.borrow().data()[..n]);
                reader.took(wire, n);
            }
            Piece::End(n) => {
                if n > 0 {
                    Of::Request
                        .trailers(&wire.input.borrow().data()[..n])
                        .map_err(Refusal::bad)?;
                }
                wire.input.borrow_mut().consume(n);
                return Ok(all);
            }
        }
    }
}

/// What an HTTP/2 stream carries towards its receiver, in either direction.
#[derive(Debug)]
pub enum Carried {
    /// Nothing.
    Empty,
    /// A page of ours.
    Full(Option<Bytes>),
    /// The body of an HTTP/2 answer, passed on as it is.
    Incoming(Incoming),
    /// The body of an HTTP/2 request, which is whole only when its stream says so: hyper takes a reset without an error, and a
    /// connection that it gives up itself, for the end of a body.
    Request(Incoming),
    /// The answer of an HTTP/1.1 upstream.
    Answer(Box<super::answer::Answer>),
    /// Pieces from an HTTP/1.1 client on their way to an HTTP/2 upstream. Their end is the body's end only when the cell says
    /// so: a sender that was dropped is a body that was cut.
    Pieces(mpsc::Receiver<Frame<Bytes>>, Rc<Cell<bool>>),
    /// An answer that is counted, as its stream is, until it is dropped.
    Sent(Box<super::ending::Sent>),
    /// A body that is cut when the permission for it does not stand any more.
    Watched(Box<Carried>, Box<super::standing::Standing>),
    /// A request's body for an HTTP/2 upstream, under its limits.
    Upload(Box<super::upload::Upload>),
    /// The answer of an HTTP/2 upstream, which may be silent for only so long.
    Timed(Box<super::upload::Timed>),
}

/// A body that was cut; hyper resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut")]
pub struct CutError;

impl Body for Carried {
    type Data = Bytes;
    type Error = CutError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Request(body) => {
                let polled = Pin::new(&mut *body).poll_frame(cx);
                stall::asked(polled.is_pending());
                polled.map(|frame| match frame {
                    None if body.is_end_stream() => None,
                    Some(Ok(frame))
                        if frame.trailers_ref().is_none_or(|t| Of::Request.may_have(t)) =>
                    {
                        Some(Ok(frame))
                    }
                    Some(_) | None => Some(Err(CutError)),
                })
            }
            Self::Incoming(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                stall::asked(polled.is_pending());
                polled.map(|frame| match frame? {
                    Ok(frame)
                        if frame
                            .trailers_ref()
                            .is_some_and(|t| !Of::Answer.may_have(t)) =>
                    {
                        Some(Err(CutError))
                    }
                    Ok(frame) => Some(Ok(frame)),
                    Err(_) => Some(Err(CutError)),
                })
            }
            Self::Answer(answer) => {
                let polled = answer.poll_frame(cx);
                stall::asked(polled.is_pending());
                polled
            }
            Self::Pieces(receiver, whole) => receiver.poll_recv(cx).map(|frame| match frame {
                Some(frame) => Some(Ok(frame)),
                None => (!whole.get()).then_some(Err(CutError)),
            }),
            Self::Sent(sent) => sent.poll_frame(cx),
            Self::Upload(upload) => upload.poll_frame(cx),
            Self::Timed(timed) => timed.poll_frame(cx),
            Self::Watched(inner, standing) => match standing.poll_ended(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(CutError))),
                Poll::Pending => Pin::new(&mut **inner).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Full(None) => true,
            Self::Full(Some(_)) | Self::Pieces(..) => false,
            Self::Incoming(body) | Self::Request(body) => body.is_end_stream(),
            Self::Answer(answer) => answer.is_done(),
            Self::Upload(upload) => upload.body().is_end_stream(),
            Self::Timed(timed) => timed.body().is_end_stream(),
            Self::Sent(sent) => sent.body().is_end_stream(),
            Self::Watched(inner, _) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Full(None) => SizeHint::with_exact(0),
            Self::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) | Self::Request(body) => body.size_hint(),
            Self::Answer(answer) => answer.size_hint(),
            Self::Upload(upload) => upload.body().size_hint(),
            Self::Timed(timed) => timed.body().size_hint(),
            Self::Pieces(..) => SizeHint::default(),
            Self::Sent(sent) => sent.body().size_hint(),
            Self::Watched(inner, _) => inner.size_hint(),
        }
    }
}

/// Reads what is left of a request's body that nobody wants and throws it away, within bounds: a stream that is reset while its
/// client still sends makes some clients drop the answer that they have.
pub async fn discard(mut body: Carried) {
    let mut left = DISCARDED;
    let gone = async {
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(1, |data| data.len().max(1)));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
}

/// Bytes of a refused body that are read: more than a stream's window, and then some.
const DISCARDED: usize = 4 << 20;
