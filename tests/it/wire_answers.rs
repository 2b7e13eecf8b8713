//! Answers of the upstream are read as strictly as requests: what is broken is a 502, what breaks off is visibly cut, and
//! neither connection is used again.

use std::sync::Mutex;

use crate::support::client::End;
use crate::support::message::Fields;
use crate::support::*;
use Told::{Broken, Cut, Whole};

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// Status and body.
    Whole(u16, &'static str),
    /// A 502 of ours.
    Broken,
    /// The status, then an end that cannot be taken for one.
    Cut(u16),
}

/// What the upstream does after its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Waits,
    Closes,
    Resets,
}
use Then::{Closes, Resets, Waits};

const ANSWERS: &[(&str, Then, Told)] = &[
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\ncontent-length:2\r\nX:\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 a b  c\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 caf\u{e9}\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Whole(200, ""),
    ),
    (
        "HTTP/1.1 200 OK\r\n\r\nto the end",
        Closes,
        Whole(200, "to the end"),
    ),
    ("hello", Waits, Broken),
    ("HTTP/0", Waits, Broken),
    (
        "HTTP/1.1 200 OK\r\nConnection: x,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        Closes,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        Closes,
        Whole(200, "ok"),
    ),
    ("HTTP/1.0 200 OK\r\n\r\nold", Closes, Whole(200, "old")),
    (
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n02;a=b\r\nok\r\n0\r\n\r\n",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
        Waits,
        Whole(200, "ok"),
    ),
    // A service's own trailers: gRPC has underscores, and a claim means nothing to a client.
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nmy_key: b\r\nX-Envoy-Took: 1\r\n\r\n",
        Waits,
        Whole(200, "ok"),
    ),
    ("HTTP/1.1 204 No\r\n\r\n", Waits, Whole(204, "")),
    (
        "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Whole(204, ""),
    ),
    (
        "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello",
        Waits,
        Whole(204, ""),
    ),
    (
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Whole(204, ""),
    ),
    (
        "HTTP/1.1 304 Same\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
        Waits,
        Whole(304, ""),
    ),
    (
        "HTTP/1.1 301 Go\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Whole(301, ""),
    ),
    (
        "HTTP/1.1 299 x\r\nContent-Length: 1\r\n\r\nx",
        Waits,
        Whole(299, "x"),
    ),
    (
        "HTTP/1.1 418 x\r\nContent-Length: 1\r\n\r\nx",
        Waits,
        Whole(418, "x"),
    ),
    (
        "HTTP/1.1 502 x\r\nContent-Length: 4\r\n\r\nmine",
        Waits,
        Whole(502, "mine"),
    ),
    (
        "HTTP/1.1 599 x\r\nContent-Length: 1\r\n\r\nx",
        Waits,
        Whole(599, "x"),
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
        Waits,
        Whole(200, "ok"),
    ),
    (
        "HTTP/1.1 304 Same\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        Waits,
        Whole(304, ""),
    ),
    ("", Closes, Broken),
    ("", Resets, Broken),
    ("hello", Closes, Broken),
    ("hello\r\n\r\n", Waits, Broken),
    ("<html>HTTP/0.9</html>\r\n\r\n", Waits, Broken),
    (
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        " HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Waits, Broken),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 O\x1bK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    ("ICY 200 OK\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    ("HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    (
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    (
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    ("HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    ("HTTP/1.1 000 x\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    ("HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    ("HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", Waits, Broken),
    (
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\x0bb\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2 \t2\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok",
        Waits,
        Broken,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Waits, Broken),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent_Length: 2\r\n\r\nok",
        Closes,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        Closes,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nx",
        Closes,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Waits,
        Broken,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Len", Closes, Broken),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Resets, Broken),
    (
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.0 100 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        Waits,
        Broken,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhi",
        Resets,
        Cut(404),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        Resets,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Closes,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokx\r\n0\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent_Length: 9\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nset_cookie: a=b\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nLocation: /\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTransfer.Encoding: chunked\r\n\r\n",
        Waits,
        Cut(200),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA : b\r\n\r\n",
        Waits,
        Cut(200),
    ),
];

/// Answers the first request as the row says, and every later one with `next`.
fn saying(text: &str, then: Then) -> Upstream {
    let bytes: Vec<u8> = text.chars().map(|c| c as u32 as u8).collect();
    let first = Mutex::new(Some(bytes));
    Upstream::whole(move |_, peer| {
        let Some(bytes) = first.lock().unwrap().take() else {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
            return After::Keep;
        };
        peer.say(bytes);
        match then {
            Waits => After::Keep,
            Closes => After::Close,
            Resets => After::Reset,
        }
    })
}

#[tokio::test]
async fn an_answer_has_one_reading_or_is_refused_over_http1() {
    for (text, then, told) in ANSWERS {
        let upstream = saying(text, *then);
        let gate = Gate::plain(&upstream);
        let mut client = gate.h1().await;
        // A method that is never sent again: what is told is about this very answer.
        client
            .send("POST / HTTP/1.1\r\nHost: app.lan\r\n\r\n")
            .await;
        let got = client.try_answer("POST").await;
        match (told, got) {
            (Whole(status, body), Ok(answer)) => assert_eq!(
                (answer.status, &*answer.text()),
                (*status, *body),
                "{text:?}"
            ),
            (Broken, Ok(answer)) => assert!(
                answer.status == 502 && answer.text().contains("cannot be understood"),
                "{text:?}: {answer:?}"
            ),
            // While nothing of it is out, a torn answer is refused like a broken one.
            (Cut(_), Ok(answer)) => assert_eq!(answer.status, 502, "{text:?}: {answer:?}"),
            (Cut(status), Err(why)) => {
                assert!(
                    why.contains(&format!("HTTP/1.1 {status}")),
                    "{text:?}: {why}"
                );
            }
            (_, got) => panic!("{text:?}: {got:?}"),
        }
        if !matches!(told, Whole(..)) {
            upstream.wait("a connection that saw an error to be thrown away", |list| {
                list[0].closed
            });
        }
        assert_eq!(
            gate.h1().await.get("/", "").await.text(),
            "next",
            "after {text:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_has_one_reading_or_is_refused_over_http2() {
    for (text, then, told) in ANSWERS {
        let upstream = saying(text, *then);
        let gate = Gate::plain(&upstream);
        let mut client = gate.h2().await;
        match (told, client.ask(1, "POST", "/", &[], b"").await) {
            (Whole(status, body), outcome) => assert_eq!(
                outcome,
                Outcome::Answer(*status, body.as_bytes().to_vec()),
                "{text:?}"
            ),
            (Broken, outcome) => assert_eq!(outcome.status(), 502, "{text:?}"),
            (Cut(_), Outcome::Reset(_)) => {}
            (Cut(_), outcome) => panic!("{text:?}: {outcome:?}"),
        }
        assert_eq!(
            client.get(3, "/").await,
            Outcome::Answer(200, b"next".to_vec()),
            "the connection goes on after {text:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_under_way_is_visibly_cut() {
    for (head, end) in [
        ("Content-Length: 9", "ab"),
        ("Transfer-Encoding: chunked", "2\r\nab\r\n"),
    ] {
        let (begun, go) = (Signal::default(), Signal::default());
        let (first, second) = (begun.clone(), go.clone());
        let upstream = Upstream::whole(move |_, peer| {
            peer.say(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{end}"));
            first.set();
            second.wait();
            After::Close
        });
        let gate = Gate::plain(&upstream);
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
        begun.wait();
        one.at_least(40).await;
        go.set();
        assert!(one.try_answer("GET").await.unwrap_err().contains(" 200 OK"));
        two.send(frames::get(1, "/")).await;
        begun.wait();
        two.next_of(frames::DATA).await;
        go.set();
        assert!(matches!(two.outcome(1).await, Outcome::Reset(_)));
    }
}

#[tokio::test]
async fn what_follows_an_answer_is_nobody_elses_answer() {
    for extra in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "x",
        "\r\n",
        "0\r\n\r\n",
    ] {
        let upstream = saying(
            &format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}"),
            Waits,
        );
        let gate = Gate::plain(&upstream);
        assert_eq!(gate.h1().await.get("/", "").await.text(), "ok");
        assert_eq!(
            gate.h1().await.get("/", "").await.text(),
            "next",
            "{extra:?}"
        );
        assert_eq!(
            upstream.conversations().len(),
            2,
            "{extra:?}: the connection was used again"
        );
    }
}

#[tokio::test]
async fn bytes_that_come_while_a_connection_idles_are_nobodys_answer() {
    let (go, gone) = (Signal::default(), Signal::default());
    let (first, second) = (go.clone(), gone.clone());
    let upstream = Upstream::whole(move |_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        if peer.number == 0 {
            first.wait();
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            second.set();
        }
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    assert_eq!(gate.h1().await.get("/", "").await.text(), "ok");
    go.set();
    gone.wait();
    assert_eq!(gate.h1().await.get("/", "").await.text(), "ok");
    assert_eq!(upstream.conversations().len(), 2);
}

#[tokio::test]
async fn large_heads_and_floods_of_interim_answers_are_broken() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    for (text, status) in [
        (
            format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok",
                "X: y\r\n".repeat(200)
            ),
            200,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok",
                "X: y\r\n".repeat(300)
            ),
            502,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok",
                "y".repeat(60_000)
            ),
            200,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok",
                "y".repeat(200_000)
            ),
            502,
        ),
        ("y".repeat(200_000), 502),
        (format!("{}{ok}", interim.repeat(10)), 200),
        (format!("{}{ok}", interim.repeat(17)), 502),
        (interim.repeat(10_000), 502),
    ] {
        let upstream = saying(&text, Waits);
        let gate = Gate::plain(&upstream);
        let mut client = gate.h1().await;
        let mut answer = client.get("/", "").await;
        while answer.status == 100 {
            answer = client.answer().await;
        }
        assert_eq!(answer.status, status, "{} bytes", text.len());
        let upstream = saying(&text, Waits);
        assert_eq!(
            Gate::plain(&upstream).h2().await.get(1, "/").await.status(),
            status,
            "{} bytes over HTTP/2",
            text.len()
        );
    }
}

/// Fields of an answer, and what of them the client sees.
const FIELDS: &[(&str, &[(&str, &str)])] = &[
    (
        "X-One: a\r\nx-two: b\r\nX-One: c\r\n",
        &[("x-one", "a"), ("x-two", "b"), ("x-one", "c")],
    ),
    (
        "Set-Cookie: a=1\r\nSet-Cookie: b=2; Domain=x\r\n",
        &[("set-cookie", "a=1"), ("set-cookie", "b=2; Domain=x")],
    ),
    (
        "ETag: \"a\"\r\nContent-Range: bytes 0-1/9\r\nVary: *\r\n",
        &[
            ("etag", "\"a\""),
            ("content-range", "bytes 0-1/9"),
            ("vary", "*"),
        ],
    ),
    ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", &[]),
    (
        "Connection: X-Secret, close\r\nX-Secret: a\r\nX-Open: b\r\n",
        &[("x-open", "b")],
    ),
    (
        "Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nTE: gzip\r\n",
        &[],
    ),
    (
        "Alt-Svc: h3=\":443\"\r\nServer: x\r\n",
        &[("alt-svc", "h3=\":443\""), ("server", "x")],
    ),
    (
        "WWW-Authenticate: Bearer\r\nLocation: http://127.0.0.1/x\r\n",
        &[
            ("www-authenticate", "Bearer"),
            ("location", "http://127.0.0.1/x"),
        ],
    ),
];

#[tokio::test]
async fn fields_of_an_answer_pass_but_for_those_of_the_connection() {
    for (lines, passed) in FIELDS {
        let upstream = Upstream::answering(format!(
            "HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"
        ));
        let gate = Gate::plain(&upstream);
        let answer = gate.h1().await.get("/", "").await;
        let fields: Fields = answer
            .fields
            .into_iter()
            .map(|(n, v)| (n.to_ascii_lowercase(), v))
            .collect();
        let rest: Vec<(&str, &str)> = fields
            .iter()
            .filter(|(n, _)| n != "content-length")
            .map(|(n, v)| (&**n, &**v))
            .collect();
        assert_eq!(rest, *passed, "{lines}");
    }
}

#[tokio::test]
async fn an_old_client_is_told_the_end_by_the_end() {
    for (text, then) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
            Waits,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
            Closes,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Waits),
    ] {
        let upstream = saying(text, then);
        let gate = Gate::plain(&upstream);
        let mut client = gate.h1().await;
        client
            .send("GET / HTTP/1.0\r\nHost: app.lan\r\nTE: trailers\r\n\r\n")
            .await;
        let end = client.closed().await;
        let answer = client.answer().await;
        assert_eq!(
            (end, answer.status, &*answer.text()),
            (End::Clean, 200, "ok"),
            "{text:?}"
        );
        assert!(answer.all("transfer-encoding").is_empty());
        assert_eq!(answer.all("connection"), ["close"]);
    }
}
