//! Every limit, with short durations set by configuration: whoever stalls ends, whoever is slow but steady does not, and
//! nobody else waits.

use std::net::TcpStream as Blocking;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::client::End;
use crate::support::h2_client::{H2Client, piece};
use crate::support::*;

/// What a limit of these tests is: long enough that nothing else takes so long, short enough to be waited for.
const SHORT: Duration = Duration::from_millis(400);

/// Runs something that a limit must end: not before it, and not long after.
async fn ends_by_limit<T>(what: &str, it: impl Future<Output = T>) -> T {
    ends_by_limit_of(Instant::now(), what, it).await
}

/// The same for what had begun already, not before `start`: a busy machine may take its time between that and this.
async fn ends_by_limit_of<T>(start: Instant, what: &str, it: impl Future<Output = T>) -> T {
    let called = Instant::now();
    let found = it.await;
    let (took, late) = (start.elapsed(), called.elapsed());
    assert!(
        took > SHORT / 2 && late < SHORT * 12,
        "{what} took {took:?}"
    );
    found
}

/// Reads the head of a request, and nothing more until it is told to.
fn deaf(go: &Signal) -> Upstream {
    let go = go.clone();
    Upstream::scripted(move |_, _, peer| {
        go.wait();
        peer.wait_for_end();
        After::Close
    })
}

/// Reads what it is sent and never says a word.
fn mute() -> Upstream {
    Upstream::whole(|_, peer| {
        peer.wait_for_end();
        After::Close
    })
}

#[tokio::test]
async fn a_handshake_that_stalls_is_ended() {
    let gate = Gate::limited(&Upstream::ok(), "handshake = \"400ms\"\n");
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let start = Instant::now();
        let mut client = Client::tcp(gate.address).await;
        client.send(bytes).await;
        ends_by_limit_of(start, "a silent handshake", client.closed()).await;
        assert!(client.got.is_empty());
    }
    gate.deserted().await;
}

#[tokio::test]
async fn a_handshake_has_one_deadline_from_accept_to_its_end() {
    let gate = Gate::limited(&Upstream::ok(), "handshake = \"2s\"\n");
    let mut client = Client::tcp(gate.address).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // By a clock of the same run: the one who comes now ends later, unless the first one's late byte begins its time anew.
    let mut other = Client::tcp(gate.address).await;
    other.send(b"\x16").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.send(b"\x16\x03\x01\x02").await;
    tokio::select! {
        biased;
        _ = client.closed() => {}
        _ = other.closed() => panic!("a late byte gave it all the time again"),
    }
}

#[tokio::test]
async fn a_head_that_stalls_is_told_and_ended() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head = \"400ms\"\n");
    let mut client = gate.h1().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: app.lan\r\n").await;
    let answer = ends_by_limit_of(start, "half a head", client.answer()).await;
    assert_eq!(
        (answer.status, client.closed().await, &*gate.word(1).await),
        (408, End::Clean, "request-timeout")
    );
    // One byte at a time keeps nothing open.
    let mut client = gate.h1().await;
    let drip = async {
        client.send("GET / HTTP/1.1\r\nX: ").await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while client.try_send("x").await.is_ok() && gate.connections() > 0 {
            beat.tick().await;
        }
    };
    ends_by_limit("a dripping head", drip).await;
    assert!(upstream.conversations().is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_ended_whatever_it_speaks() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "idle = \"400ms\"\n");
    for asked in [false, true] {
        let start = Instant::now();
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        if asked {
            let answers = (
                one.get("/", "").await.status,
                two.get(1, "/").await.status(),
            );
            assert_eq!(answers, (200, 200));
        }
        let both = async { tokio::join!(one.closed(), two.end()).0 };
        let end = ends_by_limit_of(start, "an idle connection", both).await;
        assert_eq!(end, End::Clean);
    }
    gate.deserted().await;
}

