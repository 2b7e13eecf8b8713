//! HTTP/2 in, state by state: what a frame means depends on what came before it, and on how a field is written (RFC 9113, 5 and 6;
//! RFC 7541, 6). Together with `wire_h2` every case of the public conformance suite h2spec has a row of ours: 147 of 147, by its
//! groups `generic` (44), `http2` (95) and `hpack` (8); what this file has are those that `wire_h2` does not.

use crate::support::frames::*;
use crate::support::*;

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&pseudo("POST", "/")))
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(
        PRIORITY,
        0,
        stream,
        [&on.to_be_bytes()[..], &[weight]].concat(),
    )
}

const EXCLUSIVE: u32 = 1 << 31;

/// Right, if uncommon: the request on stream 1 is answered, and so is the next one.
fn served() -> Vec<(&'static str, Vec<u8>)> {
    let window = 100u32.to_be_bytes();
    let reserved = frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1 | EXCLUSIVE,
        block(&pseudo("GET", "/")),
    );
    vec![
        (
            "5.1: a window for a request that is sent",
            [get(1, "/"), frame(WINDOW_UPDATE, 0, 1, window)].concat(),
        ),
        (
            "5.1: PRIORITY of a request that is sent",
            [get(1, "/"), priority(1, 0, 9)].concat(),
        ),
        (
            "6.3: the least weight",
            [priority(1, 0, 0), get(1, "/")].concat(),
        ),
        (
            "6.3: the greatest weight",
            [priority(1, 0, 255), get(1, "/")].concat(),
        ),
        (
            "6.3: a dependency",
            [priority(1, 3, 9), get(1, "/")].concat(),
        ),
        (
            "6.3: an exclusive dependency",
            [priority(1, 3 | EXCLUSIVE, 9), get(1, "/")].concat(),
        ),
        ("4.1: the reserved bit", reserved),
        (
            "4.2: DATA of 2^14 bytes",
            [post(1), frame(DATA, END_STREAM, 1, vec![b'x'; 1 << 14])].concat(),
        ),
        (
            "6.1: several DATA frames",
            [
                post(1),
                frame(DATA, 0, 1, "a"),
                frame(DATA, END_STREAM, 1, "b"),
            ]
            .concat(),
        ),
        (
            "6.4: a reset of another stream",
            [post(3), frame(RST_STREAM, 0, 3, [0, 0, 0, 8]), get(5, "/")].concat(),
        ),
        (
            "7: a reset with an unknown code",
            [post(3), frame(RST_STREAM, 0, 3, [0, 0, 0, 99]), get(5, "/")].concat(),
        ),
    ]
}

#[tokio::test]
async fn a_frame_that_its_stream_may_get_changes_nothing() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (what, bytes) in served() {
        let stream = if what.contains("reset") { 5 } else { 1 };
        let mut h2 = gate.h2().await;
        h2.send(bytes).await;
        assert_eq!(h2.outcome(stream).await.status(), 200, "{what}");
        assert_eq!(h2.get(101, "/").await.status(), 200, "{what}");
    }
    // A stream that is closed on both sides.
    let mut h2 = gate.h2().await;
    assert_eq!(h2.get(1, "/").await.status(), 200);
    h2.send(
        [
            priority(1, 0, 9),
            frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()),
        ]
        .concat(),
    )
    .await;
    assert_eq!(
        h2.get(3, "/").await.status(),
        200,
        "5.1: PRIORITY and a window of a closed stream"
    );
}

#[tokio::test]
async fn a_client_that_says_goodbye_is_answered_first() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for code in [0u8, 99] {
        let mut h2 = gate.h2().await;
        assert_eq!(h2.get(1, "/").await.status(), 200);
        h2.send(frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, code]))
            .await;
        // 6.8: nothing is owed any more; the connection ends in order, or a ping is answered.
        h2.send(frame(PING, 0, 0, [7; 8])).await;
        let _ = h2.next_of(PING).await;
    }
    assert_eq!(gate.h2().await.get(1, "/").await.status(), 200);
}

