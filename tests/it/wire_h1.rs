//! HTTP/1.1 in, as raw bytes: what has one reading passes, written anew; everything else is refused before the upstream
//! sees a whole request.

use crate::support::message::Fields;
use crate::support::table::{self, Row, Want};
use crate::support::*;
use Want::{Cut, No, Pass, Then};

/// A gate whose patience with half a body is short.
fn gate(upstream: &Upstream) -> Gate {
    Gate::limited(
        upstream,
        "body_idle = \"400ms\"\nhead_size = \"8KiB\"\nfields = 40\n",
    )
}

/// Request lines, before `Host: app.lan`.
const REQUEST_LINES: &[(&str, Want)] = &[
    ("GET / HTTP/1.1", Pass("GET /")),
    ("HEAD / HTTP/1.1", Pass("HEAD /")),
    ("POST /a HTTP/1.1", Pass("POST /a")),
    ("PROPFIND /a HTTP/1.1", Pass("PROPFIND /a")),
    ("M-SEARCH / HTTP/1.1", Pass("M-SEARCH /")),
    (
        "!#$%&'*+-.^_`|~09aZ / HTTP/1.1",
        Pass("!#$%&'*+-.^_`|~09aZ /"),
    ),
    ("get / HTTP/1.1", Pass("get /")),
    ("OPTIONS * HTTP/1.1", Pass("OPTIONS *")),
    (
        "GET /?a=/../b&c=%00;d\\e HTTP/1.1",
        Pass("GET /?a=/../b&c=%00;d\\e"),
    ),
    ("GET /?\"<>[]{}|^`' HTTP/1.1", Pass("GET /?\"<>[]{}|^`'")),
    ("GET / HTTP/1.0", Pass("GET /")),
    ("GET / HTTP/1.2", No(400)),
    ("GET / HTTP/0.9", No(400)),
    ("GET / HTTP/2.0", No(400)),
    ("GET / HTTP/1.10", No(400)),
    ("GET / HTTP/1,1", No(400)),
    ("GET / HTTP/ 1.1", No(400)),
    ("GET / http/1.1", No(400)),
    ("GET / HTTPS/1.1", No(400)),
    ("GET / HTTP/1.1 ", No(400)),
    ("GET / HTTP/1.1\t", No(400)),
    ("GET / HTTP/1.1 HTTP/1.1", No(400)),
    ("GET / x HTTP/1.1", No(400)),
    ("GET  / HTTP/1.1", No(400)),
    ("GET /  HTTP/1.1", No(400)),
    ("GET\t/ HTTP/1.1", No(400)),
    ("GET /\tHTTP/1.1", No(400)),
    ("GET\x0b/ HTTP/1.1", No(400)),
    (" GET / HTTP/1.1", No(400)),
    ("\tGET / HTTP/1.1", No(400)),
    ("\r\nGET / HTTP/1.1", No(400)),
    ("\nGET / HTTP/1.1", No(400)),
    ("\rGET / HTTP/1.1", No(400)),
    ("GET HTTP/1.1", No(400)),
    ("GET  HTTP/1.1", No(400)),
    ("/ HTTP/1.1", No(400)),
    ("GET /", No(400)),
    ("GET", No(400)),
    ("", No(400)),
    ("G@T / HTTP/1.1", No(400)),
    ("G:T / HTTP/1.1", No(400)),
    ("G(T) / HTTP/1.1", No(400)),
    ("G\0T / HTTP/1.1", No(400)),
    ("G\u{e9}T / HTTP/1.1", No(400)),
    ("GET /a b HTTP/1.1", No(400)),
    ("GET /a\0b HTTP/1.1", No(400)),
    ("GET /a\x7f HTTP/1.1", No(400)),
    ("GET /a\x1b[0m HTTP/1.1", No(400)),
    ("GET /caf\u{e9} HTTP/1.1", No(400)),
    ("GET /a#b HTTP/1.1", No(400)),
    ("GET /?a#b HTTP/1.1", No(400)),
    ("GET a HTTP/1.1", No(400)),
    ("GET ?a HTTP/1.1", No(400)),
    ("GET \\a HTTP/1.1", No(400)),
    ("GET * HTTP/1.1", No(400)),
    ("OPTIONS ** HTTP/1.1", No(400)),
    ("CONNECT app.lan:443 HTTP/1.1", No(400)),
    ("CONNECT / HTTP/1.1", No(400)),
    ("PRI * HTTP/2.0", No(400)),
];

