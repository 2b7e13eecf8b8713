//! The certificates of https services: asked for before the first visitor comes, written down, and a changed one told. On the control
//! thread, because those that serve have no files.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::flow::Shared;
use crate::observe::Event;
use crate::plan::{Kept, Plan};
use crate::tls::Fingerprint;
use crate::upstream::{News, Upstream, first_seen};

/// How long a service has for a handshake that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is going on about them.
#[derive(Debug, Default)]
pub struct ServiceCerts {
    asking: Option<JoinHandle<()>>,
    has_failed: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The file was written by us.
    pub has_written: bool,
    /// How many services have come with another certificate that was not told before.
    pub strangers: usize,
    /// Another gate has written another certificate first: the plan has to be made anew.
    pub is_overtaken: bool,
}

impl ServiceCerts {
    /// One look: writes down what was seen first, tells of every stranger once, and asks those whose certificate nobody has seen.
    pub async fn settle(&mut self, shared: &Shared, kept: &Kept) -> Settled {
        let plan = shared.live.current();
        let mut settled = Settled::default();
        for upstream in services(&plan) {
            for news in upstream.pin().news() {
                match news {
                    News::First(found) => {
                        self.keep(upstream, found, shared, kept, &mut settled).await;
                    }
                    News::Stranger(found) => {
                        settled.strangers += 1;
                        shared.log.event(changed(upstream, found));
                    }
                }
            }
        }
        self.ask(&plan);
        settled
    }

    async fn keep(
        &mut self,
        upstream: &Upstream,
        found: Fingerprint,
        shared: &Shared,
        kept: &Kept,
        settled: &mut Settled,
    ) {
        let (path, name) = (kept.first_seen.path.clone(), upstream.target().to_string());
        let kept = spawn_blocking(move || first_seen::keep(&path, &name, found)).await;
        let why = match kept {
            Ok(Ok(counts)) if counts == found => {
                settled.has_written = true;
                self.has_failed = false;
                upstream.pin().saved();
                let event = Event::info("upstream_certificate");
                let event = event.with("upstream", upstream.target());
                shared.log.event(event.with("certificate", found));
                return;
            }
            Ok(Ok(_)) => {
                settled.is_overtaken = true;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Said once, and tried again. It is held to as long as this process runs.
        if !std::mem::replace(&mut self.has_failed, true) {
            let event = Event::error("upstream_certificate_unwritten");
            let event = event.with("upstream", upstream.target());
            shared.log.event(event.with("why", why));
        }
    }

    /// A handshake with those that are open, beside everything else: a service that says nothing must hold nobody up.
    fn ask(&mut self, plan: &Plan) {
        if self.asking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let open: Vec<Arc<Upstream>> = services(plan)
            .filter(|upstream| upstream.pin().is_open())
            .cloned()
            .collect();
        self.asking = (!open.is_empty()).then(|| {
            tokio::spawn(async move {
                for upstream in open {
                    // Whatever comes of it, its pin knows.
                    let _ = upstream.answers(PATIENCE).await;
                }
            })
        });
    }
}

/// The services of the plan; one that several routes lead to comes again, and has no news then.
fn services(plan: &Plan) -> impl Iterator<Item = &Arc<Upstream>> {
    plan.routes.iter().map(|route| &route.upstream)
}

fn changed(upstream: &Upstream, found: Fingerprint) -> Event {
    let believed = upstream.pin().believed();
    let believed: Vec<String> = believed.iter().map(ToString::to_string).collect();
    let name = upstream.target();
    let repair = match upstream.pin().word() {
        "first-seen" => format!("loopgate upstream-cert accept {name} {found}"),
        _ => "write it as `upstream_cert`".to_owned(),
    };
    Event::warn("upstream_certificate_changed")
        .with("upstream", name)
        .with("expected", believed.join(" "))
        .with("found", found)
        .with("why", "another certificate than the one that is held to; nothing is forwarded to whoever has it")
        .with("if_it_is_right", repair)
}
