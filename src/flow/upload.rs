//! Bodies between an HTTP/2 upstream and us, under the limits that bodies have everywhere: what a request's body may do, how long
//! the answer's head may take, and how long the answer may be silent. Bytes pass as they come.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::time::{Instant, sleep_until};

use super::body::{Carried, CutError, discard};
use super::state::Worker;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Timer;
use crate::plan::Limits;

/// Whether a message belongs to gRPC. Its streams are conversations: either side may be silent for hours, as in a tunnel.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// How long an answer with these fields may be silent.
pub(super) fn silence(headers: &HeaderMap, limits: &Limits) -> Duration {
    let kind = headers.get(http::header::CONTENT_TYPE);
    let events = kind.is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    if events || is_grpc(headers) {
        return Limits::FOREVER;
    }
    limits.answer
}

/// What has become of a request's body: it tells, and whoever waits for the answer listens.
#[derive(Debug)]
pub(super) struct Progress {
    stage: Cell<Stage>,
    refused: Cell<Option<Refusal>>,
    waiting: RefCell<Option<Waker>>,
}

/// Whom a request waits for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The upstream, to take what it was handed then.
    Upstream(Instant),
    /// The client, to send more.
    Client,
    /// The answer: all was handed over then.
    Sent(Instant),
}

impl Progress {
    /// A request that is about to be sent.
    pub fn begin(has_body: bool) -> Rc<Self> {
        let now = Instant::now();
        let stage = if has_body {
            Stage::Upstream(now)
        } else {
            Stage::Sent(now)
        };
        Rc::new(Self {
            stage: Cell::new(stage),
            refused: Cell::new(None),
            waiting: RefCell::default(),
        })
    }

    /// Whether all of the request was handed over.
    pub fn is_sent(&self) -> bool {
        matches!(self.stage.get(), Stage::Sent(_))
    }

    fn tell(&self) {
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    fn sent(&self) {
        if !self.is_sent() {
            self.stage.set(Stage::Sent(Instant::now()));
            self.tell();
        }
    }

    fn refuse(&self, refusal: Refusal) {
        self.refused.set(Some(refusal));
        self.tell();
    }

    /// Waits for the head of the answer: as long as the body moves, and then for `answer`.
    pub async fn head<T>(
        &self,
        send: impl Future<Output = Result<T, Refusal>>,
        limits: &Limits,
    ) -> Result<T, Refusal> {
        let (mut send, mut alarm) = (pin!(send), pin!(sleep_until(Instant::now())));
        std::future::poll_fn(|cx| {
            let polled = send.as_mut().poll(cx);
            if let Some(refusal) = self.refused.get() {
                return Poll::Ready(Err(refusal));
            }
            if polled.is_ready() {
                return polled;
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            loop {
                let due = match self.stage.get() {
                    Stage::Upstream(since) => since + limits.body_idle,
                    // The body has its own clock; this one only looks again.
                    Stage::Client => Instant::now() + limits.body_idle,
                    Stage::Sent(since) => since + limits.answer,
                };
                if due <= Instant::now() {
                    return Poll::Ready(Err(Refusal::new(
                        Reason::UpstreamTimeout,
                        match self.stage.get() {
                            Stage::Sent(_) => "the upstream did not answer in time",
                            Stage::Upstream(_) | Stage::Client => {
                                "the upstream did not take the body in time"
                            }
                        },
                    )));
                }
                alarm.as_mut().reset(due);
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// The body of a request on its way to an HTTP/2 upstream: `body_idle` and `body_size` hold.
#[derive(Debug)]
pub struct Upload {
    worker: Rc<Worker>,
    body: Carried,
    idle: Duration,
    most: Option<u64>,
    total: u64,
    timer: Timer,
    progress: Rc<Progress>,
}

impl Upload {
    /// A body that tells `progress` how far it is; nothing comes of an empty one.
    pub(super) fn carry(
        worker: &Rc<Worker>,
        body: Carried,
        idle: Duration,
        most: Option<u64>,
        progress: &Rc<Progress>,
    ) -> Carried {
        if body.is_end_stream() {
            return Carried::Empty;
        }
        Carried::Upload(Box::new(Self {
            worker: Rc::clone(worker),
            body,
            idle,
            most,
            total: 0,
            timer: Timer::default(),
            progress: Rc::clone(progress),
        }))
    }

    pub(super) fn body(&self) -> &Carried {
        &self.body
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.progress.stage.set(Stage::Client);
            self.timer.arm(self.idle);
            return match self.timer.poll(cx) {
                Poll::Ready(()) => self.cut(Refusal::new(
                    Reason::RequestTimeout,
                    "the body did not arrive in time",
                )),
                Poll::Pending => Poll::Pending,
            };
        };
        self.timer.disarm();
        match next {
            None => {
                self.progress.sent();
                Poll::Ready(None)
            }
            Some(Err(_)) => self.cut(Refusal::bad("the body was cut")),
            Some(Ok(frame)) => {
                self.total += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.most.is_some_and(|most| self.total > most) {
                    return self.cut(Refusal::new(
                        Reason::TooLarge,
                        "the body is larger than `body_size`",
                    ));
                }
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.progress.sent();
                } else {
                    self.progress.stage.set(Stage::Upstream(Instant::now()));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn cut(&mut self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        self.progress.refuse(refusal);
        let unread = std::mem::replace(&mut self.body, Carried::Empty);
        self.worker.spawn("discard", discard(unread));
        Poll::Ready(Some(Err(CutError)))
    }
}

/// An answer that is cut when its upstream says nothing for too long.
#[derive(Debug)]
pub struct Timed {
    body: Carried,
    wait: Duration,
    timer: Timer,
}

impl Timed {
    /// The body, of which each piece must come within `wait`.
    pub(super) fn carry(body: Carried, wait: Duration) -> Carried {
        Carried::Timed(Box::new(Self {
            body,
            wait,
            timer: Timer::default(),
        }))
    }

    pub(super) fn body(&self) -> &Carried {
        &self.body
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.timer.disarm();
            return polled;
        }
        self.timer.arm(self.wait);
        match self.timer.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(CutError))),
            Poll::Pending => Poll::Pending,
        }
    }
}
