//! A WebSocket that says back what it hears (RFC 6455), frame by frame. By hand, because the handshake is one hash, a
//! frame is a few bytes, and a library would put fragments together before we could send them back as they came.

use std::io;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::{Body, Place, text};
use crate::base::drain::{Phase, Watch};

/// The largest frame; a message may have any number of them.
const LARGEST: u64 = 1024 * 1024;
/// Without a word from the other side.
const IDLE: Duration = Duration::from_secs(600);
/// For the rest of a frame that has begun, and for the peer to take one.
const FRAME: Duration = Duration::from_secs(60);

/// Answers the handshake and goes on by itself. It holds its place among the connections until it ends.
pub fn open(mut request: Request<Incoming>, place: Place) -> Response<Body> {
    let accept = match handshake(request.method(), request.headers()) {
        Ok(accept) => accept,
        Err(refused) => return *refused,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Place {
            mut drain, held, ..
        } = place;
        let mut stopped = drain.clone();
        let talk = async {
            if let Ok(upgraded) = upgraded.await {
                // However it ends, the peer has seen why.
                let _ = echo(TokioIo::new(upgraded), &mut drain).await;
            }
        };
        tokio::select! {
            () = talk => {}
            () = stopped.reached(Phase::Stop) => {}
        }
        drop(held);
    });
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The accept value for a right request (4.2).
fn handshake(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Box<Response<Body>>> {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name);
        let mut words = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(token))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| BASE64.decode(key).is_ok_and(|key| key.len() == 16));
    let (Some(key), true, true, true) = (
        key,
        method == Method::GET,
        has(CONNECTION, "upgrade"),
        has(UPGRADE, "websocket"),
    ) else {
        return Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            "Open this address as a WebSocket.\n",
        )));
    };
    if !has(SEC_WEBSOCKET_VERSION, "13") {
        let mut response = text(
            StatusCode::UPGRADE_REQUIRED,
            "Only version 13 is spoken here.\n",
        );
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let whole = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref());
    // Base64 is a header value.
    HeaderValue::try_from(accept).map_err(|_| Box::new(text(StatusCode::BAD_REQUEST, "\n")))
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Close codes (7.4.1).
const GOING_AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const NOT_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;

struct Frame {
    is_final: bool,
    opcode: u8,
    payload: Vec<u8>,
}

/// Why reading ends.
enum End {
    /// The peer is gone.
    Gone,
    /// The peer broke a rule and is told which.
    Close(u16),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Says back each data frame as it came, answers pings, and closes politely.
async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin, drain: &mut Watch) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut message = Message::default();
    loop {
        let next = tokio::select! {
            next = timeout(IDLE, read(&mut stream)) => next.unwrap_or(Err(End::Close(GOING_AWAY))),
            () = drain.reached(Phase::Drain) => Err(End::Close(GOING_AWAY)),
        };
        let frame = match next.and_then(|frame| message.judge(&frame).map(|()| frame)) {
            Ok(frame) => frame,
            Err(End::Gone) => return Ok(()),
            Err(End::Close(code)) => return close(&mut stream, &code.to_be_bytes()).await,
        };
        match frame.opcode {
            CLOSE => return close(&mut stream, frame.payload.get(..2).unwrap_or_default()).await,
            PING => write(&mut stream, true, PONG, &frame.payload).await?,
            PONG => {}
            opcode => write(&mut stream, frame.is_final, opcode, &frame.payload).await?,
        }
    }
}

/// Reads one frame (5.2). Not cancel safe: whoever stops it must close.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, End> {
    let first = stream.read_u8().await?;
    timeout(FRAME, rest(first, stream))
        .await
        .unwrap_or(Err(End::Close(GOING_AWAY)))
}

