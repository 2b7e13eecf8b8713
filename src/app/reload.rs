//! Another plan while it runs, all or nothing: load, compile, tests, bind what is new, look what goes around, swap, drain what is
//! removed. With any mistake the plan in force stays, and `config_rejected` says why; but who was removed or revoked in a file of his
//! own is out all the same.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::exposure::Found;
use super::listeners::{BindError, Bound};
use super::manager;
use super::run::Site;
use super::start::Running;
use super::start_error::StartError;
use super::verbs::Reloads;
use crate::base::drain::Phase;
use crate::config::{Origins, Problem, Report};
use crate::exposure::Verdict;
use crate::observe::{Change, Event, Sink};
use crate::plan::{Listener, Plan, Route, Withdrawal};
use crate::upstream::Upstream;

/// Why the plan in force stays.
#[derive(Debug)]
pub struct Rejected {
    /// The mistakes.
    pub report: Report,
    /// Users, tokens and revocations are in force as their files say.
    pub are_people_taken: bool,
}

/// Takes what the source says now. Gives the warnings, or why nothing but users, tokens and revocations was changed; the log has it
/// too.
pub async fn reload(running: &mut Running, site: &Site<'_>) -> Result<Report, Rejected> {
    manager::reloading(running);
    let before = running.shared.live.current();
    let taken = match site.source.plan(&site.machine, site.kept, Some(&before)) {
        Ok((plan, warnings)) => take(running, site, &before, plan, warnings).await,
        Err(report) => Err(report),
    };
    running.shared.metrics.reloaded(taken.is_ok());
    manager::ready(running, taken.is_ok());
    match taken {
        Ok(warnings) => {
            let refused = warnings.problems.iter().filter(|p| p.code == EXPOSED);
            let event = match refused.count() {
                0 => Event::info("config_reloaded"),
                n => Event::warn("config_reloaded").with("refused_as_exposed", n),
            };
            // The child of `run` has moved: nobody has changed a file.
            if !site.source.is_led() {
                running.shared.log.event(event);
            }
            Ok(warnings)
        }
        Err(report) => {
            let problems = report.render(false, 100);
            let event = Event::error("config_rejected").with("problems", problems);
            running.shared.log.event(event);
            Err(Rejected {
                report,
                are_people_taken: withdraw(running, site),
            })
        }
    }
}

/// What was withdrawn does not wait until the configuration is repaired: users, tokens and revocations are taken on their own. A
/// file of them that has a mistake itself counts as it was before, which is said. True when none has one.
pub(super) fn withdraw(running: &Running, site: &Site<'_>) -> bool {
    let before = running.shared.live.current();
    let Some(Withdrawal {
        plan,
        change,
        problems,
    }) = site.source.withdrawn(site.kept, &before)
    else {
        return false;
    };
    running.put(plan);
    let log = &running.shared.log;
    if let Some(change) = change {
        let event = Event::warn("people_taken").with("change", change);
        log.event(event.with("why", "the rest of the configuration is not taken, but users, tokens and revocations of their own files are"));
    }
    let is_good = problems.is_empty();
    if !is_good {
        let report = Report::new(problems, Origins::default());
        let event = Event::error("people_rejected").with("problems", report.render(false, 100));
        log.event(event.with("why", "who may come in by this file is who might before"));
    }
    is_good
}

/// The same, and remembers what came of it.
pub(super) async fn reloaded(
    running: &mut Running,
    site: &Site<'_>,
    reloads: &mut Reloads,
) -> Result<Report, Rejected> {
    // Before they are read: what is written meanwhile is read again.
    let stamp = site.source.stamp(site.kept, &running.shared.live.current());
    reloads.files.read(stamp);
    let taken = reload(running, site).await;
    match &taken {
        Ok(warnings) => reloads.accepted(warnings),
        Err(rejected) => reloads.rejected(rejected),
    }
    taken
}