/// Every way to write a field (RFC 7541, 6), with and without Huffman code, ends in the same request.
#[tokio::test]
async fn fields_are_read_in_every_representation() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let plain: &[u8] = b"\x07app.lan";
    let coded: Vec<u8> = app_lan();
    let start: &[u8] = &[0x82, 0x87, 0x84];
    let known = |first: u8, text: &[u8]| [start, &[first], text].concat();
    let new = |first: u8, x: &[u8], y: &[u8]| [start, &[0x01], plain, &[first], x, y].concat();
    for (what, bytes) in [
        ("6.2.1: to be kept, known name", known(0x41, plain)),
        (
            "6.2.1: to be kept, known name, Huffman",
            known(0x41, &coded),
        ),
        ("6.2.1: to be kept, new name", new(0x40, b"\x01x", b"\x01y")),
        (
            "6.2.1: to be kept, new name, Huffman",
            new(0x40, b"\x81\xf3", b"\x81\xf5"),
        ),
        ("6.2.2: not kept, known name", known(0x01, plain)),
        ("6.2.2: not kept, known name, Huffman", known(0x01, &coded)),
        ("6.2.2: not kept, new name", new(0x00, b"\x01x", b"\x01y")),
        (
            "6.2.2: not kept, new name, Huffman",
            new(0x00, b"\x81\xf3", b"\x81\xf5"),
        ),
        ("6.2.3: never kept, known name", known(0x11, plain)),
        (
            "6.2.3: never kept, known name, Huffman",
            known(0x11, &coded),
        ),
        ("6.2.3: never kept, new name", new(0x10, b"\x01x", b"\x01y")),
        (
            "6.2.3: never kept, new name, Huffman",
            new(0x10, b"\x81\xf3", b"\x81\xf5"),
        ),
        (
            "6.3: a change of the table first",
            [&[0x20][..], &known(0x01, plain)].concat(),
        ),
        (
            "6.3: two changes first",
            [&[0x20, 0x3f, 0xe1, 0x1f][..], &known(0x01, plain)].concat(),
        ),
    ] {
        let mut h2 = gate.h2().await;
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes))
            .await;
        assert_eq!(h2.outcome(1).await.status(), 200, "{what}");
    }
    // What was kept is found again (6.1).
    let mut h2 = gate.h2().await;
    let kept = new(0x40, b"\x01x", b"\x01y");
    let again = [start, &[0x01], plain, &[0xbe]].concat();
    h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, kept))
        .await;
    assert_eq!(h2.outcome(1).await.status(), 200);
    h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, again))
        .await;
    assert_eq!(h2.outcome(3).await.status(), 200);
    let last = upstream.requests().pop().expect("a request");
    assert_eq!(last.all("x"), ["y"], "{last:?}");
}

/// `app.lan` in Huffman code (RFC 7541, appendix B), with its length: 40 bits, so without padding.
fn app_lan() -> Vec<u8> {
    let codes = [
        (0b00011u64, 5),
        (0b101011, 6),
        (0b101011, 6),
        (0b010111, 6),
        (0b101000, 6),
        (0b00011, 5),
        (0b101010, 6),
    ];
    let bits = codes.iter().fold(0u64, |all, (code, n)| all << n | code);
    [&[0x85][..], &bits.to_be_bytes()[3..]].concat()
}

