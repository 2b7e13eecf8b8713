//! Streams of an HTTP/2 client, written frame by frame: each request that the service gets is that of one stream.
//!
//! An input is a list of pieces, each behind the byte FE: `N` begins a stream, `Hname FD value` is a field, `Ddata` a DATA frame,
//! `T` begins the trailers, `C` goes on in a CONTINUATION frame, `P` pads the next frame, `S` cuts the stream off here.

use super::clean::{self, Asked};
use crate::gate::{self, Protocol};
use crate::service::Script;
use crate::strict;

const LONGEST: usize = 4 << 10;
const STREAMS: usize = 8;

#[derive(Default)]
pub struct Stream {
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the header block is cut.
    cuts: Vec<usize>,
    pub data: Vec<Vec<u8>>,
    pub trailers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    is_cut: bool,
    is_padded: bool,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let none = Vec::new();
        let trailers = self.trailers.as_ref().unwrap_or(&none);
        strict::show(f, &[], &[&self.fields, trailers], &self.data.concat())
    }
}

/// The streams that an input describes.
pub fn streams(input: &[u8]) -> Vec<Stream> {
    let mut list: Vec<Stream> = Vec::new();
    for piece in input.split(|c| *c == 0xfe) {
        let Some((kind, rest)) = piece.split_first() else {
            continue;
        };
        if *kind == b'N' && list.len() < STREAMS {
            list.push(Stream::default());
            continue;
        }
        let Some(stream) = list.last_mut() else {
            continue;
        };
        match kind {
            b'H' => {
                let mut parts = rest.splitn(2, |c| *c == 0xfd);
                let name = parts.next().unwrap_or_default().to_vec();
                let field = (name, parts.next().unwrap_or_default().to_vec());
                stream
                    .trailers
                    .as_mut()
                    .unwrap_or(&mut stream.fields)
                    .push(field);
            }
            b'D' => stream.data.push(rest.to_vec()),
            b'T' => drop(stream.trailers.get_or_insert_default()),
            b'C' => stream.cuts.push(stream.fields.len()),
            b'P' => stream.is_padded = true,
            b'S' => stream.is_cut = true,
            _ => {}
        }
    }
    list
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literals without indexing (RFC 7541, 6.2.2).
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let mut n = text.len();
            if n < 127 {
                out.push(n as u8);
            } else {
                out.push(127);
                n -= 127;
                while n >= 128 {
                    out.push((n % 128) as u8 | 128);
                    n /= 128;
                }
                out.push(n as u8);
            }
            out.extend_from_slice(text);
        }
    }
    out
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

fn write(stream: &Stream, id: u32, out: &mut Vec<u8>) {
    let bare = stream.data.is_empty() && stream.trailers.is_none() && !stream.is_cut;
    let end = if bare { END_STREAM } else { 0 };
    let mut from = 0;
    for (i, to) in stream
        .cuts
        .iter()
        .copied()
        .chain([stream.fields.len()])
        .enumerate()
    {
        let to = to.max(from);
        let last = if i == stream.cuts.len() {
            END_HEADERS
        } else {
            0
        };
        let mut payload = block(&stream.fields[from..to]);
        let mut flags = last | if i == 0 { end } else { 0 };
        if i == 0 && stream.is_padded {
            payload.insert(0, 3);
            payload.extend([0; 3]);
            flags |= PADDED;
        }
        frame(if i == 0 { 1 } else { 9 }, flags, id, &payload, out);
        from = to;
    }
    for (i, data) in stream.data.iter().enumerate() {
        let last = i + 1 == stream.data.len() && stream.trailers.is_none() && !stream.is_cut;
        frame(0, if last { END_STREAM } else { 0 }, id, data, out);
    }
    if let Some(trailers) = &stream.trailers {
        frame(
            1,
            END_HEADERS | if stream.is_cut { 0 } else { END_STREAM },
            id,
            &block(trailers),
            out,
        );
    }
}

/// The fields that the h2 crate hands over. It forgets that a block was malformed when a CONTINUATION frame goes on within a
/// field; then what is malformed is left out, and the rest is one reading (docs/security.md, "Not promised yet").
fn handed_over(stream: &Stream) -> Vec<(Vec<u8>, Vec<u8>)> {
    if stream.cuts.is_empty() {
        return stream.fields.clone();
    }
    let hop = |name: &[u8]| {
        matches!(
            name,
            b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection"
        )
    };
    let mut kept: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in &stream.fields {
        let late =
            name.starts_with(b":") && kept.iter().any(|(k, _)| k == name || !k.starts_with(b":"));
        if !late && !hop(name) && (name != b"te" || value == b"trailers") && !name.is_empty() {
            kept.push((name.clone(), value.clone()));
        }
    }
    kept
}