/// The plan in force, on a machine that is elsewhere now. `failed` is why that did not work the last time: what cannot be done yet
/// (an address that is still being taken up) is tried again, and said once.
pub(super) async fn follow(running: &mut Running, site: &Site<'_>, failed: &mut Option<String>) {
    let before = running.shared.live.current();
    let taken = match site.source.again(&site.machine, site.kept, &before) {
        Ok((plan, warnings)) => take(running, site, &before, plan, warnings).await,
        Err(report) => Err(report),
    };
    let why = taken.err().map(|report| report.render(false, 100));
    if let Some(why) = &why {
        // Whatever went wrong: what must not be open here is not.
        running.close_elsewhere(&site.machine);
        if failed.as_ref() != Some(why) {
            let event = Event::error("config_rejected").with("problems", why);
            running.shared.log.event(event);
        }
    }
    *failed = why;
}

async fn take(
    running: &mut Running,
    site: &Site<'_>,
    before: &Plan,
    plan: Plan,
    mut warnings: Report,
) -> Result<Report, Report> {
    let wrong = |key: String, error: &dyn std::fmt::Display, origins: &Origins| {
        let problem = Problem::error("not-taken", key, error.to_string());
        Report::new(vec![problem], origins.clone())
    };
    if running.phase() != Phase::Run {
        return Ok(take_draining(running, site, plan, warnings).await);
    }
    let port = |error: &BindError| match error {
        BindError::InUse { address, .. } => Some(address.port()),
        BindError::NotPermitted { .. } | BindError::Other { .. } => None,
    };
    let bound = patiently(&*running, || running.bind(&plan), port).await;
    let bound = bound.map_err(|error| {
        let here = |l: &Arc<Listener>| l.addresses.contains(&error.address());
        let at = plan.listeners.iter().position(here).unwrap_or(0);
        wrong(format!("listener[{at}].address"), &error, &warnings.origins)
    })?;
    for (at, listener) in plan.listeners.iter().enumerate() {
        if let Some(tls) = listener.tls.as_ref().filter(|_| listener.is_open) {
            tls.warm(&site.machine.addresses, SystemTime::now())
                .map_err(|error| wrong(format!("listener[{at}].tls"), &error, &warnings.origins))?;
        }
    }
    let log = if plan.log == before.log {
        None
    } else {
        let (sink, format, query) = plan.log.clone();
        let place = match &sink {
            Sink::File(path, _) => format!(" {}", path.display()),
            Sink::Stdout | Sink::Off => String::new(),
        };
        let change = Change::open(sink, format, query).map_err(|error| {
            let error = format!(
                "cannot open the access log{place}: {error}; make its folder, give this user the right to write there, or write another path (or `stdout`)"
            );
            wrong("log.access".into(), &error, &warnings.origins)
        })?;
        Some(change)
    };
    let admin = plan.admin.as_ref();
    let port = |error: &io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => Some(admin?.sockets().next()?.port()),
        _ => None,
    };
    let desk = patiently(&*running, || running.desk.prepare(admin), port).await;
    let desk = desk.map_err(|error| {
        let error = StartError::admin(&plan)(error);
        wrong("admin.address".into(), &error, &warnings.origins)
    })?;
    let mut ours = running.addresses.clone();
    ours.extend(bound.held.iter().map(|held| held.bound));
    // What is exposed is known before the plan is in force, so that nothing of it is served in between.
    let log_now = Some(&running.shared.log);
    let found = super::exposure::look(&plan, &site.machine, &ours, log_now).await;
    warnings.problems.extend(refused(&plan, &found));
    running.swap(plan, bound).await;
    let was = running.desk.switch(desk, &running.health);
    running.left.add(was.into_iter(), Instant::now());
    if let Some(change) = log {
        running.shared.log.change(change);
    }
    tell(running, before);
    let plan = running.shared.live.current();
    let (is, want) = (running.threads(), plan.workers);
    let workers = (is != want).then(|| format!("{is} data threads go on, not {want}"));
    let sandbox = (running.wished != plan.sandbox)
        .then(|| format!("the process goes on as it began: {}", running.sandbox));
    for (key, what) in [("server.workers", workers), ("server.sandbox", sandbox)] {
        let Some(what) = what else { continue };
        let message = what + "; that needs a restart";
        let event = Event::warn("restart_needed").with("key", key);
        running.shared.log.event(event.with("why", &message));
        let problem = Problem::warning("needs-restart", key, message);
        warnings.problems.push(problem);
    }
    Ok(warnings)
}

