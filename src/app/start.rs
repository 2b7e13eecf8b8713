//! Start: bind everything, then begin. A failure before the end leaves nothing half open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, watch};

use super::admin::{Desk, Health};
use super::descriptors;
use super::hand_over::Estate;
use super::inherited::Inherited;
use super::listeners::{self, BindError, Bound, Handed, Held, Left, Listening};
use super::lockout_file::LockoutFile;
use super::manager::{self, Heart};
use super::mend::Deaf;
use super::sandbox::{self, Cell, Sandbox, Wish};
use super::start_error::StartError;
use super::worker::{Job, Signal, spawn};
use crate::auth::login::Csrf;
use crate::auth::passed::Passed;
use crate::auth::session::{SessionSettings, Sessions};
use crate::auth::verify::{Settings, Verifier};
use crate::base::drain::{Drain, Phase};
use crate::flow::Shared;
use crate::limit::Counts;
use crate::limit::lockout::Lockout;
use crate::net::Machine;
use crate::observe::{Event, Log, Metrics, Sink};
use crate::plan::{Live, Plan};

/// How long a data thread may take to accept new listeners; it does so between two polls.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A gate that serves.
#[derive(Debug)]
pub struct Running {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The addresses that are served; ports are real ones.
    pub addresses: Vec<SocketAddr>,
    pub(super) held: Vec<Held>,
    pub(super) left: Left,
    pub(super) deaf: Deaf,
    pub(super) inherited: Inherited,
    pub(super) heart: Arc<Heart>,
    pub(super) watchdog: Option<Duration>,
    doors: Vec<mpsc::Sender<Vec<Listening>>>,
    /// What each thread is to listen on when the doors open.
    waiting: Vec<Vec<Listening>>,
    pub(super) drain: Drain,
    pub(super) signal: watch::Sender<Signal>,
    threads: Vec<JoinHandle<()>>,
    /// The admin address.
    pub(super) desk: Desk,
    /// What probes and scrapers ask of.
    pub health: Arc<Health>,
    counts: Arc<Counts>,
    /// What the process has given up.
    pub sandbox: Sandbox,
    /// What it was to give up.
    pub(super) wished: Wish,
    pub(super) lockouts: Option<Arc<LockoutFile>>,
}

/// Binds every listener of the plan and starts the data threads, which give up their files. The process keeps what it has.
pub fn start(plan: Plan) -> Result<Running, StartError> {
    let mut running = begin(plan, Inherited::default(), None, false)?;
    running.open();
    Ok(running)
}

/// As [`start`], for a program that does nothing else: the sockets that a service manager has handed over are taken, and the
/// whole process gives up what it does not need any more. Called on the only thread, once.
pub fn start_alone(plan: Plan) -> Result<Running, StartError> {
    let mut running = begin(plan, Inherited::take()?, None, true)?;
    running.open();
    Ok(running)
}

/// As [`start_alone`], with the sockets of the gate that runs. Nobody is let in before [`Estate::take`].
pub fn start_after(plan: Plan, estate: &mut Estate) -> Result<Running, StartError> {
    begin(plan, Inherited::take()?, Some(estate), true)
}

