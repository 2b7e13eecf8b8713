//! The sample service that `loopgate demo` puts on the network: it shows who arrives behind the gate, and how, and has
//! one of everything that a careless proxy breaks: a WebSocket, a stream without an end, a large upload.
//!
//! It knows nothing secret and keeps nothing. It serves whatever listener it is given; give it one on loopback.

mod clock;
mod home;
mod upload;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::drain::{Guard, Phase, Watch};
use clock::Clock;

/// Connections at once; more wait in the backlog.
const CONNECTIONS: usize = 512;
/// For a request head, and between two requests. Longer than the gate keeps an idle connection, so that the gate is the
/// one who closes.
const IDLE: Duration = Duration::from_secs(120);
/// What one connection may hold of a request.
const BUFFER: usize = 64 * 1024;

type Body = Either<Full<Bytes>, Clock>;

/// What lasts as long as its connection, or as the WebSocket that came out of it.
struct Held {
    _permit: OwnedSemaphorePermit,
    _guard: Guard,
}

/// What every request of a connection needs to know.
#[derive(Clone)]
struct Place {
    address: SocketAddr,
    drain: Watch,
    held: Arc<Held>,
}

/// Serves the sample on `listener`. When the drain begins it takes no more connections and returns; those that are open
/// finish, hold a guard of the drain meanwhile, and are cut off when it stops.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(listener: TcpListener, drain: Watch) -> io::Result<()> {
    let address = listener.local_addr()?;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut ending = drain.clone();
    loop {
        let next = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = ending.reached(Phase::Drain) => return Ok(()),
        };
        let (Ok(permit), Ok((stream, _))) = (permit, accepted) else {
            // Too few file descriptors, or a peer that is gone already: neither ends the service.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let held = Arc::new(Held {
            _permit: permit,
            _guard: drain.guard(),
        });
        let place = Place {
            address,
            drain: drain.clone(),
            held,
        };
        tokio::spawn(connection(stream, place));
    }
}

async fn connection(stream: TcpStream, place: Place) {
    let mut drain = place.drain.clone();
    let service = service_fn(|request| answer(request, place.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // A connection that breaks is the peer's business: there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = drain.reached(Phase::Drain) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = drain.reached(Phase::Stop) => {}
    }
}

async fn answer(request: Request<Incoming>, place: Place) -> Result<Response<Body>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_sent = matches!(*request.method(), Method::POST | Method::PUT);
    Ok(match request.uri().path() {
        "/upload" if is_sent => upload::receive(request.into_body()).await,
        "/upload" => not_allowed("POST, PUT"),
        "/" | "/whoami" | "/healthz" | "/clock" | "/ws" if !is_read => not_allowed("GET, HEAD"),
        "/" => home::page(&request, place.address),
        "/whoami" => home::json(&request, place.address),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/clock" => Clock::stream(place.drain),
        "/ws" => websocket::open(request, place),
        _ => text(
            StatusCode::NOT_FOUND,
            "The sample service has no such page.\n",
        ),
    })
}

fn text(status: StatusCode, line: &'static str) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", line)
}

fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "This method does nothing here.\n",
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::base::drain::Drain;

    async fn started() -> (SocketAddr, Drain) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let drain = Drain::default();
        tokio::spawn(serve(listener, drain.watch()));
        (address, drain)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

    #[tokio::test]
    async fn shows_who_came_and_escapes_what_they_said() {
        let (address, _drain) = started().await;
        let request = |path| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: app.lan:8443\r\nX-Loopgate-User: ali<ce\r\nX-Forwarded-For: 192.168.1.7\r\n\
                 X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
            )
        };
        let page = ask(address, &request("/")).await;
        assert!(
            page.starts_with("HTTP/1.1 200") && page.contains("ali&lt;ce"),
            "{page}"
        );
        assert!(page.contains("192.168.1.7") && !page.contains("ali<ce"));
        let json = ask(address, &request("/whoami?x=1")).await;
        for part in [
            "\"user\":\"ali<ce\"",
            "\"client\":\"192.168.1.7\"",
            "\"path\":\"/whoami?x=1\"",
            "application/json",
        ] {
            assert!(json.contains(part), "{part} {json}");
        }
    }

    #[tokio::test]
    async fn knows_its_pages_and_methods() {
        let (address, _drain) = started().await;
        for (line, status) in [
            ("GET /healthz", "200"),
            ("HEAD /", "200"),
            ("POST /", "405"),
            ("GET /upload", "405"),
            ("GET /nothing", "404"),
            ("GET /ws", "400"),
            ("POST /upload", "200"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = ask(address, &request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{line}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn counts_and_hashes_an_upload() {
        let (address, _drain) = started().await;
        let request = "POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                       1\r\na\r\n2\r\nbc\r\n0\r\n\r\n";
        let answer = ask(address, request).await;
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(
            answer.contains(&format!("{{\"bytes\":3,\"sha256\":\"{hash}\"}}")),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn ends_a_clock_when_the_drain_begins() {
        let (address, drain) = started().await;
        let request = "GET /clock HTTP/1.1\r\nHost: a\r\n\r\n";
        let asked = tokio::spawn(async move { ask(address, request).await });
        while drain.busy() == 0 {
            tokio::task::yield_now().await;
        }
        drain.advance(Phase::Drain);
        let answer = asked.await.expect("the clock ends");
        assert!(answer.contains("text/event-stream"), "{answer}");
        assert!(drain.idle(Duration::from_secs(5)).await);
    }
}
