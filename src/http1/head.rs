//! The strict reading of a message head (RFC 9112, 2 to 5). What two parsers could read differently is an error here;
//! nothing is repaired.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::field::{Name, classify};

/// One field line, as ranges of the head's bytes.
#[derive(Clone, Debug)]
pub struct Field {
    /// What the name means to us.
    pub known: Name,
    /// An underscore stands where the known name has a hyphen.
    pub underscore: bool,
    name: Range<u32>,
    value: Range<u32>,
}

impl Field {
    /// The name as it was sent.
    pub fn name<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        &head[self.name.start as usize..self.name.end as usize]
    }

    /// The value without the white space around it.
    pub fn value<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        &head[self.value.start as usize..self.value.end as usize]
    }
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A request head. The vector of fields is reused from request to request.
#[derive(Debug)]
pub struct Request {
    /// The method, a token.
    pub method: Range<u32>,
    /// The request target as it came.
    pub target: Range<u32>,
    /// The version.
    pub version: Version,
}

/// A response head.
#[derive(Debug)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub phrase: Range<u32>,
    /// The version.
    pub version: Version,
}

/// Why a head cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Constant text for the log.
    Bad(&'static str),
    /// More fields than allowed.
    TooManyFields,
}

/// Most fields that any configuration can allow.
pub const MOST_FIELDS: usize = 256;

/// Where the head that begins at 0 ends: `Ok(None)` while it is not there whole. Looks only at what is new since `seen`,
/// which it moves on. Bare CR and bare LF are errors as soon as they are seen (RFC 9112, 2.2).
pub fn end(data: &[u8], seen: &mut usize) -> Result<Option<usize>, HeadError> {
    loop {
        let line = *seen;
        let Some(at) = memchr::memchr2(b'\r', b'\n', &data[line..]) else {
            return Ok(None);
        };
        if data[line + at] == b'\n' {
            return Err(HeadError::Bad("a bare LF"));
        }
        match data.get(line + at + 1) {
            None => return Ok(None),
            Some(b'\n') => *seen = line + at + 2,
            Some(_) => return Err(HeadError::Bad("a bare CR")),
        }
        if at == 0 {
            return Ok(Some(*seen));
        }
    }
}

/// Reads a request head that [`end`] found whole. `fields` is cleared and filled.
pub fn request(head: &[u8], fields: &mut Vec<Field>, most: usize) -> Result<Request, HeadError> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let space = &mut space[..most.min(MOST_FIELDS)];
    finish(parsed.parse_with_uninit_headers(head, space), head)?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Bad("an incomplete request line"));
    };
    collect(head, parsed.headers, fields)?;
    Ok(Request {
        method: range(head, method.as_bytes()),
        target: range(head, target.as_bytes()),
        version: version_of(version)?,
    })
}

/// Reads a response head that [`end`] found whole.
pub fn response(head: &[u8], fields: &mut Vec<Field>, most: usize) -> Result<Response, HeadError> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let space = &mut space[..most.min(MOST_FIELDS)];
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        space,
    );
    finish(read, head)?;
    let (Some(status), Some(phrase), Some(version)) = (parsed.code, parsed.reason, parsed.version)
    else {
        return Err(HeadError::Bad("an incomplete status line"));
    };
    if !(100..600).contains(&status) {
        return Err(HeadError::Bad("a status that is not 100 to 599"));
    }
    collect(head, parsed.headers, fields)?;
    // httparse gives an empty phrase for one with bytes above ASCII: that one is dropped, not copied.
    let phrase = if phrase.is_empty() {
        0..0
    } else {
        range(head, phrase.as_bytes())
    };
    Ok(Response {
        status,
        phrase,
        version: version_of(version)?,
    })
}

fn version_of(minor: u8) -> Result<Version, HeadError> {
    match minor {
        0 => Ok(Version::Http10),
        1 => Ok(Version::Http11),
        _ => Err(HeadError::Bad("a version that is not 1.0 or 1.1")),
    }
}

fn finish(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    head: &[u8],
) -> Result<(), HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(n)) if n == head.len() => Ok(()),
        Ok(_) => Err(HeadError::Bad("a head that ends early")),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyFields),
        Err(httparse::Error::HeaderName) => Err(HeadError::Bad("a field name that is not a token")),
        Err(httparse::Error::HeaderValue) => Err(HeadError::Bad("a control byte in a field value")),
        Err(httparse::Error::NewLine) => Err(HeadError::Bad("a line that does not end in CR LF")),
        Err(httparse::Error::Status) => Err(HeadError::Bad("a status line that is none")),
        Err(httparse::Error::Token) => Err(HeadError::Bad("a request line that is none")),
        Err(httparse::Error::Version) => Err(HeadError::Bad("a version that is not 1.0 or 1.1")),
    }
}

fn collect(
    head: &[u8],
    headers: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    fields.clear();
    for header in headers {
        let (known, underscore) = classify(header.name.as_bytes());
        let value = header.value.trim_ascii();
        let value = if value.is_empty() {
            0..0
        } else {
            range(head, value)
        };
        fields.push(Field {
            known,
            underscore,
            name: range(head, header.name.as_bytes()),
            value,
        });
    }
    Ok(())
}

/// The place of `part` in `head`. Both parsers give slices of the head itself.
fn range(head: &[u8], part: &[u8]) -> Range<u32> {
    let start = (part.as_ptr() as usize)
        .wrapping_sub(head.as_ptr() as usize)
        .min(head.len());
    let end = (start + part.len()).min(head.len());
    start as u32..end as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, HeadError> {
        let mut seen = 0;
        let Some(n) = end(text.as_bytes(), &mut seen)? else {
            return Ok("more".into());
        };
        let mut fields = Vec::new();
        let head = &text.as_bytes()[..n];
        let request = request(head, &mut fields, 8)?;
        let part = |r: &Range<u32>| text[r.start as usize..r.end as usize].to_owned();
        let mut out = format!("{} {}", part(&request.method), part(&request.target));
        for f in &fields {
            out += &format!(
                "|{}={}",
                String::from_utf8_lossy(f.name(head)),
                String::from_utf8_lossy(f.value(head))
            );
        }
        Ok(out)
    }

    #[test]
    fn reads_a_head_in_one_way_or_not_at_all() {
        for (text, want) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some("GET /|Host=a")),
            (
                "GET / HTTP/1.1\r\nHost:a \t\r\nX:\r\n\r\n",
                Some("GET /|Host=a|X="),
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", Some("more")),
            ("GET / HTTP/1.1\r\nHost: a\r\n", Some("more")),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", None),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", None),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", None),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", None),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", None),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", None),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", None),
            ("GET /\r\n\r\n", None),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("\r\n\r\n", None),
        ] {
            assert_eq!(read(text).ok().as_deref(), want, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(9));
        assert_eq!(read(&many), Err(HeadError::TooManyFields));
    }

    #[test]
    fn finds_stray_bytes_however_the_head_is_cut() {
        let bad = "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n".as_bytes();
        for cut in 1..bad.len() {
            let mut seen = 0;
            let first = end(&bad[..cut], &mut seen);
            assert!(
                first.is_err() || end(bad, &mut seen).is_err(),
                "cut at {cut}"
            );
        }
    }
}
