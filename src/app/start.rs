//! Start: bind everything, then begin. A failure before the end leaves nothing half open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::lockout_file::LockoutFile;
use super::worker::{Job, Signal, spawn};
use crate::auth::login::Csrf;
use crate::auth::session::{SessionSettings, Sessions};
use crate::auth::verify::{Settings, Verifier};
use crate::base::drain::{Drain, Phase};
use crate::flow::Shared;
use crate::limit::lockout::Lockout;
use crate::net::bind;
use crate::observe::{Log, Metrics};
use crate::plan::{Live, Plan};
use crate::serve::Counts;

/// Why nothing was started.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum StartError {
    #[error(
        "{address} is in use by another program; end that one, or listen elsewhere with `-l ADDR:PORT` or `address = \"…\"`"
    )]
    InUse { address: SocketAddr },
    #[error(
        "listening on {address} is not permitted; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or choose a port above"
    )]
    NotPermitted { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot open the access log: {0}")]
    Log(io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A gate that serves.
#[derive(Debug)]
pub struct Running {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The addresses that are served; ports are real ones.
    pub addresses: Vec<SocketAddr>,
    drain: Drain,
    signal: watch::Sender<Signal>,
    threads: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
    lockouts: Option<Arc<LockoutFile>>,
}

/// Binds every listener of the plan and starts the data threads.
pub fn start(mut plan: Plan) -> Result<Running, StartError> {
    let (sink, format, query) = plan.log.clone();
    let workers = plan.workers.max(1);
    let mut sockets: Vec<Vec<(SocketAddr, std::net::TcpListener)>> =
        (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for address in plan.addresses() {
        {
            let bound =
                bind::listen(address, workers).map_err(|source| bind_error(address, source))?;
            addresses.extend(bound.first().and_then(|l| l.local_addr().ok()));
            for (thread, socket) in sockets.iter_mut().zip(bound) {
                thread.push((address, socket));
            }
        }
    }
    let log = Log::start(sink, format, query).map_err(StartError::Log)?;
    let verifier = Verifier::new(Settings::default()).map_err(StartError::Thread)?;
    let (drain, counts) = (Drain::default(), Arc::new(Counts::default()));
    let signal = watch::Sender::new(Signal {
        phase: Phase::Run,
        generation: plan.generation,
    });
    let now = Instant::now();
    let sessions = SessionSettings {
        lifetime: plan.session,
        idle: plan.session_idle,
        ..SessionSettings::default()
    };
    let sessions = Sessions::new(sessions, now);
    let lockouts = plan
        .lockout_file
        .clone()
        .map(|path| Arc::new(LockoutFile::new(path, now)));
    let lockout = match &lockouts {
        Some(file) => file.open(plan.lockout, now, &log),
        None => Lockout::new(plan.lockout, now),
    };
    let metrics = Arc::new(Metrics::default());
    plan.count_by(&metrics);
    let shared = Arc::new(Shared {
        live: Live::new(plan),
        verifier,
        sessions,
        lockout,
        csrf: Csrf::new(now),
        dial_failed: Notify::new(),
        log,
        metrics,
    });
    let mut threads = Vec::with_capacity(workers);
    for (index, listeners) in sockets.into_iter().enumerate() {
        let job = Job {
            shared: shared.clone(),
            listeners,
            counts: counts.clone(),
            drain: drain.watch(),
            signal: signal.subscribe(),
        };
        threads.push(spawn(index, job).map_err(StartError::Thread)?);
    }
    Ok(Running {
        shared,
        addresses,
        drain,
        signal,
        threads,
        counts,
        lockouts,
    })
}

fn bind_error(address: SocketAddr, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address },
        io::ErrorKind::PermissionDenied => StartError::NotPermitted { address },
        _ => StartError::Bind { address, source },
    }
}

impl Running {
    /// Puts another plan in force; every connection looks at it.
    pub fn swap(&self, mut plan: Plan) {
        plan.count_by(&self.shared.metrics);
        self.shared.live.swap(plan);
        let users = &self.shared.live.current().users;
        self.shared.sessions.sweep(users, Instant::now());
        let generation = self.shared.live.generation();
        self.signal.send_modify(|s| s.generation = generation);
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

    /// All metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        super::scrape::scrape(&self.shared)
    }

    /// How many client connections there are.
    pub fn connections(&self) -> usize {
        self.counts.all()
    }

    /// Closes the listeners and lets what runs finish, at most `limit`. True when everything did.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.signal
            .send_modify(|s| s.phase = s.phase.max(Phase::Drain));
        self.drain.idle(limit).await
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
