//! The request as the upstream sees it, written anew: nothing of the client's framing, no claim that only a proxy may make,
//! and no credential that was ours.

use std::borrow::Cow;
use std::cell::RefCell;

use super::intake::{Intake, Line};
use crate::access::Permit;
use crate::auth::Method;
use crate::auth::cookie::{self, Stripped};
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
                    None => put(line.name, line.value),
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
    let rest = value.strip_prefix(scheme)?.strip_prefix("://")?;
    let named = rest.get(..host.len())?;
    let rest = &rest[host.len()..];
    (named.eq_ignore_ascii_case(host) && (rest.is_empty() || rest.starts_with(['/', '?', '#'])))
        .then_some(rest)
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
