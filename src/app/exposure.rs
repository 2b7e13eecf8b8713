//! The look at the kernel's socket table: at start, at every reload, every ten seconds. What it finds is noted at the upstream,
//! where the request path reads it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::exposure::{Verdict, check};
use crate::net::Machine;
use crate::observe::{Event, Log};
use crate::plan::Plan;
use crate::upstream::Upstream;

/// What a look has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Upstreams that can be reached around the gate and must not be.
    pub exposed: Vec<(Arc<Upstream>, Verdict)>,
    /// Nothing listens at one of them: what comes there next is worth an early look.
    pub is_waiting: bool,
}

/// Looks at every upstream of the plan and notes what it finds. Returns those that are exposed and must not be, and tells
/// the log about every change.
pub async fn look(plan: &Plan, machine: &Machine, ours: &[SocketAddr], log: Option<&Log>) -> Found {
    let mut seen = HashSet::new();
    let upstreams: Vec<_> = plan
        .routes
        .iter()
        .map(|route| &route.upstream)
        .filter(|upstream| seen.insert(upstream.target().to_string()))
        .collect();
    let addresses: Vec<_> = upstreams.iter().map(|u| &u.target().address).collect();
    let verdicts = check(&addresses, &machine.interfaces, ours).await;
    let mut found = Found::default();
    for (upstream, verdict) in upstreams.into_iter().zip(verdicts) {
        let exposed = verdict.is_exposed();
        found.is_waiting |= matches!(verdict, Verdict::NotListening);
        if upstream.note_exposed(exposed)
            && let Some(log) = log
        {
            let event = if exposed {
                Event::warn("exposure_changed")
            } else {
                Event::info("exposure_changed")
            };
            let event = event
                .with("upstream", upstream.target())
                .with("exposed", exposed);
            log.event(event.with("verdict", verdict.to_string().replace('\n', " ")));
        }
        let refused = plan
            .routes
            .iter()
            .any(|route| route.refuses_exposed && Arc::ptr_eq(&route.upstream, upstream));
        if exposed && refused {
            found.exposed.push((Arc::clone(upstream), verdict));
        }
    }
    found
}
