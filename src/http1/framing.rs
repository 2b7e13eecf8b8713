//! How long a body is (RFC 9112, 6.3): one answer, or an error. Lengths are never guessed and never copied.

use super::field::{Name, has_token, is_token};
use super::head::{Field, Version};

/// The body that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None follows.
    None,
    /// Exactly so many bytes. For a request with `Content-Length: 0` this is `Length(0)`.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection ends; answers only.
    Close,
}

impl Body {
    /// Whether not one byte follows.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// What the fields say about the length and the connection.
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

fn read(head: &[u8], fields: &[Field], version: Version) -> Result<Said, &'static str> {
    let mut said = Said {
        length: None,
        chunked: false,
        close: false,
        keep_alive: false,
    };
    for field in fields {
        match field.known {
            Name::ContentLength | Name::TransferEncoding | Name::Host if field.underscore => {
                return Err("an underscore in the name of a framing field");
            }
            Name::ContentLength => {
                if said.length.is_some() {
                    return Err("two Content-Length fields");
                }
                said.length = Some(
                    length(field.value(head))
                        .ok_or("a Content-Length that is not one plain decimal number")?,
                );
            }
            Name::TransferEncoding => {
                if said.chunked {
                    return Err("two Transfer-Encoding fields");
                }
                if !field.value(head).eq_ignore_ascii_case(b"chunked") {
                    return Err("a Transfer-Encoding that is not `chunked`");
                }
                said.chunked = true;
            }
            Name::Connection => {
                said.close |= has_token(field.value(head), "close");
                said.keep_alive |= has_token(field.value(head), "keep-alive");
            }
            _ => {}
        }
    }
    if said.chunked && said.length.is_some() {
        return Err("Content-Length together with Transfer-Encoding");
    }
    if said.chunked && version == Version::Http10 {
        return Err("Transfer-Encoding in HTTP/1.0");
    }
    Ok(said)
}

/// The value of a `Content-Length`: digits only, no sign, no list, no space. A zero in front would be allowed (RFC 9110, 8.6), but
/// some read an octal number then. No larger than what a signed number of 64 bits holds: others wrap around.
pub fn length(value: &[u8]) -> Option<u64> {
    let is_plain = value.iter().all(u8::is_ascii_digit) && matches!(value, [_] | [b'1'..=b'9', ..]);
    std::str::from_utf8(value)
        .ok()
        .filter(|_| is_plain)?
        .parse()
        .ok()
        .filter(|n| *n <= i64::MAX as u64)
}

/// The body of a request, and whether its connection may be used again.
pub fn of_request(
    head: &[u8],
    fields: &[Field],
    version: Version,
) -> Result<(Body, bool), &'static str> {
    let said = read(head, fields, version)?;
    let body = match (said.chunked, said.length) {
        (true, _) => Body::Chunked,
        (false, Some(n)) => Body::Length(n),
        (false, None) => Body::None,
    };
    Ok((body, version == Version::Http11 && !said.close))
}

/// The body of the answer `status` to a request, and whether its connection may be used again.
pub fn of_response(
    head: &[u8],
    fields: &[Field],
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<(Body, bool), &'static str> {
    let said = read(head, fields, version)?;
    let mut options = Options::default();
    for field in fields.iter().filter(|f| f.known == Name::Connection) {
        options.add(field.value(head))?;
    }
    let kept = match version {
        Version::Http11 => !said.close,
        Version::Http10 => said.keep_alive && !said.close,
    };
    let body = match (said.chunked, said.length) {
        _ if to_head || matches!(status, 100..200 | 204 | 304) => Body::None,
        (true, _) => Body::Chunked,
        (false, Some(n)) => Body::Length(n),
        (false, None) => Body::Close,
    };
    // RFC 9112, 6.1 and 6.3: such an answer has no body, whatever its fields say. Who says otherwise may send one.
    let claims = said.chunked || said.length.is_some_and(|n| n > 0);
    match status {
        100..200 if claims => return Err("an interim answer that claims a body"),
        204 if claims => return Ok((body, false)),
        _ => {}
    }
    Ok((body, kept && body != Body::Close))
}

/// Bounds the options of `Connection`, empty ones too: each is compared with the name of every field.
#[derive(Debug, Default)]
pub struct Options {
    count: usize,
    bytes: usize,
}

impl Options {
    /// Takes one more value into account.
    pub fn add(&mut self, value: &[u8]) -> Result<(), &'static str> {
        self.bytes += value.len();
        if self.bytes > 1024 {
            return Err("more than 1024 bytes of options in Connection");
        }
        if !value.is_empty() {
            self.count += value.split(|c| *c == b',').count();
        }
        match self.count {
            ..=32 => Ok(()),
            _ => Err("more than 32 options in Connection"),
        }
    }
}

/// The `Content-Length` that an answer without a body may still carry (to HEAD, or 304).
pub fn announced_length(head: &[u8], fields: &[Field]) -> Option<u64> {
    fields
        .iter()
        .find(|f| f.known == Name::ContentLength)
        .and_then(|f| length(f.value(head)))
}

