//! Whether a request for the admin address names this machine's loopback. A name that an attacker controls can resolve to
//! 127.0.0.1 (DNS rebinding); it is not written like one of these.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

/// Whether a page of another site asks: by what browsers say about it, and by `Origin` where they say nothing, because they are old
/// or because the address is not one that they trust. A program that asks for itself sends neither.
pub(super) fn is_of_another_site(fields: &HeaderMap) -> bool {
    let own: [&[u8]; 2] = [b"none", b"same-origin"];
    let mut sites = fields.get_all("sec-fetch-site").iter().peekable();
    if sites.peek().is_some() {
        return sites.any(|site| !own.contains(&site.as_bytes()));
    }
    let host = fields.get(HOST).map(HeaderValue::as_bytes);
    let mut origins = fields.get_all(ORIGIN).iter().map(HeaderValue::as_bytes);
    origins.any(|origin| {
        let named = origin.strip_prefix(b"http://");
        !named
            .zip(host)
            .is_some_and(|(named, host)| named.eq_ignore_ascii_case(host))
    })
}

/// One `Host` field: `localhost` or a loopback address, with or without a port.
pub(super) fn is_loopback<'h>(mut hosts: impl Iterator<Item = &'h HeaderValue>) -> bool {
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let inner = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let address = match inner {
        Some(six) => six.parse().map(IpAddr::V6).ok(),
        None => name.parse().map(IpAddr::V4).ok(),
    };
    address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_is_known_by_either_field() {
        for (fields, want) in [
            (&[][..], false),
            (&[("origin", "http://localhost:9095")], false),
            (&[("origin", "http://LOCALHOST:9095")], false),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "https://localhost:9095")], true),
            (&[("origin", "http://localhost:3000")], true),
            (&[("origin", "null")], true),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
                true,
            ),
        ] {
            let mut map = HeaderMap::new();
            map.insert(HOST, HeaderValue::from_static("localhost:9095"));
            for (name, value) in fields {
                map.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_of_another_site(&map), want, "{fields:?}");
        }
        let mut map = HeaderMap::new();
        map.insert(ORIGIN, HeaderValue::from_static("http://localhost"));
        assert!(is_of_another_site(&map), "no host to compare with");
    }

    #[test]
    fn only_loopback_is_named() {
        for (host, want) in [
            ("localhost", true),
            ("LocalHost:9095", true),
            ("127.0.0.1:9095", true),
            ("127.8.8.8", true),
            ("[::1]:9095", true),
            ("[::1]", true),
            ("rebind.example:9095", false),
            ("localhost.example", false),
            ("192.168.1.5:9095", false),
            ("127.0.0.1.example", false),
            ("localhost:99999", false),
            ("127.1", false),
            ("::1", false),
            ("", false),
        ] {
            let value = HeaderValue::from_str(host).unwrap();
            assert_eq!(is_loopback([&value].into_iter()), want, "{host}");
        }
        let value = HeaderValue::from_static("localhost");
        assert!(!is_loopback([&value, &value].into_iter()));
        assert!(!is_loopback([].into_iter()));
    }
}
