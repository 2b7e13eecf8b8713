//! A running gate from its first moment to its end: what ends it, and the drain. What is done meanwhile stands in `app/chores`.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::chores::Chores;
use super::control::Control;
use super::hand_over::{Giver, Heir, House, Taking};
use super::listeners::Held;
use super::manager;
use super::reload::reloaded;
use super::source::Source;
use super::start::Running;
use super::verbs::Reloads;
use crate::base::drain::{self, Phase};
use crate::config::unit::write_duration;
use crate::net::Machine;
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

/// The end of one whose place was taken.
const TAKEN: (Ending, &str) = (Ending::HandedOver, "another process goes on");
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

/// What a gate hears from outside. A signal that nobody here waits for yet is lost, or ends the process at once: so it is made before
/// anybody is told that the gate serves.
pub struct Ears {
    terminate: Signal,
    interrupt: Signal,
    chores: Chores,
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").finish_non_exhaustive()
    }
}

impl Ears {
    /// From now on each signal is kept until it is read.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            chores: Chores::new()?,
        })
    }
}

/// Waits for the last steps of a hand-over, where there is one. Cancel safe.
async fn taken(taking: &mut Option<Taking>) -> Option<Heir> {
    match taking {
        Some(taking) => taking.end().await,
        None => pending().await,
    }
}

/// Runs until a signal, or for as long as `limit` says. Its owner can ask by `control` meanwhile, and until the last stream has ended.
pub async fn until_stopped(
    mut running: Running,
    mut site: Site<'_>,
    mut control: Control,
    limit: Option<Duration>,
    ears: Ears,
) -> std::io::Result<Ending> {
    let Ears {
        mut terminate,
        mut interrupt,
        mut chores,
    } = ears;
    let mut reloads = Reloads::new();
    running.desk.open(&running.health);
    super::absent::answer(&running.shared);
    // Without a file there is a banner, which has said it.
    if matches!(site.source, Source::File(_)) {
        super::exposure::tell_unseen(&running.shared.log).await;
    }
    let is_led = site.source.is_led();
    let stamp = site.source.stamp(site.kept, &running.shared.live.current());
    reloads.files.read(stamp);
    site.kept.looks.watched(true);
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
    let (mut giver, mut heir, mut taking) = (Giver::new(), None, None);
    let left = giver.left();
    let (mut ending, mut why) = loop {
        tokio::select! {
            _ = terminate.recv(), if !is_led => break (Ending::Drained, "TERM"),
            _ = interrupt.recv(), if !is_led => break (Ending::Drained, "INT"),
            () = site.source.over() => break (Ending::Drained, "the command has ended"),
            () = &mut over => break (Ending::Expired, "its time is over"),
            () = &mut alive => {}
            () = site.source.moved() => drop(reloaded(&mut running, &site, &mut reloads).await),
            Some(next) = giver.next(), if taking.is_none() => {
                taking = Some(Taking::begin(next, House::of(&running)));
            }
            taken = taken(&mut taking) => {
                taking = None;
                if taken.is_some() {
                    heir = taken;
                    break TAKEN;
                }
                running.mend(true).await;
            }
            () = left.notified() => running.mend(true).await,
            due = chores.next(&running, &site, &mut control, reloads.files.are_changing()) => {
                chores.act(due, &mut running, &mut site, &mut reloads, Some(&giver)).await;
            }
        }
    };
    if let Some(taking) = taking.take() {
        // We end before we have read that the other one serves. It may have said so all the same: then it goes on, and we drain for it.
        heir = taking.break_off().await;
        if heir.is_some() {
            (ending, why) = TAKEN;
        }
    }
    let heir = match heir {
        Some(heir) => {
            manager::handed_over(&running, heir.pid());
            // The probes of its address are his. Commands find both: what is withdrawn has to end here as well.
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
    let begun = Instant::now();
    let event = Event::info("draining").with("why", why);
    let event = event.with("connections", running.connections());
    let event = event.with("at_most", write_duration(drain));
    running.shared.log.event(event);
    let idle = running.begin_drain();
    // Nothing is opened any more, but whoever is out is out here too, and what becomes exposed is cut.
    let go_on = async {
        loop {
            let are_changing = reloads.files.are_changing();
            let due = chores.next(&running, &site, &mut control, are_changing);
            let due = due.await;
            let (running, site) = (&mut running, &mut site);
            chores.act(due, running, site, &mut reloads, None).await;
        }
    };
    let (finished, end) = tokio::select! {
        done = idle.idle(drain) => match done {
            true => (true, "everything has finished"),
            false => (false, "`server.drain` was over"),
        },
        _ = terminate.recv(), if !is_led => (false, "a second TERM"),
        _ = interrupt.recv(), if !is_led => (false, "a second INT"),
        // Neither ever ends.
        () = go_on => (false, ""),
        () = &mut alive, if heir.is_none() => (false, ""),
    };
    site.kept.looks.watched(false);
    let shared = Arc::clone(&running.shared);
    let event = Event::info("ended").with("why", end);
    let event = event.with("after_ms", begun.elapsed().as_millis());
    shared.log.event(event.with("cut", running.connections()));
    running.stop();
    if let Some(heir) = heir {
        heir.tell_rest(&shared).await;
    }
    Ok(if finished { ending } else { Ending::Forced })
}

impl Running {
    /// Closes the listeners and lets what runs finish, at most `limit`. True when everything did.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.begin_drain().idle(limit).await
    }

    /// Closes the listeners and tells what runs to finish. It can be waited for by what is given.
    fn begin_drain(&self) -> drain::Watch {
        self.held.iter().for_each(Held::give_up);
        self.signal
            .send_modify(|s| s.phase = s.phase.max(Phase::Drain));
        self.drain.watch()
    }

    /// [`Running::ring`], for whoever outlives the borrow.
    pub fn bell(&self) -> impl Fn() + Send + use<> {
        let signal = self.signal.clone();
        move || signal.send_modify(|_| {})
    }
}
