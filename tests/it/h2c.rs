//! `h2c://` services: streams and trailers pass as they come, under the limits that hold for HTTP/1.1 services too.

use std::time::{Duration, Instant};

use crate::support::client::End;
use crate::support::frames::*;
use crate::support::h2_client::{H2Client, piece, rest};
use crate::support::h2_upstream::H2Upstream;
use crate::support::*;

/// The limit that is waited for. Long, because a busy machine takes its time between two lines of a test.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a client pushes at most: until every buffer on the way is full, and well within the limit.
const PUSH: Duration = Duration::from_millis(400);

/// `app.lan` leads to the service, with these lines in `[limits]`.
fn gate(upstream: &H2Upstream, limits: &str) -> Gate {
    Gate::open(&format!("[limits]\n{limits}\n{}", upstream.route()))
}

/// A request whose body is still to come, over HTTP/1.1.
async fn begun(gate: &Gate, path: &str, lines: &str) -> Client {
    let mut one = gate.h1().await;
    one.send(format!(
        "POST {path} HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
    ))
    .await;
    one
}

async fn ends_by_limit<T>(what: &str, it: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let found = soon(what, it).await;
    assert!(
        start.elapsed() > LIMIT / 4,
        "{what} took {:?}",
        start.elapsed()
    );
    found
}

#[tokio::test]
async fn an_upload_that_is_slow_but_steady_passes() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "body_idle = \"2s\"\nanswer = \"2s\"\n");
    let mut one = begun(&gate, "/", "").await;
    let mut two = H2Client::open(&gate).await.begin("POST", "/", false).await;
    let start = Instant::now();
    let mut beat = tokio::time::interval(LIMIT / 8);
    for n in 1..=20 {
        beat.tick().await;
        one.send("1\r\nx\r\n").await;
        two.send("x", n == 20).await;
    }
    one.send("0\r\n\r\n").await;
    assert_eq!(one.answer().await.text(), "ok");
    assert_eq!(two.answer().await.status(), 200);
    let sizes: Vec<_> = upstream.arrived().iter().map(|a| a.body.len()).collect();
    assert_eq!(sizes, [20, 20]);
    assert!(start.elapsed() > LIMIT * 2, "far longer than the limits");
}

#[tokio::test]
async fn an_upload_that_stalls_is_told_and_never_whole() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "body_idle = \"2s\"\n");
    let mut one = begun(&gate, "/", "").await;
    one.send("4\r\nhalf\r\n").await;
    let answer = ends_by_limit("a stalled upload", one.answer()).await;
    assert_eq!((answer.status, one.closed().await), (408, End::Clean));
    let mut client = H2Client::open(&gate).await;
    let mut two = client.begin("POST", "/", false).await;
    two.send("half", false).await;
    let answer = ends_by_limit("a stalled upload", two.answer()).await;
    assert_eq!(answer.status(), 408);
    assert_eq!(client.get("/").await.0, 200, "the connection goes on");
    upstream
        .wait("both uploads to be cut", |list| {
            list[..2].iter().all(|a| a.whole == Some(false))
        })
        .await;
}

#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_never_whole() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "");
    let mut h2 = gate.h2().await;
    let head = frame(HEADERS, END_HEADERS, 1, block(&pseudo("POST", "/")));
    h2.send([head, frame(DATA, 0, 1, "half")].concat()).await;
    upstream
        .wait("it to arrive", |list| {
            list.iter().any(|a| !a.body.is_empty())
        })
        .await;
    h2.send(frame(RST_STREAM, 0, 1, [0; 4])).await;
    upstream
        .wait("it to be cut", |list| list[0].whole.is_some())
        .await;
    assert_eq!(upstream.arrived()[0].whole, Some(false));
}