#[tokio::test]
async fn an_http2_connection_that_never_begins_is_ended() {
    // By `head` alone: `idle` is far away.
    let gate = Gate::limited(&Upstream::ok(), "head = \"400ms\"\n");
    let half = frames::frame(
        frames::HEADERS,
        frames::END_STREAM,
        1,
        frames::block(&frames::pseudo("GET", "/")),
    );
    for bytes in [
        b"".to_vec(),
        b"PRI * HT".to_vec(),
        frames::PREFACE.to_vec(),
        [
            frames::PREFACE,
            &frames::frame(frames::SETTINGS, 0, 0, []),
            &half,
        ]
        .concat(),
    ] {
        let start = Instant::now();
        let mut client = Client::tls(gate.address, Some("app.lan"), "h2").await;
        client.send(&bytes).await;
        let what = format!(
            "a head that never ends, {:?},",
            bytes.escape_ascii().to_string()
        );
        ends_by_limit_of(start, &what, client.closed()).await;
    }
    gate.deserted().await;
}

#[tokio::test]
async fn a_head_that_drips_over_http2_is_ended_whatever_else_runs() {
    let upstream = mute();
    let gate = Gate::limited(&upstream, "head = \"400ms\"\n");
    let block = frames::block(&frames::pseudo("GET", "/"));
    let whole = frames::frame(frames::HEADERS, frames::END_STREAM, 3, &block);
    // The frame drips, or the block does behind it.
    let more = frames::frame(frames::CONTINUATION, 0, 3, [0; 9000]);
    for (at_once, rest) in [(12, &whole[12..]), (whole.len(), &more)] {
        let mut h2 = gate.h2().await;
        h2.send(frames::get(1, "/")).await;
        upstream.wait("the first stream", |list| !list.is_empty());
        let start = Instant::now();
        h2.send(&whole[..at_once]).await;
        let drip = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            for byte in rest {
                if h2.client.try_send([*byte]).await.is_err() || gate.connections() == 0 {
                    return;
                }
                beat.tick().await;
            }
        };
        ends_by_limit_of(start, "a dripping head", drip).await;
        gate.deserted().await;
        upstream.forget();
    }
}

#[tokio::test]
async fn an_honest_client_may_be_slow_between_its_heads() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head = \"1s\"\n");
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    let mut beat = tokio::time::interval(Duration::from_millis(1300));
    for n in 0..4 {
        beat.tick().await;
        assert_eq!(one.get("/", "").await.status, 200);
        assert_eq!(two.get(2 * n + 1, "/").await.status(), 200);
    }
}

#[tokio::test]
async fn a_panic_ends_one_connection_or_stream_and_is_counted() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    assert_eq!(one.get("/", "").await.status, 200);
    assert_eq!(two.get(1, "/").await.status(), 200);
    // A time that no clock can show stands in for a mistake of ours: half a head panics, a whole one does not.
    gate.change(|plan| plan.limits.head = Duration::MAX);
    let mut victim = gate.h1().await;
    victim.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(victim.closed().await, End::Cut);
    until("the panic to be counted", || gate.panics() == 1).await;
    assert_eq!(one.get("/", "").await.status, 200, "others are served");
    assert_eq!(two.get(3, "/").await.status(), 200, "others are served");
    drop((one, two));
    gate.deserted().await;
}

#[tokio::test]
async fn what_is_under_way_is_not_idle() {
    let upstream = Upstream::whole(|request, peer| {
        if !request.all("upgrade").is_empty() {
            peer.say("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            return After::Echo;
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..80 {
            std::thread::park_timeout(Duration::from_millis(100));
            peer.say("1\r\nx\r\n");
        }
        peer.say("0\r\n\r\n");
        After::Keep
    });
    // `head`, `idle` and `handshake` are about other things; HTTP/2 ends a connection five seconds after it was told.
    let gate = Gate::limited(
        &upstream,
        "idle = \"1s\"\nhead = \"1s\"\nhandshake = \"3s\"\nbody_idle = \"3s\"\n",
    );
    // Each begins as soon as it is there: until then it is idle.
    let mut tunnel = gate.h1().await;
    let switch = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(tunnel.get("/", switch).await.status, 101);
    let mut one = gate.h1().await;
    one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
    let mut two = gate.h2().await;
    two.send(frames::get(1, "/")).await;
    assert_eq!(one.answer().await.body.len(), 80);
    assert_eq!(two.outcome(1).await, Outcome::Answer(200, vec![b'x'; 80]));
    tunnel.send("alive").await;
    tunnel.at_least(5).await;
}

#[tokio::test]
async fn an_upload_that_stalls_is_told_and_ended() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "body_idle = \"400ms\"\n");
    for lines in [
        "Content-Length: 9\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = gate.h1().await;
        let start = Instant::now();
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: app.lan\r\n{lines}"))
            .await;
        let answer = ends_by_limit_of(start, "a stalled upload", client.answer()).await;
        assert_eq!(answer.status, 408, "{lines:?}");
        assert_eq!(client.closed().await, End::Clean);
    }
    let mut h2 = gate.h2().await;
    let start = Instant::now();
    h2.send(frames::frame(
        frames::HEADERS,
        frames::END_HEADERS,
        1,
        frames::block(&frames::pseudo("PUT", "/")),
    ))
    .await;
    assert_eq!(
        ends_by_limit_of(start, "a stalled upload", h2.outcome(1))
            .await
            .status(),
        408
    );
    assert_eq!(h2.get(3, "/").await.status(), 200, "the connection goes on");
    upstream.wait("what was half sent to be dropped", |list| {
        list.iter()
            .filter(|c| c.requests.is_empty())
            .all(|c| c.closed)
    });
}

