//! The control side of a running gate: signals, reloads, a network that changes, and the end.

use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::control::Control;
use super::source::Source;
use super::start::Running;
use super::verbs::{self, Reloads};
use crate::config::{Origins, Problem, Report};
use crate::net::Machine;
use crate::net::machine;
use crate::observe::Event;
use crate::plan::Kept;

/// How a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signal asked for it; what ran has finished.
    Drained,
    /// What ran did not finish in time, or a second signal came.
    Forced,
    /// The time of `--for` was over.
    Expired,
}

/// How often the kernel's socket table is looked at (contract 6).
const WATCH: Duration = Duration::from_secs(10);
/// The same while a service is not there: what comes back may be bound otherwise.
const SOON: Duration = Duration::from_secs(1);
/// How often failed logins are written down, when there are new ones: what a crash can make forgotten.
const KEEP: Duration = Duration::from_secs(3);
/// How often the machine and the files of the plan are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long requests have to finish after the child that answers them has ended.
const GONE: Duration = Duration::from_secs(2);

/// What plans are made from.
#[derive(Debug)]
pub struct Site<'a> {
    /// The configuration.
    pub source: &'a Source,
    /// What outlives a plan.
    pub kept: &'a Kept,
    /// The machine, as it was last seen.
    pub machine: Machine,
}

/// Runs until a signal, or for as long as `limit` says. Its owner can ask by `control` meanwhile.
pub async fn until_stopped(
    running: Running,
    mut site: Site<'_>,
    mut control: Control,
    limit: Option<Duration>,
) -> std::io::Result<Ending> {
    let mut reloads = Reloads::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut keep = tokio::time::interval(KEEP);
    let is_led = site.source.is_led();
    let mut look = tokio::time::interval(LOOK);
    let mut stamp = site.source.stamp();
    let watch = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(watch);
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => pending().await,
        }
    };
    tokio::pin!(over);
    let ending = loop {
        tokio::select! {
            _ = terminate.recv(), if !is_led => break Ending::Drained,
            _ = interrupt.recv(), if !is_led => break Ending::Drained,
            () = site.source.over() => break Ending::Drained,
            () = &mut over => break Ending::Expired,
            () = site.source.moved() => drop(reload(&running, &site, &mut reloads).await),
            _ = hangup.recv(), if !is_led => drop(reload(&running, &site, &mut reloads).await),
            Some(ask) = control.next() => {
                let answer = verbs::answer(&ask.verb, &running, &site, &mut reloads).await;
                ask.answer(answer);
            }
            _ = reopen.recv() => running.shared.log.reopen(),
            () = &mut watch => {
                let next = if watched(&running, &site.machine).await { SOON } else { WATCH };
                watch.as_mut().reset(Instant::now() + next);
            }
            () = running.shared.dial_failed.notified() => {
                let soon = Instant::now() + SOON;
                if watch.deadline() > soon {
                    watch.as_mut().reset(soon);
                }
            }
            _ = keep.tick() => running.keep_lockouts(),
            _ = look.tick() => {
                let now = site.source.stamp();
                if std::mem::replace(&mut stamp, now) != stamp {
                    drop(reload(&running, &site, &mut reloads).await);
                }
                if let Some(now) = machine::read().ok().filter(|now| *now != site.machine) {
                    running.shared.log.event(Event::info("network_changed"));
                    site.machine = now;
                    drop(reload(&running, &site, &mut reloads).await);
                }
            }
        }
    };
    let drain = match is_led && ending == Ending::Drained {
        // The service has gone: what still runs is answered from what it has left behind.
        true => GONE,
        false => running.shared.live.current().drain,
    };
    let asked = async {
        while let Some(ask) = control.next().await {
            let answer = verbs::answer(&ask.verb, &running, &site, &mut reloads).await;
            ask.answer(answer);
        }
        pending().await
    };
    let finished = tokio::select! {
        done = running.drain(drain) => done,
        _ = terminate.recv(), if !is_led => false,
        _ = interrupt.recv(), if !is_led => false,
        () = asked => false,
    };
    running.stop();
    Ok(if finished { ending } else { Ending::Forced })
}

/// One look at the upstreams of the plan in force; true when one of them is not there.
async fn watched(running: &Running, machine: &Machine) -> bool {
    let plan = running.shared.live.current();
    super::exposure::look(
        &plan,
        machine,
        &running.addresses,
        Some(&running.shared.log),
    )
    .await
    .is_waiting
}

/// All or nothing: with a mistake in the file the old plan stays. Gives the warnings, or what is wrong.
pub(super) async fn reload(
    running: &Running,
    site: &Site<'_>,
    reloads: &mut Reloads,
) -> Result<Report, Report> {
    let outcome = swapped(running, site).await;
    match &outcome {
        Ok(_) => {
            reloads.accepted();
            running.shared.metrics.reloaded(true);
            if !site.source.is_led() {
                running.shared.log.event(Event::info("config_reloaded"));
            }
        }
        Err(report) => {
            reloads.rejected(report.clone());
            running.shared.metrics.reloaded(false);
            running
                .shared
                .log
                .event(Event::error("config_rejected").with("problems", report.render(false, 100)));
        }
    }
    outcome
}

async fn swapped(running: &Running, site: &Site<'_>) -> Result<Report, Report> {
    let before = running.shared.live.current();
    let (plan, warnings) = site.source.plan(&site.machine, site.kept, Some(&before))?;
    let bound: Vec<_> = before.addresses().collect();
    if let Some(new) = plan.addresses().find(|address| !bound.contains(address)) {
        let why = format!("listening on {new} needs a restart; nothing was changed");
        let problem = Problem::error("needs-restart", "", why);
        return Err(Report::new(vec![problem], Origins::default()));
    }
    // What is exposed is known before the plan is in force, so that nothing of it is served in between.
    super::exposure::look(
        &plan,
        &site.machine,
        &running.addresses,
        Some(&running.shared.log),
    )
    .await;
    running.swap(plan);
    Ok(warnings)
}
