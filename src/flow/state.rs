//! What lives how long: [`Shared`] for ever, the plan until reload, [`Worker`] per core, [`Conn`] per connection.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;
use tokio::sync::Notify;

use crate::auth::certificate::CertificateFault;
use crate::auth::login::Csrf;
use crate::auth::passed::Passed;
use crate::auth::session::Sessions;
use crate::auth::share::Shares;
use crate::auth::verify::Verifier;
use crate::base::drain::Phase;
use crate::base::id::RequestId;
use crate::base::refusal::{Reason, Refusal};
use crate::limit::lockout::Lockout;
use crate::limit::{Counted, Exchange};
use crate::observe::metrics::{Method, Slot};
use crate::observe::{Log, Metrics, Pen, Record, Tally, Texts, contained, guarded};
use crate::plan::{Live, Plan};
use crate::upstream::{H2cPool, Open, Pool};

use super::body::Carried;
use super::certificate::ClientCertificate;
use super::ends::Ends;
use super::known::Known;
use super::onboard::Onboard;

/// What all data threads share for as long as the process lives.
pub struct Shared {
    /// The plan in force.
    pub live: Live,
    /// Passwords, off the data threads.
    pub verifier: Verifier,
    /// Who is logged in by cookie.
    pub sessions: Sessions,
    /// Who failed too often.
    pub lockout: Lockout,
    /// What is the application's under the name of a user of ours.
    pub passed: Passed,
    /// What shows that a form came from us.
    pub csrf: Csrf,
    /// The links that were given away.
    pub shares: Shares,
    /// The page that helps to trust the local authority, while it is open.
    pub onboard: Onboard,
    /// Where facts are written.
    pub log: Log,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many connections to services are open.
    pub open: Arc<Open>,
    /// Told when an upstream did not take a connection: whatever listens there next is looked at soon.
    pub dial_failed: Notify,
    /// What listens instead of a service that is not there.
    pub questions: super::absent::Questions,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// One data thread.
#[derive(Debug)]
pub struct Worker {
    /// What is common to all threads.
    pub shared: Arc<Shared>,
    /// The counters of this thread.
    pub tally: Arc<Tally>,
    /// Its part of the access log.
    pub pen: Pen,
    #[allow(
        clippy::redundant_allocation,
        reason = "cloning the inner Arc would bounce a cache line between threads at every request"
    )]
    plan: RefCell<Rc<Arc<Plan>>>,
    /// Idle upstream connections of this thread.
    pub pool: Pool,
    /// HTTP/2 upstream connections of this thread.
    pub h2c: H2cPool<Carried>,
    /// What is told about services that are not there.
    pub(super) hints: super::absent::Hints,
    phase: Cell<Phase>,
    epoch: Cell<u64>,
    turn: Cell<u64>,
    /// What is looked at when it ends by itself.
    pub ends: Ends,
    bells: RefCell<Slab<Waker>>,
    /// Connections beyond the limits that are being told so.
    pub surplus: Rc<Cell<usize>>,
}

