//! What a request asks, read from its line and fields in one pass, the same for both transports.

use super::origin::Origin;
use crate::base::host::Authority;
use crate::base::path::Path;
use crate::base::refusal::Refusal;
use crate::http1::field::{Name, has_token};
use crate::http1::framing::Options;

/// One field line of either transport.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What its name means to us.
    pub known: Name,
    /// An underscore stands where the known name has a hyphen.
    pub underscore: bool,
    /// The name as it came.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// The facts that decide, and nothing else.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    /// The one `Host` field.
    pub host: Option<&'a [u8]>,
    /// The one `Authorization` field.
    pub authorization: Option<&'a [u8]>,
    /// The one `Loopgate-Token` field.
    pub token: Option<&'a [u8]>,
    /// There is a `Cookie` field.
    pub has_cookie: bool,
    /// `Accept` names `text/html`.
    pub accepts_html: bool,
    /// `Accept` names `application/json`.
    pub accepts_json: bool,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a [u8]>,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Option<&'a [u8]>,
    /// `Sec-WebSocket-Key`.
    pub websocket_key: Option<&'a [u8]>,
    /// `Destination`: the second path of a WebDAV request.
    pub destination: Option<&'a [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The client takes trailers.
    pub trailers: bool,
    /// Through how many gates it has come, as whoever sent it says: it can only be refused for that.
    pub hops: u8,
}

impl<'a> Facts<'a> {
    /// One pass over the fields.
    pub fn read(lines: impl Iterator<Item = Line<'a>>) -> Result<Self, Refusal> {
        let mut facts = Self::default();
        let mut options = Options::default();
        for line in lines {
            if line.known == Name::Connection {
                options.add(line.value).map_err(Refusal::bad)?;
            }
            let sensitive = matches!(
                line.known,
                Name::Host | Name::Authorization | Name::Cookie | Name::Upgrade | Name::Connection
            );
            if line.underscore && sensitive {
                return Err(Refusal::bad(
                    "an underscore in the name of a field that decides",
                ));
            }
            // Such a field is left out on the way, so it must not count here either.
            if line.underscore {
                continue;
            }
            let (slot, twice) = match line.known {
                Name::Host => (&mut facts.host, "two Host fields"),
                Name::Authorization => (&mut facts.authorization, "two Authorization fields"),
                Name::LoopgateToken => (&mut facts.token, "two Loopgate-Token fields"),
                Name::Destination => (&mut facts.destination, "two Destination fields"),
                Name::Origin => (&mut facts.origin, "two Origin fields"),
                Name::SecFetchSite => (&mut facts.fetch_site, "two Sec-Fetch-Site fields"),
                Name::SecFetchMode => (&mut facts.fetch_mode, "two Sec-Fetch-Mode fields"),
                Name::SecWebsocketKey => (&mut facts.websocket_key, "two Sec-WebSocket-Key fields"),
                Name::UserAgent => {
                    facts.user_agent = Some(line.value);
                    continue;
                }
                Name::Cookie => {
                    facts.has_cookie = true;
                    continue;
                }
                Name::Accept => {
                    facts.accepts_html |= memchr::memmem::find(line.value, b"text/html").is_some();
                    facts.accepts_json |= line.value.starts_with(b"application/json");
                    continue;
                }
                Name::Hops => {
                    let said = std::str::from_utf8(line.value).ok();
                    facts.hops = said.and_then(|n| n.parse().ok()).unwrap_or(facts.hops);
                    continue;
                }
                Name::Te => {
                    facts.trailers |= has_token(line.value, "trailers");
                    continue;
                }
                _ => continue,
            };
            if slot.replace(line.value).is_some() {
                return Err(Refusal::bad(twice));
            }
        }
        Ok(facts)
    }
}

/// A request as it is judged.
#[derive(Debug)]
pub struct Intake<'a> {
    /// The method.
    pub method: &'a str,
    /// The origin-form target, byte for byte as it came (or `*`).
    pub target: &'a str,
    /// Host and port as text, as they came.
    pub host: &'a str,
    /// The same, read.
    pub authority: Authority<'a>,
    /// The path as it is judged.
    pub path: Path<'a>,
    /// The facts of the fields.
    pub facts: Facts<'a>,
    /// Where it comes from.
    pub origin: Origin,
}