/// Mistakes that end the connection, and never a request behind them that is answered.
#[tokio::test]
async fn a_frame_that_its_stream_may_not_get_ends_the_connection() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let reset = frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    let goes_on = frame(CONTINUATION, END_HEADERS, 1, block(&[("x", "y")]));
    let half = frame(HEADERS, END_STREAM, 1, block(&pseudo("GET", "/")));
    let hpack = |bytes: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes);
    for (what, bytes) in [
        (
            "5.1: CONTINUATION after a reset",
            [post(1), reset.clone(), goes_on.clone()].concat(),
        ),
        (
            "6.10: CONTINUATION after DATA",
            [post(1), frame(DATA, 0, 1, "x"), goes_on.clone()].concat(),
        ),
        (
            "6.10: CONTINUATION after the last one",
            [half, goes_on.clone(), goes_on.clone()].concat(),
        ),
        (
            "RFC 7541, 5.2: eight bits of padding",
            hpack(&[0x00, 0x82, 0xf3, 0xff, 0x01, b'x']),
        ),
        (
            "RFC 7541, 2.3.3: an index far beyond the table",
            hpack(&[0xfe]),
        ),
    ] {
        let mut h2 = gate.h2().await;
        h2.send([bytes, get(101, "/overlooked")].concat()).await;
        let outcome = h2.outcome(101).await;
        assert!(
            matches!(outcome, Outcome::Goaway(_) | Outcome::Closed),
            "{what}: {outcome:?}"
        );
    }
    // 5.1: the same behind an answer that is there whole.
    let mut h2 = gate.h2().await;
    assert_eq!(h2.get(1, "/").await.status(), 200);
    h2.send([goes_on, get(101, "/overlooked")].concat()).await;
    assert!(matches!(
        h2.outcome(101).await,
        Outcome::Goaway(_) | Outcome::Closed
    ));
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| r.target != "/overlooked")
    );
}

/// Mistakes of one stream: it is reset, or the connection ends; the service never gets a whole request with a body from it.
#[tokio::test]
async fn a_closed_stream_stays_closed() {
    let reset = frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    for (what, bytes) in [
        (
            "5.1: DATA after a reset",
            [post(1), reset.clone(), frame(DATA, END_STREAM, 1, "x")].concat(),
        ),
        (
            "5.1: HEADERS after a reset",
            [post(1), reset.clone(), post(1)].concat(),
        ),
        (
            "5.3.1: PRIORITY on itself",
            [post(1), priority(1, 1, 9)].concat(),
        ),
        (
            "6.3: PRIORITY of four bytes",
            [post(1), frame(PRIORITY, 0, 1, [0; 4])].concat(),
        ),
    ] {
        let upstream = Upstream::ok();
        let gate = Gate::plain(&upstream);
        let mut h2 = gate.h2().await;
        h2.send([bytes, get(101, "/after")].concat()).await;
        let after = h2.outcome(101).await;
        drop(h2);
        gate.deserted().await;
        upstream.settle();
        assert!(
            matches!(
                after,
                Outcome::Answer(200, _) | Outcome::Goaway(_) | Outcome::Closed
            ),
            "{what}: {after:?}"
        );
        let requests = upstream.requests();
        assert!(
            requests.iter().all(|r| r.method == "GET"),
            "{what}: {requests:?}"
        );
    }
    // Behind an answer that is there whole.
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for bytes in [frame(DATA, END_STREAM, 1, "x"), get(1, "/again")] {
        let mut h2 = gate.h2().await;
        assert_eq!(h2.get(1, "/").await.status(), 200);
        h2.send([bytes, frame(PING, 0, 0, [7; 8])].concat()).await;
        let _ = h2.next_of(PING).await;
    }
    assert!(upstream.requests().iter().all(|r| r.target == "/"));
}

/// 8.1: a reset without an error ends an answer early, and never makes half an upload a whole one.
#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_cut() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    h2.send([post(1), frame(DATA, 0, 1, "half")].concat()).await;
    upstream.wait("half an upload", |list| {
        list.iter().any(|c| c.unfinished.ends_with(b"half\r\n"))
    });
    h2.send([frame(RST_STREAM, 0, 1, [0; 4]), get(3, "/after")].concat())
        .await;
    assert_eq!(h2.outcome(3).await.status(), 200);
    upstream.settle();
    assert_eq!(upstream.only().target, "/after");
}

