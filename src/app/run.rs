//! The control side of a running gate: signals, reloads, a network that changes, and the end.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::certificates::Certificates;
use super::control::Control;
use super::hand_over::Giver;
use super::manager;
use super::reload::{follow, reloaded, withdraw};
use super::service_certs::ServiceCerts;
use super::source::Source;
use super::start::Running;
use super::verbs::{self, Reloads};
use crate::net::changes::Changes;
use crate::net::machine::{self, Machine};
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
    /// Another process has taken over; what ran has finished.
    HandedOver,
}

/// How often the kernel's socket table is looked at: what opens is seen within ten seconds on a machine that is busy too.
const WATCH: Duration = Duration::from_secs(5);
/// The same while a service is not there, which may come back bound otherwise, or is refused, which may have been repaired.
const SOON: Duration = Duration::from_secs(1);
/// The shortest time between two looks, however many ask for one.
const APART: Duration = Duration::from_millis(20);
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
    mut running: Running,
    mut site: Site<'_>,
    mut control: Control,
    limit: Option<Duration>,
) -> std::io::Result<Ending> {
    let mut reloads = Reloads::new();
    let mut certificates = Certificates::default();
    let mut services = ServiceCerts::default();
    running.desk.open(&running.health);
    super::absent::answer(&running.shared);
    // Without a file there is a banner, which has said it.
    if matches!(site.source, Source::File(_)) {
        super::exposure::tell_unseen(&running.shared.log).await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut keep = tokio::time::interval(KEEP);
    let is_led = site.source.is_led();
    let mut look = tokio::time::interval(LOOK);
    let (mut changes, mut failed) = (Changes::watch(), None);
    reloads.stamp = site.source.stamp(site.kept, &running.shared.live.current());
    let mut looked = (Instant::now(), APART);
    site.kept.looks.watched(true);
    let watch = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(watch);
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => pending().await,
        }
    };
    tokio::pin!(over);
    let alive = manager::keep_alive(Arc::clone(&running.heart), running.watchdog);
    tokio::pin!(alive);
    manager::ready(&running, true);
    let (mut giver, mut heir) = (Giver::new(), None);
    let ending = loop {
        tokio::select! {
            _ = terminate.recv(), if !is_led => break Ending::Drained,
            _ = interrupt.recv(), if !is_led => break Ending::Drained,
            () = site.source.over() => break Ending::Drained,
            () = &mut over => break Ending::Expired,
            () = &mut alive => {}
            () = site.source.moved() => drop(reloaded(&mut running, &site, &mut reloads).await),
            _ = hangup.recv(), if !is_led => drop(reloaded(&mut running, &site, &mut reloads).await),
            () = ends(&running) => running.ring(),
            Some(ask) = control.next() => verbs::take(ask, &mut running, &site, &mut reloads, &giver).await,
            Some(mut next) = giver.next() => if next.take_all(&running).await {
                heir = Some(next);
                break Ending::HandedOver;
            },
            _ = reopen.recv() => running.shared.log.reopen(),
            () = &mut watch => {
                certificates.look(&running, &site);
                let begun = Instant::now();
                let soon = watched(&running, &site.machine).await;
                looked = (Instant::now(), begun.elapsed());
                watch.as_mut().reset(looked.0 + pause(soon, looked.1));
                let settled = services.settle(&running.shared, site.kept).await;
                if settled.has_written {
                    site.source.forgive(&mut reloads.stamp, &site.kept.first_seen.path);
                }
                if settled.is_overtaken {
                    drop(reloaded(&mut running, &site, &mut reloads).await);
                }
            }
            () = running.shared.dial_failed.notified() => {
                let soon = Instant::now() + SOON;
                if watch.deadline() > soon {
                    watch.as_mut().reset(soon);
                }
            }
            () = site.kept.looks.wanted() => {
                let next = looked.0 + (looked.1 * 2).clamp(APART, SOON);
                if watch.deadline() > next {
                    watch.as_mut().reset(next);
                }
            }
            () = site.kept.first_seen.news.notified() => {
                let soon = Instant::now() + SOON;
                if watch.deadline() > soon {
                    watch.as_mut().reset(soon);
                }
            }
            _ = keep.tick() => running.keep_lockouts(),
            now = moved(&mut changes, &site.machine) => {
                site.machine = now;
                running.shared.log.event(Event::info("network_changed"));
                follow(&mut running, &site, &mut failed).await;
            }
            _ = look.tick() => {
                reloads.pulse.look(&running.shared.metrics, Instant::now().into_std());
                let now = site.source.stamp(site.kept, &running.shared.live.current());
                let before = std::mem::replace(&mut reloads.stamp, now);
                if reloads.stamp.differs(&before) {
                    drop(reloaded(&mut running, &site, &mut reloads).await);
                }
                // The host name has no notice of its own.
                let now = machine::read().ok().filter(|now| *now != site.machine);
                if now.is_some() || failed.is_some() {
                    site.machine = now.unwrap_or(site.machine);
                    follow(&mut running, &site, &mut failed).await;
                }
            }
        }
    };
    site.kept.looks.watched(false);
    let heir = match heir {
        Some(heir) => {
            manager::handed_over(&running, heir.pid());
            // From here on the other one is asked, and the probes of both addresses are his.
            control = Control::none();
            running.desk.leave();
            Some(heir.part(&running))
        }
        None => {
            manager::stopping(&running);
            None
        }
    };
    let drain = match is_led && ending == Ending::Drained {
        // The service has gone: what still runs is answered from what it has left behind.
        true => GONE,
        false => running.shared.live.current().drain,
    };
    let asked = async {
        loop {
            tokio::select! {
                Some(ask) = control.next() => verbs::take_at_end(ask, &running, &site, &reloads),
                // Nothing else is taken any more, but whoever is removed is out of what still runs.
                _ = look.tick() => {
                    let now = site.source.stamp(site.kept, &running.shared.live.current());
                    let before = std::mem::replace(&mut reloads.stamp, now);
                    if reloads.stamp.differs(&before) {
                        withdraw(&running, &site);
                    }
                }
            }
        }
    };
    let finished = tokio::select! {
        done = running.drain(drain) => done,
        _ = terminate.recv(), if !is_led => false,
        _ = interrupt.recv(), if !is_led => false,
        () = asked => false,
        () = &mut alive, if heir.is_none() => false,
    };
    let shared = Arc::clone(&running.shared);
    running.stop();
    if let Some(heir) = heir {
        heir.tell_rest(&shared).await;
    }
    Ok(if finished { ending } else { Ending::Forced })
}