/// How often it is looked whether an address has been closed.
const AGAIN: Duration = Duration::from_millis(5);

/// As often as it takes for our own threads to close what an earlier reload has let go: that is no reason to refuse this one. `port`
/// tells which one was in use.
async fn patiently<T, E>(
    running: &Running,
    act: impl Fn() -> Result<T, E>,
    port: impl Fn(&E) -> Option<u16>,
) -> Result<T, E> {
    loop {
        let done = act();
        let now = Instant::now();
        let closes = |error: &E| running.left.until(port(error)?, now);
        match done.as_ref().err().and_then(closes) {
            Some(_) => tokio::time::sleep(AGAIN).await,
            None => return done,
        }
    }
}

/// A gate that drains takes another plan for what runs: whoever is out by it is out, and nothing is opened.
async fn take_draining(
    running: &mut Running,
    site: &Site<'_>,
    plan: Plan,
    mut warnings: Report,
) -> Report {
    let (ours, log) = (running.addresses.clone(), Some(&running.shared.log));
    let found = super::exposure::look(&plan, &site.machine, &ours, log).await;
    warnings.problems.extend(refused(&plan, &found));
    running.swap(plan, Bound::default()).await;
    warnings
}

/// The code of a warning about a route that the plan has and that is not served.
pub const EXPOSED: &str = "upstream-exposed";

/// What the new plan does not serve because it can be reached around the gate, each service once.
fn refused(plan: &Plan, found: &Found) -> Vec<Problem> {
    let told = |(upstream, verdict): &(Arc<Upstream>, Verdict)| {
        let here = |route: &Route| Arc::ptr_eq(&route.upstream, upstream);
        let (Some(at), Verdict::Exposed(exposure)) = (plan.routes.iter().position(here), verdict)
        else {
            return None;
        };
        let message = format!(
            "this route is refused (`upstream-exposed`) until that is repaired: {}",
            exposure.summary()
        );
        let key = format!("route[{at}].upstream");
        Some(Problem::warning(EXPOSED, key, message).hint(exposure.repairs().join("; ")))
    };
    found.exposed.iter().filter_map(told).collect()
}

/// What has changed in a way that somebody may look for.
fn tell(running: &Running, before: &Plan) {
    let (plan, log) = (running.shared.live.current(), &running.shared.log);
    let (old, new): (Vec<SocketAddr>, Vec<SocketAddr>) =
        (before.addresses().collect(), plan.addresses().collect());
    for address in old.iter().filter(|address| !new.contains(address)) {
        let rules = plan
            .listeners
            .iter()
            .find(|l| l.addresses.contains(address));
        let why = rules
            .and_then(|rules| rules.closed())
            .unwrap_or_else(|| "the configuration does not name it any more".into());
        log.event(
            Event::info("listener_closed")
                .with("address", address)
                .with("why", why),
        );
    }
    for address in new.iter().filter(|address| !old.contains(address)) {
        let was_closed = before
            .listeners
            .iter()
            .any(|l| !l.is_open && l.addresses.contains(address));
        let why = match was_closed {
            true => "this machine has an address in one of its networks (`only_on`)",
            false => "the configuration names it",
        };
        log.event(
            Event::info("listener_opened")
                .with("address", address)
                .with("why", why),
        );
    }
}