/// The value of `Upgrade`, when this request asks for a tunnel that we pass on: HTTP/1.1, `Connection: upgrade`, no body,
/// one protocol, and none of HTTP or TLS itself (RFC 9113, 3.1; RFC 2817).
pub fn asked_upgrade<'h>(
    head: &'h [u8],
    fields: &[Field],
    version: Version,
    body: Body,
) -> Option<&'h [u8]> {
    let connection = fields
        .iter()
        .any(|f| f.known == Name::Connection && has_token(f.value(head), "upgrade"));
    let mut upgrades = fields
        .iter()
        .filter(|f| f.known == Name::Upgrade && !f.underscore);
    let (Some(field), None) = (upgrades.next(), upgrades.next()) else {
        return None;
    };
    let value = field.value(head);
    // `name["/"version]`, and only one (RFC 9110, 7.8).
    let one = value.splitn(2, |c| *c == b'/').all(is_token);
    let lower = value.to_ascii_lowercase();
    let ours = lower.starts_with(b"h2") || lower.starts_with(b"http") || lower.starts_with(b"tls");
    (version == Version::Http11 && connection && one && !ours && body.is_empty()).then_some(value)
}

/// The one protocol that a 101 switches to (RFC 9110, 7.8 and 15.2.2): said by HTTP/1.1, with `Connection: upgrade`, and once.
pub fn agreed_upgrade<'h>(
    head: &'h [u8],
    fields: &[Field],
    version: Version,
) -> Result<&'h [u8], &'static str> {
    if version == Version::Http10 {
        return Err("a 101 of HTTP/1.0");
    }
    if !fields.iter().any(|f| {
        f.known == Name::Connection && !f.underscore && has_token(f.value(head), "upgrade")
    }) {
        return Err("a 101 without `Connection: upgrade`");
    }
    let mut named = fields.iter().filter(|f| f.known == Name::Upgrade);
    match (named.next(), named.next()) {
        (Some(field), None) if !field.underscore => Ok(field.value(head)),
        (Some(_) | None, _) => Err("a 101 that does not name one protocol"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head;

    fn request(fields: &str) -> Result<(Body, bool), &'static str> {
        for (line, version) in [
            ("GET / HTTP/1.1", Version::Http11),
            ("GET / HTTP/1.0", Version::Http10),
        ] {
            let Some(rest) = fields.strip_prefix(if version == Version::Http10 {
                "1.0 "
            } else {
                ""
            }) else {
                continue;
            };
            if version == Version::Http11 && fields.starts_with("1.0 ") {
                continue;
            }
            let text = format!("{line}\r\n{rest}\r\n");
            let mut list = Vec::new();
            head::request(text.as_bytes(), &mut list, 32).unwrap();
            return of_request(text.as_bytes(), &list, version);
        }
        unreachable!()
    }

    #[test]
    fn a_request_has_one_length_or_none() {
        for (fields, want) in [
            ("", Ok((Body::None, true))),
            ("Content-Length: 5\r\n", Ok((Body::Length(5), true))),
            (
                "Content-Length: 0\r\nConnection: close\r\n",
                Ok((Body::Length(0), false)),
            ),
            ("Transfer-Encoding: chunked\r\n", Ok((Body::Chunked, true))),
            ("Transfer-Encoding: CHUNKED\r\n", Ok((Body::Chunked, true))),
            ("1.0 Content-Length: 5\r\n", Ok((Body::Length(5), false))),
            ("1.0 Connection: keep-alive\r\n", Ok((Body::None, false))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(())),
            ("Content-Length: 5, 5\r\n", Err(())),
            ("Content-Length: +5\r\n", Err(())),
            ("Content-Length: -1\r\n", Err(())),
            ("Content-Length: 0x5\r\n", Err(())),
            ("Content-Length: 5 5\r\n", Err(())),
            ("Content-Length:\r\n", Err(())),
            ("Content-Length: 99999999999999999999\r\n", Err(())),
            ("Content-Length: 9223372036854775808\r\n", Err(())),
            (
                "Content-Length: 9223372036854775807\r\n",
                Ok((Body::Length(i64::MAX as u64), true)),
            ),
            ("Content-Length: 0\r\n", Ok((Body::Length(0), true))),
            ("Content-Length: 00\r\n", Err(())),
            ("Content-Length: 05\r\n", Err(())),
            ("Content_Length: 5\r\n", Err(())),
            ("Transfer_Encoding: chunked\r\n", Err(())),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Err(()),
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Err(()),
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(()),
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(())),
            ("Transfer-Encoding: chunked, identity\r\n", Err(())),
            ("Transfer-Encoding: identity\r\n", Err(())),
            ("Transfer-Encoding: xchunked\r\n", Err(())),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(())),
            ("Transfer-Encoding:\r\n", Err(())),
            ("1.0 Transfer-Encoding: chunked\r\n", Err(())),
        ] {
            assert_eq!(request(fields).map_err(|_| ()), want, "{fields:?}");
        }
    }

    #[test]
    fn tunnels_are_asked_for_in_one_way_only() {
        for (fields, want) in [
            ("Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
            (
                "Connection: keep-alive, upgrade\r\nUpgrade: foo/1\r\n",
                true,
            ),
            ("Upgrade: websocket\r\n", false),
            ("Connection: Upgrade\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: h2c\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", false),
            (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
                false,
            ),
            ("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: web socket\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: a/b/c\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: websocket/\r\n", false),
            ("Connection: Upgrade\r\nUpgrade: caf\u{e9}\r\n", false),
            (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
                false,
            ),
            (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
                false,
            ),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let mut list = Vec::new();
            head::request(text.as_bytes(), &mut list, 32).unwrap();
            let (body, _) = of_request(text.as_bytes(), &list, Version::Http11).unwrap();
            assert_eq!(
                asked_upgrade(text.as_bytes(), &list, Version::Http11, body).is_some(),
                want,
                "{fields:?}"
            );
        }
    }
}