/// Lines after `GET / HTTP/1.1`, `Host: app.lan`.
const FIELD_LINES: &[(&str, Want)] = &[
    ("X:y\r\n", Pass("GET /")),
    ("X:\r\n", Pass("GET /")),
    ("X: \t y \t \r\n", Pass("GET /")),
    ("X: a\tb\r\n", Pass("GET /")),
    ("X: \u{e9}\u{fc}\r\n", Pass("GET /")),
    ("X: \"quoted\r\n", Pass("GET /")),
    ("!#$%&'*+-.^_`|~: y\r\n", Pass("GET /")),
    ("x_custom: y\r\n", Pass("GET /")),
    ("X : y\r\n", No(400)),
    ("X\t: y\r\n", No(400)),
    (" X: y\r\n", No(400)),
    ("\tX: y\r\n", No(400)),
    ("X: y\r\n z\r\n", No(400)),
    ("X: y\r\n\tz\r\n", No(400)),
    ("X: y\r\n \r\n", No(400)),
    ("X\r\n", No(400)),
    (": y\r\n", No(400)),
    ("X y: z\r\n", No(400)),
    ("X\0: y\r\n", No(400)),
    ("X\x7f: y\r\n", No(400)),
    ("X(a): y\r\n", No(400)),
    ("X[a]: y\r\n", No(400)),
    ("X\"a\": y\r\n", No(400)),
    ("X\u{e9}: y\r\n", No(400)),
    ("X/a: y\r\n", No(400)),
    ("X=a: y\r\n", No(400)),
    ("X: a\0b\r\n", No(400)),
    ("X: a\x01b\r\n", No(400)),
    ("X: a\x0bb\r\n", No(400)),
    ("X: a\x0cb\r\n", No(400)),
    ("X: a\x1bb\r\n", No(400)),
    ("X: a\x7fb\r\n", No(400)),
    ("X: a\rb\r\n", No(400)),
    ("X: a\r\r\n", No(400)),
    ("X: a\nY: b\r\n", No(400)),
    ("X: a\n\r\n", No(400)),
    ("X: a\r\n\nY: b\r\n", No(400)),
    ("X: a\n\nGET /two HTTP/1.1\r\nHost: app.lan\r\n", No(400)),
    ("X: a\r\n\rY: b\r\n", No(400)),
    ("Host: app.lan\r\n", No(400)),
    ("Host: other.lan\r\n", No(400)),
    ("host: app.lan\r\n", No(400)),
    ("Host:\r\n", No(400)),
    ("Ho_st: a\r\n", Pass("GET /")),
    ("Authorization: a b\r\nAuthorization: a b\r\n", No(400)),
    ("Author_ization: a\r\nConnec_tion: b\r\n", Pass("GET /")),
    ("Origin: https://a\r\nOrigin: https://b\r\n", No(400)),
    (
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
        No(400),
    ),
    ("Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n", No(400)),
    ("Transfer_Encoding: chunked\r\n", No(400)),
    ("Content_Length: 0\r\n", No(400)),
    ("Con\u{b5}tent-Length: 5\r\n", No(400)),
];