impl Running {
    /// [`Running::ring`], for whoever outlives the borrow.
    pub fn bell(&self) -> impl Fn() + Send + use<> {
        let signal = self.signal.clone();
        move || signal.send_modify(|_| {})
    }
}

/// One look at the upstreams of the plan in force; what runs at one that must not be served ends. True when one of them is not there
/// or is refused.
async fn watched(running: &Running, machine: &Machine) -> bool {
    let plan = running.shared.live.current();
    let log = Some(&running.shared.log);
    let found = super::exposure::look(&plan, machine, &running.addresses, log).await;
    if found.is_news {
        running.ring();
    }
    found.is_unsettled
}

/// How long to wait for the next look. One that was dear (a host with very many descriptors, a firewall that swallows dials) is not
/// repeated at once.
fn pause(soon: bool, took: Duration) -> Duration {
    if soon {
        (took * 10).clamp(SOON, WATCH)
    } else {
        WATCH
    }
}

/// Waits until the first listener that is leaving is over.
async fn ends(running: &Running) {
    let plan = running.shared.live.current();
    match plan.next_end(std::time::Instant::now()) {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => pending().await,
    }
}

/// Waits until the network has changed in a way that matters, and gives what it is now. Cancel safe.
async fn moved(changes: &mut Changes, machine: &Machine) -> Machine {
    loop {
        changes.next().await;
        if let Some(now) = machine::read().ok().filter(|now| now != machine) {
            return now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_look_is_early_unless_looks_are_dear() {
        let millis = Duration::from_millis;
        assert_eq!(pause(false, millis(1)), WATCH);
        assert_eq!(pause(true, millis(1)), SOON);
        assert_eq!(pause(true, millis(300)), millis(3000));
        assert_eq!(pause(true, millis(9000)), WATCH);
    }
}