impl<'a> Intake<'a> {
    /// Reads target and host together: an absolute target must name the same authority as `Host` (RFC 9112, 3.2.2).
    pub fn read(
        method: &'a str,
        target: &'a str,
        host: &'a [u8],
        facts: Facts<'a>,
        origin: Origin,
    ) -> Result<Self, Refusal> {
        if target
            .bytes()
            .any(|c| !matches!(c, b'!'..=b'~') || c == b'#')
        {
            return Err(Refusal::bad(
                "the target has a control byte, a space, a fragment or a byte above ASCII",
            ));
        }
        if method == "CONNECT" {
            return Err(Refusal::bad("CONNECT"));
        }
        let host = std::str::from_utf8(host)
            .map_err(|_| Refusal::bad("the host has bytes above ASCII"))?;
        let authority = Authority::parse(host).map_err(Refusal::bad)?;
        let target = origin_form(method, target, &authority)?;
        let raw = target.split_once('?').map_or(target, |(path, _)| path);
        let path = Path::parse(if raw == "*" { "/" } else { raw }).map_err(Refusal::bad)?;
        Ok(Self {
            method,
            target,
            host,
            authority,
            path,
            facts,
            origin,
        })
    }

    /// A browser that opens a page: GET that accepts HTML.
    pub fn is_navigation(&self) -> bool {
        self.method == "GET" && self.facts.accepts_html && self.facts.websocket_key.is_none()
    }

    /// The query string.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

fn origin_form<'a>(
    method: &str,
    target: &'a str,
    host: &Authority<'_>,
) -> Result<&'a str, Refusal> {
    if target.starts_with('/') {
        return Ok(target);
    }
    if target == "*" {
        return if method == "OPTIONS" {
            Ok(target)
        } else {
            Err(Refusal::bad("a target `*` without OPTIONS"))
        };
    }
    let lower = |scheme: &str| {
        target
            .get(..scheme.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    };
    let rest = ["https://", "http://"]
        .iter()
        .find(|s| lower(s))
        .map(|s| &target[s.len()..]);
    let Some(rest) = rest else {
        return Err(Refusal::bad(
            "a target that is neither a path nor an absolute http URL",
        ));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let named = Authority::parse(&rest[..end]).map_err(Refusal::bad)?;
    if named != *host {
        return Err(Refusal::bad(
            "an absolute target that names another host than Host does",
        ));
    }
    match &rest[end..] {
        "" => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(Refusal::bad("an absolute target without a path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_and_host_are_read_in_one_way() {
        for (method, target, host, want) in [
            ("GET", "/a?b=/../c", "app.lan", Some("/a?b=/../c")),
            ("GET", "https://app.lan/a", "app.lan", Some("/a")),
            ("GET", "HTTPS://APP.lan:8443/a", "app.lan:8443", Some("/a")),
            ("GET", "https://app.lan", "app.lan", Some("/")),
            ("OPTIONS", "*", "app.lan", Some("*")),
            ("GET", "*", "app.lan", None),
            ("GET", "https://other.lan/a", "app.lan", None),
            ("GET", "https://app.lan:1/a", "app.lan:2", None),
            ("GET", "https://u@app.lan/a", "app.lan", None),
            ("GET", "https://app.lan?x", "app.lan", None),
            ("GET", "ftp://app.lan/a", "app.lan", None),
            ("GET", "app.lan:80", "app.lan", None),
            ("GET", "a/b", "app.lan", None),
            ("GET", "/a#b", "app.lan", None),
            ("GET", "/a\u{e9}", "app.lan", None),
            ("GET", "/a", "", None),
            ("GET", "/a", "app.lan, b.lan", None),
            ("CONNECT", "app.lan:443", "app.lan:443", None),
        ] {
            let origin = Origin {
                client: crate::gate::Client::of_connection(
                    [127, 0, 0, 1].into(),
                    [127, 0, 0, 1].into(),
                ),
                scheme: "https",
            };
            let got = Intake::read(method, target, host.as_bytes(), Facts::default(), origin);
            assert_eq!(got.ok().map(|i| i.target), want, "{method} {target} {host}");
        }
    }
}
