//! Floods: while one client misbehaves as much as it can, another one is served at once, and memory stays where it is.

use std::time::{Duration, Instant};

use crate::support::frames::*;
use crate::support::*;

/// What a flood may take: some are hundreds of thousands of frames, on a machine that may have other work.
const LONG: Duration = Duration::from_secs(60);

/// Asks for something as another client, and says how long it took.
async fn ask(other: &mut Client) -> Duration {
    let start = Instant::now();
    assert_eq!(other.get("/other", "").await.status, 200);
    start.elapsed()
}

/// Runs the flood, and meanwhile asks for something as another client on the same data thread, again and again.
async fn while_others_are_served<T>(gate: &Gate, flood: impl Future<Output = T>) -> T {
    let mut other = gate.h1().await;
    let beat = || tokio::time::sleep(Duration::from_millis(5));
    // What this machine takes without the flood, be it busy with something else: a few milliseconds where it is not.
    let mut quiet = Duration::ZERO;
    for _ in 0..20 {
        quiet = quiet.max(ask(&mut other).await);
        beat().await;
    }
    let mut crowd = crowding();
    let mut took = Vec::new();
    let asking = async {
        loop {
            took.push(ask(&mut other).await);
            beat().await;
        }
    };
    let found = tokio::select! {
        found = tokio::time::timeout(LONG, flood) => found.expect("the flood to end in time"),
        () = asking => unreachable!(),
    };
    // The median, of a few the lower one: this process has a flood and a dozen other tests on its hands.
    took.sort_unstable();
    let middle = took.len().saturating_sub(1) / 2;
    let median = took.get(middle).copied().unwrap_or_default();
    let most = Duration::from_millis(100) + 5 * quiet;
    // What is work takes as many times longer as this machine is busy, and so does whoever waits for it.
    if median >= most.mul_f64(crowd) {
        crowd = crowd.max(crowding());
    }
    assert!(
        median < most.mul_f64(crowd),
        "others waited {median:?}, at most {:?}, without the flood {quiet:?}, in a crowd of {crowd:.1}",
        took.last()
    );
    found
}

/// Writes the bytes again and again, `most` times, until the gate ends the connection or, for two seconds, reads no more.
async fn pour(h2: &mut H2, most: u32, bytes: impl FnMut(u32) -> Vec<u8>) -> Poured {
    pour_for(Duration::from_secs(2), h2, most, bytes).await
}

/// The same; how long a gate that reads nothing is waited for, which a busy machine may make look so for a while.
async fn pour_for(
    patience: Duration,
    h2: &mut H2,
    most: u32,
    mut bytes: impl FnMut(u32) -> Vec<u8>,
) -> Poured {
    for n in 0..most {
        let write = h2.client.try_send(bytes(n));
        match tokio::time::timeout(patience, write).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Poured::Ended,
            Err(_) => return Poured::Stuck,
        }
    }
    Poured::Taken
}

/// What became of a flood.
#[derive(Debug, PartialEq)]
enum Poured {
    /// The connection was ended.
    Ended,
    /// The gate reads no more: the kernel's buffers are full, and nothing of ours grows.
    Stuck,
    /// All of it was read.
    Taken,
}

/// What came of the connection after a flood that ends it.
async fn ended(h2: &mut H2) -> bool {
    matches!(
        h2.outcome(2_000_001).await,
        Outcome::Goaway(_) | Outcome::Closed
    )
}

#[tokio::test]
async fn resets_by_the_client() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let reset = |n: u32| {
        [
            get(2 * n + 1, "/"),
            frame(RST_STREAM, 0, 2 * n + 1, [0, 0, 0, 8]),
        ]
        .concat()
    };
    let burst = |n: u32| (0..100).flat_map(|i| reset(100 * n + i)).collect();
    while_others_are_served(&gate, pour_for(DEADLINE, &mut h2, 1000, burst)).await;
    assert!(ended(&mut h2).await, "the flood is ended");
    assert!(
        upstream.requests().len() < 5000,
        "few of a hundred thousand reached the upstream"
    );
}

#[tokio::test]
async fn resets_that_the_client_makes_us_do() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let open = |stream| frame(HEADERS, END_HEADERS, stream, block(&pseudo("POST", "/")));
    let wrong = |n: u32| [open(2 * n + 1), frame(WINDOW_UPDATE, 0, 2 * n + 1, [0; 4])].concat();
    let flood = async {
        pour_for(DEADLINE, &mut h2, 20_000, wrong).await;
        ended(&mut h2).await
    };
    assert!(
        while_others_are_served(&gate, flood).await,
        "the flood is ended"
    );
}

#[tokio::test]
async fn continuations_without_end() {
    for filling in [&b""[..], b"\0\x01x\x01y"] {
        let gate = Gate::plain(&Upstream::ok());
        let mut h2 = gate.h2().await;
        h2.send(frame(HEADERS, END_STREAM, 1, block(&pseudo("GET", "/"))))
            .await;
        let flood = async {
            pour_for(DEADLINE, &mut h2, 100_000, |_| {
                frame(CONTINUATION, 0, 1, filling)
            })
            .await;
            ended(&mut h2).await
        };
        assert!(soon("the end", flood).await, "the flood is ended");
    }
}

