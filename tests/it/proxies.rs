//! Behind other proxies: whom they name is judged as the client, for every request of a connection, and nobody else is believed.

use std::net::SocketAddr;

use crate::support::gate::route;
use crate::support::*;

const ALL: &str = "networks = { allow = [\"10.0.0.0/8\"], deny = [\"10.6.6.6\"] }\n";

/// Answers with what it was told of the client: chain, scheme.
fn mirror() -> Upstream {
    Upstream::whole(|request, peer| {
        let all = |name| request.all(name).join("|");
        let (chain, scheme) = (all("x-forwarded-for"), all("x-forwarded-proto"));
        let others = ["forwarded", "x-real-ip", "x_forwarded_for"]
            .map(all)
            .concat();
        let text = format!("{chain} {scheme}{others}");
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ));
        After::Keep
    })
}

fn gate(keys: &str, upstream: &Upstream) -> Gate {
    Gate::listening(&format!("{ALL}{keys}"), &routes(upstream))
}

fn routes(upstream: &Upstream) -> String {
    [
        route("app.lan", "/", upstream, "\"anyone\""),
        route(
            "app.lan",
            "/five",
            upstream,
            "{ networks = [\"10.5.0.0/16\"], require = \"any\" }",
        ),
    ]
    .concat()
}

type Fields = &'static [(&'static str, &'static str)];

/// Path and fields; status and what the upstream was told, or the word of the refusal. The proxy is 127.0.0.1.
const REQUESTS: &[(&str, Fields, u16, &str)] = &[
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1:4711")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("x-forwarded-for", "::ffff:10.1.1.1")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("forwarded", "for=10.1.1.1;proto=http")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("x-forwarded-for", "203.0.113.9, 10.1.1.1")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("x-forwarded-for", "junk"), ("x-forwarded-for", "10.1.1.1")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1, 127.0.0.9")],
        200,
        "10.1.1.1, 127.0.0.9, 127.0.0.1 https",
    ),
    (
        "/",
        &[
            ("x-forwarded-for", "10.1.1.1"),
            ("forwarded", "for=10.1.1.1"),
        ],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/",
        &[
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "http"),
        ],
        200,
        "10.1.1.1, 127.0.0.1 http",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1"), ("x-real-ip", "10.5.5.5")],
        200,
        "10.1.1.1, 127.0.0.1 https",
    ),
    (
        "/five",
        &[("x-forwarded-for", "10.5.5.5")],
        200,
        "10.5.5.5, 127.0.0.1 https",
    ),
    // Nobody is named: the client is the proxy, and that is not let in.
    ("/", &[], 403, "network-denied"),
    ("/", &[("x-real-ip", "10.1.1.1")], 403, "network-denied"),
    (
        "/",
        &[("x_forwarded_for", "10.1.1.1")],
        403,
        "network-denied",
    ),
    (
        "/",
        &[("x-forwarded-for", "203.0.113.9")],
        403,
        "network-denied",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.6.6.6")],
        403,
        "network-denied",
    ),
    (
        "/",
        &[("x-forwarded-for", "::ffff:10.6.6.6")],
        403,
        "network-denied",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1, 203.0.113.9")],
        403,
        "network-denied",
    ),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1, 203.0.113.9, 127.0.0.9")],
        403,
        "network-denied",
    ),
    (
        "/.loopgate/login",
        &[("x-forwarded-for", "203.0.113.9")],
        403,
        "network-denied",
    ),
    (
        "/five",
        &[("x-forwarded-for", "10.1.1.1")],
        401,
        "credentials-missing",
    ),
    (
        "/five",
        &[("x-forwarded-for", "10.5.5.5, 10.1.1.1")],
        401,
        "credentials-missing",
    ),
    // What is no address, or is said twice in two ways.
    ("/", &[("x-forwarded-for", "unknown")], 400, "bad-request"),
    (
        "/",
        &[("x-forwarded-for", "10.1.1.1, ")],
        400,
        "bad-request",
    ),
    ("/", &[("x-forwarded-for", "")], 400, "bad-request"),
    ("/", &[("forwarded", "for=_hidden")], 400, "bad-request"),
    ("/", &[("forwarded", "for=\"10.1.1.1")], 400, "bad-request"),
    (
        "/",
        &[
            ("x-forwarded-for", "10.1.1.1"),
            ("forwarded", "for=10.5.5.5"),
        ],
        400,
        "bad-request",
    ),
    (
        "/",
        &[
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "ftp"),
        ],
        400,
        "bad-request",
    ),
    (
        "/",
        &[
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "http"),
        ],
        400,
        "bad-request",
    ),
];

