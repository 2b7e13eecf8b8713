//! An HTTP/2 service in clear on 127.0.0.1. What it does with a request stands in the path: see [`serve`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{SendResponse, handshake};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A request as it arrived, so far.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    pub method: String,
    pub path: String,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// The whole of it is there; false when it was cut.
    pub whole: Option<bool>,
    /// The stream was given up by the gate.
    pub let_go: bool,
}

/// The service; it ends when this is dropped.
pub struct H2Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Arrived>>>,
    connections: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
}

impl H2Upstream {
    pub fn start() -> Self {
        Self::closing(usize::MAX)
    }

    /// Every connection is closed, without a word, once it has answered so many requests.
    pub fn closing(after: usize) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let seen: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let (end, ended) = oneshot::channel();
        let shared = Arc::clone(&seen);
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let accept = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(converse(stream, Arc::clone(&shared), after));
                    }
                };
                tokio::select! { () = accept => {}, _ = ended => {} }
            });
        });
        Self {
            address,
            seen,
            connections,
            _end: end,
        }
    }

    /// A route of `app.lan` to it.
    pub fn route(&self) -> String {
        format!(
            "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"h2c://{}\"\naccess = \"anyone\"\n",
            self.address
        )
    }

    /// Everything so far.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until `fact` holds of what arrived.
    pub async fn wait(&self, what: &str, fact: impl Fn(&[Arrived]) -> bool) {
        super::until(what, || fact(&self.arrived())).await;
    }
}

type Seen = Arc<Mutex<Vec<Arrived>>>;

async fn converse(stream: TcpStream, seen: Seen, most: usize) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = handshake(stream).await else {
        return;
    };
    let mut served = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        served += 1;
        if served > most {
            return;
        }
        let number = {
            let mut list = seen.lock().expect("not poisoned");
            list.push(Arrived {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                fields: request.headers().clone(),
                ..Arrived::default()
            });
            list.len() - 1
        };
        let task = tokio::spawn(serve(request, respond, number, Arc::clone(&seen)));
        if served == most {
            // What is answered goes out before the end.
            let answered = async { while connection.accept().await.is_some() {} };
            tokio::select! {
                _ = task => { let _ = tokio::time::timeout(Duration::from_millis(1), connection.accept()).await; }
                () = answered => {}
            }
            return;
        }
    }
}

/// `/mute` never answers, `/deaf` never reads either; `/half` begins an answer; `/events` and `/talk` begin one and go on for
/// every piece that comes; `/framed` has a trailer that none may have; everything else is answered when all of it is there.
async fn serve(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    number: usize,
    seen: Seen,
) {
    let path = request.uri().path().to_owned();
    let grpc = request.headers().get("content-type").cloned();
    let mut body = request.into_body();
    let tell = |change: &dyn Fn(&mut Arrived)| {
        change(&mut seen.lock().expect("not poisoned")[number]);
    };
    let head = |kind: Option<&str>| {
        let mut head = Response::builder().status(200);
        if let Some(kind) = kind {
            head = head.header("content-type", kind);
        }
        head.body(()).expect("a head")
    };
    if path == "/deaf" {
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        return tell(&|a| a.let_go = reason.is_ok());
    }
    let mut answer = match &*path {
        "/half" | "/talk" | "/framed" => respond
            .send_response(head(grpc.as_ref().and_then(|v| v.to_str().ok())), false)
            .ok(),
        "/events" => respond
            .send_response(head(Some("text/event-stream")), false)
            .ok(),
        _ => None,
    };
    if path == "/half"
        && let Some(answer) = &mut answer
    {
        let _ = answer.send_data("half".into(), false);
    }
    let whole = loop {
        match body.data().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                tell(&|a| a.body.extend_from_slice(&data));
                if let ("/talk" | "/events", Some(answer)) = (&*path, &mut answer) {
                    let _ = answer.send_data(data, false);
                }
            }
        }
    };
    let trailers = body.trailers().await;
    let whole = whole && trailers.is_ok();
    let trailers = trailers.ok().flatten().unwrap_or_default();
    tell(&|a| (a.whole, a.trailers) = (Some(whole), trailers.clone()));
    match (&*path, answer) {
        ("/mute", _) => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            tell(&|a| a.let_go = reason.is_ok());
        }
        ("/half", Some(mut answer)) => {
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            tell(&|a| a.let_go = reason.is_ok());
        }
        ("/events", Some(mut answer)) => {
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            tell(&|a| a.let_go = reason.is_ok());
        }
        (_, Some(mut answer)) if whole => {
            let mut map = HeaderMap::new();
            map.insert("grpc-status", "0".parse().expect("a value"));
            map.insert("my_key", "a".parse().expect("a value"));
            if path == "/framed" {
                map.insert("set-cookie", "a=b".parse().expect("a value"));
            }
            let _ = answer.send_trailers(map);
        }
        (_, Some(mut answer)) => answer.send_reset(Reason::CANCEL),
        (_, None) if whole => {
            if let Ok(mut answer) = respond.send_response(head(None), false) {
                let _ = answer.send_data("ok".into(), true);
            }
        }
        (_, None) => {}
    }
}
