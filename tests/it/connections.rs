//! Connections to services and to clients: who holds how many, when each is let go, and what is never sent twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::frames::*;
use crate::support::h2_client::H2Client;
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
    let push = async {
        loop {
            upload.body.reserve_capacity(64 << 10);
            let room = std::future::poll_fn(|cx| upload.body.poll_capacity(cx)).await;
            let Some(Ok(room)) = room else { break };
            if upload
                .body
                .send_data(vec![b'x'; room].into(), false)
                .is_err()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = push => {}
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
        let mut echo = websocket_answer(request);
        echo.push_str("\r\n");
        peer.say(echo);
        deaf.wait();
        After::Close
    });
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    break_clocks(&gate);
    h2.send(extended_connect(1)).await;
    let head = h2.next_of(HEADERS).await.unwrap();
    assert_eq!(status(&head.payload), 200);
    let fill = async {
        let chunk = frame(DATA, 0, 1, vec![b'x'; 16 << 10]);
        loop {
            h2.client.try_send(&chunk).await.ok();
            // The stream's window is opened as the tunnel reads.
            if tokio::time::timeout(Duration::from_millis(5), h2.next())
                .await
                .is_ok()
            {}
        }
    };
    tokio::select! {
        () = fill => {}
        () = until("the panic to be counted", || gate.panics() > 0) => {}
    }
    go.set();
}

/// The head of a right 101, without its last empty line.
fn websocket_answer(request: &Request) -> String {
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
