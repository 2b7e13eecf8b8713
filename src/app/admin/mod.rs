//! The admin address: `/healthz`, `/readyz` and `/metrics`, for whoever is on this machine. It is served on the control thread,
//! has no login, and so is bound to loopback or a Unix socket and answers no page that a browser was led to.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

mod bind;
mod host;
mod ready;

pub use bind::Bound;
pub use ready::{Health, Readiness};

use crate::base::loopback::LoopbackAddr;
use crate::net::bind::Wrong;
use crate::observe::metrics::CONTENT_TYPE as METRICS;

/// Connections at the same time; one more is closed at once.
const MOST: usize = 32;
/// For a request head to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// For everything that a connection asks: a scraper comes again.
const LIFE: Duration = Duration::from_secs(120);
/// A request of a probe is small; hyper takes no less.
const HEAD_SIZE: usize = 8 << 10;
/// After a failed accept, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// The admin address of the plan in force, and what serves it.
#[derive(Debug, Default)]
pub struct Desk {
    now: Mutex<Now>,
}

/// The admin address of the process before, as its plan has it, and its sockets with their names.
pub type Before = (String, Vec<(String, OwnedFd)>);

#[derive(Debug, Default)]
struct Now {
    address: Option<Arc<LoopbackAddr>>,
    bound: Vec<Bound>,
    serving: Vec<AbortHandle>,
}

/// What a reload has bound and not yet put in place.
#[derive(Debug)]
pub struct Next(Option<(Option<Arc<LoopbackAddr>>, Vec<Bound>)>);

impl Desk {
    /// Binds the address of the first plan, or goes on with the sockets of the process before where that had the same;
    /// [`Desk::open`] begins to serve it.
    pub fn bind(address: Option<&Arc<LoopbackAddr>>, before: Option<Before>) -> io::Result<Self> {
        let bound = match (address, before) {
            (Some(address), Some((was, sockets))) if address.to_string() == was => {
                let is_unix = address.unix().is_some();
                let adopt = |(name, socket)| Bound::adopt(is_unix, name, socket);
                sockets.into_iter().map(adopt).collect::<io::Result<_>>()?
            }
            (Some(address), _) => bind::bind(address)?,
            (None, _) => Vec::new(),
        };
        let now = Now {
            address: address.cloned(),
            bound,
            serving: Vec::new(),
        };
        Ok(Self {
            now: Mutex::new(now),
        })
    }

    /// What is bound, for a process that takes over: the address as the plan has it, the name, and the very socket.
    pub(super) fn spares(&self) -> io::Result<Vec<(String, String, OwnedFd)>> {
        let now = self.now();
        let address = now.address.as_ref().map(|a| a.to_string());
        let address = address.unwrap_or_default();
        let spare = |bound: &Bound| Ok((address.clone(), bound.name.clone(), bound.spare()?));
        now.bound.iter().map(spare).collect()
    }

    /// What was taken over is ours alone now.
    pub(super) fn own(&self) {
        let mut now = self.now();
        let address = now.address.clone();
        if let Some(path) = address.as_ref().and_then(|a| a.unix()) {
            now.bound.iter_mut().for_each(|bound| bound.own(path));
        }
    }

    /// Stops serving: another process does.
    pub(super) fn leave(&self) {
        let mut now = self.now();
        for task in now.serving.drain(..) {
            task.abort();
        }
        now.bound.iter_mut().for_each(Bound::leave);
        now.bound.clear();
    }

    /// Binds what another plan asks for, when that differs. What is in place is left as it is.
    pub fn prepare(&self, address: Option<&Arc<LoopbackAddr>>) -> io::Result<Next> {
        if self.now().address.as_ref() == address {
            return Ok(Next(None));
        }
        let bound = address.map_or(Ok(Vec::new()), |a| bind::bind(a))?;
        Ok(Next(Some((address.cloned(), bound))))
    }

    /// Puts in place what was prepared; what was there before is closed, a moment later. Gives where that was.
    pub fn switch(&self, next: Next, health: &Arc<Health>) -> Vec<SocketAddr> {
        let Next(Some((address, bound))) = next else {
            return Vec::new();
        };
        let mut now = self.now();
        let was = now.bound.iter().filter_map(|bound| bound.name.parse().ok());
        let was = was.collect();
        for task in now.serving.drain(..) {
            task.abort();
        }
        now.address = address;
        now.bound = bound;
        drop(now);
        self.open(health);
        was
    }