#[tokio::test]
async fn an_upload_that_stalls_is_told_even_when_the_upstream_pays_no_attention() {
    let go = Signal::default();
    let upstream = deaf(&go);
    let gate = Gate::limited(&upstream, "body_idle = \"400ms\"\n");
    let mut one = gate.h1().await;
    let start = Instant::now();
    one.send("PUT / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    let answer = ends_by_limit_of(start, "a stalled upload", one.answer()).await;
    assert_eq!(answer.status, 408);
    let mut two = gate.h2().await;
    let start = Instant::now();
    two.send(frames::frame(
        frames::HEADERS,
        frames::END_HEADERS,
        1,
        frames::block(&frames::pseudo("PUT", "/")),
    ))
    .await;
    assert_eq!(
        ends_by_limit_of(start, "a stalled upload", two.outcome(1))
            .await
            .status(),
        408
    );
}

#[tokio::test]
async fn an_upload_that_is_slow_but_steady_passes() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(
        &upstream,
        "body_idle = \"2s\"\nhead = \"2s\"\nanswer = \"2s\"\nidle = \"2s\"\n",
    );
    let (mut one, mut two) = (
        gate.h1().await,
        H2Client::open(&gate).await.begin("PUT", "/", false).await,
    );
    one.send("PUT / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 20\r\n\r\n")
        .await;
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    for n in 1..=20 {
        beat.tick().await;
        one.send("x").await;
        two.send("x", n == 20).await;
    }
    assert_eq!(
        (
            one.answer().await.status,
            two.answer().await.status().as_u16()
        ),
        (200, 200)
    );
    assert_eq!(
        upstream
            .requests()
            .iter()
            .map(|r| r.body.len())
            .collect::<Vec<_>>(),
        [20, 20]
    );
}

#[tokio::test]
async fn an_upstream_that_stops_reading_is_given_up() {
    let go = Signal::default();
    let upstream = deaf(&go);
    let gate = Gate::limited(&upstream, "body_idle = \"400ms\"\nanswer = \"400ms\"\n");
    let mut one = gate.h1().await;
    one.send("PUT / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    // The kernel takes some megabytes before anybody is stuck.
    let answer = one.push_until_answered(&[b'x'; 64 << 10]).await;
    assert_eq!(answer.status, 504);
    let mut two = H2Client::open(&gate).await.begin("PUT", "/", false).await;
    assert_eq!(two.push_until_answered().await.status().as_u16(), 504);
    go.set();
    go.set();
    upstream.wait("the upstream to be let go", |list| {
        list.iter().all(|c| c.closed)
    });
}

#[tokio::test]
async fn a_client_that_stops_reading_is_ended_and_the_upstream_let_go() {
    let upstream = Upstream::whole(|request, peer| {
        if request.target == "/small" {
            peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            return After::Keep;
        }
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while peer.say(&chunk) {}
        After::Close
    });
    let gate = Gate::limited(&upstream, "body_idle = \"400ms\"\n");
    let mut one = gate.h1().await;
    one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
    upstream.wait("the stalled download to be ended", |list| {
        list.len() == 1 && list[0].closed
    });
    assert_eq!(one.closed().await, End::Cut);
    // A stream without a window ends; the connection and its other streams go on.
    let mut two = H2::with(
        Client::tls(gate.address, Some("app.lan"), "h2").await,
        &[(4, 0)],
    )
    .await;
    two.opens_windows = false;
    let start = Instant::now();
    two.send(frames::get(1, "/")).await;
    let outcome = ends_by_limit_of(start, "a stream without window", two.outcome(1)).await;
    assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    upstream.wait("the upstream to be let go", |list| {
        list.len() == 2 && list[1].closed
    });
    assert_eq!(two.get(3, "/small").await.status(), 200);
}

#[tokio::test]
async fn connecting_takes_only_so_long() {
    let (full, _fillers) = full();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tls = format!("https://{}", silent.local_addr().unwrap());
    for upstream in [address.to_string(), tls] {
        let route = format!(
            "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{upstream}\"\naccess = \"anyone\"\n"
        );
        let gate = Gate::open(&format!("[limits]\nconnect = \"400ms\"\n{route}"));
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        assert_eq!(
            ends_by_limit("connecting", one.get("/", "")).await.status,
            504,
            "{upstream}"
        );
        assert_eq!(
            ends_by_limit("connecting", two.get(1, "/")).await.status(),
            504,
            "{upstream}"
        );
        assert_eq!(gate.word(2).await, "upstream-timeout");
    }
}

/// A listener whose queue is full lets nobody in, and tells nobody.
pub(crate) fn full() -> (Socket, Vec<Blocking>) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    // Full is what takes nobody twice in a row: one who is late may be late because the machine is busy.
    let (mut fillers, mut missed) = (Vec::new(), 0);
    while missed < 2 {
        match Blocking::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(filler) => {
                fillers.push(filler);
                missed = 0;
            }
            Err(_) => missed += 1,
        }
    }
    (full, fillers)
}

