//! The authority of a request (RFC 9110, 7.2): strict, lower case, one meaning.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host: a DNS name in lower case without its final dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name; `localhost` is one.
    Name(Cow<'a, str>),
    /// An IPv4 address or a bracketed IPv6 address; mapped ones are folded.
    Ip(IpAddr),
}

/// `host [":" port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, when one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads an authority. `Err` says in constant text what is wrong; there is no lenient reading.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (host, port) = split_port(text)?;
        let port = match port {
            None => None,
            Some(digits) => {
                let strict = digits.len() <= 5
                    && !digits.starts_with('0')
                    && digits.bytes().all(|c| c.is_ascii_digit());
                let port = digits.parse::<u16>().ok().filter(|p| strict && *p > 0);
                Some(port.ok_or("the port of the host is not a number from 1 to 65535")?)
            }
        };
        Ok(Self {
            host: Host::parse(host)?,
            port,
        })
    }
}

/// Splits at the colon of the port; brackets keep an IPv6 address together.
fn split_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if text.starts_with('[') {
        let end = text
            .find(']')
            .ok_or("the bracket of the host is not closed")?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("the host goes on after its bracket"),
        };
    }
    Ok(text
        .split_once(':')
        .map_or((text, None), |(host, port)| (host, Some(port))))
}

impl<'a> Host<'a> {
    /// Reads a host without a port.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner
                .strip_suffix(']')
                .ok_or("the bracket of the host is not closed")?;
            let address: Ipv6Addr = inner
                .parse()
                .map_err(|_| "the bracketed host is not an IPv6 address")?;
            return Ok(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err("the host is empty or longer than 253 characters");
        }
        let mut upper = false;
        let mut before = b'.';
        for c in name.bytes() {
            match c {
                b'A'..=b'Z' => upper = true,
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
                b'.' if before != b'.' => {}
                _ => return Err("the host has a character that no host name has"),
            }
            before = c;
        }
        if before == b'.' {
            return Err("the host has an empty label");
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if last.bytes().all(|c| c.is_ascii_digit())
            || last.starts_with("0x")
            || last.starts_with("0X")
        {
            let address: Ipv4Addr = name
                .parse()
                .map_err(|_| "the host is a number, but not an IPv4 address")?;
            return Ok(Self::Ip(address.into()));
        }
        Ok(Self::Name(if upper {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }))
    }

    /// The same host, owning its text.
    pub fn into_owned(self) -> Host<'static> {
        match self {
            Self::Name(name) => Host::Name(Cow::Owned(name.into_owned())),
            Self::Ip(address) => Host::Ip(address),
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(four)) => four.fmt(f),
            Self::Ip(IpAddr::V6(six)) => write!(f, "[{six}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_one_host_and_refuses_the_rest() {
        for (text, want) in [
            ("app.lan", Some("app.lan None")),
            ("APP.Lan.:8443", Some("app.lan Some(8443)")),
            ("127.0.0.1:80", Some("127.0.0.1 Some(80)")),
            ("[::1]:8443", Some("[::1] Some(8443)")),
            ("[::ffff:10.0.0.1]", Some("10.0.0.1 None")),
            ("my_host", Some("my_host None")),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+80", None),
            ("a:080", None),
            ("a:80:81", None),
            ("a b", None),
            ("a/b", None),
            ("u@a", None),
            ("a..b", None),
            (".a", None),
            ("a%2eb", None),
            ("127.1", None),
            ("0x7f.1", None),
            ("0x7f000001", None),
            ("2130706433", None),
            ("010.0.0.1", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("a,b", None),
            ("ä.de", None),
        ] {
            let got = Authority::parse(text)
                .ok()
                .map(|a| format!("{} {:?}", a.host, a.port));
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
