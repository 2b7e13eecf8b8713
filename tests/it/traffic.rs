//! Traffic: what comes passes at once, in any size, in both directions, and whoever leaves is not waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use data_encoding::BASE64;
use http::HeaderMap;

use crate::support::client::End;
use crate::support::h2_client::{H2Client, piece, rest};
use crate::support::message::Fields;
use crate::support::*;

/// Answers with the target as the body.
fn mirror() -> Upstream {
    Upstream::whole(|request, peer| {
        let body = &request.target;
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        After::Keep
    })
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = mirror();
    let gate = Gate::plain(&upstream);
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    for i in 0..50u32 {
        assert_eq!(one.get(&format!("/{i}"), "").await.text(), format!("/{i}"));
        assert_eq!(
            two.get(2 * i + 1, &format!("/{i}")).await,
            Outcome::Answer(200, format!("/{i}").into_bytes())
        );
    }
    assert_eq!((gate.connections(), upstream.conversations().len()), (2, 1));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = mirror();
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    let all: String = (0..50)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: app.lan\r\n\r\n"))
        .collect();
    client.send(all).await;
    for i in 0..50 {
        assert_eq!(client.answer().await.text(), format!("/{i}"));
    }
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let go = Signal::default();
    let slow = go.clone();
    let upstream = Upstream::whole(move |request, peer| {
        if request.target == "/slow" {
            slow.wait();
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    h2.send(frames::get(1, "/slow")).await;
    for i in 1..20 {
        assert_eq!(h2.get(2 * i + 1, "/").await.status(), 200);
    }
    go.set();
    assert_eq!(h2.outcome(1).await.status(), 200);
}

const WITH_TRAILERS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\nGrpc-Status: 0\r\nmy_key: c\r\nX-Envoy-Took: 1\r\n\r\n";

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(WITH_TRAILERS);
    let gate = Gate::plain(&upstream);
    let answer = gate.h1().await.ask("POST / HTTP/1.1\r\nHost: app.lan\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nC: d\r\n\r\n").await;
    let wanted: Fields = [
        ("a", "b"),
        ("grpc-status", "0"),
        ("my_key", "c"),
        ("x-envoy-took", "1"),
    ]
    .map(|(n, v)| (n.into(), v.into()))
    .into();
    assert_eq!((&*answer.text(), answer.trailers), ("ok", wanted.clone()));
    let mut exchange = H2Client::open(&gate).await.begin("POST", "/", false).await;
    exchange.send("x", false).await;
    exchange
        .body
        .send_trailers(HeaderMap::from_iter([(
            "c".parse().unwrap(),
            "d".parse().unwrap(),
        )]))
        .unwrap();
    let (body, trailers) = rest(exchange.answer().await.body_mut()).await;
    let came: Fields = trailers
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()))
        .collect();
    assert_eq!((&*body, came), (&b"ok"[..], wanted));
    let shown: Vec<String> = upstream.requests().iter().map(Request::shown).collect();
    assert_eq!(shown, ["POST / =x +c:d", "POST / =x +c:d"]);
}