#[tokio::test]
async fn a_service_that_accepts_nobody_is_told_early_and_served_as_soon_as_it_does() {
    const MANY: usize = 60;
    /// One for each second of `connect`.
    const GO_ON: usize = 30;
    let (full, fillers) = full();
    let upstream = full.local_addr().unwrap().as_socket().unwrap();
    let gate = Gate::open(&format!(
        "[limits]\nconnect = \"{GO_ON}s\"\n[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{upstream}\"\naccess = \"anyone\"\n"
    ));
    // Over both protocols: whoever does not go on dialling is told long before `connect` is over.
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut streams = H2Client::open(&gate).await;
    for _ in 0..MANY / 2 {
        let (mut one, first) = (gate.h1().await, tell.clone());
        let (mut two, second) = (streams.begin("GET", "/", true).await, tell.clone());
        tokio::spawn(async move {
            let answer = one.get("/", "").await;
            let retry = answer.all("retry-after").concat();
            first.send((answer.status, retry)).unwrap();
        });
        tokio::spawn(async move {
            let answer = two.answer().await;
            let retry = answer.headers().get("retry-after");
            let retry = retry.map_or("", |v| v.to_str().unwrap()).to_owned();
            second.send((answer.status().as_u16(), retry)).unwrap();
        });
    }
    let early = MANY - GO_ON;
    for _ in 0..early {
        let answer = soon("an early answer", told.recv()).await.unwrap();
        assert_eq!(answer, (503, "2".to_owned()));
    }
    let lines = gate.log(early).await;
    assert!(lines.iter().all(|line| line["reason"] == "too-busy"));
    let detail = "the service accepts no more connections at the moment";
    assert!(lines.iter().all(|line| line["rule"] == detail));
    let counted = format!("loopgate_upstream_errors_total{{kind=\"busy\"}} {early}");
    assert!(gate.metrics().contains(&counted));
    // It accepts again: those that went on are served, and whoever comes.
    let back = std::net::TcpListener::from(full);
    drop(fillers);
    std::thread::spawn(move || {
        for tcp in back.incoming().flatten() {
            std::thread::spawn(move || {
                let mut got = [0; 4096];
                while let Ok(1..) = std::io::Read::read(&mut &tcp, &mut got) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    let _ = std::io::Write::write_all(&mut &tcp, answer);
                }
            });
        }
    });
    for _ in 0..GO_ON {
        assert_eq!(soon("an answer", told.recv()).await.unwrap().0, 200);
    }
    assert_eq!(gate.h1().await.get("/", "").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up() {
    let upstream = mute();
    let gate = Gate::limited(&upstream, "answer = \"400ms\"\n");
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    let head = "HTTP/1.1\r\nHost: app.lan\r\n";
    for (i, request) in [
        format!("GET / {head}\r\n"),
        format!("POST / {head}Content-Length: 2\r\n\r\nhi"),
        format!("POST / {head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ]
    .iter()
    .enumerate()
    {
        if i > 1 {
            one = gate.h1().await;
        }
        assert_eq!(
            ends_by_limit("an answer", one.ask(request)).await.status,
            504,
            "{request}"
        );
    }
    assert_eq!(
        ends_by_limit("an answer", two.get(1, "/")).await.status(),
        504
    );
    assert_eq!(
        ends_by_limit("an answer to a POST", two.ask(3, "POST", "/", &[], b"hi"))
            .await
            .status(),
        504
    );
    assert_eq!(
        ends_by_limit(
            "an answer to a POST",
            two.ask(5, "POST", "/", &[("content-length", "2")], b"hi")
        )
        .await
        .status(),
        504
    );
    upstream.wait("all of them to be let go", |list| {
        list.iter().all(|c| c.closed)
    });
}

#[tokio::test]
async fn an_answer_that_stalls_is_ended() {
    for (text, status) in [
        ("HTTP/1.1 200 OK\r\nContent-", 504),
        ("HTTP/1.1 100 Continue\r\n\r\n", 504),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            0,
        ),
    ] {
        let upstream = Upstream::answering(text);
        let gate = Gate::limited(&upstream, "answer = \"400ms\"\n");
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        let start = Instant::now();
        one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
        let last = async {
            loop {
                match one.try_answer("GET").await {
                    Ok(answer) if answer.status == 100 => {}
                    found => return found,
                }
            }
        };
        let found = ends_by_limit_of(start, "a stalled answer", last).await;
        assert_eq!(found.map_or(0, |a| a.status), status, "{text:?}");
        assert_eq!(
            ends_by_limit("a stalled answer", two.get(1, "/"))
                .await
                .status(),
            status,
            "{text:?}"
        );
        upstream.wait("both to be let go", |list| list.iter().all(|c| c.closed));
    }
}

#[tokio::test]
async fn an_answer_to_an_upload_that_stalls_is_ended() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX",
    ] {
        let upstream = Upstream::answering(text);
        let gate = Gate::limited(&upstream, "answer = \"400ms\"\n");
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        let start = Instant::now();
        one.send("POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        let last = async {
            loop {
                match one.try_answer("POST").await {
                    Ok(answer) if answer.status == 103 => {}
                    found => return found,
                }
            }
        };
        let found = ends_by_limit_of(start, "an answer to an upload", last).await;
        assert_eq!(found.map_or(0, |a| a.status), 504, "{text:?}");
        let found = ends_by_limit(
            "an answer to an upload",
            two.ask(1, "POST", "/", &[], b"hi"),
        );
        assert_eq!(found.await.status(), 504, "{text:?}");
    }
}