    /// Puts right what another process has changed that had these sockets too, and says what it was. A Unix socket that was ended
    /// cannot be opened again: another one takes its place. `all` are served anew, changed or not.
    pub(super) fn mend(&self, all: bool, health: &Arc<Health>) -> io::Result<Option<Wrong>> {
        let mut now = self.now();
        let is_deaf = now.bound.iter().any(Bound::is_deaf);
        if is_deaf || all {
            // First: one that has seen the end of its socket would see it again and again, and wait for nothing.
            now.serving.drain(..).for_each(|task| task.abort());
        }
        let found: Vec<_> = now.bound.iter().map(Bound::mend).collect();
        if is_deaf || all {
            match now
                .address
                .clone()
                .filter(|a| is_deaf && a.unix().is_some())
            {
                Some(address) => now.bound = bind::bind(&address)?,
                None => now.bound.iter_mut().try_for_each(Bound::again)?,
            }
            drop(now);
            self.open(health);
        }
        found
            .into_iter()
            .try_fold(None, |worst, one| Ok(worst.max(one?)))
    }

    /// Begins to serve on this runtime.
    pub fn open(&self, health: &Arc<Health>) {
        let mut now = self.now();
        let places = Arc::new(Semaphore::new(MOST));
        let serving: Vec<_> = now
            .bound
            .iter_mut()
            .filter_map(|bound| bound.take())
            .filter_map(|listener| {
                let (places, health) = (Arc::clone(&places), Arc::clone(health));
                let task = match listener {
                    bind::Listener::Tcp(tcp) => {
                        let tcp = TcpListener::from_std(tcp).ok()?;
                        tokio::spawn(accept_tcp(tcp, places, health))
                    }
                    bind::Listener::Unix(unix) => {
                        let unix = UnixListener::from_std(unix).ok()?;
                        tokio::spawn(accept_unix(unix, places, health))
                    }
                };
                Some(task.abort_handle())
            })
            .collect();
        now.serving.extend(serving);
    }

    /// The addresses that are bound, for the one who chose port 0.
    pub fn addresses(&self) -> Vec<String> {
        let now = self.now();
        now.bound.iter().map(|bound| bound.name.clone()).collect()
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept_tcp(listener: TcpListener, places: Arc<Semaphore>, health: Arc<Health>) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, _)) => serve(stream, true, &places, &health),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, places: Arc<Semaphore>, health: Arc<Health>) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, _)) => serve(stream, false, &places, &health),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_tcp: bool,
    places: &Arc<Semaphore>,
    health: &Arc<Health>,
) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return;
    };
    let health = Arc::clone(health);
    tokio::spawn(async move {
        let _place: OwnedSemaphorePermit = place;
        let service = service_fn(|request: Request<_>| {
            let health = Arc::clone(&health);
            async move { Ok::<_, Infallible>(answer(&request, is_tcp, &health).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_SIZE)
            .max_headers(64)
            .serve_connection(TokioIo::new(stream), service);
        let _ = tokio::time::timeout(LIFE, served).await;
    });
}

async fn answer<B>(request: &Request<B>, is_tcp: bool, health: &Health) -> Response<Full<Bytes>> {
    // A page that a browser was led to could ask by a name that resolves to loopback, and would read the answer.
    // HTTP/1.0 has no `Host` (RFC 1945); no browser of today speaks it.
    let is_nameless =
        request.version() == Version::HTTP_10 && !request.headers().contains_key(HOST);
    if is_tcp && !is_nameless && !host::is_loopback(request.headers().get_all(HOST).iter()) {
        let text = "this address answers to localhost and loopback addresses only\n";
        return reply(StatusCode::MISDIRECTED_REQUEST, TEXT, text);
    }
    if host::is_of_another_site(request.headers()) {
        return reply(StatusCode::FORBIDDEN, TEXT, "another site asked\n");
    }
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        let text = "here are /healthz, /readyz and /metrics\n";
        return reply(StatusCode::NOT_FOUND, TEXT, text);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        let allow = HeaderValue::from_static("GET, HEAD");
        reply.headers_mut().insert(ALLOW, allow);
        return reply;
    }
    match path {
        "/metrics" => reply(StatusCode::OK, METRICS, health.metrics()),
        "/readyz" => {
            let readiness = health.ready().await;
            let status = match readiness.is_ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            reply(status, TEXT, readiness.to_string())
        }
        _ => reply(StatusCode::OK, TEXT, "alive\n"),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert("x-content-type-options", nosniff);
    response
}
