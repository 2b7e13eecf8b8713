//! The request as the upstream sees it, written anew: nothing of the client's framing, no claim that only a proxy may make,
//! and no credential that was ours.

use std::borrow::Cow;
use std::cell::RefCell;

use super::intake::{Intake, Line};
use crate::access::Permit;
use crate::auth::Method;
use crate::auth::cookie::{self, Stripped};
use crate::base::host::{Authority, Host};
use crate::base::id::RequestId;
use crate::base::text;
use crate::http1::field::{Name, has_token, tokens};
use crate::http1::framing::Body;
use crate::plan::Route;

thread_local! {
    /// The text of `X-Forwarded-For` while it is written.
    static CHAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the head is made from, besides the client's fields.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// The request as it was judged.
    pub intake: &'a Intake<'a>,
    /// Why it may pass.
    pub permit: &'a Permit,
    /// Where it goes.
    pub route: &'a Route,
    /// Its id.
    pub id: RequestId,
    /// The body that follows.
    pub body: Body,
    /// The protocol of the tunnel that is asked for.
    pub upgrade: Option<&'a [u8]>,
    /// `Authorization` carried a credential of ours, so it is taken out.
    pub spent: bool,
}

impl Outbound<'_> {
    /// The `Host` that the upstream gets.
    pub fn host(&self) -> &str {
        if self.route.local_mode {
            self.route.upstream.host()
        } else {
            self.intake.host
        }
    }

    /// Whether it may be sent again when the connection that it was sent on proves dead: it changes nothing, and nothing of it
    /// is gone.
    pub fn may_repeat(&self) -> bool {
        self.body.is_empty()
            && self.upgrade.is_none()
            && matches!(self.intake.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }

    /// Writes the head as HTTP/1.1 into `out`, which is cleared first.
    pub fn write<'a>(&self, lines: impl Iterator<Item = Line<'a>> + Clone, out: &mut Vec<u8>) {
        out.clear();
        for part in [
            self.intake.method,
            " ",
            self.intake.target,
            " HTTP/1.1\r\nHost: ",
            self.host(),
            "\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        self.fields(lines, |name, value| field(out, name, value));
        match self.body {
            Body::None => {}
            Body::Length(n) => {
                out.extend_from_slice(b"Content-Length: ");
                text::number(out, n);
                out.extend_from_slice(b"\r\n");
            }
            Body::Chunked | Body::Close => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        if let Some(protocol) = self.upgrade {
            field(out, b"Connection", b"Upgrade");
            field(out, b"Upgrade", protocol);
        } else if self.intake.facts.trailers {
            field(out, b"Connection", b"TE");
            field(out, b"TE", b"trailers");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A token may be limited to methods, so no field may change them behind us.
    fn by_token(&self) -> bool {
        self.permit.who().is_some_and(|who| who.by == Method::Token)
    }

    /// Every field that passes and every one of ours, except host and framing.
    pub fn fields<'a>(
        &self,
        lines: impl Iterator<Item = Line<'a>> + Clone,
        mut put: impl FnMut(&[u8], &[u8]),
    ) {
        let named = lines
            .clone()
            .filter(|l| l.known == Name::Connection)
            .map(|l| l.value);
        let has_named = named
            .clone()
            .any(|v| tokens(v).any(|t| !is_plain_option(t)));
        for line in lines.clone() {
            if has_named && named.clone().any(|v| names(v, line.name)) && is_nameable(line.known) {
                continue;
            }
            self.field(line, &mut put);
        }
        if self.intake.facts.has_cookie {
            self.cookies(lines.clone(), &mut put);
        }
        self.ours(lines, &mut put);
    }

    fn field(&self, line: Line<'_>, put: &mut impl FnMut(&[u8], &[u8])) {
        match line.known {
            Name::Host
            | Name::Connection
            | Name::ContentLength
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Te => {}
            Name::Hop
            | Name::Hops
            | Name::Claim
            | Name::PathOverride
            | Name::LoopgateToken
            | Name::XRequestId => {}
            Name::MethodOverride if self.route.by_method || self.by_token() => {}
            Name::Authorization if self.spent => {}
            Name::Cookie => {}
            Name::Origin | Name::Referer if self.route.local_mode => {
                match self.mapped(line.value) {
                    Some(value) => put(line.name, value.as_bytes()),
                    None if !self.looks_own(line.value) => put(line.name, line.value),
                    // An origin that is nobody's (RFC 6454, 7) stays foreign; a page need not name itself as `Referer`.
                    None if line.known == Name::Origin => put(line.name, b"null"),
                    None => {}
                }
            }
            Name::Destination => match self.destination(line.value) {
                Some(value) => put(line.name, value.as_bytes()),
                None => put(line.name, line.value),
            },
            // CGI, WSGI and Rack read an underscore as a hyphen: no such field passes (nginx does the same).
            _ if line.underscore => {}
            _ => put(line.name, line.value),
        }
    }

    /// The cookies in one field, as HTTP/1.1 has them (RFC 9113, 8.2.3), without those of gates.
    fn cookies<'a>(
        &self,
        lines: impl Iterator<Item = Line<'a>>,
        put: &mut impl FnMut(&[u8], &[u8]),
    ) {
        let mut joined: Cow<'a, [u8]> = Cow::Borrowed(&[]);
        for line in lines.filter(|line| line.known == Name::Cookie) {
            let rest = match cookie::strip(line.value) {
                Stripped::Untouched => Cow::Borrowed(line.value),
                Stripped::Gone => continue,
                Stripped::Rest(rest) => Cow::Owned(rest),
            };
            if joined.is_empty() {
                joined = rest;
            } else {
                let all = joined.to_mut();
                all.extend_from_slice(b"; ");
                all.extend_from_slice(&rest);
            }
        }
        if !joined.is_empty() {
            put(b"Cookie", &joined);
        }
    }

    fn ours<'a>(&self, lines: impl Iterator<Item = Line<'a>>, put: &mut impl FnMut(&[u8], &[u8])) {
        self.chain(put);
        put(b"X-Forwarded-Proto", self.intake.origin.scheme.as_bytes());
        put(b"X-Forwarded-Host", self.forwarded_host(lines).as_bytes());
        put(b"X-Request-Id", self.id.as_str().as_bytes());
        put(b"X-Loopgate-Hops", &[b'1' + self.intake.facts.hops.min(8)]);
        if let Some(who) = self.permit.who() {
            put(b"X-Loopgate-User", who.user.as_bytes());
            if !who.groups.is_empty() {
                put(b"X-Loopgate-Groups", who.groups.as_bytes());
            }
        }
        // An application that answers TRACE shows what it was sent.
        if let Some(secret) = &self.route.secret
            && self.intake.method != "TRACE"
        {
            put(b"X-Loopgate-Secret", secret.expose().as_bytes());
        }
    }

    /// The client and the proxies that are believed, ours last.
    fn chain(&self, put: &mut impl FnMut(&[u8], &[u8])) {
        let client = &self.intake.origin.client;
        CHAIN.with_borrow_mut(|all| {
            all.clear();
            text::address(all, client.address);
            for proxy in &client.through {
                all.extend_from_slice(b", ");
                text::address(all, *proxy);
            }
            put(b"X-Forwarded-For", all);
        });
    }

    /// The name that the client used. Where its `Origin` or `Referer` is mapped, the one that it is mapped to: applications compare them
    /// (Next's server actions, qBittorrent).
    fn forwarded_host<'a>(&self, mut lines: impl Iterator<Item = Line<'a>>) -> &str {
        let is_mapped = |line: Line<'_>| {
            matches!(line.known, Name::Origin | Name::Referer)
                && own_rest(line.value, self.intake.origin.scheme, self.intake.host).is_some()
        };
        match self.route.local_mode && lines.any(is_mapped) {
            true => self.route.upstream.host(),
            false => self.intake.host,
        }
    }

    /// A URL of ours as the upstream knows it; `None` for a foreign one, which stays foreign.
    fn mapped(&self, value: &[u8]) -> Option<String> {
        let rest = own_rest(value, self.intake.origin.scheme, self.intake.host)?;
        Some(format!("{}{rest}", self.route.upstream.origin()))
    }

    /// Whether a URL that is not ours leads to the upstream's port on loopback. It is about another machine, the visitor's, but the
    /// upstream is called by the same name and would take it for its own.
    fn looks_own(&self, value: &[u8]) -> bool {
        leads_to_loopback(value, self.route.upstream.target().address.port())
    }

    /// The URL of a WebDAV MOVE or COPY: the application compares it with its own host and scheme.
    fn destination(&self, value: &[u8]) -> Option<String> {
        let rest = own_rest(value, self.intake.origin.scheme, self.intake.host)?;
        if self.route.local_mode {
            return Some(format!("{}{rest}", self.route.upstream.origin()));
        }
        let scheme = self.route.upstream.origin();
        let scheme = scheme.split_once("://").map_or("http", |(s, _)| s);
        Some(format!("{scheme}://{}{rest}", self.intake.host))
    }
}

