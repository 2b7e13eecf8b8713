//! Links that log one visitor in: made, listed and revoked by the owner over the control socket.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::control::{Answer, Failed};
use super::onboard::urls;
use super::run::Site;
use super::scrape::stamp;
use super::start::Running;
use crate::auth::share::Limits;
use crate::base::host::{Authority, Host};
use crate::base::path::Path;
use crate::observe::Event;
use crate::plan::Plan;
use crate::web;

/// Links live in memory; a visitor for longer is a user.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Makes a link.
pub(super) fn share(
    running: &Running,
    site: &Site<'_>,
    (seconds, path, host): (u64, &str, Option<&str>),
) -> Answer {
    let (shared, plan) = (&running.shared, running.shared.live.current());
    let life = Duration::from_secs(seconds);
    if life.is_zero() || life > LONGEST {
        return Err(Failed::new(2, "a link is good for a second to 7 days"));
    }
    let limits = Limits {
        host: chosen(&plan, host)?,
        path: prefix(path)?,
    };
    let all = urls(running, site, |listener| listener.tls.is_some(), "");
    let all = all.into_iter().filter(|url| match &limits.host {
        // `https://host:port`; the port stands behind the last colon.
        Some(host) => {
            let place = url.strip_prefix("https://").unwrap_or(url);
            place.rsplit_once(':').is_some_and(|(own, _)| own == host)
        }
        None => true,
    });
    let all: Vec<String> = all.collect();
    if all.is_empty() {
        let what = "there is no https address of this gate for such a link";
        return Err(Failed::new(1, what));
    }
    reachable(&plan, &all, &limits.path)?;
    let wall = SystemTime::now();
    let made = shared
        .shares
        .open(limits.clone(), life, Instant::now(), wall);
    let (id, secret) = made.map_err(|full| Failed::new(1, full.to_string()))?;
    let until = stamp(wall + life);
    let event = Event::info("share_made")
        .with("id", &id)
        .with("until", &until);
    shared.log.event(event.with("path", &limits.path));
    let link = |url: &String| format!("{url}{}{}", web::SHARE, secret.expose());
    Ok(json!({
        "id": id,
        "until": until,
        "path": limits.path,
        "host": limits.host,
        "urls": all.iter().map(link).collect::<Vec<_>>(),
    }))
}

/// The links that are good.
pub(super) fn list(running: &Running) -> Answer {
    let list = running.shared.shares.list(Instant::now());
    let one = |share: crate::auth::share::Listed| {
        json!({
            "id": share.id,
            "until": stamp(share.ends),
            "path": share.limits.path,
            "host": share.limits.host,
            "used": share.used.map(stamp),
        })
    };
    Ok(json!({ "shares": list.into_iter().map(one).collect::<Value>() }))
}

/// Revokes one, or all; what runs by it ends.
pub(super) fn revoke(running: &Running, id: Option<&str>) -> Answer {
    let gone = running.shared.shares.revoke(id, Instant::now());
    if gone > 0 {
        running.ring();
        let event = Event::info("share_revoked").with("id", id.unwrap_or("all"));
        running.shared.log.event(event);
    }
    match (gone, id) {
        (0, Some(id)) => Err(Failed::new(1, format!("there is no link `{id}`"))),
        _ => Ok(json!({ "revoked": gone })),
    }
}

/// A link that leads where no visitor may go is a mistake that only the visitor would see.
fn reachable(plan: &Plan, urls: &[String], text: &str) -> Result<(), Failed> {
    let Ok(path) = Path::parse(text) else {
        return Ok(());
    };
    let lets = |url: &String| {
        let place = url.strip_prefix("https://").unwrap_or(url);
        let authority = Authority::parse(place).ok()?;
        let local = match authority.host {
            Host::Ip(address) => address,
            Host::Name(_) => IpAddr::from([127, 0, 0, 1]),
        };
        Some(plan.site.lets_visitors(&authority.host, local, &path))
    };
    match urls.iter().any(|url| lets(url).unwrap_or(true)) {
        true => Ok(()),
        false => Err(Failed::new(
            2,
            format!(
                "no visitor may come to `{text}`: its route is for users or groups by name, for nobody, or asks for a certificate; name another one with `--path`"
            ),
        )),
    }
}

/// The host that a link is for. Where routes lead to several services it has to be said, so that a link never opens more than was
/// meant.
fn chosen(plan: &Plan, host: Option<&str>) -> Result<Option<String>, Failed> {
    if let Some(text) = host {
        let host = Host::parse(text)
            .map_err(|what| Failed::new(2, format!("`{text}` is no host: {what}")))?;
        let local = plan.addresses().next().map(|address| address.ip());
        let is_known = local.is_some_and(|local| plan.site.table.knows(&host, local));
        return match is_known {
            true => Ok(Some(host.to_string())),
            false => Err(Failed::new(
                2,
                format!("this gate does not answer to `{host}`"),
            )),
        };
    }
    let services: HashSet<String> = plan
        .routes
        .iter()
        .map(|route| route.upstream.target().to_string())
        .collect();
    let hosts: HashSet<&Vec<String>> = plan
        .written
        .route
        .iter()
        .map(|route| &route.hosts)
        .collect();
    match services.len() > 1 && hosts.len() > 1 {
        true => Err(Failed::new(
            2,
            "this gate has several hosts with several services; say with `--host` which one the link is for",
        )),
        false => Ok(None),
    }
}

fn prefix(text: &str) -> Result<String, Failed> {
    let plain = match text.len() {
        0 | 1 => text,
        _ => text.strip_suffix('/').unwrap_or(text),
    };
    let is_good = Path::parse(plain).is_ok_and(|path| path.doubt.is_none())
        && !plain.contains(['%', '?', '#', '*'])
        && !plain.starts_with("/.loopgate");
    match is_good {
        true => Ok(plain.to_owned()),
        false => Err(Failed::new(
            2,
            format!("`{text}` is no path for a link; write one such as `/photos`"),
        )),
    }
}
