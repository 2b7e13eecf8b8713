//! What the control side of a gate does beside its requests: signals, questions of the owner, files that change, a network that
//! changes, looks at the services. A gate that drains does the same, but opens nothing.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::certificates::Certificates;
use super::control::{Ask, Control};
use super::files::Wanted;
use super::hand_over::Giver;
use super::reload::{follow, reloaded, withdraw};
use super::run::Site;
use super::service_certs::ServiceCerts;
use super::start::Running;
use super::verbs::{self, Reloads};
use crate::base::drain::Phase;
use crate::net::changes::Changes;
use crate::net::machine::{self, Machine};
use crate::observe::Event;

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
/// And the files while they change.
const CHANGING: Duration = Duration::from_millis(250);

/// Why a change is not in force, and what to do.
pub(super) const RESTLESS: &str = "it goes on changing, so what is in it is not in force but for people that it withdraws: let it stand still for two seconds, \
    or take it as it is with `loopgate reload`";

/// What there is to do.
pub(super) enum Due {
    /// HUP.
    Reload,
    /// USR1.
    Reopen,
    /// A question.
    Ask(Ask),
    /// A look at the services.
    Services,
    /// The same, but not now: at this time, unless it comes earlier anyway.
    ServicesAt(Instant),
    /// A listener that was leaving is over.
    Over,
    /// Failed logins are to be written down.
    Lockouts,
    /// The network is another one.
    Network(Machine),
    /// A look at the files of the plan.
    Files,
    /// The same, and at the machine.
    Look,
}

/// The clocks and ears of it.
pub(super) struct Chores {
    hangup: Signal,
    reopen: Signal,
    changes: Changes,
    keep: Interval,
    look: Interval,
    changing: Pin<Box<Sleep>>,
    watch: Pin<Box<Sleep>>,
    /// When the services were looked at, and how long that took.
    looked: (Instant, Duration),
    certificates: Certificates,
    services: ServiceCerts,
    /// Why the plan could not follow the network the last time.
    failed: Option<String>,
}

impl Chores {
    /// Everything is due at once.
    pub fn new() -> io::Result<Self> {
        let every = |time| {
            let mut interval = tokio::time::interval(time);
            // After a dear reload there is nothing to catch up with.
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            changes: Changes::watch(),
            keep: every(KEEP),
            look: every(LOOK),
            changing: Box::pin(tokio::time::sleep(Duration::ZERO)),
            watch: Box::pin(tokio::time::sleep(Duration::ZERO)),
            looked: (Instant::now(), APART),
            certificates: Certificates::default(),
            services: ServiceCerts::default(),
            failed: None,
        })
    }

    /// Waits for the next thing to do. Cancel safe.
    pub async fn next(
        &mut self,
        running: &Running,
        site: &Site<'_>,
        control: &mut Control,
        are_changing: bool,
    ) -> Due {
        let soon = || Due::ServicesAt(Instant::now() + SOON);
        tokio::select! {
            _ = self.hangup.recv(), if !site.source.is_led() => Due::Reload,
            _ = self.reopen.recv() => Due::Reopen,
            Some(ask) = control.next() => Due::Ask(ask),
            () = &mut self.watch => Due::Services,
            () = running.shared.dial_failed.notified() => soon(),
            () = site.kept.first_seen.news.notified() => soon(),
            () = site.kept.looks.wanted() => Due::ServicesAt(self.looked.0 + (self.looked.1 * 2).clamp(APART, SOON)),
            () = ends(running) => Due::Over,
            _ = self.keep.tick() => Due::Lockouts,
            now = moved(&mut self.changes, &site.machine) => Due::Network(now),
            _ = self.look.tick() => Due::Look,
            () = &mut self.changing, if are_changing => Due::Files,
        }
    }

    /// Does it. Without a `giver` the gate drains.
    pub async fn act(
        &mut self,
        due: Due,
        running: &mut Running,
        site: &mut Site<'_>,
        reloads: &mut Reloads,
        giver: Option<&Giver>,
    ) {
        match due {
            Due::Reload => drop(reloaded(running, site, reloads).await),
            Due::Reopen => running.shared.log.reopen(),
            Due::Ask(ask) => verbs::take(ask, running, site, reloads, giver).await,
            Due::Services => self.services(running, site, reloads).await,
            Due::ServicesAt(at) if self.watch.deadline() > at => self.watch.as_mut().reset(at),
            Due::ServicesAt(_) => {}
            Due::Over => running.ring(),
            Due::Lockouts => running.keep_lockouts(),
            Due::Network(now) => {
                found(running, site, now);
                follow(running, site, &mut self.failed).await;
            }
            Due::Files => self.files(running, site, reloads).await,
            Due::Look => self.look(running, site, reloads).await,
        }
    }

    async fn services(&mut self, running: &mut Running, site: &Site<'_>, reloads: &mut Reloads) {
        let is_open = running.phase() == Phase::Run;
        if is_open {
            self.certificates.look(running, site);
        }
        let begun = Instant::now();
        let soon = watched(running, &site.machine).await;
        self.looked = (Instant::now(), begun.elapsed());
        let next = self.looked.0 + pause(soon, self.looked.1);
        self.watch.as_mut().reset(next);
        // What is written down is the business of whoever serves.
        if !is_open {
            return;
        }
        let settled = self.services.settle(&running.shared, site.kept).await;
        if settled.has_written {
            reloads.files.forgive(&site.kept.first_seen.path);
        }
        if settled.is_overtaken {
            // Not the configuration, which somebody may be writing just now.
            follow(running, site, &mut self.failed).await;
        }
    }

    async fn files(&mut self, running: &mut Running, site: &Site<'_>, reloads: &mut Reloads) {
        let now = site.source.stamp(site.kept, &running.shared.live.current());
        let at = Instant::now().into_std();
        let wanted = reloads.files.look(now, at);
        if let Some((path, long)) = reloads.files.news_of_unrest(at) {
            let event = Event::warn("config_restless").with("file", path.display());
            let event = event.with("seconds", long.as_secs());
            running.shared.log.event(event.with("why", RESTLESS));
        }
        match wanted {
            Wanted::Nothing => {}
            Wanted::Look => self.changing.as_mut().reset(Instant::now() + CHANGING),
            Wanted::People => {
                withdraw(running, site);
                self.changing.as_mut().reset(Instant::now() + CHANGING);
            }
            Wanted::All => drop(reloaded(running, site, reloads).await),
        }
    }

    async fn look(&mut self, running: &mut Running, site: &mut Site<'_>, reloads: &mut Reloads) {
        let now = Instant::now().into_std();
        reloads.pulse.look(&running.shared.metrics, now);
        running.shared.live.clear();
        running.mend(false).await;
        self.files(running, site, reloads).await;
        // The host name has no notice of its own.
        let now = machine::read().ok().filter(|now| *now != site.machine);
        if let Some(now) = now {
            found(running, site, now);
        } else if self.failed.is_none() {
            return;
        }
        follow(running, site, &mut self.failed).await;
    }
}

/// The machine is another one. Whoever sees it first, the kernel's notice or the look, tells it if more than its name has changed.
fn found(running: &Running, site: &mut Site<'_>, mut now: Machine) {
    std::mem::swap(&mut site.machine, &mut now);
    now.names.clone_from(&site.machine.names);
    if now != site.machine {
        running.shared.log.event(Event::info("network_changed"));
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

/// Waits until the first listener or service that is leaving is over.
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