async fn rest(first: u8, stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame, End> {
    let second = stream.read_u8().await?;
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
    let is_control = opcode >= CLOSE;
    let is_known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
    let is_masked = second & 0x80 != 0;
    if first & 0x70 != 0 || !is_known || !is_masked || (is_control && !is_final) {
        return Err(End::Close(PROTOCOL));
    }
    let (length, least) = match second & 0x7f {
        126 => (stream.read_u16().await?.into(), 126),
        127 => (stream.read_u64().await?, 1 << 16),
        short => (short.into(), 0),
    };
    if length < least || (is_control && length > 125) {
        return Err(End::Close(PROTOCOL));
    }
    if length > LARGEST {
        return Err(End::Close(TOO_BIG));
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    // Grows with what arrives, not with what was announced.
    let mut payload = Vec::new();
    stream.take(length).read_to_end(&mut payload).await?;
    if (payload.len() as u64) < length {
        return Err(End::Gone);
    }
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
    Ok(Frame {
        is_final,
        opcode,
        payload,
    })
}

/// The message that the frames so far are a part of.
#[derive(Default)]
struct Message {
    is_open: bool,
    is_text: bool,
    /// The beginning of a character whose end has not come yet.
    tail: Vec<u8>,
}

impl Message {
    /// The rules about the order of frames (5.4), text (8.1) and close codes (7.4).
    fn judge(&mut self, frame: &Frame) -> Result<(), End> {
        match frame.opcode {
            CLOSE => return judge_close(&frame.payload),
            PING | PONG => return Ok(()),
            opcode if (opcode == CONTINUATION) != self.is_open => return Err(End::Close(PROTOCOL)),
            CONTINUATION => {}
            opcode => self.is_text = opcode == TEXT,
        }
        self.is_open = !frame.is_final;
        if self.is_text && !self.is_utf8(&frame.payload, frame.is_final) {
            return Err(End::Close(NOT_TEXT));
        }
        Ok(())
    }

    /// Whether the text goes on as UTF-8. A character may be cut in two by a frame, but not by the end.
    fn is_utf8(&mut self, part: &[u8], is_final: bool) -> bool {
        let mut text = std::mem::take(&mut self.tail);
        text.extend_from_slice(part);
        match std::str::from_utf8(&text) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() && !is_final => {
                self.tail = text.split_off(error.valid_up_to());
                true
            }
            Err(_) => false,
        }
    }
}

fn judge_close(payload: &[u8]) -> Result<(), End> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(End::Close(PROTOCOL))
        };
    };
    match u16::from_be_bytes(*code) {
        1000..=1003 | 1007..=1014 | 3000..=4999 if std::str::from_utf8(reason).is_ok() => Ok(()),
        1000..=1003 | 1007..=1014 | 3000..=4999 => Err(End::Close(NOT_TEXT)),
        _ => Err(End::Close(PROTOCOL)),
    }
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    is_final: bool,
    opcode: u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(if is_final { 0x80 | opcode } else { opcode });
    match payload.len() {
        short @ ..=125 => frame.push(short as u8),
        medium @ ..=0xffff => {
            frame.push(126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    let sent = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    timeout(FRAME, sent).await?
}

/// Sends the last frame, and reads on for a moment: closing with bytes unread would reset the connection, and the peer
/// might never see it.
async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), code: &[u8]) -> io::Result<()> {
    write(stream, true, CLOSE, code).await?;
    stream.shutdown().await?;
    let mut unread = stream.take(LARGEST);
    let _ = timeout(
        Duration::from_secs(1),
        tokio::io::copy(&mut unread, &mut tokio::io::sink()),
    )
    .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::drain::Drain;

    /// A masked frame, as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            short @ ..=125 => bytes.push(0x80 | short as u8),
            medium @ ..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((medium as u16).to_be_bytes());
            }
            long => {
                bytes.push(0x80 | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(
            payload
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ mask[i % 4]),
        );
        bytes
    }

    /// What comes back for these bytes until the other side closes.
    async fn talk(sent: Vec<u8>) -> Vec<u8> {
        let (ours, theirs) = tokio::io::duplex(4096);
        let drain = Drain::default();
        let mut watch = drain.watch();
        let server = tokio::spawn(async move { echo(theirs, &mut watch).await });
        let (mut reads, mut writes) = tokio::io::split(ours);
        let client = tokio::spawn(async move { writes.write_all(&sent).await });
        let mut got = Vec::new();
        let _ = timeout(Duration::from_secs(5), reads.read_to_end(&mut got)).await;
        let _ = client.await;
        drop(reads);
        let _ = server.await;
        got
    }

    fn bye() -> Vec<u8> {
        frame(0x88, &[0x03, 0xe8])
    }

    #[tokio::test]
    async fn says_back_what_it_hears_in_the_same_frames() {
        let large = vec![7; 70_000];
        let mut sent = frame(0x81, "hé".as_bytes());
        sent.extend(frame(0x01, &[0xe2, 0x82])); // half a character
        sent.extend(frame(0x89, b"p"));
        sent.extend(frame(0x80, &[0xac]));
        sent.extend(frame(0x82, &large));
        sent.extend(bye());
        let mut want = vec![
            0x81, 3, b'h', 0xc3, 0xa9, 0x01, 2, 0xe2, 0x82, 0x8a, 1, b'p', 0x80, 1, 0xac,
        ];
        want.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        want.extend(large);
        want.extend([0x88, 2, 0x03, 0xe8]);
        assert!(talk(sent).await == want);
    }

    #[tokio::test]
    async fn closes_on_what_the_rules_forbid_and_says_why() {
        let mut long = vec![0x82, 0xff];
        long.extend((LARGEST + 1).to_be_bytes());
        let unmasked = vec![0x81, 1, b'a'];
        for (name, sent, code) in [
            ("unmasked", unmasked, PROTOCOL),
            ("reserved bit", frame(0xc1, b"a"), PROTOCOL),
            ("unknown opcode", frame(0x83, b"a"), PROTOCOL),
            ("continuation of nothing", frame(0x80, b"a"), PROTOCOL),
            (
                "two messages at once",
                [frame(0x01, b""), frame(0x81, b"")].concat(),
                PROTOCOL,
            ),
            ("fragmented ping", frame(0x09, b"a"), PROTOCOL),
            ("long ping", frame(0x89, &[0; 126]), PROTOCOL),
            ("length not minimal", vec![0x82, 0xfe, 0, 5], PROTOCOL),
            ("not text", frame(0x81, &[0xff]), NOT_TEXT),
            ("text cut short", frame(0x81, &[0xe2, 0x82]), NOT_TEXT),
            ("too long", long, TOO_BIG),
            ("close with half a code", frame(0x88, &[3]), PROTOCOL),
            (
                "close with a reserved code",
                frame(0x88, &[0x03, 0xed]),
                PROTOCOL,
            ),
            ("polite", bye(), 1000),
        ] {
            let got = talk(sent).await;
            let [high, low] = code.to_be_bytes();
            assert!(got.ends_with(&[0x88, 2, high, low]), "{name}: {got:?}");
        }
    }

    #[tokio::test]
    async fn goes_away_when_the_drain_begins() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let drain = Drain::default();
        let mut watch = drain.watch();
        let server = tokio::spawn(async move { echo(theirs, &mut watch).await });
        drain.advance(Phase::Drain);
        let mut got = [0; 4];
        assert!(ours.read_exact(&mut got).await.is_ok());
        assert_eq!(got, [0x88, 2, 0x03, 0xe9]);
        drop(ours);
        assert!(server.await.is_ok_and(|end| end.is_ok()));
    }

    #[test]
    fn handshake_is_that_of_the_standard() {
        let right = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |name: &'static str, value: &'static str| {
            let pairs = right.into_iter().chain([(name, value)]);
            let headers: HeaderMap = pairs
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect::<std::collections::HashMap<_, _>>()
                .into_iter()
                .collect();
            handshake(&Method::GET, &headers).map_err(|refused| refused.status().as_u16())
        };
        let accept = with("x", "y").expect("the example of 1.3");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (name, value, status) in [
            ("connection", "keep-alive", 400),
            ("upgrade", "h2c", 400),
            ("sec-websocket-version", "8", 426),
            ("sec-websocket-key", "short", 400),
        ] {
            assert_eq!(with(name, value), Err(status), "{name}");
        }
    }
}
