//! What the verbs of the control socket do. They run on the control thread, between two turns of its loop.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::chores::RESTLESS;
use super::control::{Answer, Ask, Failed, Verb};
use super::files::Files;
use super::hand_over::Giver;
use super::onboard::onboard;
use super::pulse::Pulse;
use super::reload::{Rejected, reloaded};
use super::run::Site;
use super::scrape::{self, stamp};
use super::share;
use super::source::Source;
use super::start::Running;
use crate::auth::client_net::ClientNet;
use crate::base::drain::Phase;
use crate::base::loopback::Scheme;
use crate::config::Report;
use crate::flow::Shared;
use crate::observe::{Event, Metrics};
use crate::plan::{Explained, Plan, Route, again};
use crate::upstream::Upstream;

/// The exit code of contract 3 for a configuration that is wrong.
const CONFIG: u8 = 3;

/// What came of the last reload.
#[derive(Debug)]
pub(super) struct Reloads {
    started: Instant,
    at: SystemTime,
    error: Option<Report>,
    /// What an accepted one had to say.
    warnings: Option<Report>,
    are_people_taken: bool,
    /// Accepted ones since the start.
    count: u64,
    /// What the files looked like just before they were read the last time.
    pub files: Files,
    /// How much goes on.
    pub pulse: Pulse,
}

impl Reloads {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            at: SystemTime::now(),
            error: None,
            warnings: None,
            are_people_taken: true,
            count: 0,
            files: Files::default(),
            pulse: Pulse::default(),
        }
    }

    pub fn accepted(&mut self, warnings: &Report) {
        self.at = SystemTime::now();
        self.error = None;
        self.warnings = Some(warnings.clone()).filter(|w| !w.problems.is_empty());
        self.are_people_taken = true;
        self.count += 1;
    }

    pub fn rejected(&mut self, rejected: &Rejected) {
        self.at = SystemTime::now();
        self.error = Some(rejected.report.clone());
        self.are_people_taken = rejected.are_people_taken;
    }
}

/// Does what was asked for, and answers. What only looks does not hold the loop up. Without a `giver` the gate drains: it takes what
/// was withdrawn, and opens nothing.
pub(super) async fn take(
    mut ask: Ask,
    running: &mut Running,
    site: &Site<'_>,
    reloads: &mut Reloads,
    giver: Option<&Giver>,
) {
    match ask.verb {
        Verb::Onboard { .. } | Verb::Share { .. } if giver.is_none() => {
            let what = "the gate is about to end; nothing was changed";
            ask.answer(Err(Failed::new(1, what)));
        }
        Verb::TakeOver => match (giver, ask.caller.take()) {
            (Some(giver), Some(caller)) => giver.begin(caller, running),
            (None, Some(caller)) => Giver::decline(caller),
            (_, None) => {}
        },
        Verb::Onboard { seconds } => {
            let answer = onboard(running, site, seconds);
            ask.answer(answer);
        }
        Verb::Share {
            seconds,
            ref path,
            ref host,
        } => {
            let answer = share::share(running, site, (seconds, path, host.as_deref()));
            ask.answer(answer);
        }
        Verb::Reload => {
            let answer = reload(running, site, reloads).await;
            ask.answer(answer);
        }
        Verb::Status => ask.answer(Ok(status(running, site, reloads))),
        Verb::Ready => {
            let health = Arc::clone(&running.health);
            tokio::spawn(async move {
                let readiness = health.ready().await;
                let text = readiness.to_string();
                ask.answer(match readiness.is_ready {
                    true => Ok(json!({ "text": text })),
                    false => Err(Failed::new(1, text)),
                });
            });
        }
        Verb::Explain { .. } => {
            let shared = Arc::clone(&running.shared);
            tokio::task::spawn_blocking(move || {
                let Verb::Explain { id } = &ask.verb else {
                    return;
                };
                let answer = explain(&shared, id);
                ask.answer(answer);
            });
        }
        Verb::Unlock { ref user, client } => {
            let done = unlock(&running.shared, user.as_deref(), client);
            // A crash after the answer must not bring it back.
            running.write_lockouts(move || ask.answer(Ok(json!({ "ended": done }))));
        }
        Verb::Unshare { ref id } => {
            let answer = share::revoke(running, id.as_deref());
            ask.answer(answer);
        }
        Verb::Shares => ask.answer(share::list(running)),
    }
}

async fn reload(running: &mut Running, site: &Site<'_>, reloads: &mut Reloads) -> Answer {
    match reloaded(running, site, reloads).await {
        Ok(warnings) => Ok(json!({
            "result": "accepted",
            "text": warnings.render(false, 100),
            "problems": warnings.to_json(),
        })),
        Err(Rejected {
            report,
            are_people_taken,
        }) => Err(Failed {
            problems: report.to_json(),
            are_people_taken,
            ..Failed::new(CONFIG, report.render(false, 100))
        }),
    }
}

/// What was decided about the request, and the same question put to the plan in force.
fn explain(shared: &Shared, id: &str) -> Answer {
    let Some(past) = shared.log.recall(id) else {
        let what = match shared.log.wants_access() {
            true => "it is not among the last requests that it remembers",
            false => "it remembers no requests, because log.access is off",
        };
        return Err(Failed::new(1, what));
    };
    let plan = shared.live.current();
    let (now, error) = match again(&plan, &past) {
        Ok(told) => (Some(looked_at(told, &plan).to_json()), None),
        Err(error) => (None, Some(error)),
    };
    Ok(json!({ "request": past, "generation": plan.generation, "now": now, "error": error }))
}