#[tokio::test]
async fn events_that_began_before_the_upload_ended_may_be_silent_too() {
    let go = Signal::default();
    let shared = go.clone();
    let upstream = Upstream::scripted(move |at, _, peer| {
        if at == At::Head {
            peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
            return After::Body;
        }
        shared.wait();
        peer.say("1\r\nb\r\n0\r\n\r\n");
        After::Keep
    });
    let gate = Gate::limited(&upstream, "answer = \"1s\"\n");
    let mut one = gate.h1().await;
    one.send("POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 2\r\n\r\nh")
        .await;
    while !one.got.ends_with(b"a\r\n") {
        assert!(one.more().await, "the answer begins");
    }
    one.send("i").await;
    assert!(
        tokio::time::timeout(Duration::from_secs(3), one.closed())
            .await
            .is_err(),
        "a silent stream of events goes on"
    );
    go.set();
    while !one.got.ends_with(b"0\r\n\r\n") {
        assert!(one.more().await, "and comes to its end");
    }
}

#[tokio::test]
async fn a_stream_of_events_may_be_silent() {
    let go = Signal::default();
    let shared = go.clone();
    let upstream = Upstream::whole(move |_, peer| {
        peer.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        shared.wait();
        peer.say("1\r\nx\r\n0\r\n\r\n");
        After::Keep
    });
    let gate = Gate::limited(
        &upstream,
        "answer = \"1s\"\nbody_idle = \"1s\"\nidle = \"1s\"\nhead = \"1s\"\n",
    );
    let mut one = gate.h1().await;
    one.send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n").await;
    let mut two = H2Client::open(&gate)
        .await
        .begin("GET", "/", true)
        .await
        .answer()
        .await;
    assert!(
        tokio::time::timeout(Duration::from_secs(3), one.closed())
            .await
            .is_err(),
        "silence is no end"
    );
    go.set();
    go.set();
    assert_eq!(
        (
            one.answer().await.text(),
            piece(two.body_mut()).await.unwrap()
        ),
        ("x".into(), "x".into())
    );
}