/// Framing lines after `POST / HTTP/1.1`, `Host: app.lan`, and the body that follows the head.
const LENGTHS: &[(&str, &str, Want)] = &[
    ("", "", Pass("POST /")),
    ("Content-Length: 0\r\n", "", Pass("POST /")),
    ("Content-Length: 5\r\n", "hello", Pass("POST / =hello")),
    ("content-length:5\r\n", "hello", Pass("POST / =hello")),
    ("Content-Length: \t5 \r\n", "hello", Pass("POST / =hello")),
    // Allowed by the grammar, and octal for some.
    ("Content-Length: 005\r\n", "hello", No(400)),
    ("Content-Length: 00\r\n", "", No(400)),
    ("Content-Length: 010\r\n", "hello wor", No(400)),
    ("Content-Length: 9223372036854775808\r\n", "hello", No(400)),
    ("Content-Length: 9999999999999999999\r\n", "hello", No(400)),
    ("Content-Length: 18446744073709551615\r\n", "hello", No(400)),
    ("Content-Length: 18446744073709551616\r\n", "hello", No(400)),
    ("Content-Length: 9223372036854775807\r\n", "hello", Cut(408)),
    ("Content-Length: \t+5\r\n", "hello", No(400)),
    ("Content-Length: 5\x0c\r\n", "hello", No(400)),
    ("Content-Length: 5\u{a0}\r\n", "hello", No(400)),
    ("Content.Length: 5\r\n", "hello", No(400)),
    ("Transfer.Encoding: chunked\r\n", "0\r\n\r\n", No(400)),
    (
        "Connection: Content-Length\r\nContent-Length: 5\r\n",
        "hello",
        Pass("POST / =hello"),
    ),
    (
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        Pass("POST / =x"),
    ),
    (
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        Pass("POST /"),
    ),
    (
        "transfer-encoding:CHUNKED\r\n",
        "1\r\nx\r\n0\r\n\r\n",
        Pass("POST / =x"),
    ),
    (
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "hello",
        No(400),
    ),
    (
        "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "hello",
        No(400),
    ),
    (
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "hello!",
        No(400),
    ),
    (
        "Content-Length: 5\r\ncontent-length: 0\r\n",
        "hello",
        No(400),
    ),
    ("Content-Length: 5, 5\r\n", "hello", No(400)),
    ("Content-Length: 5,6\r\n", "hello", No(400)),
    ("Content-Length: 5,\r\n", "hello", No(400)),
    ("Content-Length: ,5\r\n", "hello", No(400)),
    ("Content-Length:\r\n", "", No(400)),
    ("Content-Length: +5\r\n", "hello", No(400)),
    ("Content-Length: -5\r\n", "hello", No(400)),
    ("Content-Length: -0\r\n", "", No(400)),
    ("Content-Length: 0x5\r\n", "hello", No(400)),
    ("Content-Length: 5.0\r\n", "hello", No(400)),
    ("Content-Length: 5e0\r\n", "hello", No(400)),
    ("Content-Length: 1_0\r\n", "helloworld", No(400)),
    ("Content-Length: 5 5\r\n", "hello", No(400)),
    ("Content-Length: 5;a\r\n", "hello", No(400)),
    ("Content-Length: \"5\"\r\n", "hello", No(400)),
    ("Content-Length: \u{ff15}\r\n", "hello", No(400)),
    ("Content-Length: five\r\n", "hello", No(400)),
    ("Content-Length: 18446744073709551621\r\n", "hello", No(400)),
    (
        "Content-Length: 99999999999999999999999\r\n",
        "hello",
        No(400),
    ),
    ("Content-Length: 00000000000000000005\r\n", "hello", No(400)),
    ("Content-Length : 5\r\n", "hello", No(400)),
    (" Content-Length: 5\r\n", "hello", No(400)),
    ("X: y\r\n Content-Length: 5\r\n", "hello", No(400)),
    ("Content-Length: 5\r\n 0\r\n", "hello", No(400)),
    ("X: y\nContent-Length: 5\r\n", "hello", No(400)),
    ("X: y\rContent-Length: 5\r\n", "hello", No(400)),
    ("Transfer-Encoding: gzip\r\n", "x", No(400)),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", No(400)),
    (
        "Transfer-Encoding: chunked, chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Transfer-Encoding: chunked, identity\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    ("Transfer-Encoding: identity\r\n", "", No(400)),
    (
        "Transfer-Encoding: identity, chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    ("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: 'chunked'\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n", No(400)),
    (
        "Transfer-Encoding: chunked chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Transfer-Encoding: chun\u{212a}ed\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    ("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding:\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", No(400)),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    (
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        No(400),
    ),
    ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", No(400)),
    ("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", No(400)),
    ("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n", No(400)),
    ("Transfer-Encoding\0: chunked\r\n", "0\r\n\r\n", No(400)),
    ("Content-Length: 10\r\n", "hello", Cut(408)),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n", Cut(408)),
    (
        "Transfer-Encoding: chunked\r\n",
        "7FFFFFFFFFFFFFFF\r\nhello",
        Cut(408),
    ),
];

/// Chunked bodies.
const CHUNKS: &[(&str, Want)] = &[
    ("5\r\nhello\r\n0\r\n\r\n", Pass("POST / =hello")),
    (
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        Pass("POST / =hello world"),
    ),
    ("a\r\n0123456789\r\n0\r\n\r\n", Pass("POST / =0123456789")),
    ("A\r\n0123456789\r\n0\r\n\r\n", Pass("POST / =0123456789")),
    ("0005\r\nhello\r\n000\r\n\r\n", Pass("POST / =hello")),
    ("5;a\r\nhello\r\n0\r\n\r\n", Pass("POST / =hello")),
    (
        "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
        Pass("POST / =hello"),
    ),
    ("4\r\n\r\n\r\n\r\n0\r\n\r\n", Pass("POST / =\\r\\n\\r\\n")),
    (
        "5\r\nhello\r\n0\r\nGrpc-Status: 0\r\n\r\n",
        Pass("POST / =hello +grpc-status:0"),
    ),
    (
        "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
        Pass("POST / =hello +a:b +c:d"),
    ),
    ("5\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5\r\nhello\n0\r\n\r\n", Cut(400)),
    ("5\r\nhello\r0\r\n\r\n", Cut(400)),
    ("5\rXhello\r\n0\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\n\n", Cut(400)),
    ("5\r\nhello\r\n0\r\n\n", Cut(400)),
    ("5\r\nhello0\r\n\r\n", Cut(400)),
    ("5\r\nhelloo\r\n0\r\n\r\n", Cut(400)),
    ("4\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5 \r\nhello\r\n0\r\n\r\n", Cut(400)),
    (" 5\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5\t\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("0x5\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("+5\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("-5\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5h\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5_0\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("g\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("\r\nhello\r\n0\r\n\r\n", Cut(400)),
    (";a\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5,5\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("00000000000000005\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("10000000000000005\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("8000000000000000\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("FFFFFFFFFFFFFFFB\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", Pass("POST / =hello")),
    ("5;a=\"\"\r\nhello\r\n0\r\n\r\n", Pass("POST / =hello")),
    ("5;a=\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=;b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a==b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=\"b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=\"\\\"\"\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=(b)\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a/b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0;a=\r\n\r\n", Cut(400)),
    ("5;\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a\nb\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a\rb\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a\0\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5 ;a\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;=b\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;;a\r\nhello\r\n0\r\n\r\n", Cut(400)),
    ("5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", Cut(400)),
    (
        "5\r\nhello\r\n0\r\nGET /two HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Cut(400),
    ),
    ("5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", Cut(400)),
    (
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Cut(400),
    ),
    ("5\r\nhello\r\n0\r\nHost: other.lan\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nCookie: x\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nConnection: close\r\n\r\n", Cut(400)),
    (
        "5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        Cut(400),
    ),
    ("5\r\nhello\r\n0\r\nX_Loopgate_User: root\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nmy_key: b\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nA : b\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nA: \0\r\n\r\n", Cut(400)),
    ("5\r\nhello\r\n0\r\nA\r\n\r\n", Cut(400)),
];

/// Several messages in one write.
const SEQUENCES: &[(&str, Want)] = &[
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\n\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("GET /a | GET /b"),
    ),
    (
        "POST /a HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("POST /a =hello | GET /b"),
    ),
    (
        "POST /a HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("POST /a =x | GET /b"),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 5\r\n\r\nhelloHEAD /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("GET /a =hello | HEAD /b"),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("GET /a"),
    ),
    (
        "GET /a HTTP/1.0\r\nHost: app.lan\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\nHost: app.lan\r\n\r\n",
        Pass("GET /a"),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: app.lan :\r\n\r\n",
        Then("GET /a", 400),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Then("GET /a", 400),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Then("GET /a", 400),
    ),
    (
        "POST /a HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 4\r\n\r\nhello\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Then("POST /a =hell", 400),
    ),
    (
        "POST /a HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        No(400),
    ),
    (
        "POST /a HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n0\r\n\r\n",
        No(400),
    ),
    (
        "GET /a HTTP/1.1\r\nHost: app.lan\r\nX: y\r\rGET /b HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        No(400),
    ),
];

/// Every negative and positive row of this file.
fn rows() -> Vec<Row> {
    let lines = REQUEST_LINES.iter().map(|(line, want)| {
        Row::new(
            "request line",
            latin(&format!("{line}\r\nHost: app.lan\r\n\r\n")),
            want.clone(),
        )
    });
    let fields = FIELD_LINES.iter().map(|(lines, want)| {
        Row::new(
            "field lines",
            latin(&format!("GET / HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n")),
            want.clone(),
        )
    });
    let lengths = LENGTHS.iter().map(|(lines, body, want)| {
        Row::new(
            "lengths",
            latin(&format!(
                "POST / HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n{body}"
            )),
            want.clone(),
        )
    });
    let chunks = CHUNKS.iter().map(|(body, want)| {
        let head = "POST / HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n";
        Row::new("chunks", format!("{head}{body}"), want.clone())
    });
    let sequences = SEQUENCES
        .iter()
        .map(|(bytes, want)| Row::new("sequence", *bytes, want.clone()));
    lines
        .chain(fields)
        .chain(lengths)
        .chain(chunks)
        .chain(sequences)
        .chain(rest())
        .collect()
}

/// What does not fit into a table of texts.
fn rest() -> Vec<Row> {
    let old = |lines: &str, body: &str| format!("POST / HTTP/1.0\r\n{lines}\r\n{body}");
    vec![
        Row::new(
            "HTTP/1.0 with a length",
            old("Host: app.lan\r\nContent-Length: 5\r\n", "hello"),
            Pass("POST / =hello"),
        ),
        Row::new("HTTP/1.0 without a host", old("", ""), No(400)),
        Row::new("HTTP/1.1 without a host", "GET / HTTP/1.1\r\n\r\n", No(400)),
        Row::new(
            "HTTP/1.0 in chunks",
            old(
                "Host: app.lan\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            No(400),
        ),
        Row::new(
            "forty fields",
            format!(
                "GET / HTTP/1.1\r\nHost: app.lan\r\n{}\r\n",
                "X: y\r\n".repeat(39)
            ),
            Pass("GET /"),
        ),
        Row::new(
            "too many fields",
            format!(
                "GET / HTTP/1.1\r\nHost: app.lan\r\n{}\r\n",
                "X: y\r\n".repeat(40)
            ),
            No(431),
        ),
        Row::new(
            "thirty-two options in Connection",
            of_options(&["a"; 32].join(", "), ""),
            Pass("GET /"),
        ),
        Row::new(
            "more options in Connection",
            of_options(&["a"; 33].join(","), ""),
            No(400),
        ),
        Row::new(
            "more options in several Connection fields",
            of_options(&["a"; 16].join(","), &["close"; 17].join(" ,")),
            No(400),
        ),
        Row::new(
            "a few empty options",
            of_options(&",".repeat(20), "close"),
            Pass("GET /"),
        ),
        Row::new(
            "commas are options too: each is compared with every field",
            of_options(&",".repeat(200), "close"),
            No(400),
        ),
        Row::new(
            "one option of a kilobyte and a half",
            of_options(&"a".repeat(1500), ""),
            No(400),
        ),
        Row::new(
            "a long value",
            format!(
                "GET / HTTP/1.1\r\nHost: app.lan\r\nX: {}\r\n\r\n",
                "y".repeat(8000)
            ),
            Pass("GET /"),
        ),
        Row::new(
            "a longer value",
            format!(
                "GET / HTTP/1.1\r\nHost: app.lan\r\nX: {}\r\n\r\n",
                "y".repeat(8192)
            ),
            No(431),
        ),
        Row::new(
            "a long target",
            format!(
                "GET /{} HTTP/1.1\r\nHost: app.lan\r\n\r\n",
                "y".repeat(8192)
            ),
            No(431),
        ),
        Row::new(
            "a long method",
            format!("{} / HTTP/1.1\r\nHost: app.lan\r\n\r\n", "y".repeat(8192)),
            No(431),
        ),
        Row::new("a line without end", "y".repeat(9000), No(431)),
        Row::new(
            "a TLS record within",
            [
                &b"GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n"[..],
                b"\x16\x03\x01\x02\0\r\n\r\n",
            ]
            .concat(),
            Then("GET /", 400),
        ),
        Row::new(
            "a long chunk extension",
            in_chunks(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300))),
            Cut(400),
        ),
        Row::new(
            "a long trailer section",
            in_chunks(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(4000))),
            Cut(400),
        ),
    ]
}

fn of_options(one: &str, two: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: app.lan\r\nConnection: {one}\r\nX: y\r\ncONNECTION: {two}\r\n\r\n"
    )
}

fn in_chunks(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

/// Characters up to U+00FF as single bytes.
fn latin(text: &str) -> Vec<u8> {
    text.chars()
        .flat_map(|c| {
            u8::try_from(c).map_or_else(|_| c.to_string().into_bytes(), |byte| vec![byte])
        })
        .collect()
}

#[tokio::test]
async fn what_has_one_reading_passes_and_nothing_else() {
    let upstream = Upstream::ok();
    let gate = gate(&upstream);
    table::run(&gate, &upstream, rows()).await;
}

#[tokio::test]
async fn a_head_is_read_alike_however_it_is_cut() {
    let upstream = Upstream::ok();
    let gate = gate(&upstream);
    let whole = "POST /a HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n";
    for cut in 1..whole.len() {
        upstream.forget();
        let mut client = gate.h1().await;
        client.send(&whole[..cut]).await;
        client.send(&whole[cut..]).await;
        assert_eq!(client.answer().await.status, 200, "cut at {cut}");
        assert_eq!(upstream.only().shown(), "POST /a =abc +a:b", "cut at {cut}");
    }
}

#[tokio::test]
async fn the_oracle_bites_a_proxy_that_copies_bytes() {
    let upstream = Upstream::ok();
    let address = naive::open(&upstream);
    let mut spared = Vec::new();
    let wrong = rows()
        .into_iter()
        .filter(|r| r.input.len() < 4000 && !matches!(r.want, Want::Pass(_)));
    for row in wrong {
        let seen = table::through_copier(address, &upstream, &row).await;
        if !table::verdict(&row.want, &seen).is_err_and(|why| why.starts_with("UNSAFE")) {
            spared.push(row.input.escape_ascii().to_string());
        }
    }
    // Half a message alone is no danger, whoever passes it on.
    spared.retain(|row| {
        !row.contains("Content-Length: 10")
            && !row.contains("FFFF")
            && !row.contains("9223372036854775807")
            && !row.ends_with("hello\\r\\n")
    });
    assert!(spared.is_empty(), "{spared:#?}");
    let plain = Row::new(
        "plain",
        "GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n",
        Pass("GET /"),
    );
    let seen = table::through_copier(address, &upstream, &plain).await;
    assert_eq!(
        table::verdict(&plain.want, &seen),
        Ok(()),
        "and not everything is bitten"
    );
}

/// Field lines of the client, and what of them reaches the upstream.
const PASSED: &[(&str, &[(&str, &str)])] = &[
    ("X: y\r\n", &[("X", "y")]),
    ("x-CASE: Kept\r\n", &[("x-CASE", "Kept")]),
    (
        "X: 1\r\nY: 2\r\nX: 3\r\n",
        &[("X", "1"), ("Y", "2"), ("X", "3")],
    ),
    ("X:   spaced out  \r\n", &[("X", "spaced out")]),
    ("X: \u{e9}\r\n", &[("X", "\u{e9}")]),
    ("X:\r\n", &[("X", "")]),
    ("x_y: z\r\n", &[]),
    (
        "Range: bytes=0-4\r\nIf-Range: \"a\"\r\n",
        &[("Range", "bytes=0-4"), ("If-Range", "\"a\"")],
    ),
    ("Accept-Encoding: br\r\n", &[("Accept-Encoding", "br")]),
    ("Expect: 100-continue\r\n", &[("Expect", "100-continue")]),
    ("Expect: a-miracle\r\n", &[("Expect", "a-miracle")]),
    (
        "expect: 100-continue, a=\"b\"\r\n",
        &[("expect", "100-continue, a=\"b\"")],
    ),
    (
        "Origin: https://app.lan\r\nReferer: https://app.lan/x\r\n",
        &[
            ("Origin", "https://app.lan"),
            ("Referer", "https://app.lan/x"),
        ],
    ),
    ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", &[]),
    ("Connection: close\r\n", &[]),
    ("Connection: X\r\nX: y\r\nZ: y\r\n", &[("Z", "y")]),
    ("Connection: close, x , Z\r\nX: y\r\nZ: y\r\n", &[]),
    ("X: y\r\nConnection: x\r\n", &[]),
    ("Connection: x\r\nConnection: z\r\nX: y\r\nZ: y\r\n", &[]),
    (
        "Connection: cookie\r\nCookie: a=b\r\n",
        &[("Cookie", "a=b")],
    ),
    (
        "Connection: host, x-forwarded-for, x-loopgate-user\r\n",
        &[],
    ),
    (
        "Connection: authorization\r\nAuthorization: Bearer x\r\n",
        &[("Authorization", "Bearer x")],
    ),
    (
        "Connection: origin, sec-fetch-site\r\nOrigin: null\r\nSec-Fetch-Site: none\r\n",
        &[("Origin", "null"), ("Sec-Fetch-Site", "none")],
    ),
    ("Proxy-Connection: keep-alive\r\n", &[]),
    ("Proxy-Authorization: Basic x\r\n", &[]),
    (
        "TE: trailers\r\n",
        &[("Connection", "TE"), ("TE", "trailers")],
    ),
    (
        "TE: gzip, trailers\r\n",
        &[("Connection", "TE"), ("TE", "trailers")],
    ),
    ("TE: gzip\r\n", &[]),
    ("Trailer: Expires\r\n", &[("Trailer", "Expires")]),
    ("Upgrade: websocket\r\n", &[]),
    ("Connection: Upgrade\r\n", &[]),
    (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        &[],
    ),
    (
        "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n",
        &[],
    ),
    ("user_agent: x\r\ncontent_type: y\r\n", &[]),
    ("Loopgate-Token: x\r\n", &[]),
];

#[tokio::test]
async fn fields_pass_as_they_came_but_for_those_of_the_connection() {
    let upstream = Upstream::ok();
    let gate = gate(&upstream);
    for (lines, passed) in PASSED {
        upstream.forget();
        let head = latin(&format!("GET / HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n"));
        assert_eq!(gate.h1().await.ask(head).await.status, 200, "{lines}");
        let ours = [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-request-id",
            "x-loopgate-hops",
        ];
        let fields: Fields = upstream.only().fields;
        let rest: Vec<(&str, &str)> = fields
            .iter()
            .filter(|(n, _)| !ours.contains(&&*n.to_ascii_lowercase()))
            .map(|(n, v)| (&**n, &**v))
            .collect();
        assert_eq!(rest, *passed, "{lines}");
        for name in ours {
            assert_eq!(upstream.only().all(name).len(), 1, "{name} in {fields:?}");
        }
    }
}

/// Our own pages read bodies too.
#[tokio::test]
async fn trailers_to_our_own_pages_are_judged_as_others() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    for (trailer, status) in [
        ("A: b", 200),
        (": b", 400),
        ("\u{ff}A: b", 400),
        ("Host: b", 400),
    ] {
        let mut client = gate.h1().await;
        let head = "GET /.loopgate/login HTTP/1.1\r\nHost: app.lan\r\nTransfer-Encoding: chunked";
        client
            .send(format!("{head}\r\n\r\n0\r\n{trailer}\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.status, status, "{trailer}");
    }
}
