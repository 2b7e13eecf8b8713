//! All metrics as text: what data threads have counted, and how things are now.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use crate::flow::Shared;
use crate::observe::metrics::Text;
use crate::plan::Plan;

/// The answer to a scrape.
pub(super) fn scrape(shared: &Shared) -> String {
    let plan = shared.live.current();
    let mut text = Text::default();
    shared.metrics.write(&mut text);
    let open = shared.open.all() as u64;
    text.one("loopgate_upstream_connections", &[], open);
    let locked = shared.lockout.banned_clients(Instant::now());
    text.one("loopgate_locked_clients", &[], locked as u64);
    for (name, (until, _)) in certificates(&plan) {
        let at = unix(until);
        text.one(
            "loopgate_certificate_not_after_seconds",
            &[("name", &name)],
            at,
        );
    }
    for (label, is_exposed) in exposure(&plan) {
        text.one(
            "loopgate_upstream_exposed",
            &[("route", label)],
            u64::from(is_exposed),
        );
    }
    for (label, is_unknown) in unknown(&plan) {
        text.one(
            "loopgate_upstream_exposure_unknown",
            &[("route", label)],
            u64::from(is_unknown),
        );
    }
    text.one("loopgate_log_lines_lost_total", &[], shared.log.lost());
    process(&mut text, shared.metrics.started);
    text.into_string()
}

/// The name of the local authority among the certificates.
pub(super) const ROOT: &str = "local-ca";

/// Every certificate of the plan with its last moment, and whether we sign it; where listeners share a name, the one that ends
/// first.
pub(super) fn certificates(plan: &Plan) -> BTreeMap<String, (SystemTime, bool)> {
    let mut all = BTreeMap::new();
    let listeners = plan.listeners.iter().filter_map(|l| l.tls.as_ref());
    for (name, until, is_own) in listeners.flat_map(|tls| tls.certificates()) {
        let first = all.entry(name).or_insert((until, is_own));
        *first = (until, is_own).min(*first);
    }
    all
}

/// A moment as people and programs read it: RFC 3339 in UTC, to the second.
pub(super) fn stamp(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default();
    format!("{at:.0}")
}

/// Every route by its label, and whether its service can be reached around the gate. Two routes may have one label (their
/// first hosts are the same): then one exposed service is enough.
pub(super) fn exposure(plan: &Plan) -> BTreeMap<&str, bool> {
    let mut all = BTreeMap::new();
    for route in &plan.routes {
        *all.entry(&*route.label).or_default() |= route.upstream.is_exposed();
    }
    all
}

/// Every route by its label, and whether it cannot be told who can reach its service.
fn unknown(plan: &Plan) -> BTreeMap<&str, bool> {
    let mut all = BTreeMap::new();
    for route in &plan.routes {
        *all.entry(&*route.label).or_default() |= route.upstream.unsure().is_some();
    }
    all
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// What every program is asked for, under the names that every dashboard knows.
fn process(text: &mut Text, started: SystemTime) {
    text.one("process_start_time_seconds", &[], unix(started));
    if let Some(bytes) = memory() {
        text.one("process_resident_memory_bytes", &[], bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.one("process_open_fds", &[], open.count() as u64);
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(most) = most {
        text.one("process_max_fds", &[], most);
    }
}

/// Bytes of memory that the process takes.
pub(super) fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = kib.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
