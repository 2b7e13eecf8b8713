//! Damaged requests by the thousand: whatever the gate lets through, the oracle reads as exactly the requests that were answered.
//! `LOOPGATE_FUZZ=100000` makes it longer, `LOOPGATE_SEED` begins elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::support::frames::*;
use crate::support::*;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn new(n: u64) -> Self {
        let seed = std::env::var("LOOPGATE_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(1u64);
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n.wrapping_mul(0xd134_2543_de82_ef95) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n.max(1)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const SEEDS: &[&str] = &[
    "GET /a?b HTTP/1.1\r\nHost: app.lan\r\nX: y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.lan\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
    "GET https://app.lan/ HTTP/1.1\r\nHost: app.lan\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: app.lan\r\nConnection: keep-alive, X\r\nX: y\r\nCookie: a=b; c=d\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: app.lan\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
];

const PIECES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "/",
    "%",
    "#",
    "\x0b",
    "\x7f",
    "\u{e9}",
    "0",
    "5",
    "-",
    "+",
    "_",
    "\"",
    "\r\n\r\n",
    "\n\n",
    "\r\n ",
    "\r\nContent-Length: 5",
    "\r\nContent-Length: 0",
    "\r\nTransfer-Encoding: chunked",
    "\r\nTransfer-Encoding: x",
    "\r\nTransfer_Encoding: chunked",
    "\r\nHost: app.lan",
    "\r\nConnection: close",
    "\r\nConnection: Content-Length",
    "\r\nUpgrade: h2c",
    "0\r\n\r\n",
    "1\r\nx\r\n",
    "ffffffffffffffff",
    "GET /smuggled HTTP/1.1\r\nHost: app.lan\r\n\r\n",
    "HTTP/1.1",
    "chunked",
    "app.lan",
    "X_Forwarded_For: x\r\n",
    "Loopgate-Token: x\r\n",
];

/// One or two seeds with a few changes.
fn damaged(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.one(SEEDS).as_bytes().to_vec();
    if dice.below(3) == 0 {
        bytes.extend(dice.one(SEEDS).as_bytes());
    }
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => drop(bytes.remove(at)),
            2 => drop(bytes.splice(at..at, dice.one(PIECES).bytes())),
            3 => {
                let end = (at + dice.below(20)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => drop(bytes.drain(at..(at + dice.below(20)).min(bytes.len()))),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// How many rounds, a few by default.
fn rounds() -> usize {
    std::env::var("LOOPGATE_FUZZ")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1500)
}

/// Echoes what it is sent as a tunnel, and answers everything else.
fn upstream() -> Upstream {
    Upstream::whole(|request, peer| {
        if let [protocol] = request.all("upgrade")[..] {
            peer.say(format!(
                "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ));
            return After::Close;
        }
        let body = if request.method == "HEAD" { "" } else { "ok" };
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"
        ));
        After::Keep
    })
}

const QUICK: &str = "idle = \"50ms\"\nhead = \"50ms\"\nbody_idle = \"50ms\"\nanswer = \"5s\"\nconnections_per_client = 10000\n";

#[tokio::test]
async fn damaged_requests_over_http1() {
    let upstream = upstream();
    let gate = Arc::new(Gate::limited(&upstream, QUICK));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for n in 0..rounds() {
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
        let (gate, answered) = (Arc::clone(&gate), Arc::clone(&answered));
        tasks.spawn(async move {
            let bytes = damaged(&mut Dice::new(n as u64));
            let mut client = gate.h1().await;
            let _ = client.try_send(&bytes).await;
            client.closed().await;
            let text = String::from_utf8_lossy(&client.got).into_owned();
            let whole =
                text.matches("HTTP/1.1 200 OK\r\n").count() + text.matches("HTTP/1.1 101 ").count();
            answered.fetch_add(whole, Ordering::Relaxed);
            assert!(
                !text.contains("HTTP/1.1 502"),
                "{:?} gave {text}",
                bytes.escape_ascii().to_string()
            );
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(upstream.complaints(), [""; 0]);
    let (requests, answered) = (upstream.requests().len(), answered.load(Ordering::Relaxed));
    assert!(
        requests == answered && requests > 0,
        "{requests} requests were forwarded, {answered} answers came back"
    );
}

const NAMES: &[&str] = &[
    ":method",
    ":path",
    ":scheme",
    ":authority",
    ":protocol",
    ":status",
    "host",
    "x",
    "X",
    "x_y",
    "",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
    "cookie",
    "trailer",
    "expect",
    "a\"b",
    "a b",
    "a\r\nb",
    "x-forwarded-for",
    "loopgate-token",
    "content_length",
];

const VALUES: &[&str] = &[
    "GET",
    "POST",
    "CONNECT",
    "HEAD",
    "/",
    "/a",
    "*",
    "https",
    "http",
    "app.lan",
    "evil.lan",
    "5",
    "2",
    "0",
    "chunked",
    "trailers",
    "close",
    "websocket",
    "",
    " ",
    "a\r\nb: c",
    "a\nb",
    "a\0",
    "a=b",
    "caf\u{e9}",
    "100-continue",
    "\u{7f}",
    "/a b",
    "/a#b",
    "app.lan:443",
    "u@app.lan",
    "GET / HTTP/1.1\r\n",
];

/// A request of frames, with changed fields, pieces and flags.
fn damaged_frames(dice: &mut Dice) -> Vec<u8> {
    let mut fields = pseudo("GET", "/");
    if dice.below(2) == 0 {
        fields[0].1 = "POST";
    }
    for _ in 0..dice.below(4) {
        let (name, value) = (dice.one(NAMES), dice.one(VALUES));
        let at = dice.below(fields.len() + 1);
        match dice.below(4) {
            0 if at < fields.len() => fields[at].1 = value,
            1 if at < fields.len() => drop(fields.remove(at)),
            2 => fields.insert(at, (name, value)),
            _ => fields.push((name, value)),
        }
    }
    let mut bytes = frame(
        HEADERS,
        END_HEADERS | dice.below(2) as u8,
        1,
        block(&fields),
    );
    for _ in 0..dice.below(4) {
        bytes.extend(match dice.below(6) {
            0 => frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                block(&[(dice.one(NAMES), dice.one(VALUES))]),
            ),
            1 => frame(RST_STREAM, 0, 1, [0, 0, 0, 8]),
            2 => frame(
                dice.below(12) as u8,
                dice.below(256) as u8,
                dice.below(4) as u32,
                vec![0; dice.below(12)],
            ),
            _ => frame(
                DATA,
                dice.below(2) as u8,
                1,
                dice.one(&["", "hi", "hello", "0\r\n\r\n"]),
            ),
        });
    }
    if dice.below(3) == 0 {
        let at = 9 + dice.below(bytes.len() - 9);
        bytes[at] = dice.below(256) as u8;
    }
    bytes
}

#[tokio::test]
async fn damaged_requests_over_http2() {
    let upstream = upstream();
    let gate = Arc::new(Gate::limited(&upstream, QUICK));
    let mut tasks = JoinSet::new();
    for n in 0..rounds() {
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
        let gate = Arc::clone(&gate);
        tasks.spawn(async move {
            let bytes = damaged_frames(&mut Dice::new(n as u64));
            let mut h2 = gate.h2().await;
            h2.send(&bytes).await;
            // An answer, or the end of the connection: by its fault, or as idle.
            h2.outcome(1).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(upstream.complaints(), [""; 0]);
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| !r.shown().contains("smuggled"))
    );
}