#[tokio::test]
async fn an_upload_that_its_client_leaves_is_never_whole() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "body_idle = \"2s\"\n");
    // The deaf one has a full window and pieces that wait for it, which must not be taken for the end.
    for path in ["/", "/mute", "/talk", "/deaf"] {
        let mut one = begun(&gate, path, "").await;
        one.send("4\r\nhalf\r\n").await;
        if path == "/deaf" {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let _ =
                tokio::time::timeout(PUSH, async { while one.try_send(&chunk).await.is_ok() {} })
                    .await;
        }
        let mut two = H2Client::open(&gate).await.begin("POST", path, false).await;
        two.send("half", false).await;
        upstream
            .wait("both to arrive", |list| {
                list.iter().filter(|a| a.path == path).count() == 2
            })
            .await;
        drop((one, two));
        upstream
            .wait("both to be cut", |list| {
                list.iter().all(|a| a.whole == Some(false) || a.let_go)
            })
            .await;
    }
    let whole = upstream.arrived().iter().any(|a| a.whole == Some(true));
    assert!(!whole, "half a request is none");
}

#[tokio::test]
async fn a_body_is_only_so_large() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "body_size = \"10B\"\n");
    for (n, status) in [(10, 200), (11, 413), (5000, 413)] {
        let mut one = begun(&gate, "/", "").await;
        one.send(format!("{n:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(n)))
            .await;
        assert_eq!(one.answer().await.status, status, "{n}");
        let mut two = H2Client::open(&gate).await.begin("POST", "/", false).await;
        two.send("x".repeat(n), true).await;
        assert_eq!(two.answer().await.status(), status, "{n}");
    }
    let whole = |a: &&h2_upstream::Arrived| a.whole == Some(true);
    let arrived = upstream.arrived();
    assert!(arrived.iter().filter(whole).all(|a| a.body.len() == 10));
    assert_eq!(arrived.iter().filter(whole).count(), 2);
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "answer = \"2s\"\nbody_idle = \"4s\"\n");
    for method in ["GET", "POST"] {
        let mut one = gate.h1().await;
        let body = if method == "GET" {
            "\r\n"
        } else {
            "Content-Length: 2\r\n\r\nhi"
        };
        let text = format!("{method} /mute HTTP/1.1\r\nHost: app.lan\r\n{body}");
        let mut two = H2Client::open(&gate)
            .await
            .begin(method, "/mute", method == "GET")
            .await;
        if method == "POST" {
            two.send("hi", true).await;
        }
        let both = async { tokio::join!(one.ask(text), two.answer()) };
        let (one, two) = ends_by_limit(method, both).await;
        assert_eq!((one.status, two.status().as_u16()), (504, 504), "{method}");
    }
    upstream
        .wait("all to be let go", |list| list.iter().all(|a| a.let_go))
        .await;
}

#[tokio::test]
async fn a_service_that_does_not_read_is_given_up() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "body_idle = \"2s\"\n");
    let mut one = begun(&gate, "/deaf", "").await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let answer = one.push_until_answered(chunk.as_bytes()).await;
    assert_eq!(answer.status, 504);
    let mut two = H2Client::open(&gate)
        .await
        .begin("POST", "/deaf", false)
        .await;
    assert_eq!(two.push_until_answered().await.status(), 504);
    upstream
        .wait("both to be let go", |list| list.iter().all(|a| a.let_go))
        .await;
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "answer = \"2s\"\n");
    let mut one = gate.h1().await;
    one.send("GET /half HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    let end = ends_by_limit("a stalled answer", one.closed()).await;
    assert_eq!(end, End::Cut);
    assert!(one.got.ends_with(b"half\r\n"), "what came is passed on");
    let mut two = gate.h2().await;
    let outcome = ends_by_limit("a stalled answer", two.get(1, "/half")).await;
    assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    upstream
        .wait("both to be let go", |list| list.iter().all(|a| a.let_go))
        .await;
}

