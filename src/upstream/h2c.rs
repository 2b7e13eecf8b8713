//! HTTP/2 in clear with prior knowledge, for gRPC services: one multiplexed connection per upstream and data thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::Upstream;
use super::dial::proven;
use super::open::{Bounds, Open};
use crate::access::Permit;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Stream;
use crate::observe::{Log, Metrics, contained};

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
    here: Here,
    count: Arc<Open>,
}

impl<B> H2cPool<B> {
    /// A pool whose tasks tell of a panic there.
    pub fn new(log: Log, metrics: Arc<Metrics>, count: Arc<Open>) -> Self {
        Self {
            open: RefCell::default(),
            here: Here { log, metrics },
            count,
        }
    }
}

impl<B> H2cPool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Sends a permitted request and waits for the head of its answer. On a connection that proves dead it is sent once more
    /// when nothing of it was sent, or when `again` makes another one of it.
    pub async fn send(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        mut request: http::Request<B>,
        again: impl Fn() -> Option<http::Request<B>>,
        bounds: Bounds,
    ) -> Result<http::Response<Incoming>, Refusal> {
        let mut repeats = true;
        loop {
            let (mut sender, reused) = self.sender(upstream, bounds).await?;
            let mut failed = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            self.forget(upstream.id, &sender);
            let unsent = failed.take_message();
            let next = unsent.or_else(|| reused.then(&again).flatten());
            request = match next {
                Some(next) if std::mem::take(&mut repeats) => next,
                Some(_) | None => {
                    return Err(Refusal::new(
                        Reason::UpstreamBroken,
                        "the HTTP/2 exchange with the upstream failed",
                    ));
                }
            };
        }
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
        let open = self.open.borrow().get(&upstream.id).cloned();
        if let Some(mut sender) = open
            && matches!(timeout(connect, sender.ready()).await, Ok(Ok(())))
        {
            return Ok((sender, true));
        }
        let place = self.count.room(upstream, bounds, || false).await?;
        // Boxed: the rare branch must not make the future of every request larger.
        let stream: Stream = Box::pin(proven(upstream, connect)).await?;
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
        self.open.borrow_mut().insert(upstream.id, sender.clone());
        Ok((sender, false))
    }
}
