//! Upgrades: a tunnel begins after the upstream's own 101 to a request that had no body and asked for one, and at no other time.

use crate::support::client::End;
use crate::support::*;

/// Switches to whatever is asked for, and gives every byte back.
fn switching() -> Upstream {
    Upstream::whole(|request, peer| match request.all("upgrade")[..] {
        [protocol] => {
            peer.say(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"));
            After::Echo
        }
        _ => {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            After::Keep
        }
    })
}

const HEAD: &str = "GET / HTTP/1.1\r\nHost: app.lan\r\n";
const ASK: &str =
    "GET / HTTP/1.1\r\nHost: app.lan\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Request heads without their last empty line, and the protocol that the upstream is asked for.
const ASKED: &[(&str, &str)] = &[
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket",
        "websocket",
    ),
    (
        "GET / HTTP/1.1|Upgrade: websocket|Connection: Upgrade",
        "websocket",
    ),
    (
        "GET / HTTP/1.1|connection: UPGRADE|upgrade: WebSocket",
        "WebSocket",
    ),
    (
        "GET / HTTP/1.1|Connection: keep-alive, Upgrade|Upgrade: websocket",
        "websocket",
    ),
    (
        "GET / HTTP/1.1|Connection: keep-alive|Connection: upgrade|Upgrade: websocket",
        "websocket",
    ),
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: SPDY/3.1",
        "SPDY/3.1",
    ),
    ("POST / HTTP/1.1|Connection: Upgrade|Upgrade: tcp", "tcp"),
    (
        "POST / HTTP/1.1|Connection: Upgrade|Upgrade: tcp|Content-Length: 0",
        "tcp",
    ),
    ("GET / HTTP/1.1|Upgrade: websocket", ""),
    ("GET / HTTP/1.1|Connection: Upgrade", ""),
    ("GET / HTTP/1.1|Connection: close|Upgrade: websocket", ""),
    ("GET / HTTP/1.1|Connection: xupgrade|Upgrade: websocket", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade:", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: ,", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket,", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: h2c", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: H2C", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: h2", ""),
    (
        "GET / HTTP/1.1|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk",
        "",
    ),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: HTTP/2.0", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: HTTP/1.1", ""),
    ("GET / HTTP/1.1|Connection: Upgrade|Upgrade: TLS/1.0", ""),
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket, h2c",
        "",
    ),
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: h2c, websocket",
        "",
    ),
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: websocket|Upgrade: h2c",
        "",
    ),
    (
        "GET / HTTP/1.1|Connection: Upgrade|Upgrade: h2c|Upgrade: websocket",
        "",
    ),
    ("GET / HTTP/1.0|Connection: Upgrade|Upgrade: websocket", ""),
    (
        "POST / HTTP/1.1|Connection: Upgrade|Upgrade: websocket|Content-Length: 2||hi",
        "",
    ),
    (
        "POST / HTTP/1.1|Connection: Upgrade|Upgrade: h2c|Content-Length: 2||hi",
        "",
    ),
    (
        "POST / HTTP/1.1|Connection: Upgrade|Upgrade: websocket|Transfer-Encoding: chunked||0||",
        "",
    ),
];

#[tokio::test]
async fn a_tunnel_is_asked_for_in_one_way_only() {
    let upstream = switching();
    let gate = Gate::plain(&upstream);
    for (row, protocol) in ASKED {
        upstream.forget();
        let (line, rest) = row.split_once('|').unwrap();
        let (fields, body) = rest.split_once("||").unwrap_or((rest, ""));
        let text = format!("{line}|Host: app.lan|{fields}||{body}").replace('|', "\r\n");
        let answer = gate.h1().await.ask(text).await;
        let asked = !protocol.is_empty();
        assert_eq!(answer.status, if asked { 101 } else { 200 }, "{row}");
        assert_eq!(
            upstream.only().all("upgrade"),
            Vec::from_iter(asked.then_some(*protocol)),
            "{row}"
        );
        assert_eq!(
            answer.all("upgrade"),
            Vec::from_iter(asked.then_some(*protocol)),
            "{row}"
        );
        assert_eq!(answer.all("connection") == ["Upgrade"], asked, "{row}");
    }
}

