//! Connections to services and to clients: who holds how many, when each is let go, and what is never sent twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::client::End;
use crate::support::frames::*;
use crate::support::h2_client::{H2Client, push};
use crate::support::*;
use crate::traffic::{extended_connect, websocket};

/// Answers the first request of a connection; at the second it says `interim` and ends. Counts what came by target.
fn hinting(interim: &'static str) -> (Upstream, Arc<Mutex<HashMap<String, usize>>>) {
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let count = Arc::clone(&seen);
    let upstream = Upstream::whole(move |request, peer| {
        let mut count = count.lock().unwrap();
        *count.entry(request.target.clone()).or_default() += 1;
        if peer.before > 0 {
            peer.say(interim);
            return After::Close;
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        After::Keep
    });
    (upstream, seen)
}

#[tokio::test]
async fn a_get_is_not_sent_again_after_an_interim_answer() {
    // Without an interim answer it is: what dies then was dead.
    for (interim, status, times) in [
        ("", 200, 2),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", 502, 1),
        ("HTTP/1.1 102 Processing\r\n\r\n", 502, 1),
    ] {
        let (upstream, seen) = hinting(interim);
        let gate = Gate::plain(&upstream);
        let mut one = gate.h1().await;
        assert_eq!(one.get("/", "").await.status, 200);
        let mut answer = one.get("/one", "").await;
        while answer.status < 200 {
            answer = one.answer().await;
        }
        assert_eq!(answer.status, status, "{interim:?}");
        let (upstream_two, seen_two) = hinting(interim);
        let gate = Gate::plain(&upstream_two);
        let mut two = gate.h2().await;
        assert_eq!(two.get(1, "/").await.status(), 200);
        assert_eq!(two.get(3, "/two").await.status(), status, "{interim:?}");
        assert_eq!(seen.lock().unwrap()["/one"], times, "{interim:?}");
        assert_eq!(seen_two.lock().unwrap()["/two"], times, "{interim:?}");
        drop((upstream, upstream_two));
    }
}

/// A time that no clock can show stands in for a mistake of ours: whoever must wait for a write panics.
fn break_clocks(gate: &Gate) {
    gate.change(|plan| plan.limits.body_idle = Duration::MAX);
}

#[tokio::test]
async fn a_panic_beside_a_stream_is_counted_and_nobody_waits_for_it() {
    let go = Signal::default();
    let deaf = go.clone();
    let upstream = Upstream::scripted(move |_, request, peer| {
        if request.method == "GET" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            return After::Keep;
        }
        deaf.wait();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut client = H2Client::open(&gate).await;
    assert_eq!(client.get("/").await.0, 200);
    break_clocks(&gate);
    let mut upload = client.begin("PUT", "/", false).await;
    tokio::select! {
        () = push(&mut upload.body) => {}
        () = until("the panic to be counted", || gate.panics() > 0) => {}
    }
    assert_eq!(upload.answer().await.status(), 502);
    assert_eq!(gate.panics(), 1);
    assert_eq!(client.get("/").await.0, 200, "others are served");
    go.set();
}

#[tokio::test]
async fn a_panic_in_a_tunnel_is_counted() {
    let go = Signal::default();
    let deaf = go.clone();
    let upstream = Upstream::whole(move |request, peer| {
        if request.target == "/" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            return After::Keep;
        }
        peer.say(websocket_answer(request) + "\r\n");
        deaf.wait();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut client = H2Client::open(&gate).await;
    assert_eq!(client.get("/").await.0, 200);
    break_clocks(&gate);
    let mut request = http::Request::builder()
        .method("CONNECT")
        .uri("https://app.lan/chat")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    let protocol = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let mut tunnel = client.send_request(request, false).await;
    assert_eq!(tunnel.answer().await.status(), 200);
    // Every buffer on the way to the deaf service is filled, however long that takes; then whoever waits panics.
    tokio::select! {
        () = push(&mut tunnel.body) => {}
        () = until("the panic to be counted", || gate.panics() > 0) => {}
    }
    until("the panic to be counted", || gate.panics() > 0).await;
    go.set();
}

/// The head of a right 101, without its last empty line.
pub(crate) fn websocket_answer(request: &Request) -> String {
    use aws_lc_rs::digest;
    let key = request.all("sec-websocket-key").concat() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
    let accept = data_encoding::BASE64.encode(hash.as_ref());
    format!(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
    )
}

#[tokio::test]
async fn a_large_form_of_ours_is_asked_for() {
    let gate = Gate::plain(&Upstream::ok());
    let head = |length: usize, expect: &str| {
        format!(
            "POST /.loopgate/login HTTP/1.1\r\nHost: app.lan\r\nContent-Length: {length}\r\n{expect}\r\n"
        )
    };
    let form = "csrf=x&to=%2F&user=alice&password=no";
    let mut client = gate.h1().await;
    client
        .send(head(form.len(), "Expect: 100-continue\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send(form).await;
    assert_eq!(client.answer().await.status, 403, "the form was read");
    // Who does not wait is not told, who is refused anyway neither, and nobody twice.
    let mut client = gate.h1().await;
    client.send(head(form.len(), "") + form).await;
    assert_eq!(client.answer().await.status, 403);
    let mut client = gate.h1().await;
    let both = head(form.len(), "Expect: 100-continue\r\n") + form;
    client.send(both).await;
    assert_eq!(client.answer().await.status, 403);
    let mut client = gate.h1().await;
    client
        .send(head(10 << 20, "Expect: 100-continue\r\n"))
        .await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_service_may_switch_only_as_it_was_asked_over_http2_too() {
    for (lines, answer) in [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", 200),
        ("Upgrade: websocket\r\n", 502),
        ("Connection: Upgrade\r\n", 502),
        ("Connection: Upgrade\r\nUpgrade: other\r\n", 502),
    ] {
        let upstream = Upstream::whole(move |request, peer| {
            let whole = websocket_answer(request);
            let accept = whole.lines().last().unwrap_or_default();
            peer.say(format!("HTTP/1.1 101 x\r\n{lines}{accept}\r\n\r\n"));
            After::Echo
        });
        let gate = Gate::plain(&upstream);
        let mut h2 = gate.h2().await;
        h2.send(extended_connect(1)).await;
        let head = h2.next_of(HEADERS).await.unwrap();
        assert_eq!(status(&head.payload), answer, "{lines:?}");
    }
    drop(websocket(true));
}

const OTHER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Answers at once, but for `/wait`, which waits until the gate hangs up.
fn patient() -> Upstream {
    Upstream::whole(|request, peer| {
        if request.target == "/wait" {
            peer.wait_for_end();
            return After::Close;
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        After::Close
    })
}

/// Begins streams that wait; says when the service has all of them.
async fn wait(h2: &mut H2, upstream: &Upstream, streams: &[u32], in_all: usize) {
    for stream in streams {
        h2.send(get(*stream, "/wait")).await;
    }
    let waits = |list: &[upstream::Conversation]| {
        let waiting = list.iter().flat_map(|c| &c.requests);
        waiting.filter(|r| r.target == "/wait").count() == in_all
    };
    upstream.wait("the streams", waits);
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8u32.to_be_bytes())
}

#[tokio::test]
async fn one_client_cannot_take_every_connection_to_a_service() {
    let upstream = patient();
    let gate = Gate::limited(&upstream, "connections_per_client = 8\n");
    let (mut one, mut two) = (gate.h2().await, gate.h2().await);
    // Two connections, each with a stream of its own, and six streams beside those.
    wait(&mut one, &upstream, &[1, 3, 5, 7, 9], 5).await;
    wait(&mut two, &upstream, &[1, 3, 5], 8).await;
    assert_eq!(gate.held(), (8, 8));
    for h2 in [&mut one, &mut two] {
        h2.send(get(11, "/")).await;
        let head = h2.next_of(HEADERS).await.unwrap();
        assert_eq!(status(&head.payload), 503);
        assert_eq!(
            h2.get(13, "/.loopgate/login").await.status(),
            200,
            "not from a service"
        );
    }
    assert_eq!(gate.word(1).await, "too-busy");
    assert!(
        gate.metrics().contains("reason=\"too-busy\"} 2"),
        "{}",
        gate.metrics()
    );
    assert_eq!(
        gate.h1().await.get("/", "").await.status,
        503,
        "no more connections either"
    );
    // Nobody else notices.
    let mut other = Client::tls_from(OTHER, gate.address, "http/1.1").await;
    assert_eq!(other.get("/", "").await.status, 200);
    let mut third = H2::open(Client::tls_from(OTHER, gate.address, "h2").await).await;
    assert_eq!(third.get(1, "/").await.status(), 200);
    // A tunnel counts as any stream does.
    one.send(extended_connect(15)).await;
    let head = one.next_of(HEADERS).await.unwrap();
    assert_eq!(status(&head.payload), 503);
    // Whoever lets one go may ask again, until the last ends.
    let full = gate.held().0;
    one.send(reset(1)).await;
    until("a stream to be let go", || gate.held().0 < full).await;
    assert_eq!(one.get(17, "/").await.status(), 200);
    drop((one, two, other, third));
    until("all to be let go", || gate.held() == (0, 0)).await;
}

#[tokio::test]
async fn services_have_no_more_connections_than_clients_may() {
    let (a, b) = (patient(), patient());
    let tables = [
        "[limits]\nconnections = 4\n".to_owned(),
        gate::route("app.lan", "/", &a, "\"anyone\""),
        gate::route("app.lan", "/b", &b, "\"anyone\""),
    ];
    let gate = Gate::open(&tables.concat());
    let mut h2 = gate.h2().await;
    wait(&mut h2, &a, &[1, 3, 5], 3).await;
    assert_eq!(
        h2.get(7, "/").await.status(),
        503,
        "a quarter is for the others"
    );
    assert_eq!(h2.get(9, "/b").await.status(), 200);
    let one = Gate::limited(&a, "connections = 4\n");
    let mut h2 = one.h2().await;
    wait(&mut h2, &a, &[1, 3, 5, 7], 7).await;
    assert_eq!(h2.get(9, "/").await.status(), 503, "four are all");
    h2.send(reset(1)).await;
    until("a stream to be let go", || one.held().1 == 3).await;
    assert_eq!(h2.get(11, "/").await.status(), 200);
}

#[tokio::test]
async fn nothing_is_counted_longer_than_it_lasts() {
    let upstream = Upstream::scripted(|at, request, peer| {
        match (&*request.target, at) {
            ("/chat", _) => {
                peer.say(websocket_answer(request) + "\r\n");
                return After::Echo;
            }
            ("/", At::Head) => return After::Body,
            ("/", At::Whole) => {
                peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            ("/cut", _) => drop(peer.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")),
            ("/bad", _) => drop(peer.say("nonsense\r\n\r\n")),
            _ => peer.wait_for_end(),
        }
        After::Close
    });
    let route = gate::route("app.lan", "/", &upstream, "\"anyone\"");
    let tables = format!("[limits]\nconnections_per_client = 12\n{route}");
    let listener = "networks = { allow = [\"loopback\"] }";
    let gate = Gate::listening(listener, &tables);
    for round in 0..12 {
        let (mut one, mut two) = (gate.h2().await, gate.h2().await);
        let mut bytes = Vec::new();
        for stream in 0..20u32 {
            let path = ["/wait", "/", "/cut", "/bad", "/wait"][stream as usize % 5];
            let end = if stream % 3 == 0 { 0 } else { END_STREAM };
            let head = block(&pseudo(if end == 0 { "PUT" } else { "GET" }, path));
            bytes.extend(frame(HEADERS, END_HEADERS | end, 2 * stream + 1, head));
        }
        bytes.extend(extended_connect(41));
        for h2 in [&mut one, &mut two] {
            h2.send(&bytes).await;
        }
        let mut three = gate.h1().await;
        let _ = three
            .try_send("GET /wait HTTP/1.1\r\nHost: app.lan\r\n\r\n")
            .await;
        if round % 3 == 0 {
            // While some wait at the cap the plan changes, and everything goes on.
            gate.replan(listener, &tables);
        }
        for stream in (0..20u32).filter(|s| s % 2 == round % 2) {
            one.send(reset(2 * stream + 1)).await;
        }
        if round % 2 == 0 {
            two.send(get(43, "/")).await;
            two.outcome(43).await;
        }
        assert!(gate.held().0 <= 12, "{:?}", gate.held());
        drop((one, two, three));
        until("all to be let go", || gate.held() == (0, 0)).await;
    }
    assert_eq!(gate.panics(), 0);
    gate.deserted().await;
}

#[tokio::test]
async fn an_idle_connection_that_its_service_has_closed_is_closed_long_before_its_time() {
    let service = |after: fn() -> After| {
        Upstream::whole(move |_, peer| {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            after()
        })
    };
    // Neither says so in its answer.
    let (closes, keeps) = (service(|| After::Close), service(|| After::Keep));
    let gate = Gate::open(
        &[
            gate::route("app.lan", "/", &closes, "\"anyone\""),
            gate::route("app.lan", "/kept", &keeps, "\"anyone\""),
        ]
        .concat(),
    );
    let mut client = gate.h1().await;
    for path in ["/kept", "/"] {
        assert_eq!(client.get(path, "").await.status, 200);
    }
    until("the closed one to be let go", || gate.held().1 == 1).await;
    assert_eq!(client.get("/kept", "").await.status, 200);
    assert_eq!(gate.held().1, 1, "the other one was still good");
}

/// Waits for the signal, then answers; `/events` begins at once and goes on after the signal.
fn slow(go: &Signal) -> Upstream {
    let go = go.clone();
    Upstream::whole(move |request, peer| {
        if request.target == "/events" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            peer.say("1\r\na\r\n");
            go.wait();
            peer.say("1\r\nb\r\n0\r\n\r\n");
            return After::Keep;
        }
        go.wait();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        After::Keep
    })
}

const PLAIN: &str = "networks = { allow = [\"loopback\"] }\ntls = { from = \"none\" }";

/// A gate in clear or over TLS, and a client of it.
async fn of(is_plain: bool, upstream: &Upstream, limits: &str) -> (Gate, Client) {
    let route = gate::route("app.lan", "/", upstream, "\"anyone\"");
    let tables = format!("[limits]\n{limits}\n{route}");
    if is_plain {
        let gate = Gate::listening(PLAIN, &tables);
        let client = Client::tcp(gate.address).await;
        return (gate, client);
    }
    let gate = Gate::open(&tables);
    let client = gate.h1().await;
    (gate, client)
}

async fn end_of_side(client: &mut Client) {
    use tokio::io::AsyncWriteExt as _;
    client.stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_gets_its_answers() {
    for is_plain in [true, false] {
        for (request, answers) in [
            ("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n", 1),
            ("GET / HTTP/1.0\r\nHost: app.lan\r\n\r\n", 1),
            (
                "POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 2\r\n\r\nhi",
                1,
            ),
            (
                "GET / HTTP/1.1\r\nHost: app.lan\r\n\r\nGET / HTTP/1.1\r\nHost: app.lan\r\n\r\n",
                2,
            ),
            ("GET /events HTTP/1.1\r\nHost: app.lan\r\n\r\n", 1),
        ] {
            let go = Signal::default();
            let upstream = slow(&go);
            let (gate, mut client) = of(is_plain, &upstream, "").await;
            client.send(request).await;
            end_of_side(&mut client).await;
            for n in 1..=answers {
                upstream.wait("the request", |list| {
                    list.iter().map(|c| c.requests.len()).sum::<usize>() == n
                });
                go.set();
                assert_eq!(client.answer().await.status, 200, "{request}");
            }
            assert_eq!(client.closed().await, End::Clean, "{request}");
            gate.deserted().await;
        }
        // Half a request is none.
        let upstream = slow(&Signal::default());
        let (gate, mut client) = of(is_plain, &upstream, "").await;
        client
            .send("POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 2\r\n\r\nh")
            .await;
        end_of_side(&mut client).await;
        client.closed().await;
        assert!(client.got.is_empty());
        gate.deserted().await;
        assert!(upstream.requests().is_empty());
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_is_not_waited_for_without_end() {
    for is_plain in [true, false] {
        let upstream = slow(&Signal::default());
        let (gate, mut client) = of(is_plain, &upstream, "body_idle = \"500ms\"\n").await;
        client.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
        end_of_side(&mut client).await;
        assert_eq!(client.answer().await.status, 504);
        client.closed().await;
        assert_eq!(gate.word(1).await, "upstream-timeout");
        let mut client = if is_plain {
            Client::tcp(gate.address).await
        } else {
            gate.h1().await
        };
        client
            .send("GET /events HTTP/1.1\r\nHost: app.lan\r\n\r\n")
            .await;
        while !client.got.ends_with(b"a\r\n") {
            assert!(client.more().await);
        }
        end_of_side(&mut client).await;
        client.closed().await;
        assert!(!client.got.ends_with(b"0\r\n\r\n"), "a cut is seen");
        until("the service to be let go", || gate.held() == (0, 0)).await;
    }
}

#[tokio::test]
async fn a_client_that_has_vanished_behind_what_it_pipelined_is_let_go() {
    for breaks in [true, false] {
        let upstream = slow(&Signal::default());
        // Only whoever may be there still is given this long.
        let limits = if breaks {
            ""
        } else {
            "body_idle = \"500ms\"\n"
        };
        let (gate, client) = of(true, &upstream, limits).await;
        drop(client);
        let tcp = std::net::TcpStream::connect(gate.address).unwrap();
        let junk = "GET /next HTTP/1.1\r\nHost: app.lan\r\n\r\n".repeat(1000);
        let head = "GET /events HTTP/1.1\r\nHost: app.lan\r\n\r\n";
        std::io::Write::write_all(&mut &tcp, format!("{head}{junk}").as_bytes()).unwrap();
        upstream.wait("the request", |list| {
            list.iter().any(|c| !c.requests.is_empty())
        });
        // What came is read, so that the end of this side is no reset by itself.
        let mut begun = [0; 4096];
        while !begun.windows(3).any(|w| w == b"a\r\n") {
            assert!(std::io::Read::read(&mut &tcp, &mut begun).unwrap() > 0);
        }
        if breaks {
            let about = socket2::SockRef::from(&tcp);
            about.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(tcp);
        until("the service to be let go", || gate.held() == (0, 0)).await;
        assert_eq!(upstream.requests().len(), 1, "nobody waits for the rest");
        gate.deserted().await;
    }
}