#[tokio::test]
async fn events_and_grpc_may_be_silent() {
    let upstream = H2Upstream::start();
    let limits = "answer = \"2s\"\nbody_idle = \"2s\"\nidle = \"2s\"\n";
    let gate = gate(&upstream, limits);
    let mut client = H2Client::open(&gate).await;
    let mut events = client.begin("GET", "/events", true).await;
    let mut events = events.answer().await;
    let grpc = http::Request::post("https://app.lan/talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut talk = client.send_request(grpc.body(()).unwrap(), false).await;
    let mut heard = talk.answer().await;
    let mut one = begun(&gate, "/talk", "Content-Type: application/grpc\r\n").await;
    for n in 0..2 {
        assert!(
            tokio::time::timeout(LIMIT * 2, events.body_mut().data())
                .await
                .is_err(),
            "silence is no end"
        );
        talk.send("word", n == 1).await;
        one.send("4\r\nword\r\n").await;
        assert_eq!(piece(heard.body_mut()).await.unwrap(), "word");
    }
    one.send("0\r\n\r\n").await;
    assert_eq!(one.answer().await.text(), "wordword");
    let (_, trailers) = rest(heard.body_mut()).await;
    assert_eq!(
        (
            trailers["grpc-status"].as_bytes(),
            trailers["my_key"].as_bytes()
        ),
        (&b"0"[..], &b"a"[..])
    );
}

#[tokio::test]
async fn an_answer_with_a_trailer_that_none_may_have_is_cut() {
    let upstream = H2Upstream::start();
    let gate = gate(&upstream, "");
    for (path, is_whole) in [("/talk", true), ("/framed", false)] {
        let mut one = gate.h1().await;
        one.send(format!("GET {path} HTTP/1.1\r\nHost: app.lan\r\n\r\n"))
            .await;
        let outcome = gate.h2().await.get(1, path).await;
        if is_whole {
            let answer = one.answer().await;
            let trailers = [("grpc-status", "0"), ("my_key", "a")];
            assert_eq!((answer.status, outcome.status()), (200, 200));
            assert_eq!(answer.trailers, trailers.map(|(n, v)| (n.into(), v.into())));
        } else {
            assert_eq!(one.closed().await, End::Cut);
            assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn no_get_fails_when_the_service_closes_at_the_worst_moment() {
    let upstream = H2Upstream::closing(1);
    let gate = gate(&upstream, "");
    let (mut one, mut two) = (gate.h1().await, H2Client::open(&gate).await);
    for n in 0..200 {
        let found = (one.get("/", "").await.status, two.get("/").await.0);
        assert_eq!(found, (200, 200), "{n}");
    }
}

#[tokio::test]
async fn no_post_is_ever_sent_twice() {
    let upstream = H2Upstream::closing(1);
    let gate = gate(&upstream, "");
    for n in 0..50 {
        let mut two = H2Client::open(&gate)
            .await
            .begin("POST", &format!("/{n}"), false)
            .await;
        two.send("x", true).await;
        let _ = two.answer().await;
    }
    let mut paths: Vec<_> = upstream.arrived().into_iter().map(|a| a.path).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "each came once");
    assert!(all > 20, "and most of them came");
}

/// So many requests at once, of one data thread: their statuses.
async fn at_once(gate: &Gate, many: usize) -> Vec<u16> {
    let mut client = H2Client::open(gate).await;
    let mut all = Vec::new();
    for _ in 0..many {
        all.push(client.begin("GET", "/", true).await);
    }
    let mut statuses = Vec::new();
    for mut one in all {
        statuses.push(soon("an answer", one.answer()).await.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn those_that_come_at_once_share_the_connection_that_is_opened() {
    // Whoever waits in vain for a while opens his own, so a machine that stands still may make it more.
    for _ in 0..10 {
        let upstream = H2Upstream::start();
        let gate = gate(&upstream, "");
        assert_eq!(at_once(&gate, 60).await, [200; 60]);
        if upstream.connections() == 1 {
            return;
        }
    }
    panic!("there was never one connection for all");
}

#[tokio::test]
async fn many_at_once_are_served_when_the_service_closes_after_each() {
    let upstream = H2Upstream::closing(1);
    let gate = gate(&upstream, "");
    let found = at_once(&gate, 40).await;
    // Where it closes before it has read all, an answer that is on its way may be lost.
    let good = found.iter().filter(|status| **status == 200).count();
    assert!(good >= 30, "{found:?}");
}

#[tokio::test]
async fn those_that_come_at_once_are_each_told_what_is_wrong() {
    let not_http2 = Upstream::ok();
    for (address, reason) in [
        (nobody(), "upstream-refused"),
        (not_http2.address, "upstream-broken"),
    ] {
        let gate = Gate::open(&format!(
            "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"h2c://{address}\"\naccess = \"anyone\"\n"
        ));
        assert_eq!(at_once(&gate, 60).await, [502; 60]);
        let lines = gate.log(60).await;
        assert!(
            lines.iter().all(|line| line["reason"] == reason),
            "{reason}"
        );
    }
}