impl Worker {
    /// A data thread's state.
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let plan = RefCell::new(Rc::new(shared.live.current()));
        let tally = shared.metrics.tally();
        let pen = shared.log.pen();
        let metrics = Arc::clone(&shared.metrics);
        let h2c = H2cPool::new(shared.log.clone(), metrics, Arc::clone(&shared.open));
        let pool = Pool::new(Arc::clone(&shared.open));
        Rc::new(Self {
            shared,
            tally,
            pen,
            plan,
            pool,
            h2c,
            hints: super::absent::Hints::default(),
            phase: Cell::new(Phase::Run),
            epoch: Cell::new(0),
            turn: Cell::new(0),
            ends: Ends::default(),
            bells: RefCell::default(),
            surplus: Rc::default(),
        })
    }

    /// The plan in force. Not shared between threads, so that taking it costs no cache line.
    #[allow(clippy::redundant_allocation, reason = "as above")]
    pub fn plan(&self) -> Rc<Arc<Plan>> {
        let generation = self.shared.live.generation();
        if self.plan.borrow().generation != generation {
            *self.plan.borrow_mut() = Rc::new(self.shared.live.current());
        }
        Rc::clone(&self.plan.borrow())
    }

    /// A request is at its end: counts it, and hands it to the log.
    pub fn finish(&self, mut record: Box<Record>) {
        record.took = record.started.elapsed();
        self.tally.request(&record);
        self.pen.access(record);
    }

    /// Runs a task on this thread. A panic ends it alone, is counted and told.
    pub fn spawn(self: &Rc<Self>, task: &'static str, future: impl Future + 'static) {
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let shared = &worker.shared;
            contained(task, &shared.log, &shared.metrics, future).await;
        });
    }

    /// One step of a task, as [`guarded`]: the end of one that panics is `Ready`.
    pub fn guarded(&self, task: &'static str, step: impl FnOnce() -> Poll<()>) -> Poll<()> {
        guarded(task, &self.shared.log, &self.shared.metrics, step).map(drop)
    }

    /// How far the end has come.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Moves on to `phase` and wakes every connection, so that it looks.
    pub fn advance(&self, phase: Phase) {
        self.phase.set(phase.max(self.phase.get()));
        self.ring();
    }

    /// Moves on whenever a permission may have ended.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Wakes every connection that listens: the phase, the plan or the sessions have changed.
    pub fn ring(&self) {
        self.epoch.set(self.epoch.get() + 1);
        for (_, waker) in self.bells.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// A clock that costs nothing: moves on every few seconds.
    pub fn turn(&self) -> u64 {
        self.turn.get()
    }

    /// Moves it on.
    pub fn turn_on(&self) {
        self.turn.set(self.turn.get() + 1);
    }

    /// Closes what is idle for too long, and what leads to services that the plan does not have any more; called every few seconds.
    pub fn sweep(&self) {
        let (plan, now) = (self.plan(), Instant::now());
        let is_there = |service: u64| plan.has_service(service, now);
        self.pool.sweep(is_there);
        self.h2c.sweep(is_there);
    }

    /// A place at which a connection can be woken.
    pub fn bell(self: &Rc<Self>) -> Bell {
        Bell {
            worker: Rc::clone(self),
            place: Cell::new(None),
        }
    }
}

/// Wakes one connection when the phase or the plan changes. Costs one look per poll, and nothing is shared between threads.
#[derive(Debug)]
pub struct Bell {
    worker: Rc<Worker>,
    place: Cell<Option<usize>>,
}

impl Bell {
    /// Makes sure that this task is woken. A task keeps its waker for life, so once is enough.
    pub fn listen(&self, cx: &Context<'_>) {
        if self.place.get().is_none() {
            let waker = cx.waker().clone();
            self.place
                .set(Some(self.worker.bells.borrow_mut().insert(waker)));
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let Some(place) = self.place.get() {
            self.worker.bells.borrow_mut().try_remove(place);
        }
    }
}

/// What a connection is doing: streams that are not at their end, and since when there are none.
#[derive(Debug)]
pub struct Busy {
    streams: Cell<usize>,
    since: Cell<Instant>,
    told: Cell<Option<Instant>>,
}

/// One stream that is not at its end; dropped with it.
#[derive(Debug)]
pub struct Held(Rc<Busy>);

impl Default for Busy {
    fn default() -> Self {
        Self {
            streams: Cell::new(0),
            since: Cell::new(Instant::now()),
            told: Cell::default(),
        }
    }
}

impl Busy {
    /// The client is told that the connection ends.
    pub fn tell_end(&self) {
        self.told.set(Some(Instant::now()));
    }