#[tokio::test]
async fn a_body_passes_piece_by_piece_both_ways() {
    // Chunks come back as they are: the upstream's answer is what it was sent.
    let upstream = Upstream::scripted(|_, _, peer| {
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        After::Echo
    });
    let gate = Gate::plain(&upstream);
    let mut one = gate.h1().await;
    one.send(
        "POST / HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    )
    .await;
    let mut two = H2Client::open(&gate).await.begin("POST", "/", false).await;
    two.send("first", false).await;
    let mut answer = two.answer().await;
    assert_eq!(piece(answer.body_mut()).await.unwrap(), "first");
    while !one.got.ends_with(b"5\r\nfirst\r\n") {
        assert!(one.more().await);
    }
    one.send("3\r\nend\r\n0\r\n\r\n").await;
    two.send("end", true).await;
    assert_eq!(
        (one.answer().await.text(), rest(answer.body_mut()).await.0),
        ("firstend".into(), b"end".to_vec())
    );
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let upstream = Upstream::scripted(|at, _, peer| {
        peer.say(if at == At::Head {
            "HTTP/1.1 100 Continue\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        });
        if at == At::Head {
            After::Body
        } else {
            After::Keep
        }
    });
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: app.lan\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    assert_eq!(
        (
            client.answer().await.status,
            client.get("/", "").await.status
        ),
        (200, 100)
    );
    assert_eq!(upstream.requests()[0].shown(), "PUT / =hello");
    assert_eq!(
        gate.h2()
            .await
            .ask(1, "PUT", "/", &[("expect", "100-continue")], b"hello")
            .await
            .status(),
        200
    );
}

/// The application judges it, as it may; the gate adds no 100 of its own.
#[tokio::test]
async fn what_else_a_client_expects_is_the_applications_to_judge() {
    let upstream = Upstream::whole(|request, peer| {
        let known = request.all("expect") == ["100-continue"];
        let status = if known { "200 OK" } else { "417 No" };
        peer.say(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    for (stream, value, status) in [(1, "a-miracle", 417), (3, "100-continue", 200)] {
        let fields = [("expect", value)];
        let answer = two.ask(stream, "PUT", "/", &fields, b"hello").await;
        assert_eq!(answer.status(), status, "{value}");
        one.send(format!(
            "PUT / HTTP/1.1\r\nHost: app.lan\r\nExpect: {value}\r\nContent-Length: 5\r\n\r\nhello"
        ))
        .await;
        assert_eq!(one.answer().await.status, status, "{value}");
    }
    let shown: Vec<String> = upstream.requests().iter().map(Request::shown).collect();
    assert_eq!(shown, ["PUT / =hello"; 4]);
}

#[tokio::test]
async fn a_client_that_waits_for_100_may_be_refused_instead() {
    let upstream = Upstream::scripted(|_, _, peer| {
        peer.say("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: app.lan\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, client.closed().await),
        (417, End::Clean),
        "{answer:?}"
    );
    upstream.wait("the half-sent request to be dropped", |list| list[0].closed);
}

#[tokio::test]
async fn early_hints_pass_before_the_answer() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    let hint = client.get("/", "").await;
    assert_eq!((hint.status, hint.all("link")), (103, vec!["</a.css>"]));
    assert_eq!(
        (
            client.answer().await.text(),
            gate.h2().await.get(1, "/").await.status()
        ),
        ("ok".into(), 200)
    );
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length_and_their_connection() {
    for (method, answer, status, length) in [
        ("HEAD", "200 OK\r\nContent-Length: 5", 200, Some("5")),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", 200, None),
        ("HEAD", "200 OK", 200, None),
        ("HEAD", "404 No\r\nContent-Length: 7", 404, Some("7")),
        ("GET", "204 No Content", 204, None),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 5",
            304,
            Some("5"),
        ),
        ("GET", "304 Not Modified", 304, None),
        ("GET", "200 OK\r\nContent-Length: 0", 200, Some("0")),
    ] {
        let upstream = Upstream::answering(format!("HTTP/1.1 {answer}\r\n\r\n"));
        let gate = Gate::plain(&upstream);
        let (mut one, mut two) = (gate.h1().await, H2Client::open(&gate).await);
        for _ in 0..3 {
            let found = one
                .ask(format!("{method} / HTTP/1.1\r\nHost: app.lan\r\n\r\n"))
                .await;
            assert_eq!(
                (found.status, found.all("content-length").pop()),
                (status, length),
                "{method} {answer}"
            );
            let found = two.begin(method, "/", true).await.answer().await;
            let announced = found
                .headers()
                .get("content-length")
                .map(|v| v.to_str().unwrap());
            assert_eq!(
                (
                    found.status().as_u16(),
                    announced,
                    found.body().is_end_stream()
                ),
                (status, length, true),
                "{method} {answer}"
            );
        }
        assert_eq!(upstream.conversations().len(), 1, "{method} {answer}");
    }
}

#[tokio::test]
async fn ranges_and_validators_pass() {
    let upstream = Upstream::answering(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nETag: \"a\"\r\nContent-Length: 3\r\n\r\ncde",
    );
    let gate = Gate::plain(&upstream);
    let answer = gate
        .h1()
        .await
        .get("/", "Range: bytes=2-4\r\nIf-Range: \"a\"\r\n")
        .await;
    assert_eq!(
        (answer.status, &*answer.text(), answer.all("content-range")),
        (206, "cde", vec!["bytes 2-4/9"])
    );
    assert_eq!(
        (
            upstream.only().all("range"),
            upstream.only().all("if-range")
        ),
        (vec!["bytes=2-4"], vec!["\"a\""])
    );
}

const BIG: usize = 64 << 20;

/// Takes `BIG` bytes and says how many came; gives `BIG` bytes to a GET.
fn bulk() -> Upstream {
    Upstream::scripted(|_, request, peer| {
        if request.method == "GET" {
            peer.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"));
            let block = vec![b'x'; 1 << 20];
            if (0..BIG >> 20).all(|_| peer.say(&block)) {
                return After::Keep;
            }
            return After::Close;
        }
        let came = peer.swallow(BIG).to_string();
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{came}",
            came.len()
        ));
        After::Close
    })
}

/// The memory that this process holds, in bytes.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}

#[tokio::test]
async fn large_bodies_pass_both_ways_in_constant_memory() {
    if !is_alone("traffic::large_bodies_pass_both_ways_in_constant_memory") {
        return;
    }
    let (upstream, before, most) = (bulk(), memory(), AtomicUsize::new(0));
    let gate = Gate::plain(&upstream);
    let look = || {
        let _ = most.fetch_max(memory().saturating_sub(before), Ordering::Relaxed);
    };
    let block = vec![b'x'; 1 << 20];
    let mut one = gate.h1().await;
    one.send(format!(
        "PUT / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: {BIG}\r\n\r\n"
    ))
    .await;
    for _ in 0..BIG >> 20 {
        one.send(&block).await;
        look();
    }
    assert_eq!(one.answer().await.text(), BIG.to_string());
    one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
    let mut came = 0;
    while came < BIG {
        assert!(one.more().await);
        came += std::mem::take(&mut one.got).len();
        look();
    }
    let mut two = H2Client::open(&gate).await;
    let request = http::Request::put("https://app.lan/").header("content-length", BIG);
    let mut put = two.send_request(request.body(()).unwrap(), false).await;
    for n in 1..=BIG >> 20 {
        put.send(block.clone(), n == BIG >> 20).await;
        look();
    }
    assert_eq!(
        rest(put.answer().await.body_mut()).await.0,
        BIG.to_string().into_bytes()
    );
    let mut answer = two.begin("GET", "/", true).await.answer().await;
    let mut came = 0;
    while let Some(piece) = piece(answer.body_mut()).await {
        came += piece.len();
        look();
    }
    assert_eq!(came, BIG);
    assert!(most.into_inner() < 40 << 20, "memory grew");
}

#[tokio::test]
async fn a_slow_reader_slows_the_upstream_down() {
    // How much the kernel lets the gate's two sockets hold when they are busy, whatever this machine is set to.
    let kernel = ["tcp_rmem", "tcp_wmem"].map(|name| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        let most = text.split_whitespace().last().unwrap();
        most.parse::<usize>().unwrap()
    });
    let most = kernel.iter().sum::<usize>() + (16 << 20);
    let said = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&said);
    let upstream = Upstream::whole(move |_, peer| {
        peer.stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let about = socket2::SockRef::from(peer.stream);
        about.set_send_buffer_size(64 << 10).unwrap();
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            1usize << 40
        ));
        while peer.say([b'x'; 64 << 10]) {
            count.fetch_add(64 << 10, Ordering::Relaxed);
        }
        After::Reset
    });
    let gate = Gate::plain(&upstream);
    let mut one = gate.h1().await;
    one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
    upstream.wait("the upstream to be stopped", |list| {
        !list.is_empty() && list[0].closed
    });
    let taken = said.swap(0, Ordering::Relaxed);
    assert!(
        taken < most,
        "kernel buffers, and a little of ours: {taken}"
    );
    let mut two = H2::with(
        Client::tls(gate.address, Some("app.lan"), "h2").await,
        &[(4, 1000)],
    )
    .await;
    two.send(frames::get(1, "/")).await;
    upstream.wait("the upstream to be stopped", |list| {
        list.len() == 2 && list[1].closed
    });
    let taken = said.load(Ordering::Relaxed);
    assert!(taken < most, "{taken}");
}

#[tokio::test]
async fn events_come_one_by_one_without_delay() {
    const EVENTS: u32 = 50;
    let next = Signal::default();
    let go = next.clone();
    let upstream = Upstream::whole(move |_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..EVENTS {
            go.wait();
            peer.say("9\r\ndata: x\n\n\r\n");
        }
        peer.say("0\r\n\r\n");
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let events = async |mut one: Client| {
        let start = Instant::now();
        one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
        while !one.got.ends_with(b"\r\n\r\n") {
            one.more().await;
        }
        for _ in 0..EVENTS {
            next.set();
            let have = one.got.len();
            one.at_least(have + 14).await;
        }
        start.elapsed()
    };
    // What this machine takes without us, be it busy with something else.
    let quiet = events(Client::tcp(upstream.address).await).await;
    let (one, start) = (gate.h1().await, Instant::now());
    events(one).await;
    let mut answer = H2Client::open(&gate)
        .await
        .begin("GET", "/", true)
        .await
        .answer()
        .await;
    for _ in 0..EVENTS {
        next.set();
        assert_eq!(piece(answer.body_mut()).await.unwrap(), "data: x\n\n");
    }
    assert!(
        start.elapsed() < Duration::from_millis(50) * EVENTS + 10 * quiet,
        "{:?} for {EVENTS} events twice, {quiet:?} without the gate",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_not_waited_for() {
    let upstream = Upstream::scripted(|_, request, peer| {
        match request.target.as_str() {
            "/silent" | "/upload" => peer.wait_for_end(),
            _ => {
                peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while peer.say("1\r\nx\r\n") {}
            }
        }
        After::Close
    });
    let gate = Gate::plain(&upstream);
    for (i, head) in [
        "GET /silent HTTP/1.1",
        "GET /endless HTTP/1.1",
        "PUT /upload HTTP/1.1\r\nContent-Length: 99",
    ]
    .iter()
    .enumerate()
    {
        let mut client = gate.h1().await;
        client
            .send(format!("{head}\r\nHost: app.lan\r\n\r\n"))
            .await;
        upstream.wait("the request", |list| list.len() == i + 1);
        drop(client);
        upstream.wait("the upstream to be told", |list| list[i].closed);
    }
    let mut h2 = gate.h2().await;
    for (i, path) in ["/silent", "/endless", "/upload"].iter().enumerate() {
        let stream = 2 * i as u32 + 1;
        let (method, end) = if *path == "/upload" {
            ("PUT", 0)
        } else {
            ("GET", frames::END_STREAM)
        };
        h2.send(frames::frame(
            frames::HEADERS,
            frames::END_HEADERS | end,
            stream,
            frames::block(&frames::pseudo(method, path)),
        ))
        .await;
        upstream.wait("the request", |list| list.len() == i + 4);
        h2.send(frames::frame(
            frames::RST_STREAM,
            0,
            stream,
            8u32.to_be_bytes(),
        ))
        .await;
        upstream.wait("the upstream to be told", |list| list[i + 3].closed);
    }
    h2.send(frames::get(9, "/silent")).await;
    upstream.wait("the request", |list| list.len() == 7);
    drop(h2);
    upstream.wait("the upstream to be told", |list| list[6].closed);
    gate.deserted().await;
}

/// Ends a kept connection without an answer when its second request comes, and counts what came by target.
fn fickle(end: fn() -> After) -> (Upstream, Arc<Mutex<HashMap<String, usize>>>) {
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let count = Arc::clone(&seen);
    let upstream = Upstream::whole(move |request, peer| {
        *count
            .lock()
            .unwrap()
            .entry(request.target.clone())
            .or_default() += 1;
        if peer.before > 0 {
            return end();
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        After::Keep
    });
    (upstream, seen)
}

#[tokio::test]
async fn no_get_fails_when_the_upstream_closes_at_the_worst_moment() {
    for end in [|| After::Close, || After::Reset] {
        let (upstream, _) = fickle(end);
        let gate = Gate::plain(&upstream);
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        for i in 0..250u32 {
            assert_eq!(one.get("/", "").await.status, 200, "{i}");
            assert_eq!(two.get(2 * i + 1, "/").await.status(), 200, "{i}");
        }
    }
}

#[tokio::test]
async fn no_get_fails_when_the_upstream_closes_right_after_its_answer() {
    for after in [|| After::Close, || After::Reset] {
        let upstream = Upstream::whole(move |_, peer| {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            after()
        });
        let gate = Gate::plain(&upstream);
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        for i in 0..250u32 {
            assert_eq!(one.get("/", "").await.status, 200, "{i}");
            assert_eq!(two.get(2 * i + 1, "/").await.status(), 200, "{i}");
        }
    }
}

#[tokio::test]
async fn no_post_is_ever_sent_twice() {
    let (upstream, seen) = fickle(|| After::Close);
    let gate = Gate::plain(&upstream);
    let mut two = gate.h2().await;
    for i in 0..100u32 {
        let head =
            format!("POST /one/{i} HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 2\r\n\r\nhi");
        assert!(matches!(gate.h1().await.ask(head).await.status, 200 | 502));
        let head = format!("POST /none/{i} HTTP/1.1\r\nHost: app.lan\r\n\r\n");
        assert!(matches!(gate.h1().await.ask(head).await.status, 200 | 502));
        assert!(matches!(
            two.ask(2 * i + 1, "POST", &format!("/two/{i}"), &[], b"hi")
                .await
                .status(),
            200 | 502
        ));
    }
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() >= 300 - 3 && seen.values().all(|n| *n == 1),
        "{seen:?}"
    );
}

/// Takes part in a WebSocket handshake, rightly or not, and gives every byte back.
pub fn websocket(right: bool) -> Upstream {
    Upstream::whole(move |request, peer| {
        let key =
            request.all("sec-websocket-key").concat() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
        let accept = if right {
            BASE64.encode(hash.as_ref())
        } else {
            "bm8=".into()
        };
        peer.say(format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
        After::Echo
    })
}

#[tokio::test]
async fn a_websocket_over_http1_carries_bytes_both_ways() {
    let upstream = websocket(true);
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    let answer = client.get("/chat", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n").await;
    assert_eq!(
        (answer.status, answer.all("sec-websocket-accept")),
        (101, vec!["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])
    );
    for i in 0..2000u32 {
        client.send(i.to_be_bytes()).await;
        client.at_least(4).await;
        assert_eq!(client.got.drain(..).collect::<Vec<_>>(), i.to_be_bytes());
    }
    assert_eq!(upstream.only().all("sec-websocket-version"), ["13"]);
}

/// HEADERS that ask for a WebSocket (RFC 8441, 5).
pub fn extended_connect(stream: u32) -> Vec<u8> {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "app.lan"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ];
    frames::frame(
        frames::HEADERS,
        frames::END_HEADERS,
        stream,
        frames::block(&fields),
    )
}

#[tokio::test]
async fn a_websocket_over_http2_carries_bytes_both_ways() {
    let upstream = websocket(true);
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let settings = h2.next_of(frames::SETTINGS).await.unwrap().payload;
    assert!(
        settings.chunks(6).any(|s| s == frames::setting(8, 1)),
        "ENABLE_CONNECT_PROTOCOL in {settings:?}"
    );
    h2.send(extended_connect(1)).await;
    let head = h2.next_of(frames::HEADERS).await.unwrap();
    let open = head.flags & frames::END_STREAM == 0;
    assert_eq!((frames::status(&head.payload), open), (200, true));
    for i in 0..2000u32 {
        h2.send(frames::frame(frames::DATA, 0, 1, i.to_be_bytes()))
            .await;
        assert_eq!(
            h2.next_of(frames::DATA).await.unwrap().payload,
            i.to_be_bytes()
        );
    }
    let request = upstream.only();
    assert_eq!(
        (request.shown(), request.all("upgrade")),
        ("GET /chat".to_owned(), vec!["websocket"])
    );
    assert_eq!(request.all("sec-websocket-protocol"), ["chat"]);
    h2.send(frames::frame(frames::DATA, frames::END_STREAM, 1, []))
        .await;
    upstream.wait("the end to be passed on", |list| list[0].closed);
}

#[tokio::test]
async fn a_websocket_over_http2_that_the_upstream_does_not_mean_is_refused() {
    for (upstream, status) in [
        (websocket(false), 502),
        (
            Upstream::answering("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n"),
            502,
        ),
        (
            Upstream::answering("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"),
            403,
        ),
        (Upstream::ok(), 502),
    ] {
        let gate = Gate::plain(&upstream);
        let mut h2 = gate.h2().await;
        h2.send(extended_connect(1)).await;
        assert_eq!(h2.outcome(1).await.status(), status);
        upstream.wait("the connection to be thrown away", |list| list[0].closed);
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_uploads() {
    let upstream = Upstream::scripted(|_, _, peer| {
        peer.say("HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nfull");
        peer.wait_for_end();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    client
        .send(format!(
            "PUT / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: {BIG}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; 1 << 20]).await;
    assert_eq!(client.answer().await.status, 413);
    let mut exchange = H2Client::open(&gate).await.begin("PUT", "/", false).await;
    exchange.send(vec![b'x'; 1 << 10], false).await;
    let mut answer = exchange.answer().await;
    assert_eq!(
        (
            answer.status().as_u16(),
            piece(answer.body_mut()).await.unwrap()
        ),
        (413, "full".into())
    );
    upstream.wait("both connections to be thrown away", |list| {
        list.iter().all(|c| c.closed)
    });
}

#[tokio::test]
async fn a_refused_upload_is_not_reset_while_its_client_still_sends() {
    let upstream = Upstream::scripted(|_, request, peer| {
        if request.target == "/small" {
            return After::Body;
        }
        peer.say("HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nfull");
        After::Close
    });
    // Refused by the upstream, and by us.
    for (path, limits) in [("/", ""), ("/small", "body_size = \"100B\"\n")] {
        let gate = Gate::limited(&upstream, limits);
        let mut h2 = gate.h2().await;
        let piece = frames::frame(frames::DATA, 0, 1, [b'x'; 9000]);
        let head = frames::block(&frames::pseudo("PUT", path));
        h2.send(frames::frame(frames::HEADERS, frames::END_HEADERS, 1, head))
            .await;
        h2.send(&piece).await;
        assert_eq!(h2.outcome(1).await.status(), 413, "{path}");
        h2.send([piece, frames::frame(frames::PING, 0, 0, [7; 8])].concat())
            .await;
        while let Some(frame) = h2.next().await
            && frame.kind != frames::PING
        {
            assert_ne!(frame.kind, frames::RST_STREAM, "{path}");
        }
    }
}

#[tokio::test]
async fn a_drain_lets_what_runs_finish_and_closes_what_idles() {
    let go = Signal::default();
    let shared = go.clone();
    let upstream = Upstream::whole(move |request, peer| {
        if request.target == "/long" {
            shared.wait();
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let (mut idle, mut one, mut two) = (gate.h1().await, gate.h1().await, gate.h2().await);
    assert_eq!(idle.get("/", "").await.status, 200);
    one.send("GET /long HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    two.send(frames::get(1, "/long")).await;
    upstream.wait("both requests", |list| {
        list.iter().map(|c| c.requests.len()).sum::<usize>() == 3
    });
    let story = async {
        assert_eq!(idle.closed().await, End::Clean);
        until("the listener to close", || {
            std::net::TcpStream::connect(gate.address).is_err()
        })
        .await;
        go.set();
        go.set();
        let answer = one.answer().await;
        assert_eq!(
            (answer.text(), answer.all("connection")),
            ("ok".into(), vec!["close"])
        );
        assert_eq!(two.outcome(1).await, Outcome::Answer(200, b"ok".to_vec()));
        two.end().await;
    };
    assert!(
        tokio::join!(gate.drain(DEADLINE), story).0,
        "everything finished"
    );
}

#[tokio::test]
async fn whoever_has_connected_before_a_drain_is_answered_once() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let (mut late, mut silent) = (gate.h1().await, gate.h1().await);
    let story = async {
        until("the listener to close", || {
            std::net::TcpStream::connect(gate.address).is_err()
        })
        .await;
        let answer = late.get("/", "").await;
        assert_eq!(
            (answer.status, answer.all("connection")),
            (200, vec!["close"])
        );
        silent.closed().await;
    };
    assert!(
        tokio::join!(gate.drain(DEADLINE), story).0,
        "who says nothing is not waited for"
    );
}

#[tokio::test]
async fn who_never_begins_its_handshake_holds_up_no_drain() {
    let gate = Gate::limited(&Upstream::ok(), "handshake = \"30s\"");
    let _silent = tokio::net::TcpStream::connect(gate.address).await.unwrap();
    until("the connection to be there", || gate.connections() == 1).await;
    assert!(gate.drain(DEADLINE).await, "it was waited for");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let upstream = websocket(true);
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    assert_eq!(
        client
            .get("/", "Connection: Upgrade\r\nUpgrade: websocket\r\n")
            .await
            .status,
        101
    );
    assert!(
        !gate.drain(Duration::from_millis(100)).await,
        "the tunnel is still there"
    );
    client.send("still").await;
    client.at_least(5).await;
    drop(gate);
    assert!(!client.more().await, "and is cut at the end");
}