/// With what the last look at the service has found, where it is refused for that.
fn looked_at(told: Explained, plan: &Plan) -> Explained {
    let route = told.forwarded_to().and_then(|at| plan.routes.get(at));
    match route.filter(|route| route.upstream.is_refused()) {
        Some(route) => {
            let service = route.upstream.target();
            let found = format!("{service} can be reached around this gate: see `loopgate audit`");
            told.looked_at(found, true)
        }
        None => told,
    }
}

/// Whether anything was counted against them.
fn unlock(shared: &Shared, user: Option<&str>, client: Option<IpAddr>) -> bool {
    let (network, now) = (client.map(ClientNet::of), Instant::now());
    let lockout = &shared.lockout;
    let ended = [
        network.is_some_and(|network| lockout.forgive_client(network, now)),
        user.is_some_and(|user| lockout.forgive_user(user, now)),
        matches!((network, user), (Some(network), Some(user)) if lockout.forgive_pair(network, user, now)),
    ];
    let mut event = Event::info("unlocked");
    if let Some(client) = client {
        event = event.with("client", client);
    }
    if let Some(user) = user {
        event = event.with("user", user);
    }
    shared.log.event(event);
    ended.contains(&true)
}

/// What the last look said of the ways around the gate to a service, in a word.
fn around(upstream: &Upstream) -> &'static str {
    match (upstream.is_exposed(), upstream.unsure().is_some()) {
        (true, _) => "reachable",
        (false, true) => "unknown",
        (false, false) if upstream.is_absent() => "not-listening",
        (false, false) => "none-found",
    }
}

fn status(running: &Running, site: &Site<'_>, reloads: &Reloads) -> Value {
    let file = match site.source {
        Source::File(path) => std::path::absolute(path).ok(),
        Source::Given(_) | Source::Led(_) => None,
    };
    let named = |file: &Option<PathBuf>| file.as_ref().and_then(|f| std::path::absolute(f).ok());
    let (shared, metrics) = (&running.shared, &running.shared.metrics);
    let plan = shared.live.current();
    let (requests, refused) = metrics.totals();
    let [per_second, refused_per_second, received, sent] = reloads.pulse.rates().0;
    let now = SystemTime::now();
    let left = |until: SystemTime| match until.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => -i64::try_from(over.duration().as_secs()).unwrap_or(i64::MAX),
    };
    let certificate = |(name, (until, _)): (String, (SystemTime, bool))| json!({ "name": name, "not_after": stamp(until), "seconds_left": left(until) });
    let route = |route: &Route| json!({ "route": *route.label, "upstream": route.upstream.target().to_string(), "exposed": route.upstream.is_exposed(), "refused": route.upstream.is_refused(), "around": around(&route.upstream), "around_unknown": route.upstream.unsure().as_deref(), "certificate": service_cert(&route.upstream) });
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": match running.phase() {
            Phase::Run => "serving",
            Phase::Drain | Phase::Stop => "draining",
        },
        "uptime_seconds": reloads.started.elapsed().as_secs(),
        "config": file,
        "users_file": named(&plan.written.auth.users_file),
        "tokens_file": named(&plan.written.auth.tokens_file),
        "addresses": running.addresses,
        "admin": running.desk.addresses(),
        "deaf": running.deaf.told(),
        "connections": running.connections(),
        "connections_most": plan.limits.connections,
        "upstream_connections": running.held().1,
        "upstream_connections_most": plan.limits.service_connections,
        "tunnels": metrics.upgraded(),
        "requests": { "total": requests, "per_second": per_second, "refused": refused, "refused_per_second": refused_per_second },
        "bytes": { "in_per_second": received, "out_per_second": sent },
        "locked_clients": shared.lockout.banned_clients(Instant::now()),
        "listeners": listeners(&plan, metrics),
        "routes": plan.routes.iter().map(route).collect::<Value>(),
        "unseen": crate::exposure::unseen_now(),
        "certificates": scrape::certificates(&plan).into_iter().map(certificate).collect::<Value>(),
        "reload": {
            "at": stamp(reloads.at),
            "accepted": reloads.error.is_none(),
            "count": reloads.count,
            "text": reloads.error.as_ref().map(|report| report.render(false, 76)),
            "problems": reloads.error.as_ref().map(Report::to_json),
            "people_taken": reloads.are_people_taken,
            "warnings": reloads.warnings.as_ref().filter(|_| reloads.error.is_none()).map(|report| report.render(false, 76)),
        },
        "restless": reloads.files.unrest(Instant::now()).map(|(path, long)| json!({ "file": path, "seconds": long.as_secs(), "why": RESTLESS })),
        "log": {
            "lines_lost": shared.log.lost(),
            "fault": shared.log.fault().map(|fault| json!({ "path": fault.path, "why": fault.why, "since": stamp(fault.since) })),
        },
        "sandbox": running.sandbox.to_string(),
        "panics": metrics.panics.load(Ordering::Relaxed),
        "memory_bytes": scrape::memory(),
    })
}

/// The certificate of an https service: which one is held to, and which one was refused last.
fn service_cert(upstream: &Upstream) -> Option<Value> {
    let pin = upstream.pin();
    let list: Vec<String> = pin.believed().iter().map(ToString::to_string).collect();
    let refused = pin.stranger().map(|one| one.to_string());
    let is_asked = upstream.scheme() == Scheme::Https;
    is_asked.then(|| json!({ "trust": pin.word(), "believed": list, "refused": refused }))
}

/// The listeners of the plan in force, and those that still have connections.
fn listeners(plan: &Plan, metrics: &Metrics) -> Value {
    let listed: Vec<_> = plan.addresses().map(|a| a.to_string()).collect();
    let open = metrics.listeners().into_iter();
    open.filter(|(name, open)| *open > 0 || listed.contains(name))
        .map(|(name, open)| json!({ "address": name, "connections": open }))
        .collect()
}