/// 8.1.1: a body that goes on beyond its length is noticed before the service has a whole request.
#[tokio::test]
async fn a_body_that_goes_on_beyond_its_length_is_never_whole() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (more, is_whole) in [("lo", false), ("", true)] {
        let mut h2 = gate.h2().await;
        let head = [&pseudo("POST", "/")[..], &[("content-length", "3")]].concat();
        h2.send(frame(HEADERS, END_HEADERS, 1, block(&head))).await;
        upstream.wait("a head", |list| {
            list.iter().any(|c| c.unfinished.ends_with(b"\r\n\r\n"))
        });
        h2.send(frame(DATA, 0, 1, "hel")).await;
        // Whoever has seen this answered has had time to pass on what came before.
        assert_eq!(h2.get(3, "/after").await.status(), 200);
        let early = upstream.requests().iter().any(|r| r.method == "POST");
        assert!(!early, "whole before its end");
        h2.send(frame(DATA, END_STREAM, 1, more)).await;
        assert_eq!(h2.outcome(1).await.status() == 200, is_whole, "{more:?}");
        drop(h2);
        gate.deserted().await;
        upstream.settle();
        let bodies: Vec<_> = upstream
            .requests()
            .into_iter()
            .filter(|r| r.method == "POST")
            .map(|r| r.body)
            .collect();
        assert_eq!(
            bodies,
            if is_whole {
                vec![b"hel".to_vec()]
            } else {
                vec![]
            }
        );
    }
}

/// 8.1.1: the same for a body that says it is empty.
#[tokio::test]
async fn an_empty_body_that_goes_on_is_never_whole() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (more, is_whole) in [("x", false), ("", true)] {
        upstream.forget();
        let mut h2 = gate.h2().await;
        let head = [&pseudo("POST", "/")[..], &[("content-length", "0")]].concat();
        h2.send(frame(HEADERS, END_HEADERS, 1, block(&head))).await;
        assert_eq!(h2.get(3, "/after").await.status(), 200);
        assert_eq!(upstream.only().target, "/after", "whole before its end");
        h2.send(frame(DATA, END_STREAM, 1, more)).await;
        assert_eq!(h2.outcome(1).await.status() == 200, is_whole, "{more:?}");
        drop(h2);
        gate.deserted().await;
        upstream.settle();
        assert_eq!(upstream.requests().len() == 2, is_whole, "{more:?}");
    }
}

/// 5.1.2: one stream more than was offered is refused.
#[tokio::test]
async fn streams_beyond_the_offer_are_refused() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let mut bytes: Vec<u8> = (0..128).flat_map(|i| post(2 * i + 1)).collect();
    bytes.extend(get(257, "/too-many"));
    h2.send(bytes).await;
    let outcome = h2.outcome(257).await;
    assert!(
        matches!(outcome, Outcome::Reset(7 | 1) | Outcome::Goaway(_)),
        "{outcome:?}"
    );
    drop(h2);
    gate.deserted().await;
    assert!(upstream.requests().iter().all(|r| r.target != "/too-many"));
}

/// 6.5.3 and 6.9.2: settings count in their order, and a window may fall below nothing.
#[tokio::test]
async fn windows_follow_every_setting() {
    let body = vec![b'x'; 20];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let upstream = Upstream::answering([head.as_bytes(), &body].concat());
    let gate = Gate::plain(&upstream);
    let client = Client::tls(gate.address, Some("app.lan"), "h2").await;
    let mut h2 = H2::with(client, &[(4, 100), (4, 3)]).await;
    h2.opens_windows = false;
    h2.send(get(1, "/")).await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 3);
    // 3 - 2 = 1 below nothing; 4 more are 3.
    h2.send(frame(SETTINGS, 0, 0, setting(4, 2))).await;
    h2.send(frame(WINDOW_UPDATE, 0, 1, 4u32.to_be_bytes()))
        .await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 3);
    h2.send(frame(WINDOW_UPDATE, 0, 1, 100u32.to_be_bytes()))
        .await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 14);
}
