//! Opens the page that helps a device to trust the local authority, for a while. Asked by the owner over the control socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::control::{Answer, Failed};
use super::run::Site;
use super::scrape::stamp;
use super::start::Running;
use crate::base::host::Host;
use crate::flow::Opened;
use crate::observe::Event;
use crate::plan::Listener;
use crate::web;

/// Longer is not a limited time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Opens it for so long, or closes it when that is nothing.
pub(super) fn onboard(running: &Running, site: &Site<'_>, seconds: u64) -> Answer {
    let (shared, now) = (&running.shared, Instant::now());
    if seconds == 0 {
        let was_open = shared.onboard.close(now);
        if was_open {
            shared.log.event(Event::info("onboard_closed"));
        }
        return Ok(json!({ "open": false, "was_open": was_open }));
    }
    let life = Duration::from_secs(seconds);
    if life > LONGEST {
        return Err(Failed::new(2, "the page is opened for 24 hours at most"));
    }
    let plan = shared.live.current();
    let tls = plan.open().filter_map(|listener| listener.tls.as_ref());
    let Some(authority) = tls.filter_map(|tls| tls.authority()).next() else {
        let what = "no listener of this gate has a certificate of the local authority, so there is nothing that a device would have to trust";
        return Err(Failed::new(1, what));
    };
    shared.onboard.open(Opened {
        until: now + life,
        certificate: authority.root_der().to_vec(),
        fingerprint: authority.fingerprint(),
    });
    let until = stamp(SystemTime::now() + life);
    shared
        .log
        .event(Event::info("onboard_opened").with("until", &until));
    Ok(json!({
        "open": true,
        "until": until,
        "fingerprint_sha256": authority.fingerprint(),
        "urls": urls(running, site, signs, web::ONBOARD),
    }))
}

fn signs(listener: &Listener) -> bool {
    let tls = listener.tls.as_ref();
    tls.is_some_and(|tls| tls.authority().is_some())
}

/// Where it is reached, best first: the names of routes, this network, this machine. Only what the gate answers to.
pub(super) fn urls(
    running: &Running,
    site: &Site<'_>,
    is_wanted: impl Fn(&Listener) -> bool,
    path: &str,
) -> Vec<String> {
    let plan = running.shared.live.current();
    // A listener is found by its address in the plan, whose port may be 0, and reached at the real one.
    let own = |(planned, bound): (SocketAddr, SocketAddr)| {
        let listener = plan.rules(planned, planned)?;
        is_wanted(listener).then_some(bound)
    };
    let bound: Vec<SocketAddr> = running.bound().filter_map(own).collect();
    let machine = &site.machine;
    let is_lan = |ip: &IpAddr| machine.this_lan.iter().any(|net| net.contains(ip));
    let is_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(six) if six.is_unicast_link_local());
    let names = plan
        .written
        .route
        .iter()
        .flat_map(|route| route.hosts.iter().cloned());
    let lan = machine
        .addresses
        .iter()
        .filter(|ip| is_lan(ip) && !is_link(ip));
    let hosts = names
        .chain(lan.map(ToString::to_string))
        .chain(machine.names.iter().cloned());
    let mut urls = Vec::new();
    let mut seen = BTreeSet::new();
    for host in hosts {
        let Ok(parsed) = Host::parse(&host) else {
            continue;
        };
        for at in &bound {
            let is_there = match &parsed {
                Host::Ip(ip) => {
                    at.ip() == *ip || (at.ip().is_unspecified() && at.is_ipv4() == ip.is_ipv4())
                }
                Host::Name(_) => true,
            };
            let written = match &parsed {
                Host::Ip(ip) => SocketAddr::new(*ip, at.port()).to_string(),
                Host::Name(name) => format!("{name}:{}", at.port()),
            };
            if is_there && plan.site.table.knows(&parsed, at.ip()) && seen.insert(written.clone()) {
                urls.push(format!("https://{written}{path}"));
            }
        }
    }
    urls
}
