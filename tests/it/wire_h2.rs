//! HTTP/2 in, frame by frame: what RFC 9113 forbids, and what would be read differently as HTTP/1, never reaches the upstream
//! as a whole request.

use crate::support::frames::*;
use crate::support::*;
use Want::{Lenient, No, Pass, Status};

/// What has to come of a stream.
#[derive(Clone, Debug)]
enum Want {
    /// The upstream saw this, and its 200 came back.
    Pass(&'static str),
    /// Reset, or 400, or the end of the connection; the upstream saw no whole request.
    No,
    /// Refused with this status.
    Status(u16),
    /// Should be `No`. The h2 crate repairs it before anybody can look: this is what goes on, in one reading only.
    Lenient(&'static str),
}

type Fields = &'static [(&'static str, &'static str)];

const GET: Fields = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "app.lan"),
    (":path", "/"),
];

/// Whole header lists of a request without a body.
const HEADS: &[(Fields, Want)] = &[
    (GET, Pass("GET /")),
    (
        &[
            (":path", "/"),
            (":authority", "app.lan"),
            (":method", "GET"),
            (":scheme", "https"),
        ],
        Pass("GET /"),
    ),
    (
        &[
            (":method", "HEAD"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a?b"),
        ],
        Pass("HEAD /a?b"),
    ),
    (
        &[
            (":method", "get"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        Pass("get /"),
    ),
    (
        &[
            (":method", "OPTIONS"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "*"),
        ],
        Pass("OPTIONS *"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        Pass("GET /"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        Pass("GET /"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "App.Lan"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        Pass("GET /"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "//x//"),
        ],
        Pass("GET //x//"),
    ),
    // Pseudo fields (RFC 9113, 8.3).
    (
        &[
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
        ],
        No,
    ),
    (
        &[(":method", "GET"), (":scheme", "https"), (":path", "/")],
        No,
    ),
    (&[], No),
    (
        &[
            (":method", "GET"),
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            (":path", "/b"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            (":foo", "x"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            (":status", "200"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            (":protocol", "websocket"),
        ],
        No,
    ),
    (
        &[
            ("x", "y"),
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            ("x", "y"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":Method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    // Method.
    (
        &[
            (":method", ""),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "G T"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET / HTTP/1.1\r\nX:"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET\0"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (&[(":method", "CONNECT"), (":authority", "app.lan:443")], No),
    (
        &[
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            (":protocol", "connect-udp"),
        ],
        No,
    ),
    (
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":authority", "app.lan"),
        ],
        No,
    ),
    // Scheme.
    (
        &[
            (":method", "GET"),
            (":scheme", ""),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "ht tp"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https\r\nX: y"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https://evil/x?"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "ftp"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    // Path.
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", ""),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "a"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "*"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "?a"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "https://app.lan/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a b"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\tb"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a HTTP/1.1\r\nX: y"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\r\nb"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\nb"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\0b"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\x7fb"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/caf\u{e9}"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            ("host", "app.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a#b"),
        ],
        Lenient("GET /a"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/?a#b"),
        ],
        Lenient("GET /?a"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a#b\0\r\nc"),
        ],
        Lenient("GET /a"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/a\0#b"),
        ],
        No,
    ),
    // The library shows no scheme without an authority; nothing asks for it.
    (
        &[
            (":method", "GET"),
            (":scheme", "ftp"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        Lenient("GET /"),
    ),
    // What the service is told is ours: X-Forwarded-Proto is that of the listener.
    (
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "app.lan"),
            (":path", "/"),
        ],
        Lenient("GET /"),
    ),
    // Authority and Host.
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            ("host", "api.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "evil.lan"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan:8443"),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            ("host", "app.lan"),
            ("host", "app.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            ("host", "app.lan"),
            ("host", "evil.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", ""),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", ""),
            (":path", "/"),
            ("host", "app.lan"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "u@app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "u:p@app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan/x"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan, app.lan"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan\r\nX: y"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan:x"),
            (":path", "/"),
        ],
        No,
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "app.lan"),
            (":path", "/"),
            ("ho_st", "evil.lan"),
        ],
        Pass("GET /"),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "evil.lan"),
            (":path", "/"),
        ],
        Status(421),
    ),
    (
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "api.lan"),
            (":path", "/"),
        ],
        Status(421),
    ),
];

/// Fields after the pseudo ones.
const FIELDS: &[(&str, &str, Want)] = &[
    ("x", "y", Pass("GET /")),
    ("x", "", Pass("GET /")),
    ("x", "a\tb", Pass("GET /")),
    ("x", "caf\u{e9}", Pass("GET /")),
    ("te", "trailers", Pass("GET /")),
    ("expect", "100-continue", Pass("GET /")),
    ("content-length", "0", Pass("GET /")),
    ("x_y", "z", Pass("GET /")),
    ("connection", "close", No),
    ("connection", "keep-alive", No),
    ("connection", "x", No),
    ("keep-alive", "timeout=5", No),
    ("proxy-connection", "keep-alive", No),
    ("transfer-encoding", "chunked", No),
    ("transfer-encoding", "identity", No),
    ("transfer-encoding", "", No),
    ("upgrade", "h2c", No),
    ("upgrade", "websocket", No),
    ("te", "gzip", No),
    ("te", "trailers, gzip", No),
    ("te", "", No),
    ("x", " y", No),
    ("x", "y\t", No),
    ("cookie", "a=b ", No),
    ("X", "y", No),
    ("x-Y", "z", No),
    ("", "y", No),
    (" x", "y", No),
    ("x ", "y", No),
    ("x y", "z", No),
    ("x:", "y", No),
    ("x\r\ny", "z", No),
    ("x\ny", "z", No),
    ("x\0", "y", No),
    ("x\x7f", "y", No),
    ("x\u{e9}", "y", No),
    ("x\"", "y", No),
    ("x(y)", "z", No),
    ("x", "a\r\nTransfer-Encoding: chunked", No),
    (
        "x",
        "a\r\n\r\nGET /two HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        No,
    ),
    ("x", "a\rb", No),
    ("x", "a\nb", No),
    ("x", "a\0b", No),
    ("x", "a\x01b", No),
    ("x", "a\x0bb", No),
    ("x", "a\x7fb", No),
    ("cookie", "a=b\r\nX: y", No),
    ("content-length", "5", No),
    ("content-length", "-1", No),
    ("content-length", "+0", No),
    ("content-length", "0, 0", No),
    ("content-length", "x", No),
    ("content-length", "99999999999999999999", No),
    ("content-length", "00", No),
    ("content-length", "9223372036854775808", No),
    ("content-length", "18446744073709551616", No),
    ("author_ization", "x", Pass("GET /")),
    ("content_length", "5", Pass("GET /")),
    ("transfer_encoding", "chunked", Pass("GET /")),
];

/// Lengths that are announced, frames of data, and trailers.
const BODIES: &[(Fields, &[&str], Fields, Want)] = &[
    (&[], &["hello"], &[], Pass("POST / =hello")),
    (&[], &["he", "", "llo"], &[], Pass("POST / =hello")),
    (&[], &[""], &[], Pass("POST /")),
    (
        &[("content-length", "5")],
        &["hello"],
        &[],
        Pass("POST / =hello"),
    ),
    (
        &[("content-length", "5")],
        &["he", "llo", ""],
        &[],
        Pass("POST / =hello"),
    ),
    (&[("content-length", "0")], &[""], &[], Pass("POST /")),
    (&[], &["hello"], &[("x", "y")], Pass("POST / =hello +x:y")),
    (
        &[("te", "trailers")],
        &["hello"],
        &[("grpc-status", "0"), ("b", "c")],
        Pass("POST / =hello +grpc-status:0 +b:c"),
    ),
    (
        &[],
        &["0\r\n\r\nGET /two HTTP/1.1\r\n\r\n"],
        &[],
        Pass("POST / =0\\r\\n\\r\\nGET /two HTTP/1.1\\r\\n\\r\\n"),
    ),
    (&[("content-length", "6")], &["hello"], &[], No),
    (&[("content-length", "4")], &["hello"], &[], No),
    (&[("content-length", "0")], &["hello"], &[], No),
    (&[("content-length", "5")], &["hello", "x"], &[], No),
    (&[("content-length", "5")], &["he"], &[("x", "y")], No),
    (
        &[("content-length", "5"), ("content-length", "5")],
        &["hello"],
        &[],
        No,
    ),
    (
        &[("content-length", "5"), ("content-length", "6")],
        &["hello"],
        &[],
        No,
    ),
    (&[("content-length", "5, 5")], &["hello"], &[], No),
    (&[("content-length", "05x")], &["hello"], &[], No),
    (&[("content-length", "05")], &["hello"], &[], No),
    (
        &[("content-length", "9999999999999999999")],
        &["hello"],
        &[],
        No,
    ),
    (
        &[("content-length", "18446744073709551621")],
        &["hello"],
        &[],
        No,
    ),
    (&[("content-length", "")], &["hello"], &[], No),
    (
        &[],
        &["hello"],
        &[(":path", "/x")],
        Lenient("POST / =hello"),
    ),
    (
        &[],
        &["hello"],
        &[(":status", "200")],
        Lenient("POST / =hello"),
    ),
    (&[], &["hello"], &[("X", "y")], No),
    (&[], &["hello"], &[("content-length", "5")], No),
    (&[], &["hello"], &[("transfer-encoding", "chunked")], No),
    (&[], &["hello"], &[("connection", "close")], No),
    (&[], &["hello"], &[("host", "evil.lan")], No),
    (&[], &["hello"], &[("authorization", "x")], No),
    (&[], &["hello"], &[("cookie", "x")], No),
    (&[], &["hello"], &[("x-forwarded-for", "1.2.3.4")], No),
    (&[], &["hello"], &[("x_loopgate_user", "root")], No),
    (&[], &["hello"], &[("my_key", "b")], No),
    (&[], &["hello"], &[("x", "a\r\nb")], No),
    (&[], &["hello"], &[("x", "a\0b")], No),
];

async fn judge(
    gate: &Gate,
    upstream: &Upstream,
    bytes: Vec<u8>,
    want: &Want,
) -> Result<(), String> {
    upstream.forget();
    let mut h2 = gate.h2().await;
    h2.send(bytes).await;
    let outcome = h2.outcome(1).await;
    drop(h2);
    gate.deserted().await;
    upstream.settle();
    let shown: Vec<String> = upstream.requests().iter().map(Request::shown).collect();
    if let Some(why) = upstream.complaints().pop() {
        return Err(format!("UNSAFE: ambiguous bytes were forwarded: {why}"));
    }
    let fine = match want {
        Pass(request) | Lenient(request) => outcome.status() == 200 && shown == [*request],
        Status(status) => outcome.status() == *status && shown.is_empty(),
        No => shown.is_empty() && matches!(outcome.status(), 0 | 400),
    };
    fine.then_some(())
        .ok_or(format!("{want:?}, but {outcome:?}, {shown:?}"))
}

/// Runs every row and fails with all that went wrong.
async fn run(gate: &Gate, upstream: &Upstream, rows: Vec<(String, Vec<u8>, Want)>) {
    let (mut wrong, count) = (Vec::new(), rows.len());
    for (what, bytes, want) in rows {
        if let Err(why) = judge(gate, upstream, bytes, &want).await {
            wrong.push(format!("{what}: {why}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} rows:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A block whose characters up to U+00FF are single bytes.
fn raw_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let latin = |text: &str| text.chars().map(|c| c as u32 as u8).collect::<Vec<u8>>();
    block(
        &fields
            .iter()
            .map(|(n, v)| (latin(n), latin(v)))
            .collect::<Vec<_>>(),
    )
}

#[tokio::test]
async fn a_head_has_one_reading_or_is_refused() {
    let upstream = Upstream::ok();
    let any = "\"anyone\"";
    let gate = Gate::open(
        &[
            gate::route("app.lan", "/", &upstream, any),
            gate::route("api.lan", "/", &upstream, any),
        ]
        .concat(),
    );
    let heads = HEADS.iter().map(|(fields, want)| (fields.to_vec(), want));
    let fields = FIELDS
        .iter()
        .map(|(n, v, want)| ([GET, &[(*n, *v)]].concat(), want));
    let row = |(fields, want): (Vec<(&'static str, &'static str)>, &Want)| {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, raw_block(&fields));
        (format!("{fields:?}"), bytes, want.clone())
    };
    run(&gate, &upstream, heads.chain(fields).map(row).collect()).await;
}

#[tokio::test]
async fn a_body_is_as_long_as_it_says_or_is_refused() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let row = |(fields, data, trailers, want): &(Fields, &[&str], Fields, Want)| {
        let mut bytes = frame(
            HEADERS,
            END_HEADERS,
            1,
            block(&[&pseudo("POST", "/"), *fields].concat()),
        );
        for (i, piece) in data.iter().enumerate() {
            let last = trailers.is_empty() && i + 1 == data.len();
            bytes.extend(frame(DATA, u8::from(last), 1, piece));
        }
        if !trailers.is_empty() {
            bytes.extend(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                raw_block(trailers),
            ));
        }
        (
            format!("{fields:?} {data:?} {trailers:?}"),
            bytes,
            want.clone(),
        )
    };
    run(&gate, &upstream, BODIES.iter().map(row).collect()).await;
}

#[tokio::test]
async fn underscored_spellings_of_framing_and_identity_never_pass() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for name in [
        "content_length",
        "transfer_encoding",
        "x_forwarded_for",
        "x_loopgate_user",
        "x_request_id",
        "user_agent",
    ] {
        upstream.forget();
        gate.h2()
            .await
            .ask(1, "GET", "/", &[(name, "1")], b"")
            .await;
        assert!(upstream.only().all(name).is_empty(), "{name}");
    }
}

/// Where a header block goes on within a field, the library forgets that it was malformed before. What made it so is left out,
/// and what goes on is one request all the same.
#[tokio::test]
async fn what_is_forgotten_across_frames_is_left_out() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (name, value) in [
        (":path", "/b"),
        (":authority", "evil.lan"),
        (":method", "POST"),
        (":foo", "x"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("UPPER", "x"),
        ("x", "a\r\nb: c"),
    ] {
        let fields = [pseudo("GET", "/"), vec![(name, value), ("y", "whatever")]].concat();
        let block = block(&fields);
        for split in 1..block.len() {
            upstream.forget();
            let mut h2 = gate.h2().await;
            let (one, two) = block.split_at(split);
            let bytes = [
                frame(HEADERS, END_STREAM, 1, one),
                frame(CONTINUATION, END_HEADERS, 1, two),
            ];
            h2.send(bytes.concat()).await;
            let status = h2.outcome(1).await.status();
            for request in upstream.requests() {
                assert_eq!(request.shown(), "GET /", "{name} cut at {split}");
                assert_eq!(request.all("host"), ["app.lan"]);
                assert!(request.all(name).is_empty(), "{name} cut at {split}");
                assert_eq!(request.all("y"), ["whatever"]);
                assert_eq!(status, 200);
            }
            assert!(upstream.requests().len() <= 1 && upstream.complaints().is_empty());
        }
    }
}

/// A WebSocket over HTTP/2 has no body to announce.
#[tokio::test]
async fn an_extended_connect_with_a_body_is_refused() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (name, value, want) in [
        ("content-length", "0", Outcome::Answer(400, Vec::new())),
        ("expect", "100-continue", Outcome::Answer(400, Vec::new())),
        ("content-length", "5", Outcome::Goaway(2)),
        ("content-length", "x", Outcome::Goaway(2)),
    ] {
        let mut fields = pseudo("CONNECT", "/");
        fields.extend([(":protocol", "websocket"), (name, value)]);
        let mut h2 = gate.h2().await;
        h2.send(frame(HEADERS, END_HEADERS, 1, block(&fields)))
            .await;
        let seen = match h2.outcome(1).await {
            Outcome::Answer(status, _) => Outcome::Answer(status, Vec::new()),
            Outcome::Reset(_) => Outcome::Goaway(2),
            other => other,
        };
        assert_eq!(seen, want, "{name}: {value}");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn cookie_crumbs_become_one_field() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let ours = format!("{}=x", gate.cookie());
    let crumbs = [
        ("cookie", "a=1"),
        ("x", "y"),
        ("cookie", &*ours),
        ("cookie", "b=2; c=3"),
        ("cookie", "d=4"),
    ];
    assert_eq!(
        gate.h2()
            .await
            .ask(1, "GET", "/", &crumbs, b"")
            .await
            .status(),
        200
    );
    assert_eq!(
        upstream.only().all("cookie"),
        ["a=1; b=2; c=3; d=4"],
        "RFC 9113, 8.2.3"
    );
}

/// Frames after the preface that end the connection (RFC 9113, 4 to 6, and RFC 7541).
fn fatal() -> Vec<(&'static str, Vec<u8>)> {
    let window = |n: u32| n.to_be_bytes();
    let open = frame(HEADERS, END_HEADERS, 1, block(&pseudo("POST", "/")));
    let after_open = |more: Vec<u8>| [open.clone(), more].concat();
    let part = frame(HEADERS, END_STREAM, 1, block(&pseudo("GET", "/")));
    let after_part = |more: Vec<u8>| [part.clone(), more].concat();
    let hpack = |bytes: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes);
    vec![
        ("DATA on stream 0", frame(DATA, 0, 0, "x")),
        (
            "HEADERS on stream 0",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, block(GET)),
        ),
        (
            "PRIORITY on stream 0",
            frame(PRIORITY, 0, 0, [0, 0, 0, 1, 1]),
        ),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, [0; 4])),
        (
            "CONTINUATION on stream 0",
            after_part(frame(CONTINUATION, END_HEADERS, 0, [])),
        ),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, [])),
        ("PING on a stream", frame(PING, 0, 1, [0; 8])),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8])),
        (
            "PUSH_PROMISE of a client",
            after_open(frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                [&[0, 0, 0, 2][..], &block(GET)].concat(),
            )),
        ),
        (
            "HEADERS on an even stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, block(GET)),
        ),
        (
            "HEADERS on a lower stream",
            [get(5, "/"), get(3, "/")].concat(),
        ),
        ("DATA on an idle stream", frame(DATA, 0, 1, "x")),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, [0; 4]),
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 1, window(1)),
        ),
        (
            "CONTINUATION without HEADERS",
            frame(CONTINUATION, END_HEADERS, 1, block(GET)),
        ),
        (
            "CONTINUATION after the end of a block",
            [get(1, "/"), frame(CONTINUATION, END_HEADERS, 1, [])].concat(),
        ),
        ("DATA within a block", after_part(frame(DATA, 0, 1, "x"))),
        ("PING within a block", after_part(frame(PING, 0, 0, [0; 8]))),
        (
            "PRIORITY within a block",
            after_part(frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])),
        ),
        (
            "HEADERS within a block of another stream",
            after_part(get(3, "/")),
        ),
        (
            "CONTINUATION of another stream",
            after_part(frame(CONTINUATION, END_HEADERS, 3, [])),
        ),
        (
            "an unknown frame within a block",
            after_part(frame(99, 0, 1, [])),
        ),
        (
            "a DATA frame that is too large",
            after_open(frame(DATA, 0, 1, vec![0; 16385])),
        ),
        (
            "a HEADERS frame that is too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, vec![0; 16385]),
        ),
        (
            "an unknown frame that is too large",
            frame(99, 0, 1, vec![0; 1 << 20]),
        ),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, [0; 5])),
        ("SETTINGS of seven bytes", frame(SETTINGS, 0, 0, [0; 7])),
        (
            "an acknowledgement with settings",
            frame(SETTINGS, ACK, 0, setting(3, 1)),
        ),
        ("ENABLE_PUSH of 2", frame(SETTINGS, 0, 0, setting(2, 2))),
        (
            "INITIAL_WINDOW_SIZE of 2^31",
            frame(SETTINGS, 0, 0, setting(4, 1 << 31)),
        ),
        (
            "MAX_FRAME_SIZE of 16383",
            frame(SETTINGS, 0, 0, setting(5, 16383)),
        ),
        (
            "MAX_FRAME_SIZE of 2^24",
            frame(SETTINGS, 0, 0, setting(5, 1 << 24)),
        ),
        ("PING of seven bytes", frame(PING, 0, 0, [0; 7])),
        ("PING of nine bytes", frame(PING, 0, 0, [0; 9])),
        (
            "RST_STREAM of three bytes",
            after_open(frame(RST_STREAM, 0, 1, [0; 3])),
        ),
        (
            "WINDOW_UPDATE of three bytes",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
        ),
        (
            "WINDOW_UPDATE by nothing",
            frame(WINDOW_UPDATE, 0, 0, window(0)),
        ),
        (
            "a window beyond 2^31",
            frame(WINDOW_UPDATE, 0, 0, window((1 << 31) - 1)),
        ),
        (
            "padding longer than DATA",
            after_open(frame(DATA, PADDED, 1, [5, b'x'])),
        ),
        (
            "padding longer than HEADERS",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, [255, 0]),
        ),
        (
            "padding without a length",
            after_open(frame(DATA, PADDED, 1, [])),
        ),
        (
            "HEADERS too short for its priority",
            frame(HEADERS, WITH_PRIORITY | END_HEADERS | END_STREAM, 1, [0; 3]),
        ),
        ("GOAWAY of seven bytes", frame(GOAWAY, 0, 0, [0; 7])),
        ("an index of 0", hpack(&[0x80])),
        ("an index beyond the table", hpack(&[0xff, 0x80, 0x01])),
        (
            "a name beyond the table",
            hpack(&[0x7f, 0x80, 0x01, 1, b'x']),
        ),
        (
            "an endless integer",
            hpack(&[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ]),
        ),
        ("a literal cut short", hpack(&[0x00, 0x05, b'x'])),
        (
            "a table larger than allowed",
            hpack(&[0x3f, 0xff, 0xff, 0x03]),
        ),
        ("a change of the table after a field", hpack(&[0x82, 0x20])),
        (
            "Huffman code with EOS",
            hpack(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'x']),
        ),
        (
            "Huffman code with wrong padding",
            hpack(&[0x00, 0x81, 0x00, 0x01, b'x']),
        ),
    ]
}

