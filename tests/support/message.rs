//! HTTP/1.1 read strictly, by a parser that shares nothing with the program: the oracle of these tests. What could be read
//! in two ways is `Bad`, whoever wrote it.

use std::fmt::Write as _;

/// What the bytes at hand are.
#[derive(Debug, PartialEq)]
pub enum Read<T> {
    More,
    Whole(T, usize),
    Bad(String),
}

pub type Fields = Vec<(String, String)>;

/// A request as the oracle reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// An answer as the oracle reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// All values of a field, whatever its case.
pub fn all<'f>(fields: &'f Fields, name: &str) -> Vec<&'f str> {
    fields
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

impl Request {
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    /// `METHOD target`, then the body and the trailers if there are any.
    pub fn shown(&self) -> String {
        let mut text = format!("{} {}", self.method, self.target);
        if !self.body.is_empty() {
            let _ = write!(text, " ={}", self.body.escape_ascii());
        }
        for (name, value) in &self.trailers {
            let _ = write!(text, " +{}:{value}", name.to_ascii_lowercase());
        }
        text
    }
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Length {
    None,
    Exactly(usize),
    Chunked,
    Close,
}

/// Reads one request from the front of `bytes`.
pub fn request(bytes: &[u8]) -> Read<Request> {
    let (mut request, length, used) = match request_head(bytes) {
        Read::Whole((request, length), used) => (request, length, used),
        Read::More => return Read::More,
        Read::Bad(why) => return Read::Bad(why),
    };
    match body(&bytes[used..], length, false) {
        Read::Whole((data, trailers), more) => {
            (request.body, request.trailers) = (data, trailers);
            Read::Whole(request, used + more)
        }
        Read::More => Read::More,
        Read::Bad(why) => Read::Bad(why),
    }
}

/// Reads the head of a request alone.
pub fn head_of_request(bytes: &[u8]) -> Read<Request> {
    match request_head(bytes) {
        Read::Whole((request, _), used) => Read::Whole(request, used),
        Read::More => Read::More,
        Read::Bad(why) => Read::Bad(why),
    }
}

/// Reads one answer to `method`; `ended` tells that no more bytes will come.
pub fn answer(bytes: &[u8], method: &str, ended: bool) -> Read<Answer> {
    let (line, fields, used) = match head(bytes) {
        Read::Whole((line, fields), used) => (line, fields, used),
        Read::More => return Read::More,
        Read::Bad(why) => return Read::Bad(why),
    };
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .filter(|_| line.as_bytes().get(12).is_none_or(|c| *c == b' '))
        .and_then(|digits| digits.parse().ok());
    let Some(status) = status.filter(|s| (100..600).contains(s)) else {
        return Read::Bad(format!("status line {line:?}"));
    };
    let length = match framing(&fields) {
        Err(why) => return Read::Bad(why),
        Ok(_) if method == "HEAD" || matches!(status, 100..200 | 204 | 304) => Length::None,
        Ok(Length::None) => Length::Close,
        Ok(length) => length,
    };
    match body(&bytes[used..], length, ended) {
        Read::Whole((body, trailers), more) => Read::Whole(
            Answer {
                status,
                fields,
                body,
                trailers,
            },
            used + more,
        ),
        Read::More => Read::More,
        Read::Bad(why) => Read::Bad(why),
    }
}

fn request_head(bytes: &[u8]) -> Read<(Request, Length)> {
    let (line, fields, used) = match head(bytes) {
        Read::Whole((line, fields), used) => (line, fields, used),
        Read::More => return Read::More,
        Read::Bad(why) => return Read::Bad(why),
    };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Read::Bad(format!("request line {line:?}"));
    };
    let origin = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    if !is_token(method)
        || !origin
        || target
            .bytes()
            .any(|c| !(b'!'..=b'~').contains(&c) || c == b'#')
    {
        return Read::Bad(format!("request line {line:?}"));
    }
    let hosts = all(&fields, "host");
    if hosts.len() != 1 || hosts[0].is_empty() || hosts[0].contains([' ', ',', '@', '/', '\t']) {
        return Read::Bad(format!("hosts {hosts:?}"));
    }
    let hop = |name: &str| {
        matches!(
            name,
            "keep-alive" | "proxy-connection" | "proxy-authorization" | "http2-settings"
        )
    };
    if let Some((name, _)) = fields.iter().find(|(n, _)| hop(&n.to_ascii_lowercase())) {
        return Read::Bad(format!("hop-by-hop field {name}"));
    }
    let upgrade = all(&fields, "upgrade");
    let connection = all(&fields, "connection");
    let fine = match (&upgrade[..], &connection[..]) {
        ([], []) => true,
        ([], [one]) => one.eq_ignore_ascii_case("te") && all(&fields, "te") == ["trailers"],
        ([one], [c]) => {
            c.eq_ignore_ascii_case("upgrade") && !one.to_ascii_lowercase().starts_with("h2")
        }
        _ => false,
    };
    if !fine {
        return Read::Bad(format!("connection {connection:?}, upgrade {upgrade:?}"));
    }
    match framing(&fields) {
        Err(why) => Read::Bad(why),
        Ok(length) => {
            let (method, target) = (method.to_owned(), target.to_owned());
            let request = Request {
                method,
                target,
                fields,
                ..Request::default()
            };
            Read::Whole((request, length), used)
        }
    }
}

