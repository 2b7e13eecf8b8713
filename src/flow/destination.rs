//! `Destination` of a WebDAV MOVE or COPY: a second path in one request, by which the application acts.

use super::intake::Intake;
use super::state::Conn;
use crate::auth::{Method, Who};
use crate::base::host::Authority;
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};
use crate::plan::Plan;

/// Judges it as the request's own path was: it must lead to the same route, and stay under the paths of a token.
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
    if token.is_none() && !table.is_by_path(host, local) {
        return Ok(());
    }
    let path = path(value).ok_or(Refusal::bad(
        "a Destination that is neither a URL nor a path",
    ))?;
    let path = Path::parse(path).map_err(Refusal::bad)?;
    let denied = |detail| Err(Refusal::new(Reason::NotPermitted, detail));
    match table.find(host, local, &path) {
        Ok(found) if found.route == route => {}
        Err(refusal) if refusal.reason == Reason::BadRequest => return Err(refusal),
        Ok(_) | Err(_) => return denied("the Destination leads to another route"),
    }
    let name = token.and_then(|who| who.user.strip_prefix("token:"));
    match name.is_none_or(|name| plan.tokens.covers(name, &path)) {
        true => Ok(()),
        false => denied("the token is not for the path of the Destination"),
    }
}

/// The path in it, whatever host it names.
fn path(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|c| c.is_ascii_alphabetic()) => {
            let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            Authority::parse(&rest[..at]).ok()?;
            if at == rest.len() { "/" } else { &rest[at..] }
        }
        _ => text,
    };
    let path = rest.split('?').next().unwrap_or(rest);
    (path.starts_with('/') && !path.starts_with("//")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_path_or_nothing() {
        for (value, want) in [
            ("/a/b", Some("/a/b")),
            ("/a?b=://c", Some("/a")),
            ("https://app.lan/a", Some("/a")),
            ("http://127.0.0.1:80/a?b", Some("/a")),
            ("https://app.lan", Some("/")),
            ("//app.lan/a", None),
            ("https:///a", None),
            ("https://u@app.lan/a", None),
            ("https://app.lan\\admin/a", None),
            ("https:\\\\app.lan/a", None),
            ("https://app.lan?/a", None),
            ("a", None),
            ("", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(path(value.as_bytes()), want, "{value}");
        }
    }
}
