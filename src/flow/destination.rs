//! `Destination` of a WebDAV MOVE or COPY: a second path in one request, by which the application acts.

use super::intake::Intake;
use super::state::Conn;
use crate::auth::{Method, Who};
use crate::base::host::{Authority, Host};
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};
use crate::plan::Plan;

/// Judges it as the request's own path was: it must lead to the same route, at the host that it names and at the request's own, since
/// an application may look at the path alone; and it must stay under the paths of a token. Another host of ours is judged wherever
/// somebody names it, a foreign one passes only where neither rules by path nor a token ask for more.
pub(super) fn judge(
    conn: &Conn,
    plan: &Plan,
    intake: &Intake<'_>,
    route: usize,
    who: Option<&Who>,
) -> Result<(), Refusal> {
    let Some(value) = intake.facts.destination else {
        return Ok(());
    };
    let (host, local) = (&intake.authority.host, conn.local.ip());
    let token = who.filter(|who| who.by == Method::Token);
    let table = &plan.site.table;
    let named = read(value);
    let other = match &named {
        Named::Path(_) => None,
        Named::Url(there, _) if there == host => None,
        Named::Url(there, _) => Some(there),
        Named::Nothing(false) => None,
        Named::Nothing(true) => return Err(UNREAD),
    };
    let is_ours = other.is_some_and(|there| table.knows(there, local));
    if token.is_none() && !is_ours && !table.is_by_path(host, local) {
        return Ok(());
    }
    if other.is_some() && !is_ours {
        return Err(Refusal::bad("a Destination on a host that is none of ours"));
    }
    let (Named::Path(path) | Named::Url(_, path)) = &named else {
        return Err(UNREAD);
    };
    let path = Path::parse(path).map_err(Refusal::bad)?;
    let denied = |detail| Err(Refusal::new(Reason::NotPermitted, detail));
    for host in other.into_iter().chain([host]) {
        match table.find(host, local, &path) {
            Ok(found) if found == route => {}
            Err(refusal) if refusal.reason == Reason::BadRequest => return Err(refusal),
            Ok(_) | Err(_) => return denied("the Destination leads to another route"),
        }
    }
    let name = token.and_then(|who| who.user.strip_prefix("token:"));
    match name.is_none_or(|name| plan.tokens.covers(name, &path)) {
        true => Ok(()),
        false => denied("the token is not for the path of the Destination"),
    }
}

const UNREAD: Refusal = Refusal::bad("a Destination that is neither a URL nor a path");

/// What a value names.
#[derive(Debug, PartialEq, Eq)]
enum Named<'v> {
    /// A path, at the request's host.
    Path(&'v str),
    /// A host and a path.
    Url(Host<'v>, &'v str),
    /// Neither that we could read; true when it may name a host for somebody else.
    Nothing(bool),
}

fn read(value: &[u8]) -> Named<'_> {
    let has_host = || value.starts_with(b"//") || value.windows(3).any(|three| three == b"://");
    let path = |rest: &'_ str| rest.split('?').next().map_or(0, str::len);
    let Ok(text) = std::str::from_utf8(value) else {
        return Named::Nothing(has_host());
    };
    if text.starts_with('/') && !text.starts_with("//") {
        return Named::Path(&text[..path(text)]);
    }
    let url = text.split_once("://").and_then(|(scheme, rest)| {
        let is_scheme = scheme.bytes().all(|c| c.is_ascii_alphabetic());
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(at);
        let rest = if rest.is_empty() { "/" } else { rest };
        let is_path = rest.starts_with('/') && !rest.starts_with("//");
        let there = Authority::parse(authority)
            .ok()
            .filter(|_| is_scheme && is_path)?;
        Some(Named::Url(there.host, &rest[..path(rest)]))
    });
    url.unwrap_or_else(|| Named::Nothing(has_host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_host_and_path_or_nothing() {
        let there = |host, path| Named::Url(Host::parse(host).unwrap(), path);
        for (value, want) in [
            ("/a/b", Named::Path("/a/b")),
            ("/a?b=://c", Named::Path("/a")),
            ("https://app.lan/a", there("app.lan", "/a")),
            ("HTTPS://App.Lan:8443/a", there("app.lan", "/a")),
            ("http://127.0.0.1:80/a?b", there("127.0.0.1", "/a")),
            ("https://app.lan", there("app.lan", "/")),
            ("//app.lan/a", Named::Nothing(true)),
            ("https:///a", Named::Nothing(true)),
            ("https://app.lan//a", Named::Nothing(true)),
            ("https://u@app.lan/a", Named::Nothing(true)),
            ("https://app.lan\\admin/a", Named::Nothing(true)),
            ("https:\\\\app.lan/a", Named::Nothing(false)),
            ("https://app.lan?/a", Named::Nothing(true)),
            ("h2+x://app.lan/a", Named::Nothing(true)),
            ("a", Named::Nothing(false)),
            ("", Named::Nothing(false)),
            ("\u{e9}", Named::Nothing(false)),
        ] {
            assert_eq!(read(value.as_bytes()), want, "{value}");
        }
        assert_eq!(read(b"https://app.lan/\xe9"), Named::Nothing(true));
    }
}