/// First line and fields.
fn head(bytes: &[u8]) -> Read<(String, Fields)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let seen = &bytes[..end.map_or(bytes.len(), |n| n + 4)];
    for (i, c) in seen.iter().enumerate() {
        let bad = match c {
            b'\n' => i == 0 || seen[i - 1] != b'\r',
            b'\r' => seen.get(i + 1).is_some_and(|n| *n != b'\n'),
            b'\t' => false,
            0..0x20 | 0x7f => true,
            _ => false,
        };
        if bad {
            return Read::Bad(format!("byte {c:#04x} in a head"));
        }
    }
    let Some(end) = end else {
        return if bytes.len() > 1 << 20 {
            Read::Bad("a head without end".into())
        } else {
            Read::More
        };
    };
    let text: String = bytes[..end].iter().map(|c| char::from(*c)).collect();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.map(field).collect() {
        Ok(fields) => Read::Whole((first, fields), end + 4),
        Err(why) => Read::Bad(why),
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or(format!("field line {line:?}"))?;
    if !is_token(name) {
        return Err(format!("field name {name:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
}

fn framing(fields: &Fields) -> Result<Length, String> {
    let odd = fields.iter().find(|(n, _)| {
        let plain = n.to_ascii_lowercase().replace('_', "-");
        n.contains('_') && matches!(&*plain, "host" | "content-length" | "transfer-encoding")
    });
    if let Some((name, _)) = odd {
        return Err(format!("field {name}"));
    }
    match (
        &all(fields, "content-length")[..],
        &all(fields, "transfer-encoding")[..],
    ) {
        ([], []) => Ok(Length::None),
        ([digits], [])
            if digits.bytes().all(|c| c.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0')) =>
        {
            // As the most careful reader of signed numbers takes it.
            let length = digits.parse::<i64>().ok();
            let length = length.and_then(|n| usize::try_from(n).ok());
            length
                .map(Length::Exactly)
                .ok_or(format!("length {digits}"))
        }
        ([], ["chunked"]) => Ok(Length::Chunked),
        (lengths, codings) => Err(format!("lengths {lengths:?}, codings {codings:?}")),
    }
}

fn body(bytes: &[u8], length: Length, ended: bool) -> Read<(Vec<u8>, Fields)> {
    match length {
        Length::None => Read::Whole((Vec::new(), Vec::new()), 0),
        Length::Exactly(n) if bytes.len() < n => Read::More,
        Length::Exactly(n) => Read::Whole((bytes[..n].to_vec(), Vec::new()), n),
        Length::Close if ended => Read::Whole((bytes.to_vec(), Vec::new()), bytes.len()),
        Length::Close => Read::More,
        Length::Chunked => chunks(bytes),
    }
}

fn chunks(bytes: &[u8]) -> Read<(Vec<u8>, Fields)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let digits = rest.iter().take_while(|c| c.is_ascii_hexdigit()).count();
        match (digits, rest.get(digits), rest.get(digits + 1)) {
            (_, None, _) if digits <= 16 => return Read::More,
            (1..=16, Some(b'\r'), None) => return Read::More,
            (1..=16, Some(b'\r'), Some(b'\n')) => {}
            _ => {
                return Read::Bad(format!(
                    "chunk size {:?}",
                    rest[..rest.len().min(20)].escape_ascii().to_string()
                ));
            }
        }
        let size = std::str::from_utf8(&rest[..digits])
            .ok()
            .and_then(|d| i64::from_str_radix(d, 16).ok())
            .and_then(|n| usize::try_from(n).ok());
        let Some(size) = size else {
            return Read::Bad("chunk size".into());
        };
        at += digits + 2;
        if size == 0 {
            return trailers(bytes, at, data);
        }
        let Some(chunk) = bytes.get(at..at.saturating_add(size).saturating_add(2)) else {
            return Read::More;
        };
        if !chunk.ends_with(b"\r\n") {
            return Read::Bad("a chunk without its end".into());
        }
        data.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

fn trailers(bytes: &[u8], at: usize, data: Vec<u8>) -> Read<(Vec<u8>, Fields)> {
    let rest = &bytes[at..];
    if rest.starts_with(b"\r\n") {
        return Read::Whole((data, Vec::new()), at + 2);
    }
    if rest.is_empty() || rest == b"\r" {
        return Read::More;
    }
    // A trailer section looks like a head without its first line.
    let mut with_line = b"x\r\n".to_vec();
    with_line.extend_from_slice(rest);
    match head(&with_line) {
        Read::More => Read::More,
        Read::Bad(why) => Read::Bad(why),
        Read::Whole((_, fields), used) => {
            let framing = [
                "content-length",
                "transfer-encoding",
                "host",
                "authorization",
                "connection",
            ];
            match fields
                .iter()
                .find(|(n, _)| framing.contains(&&*n.to_ascii_lowercase()))
            {
                Some((name, _)) => Read::Bad(format!("trailer {name}")),
                None => Read::Whole((data, fields), at + used - 3),
            }
        }
    }
}