#[tokio::test]
async fn a_header_block_that_unpacks_to_megabytes() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    // One field of 4,000 bytes goes into the table, then ten thousand bytes name it ten thousand times.
    let mut bomb = block(&pseudo("GET", "/"));
    bomb.extend([0x40, 1, b'x', 127, 0xa1, 30]);
    bomb.extend([b'y'; 4000]);
    bomb.extend(vec![0xbe; 10_000]);
    h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
        .await;
    let outcome = h2.outcome(1).await;
    assert!(matches!(outcome.status(), 0 | 431), "{outcome:?}");
    assert!(upstream.conversations().is_empty());
}

#[tokio::test]
async fn fields_count_for_more_than_their_bytes() {
    let upstream = Upstream::ok();
    let gate = Gate::limited(&upstream, "head_size = \"4KiB\"\nfields = 256\n");
    // In the table once, then a byte each: a crumb of a cookie, and a field that is next to nothing.
    for field in [&[0x60, 1, b'a'][..], &[0x40, 1, b'x', 0]] {
        for (times, status) in [(20, 200), (150, 431)] {
            let mut bomb = block(&pseudo("GET", "/"));
            bomb.extend(field);
            bomb.extend(vec![0xbe; times]);
            let mut h2 = gate.h2().await;
            h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
                .await;
            assert_eq!(h2.outcome(1).await.status(), status, "{field:?} {times}");
        }
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn answers_that_nobody_reads() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (what, bytes) in [
        ("PING", frame(PING, 0, 0, [0; 8]).repeat(1000)),
        (
            "SETTINGS",
            frame(SETTINGS, 0, 0, setting(3, 100)).repeat(1000),
        ),
        ("empty SETTINGS", frame(SETTINGS, 0, 0, []).repeat(1000)),
    ] {
        // Each is over in a moment: several, so that somebody asks meanwhile.
        let flood = async {
            for _ in 0..3 {
                let mut h2 = gate.h2().await;
                let poured = pour(&mut h2, 2000, |_| bytes.clone()).await;
                assert_ne!(
                    poured,
                    Poured::Taken,
                    "{what}: two million answers are waiting somewhere"
                );
            }
        };
        while_others_are_served(&gate, flood).await;
    }
}

#[tokio::test]
async fn frames_that_say_nothing() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let open = frame(HEADERS, END_HEADERS, 1, block(&pseudo("POST", "/")));
    for (what, bytes) in [
        ("empty DATA", frame(DATA, 0, 1, [])),
        ("padding", frame(DATA, PADDED, 1, [3, 0, 0, 0])),
        ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])),
        (
            "WINDOW_UPDATE",
            frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()),
        ),
        (
            "WINDOW_UPDATE of the connection",
            frame(WINDOW_UPDATE, 0, 0, 1u32.to_be_bytes()),
        ),
        ("answers to no PING", frame(PING, ACK, 0, [0; 8])),
        ("unknown frames", frame(99, 0, 1, [0; 100])),
    ] {
        let mut h2 = gate.h2().await;
        h2.send(&open).await;
        let many = bytes.repeat(1000);
        let flood = async {
            pour_for(DEADLINE, &mut h2, 100, |_| many.clone()).await;
            ended(&mut h2).await
        };
        assert!(while_others_are_served(&gate, flood).await, "{what}");
        assert!(
            upstream.requests().iter().all(|r| r.method == "GET"),
            "{what}"
        );
    }
}

/// Reads and throws away, as a client that makes us answer.
async fn listening(mut from: impl tokio::io::AsyncRead + Unpin) {
    let mut junk = vec![0; 64 << 10];
    while matches!(tokio::io::AsyncReadExt::read(&mut from, &mut junk).await, Ok(n) if n > 0) {}
}

#[tokio::test]
async fn questions_whose_answers_are_read() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (what, bytes) in [
        ("PING", frame(PING, 0, 0, [0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, setting(3, 100))),
        (
            "SETTINGS that move windows",
            frame(SETTINGS, 0, 0, setting(4, 70_000)),
        ),
    ] {
        let h2 = gate.h2().await;
        let (from, mut to) = tokio::io::split(h2.client.stream);
        let many = bytes.repeat(100);
        let flood = async {
            for _ in 0..1000 {
                if tokio::io::AsyncWriteExt::write_all(&mut to, &many)
                    .await
                    .is_err()
                {
                    return;
                }
            }
        };
        let both = async { tokio::join!(flood, listening(from)).0 };
        while_others_are_served(&gate, both).await;
        gate_is_left_by(&gate, 0, what).await;
    }
}

/// Waits until no more than so many are connected.
async fn gate_is_left_by(gate: &Gate, most: usize, what: &str) {
    until(what, || gate.connections() <= most).await;
}