#[tokio::test]
async fn a_broken_connection_ends() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (what, bytes) in fatal() {
        let mut h2 = gate.h2().await;
        // Were the mistake overlooked, this request would be answered.
        h2.send([bytes, get(101, "/overlooked")].concat()).await;
        let outcome = h2.outcome(101).await;
        assert!(
            matches!(outcome, Outcome::Goaway(_) | Outcome::Closed),
            "{what}: {outcome:?}"
        );
    }
    for preface in [
        "GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "\0\0\0\0",
    ] {
        let mut client = Client::tls(gate.address, Some("app.lan"), "h2").await;
        client
            .send([preface.as_bytes(), &get(1, "/overlooked")].concat())
            .await;
        assert!(
            !matches!(
                H2 {
                    client,
                    opens_windows: true,
                    answers_pings: true,
                }
                .outcome(1)
                .await,
                Outcome::Answer(..)
            ),
            "{preface:?}"
        );
    }
    assert!(
        upstream
            .requests()
            .iter()
            .all(|r| r.target != "/overlooked")
    );
    assert_eq!(gate.h2().await.get(1, "/").await.status(), 200);
}

/// Frames that end their stream, or the connection, but nobody else's.
fn stream_faults() -> Vec<(&'static str, Vec<u8>)> {
    let open = frame(HEADERS, END_HEADERS, 1, block(&pseudo("POST", "/")));
    let after_open = |more: Vec<u8>| [open.clone(), more].concat();
    vec![
        (
            "DATA after the end",
            [get(1, "/"), frame(DATA, 0, 1, "x")].concat(),
        ),
        ("HEADERS after the end", [get(1, "/"), get(1, "/")].concat()),
        (
            "trailers that do not end the stream",
            after_open(frame(HEADERS, END_HEADERS, 1, block(&[("x", "y")]))),
        ),
        (
            "a WINDOW_UPDATE by nothing",
            after_open(frame(WINDOW_UPDATE, 0, 1, [0; 4])),
        ),
        (
            "a stream window beyond 2^31",
            after_open(frame(WINDOW_UPDATE, 0, 1, ((1u32 << 31) - 1).to_be_bytes())),
        ),
        (
            "a stream that depends on itself",
            frame(
                HEADERS,
                WITH_PRIORITY | END_HEADERS,
                1,
                [&[0, 0, 0, 1, 9][..], &block(&pseudo("POST", "/"))].concat(),
            ),
        ),
        (
            "a reset within a body",
            after_open(
                [
                    frame(DATA, 0, 1, "x"),
                    frame(RST_STREAM, 0, 1, [0, 0, 0, 8]),
                ]
                .concat(),
            ),
        ),
    ]
}