/// What follows our own origin in a URL, when it is ours.
pub fn own_rest<'v>(value: &'v [u8], scheme: &str, host: &str) -> Option<&'v str> {
    let value = std::str::from_utf8(value).ok()?;
    // Neither scheme nor host know case (RFC 3986, 6.2.2.1).
    let (named, rest) = value.split_at_checked(scheme.len())?;
    let rest = named
        .eq_ignore_ascii_case(scheme)
        .then(|| rest.strip_prefix("://"))??;
    let named = rest.get(..host.len())?;
    let rest = &rest[host.len()..];
    (named.eq_ignore_ascii_case(host) && (rest.is_empty() || rest.starts_with(['/', '?', '#'])))
        .then_some(rest)
}

/// Whether a URL names loopback and this port, by whatever scheme; `None` is the port that the scheme has by itself.
fn leads_to_loopback(value: &[u8], port: Option<u16>) -> bool {
    let url = std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.split_once("://"));
    let Some((scheme, rest)) = url else {
        return false;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let Ok(named) = Authority::parse(authority) else {
        return false;
    };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    let is_port = match port {
        Some(port) => named.port.or(default) == Some(port),
        None => named.port.is_none() || named.port == default,
    };
    is_port
        && match named.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ip(address) => address.is_loopback() || address.is_unspecified(),
        }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The options of `Connection` that name no field which would otherwise pass.
