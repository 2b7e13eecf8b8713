//! The answer's head as the client sees it, written anew.

use super::intake::Line;
use super::outbound::own_rest;
use crate::auth::cookie::is_about_a_gate;
use crate::base::text;
use crate::http1::field::{Name, has_token, tokens};
use crate::http1::framing::Body;
use crate::plan::Route;

/// How an answer's fields are passed on.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// The route, for `host_header = "upstream"`.
    pub route: &'a Route,
    /// Our scheme and host as the client knows them.
    pub scheme: &'static str,
    /// Host with port, as the client wrote it.
    pub host: &'a str,
    /// A session cookie to set.
    pub set_cookie: Option<&'a str>,
}

impl Inbound<'_> {
    /// Every field that passes, hop-by-hop ones and framing left out.
    pub fn fields<'a>(
        &self,
        lines: impl Iterator<Item = Line<'a>> + Clone,
        mut put: impl FnMut(&[u8], &[u8]),
    ) {
        let named = lines
            .clone()
            .filter(|l| l.known == Name::Connection)
            .map(|l| l.value);
        let has_named = named.clone().any(|v| {
            tokens(v).any(|t| {
                !t.eq_ignore_ascii_case(b"close") && !t.eq_ignore_ascii_case(b"keep-alive")
            })
        });
        for line in lines {
            if has_named
                && line.known == Name::Other
                && named
                    .clone()
                    .any(|v| std::str::from_utf8(line.name).is_ok_and(|n| has_token(v, n)))
            {
                continue;
            }
            match line.known {
                Name::Connection
                | Name::ContentLength
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Te
                | Name::Hop => {}
                Name::Location | Name::ContentLocation | Name::Refresh if self.route.local_mode => {
                    match self.mapped(line.value, line.known == Name::Refresh) {
                        Some(value) => put(line.name, value.as_bytes()),
                        None => put(line.name, line.value),
                    }
                }
                Name::SetCookie if is_about_a_gate(line.value) => {}
                Name::SetCookie if self.route.local_mode => {
                    match without_domain(line.value, self.route.upstream.host()) {
                        Some(value) => put(line.name, &value),
                        None => put(line.name, line.value),
                    }
                }
                _ => put(line.name, line.value),
            }
        }
        if let Some(cookie) = self.set_cookie {
            put(b"set-cookie", cookie.as_bytes());
        }
    }

    /// A URL on the upstream's own host becomes one on ours. `Refresh` has it behind `url=`, with or without quotes.
    fn mapped(&self, value: &[u8], is_refresh: bool) -> Option<String> {
        let text = std::str::from_utf8(value).ok()?;
        let at = if is_refresh { refresh_url(text)? } else { 0 };
        let (before, url) = text.split_at(at);
        let rest = own_url(url, self.route.upstream.host())?;
        // Without a scheme it takes that of the page, which is ours.
        let scheme = match url.starts_with("//") {
            true => String::new(),
            false => format!("{}:", self.scheme),
        };
        Some(format!("{before}{scheme}//{}{rest}", self.host))
    }
}

/// Where the URL of a `Refresh` begins: `0; url='http://…'`.
fn refresh_url(text: &str) -> Option<usize> {
    let at = text.to_ascii_lowercase().find("url=")? + 4;
    let rest = text[at..].trim_start();
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    Some(text.len() - rest.len())
}

/// What follows the origin in a URL that leads to the upstream itself, by any name that it goes by on this machine. `host` is the
/// one that we call it by, port included.
fn own_url<'u>(url: &'u str, host: &str) -> Option<&'u str> {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let with_port = |name: &str| match port {
        "" => name.to_owned(),
        port => format!("{name}:{port}"),
    };
    for name in ["127.0.0.1", "localhost", "[::1]"] {
        for (scheme, default) in [("http", "80"), ("https", "443"), ("", "")] {
            let bare = (port == default && !port.is_empty()).then(|| name.to_owned());
            for host in [Some(with_port(name)), bare].into_iter().flatten() {
                let rest = match scheme {
                    "" => relative_rest(url, &host),
                    scheme => own_rest(url.as_bytes(), scheme, &host),
                };
                if let Some(rest) = rest {
                    return Some(rest);
                }
            }
        }
    }
    None
}