#[tokio::test]
async fn a_head_is_only_so_large() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head_size = \"4KiB\"\nfields = 30\n");
    let long = "x".repeat(5000);
    let many: Vec<(&str, &str)> = vec![("x", "y"); 40];
    let crumbs: Vec<(&str, &str)> = vec![("cookie", "a=b"); 40];
    let some: Vec<(&str, &str)> = vec![("cookie", "a=b"); 20];
    for (fields, status) in [
        (vec![("x", &*long)], 431),
        (many, 431),
        (crumbs, 431),
        (some, 200),
    ] {
        let lines: String = fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        assert_eq!(gate.h1().await.get("/", &lines).await.status, status);
        assert_eq!(
            gate.h2()
                .await
                .ask(1, "GET", "/", &fields, b"")
                .await
                .status(),
            status
        );
    }
    assert_eq!(upstream.requests().len(), 2);
}

/// The library of HTTP/2 refuses what is larger by itself, and says nothing to anybody.
#[tokio::test]
async fn a_head_that_is_too_large_is_told_and_logged_over_http2_too() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head_size = \"4KiB\"\n");
    for (at, (size, field)) in [(3000, 40), (7000, 7000), (1200, 10)]
        .into_iter()
        .enumerate()
    {
        let request = http::Request::get("https://app.lan/a");
        let request = (0..size / field).fold(request, |request, n| {
            request.header(format!("x-{n}"), "z".repeat(field))
        });
        let mut client = H2Client::open(&gate).await;
        let request = request.body(()).unwrap();
        let mut answer = client.send_request(request, true).await.answer().await;
        assert_eq!(answer.status(), 431, "{size} in fields of {field}");
        let id = answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        let (page, _) = h2_client::rest(answer.body_mut()).await;
        assert!(String::from_utf8_lossy(&page).contains(&id));
        let line = gate.log(at + 1).await.remove(at);
        assert_eq!(
            (&line["request_id"], &line["reason"]),
            (&id.into(), &"header-too-large".into())
        );
    }
    assert!(upstream.requests().is_empty());
}

/// Beyond twice `head_size` the library answers by itself, and far beyond it ends the connection.
#[tokio::test]
async fn a_head_that_the_library_refuses_is_logged_and_counted() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head_size = \"4KiB\"\n");
    let cases = [
        (9000, 16_000, 431),
        (20_000, 16_000, 431),
        (40_000, 16_000, 0),
        (400_000, 16_000, 0),
        (40_000, 2000, 0),
        (6000, 500, 0),
    ];
    for (at, (size, piece, status)) in cases.into_iter().enumerate() {
        let mut h2 = gate.h2().await;
        let mut head = frames::block(&frames::pseudo("GET", "/"));
        let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        head.extend(field.repeat(size / field.len()));
        let pieces: Vec<_> = head.chunks(piece).collect();
        for (n, part) in pieces.iter().enumerate() {
            let (kind, flags) = match n {
                0 => (frames::HEADERS, frames::END_STREAM),
                _ => (frames::CONTINUATION, 0),
            };
            let last = if n + 1 == pieces.len() {
                frames::END_HEADERS
            } else {
                0
            };
            h2.send(frames::frame(kind, flags | last, 1, part)).await;
        }
        let outcome = h2.outcome(1).await;
        assert_eq!(outcome.status(), status, "{size}: {outcome:?}");
        let line = gate.log(at + 1).await.remove(at);
        assert_eq!(
            (&line["reason"], &line["status"], &line["http"]),
            (&"header-too-large".into(), &status.into(), &"HTTP/2".into()),
            "{size}"
        );
    }
    // A stream that breaks the rules otherwise is none.
    let mut h2 = gate.h2().await;
    let wrong = [("te", "deflate")];
    let outcome = h2.ask(1, "GET", "/", &wrong, b"").await;
    assert_eq!(outcome.status(), 0, "{outcome:?}");
    assert_eq!(h2.ask(3, "HEAD", "/", &[], b"").await.status(), 200);
    let lines = gate.log(7).await;
    assert_eq!((lines.len(), &lines[6]["status"]), (7, &200.into()));
    let counted = "loopgate_decisions_total{decision=\"refused\",reason=\"header-too-large\"} 6";
    assert!(gate.metrics().contains(counted));
    let counts = |kind: &str, n: usize| {
        let line = format!("loopgate_http2_errors_total{{kind=\"{kind}\"}} {n}\n");
        gate.metrics().contains(&line)
    };
    until("the stream to be counted", || counts("stream", 1)).await;
    assert!(counts("connection", 0), "it goes on");
    h2.send(frames::frame(frames::DATA, 0, 0, b"of no stream"))
        .await;
    until("the connection to be counted", || counts("connection", 1)).await;
    assert!(counts("stream", 1));
}