/// What an upstream says to a request for a WebSocket, and what the client is told.
const AGREED: &[(&str, u16)] = &[
    ("101 x|Connection: Upgrade|Upgrade: websocket", 101),
    ("101 x|connection: x, UPGRADE|Upgrade: WebSocket", 101),
    (
        "100 Continue||HTTP/1.1 101 x|Connection: Upgrade|Upgrade: websocket",
        100,
    ),
    ("200 OK|Content-Length: 0", 200),
    ("403 No|Content-Length: 0", 403),
    (
        "426 No|Connection: Upgrade|Upgrade: other|Content-Length: 0",
        426,
    ),
    ("101 x", 502),
    ("101 x|Upgrade: websocket", 502),
    ("101 x|Connection: close|Upgrade: websocket", 502),
    ("101 x|Connection: upgraded|Upgrade: websocket", 502),
    ("101 x|Connection: Upgrade|Up_grade: websocket", 502),
    ("1.0 101 x|Connection: Upgrade|Upgrade: websocket", 502),
    ("101 x|Connection: Upgrade", 502),
    ("101 x|Connection: Upgrade|Upgrade:", 502),
    ("101 x|Connection: Upgrade|Upgrade: other", 502),
    ("101 x|Connection: Upgrade|Upgrade: h2c", 502),
    ("101 x|Connection: Upgrade|Upgrade: websocket, h2c", 502),
    (
        "101 x|Connection: Upgrade|Upgrade: websocket|Upgrade: h2c",
        502,
    ),
    (
        "101 x|Connection: Upgrade|Upgrade: websocket|Content-Length: 5",
        502,
    ),
    (
        "101 x|Connection: Upgrade|Upgrade: websocket|Transfer-Encoding: chunked",
        502,
    ),
    (
        "101 x|Connection: Upgrade|Upgrade: websocket|Content-Length: 5|Transfer-Encoding: chunked",
        502,
    ),
];

#[tokio::test]
async fn a_tunnel_begins_only_by_the_upstreams_own_101() {
    for (row, status) in AGREED {
        let text = match row.strip_prefix("1.0 ") {
            Some(row) => format!("HTTP/1.0 {row}||"),
            None => format!("HTTP/1.1 {row}||"),
        };
        let text = text.replace('|', "\r\n");
        let upstream = Upstream::answering(text);
        let gate = Gate::plain(&upstream);
        let mut client = gate.h1().await;
        assert_eq!(client.ask(ASK).await.status, *status, "{row}");
        if *status == 502 {
            upstream.wait("the broken connection to be thrown away", |list| {
                list.iter().all(|c| c.closed)
            });
        }
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_502_and_the_connection_is_thrown_away() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    );
    let gate = Gate::plain(&upstream);
    for head in [
        format!("{HEAD}\r\n"),
        format!("{HEAD}Upgrade: websocket\r\n\r\n"),
        format!("{HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        "HEAD / HTTP/1.1\r\nHost: app.lan\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: app.lan\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
    ] {
        assert_eq!(gate.h1().await.ask(head).await.status, 502);
    }
    assert_eq!(gate.h2().await.get(1, "/").await.status(), 502);
    upstream.wait("every connection to be thrown away", |list| {
        list.len() == 6 && list.iter().all(|c| c.closed)
    });
}

#[tokio::test]
async fn bytes_of_a_tunnel_are_never_read_as_requests() {
    let upstream = switching();
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    // The first tunnel bytes come in one write with the question.
    let early = "GET /early HTTP/1.1\r\nHost: app.lan\r\n\r\n";
    client.send(format!("{ASK}{early}")).await;
    assert_eq!(client.answer().await.status, 101);
    let late = "\r\n\r\nPOST /late HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\0\n";
    client.send(late).await;
    client.at_least(early.len() + late.len()).await;
    assert_eq!(client.got, format!("{early}{late}").into_bytes());
    assert_eq!(upstream.only().shown(), "GET /");
}

#[tokio::test]
async fn when_the_upstream_declines_what_follows_is_the_next_request() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    client
        .send(format!("{ASK}GET /two HTTP/1.1\r\nHost: evil.lan\r\n\r\n"))
        .await;
    assert_eq!(
        (client.answer().await.status, client.answer().await.status),
        (200, 421),
        "judged like any other"
    );
    assert_eq!(upstream.only().shown(), "GET /");
}

#[tokio::test]
async fn the_end_of_either_side_ends_the_tunnel() {
    let upstream = switching();
    let gate = Gate::plain(&upstream);
    let mut client = gate.h1().await;
    assert_eq!(client.ask(ASK).await.status, 101);
    drop(client);
    upstream.wait("the upstream's side to end", |list| list[0].closed);
    gate.deserted().await;
    let closing = Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbye");
        After::Close
    });
    let gate = Gate::plain(&closing);
    let mut client = gate.h1().await;
    assert_eq!(client.ask(ASK).await.status, 101);
    client.at_least(3).await;
    assert_eq!(
        (client.closed().await, &*client.got),
        (End::Clean, &b"bye"[..])
    );
}

#[tokio::test]
async fn a_tunnel_needs_the_password_like_everything_else() {
    let upstream = switching();
    let gate = Gate::open(&gate::route("app.lan", "/", &upstream, "\"users\""));
    let mut client = gate.h1().await;
    assert_eq!(client.ask(ASK).await.status, 401);
    let with = ASK.replace(
        "\r\n\r\n",
        &format!(
            "\r\nAuthorization: {}\r\n\r\n",
            basic("alice", "open sesame")
        ),
    );
    assert_eq!(client.ask(with).await.status, 101);
    assert_eq!(upstream.only().all("x-loopgate-user"), ["alice"]);
}