/// The same for `//host/path`.
fn relative_rest<'u>(url: &'u str, host: &str) -> Option<&'u str> {
    let rest = url.strip_prefix("//")?;
    let named = rest.get(..host.len())?;
    let rest = &rest[host.len()..];
    (named.eq_ignore_ascii_case(host) && (rest.is_empty() || rest.starts_with(['/', '?', '#'])))
        .then_some(rest)
}

/// A cookie whose `Domain` is the upstream's own host becomes a host-only cookie.
fn without_domain(value: &[u8], host: &str) -> Option<Vec<u8>> {
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let ours = |part: &[u8]| {
        let Some((name, domain)) = std::str::from_utf8(part)
            .ok()
            .and_then(|p| p.split_once('='))
        else {
            return false;
        };
        let domain = domain.trim().trim_start_matches('.');
        name.trim().eq_ignore_ascii_case("domain")
            && (domain.eq_ignore_ascii_case(host)
                || domain.eq_ignore_ascii_case("localhost")
                || domain == "127.0.0.1")
    };
    if !value.split(|c| *c == b';').any(ours) {
        return None;
    }
    Some(
        value
            .split(|c| *c == b';')
            .filter(|part| !ours(part))
            .collect::<Vec<_>>()
            .join(&b';'),
    )
}

/// Writes a head for an HTTP/1.x client. `body` is the framing towards the client; `Body::Close` also says `Connection: close`.
pub fn begin(out: &mut Vec<u8>, status: u16, phrase: &[u8]) {
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    text::number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

/// Writes the framing and the empty line.
pub fn end(out: &mut Vec<u8>, body: Body, announced: Option<u64>, close: bool) {
    match (body, announced) {
        (Body::Length(n), _) | (Body::None, Some(n)) => {
            out.extend_from_slice(b"Content-Length: ");
            text::number(out, n);
            out.extend_from_slice(b"\r\n");
        }
        (Body::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (Body::None, None) | (Body::Close, _) => {}
    }
    if close || body == Body::Close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_the_upstream_itself_are_ours() {
        for (url, host, want) in [
            ("http://localhost:3000/a?b", "localhost:3000", Some("/a?b")),
            ("http://127.0.0.1:3000/", "localhost:3000", Some("/")),
            ("https://[::1]:3000", "localhost:3000", Some("")),
            ("HTTP://LOCALHOST:3000/x", "localhost:3000", Some("/x")),
            ("//localhost:3000/a", "localhost:3000", Some("/a")),
            ("//localhost:3000.evil/a", "localhost:3000", None),
            ("http://localhost:30001/", "localhost:3000", None),
            ("http://localhost:3000@evil/", "localhost:3000", None),
            ("http://localhost/", "localhost:3000", None),
            ("http://localhost/", "localhost:80", Some("/")),
            ("https://localhost/", "localhost:80", None),
            ("https://localhost/x", "localhost:443", Some("/x")),
            ("http://localhost/x", "localhost", Some("/x")),
            ("http://other.lan:3000/", "localhost:3000", None),
            ("/a", "localhost:3000", None),
            ("", "localhost:3000", None),
        ] {
            assert_eq!(own_url(url, host), want, "{url} at {host}");
        }
    }

    #[test]
    fn the_url_of_a_refresh_is_found_in_every_spelling() {
        for (text, want) in [
            ("0; url=http://a/", Some("http://a/")),
            ("5;URL= http://a/", Some("http://a/")),
            ("0; url='http://a/'", Some("http://a/'")),
            ("0; Url=\"http://a/\"", Some("http://a/\"")),
            ("30", None),
            ("0; url=", Some("")),
        ] {
            assert_eq!(refresh_url(text).map(|at| &text[at..]), want, "{text}");
        }
    }

    #[test]
    fn a_cookie_for_the_upstreams_host_becomes_ours_alone() {
        for (cookie, want) in [
            ("a=b; Domain=localhost; Path=/x", Some("a=b; Path=/x")),
            ("a=b; domain=.127.0.0.1", Some("a=b")),
            ("a=b; Domain=example.com", None),
            ("a=b; Path=/", None),
        ] {
            let got = without_domain(cookie.as_bytes(), "localhost:3000");
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{cookie}");
        }
    }
}