#[tokio::test]
async fn a_broken_stream_never_becomes_a_whole_request_with_a_body() {
    for (what, bytes) in stream_faults() {
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
        assert!(
            upstream.requests().iter().all(|r| r.method == "GET"),
            "{what}: {:?}",
            upstream.requests()
        );
    }
}

#[tokio::test]
async fn what_is_unknown_or_uncommon_but_right_is_served() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let whole = block(GET);
    let padded = [&[3][..], &whole, &[0; 3]].concat();
    let weighed = [&[0, 0, 0, 0, 9][..], &whole].concat();
    let post = frame(HEADERS, END_HEADERS, 1, block(&pseudo("POST", "/")));
    for (what, bytes) in [
        (
            "an unknown frame",
            [frame(99, 255, 0, "x"), get(1, "/")].concat(),
        ),
        (
            "an unknown setting",
            [frame(SETTINGS, 0, 0, setting(99, 1)), get(1, "/")].concat(),
        ),
        (
            "unknown flags",
            frame(HEADERS, END_HEADERS | END_STREAM | 0x50, 1, &whole),
        ),
        (
            "empty SETTINGS",
            [frame(SETTINGS, 0, 0, []), get(1, "/")].concat(),
        ),
        (
            "PRIORITY of an idle stream",
            [frame(PRIORITY, 0, 9, [0, 0, 0, 3, 1]), get(1, "/")].concat(),
        ),
        (
            "padding",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, padded),
        ),
        (
            "a priority",
            frame(
                HEADERS,
                WITH_PRIORITY | END_HEADERS | END_STREAM,
                1,
                weighed,
            ),
        ),
        (
            "a block in three frames",
            [
                frame(HEADERS, END_STREAM, 1, &whole[..9]),
                frame(CONTINUATION, 0, 1, &whole[9..20]),
                frame(CONTINUATION, END_HEADERS, 1, &whole[20..]),
            ]
            .concat(),
        ),
        (
            "padded DATA",
            [
                post.clone(),
                frame(DATA, PADDED | END_STREAM, 1, [2, b'x', 0, 0]),
            ]
            .concat(),
        ),
        (
            "an odd stream far up",
            [get(1, "/"), get(2_000_001, "/far")].concat(),
        ),
        (
            "an acknowledgement nobody asked for",
            [frame(PING, ACK, 0, [7; 8]), get(1, "/")].concat(),
        ),
        (
            "static indices",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                [&[0x82, 0x87, 0x84, 0x01, 7][..], b"app.lan"].concat(),
            ),
        ),
    ] {
        let mut h2 = gate.h2().await;
        h2.send(bytes).await;
        assert_eq!(h2.outcome(1).await.status(), 200, "{what}");
    }
}