    /// Whether a request that begins now comes too late for one that was told. Who does not answer HTTP/2's question whether he has heard
    /// it could go on for ever; one that reads slowly may have that question still before it.
    pub fn is_told(&self) -> bool {
        const HEARD: Duration = Duration::from_secs(10);
        self.told.get().is_some_and(|at| at.elapsed() > HEARD)
    }

    /// Counts a stream until the guard is dropped.
    pub fn hold(self: &Rc<Self>) -> Held {
        self.streams.set(self.streams.get() + 1);
        Held(Rc::clone(self))
    }

    /// Whether no stream runs.
    pub fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// How long ago the last stream ended.
    pub fn idle(&self) -> Duration {
        self.since.get().elapsed()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    /// The socket's other end.
    pub peer: SocketAddr,
    /// Whom the PROXY header of a trusted proxy names; the peer when there is none. The client of a request is in its
    /// `Origin`.
    pub source: IpAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
    /// The server name of the TLS handshake, lower case.
    pub sni: Option<Box<str>>,
    /// `TLSv1.3`, `TLSv1.2`, or empty.
    pub tls: &'static str,
    /// The certificate that the client gave, if it was asked for one.
    pub certificate: Option<Rc<ClientCertificate>>,
    /// The listener's address, as the plan has it.
    pub listener: SocketAddr,
    /// Wakes this connection.
    pub bell: Bell,
    /// What it is doing.
    pub busy: Rc<Busy>,
    /// Who has proven on it who he is.
    pub known: Known,
    /// It is one too many: it is told so, and ends.
    pub is_surplus: bool,
    /// Where it counts. Who is not counted asks no service.
    pub counted: Option<Rc<Counted>>,
}

impl Conn {
    /// `https`, or `http` on a listener without TLS.
    pub fn scheme(&self) -> &'static str {
        if self.is_plain() { "http" } else { "https" }
    }

    /// Whether the listener lets this connection in under the plan in force: a network that was narrowed ends open ones.
    pub fn is_welcome(&self, worker: &Worker) -> bool {
        let plan = worker.plan();
        let listener = plan.rules(self.listener, self.local);
        listener.is_some_and(|l| l.keeps(self.peer.ip(), self.source, self.is_plain()))
    }

    /// Whether it is without TLS.
    pub fn is_plain(&self) -> bool {
        self.tls.is_empty()
    }

    /// An exchange with a service begins beside others of this connection.
    pub fn exchange(&self, plan: &Plan) -> Result<Option<Exchange>, Refusal> {
        let Some(counted) = &self.counted else {
            return Ok(None);
        };
        let begun = counted.exchange(plan.limits.connections_per_client);
        begun.map(Some).ok_or(Refusal::new(
            Reason::TooBusy,
            "more streams and connections than `connections_per_client` lets in",
        ))
    }

    /// Whether it should end when what runs on it has finished: everything ends, or its listener was removed.
    pub fn is_leaving(&self, worker: &Worker) -> bool {
        worker.phase() > Phase::Run || worker.plan().is_leaving(self.listener, self.local)
    }

    /// Whose client certificate there is; `None` when there is none.
    pub fn certified(&self, worker: &Worker) -> Result<Option<Arc<str>>, CertificateFault> {
        match &self.certificate {
            Some(certificate) => {
                let at = (self.listener, self.local);
                certificate.judge(worker, at, self.source, SystemTime::now())
            }
            None => Ok(None),
        }
    }

    /// Begins the record of a request.
    pub fn record(&self, worker: &Worker, http: &'static str) -> Box<Record> {
        Box::new(Record {
            id: RequestId::fresh(),
            at: SystemTime::now(),
            started: Instant::now(),
            took: Duration::ZERO,
            generation: worker.shared.live.generation(),
            peer: self.peer,
            client: self.source,
            listener: self.local,
            tls: self.tls,
            http,
            route: None,
            slot: Slot::NONE,
            method: Method::Other,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            user: None,
            auth: None,
            refusal: None,
            cut: false,
            texts: worker.shared.log.wants_access().then(Texts::default),
        })
    }
}
