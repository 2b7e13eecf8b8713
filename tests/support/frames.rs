//! HTTP/2 frame by frame: a writer that can say anything, and as much of a reader as outcomes need.

use super::Client;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Writes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, 6.2.2).
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(text.len(), &mut out);
            out.extend_from_slice(text);
        }
    }
    out
}

/// RFC 7541, 5.1, with a prefix of seven bits.
fn integer(mut n: usize, out: &mut Vec<u8>) {
    if n < 127 {
        return out.push(n as u8);
    }
    out.push(127);
    n -= 127;
    while n >= 128 {
        out.push((n % 128) as u8 | 128);
        n /= 128;
    }
    out.push(n as u8);
}

/// The pseudo fields of a request to `app.lan`.
pub fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "https"),
        (":authority", "app.lan"),
        (":path", path),
    ]
}

/// HEADERS of a whole request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        block(&pseudo("GET", path)),
    )
}

/// One setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer: status and body.
    Answer(u16, Vec<u8>),
    /// The stream was reset with this code, before or within an answer.
    Reset(u32),
    /// The connection was ended with this code.
    Goaway(u32),
    /// The connection ended without a word.
    Closed,
}

impl Outcome {
    /// The status of a whole answer; 0 for none.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answer(status, _) => *status,
            Self::Reset(_) | Self::Goaway(_) | Self::Closed => 0,
        }
    }
}

/// An HTTP/2 connection.
pub struct H2 {
    pub client: Client,
    /// Whether windows are opened for what arrives.
    pub opens_windows: bool,
    /// Whether questions are answered.
    pub answers_pings: bool,
}

impl H2 {
    /// Sends the preface and SETTINGS that forbid a dynamic table, so that a status can be read without one.
    pub async fn open(client: Client) -> Self {
        Self::with(client, &[]).await
    }

    /// As [`H2::open`], with more settings.
    pub async fn with(client: Client, settings: &[(u16, u32)]) -> Self {
        let mut h2 = Self {
            client,
            opens_windows: true,
            answers_pings: true,
        };
        let mut payload = setting(1, 0);
        payload.extend(settings.iter().flat_map(|(id, value)| setting(*id, *value)));
        let mut first = PREFACE.to_vec();
        first.extend(frame(SETTINGS, 0, 0, payload));
        h2.send(first).await;
        h2
    }

    /// Writes; the gate may have gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.client.try_send(bytes).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let got = &mut self.client.got;
            let length = got
                .get(..9)
                .map(|h| u32::from_be_bytes([0, h[0], h[1], h[2]]) as usize);
            if let Some(length) = length.filter(|n| got.len() >= n + 9) {
                let bytes: Vec<u8> = got.drain(..9 + length).collect();
                let stream = u32::from_be_bytes([bytes[5] & 127, bytes[6], bytes[7], bytes[8]]);
                return Some(Frame {
                    kind: bytes[3],
                    flags: bytes[4],
                    stream,
                    payload: bytes[9..].to_vec(),
                });
            }
            if !self.client.more().await {
                return None;
            }
        }
    }

    /// The next frame of this kind; others are dealt with as a client should.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            self.tend(&frame).await;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Waits for what becomes of the stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let (mut status, mut body) = (0, Vec::new());
        while let Some(frame) = self.next().await {
            self.tend(&frame).await;
            match frame.kind {
                GOAWAY => {
                    let code = frame
                        .payload
                        .get(4..8)
                        .map_or(0, |c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
                    if code != 0 {
                        return Outcome::Goaway(code);
                    }
                    continue;
                }
                _ if frame.stream != stream => continue,
                RST_STREAM => {
                    return Outcome::Reset(u32::from_be_bytes(
                        frame.payload.try_into().unwrap_or_default(),
                    ));
                }
                HEADERS if status < 200 => status = self::status(&frame.payload),
                DATA => body.extend_from_slice(&frame.payload),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return Outcome::Answer(status, body);
            }
        }
        Outcome::Closed
    }

    /// Reads to the end of the connection, as a client that asks for nothing more.
    pub async fn end(&mut self) {
        while let Some(frame) = self.next().await {
            self.tend(&frame).await;
        }
    }

    /// What is expected of a client: acknowledgements and windows.
    async fn tend(&mut self, frame: &Frame) {
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => self.send(self::frame(SETTINGS, ACK, 0, [])).await,
            (PING, 0) if self.answers_pings => {
                self.send(self::frame(PING, ACK, 0, &frame.payload)).await
            }
            (DATA, _) if self.opens_windows && !frame.payload.is_empty() => {
                let n = (frame.payload.len() as u32).to_be_bytes();
                let both = [
                    self::frame(WINDOW_UPDATE, 0, 0, n),
                    self::frame(WINDOW_UPDATE, 0, frame.stream, n),
                ];
                self.send(both.concat()).await;
            }
            _ => {}
        }
    }

    /// Sends a whole request without a body on a stream and waits for the outcome.
    pub async fn get(&mut self, stream: u32, path: &str) -> Outcome {
        self.send(get(stream, path)).await;
        self.outcome(stream).await
    }

    /// Sends HEADERS with `fields` after the pseudo fields, and a body, and waits for the outcome.
    pub async fn ask(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Outcome {
        let all = [pseudo(method, path), fields.to_vec()].concat();
        let end = if body.is_empty() { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | end, stream, block(&all));
        if !body.is_empty() {
            bytes.extend(frame(DATA, END_STREAM, stream, body));
        }
        self.send(bytes).await;
        self.outcome(stream).await
    }
}

/// The `:status` that begins a header block.
pub fn status(block: &[u8]) -> u16 {
    let mut at = 0;
    // Changes of the table's size come first (RFC 7541, 6.3).
    while block.get(at).is_some_and(|c| c & 0xe0 == 0x20) {
        at += 1;
    }
    match block.get(at..) {
        Some([c @ 0x88..=0x8e, ..]) => [200, 204, 206, 304, 400, 404, 500][usize::from(c - 0x88)],
        // A literal whose name is the eighth of the static table, its value digits in Huffman code.
        Some([0x08 | 0x48 | 0x18, length, rest @ ..]) if length & 128 != 0 => {
            huffman(&rest[..usize::from(length & 127)])
        }
        Some([0x08 | 0x48 | 0x18, length, rest @ ..]) => {
            let digits = std::str::from_utf8(&rest[..usize::from(*length)]).unwrap_or_default();
            digits.parse().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Three digits in Huffman code (RFC 7541, appendix B): `0` to `2` have five bits, the others six.
fn huffman(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|c| (0..8).rev().map(move |i| c >> i & 1))
        .collect();
    let (mut at, mut number) = (0, 0);
    let take = |from: usize, n: usize| {
        bits.iter()
            .skip(from)
            .take(n)
            .fold(0u16, |sum, bit| sum << 1 | u16::from(*bit))
    };
    for _ in 0..3 {
        let digit = match take(at, 5) {
            digit @ 0..=2 => {
                at += 5;
                digit
            }
            _ => {
                at += 6;
                take(at - 6, 6) - 0b01_1001 + 3
            }
        };
        number = number * 10 + digit;
    }
    number
}