/// What the stream asks by RFC 9113, 8.3; `None` where that is not one thing.
pub fn asked(stream: &Stream) -> Option<Asked> {
    let fields = handed_over(stream);
    let one = |name: &str| match &strict::values(&fields, name)[..] {
        [one] => Some(one.to_vec()),
        _ => None,
    };
    let plain = |(name, value): &(Vec<u8>, Vec<u8>)| {
        // What stands behind `#` in a path is cut off unread, see below.
        let fragment = value.iter().position(|c| name == b":path" && *c == b'#');
        let value = &value[..fragment.unwrap_or(value.len())];
        let name = name.strip_prefix(b":").unwrap_or(name);
        strict::token(name)
            && !name.iter().any(u8::is_ascii_uppercase)
            && !value.iter().any(|c| matches!(c, 0 | b'\r' | b'\n'))
    };
    let regular = fields
        .iter()
        .position(|(name, _)| !name.starts_with(b":"))
        .unwrap_or(fields.len());
    let hosts = (
        strict::values(&fields, ":authority"),
        strict::values(&fields, "host"),
    );
    let host = match (&hosts.0[..], &hosts.1[..]) {
        ([authority], []) => authority.to_vec(),
        ([authority], [host]) if authority.eq_ignore_ascii_case(host) => authority.to_vec(),
        ([], [host]) => host.to_vec(),
        _ => return None,
    };
    let mut method = one(":method")?;
    let mut body = stream.data.concat();
    // RFC 8441: what follows is the tunnel's.
    let tunnel = method == b"CONNECT" && one(":protocol")? == b"websocket";
    if tunnel {
        (method, body) = (b"GET".to_vec(), Vec::new());
    }
    let lengths = strict::values(&fields, "content-length");
    let right = lengths
        .iter()
        .all(|l| std::str::from_utf8(l).ok().and_then(|l| l.parse().ok()) == Some(body.len()));
    let ordered = fields[regular..]
        .iter()
        .all(|(name, _)| !name.starts_with(b":"));
    if !fields.iter().all(plain)
        || !ordered
        || !(right || tunnel)
        || lengths.len() > 1
        || (stream.is_cut && !tunnel)
    {
        return None;
    }
    // Without `:authority` the h2 crate does not hand the scheme over.
    let scheme = one(":scheme")?;
    (hosts.0.is_empty() || matches!(&scheme[..], b"http" | b"https")).then_some(())?;
    let trim = |list: &[(Vec<u8>, Vec<u8>)]| {
        list.iter()
            .map(|(n, v)| (n.clone(), strict::trim(v).to_vec()))
            .collect()
    };
    Some(Asked {
        method,
        // The http crate cuts a fragment off before anybody can look (a row with `Lenient` in tests/it/wire_h2.rs).
        target: match one(":path")?.split(|c| *c == b'#').next() {
            Some(path) if !path.is_empty() => path.to_vec(),
            Some(_) | None => b"/".to_vec(),
        },
        host,
        fields: trim(&fields),
        body,
        trailers: stream.trailers.as_deref().map(trim).unwrap_or_default(),
    })
}

pub fn run(data: &[u8]) {
    let Some((cut, input)) = data
        .split_first()
        .filter(|(_, input)| input.len() <= LONGEST)
    else {
        return;
    };
    let streams = streams(input);
    if streams.is_empty() {
        return;
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(4, 0, 0, &[], &mut bytes);
    for (i, stream) in streams.iter().enumerate() {
        write(stream, 2 * i as u32 + 1, &mut bytes);
    }
    let outcome = gate::converse(Protocol::Http2, None, &gate::cut(*cut, &bytes), Script::Ok);
    let cookie = gate::world().cookie();
    let mut left: Vec<Asked> = streams.iter().filter_map(asked).collect();
    for conversation in &outcome.conversations {
        assert_eq!(conversation.bad, None, "{conversation:?}");
        for request in &conversation.requests {
            clean::alone(request, &cookie);
            let found = left.iter().position(|asked| {
                clean::is_head_of(request, asked)
                    && request.body == asked.body
                    && request.trailers.iter().all(|t| asked.trailers.contains(t))
                    && clean::lost(request, asked).is_none()
            });
            let Some(found) = found else {
                panic!("no stream asked for {request:?}: {streams:?}")
            };
            clean::compare(request, &left.remove(found));
        }
        // The head of a stream whose body proves broken afterwards: never a whole request.
        if !conversation.rest.is_empty() {
            let (request, _) = strict::request_head(&conversation.rest).expect("a whole head");
            clean::alone(&request, &cookie);
        }
    }
}
