//! The two fields by which proxies name a client, as text: `X-Forwarded-For` and `Forwarded` (RFC 7239). Only reads; whom to
//! believe is decided in `client`.

use std::net::{IpAddr, Ipv6Addr};

use crate::base::cidr::fold;

/// The entries of an `X-Forwarded-For` value, as they stand; every one between two commas counts, empty or not.
pub fn entries(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|c| *c == b',').map(<[u8]>::trim_ascii)
}

/// The address of one entry: bare, or with a port (an IPv6 address with a port stands in brackets). `None` for everything else:
/// names, `unknown`, zones.
pub fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return host(address);
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (six, port) = rest.split_once(']')?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':')?),
            };
            (IpAddr::from(six.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (four, port) = text.split_once(':')?;
            (IpAddr::V4(four.parse().ok()?), Some(port))
        }
    };
    let plain =
        |port: &str| port.bytes().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host(address).filter(|_| port.is_none_or(plain))
}

/// An address that a host can have.
fn host(address: IpAddr) -> Option<IpAddr> {
    let address = fold(address);
    let broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
    (!address.is_unspecified() && !address.is_multicast() && !broadcast).then_some(address)
}

/// The `for` of every element of a `Forwarded` value, in its order; `None` where an element names no address. `Err` when the
/// value is not exactly of the form of RFC 7239, section 4: where one quotation mark too many stands, everything behind it
/// could be read in two ways.
pub fn elements(value: &[u8]) -> Result<Vec<Option<IpAddr>>, &'static str> {
    let mut rest = value.trim_ascii();
    let mut found = Vec::new();
    loop {
        let mut named = None;
        loop {
            let (pair, after) = pair(rest)?;
            rest = after;
            if let Some((name, node)) = pair
                && name.eq_ignore_ascii_case(b"for")
                && named.replace(address(&node)).is_some()
            {
                return Err("Forwarded names two clients in one element");
            }
            match rest.split_first() {
                Some((b';', after)) => rest = after.trim_ascii_start(),
                _ => break,
            }
        }
        found.push(named.flatten());
        match rest.split_first() {
            None => return Ok(found),
            Some((b',', after)) => rest = after.trim_ascii_start(),
            Some(_) => return Err("Forwarded is not a list of pairs"),
        }
    }
}

type Pair<'a> = Option<(&'a [u8], Vec<u8>)>;

/// The pair at the start, if one is there, and what follows it without white space.
fn pair(text: &[u8]) -> Result<(Pair<'_>, &[u8]), &'static str> {
    let text = text.trim_ascii_start();
    let end = text
        .iter()
        .position(|c| !is_token(*c))
        .unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let (name, rest) = text.split_at(end);
    let rest = rest
        .strip_prefix(b"=")
        .ok_or("a name without a value in Forwarded")?;
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(quoted) => self::quoted(quoted)?,
        None => {
            let end = rest
                .iter()
                .position(|c| !is_token(*c))
                .unwrap_or(rest.len());
            (rest[..end].to_vec(), &rest[end..])
        }
    };
    Ok((Some((name, value)), rest.trim_ascii_start()))
}

/// What stands up to the closing quotation mark, and what follows that.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, c)) = bytes.next() {
        match c {
            b'"' => return Ok((value, &text[at + 1..])),
            b'\\' => value.extend(bytes.next().map(|(_, c)| *c)),
            c => value.push(*c),
        }
    }
    Err("a quotation mark in Forwarded that is not closed")
}

fn is_token(c: u8) -> bool {
    crate::http1::field::is_token(&[c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_with_and_without_ports_and_nothing_else() {
        for (text, want) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("10.1.2.3:443", Some("10.1.2.3")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]", Some("2001:db8::7")),
            ("[2001:db8::7]:443", Some("2001:db8::7")),
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
            ("[::ffff:10.1.2.3]:1", Some("10.1.2.3")),
            ("", None),
            ("unknown", None),
            ("_hidden", None),
            ("app.lan", None),
            ("010.1.2.3", None),
            ("10.1.2", None),
            ("10.1.2.3.4", None),
            ("10.1.2.3/32", None),
            ("10.1.2.3 10.1.2.4", None),
            ("10.1.2.3:", None),
            ("10.1.2.3:65536", None),
            ("10.1.2.3:+1", None),
            ("fe80::1%eth0", None),
            ("[10.1.2.3]", None),
            ("[2001:db8::7", None),
            ("2001:db8::7]", None),
            ("[2001:db8::7]443", None),
            ("[2001:db8::7]:x", None),
            ("0.0.0.0", None),
            ("::", None),
            ("224.0.0.1", None),
            ("255.255.255.255", None),
            ("\"10.1.2.3\"", None),
            ("\u{661}0.1.2.3", None),
        ] {
            let want = want.map(|w| w.parse().unwrap());
            assert_eq!(address(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn reads_elements_or_refuses_the_whole() {
        let four = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (text, want) in [
            ("for=10.1.2.3", Ok(vec![four("10.1.2.3")])),
            (
                "For=10.1.2.3;proto=https;by=10.0.0.1",
                Ok(vec![four("10.1.2.3")]),
            ),
            (
                "proto=http ; for=\"10.1.2.3:80\"",
                Ok(vec![four("10.1.2.3")]),
            ),
            (
                "for=\"[2001:db8::7]:80\", for=10.0.0.2",
                Ok(vec![four("2001:db8::7"), four("10.0.0.2")]),
            ),
            ("for=\"10.1.2\\.3\"", Ok(vec![four("10.1.2.3")])),
            (
                "for=\"a, for=10.6.6.6\", for=10.0.0.2",
                Ok(vec![None, four("10.0.0.2")]),
            ),
            ("for=unknown, for=_x", Ok(vec![None, None])),
            ("proto=https", Ok(vec![None])),
            ("", Ok(vec![None])),
            (",", Ok(vec![None, None])),
            ("for=10.1.2.3;", Ok(vec![four("10.1.2.3")])),
            ("for=10.1.2.3;for=10.1.2.4", Err(())),
            ("for=\"10.1.2.3", Err(())),
            ("for=\"10.1.2.3\\", Err(())),
            ("for=10.1.2.3 for=10.1.2.4", Err(())),
            ("for 10.1.2.3", Err(())),
            ("for=[2001:db8::7]", Err(())),
            ("for =10.1.2.3", Err(())),
            ("for=\"10.1.2.3\"x", Err(())),
            ("=10.1.2.3", Err(())),
        ] {
            assert_eq!(elements(text.as_bytes()).map_err(drop), want, "{text}");
        }
    }
}