#[tokio::test]
async fn pings_and_settings_are_answered() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let mut h2 = gate.h2().await;
    h2.send(frame(PING, 0, 0, b"loopgate")).await;
    loop {
        let pong = h2.next_of(PING).await.expect("a pong");
        if pong.flags & ACK != 0 {
            assert_eq!(pong.payload, b"loopgate");
            break;
        }
    }
    let mut h2 = gate.h2().await;
    while h2
        .next_of(SETTINGS)
        .await
        .expect("an acknowledgement")
        .flags
        & ACK
        == 0
    {}
    assert_eq!(h2.get(1, "/").await.status(), 200);
}

#[tokio::test]
async fn windows_of_a_client_are_kept() {
    let body = vec![b'x'; 100_000];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let upstream = Upstream::answering([head.as_bytes(), &body].concat());
    let gate = Gate::plain(&upstream);
    let mut h2 = H2::with(
        Client::tls(gate.address, Some("app.lan"), "h2").await,
        &[(4, 10)],
    )
    .await;
    h2.opens_windows = false;
    h2.send(get(1, "/")).await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 10);
    h2.send(frame(SETTINGS, 0, 0, setting(4, 15))).await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 5);
    h2.send(frame(WINDOW_UPDATE, 0, 1, 1u32.to_be_bytes()))
        .await;
    assert_eq!(h2.next_of(DATA).await.expect("data").payload.len(), 1);
    h2.opens_windows = true;
    h2.send(
        [
            frame(WINDOW_UPDATE, 0, 1, 1_000_000u32.to_be_bytes()),
            frame(WINDOW_UPDATE, 0, 0, 1_000_000u32.to_be_bytes()),
        ]
        .concat(),
    )
    .await;
    let Outcome::Answer(_, rest) = h2.outcome(1).await else {
        panic!("no whole answer")
    };
    assert_eq!(rest.len(), body.len() - 16);
}