fn begin(
    mut plan: Plan,
    inherited: Inherited,
    mut estate: Option<&mut Estate>,
    is_alone: bool,
) -> Result<Running, StartError> {
    inherited.fit(&plan)?;
    let short = descriptors::fit(&mut plan);
    let (sink, format, query) = plan.log.clone();
    let workers = plan.workers.max(1);
    let wanted: Vec<SocketAddr> = plan.addresses().collect();
    let mut nothing = Handed::new();
    let handed = match &mut estate {
        Some(estate) => &mut estate.listeners,
        None => &mut nothing,
    };
    let bound = listeners::bind(&wanted, workers, &inherited, handed)?;
    // What the plan does not name is not kept open by us.
    handed.clear();
    let admin = estate.as_mut().and_then(|estate| estate.admin.take());
    let desk = Desk::bind(plan.admin.as_ref(), admin).map_err(StartError::admin(&plan))?;
    let sandbox = match is_alone {
        true => sandbox::enter(plan.sandbox).map_err(StartError::Sandbox)?,
        false => Sandbox::default(),
    };
    let wished = plan.sandbox;
    let cell = Cell::new(wished);
    let place = match &sink {
        Sink::File(path, _) => Some(path.clone()),
        Sink::Stdout | Sink::Off => None,
    };
    let log = Log::start(sink, format, query).map_err(|source| match place {
        Some(path) => StartError::Log {
            place: String::new(),
            path,
            source,
        },
        None => StartError::Writer(source),
    })?;
    short.into_iter().for_each(|event| log.event(event));
    let verifier = verifier(&cell).map_err(StartError::Thread)?;
    let (drain, counts) = (Drain::default(), Arc::new(Counts::default()));
    let signal = watch::Sender::new(Signal {
        phase: Phase::Run,
        generation: plan.generation,
    });
    let now = Instant::now();
    let sessions = Sessions::new(sessions(&plan), now);
    let lockouts = plan
        .lockout_file
        .clone()
        .map(|path| Arc::new(LockoutFile::new(path, now)));
    let counted = estate.and_then(|estate| estate.lockouts.take());
    let lockout = match (&lockouts, counted) {
        (_, Some(counted)) => Lockout::restore(plan.lockout, &counted, now, SystemTime::now()),
        (Some(file), None) => file.open(plan.lockout, now, &log),
        (None, None) => Lockout::new(plan.lockout, now),
    };
    let metrics = Arc::new(Metrics::default());
    plan.count_by(&metrics);
    let shared = Arc::new(Shared {
        live: Live::new(plan),
        verifier,
        sessions,
        lockout,
        passed: Passed::default(),
        csrf: Csrf::new(now),
        onboard: Default::default(),
        shares: Default::default(),
        dial_failed: Notify::new(),
        questions: Default::default(),
        log,
        metrics,
        open: Arc::default(),
    });
    let (mut threads, mut doors) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
    let mut heart = Heart::default();
    for index in 0..workers {
        let (door, listeners) = mpsc::channel(4);
        let job = Job {
            shared: shared.clone(),
            listeners,
            counts: counts.clone(),
            drain: drain.watch(),
            signal: signal.subscribe(),
            cell: cell.clone(),
            beat: heart.thread(),
        };
        threads.push(spawn(index, job).map_err(StartError::Thread)?);
        doors.push(door);
    }
    let health = Arc::new(Health::new(Arc::clone(&shared), signal.subscribe()));
    let mut running = Running {
        shared,
        desk,
        health,
        addresses: Vec::new(),
        held: bound.held,
        left: Left::default(),
        deaf: Deaf::default(),
        inherited,
        heart: Arc::new(heart),
        watchdog: manager::watchdog(),
        doors,
        waiting: bound.threads,
        drain,
        signal,
        threads,
        counts,
        sandbox,
        wished,
        lockouts,
    };
    running.tell_addresses();
    let plan = running.shared.live.current();
    let plain = plan.open().filter(|listener| listener.tls.is_none());
    for address in plain.flat_map(|listener| &listener.addresses) {
        if !address.ip().is_loopback() {
            let event = Event::warn("plain_http").with("address", address);
            let why = "nothing is encrypted (`--unsafe-plain-http`): everybody on the network reads passwords and all that is sent";
            running.shared.log.event(event.with("why", why));
        }
    }
    for (listener, why) in plan.listeners.iter().filter_map(|l| Some((l, l.closed()?))) {
        for address in &listener.addresses {
            let event = Event::info("listener_closed").with("address", address);
            running.shared.log.event(event.with("why", &why));
        }
    }
    Ok(running)
}

/// What the sessions of a plan live by.
fn sessions(plan: &Plan) -> SessionSettings {
    SessionSettings {
        lifetime: plan.session,
        idle: plan.session_idle,
        ..SessionSettings::default()
    }
}

/// The threads that hash are confined as those that serve: they inherit it from the one that starts them.
fn verifier(cell: &Cell) -> io::Result<Verifier> {
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            cell.close();
            Verifier::new(Settings::default())
        });
        starter
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread failed at its start")))
    })
}

impl Running {
    /// Lets everybody in. Once.
    pub(super) fn open(&mut self) {
        for (door, sockets) in self.doors.iter().zip(std::mem::take(&mut self.waiting)) {
            // There is room for four.
            let _ = door.try_send(sockets);
        }
    }

    /// Takes the sockets that a plan needs and this gate has not, for [`Running::swap`]. Nothing changes yet.
    pub(super) fn bind(&self, plan: &Plan) -> Result<Bound, BindError> {
        let new = |address: &SocketAddr| !self.held.iter().any(|held| held.address == *address);
        let wanted: Vec<SocketAddr> = plan.addresses().filter(new).collect();
        // Until the plan is in force it is served there, to whoever comes.
        let admin = self.desk.addresses();
        let admin = admin.iter().filter_map(|name| name.parse().ok());
        listeners::keep_apart(&wanted, admin)?;
        let none = &mut Handed::new();
        listeners::bind(&wanted, self.threads.len(), &self.inherited, none)
    }