#[tokio::test]
async fn streams_that_are_begun_and_given_up_one_by_one() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    // Ten are answered before the next, so that none waits to be accepted when its end comes. One at a time would be so slow on a
    // busy machine that time gives back what is spent.
    let flood = async {
        for n in (0..5000).step_by(10) {
            let streams = (n..n + 10).map(|n| 2 * n + 1);
            let cancel = |stream| frame(RST_STREAM, 0, stream, [0, 0, 0, 8]);
            let mut begin: Vec<u8> = streams.clone().flat_map(|n| get(n, "/")).collect();
            begin.extend(frame(PING, 0, 0, [7; 8]));
            let is_over = h2.client.try_send(begin).await.is_err();
            if is_over || h2.next_of(PING).await.is_none() {
                return n;
            }
            let cancels: Vec<u8> = streams.flat_map(cancel).collect();
            let _ = h2.client.try_send(cancels).await;
        }
        5000
    };
    let taken = while_others_are_served(&gate, flood).await;
    assert!((300..3000).contains(&taken), "{taken} were begun");
}

#[tokio::test]
async fn windows_of_a_byte() {
    let body = "x".repeat(100_000);
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let gate = Gate::plain(&upstream);
    let client = Client::tls(gate.address, Some("app.lan"), "h2").await;
    let mut h2 = H2::with(client, &[(4, 0)]).await;
    h2.send(get(1, "/")).await;
    let (from, mut to) = tokio::io::split(h2.client.stream);
    let window = frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()).repeat(10);
    let flood = async {
        for _ in 0..9_000 {
            if tokio::io::AsyncWriteExt::write_all(&mut to, &window)
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let both = async { tokio::join!(flood, listening(from)) };
    while_others_are_served(&gate, both).await;
    gate_is_left_by(&gate, 0, "the dribble to be ended").await;
}

#[tokio::test]
async fn a_busy_but_honest_client_is_never_cut() {
    let body = "x".repeat(4 << 20);
    let upstream = Upstream::whole(move |request, peer| {
        let body = if request.target == "/large" {
            &*body
        } else {
            "ok"
        };
        let length = body.len();
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let mut stream = 1;
    // Two windows for every frame of 32 MiB, one PING and one PRIORITY for every request, every tenth of which is given up.
    for n in 0..2500 {
        let extra = [
            frame(PRIORITY, 0, stream, [0, 0, 0, 0, 9]),
            frame(PING, 0, 0, [0; 8]),
        ];
        h2.send(extra.concat()).await;
        if n % 10 == 9 {
            let cancel = frame(RST_STREAM, 0, stream, [0, 0, 0, 8]);
            h2.send([get(stream, "/"), cancel].concat()).await;
        } else {
            let path = if n % 300 == 0 { "/large" } else { "/" };
            let outcome = h2.get(stream, path).await;
            assert_eq!(outcome.status(), 200, "{n}: {path}");
        }
        stream += 2;
    }
}

#[tokio::test]
async fn more_streams_than_are_allowed() {
    let go = Signal::default();
    let shared = go.clone();
    let upstream = Upstream::whole(move |request, peer| {
        if request.target == "/held" {
            shared.wait();
        }
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    let all: Vec<u8> = (0..1000).flat_map(|n| get(2 * n + 1, "/held")).collect();
    h2.send(all).await;
    let refused = while_others_are_served(&gate, h2.outcome(1999)).await;
    assert!(
        matches!(
            refused,
            Outcome::Reset(7) | Outcome::Goaway(_) | Outcome::Closed
        ),
        "{refused:?}"
    );
    assert!(
        upstream
            .requests()
            .iter()
            .filter(|r| r.target == "/held")
            .count()
            <= 200
    );
    drop(h2);
    (0..200).for_each(|_| go.set());
}

#[tokio::test]
async fn requests_whose_answers_nobody_reads() {
    let body = "x".repeat(100_000);
    let upstream = Upstream::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let gate = Gate::limited(&upstream, "body_idle = \"400ms\"\n");
    let mut one = gate.h1().await;
    let flood = async {
        let many = "GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n".repeat(1000);
        while one.try_send(&many).await.is_ok() {}
    };
    while_others_are_served(&gate, flood).await;
    assert!(
        upstream.requests().len() < 1000,
        "{}",
        upstream.requests().len()
    );
}

#[tokio::test]
async fn many_who_say_nothing_or_half_a_word() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut silent = Vec::new();
    for n in 0..150 {
        let mut client = match n % 3 {
            0 => Client::tcp(gate.address).await,
            1 => gate.h1().await,
            _ => gate.h2().await.client,
        };
        let _ = client
            .try_send(["\x16\x03\x01", "GET / HT", "\0\0\x01"][n % 3])
            .await;
        silent.push(client);
    }
    let ask = async {
        for _ in 0..20 {
            assert_eq!(gate.h2().await.get(1, "/").await.status(), 200);
        }
    };
    while_others_are_served(&gate, ask).await;
}