#[tokio::test]
async fn a_body_is_only_so_large() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "body_size = \"10B\"\n");
    let chunked = |n: usize| {
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{n:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(n)
        )
    };
    let counted = |n: usize| format!("Content-Length: {n}\r\n\r\n{}", "x".repeat(n));
    for (n, status) in [(9, 200), (10, 200), (11, 413), (100_000, 413)] {
        for lines in [chunked(n), counted(n)] {
            let mut client = gate.h1().await;
            let _ = client
                .try_send(format!("PUT / HTTP/1.1\r\nHost: app.lan\r\n{lines}"))
                .await;
            assert_eq!(client.answer().await.status, status, "{n}");
        }
        let body = vec![b'x'; n.min(16_000)];
        for fields in [vec![], vec![("content-length", body.len().to_string())]] {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, &**v)).collect();
            assert_eq!(
                gate.h2()
                    .await
                    .ask(1, "PUT", "/", &fields, &body)
                    .await
                    .status(),
                status,
                "{n}"
            );
        }
    }
    assert!(
        upstream.requests().iter().all(|r| r.body.len() <= 10),
        "no larger one became whole"
    );
    assert_eq!(upstream.requests().len(), 8);
}

#[tokio::test]
async fn those_that_are_closed_unheard_are_counted() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "connections = 1\n");
    let closed = || {
        let metrics = gate.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("loopgate_surplus_closed_total "));
        line.expect("the metric").parse::<usize>().unwrap()
    };
    let _inside = gate.h1().await;
    let _told: Vec<_> = (0..2)
        .map(|_| std::net::TcpStream::connect(gate.address).unwrap())
        .collect();
    let open = |line: &str| line.starts_with("loopgate_connections{") && line.ends_with(" 3");
    until("two to be told", || gate.metrics().lines().any(open)).await;
    assert_eq!(closed(), 0, "there are places to tell them");
    let _many: Vec<_> = (0..300)
        .map(|_| std::net::TcpStream::connect(gate.address).unwrap())
        .collect();
    until("most to be closed", || closed() > 30).await;
}

#[tokio::test]
async fn whoever_is_one_too_many_is_told_so() {
    for limits in ["connections = 3\n", "connections_per_client = 3\n"] {
        let upstream = Upstream::ok();
        let gate = Gate::limited(&upstream, limits);
        let (mut one, two, three) = (gate.h1().await, gate.h1().await, gate.h2().await);
        for path in ["/", "/.loopgate/login"] {
            let mut surplus = gate.h1().await;
            let told = surplus.get(path, "").await;
            assert_eq!(told.status, 503, "{limits}{path}");
            assert_eq!(told.all("retry-after"), ["2"]);
            assert_eq!(told.all("connection"), ["close"]);
            assert!(
                told.text().starts_with("The gate is busy."),
                "{}",
                told.text()
            );
            surplus.closed().await;
            let mut surplus = H2Client::open(&gate).await;
            let told = surplus.begin("GET", path, true).await.answer().await;
            assert_eq!(told.status(), 503);
            assert_eq!(told.headers()["retry-after"], "2");
            surplus.closed().await;
        }
        assert!(upstream.requests().is_empty(), "no service is asked");
        assert_eq!(
            one.get("/", "").await.status,
            200,
            "those inside are served"
        );
        drop((two, three));
        until("somebody to leave", || gate.connections() == 1).await;
        assert_eq!(
            gate.h1().await.get("/", "").await.status,
            200,
            "and there is room again"
        );
    }
}