    /// Puts another plan in force that listens where this one does. Every connection looks at it.
    pub fn put(&self, mut plan: Plan) {
        if let Some(short) = descriptors::fit(&mut plan) {
            self.shared.log.event(short);
        }
        let now = Instant::now();
        plan.succeed(&self.shared.live.current(), now);
        plan.count_by(&self.shared.metrics);
        self.shared.sessions.configure(sessions(&plan));
        self.shared.lockout.configure(plan.lockout);
        self.shared.live.swap(plan);
        let plan = self.shared.live.current();
        self.shared.sessions.sweep(&plan.users, now);
        self.signal.send_modify(|s| s.generation = plan.generation);
    }

    /// Puts another plan in force: the new sockets are served, those that it does not have are closed, and what runs by them gets
    /// `server.drain` to finish.
    pub(super) async fn swap(&mut self, plan: Plan, bound: Bound) {
        self.put(plan);
        let plan = self.shared.live.current();
        self.close_but(|held| plan.listener(held.address).is_some());
        self.held.extend(bound.held);
        self.tell_addresses();
        self.hand_out(bound.threads).await;
        self.ring();
    }

    /// Gives each thread its sockets.
    pub(super) async fn hand_out(&self, threads: Vec<Vec<Listening>>) {
        for (door, sockets) in self.doors.iter().zip(threads) {
            if !sockets.is_empty() && door.send_timeout(sockets, HAND_OVER).await.is_err() {
                let event =
                    Event::error("listen_failed").with("error", "a data thread takes no listener");
                self.shared.log.event(event);
            }
        }
    }

    /// Closes what must not be open where this machine is now, when there is no plan that says so.
    pub(super) fn close_elsewhere(&mut self, machine: &Machine) {
        let plan = self.shared.live.current();
        let is_here = |held: &Held| {
            let rules = plan.listener(held.address);
            rules.is_some_and(|l| l.only_on.is_empty() || machine.is_in(&l.only_on))
        };
        self.close_but(is_here);
        self.tell_addresses();
        self.ring();
    }

    fn close_but(&mut self, keep: impl Fn(&Held) -> bool) {
        let closed = self.held.extract_if(.., |held| !keep(held));
        let closed = closed.inspect(Held::close).map(|held| held.bound);
        self.left.add(closed, Instant::now());
    }

    /// How many data threads there are.
    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Has every connection look whether it may go on.
    pub fn ring(&self) {
        self.signal.send_modify(|_| {});
    }

    /// In the order of the plan.
    fn tell_addresses(&mut self) {
        let plan = self.shared.live.current();
        self.held
            .sort_by_key(|held| plan.addresses().position(|address| address == held.address));
        self.addresses = self.held.iter().map(|held| held.bound).collect();
    }

    /// How far the end has come.
    pub fn phase(&self) -> Phase {
        self.signal.borrow().phase
    }

    /// Writes failed logins to the state directory, when they have changed; elsewhere than on this thread.
    pub fn keep_lockouts(&self) {
        let Some(file) = &self.lockouts else { return };
        if file.is_due(&self.shared.lockout, Instant::now()) {
            let (file, shared) = (Arc::clone(file), Arc::clone(&self.shared));
            drop(tokio::task::spawn_blocking(move || {
                file.save(&shared.lockout, &shared.log);
            }));
        }
    }

    /// The same at once. `then` follows when they are on the disk, or cannot be.
    pub fn write_lockouts(&self, then: impl FnOnce() + Send + 'static) {
        let Some(file) = &self.lockouts else {
            return then();
        };
        let (file, shared) = (Arc::clone(file), Arc::clone(&self.shared));
        drop(tokio::task::spawn_blocking(move || {
            file.save(&shared.lockout, &shared.log);
            then();
        }));
    }

    /// All metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.health.metrics()
    }

    /// How many client connections there are.
    pub fn connections(&self) -> usize {
        self.counts.all()
    }

    /// What is listened on: as the plan has it, and with the real port.
    pub(super) fn bound(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        self.held.iter().map(|held| (held.address, held.bound))
    }

    /// How much clients hold (connections, and streams beside another one of theirs), and how many connections to services are
    /// open.
    pub fn held(&self) -> (usize, usize) {
        (self.counts.held(), self.shared.open.all())
    }

    /// Ends everything that still runs, and the threads.
    pub fn stop(mut self) {
        self.signal.send_modify(|s| s.phase = Phase::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(file) = &self.lockouts {
            file.save(&self.shared.lockout, &self.shared.log);
        }
        self.shared.log.flush(Duration::from_secs(2));
    }
}
