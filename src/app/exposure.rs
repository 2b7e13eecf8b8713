//! The look at the kernel's socket table: at start, at every reload, every five seconds. What it finds is noted at the upstream,
//! where the request path reads it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::exposure::{self, Verdict, check, unix};
use crate::net::Machine;
use crate::observe::{Event, Log};
use crate::plan::Plan;
use crate::upstream::Upstream;

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Upstreams that can be reached around the gate and must not be.
    pub exposed: Vec<(Arc<Upstream>, Verdict)>,
    /// Upstreams of which it cannot be told who can reach them, and why; they are served.
    pub unsure: Vec<(Arc<Upstream>, String)>,
    /// One of them was not exposed before: what runs there may have to end.
    pub is_news: bool,
    /// Nothing listens at one of them, or it is refused as exposed: what comes there next is worth an early look.
    pub is_unsettled: bool,
}

/// Looks at every upstream of the plan, also those of the plans before at which something may still run, and gives those that are
/// exposed and must not be. With a log it notes what it finds, and tells
/// every change; a look that nobody is told of is none for the next one.
pub async fn look(plan: &Plan, machine: &Machine, ours: &[SocketAddr], log: Option<&Log>) -> Found {
    let mut seen = HashSet::new();
    let upstreams: Vec<_> = plan
        .services(Instant::now())
        .filter(|upstream| seen.insert(Arc::as_ptr(upstream)))
        .collect();
    let begun: Vec<_> = upstreams.iter().map(|u| u.begin_look()).collect();
    let addresses: Vec<_> = upstreams.iter().map(|u| &u.target().address).collect();
    let verdicts = check(&addresses, &machine.interfaces, ours).await;
    let mut found = Found::default();
    for ((upstream, verdict), begun) in upstreams.into_iter().zip(verdicts).zip(begun) {
        found.is_unsettled |= matches!(verdict, Verdict::NotListening);
        let why = doubt(&verdict);
        let unsure = why.map(|why| (Arc::clone(upstream), why));
        found.unsure.extend(unsure);
        if let Some(log) = log {
            found.is_news |= note(upstream, &verdict, log);
            if let Some(path) = upstream.target().address.unix() {
                look_at_socket(upstream, path, log).await;
            }
            upstream.end_look(begun, !matches!(verdict, Verdict::NotListening));
        }
        if verdict.is_exposed() && upstream.refuses_exposed() {
            found.is_unsettled = true;
            found.exposed.push((Arc::clone(upstream), verdict));
        }
    }
    found
}

/// Notes what was found at an upstream and tells what has changed. True when what runs there has to be judged again.
fn note(upstream: &Upstream, verdict: &Verdict, log: &Log) -> bool {
    let is_exposed = verdict.is_exposed();
    // One way may close while another stays: then the repair is another one.
    let is_news = upstream.note_exposed(is_exposed) | upstream.note_ways(&verdict.ways());
    if is_news {
        let event = match is_exposed {
            true => Event::warn("exposure_changed"),
            false => Event::info("exposure_changed"),
        };
        let event = event
            .with("upstream", upstream.target())
            .with("exposed", is_exposed)
            .with("refused", upstream.is_refused());
        log.event(event.with("verdict", verdict.to_string().replace('\n', " ")));
    }
    let why = doubt(verdict);
    if upstream.note_unsure(why.as_deref())
        && let Some(why) = why
    {
        let event = Event::warn("exposure_unknown").with("upstream", upstream.target());
        log.event(event.with("why", why));
    }
    is_news && is_exposed
}

/// Why it cannot be told who can reach an upstream, if so.
fn doubt(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::CannotTell(_) => Some(verdict.to_string()),
        Verdict::Loopback | Verdict::Exposed(_) | Verdict::NotListening => None,
    }
}

/// Tells the log what a check cannot see here, whatever it finds; once, at the start.
pub async fn tell_unseen(log: &Log) {
    let unseen = tokio::task::spawn_blocking(exposure::unseen).await;
    for why in unseen.unwrap_or_default() {
        log.event(Event::info("exposure_unseen").with("why", why));
    }
}

/// Tells the log when others than they should may connect to a Unix socket, and when that is over. It goes on being served: whom the
/// file system lets in is on this machine, and is not known to be a stranger.
async fn look_at_socket(upstream: &Upstream, path: &Path, log: &Log) {
    let path = path.to_owned();
    let Ok(standing) = tokio::task::spawn_blocking(move || unix::standing(&path)).await else {
        return;
    };
    // While there is none the last word stands: what comes back may be as it was.
    if standing == unix::Standing::Missing || !upstream.note_open_socket(standing.is_warning()) {
        return;
    }
    let event = match standing.is_warning() {
        true => Event::warn("upstream_socket"),
        false => Event::info("upstream_socket"),
    };
    let event = event.with("upstream", upstream.target());
    log.event(event.with("why", standing));
}