#[tokio::test]
async fn every_request_over_http1_has_its_own_client() {
    let upstream = mirror();
    let gate = gate("trusted_proxies = [\"127.0.0.0/8\"]", &upstream);
    let mut client = gate.h1().await;
    for (i, (path, fields, status, want)) in REQUESTS.iter().enumerate() {
        let lines: String = fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let answer = client.get(path, &lines).await;
        assert_eq!(
            answer.status,
            *status,
            "{path} {fields:?}: {}",
            answer.text()
        );
        if *status == 200 {
            assert_eq!(String::from_utf8_lossy(&answer.body), *want, "{fields:?}");
        } else {
            assert_eq!(gate.word(i + 1).await, *want, "{fields:?}");
        }
        if *status == 400 {
            client = gate.h1().await;
        }
    }
    let log = gate.log(REQUESTS.len()).await;
    assert_eq!(
        (
            &log[0]["client"],
            log[0]["peer"].as_str().unwrap().split(':').next()
        ),
        (&"10.1.1.1".into(), Some("127.0.0.1"))
    );
}

#[tokio::test]
async fn every_stream_of_an_http2_connection_has_its_own_client() {
    let upstream = mirror();
    let gate = gate("trusted_proxies = [\"127.0.0.0/8\"]", &upstream);
    let mut client = gate.h2().await;
    for (i, (path, fields, status, want)) in REQUESTS.iter().enumerate() {
        let stream = u32::try_from(2 * i + 1).expect("a stream");
        let outcome = client.ask(stream, "GET", path, fields, b"").await;
        assert_eq!(outcome.status(), *status, "{path} {fields:?}");
        match outcome {
            Outcome::Answer(200, body) => {
                assert_eq!(String::from_utf8_lossy(&body), *want, "{fields:?}")
            }
            _ => assert_eq!(gate.word(i + 1).await, *want, "{fields:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_is_believed() {
    let upstream = mirror();
    for keys in ["", "trusted_proxies = [\"192.0.2.1\"]"] {
        let listener = format!("networks = {{ allow = [\"loopback\"] }}\n{keys}");
        let gate = Gate::listening(&listener, &routes(&upstream));
        for lines in [
            "X-Forwarded-For: 10.5.5.5\r\n",
            "Forwarded: for=10.5.5.5\r\n",
            "X-Forwarded-For: unknown\r\nForwarded: for=\"\r\n",
            "X-Forwarded-Proto: http\r\n",
        ] {
            let mut client = gate.h1().await;
            let answer = client.get("/", lines).await;
            assert_eq!(
                String::from_utf8_lossy(&answer.body),
                "127.0.0.1 https",
                "{lines}"
            );
            assert_eq!(client.get("/five", lines).await.status, 401, "{lines}");
        }
    }
    // Neither allowed nor trusted: closed before a byte.
    let gate = gate("trusted_proxies = [\"192.0.2.1\"]", &upstream);
    assert!(
        Client::try_tls(gate.address, None, "http/1.1")
            .await
            .is_err()
    );
    assert_eq!(gate.word(1).await, "network-denied");
}

#[tokio::test]
async fn the_scheme_of_a_proxy_that_ends_tls_is_the_clients() {
    let upstream = mirror();
    let keys = format!("{ALL}tls = {{ from = \"none\" }}\ntrusted_proxies = [\"127.0.0.1\"]");
    let gate = Gate::listening(&keys, &route("app.lan", "/", &upstream, "\"users\""));
    let mut client = Client::tcp(gate.address).await;
    let alice = basic("alice", "open sesame");
    let page =
        format!("Accept: text/html\r\nAuthorization: {alice}\r\nX-Forwarded-For: 10.1.1.1\r\n");
    for (scheme, cookies) in [("https", 1), ("http", 0)] {
        let lines = format!("{page}X-Forwarded-Proto: {scheme}\r\n");
        let answer = client.get("/", &lines).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.all("set-cookie").len(), cookies, "{scheme}");
    }
    for (origin, scheme, status) in [
        ("https://app.lan", "https", 200),
        ("http://app.lan", "https", 403),
        ("https://app.lan", "http", 403),
        ("https://evil.lan", "https", 403),
    ] {
        let lines = format!(
            "{page}Origin: {origin}\r\nX-Forwarded-Proto: {scheme}\r\nContent-Length: 0\r\n"
        );
        let answer = client
            .ask(format!("POST / HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n"))
            .await;
        assert_eq!(answer.status, status, "{origin} {scheme}");
    }
}

fn line(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 10.0.0.1 4711 443\r\n").into_bytes()
}

fn binary(command: u8, source: [u8; 4]) -> Vec<u8> {
    let block = [&source[..], &[10, 0, 0, 1, 0x12, 0x67, 1, 0xbb, 4, 0, 1, 0]].concat();
    let length = u8::try_from(block.len()).expect("short");
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[command, 0x11, 0, length],
        &block,
    ]
    .concat()
}

async fn behind(address: SocketAddr, header: &[u8]) -> Option<Client> {
    Client::introduced(address, header, Some("app.lan"), "http/1.1")
        .await
        .ok()
}

const REQUIRED: &str = "trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = \"required\"";

#[tokio::test]
async fn a_proxy_header_names_the_client_of_a_connection() {
    let upstream = mirror();
    let gate = gate(REQUIRED, &upstream);
    for (header, lines, status, want) in [
        (line("10.1.1.1"), "", 200, "10.1.1.1, 127.0.0.1 https"),
        (
            binary(0x21, [10, 1, 1, 1]),
            "",
            200,
            "10.1.1.1, 127.0.0.1 https",
        ),
        // The client is no proxy: what it says itself is thrown away.
        (
            line("10.1.1.1"),
            "X-Forwarded-For: 10.5.5.5\r\n",
            200,
            "10.1.1.1, 127.0.0.1 https",
        ),
        // Another proxy stands behind it.
        (
            line("127.0.0.9"),
            "X-Forwarded-For: 10.5.5.5\r\n",
            200,
            "10.5.5.5, 127.0.0.9, 127.0.0.1 https",
        ),
        (line("127.0.0.9"), "", 403, ""),
        (
            line("127.0.0.9"),
            "X-Forwarded-For: 203.0.113.9\r\n",
            403,
            "",
        ),
        // The proxy's own visit.
        (binary(0x20, [10, 1, 1, 1]), "", 403, ""),
        (
            binary(0x20, [10, 1, 1, 1]),
            "X-Forwarded-For: 10.1.1.1\r\n",
            200,
            "10.1.1.1, 127.0.0.1 https",
        ),
    ] {
        let mut client = behind(gate.address, &header).await.expect("a handshake");
        let answer = client.get("/", lines).await;
        assert_eq!(answer.status, status, "{header:?} {lines}");
        if status == 200 {
            assert_eq!(
                String::from_utf8_lossy(&answer.body),
                want,
                "{header:?} {lines}"
            );
        }
    }
}

#[tokio::test]
async fn a_connection_without_its_proxy_header_is_closed() {
    let upstream = mirror();
    let tables = format!("[limits]\nhandshake = \"400ms\"\n{}", routes(&upstream));
    let gate = Gate::listening(&format!("{ALL}{REQUIRED}"), &tables);
    let mut half = line("10.1.1.1");
    half.truncate(20);
    for (i, (first, word)) in [
        (b"".to_vec(), "bad-request"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "bad-request"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "bad-request"),
        (
            b"PROXY TCP4 10.1.1.1 10.0.0.1 4711 443\n".to_vec(),
            "bad-request",
        ),
        (line("203.0.113.9"), "network-denied"),
        (line("10.6.6.6"), "network-denied"),
        (binary(0x21, [203, 0, 113, 9]), "network-denied"),
        (binary(0x22, [10, 1, 1, 1]), "bad-request"),
        (line("10.1.1.1").repeat(2), "none"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(behind(gate.address, &first).await.is_none(), "{first:?}");
        if word != "none" {
            assert_eq!(gate.word(i + 1).await, word, "{first:?}");
        }
    }
    // Half a header, and then nothing: not longer than a handshake may take.
    let mut client = Client::tcp(gate.address).await;
    client.send(half).await;
    client.closed().await;
    gate.deserted().await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_header_of_somebody_else_is_garbage() {
    let upstream = mirror();
    for keys in [REQUIRED.replace("127.0.0.0/8", "192.0.2.1"), String::new()] {
        let listener = format!("networks = {{ allow = [\"loopback\"] }}\n{keys}");
        let gate = Gate::listening(&listener, &routes(&upstream));
        assert!(behind(gate.address, &line("10.5.5.5")).await.is_none());
        let mut client = gate.h1().await;
        assert_eq!(
            client.get("/", "").await.status,
            200,
            "without one it is let in"
        );
    }
}

#[tokio::test]
async fn connections_are_counted_for_the_client_that_the_header_names() {
    let upstream = mirror();
    let tables = format!(
        "[limits]\nconnections_per_client = 1\n{}",
        routes(&upstream)
    );
    let gate = Gate::listening(&format!("{ALL}{REQUIRED}"), &tables);
    let one = behind(gate.address, &line("10.1.1.1"))
        .await
        .expect("the first");
    let mut second = behind(gate.address, &line("10.1.1.1"))
        .await
        .expect("it is told");
    assert_eq!(second.get("/", "").await.status, 503);
    second.closed().await;
    let other = behind(gate.address, &line("10.1.1.2"))
        .await
        .expect("another client");
    drop((one, other));
    gate.deserted().await;
    behind(gate.address, &line("10.1.1.1"))
        .await
        .expect("it has left");
}

#[tokio::test]
async fn what_a_proxy_carried_ends_when_it_is_not_trusted_any_more() {
    let upstream = Upstream::whole(|_, peer| {
        peer.say("HTTP/1.1 200 OK\r\n\r\nbegun");
        peer.wait_for_end();
        After::Close
    });
    let site = route("app.lan", "/", &upstream, "\"anyone\"");
    let loopback_too = "networks = { allow = [\"10.0.0.0/8\", \"loopback\"] }\n";
    let trusting = format!("{loopback_too}trusted_proxies = [\"127.0.0.1\"]");
    let gate = Gate::listening(&trusting, &site);
    let mut stream = gate.h1().await;
    stream
        .send("GET / HTTP/1.1\r\nHost: app.lan\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n")
        .await;
    while !stream.got.ends_with(b"begun\r\n") {
        assert!(stream.more().await);
    }
    gate.replan(&format!("{trusting}\nallow_gateway = true"), &site);
    gate.replan(&trusting.replace("10.0.0.0/8", "10.1.0.0/16"), &site);
    let mut other = gate.h1().await;
    assert_eq!(
        other.get("/.loopgate/login", "").await.status,
        200,
        "the new plan is there"
    );
    assert_eq!(stream.end, None, "the client may still be here");
    gate.replan(loopback_too, &site);
    stream.closed().await;
}