fn is_plain_option(token: &[u8]) -> bool {
    [
        &b"close"[..],
        b"keep-alive",
        b"upgrade",
        b"te",
        b"http2-settings",
    ]
    .iter()
    .any(|o| token.eq_ignore_ascii_case(o))
}

fn names(value: &[u8], name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| has_token(value, name))
}

/// What `Connection` can take away: fields that are the client's own, never one by which we or the upstream decide.
fn is_nameable(known: Name) -> bool {
    !matches!(
        known,
        Name::Host
            | Name::Authorization
            | Name::Cookie
            | Name::Origin
            | Name::Referer
            | Name::ContentLength
            | Name::SecFetchSite
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_of_the_visitors_own_machine_is_known_in_every_spelling() {
        for (url, port, want) in [
            ("http://localhost:3000", Some(3000), true),
            ("https://LOCALHOST:3000/a?b", Some(3000), true),
            ("http://localhost.:3000", Some(3000), true),
            ("http://app.localhost:3000", Some(3000), true),
            ("http://127.0.0.1:3000", Some(3000), true),
            ("http://127.8.8.8:3000", Some(3000), true),
            ("http://0.0.0.0:3000", Some(3000), true),
            ("http://[::1]:3000/", Some(3000), true),
            ("http://[::ffff:127.0.0.1]:3000", Some(3000), true),
            ("ws://localhost:3000", Some(3000), true),
            ("http://a:b@localhost:3000/", Some(3000), true),
            ("http://localhost", Some(80), true),
            ("https://localhost", Some(443), true),
            ("http://localhost", None, true),
            ("http://localhost:80", None, true),
            ("http://localhost", Some(3000), false),
            ("http://localhost:5173", Some(3000), false),
            ("http://localhost:5173", None, false),
            ("http://localhost:3000.evil.lan", Some(3000), false),
            ("http://localhost:3000@evil.lan", Some(3000), false),
            ("http://evil.lan:3000/localhost:3000", Some(3000), false),
            ("http://192.168.1.5:3000", Some(3000), false),
            ("null", Some(3000), false),
            ("", Some(3000), false),
        ] {
            assert_eq!(leads_to_loopback(url.as_bytes(), port), want, "{url}");
        }
    }

    #[test]
    fn our_own_origin_is_known_in_any_case() {
        for (url, want) in [
            ("https://app.lan:8443/x", Some("/x")),
            ("HTTPS://App.LAN:8443", Some("")),
            ("http://app.lan:8443/x", None),
            ("https://app.lan:8443.evil/", None),
            ("https", None),
            ("é", None),
        ] {
            let rest = own_rest(url.as_bytes(), "https", "app.lan:8443");
            assert_eq!(rest, want, "{url}");
        }
    }
}
