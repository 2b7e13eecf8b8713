//! HTTP/2 in clear with prior knowledge, for gRPC services: one multiplexed connection per upstream and data thread.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::Upstream;
use super::dial::proven;
use super::open::{Bounds, Open};
use crate::access::Permit;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Stream;
use crate::observe::{Log, Metrics, contained};

/// How long a request waits for the connection that another one opens, and then opens its own: whether the service takes it is told
/// no later than that to anybody.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often a request is sent at most; the last time on a connection that nobody else uses, so that nobody can
/// wear it out.
const TIMES: u32 = 3;

/// Spawns connections and hyper's tasks on this data thread; a panic is counted and told.
#[derive(Clone, Debug)]
struct Here {
    log: Log,
    metrics: Arc<Metrics>,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        let Self { log, metrics } = self.clone();
        tokio::task::spawn_local(async move {
            drop(contained("h2c", &log, &metrics, future).await);
        });
    }
}

/// The h2c connections of one data thread. `B` is the body that requests carry.
#[derive(Debug)]
pub struct H2cPool<B> {
    open: RefCell<HashMap<u64, SendRequest<B>>>,
    /// The services to which somebody opens one now.
    opening: RefCell<HashSet<u64>>,
    /// He has, or cannot.
    opened: Notify,
    here: Here,
    count: Arc<Open>,
}

impl<B> H2cPool<B> {
    /// A pool whose tasks tell of a panic there.
    pub fn new(log: Log, metrics: Arc<Metrics>, count: Arc<Open>) -> Self {
        Self {
            open: RefCell::default(),
            opening: RefCell::default(),
            opened: Notify::new(),
            here: Here { log, metrics },
            count,
        }
    }
}

/// Somebody opens a connection to this service, until this is dropped.
struct Opening<'a, B> {
    pool: &'a H2cPool<B>,
    upstream: u64,
}

impl<B> Drop for Opening<'_, B> {
    fn drop(&mut self) {
        self.pool.opening.borrow_mut().remove(&self.upstream);
        self.pool.opened.notify_waiters();
    }
}

impl<B> H2cPool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Sends a permitted request and waits for the head of its answer. On a connection that proves dead it is sent again
    /// when nothing of it was sent, or when `again` makes another one of it.
    pub async fn send(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        mut request: http::Request<B>,
        again: impl Fn() -> Option<http::Request<B>>,
        bounds: Bounds,
    ) -> Result<http::Response<Incoming>, Refusal> {
        let mut left = TIMES;
        loop {
            left -= 1;
            let (mut sender, reused) = match left {
                0 => (Box::pin(self.own(upstream, bounds)).await?, false),
                _ => self.sender(upstream, bounds).await?,
            };
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.forget(upstream.id, &sender);
            let unsent = failed.take_message();
            let next = unsent.or_else(|| reused.then(&again).flatten());
            request = match next {
                Some(next) if left > 0 => next,
                Some(_) | None => {
                    return Err(Refusal::new(
                        Reason::UpstreamBroken,
                        "the HTTP/2 exchange with the upstream failed",
                    ));
                }
            };
        }
    }

    /// Begins no request any more on connections that are closed, or whose service is not there any more; those that run go on.
    pub fn sweep(&self, is_there: impl Fn(u64) -> bool) {
        let mut open = self.open.borrow_mut();
        open.retain(|id, sender| is_there(*id) && !sender.is_closed());
    }

    /// No request is begun on this connection any more; those that run go on.
    fn forget(&self, upstream: u64, sender: &SendRequest<B>) {
        let mut open = self.open.borrow_mut();
        if sender.is_closed() || open.get(&upstream).is_some_and(SendRequest::is_closed) {
            open.remove(&upstream);
        }
    }

    /// A connection that takes requests, and whether others were sent on it before.
    async fn sender(
        &self,
        upstream: &Upstream,
        bounds: Bounds,
    ) -> Result<(SendRequest<B>, bool), Refusal> {
        let connect = bounds.connect;
        if let Some(sender) = self.ready(upstream, connect).await {
            return Ok((sender, true));
        }
        // Boxed: the rare branch must not make the future of every request larger.
        Box::pin(self.other_or_own(upstream, bounds)).await
    }

    /// The connection that there is, once it takes a request.
    async fn ready(&self, upstream: &Upstream, limit: Duration) -> Option<SendRequest<B>> {
        let mut sender = self.open.borrow().get(&upstream.id).cloned()?;
        let ready = timeout(limit, sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(sender)
    }

    /// The connection that somebody else opens now, or one of our own.
    async fn other_or_own(
        &self,
        upstream: &Upstream,
        bounds: Bounds,
    ) -> Result<(SendRequest<B>, bool), Refusal> {
        let end = Instant::now() + PATIENCE.min(bounds.connect);
        loop {
            let opened = self.opened.notified();
            let is_first = self.opening.borrow_mut().insert(upstream.id);
            let opening = is_first.then(|| Opening {
                pool: self,
                upstream: upstream.id,
            });
            if opening.is_some() || timeout_at(end, opened).await.is_err() {
                let sender = self.own(upstream, bounds).await?;
                self.open.borrow_mut().insert(upstream.id, sender.clone());
                return Ok((sender, false));
            }
            if let Some(sender) = self.ready(upstream, bounds.connect).await {
                return Ok((sender, true));
            }
        }
    }

    /// A new connection, which nobody else knows.
    async fn own(&self, upstream: &Upstream, bounds: Bounds) -> Result<SendRequest<B>, Refusal> {
        let connect = bounds.connect;
        let place = self.count.room(upstream, bounds, || false).await?;
        let stream: Stream = proven(upstream, connect).await?;
        let mut builder = http2::Builder::new(self.here.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .max_header_list_size(64 << 10)
            // A reader that does not read fills its stream's window, never that of the others.
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(64 << 20);
        let shake = timeout(connect, builder.handshake(TokioIo::new(stream))).await;
        let Ok(Ok((sender, connection))) = shake else {
            return Err(Refusal::new(
                Reason::UpstreamBroken,
                "the upstream does not speak HTTP/2",
            ));
        };
        self.here.execute(async move {
            let _place = place;
            drop(connection.await);
        });
        Ok(sender)
    }
}
