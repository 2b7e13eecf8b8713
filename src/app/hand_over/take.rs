//! The side of the new process.

use std::future::pending;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;
use thiserror::Error;
use tokio::net::UnixStream;

use super::parcel::receive;
use super::talk::{Following, Visits};
use super::{Last, Offer, READY, Sockets, TAKEN};
use crate::app::control::{AskError, Verb, answered, ask, dial};
use crate::app::listeners::Handed;
use crate::app::manager::Manager;
use crate::app::start::Running;
use crate::flow::Shared;
use crate::limit::lockout::Snapshot;
use crate::net::bind;
use crate::observe::Event;

/// For the running gate to show what it has, and to say its last word.
const PATIENCE: Duration = Duration::from_secs(20);
/// For it to say whether it still serves.
const ALIVE: Duration = Duration::from_secs(5);

/// Why nothing was taken over. The running gate goes on, unless it is said that it is gone.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TakeOverError {
    #[error(transparent)]
    Refused(#[from] AskError),
    #[error("the running gate (process {pid}) does not hand over: {source}; it goes on")]
    Talk { pid: u32, source: io::Error },
    #[error(
        "the running gate (process {pid}) has ended, or is about to, before it handed over ({source}), and this one has served nobody: nobody serves now\n  Start again without `--take-over`."
    )]
    Gone { pid: u32, source: io::Error },
    #[error(
        "this version does not understand what the running gate offers ({source}); it goes on\n  For this one in its place, end it and start this one without `--take-over`."
    )]
    Foreign { source: serde_json::Error },
    #[error("the running gate has told of more sockets than came; it goes on")]
    Fewer,
    #[error("what the running gate hands over on {name} is no listening socket of that address")]
    Strange { name: String },
    #[error(
        "the running gate (process {pid}) is looked after by a service manager (systemd), which would take this one for no part of it and count the service as ended; use `systemctl restart` there, with loopgate.socket nobody is refused meanwhile"
    )]
    Managed { pid: u32 },
}

/// What a running gate offers.
pub struct Estate {
    pub(in crate::app) listeners: Handed,
    /// Its admin address, as its plan has it, and the sockets with their names.
    pub(in crate::app) admin: Option<(String, Vec<(String, OwnedFd)>)>,
    pub(in crate::app) lockouts: Option<Snapshot>,
    manager: Option<Manager>,
    stream: StdStream,
    /// Where it was asked.
    path: PathBuf,
    pid: u32,
}

impl std::fmt::Debug for Estate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estate")
            .field("pid", &self.pid)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// What the two still have to say to each other.
#[derive(Debug)]
pub struct Rest {
    stream: StdStream,
    following: Following,
}

impl Estate {
    /// Asks the gate at this control socket. It goes on until [`Estate::take`].
    pub fn ask(path: &Path) -> Result<Self, TakeOverError> {
        let talk = |source| AskError::Talk {
            path: path.to_owned(),
            source,
        };
        let stream = dial(path, &Verb::TakeOver, PATIENCE).map_err(talk)?;
        let (text, fds) = receive(&stream, PATIENCE).map_err(talk)?;
        let strange = || AskError::Strange {
            path: path.to_owned(),
        };
        let offer = answered(path, &text)?;
        let offer: Offer =
            serde_json::from_value(offer).map_err(|source| TakeOverError::Foreign { source })?;
        if offer.manager.as_ref().is_some_and(|one| !one.is_ours()) {
            return Err(TakeOverError::Managed { pid: offer.pid });
        }
        // Any that come behind them are of a later version, and nothing that we could do without.
        let told = offer.listeners.iter().chain(&offer.admin);
        if fds.len()
            < told
                .map(|about| about.sockets)
                .fold(0, usize::saturating_add)
        {
            return Err(TakeOverError::Fewer);
        }
        let mut fds = fds.into_iter();
        let mut listeners = Handed::default();
        for about in &offer.listeners {
            let address: SocketAddr = about.address.parse().map_err(|_| strange())?;
            let some = fds.by_ref().take(about.sockets);
            let checked = some.map(|fd| listening(fd, address, about));
            listeners.insert(address, checked.collect::<Result<_, _>>()?);
        }
        let mut admin: Option<(String, Vec<_>)> = None;
        for (about, socket) in offer.admin.into_iter().zip(fds) {
            let (_, all) = admin.get_or_insert_with(|| (about.address, Vec::new()));
            all.push((about.name, socket));
        }
        Ok(Self {
            listeners,
            admin,
            lockouts: Some(offer.lockouts),
            manager: offer.manager,
            stream,
            path: path.to_owned(),
            pid: offer.pid,
        })
    }

    /// Where the running gate listens: its sockets are ours as well.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let sockets = self.listeners.values().flatten();
        let mut all: Vec<_> = sockets.filter_map(|s| s.local_addr().ok()).collect();
        all.dedup();
        all
    }

    /// Takes the place of the running gate, which drains from now on. With an error it goes on, and this one has served nobody.
    pub fn take(mut self, running: &mut Running) -> Result<Rest, TakeOverError> {
        let following = match self.agree(running) {
            Ok(following) => following,
            Err(source) => {
                // They are the other one's.
                if let Some(file) = &running.lockouts {
                    file.let_go();
                }
                let pid = self.pid;
                return Err(match self.is_gone(&source) {
                    true => TakeOverError::Gone { pid, source },
                    false => TakeOverError::Talk { pid, source },
                });
            }
        };
        if let Some(manager) = &self.manager {
            // Whoever asks for a sign of life goes on doing so, of this process.
            running.watchdog = manager.watchdog();
        }
        running.open();
        running.desk.own();
        Ok(Rest {
            stream: self.stream,
            following,
        })
    }

    /// Whether the other one has broken it off because it ends: one that has only lost patience still says that it serves.
    fn is_gone(&self, error: &io::Error) -> bool {
        let is_broken = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
        );
        is_broken
            && match ask(&self.path, &Verb::Status, ALIVE) {
                Ok(status) => status["state"] != "serving",
                // It is there, and cannot say more now.
                Err(AskError::Failed(_) | AskError::Strange { .. }) => false,
                Err(AskError::Talk { source, .. }) => source.kind() != io::ErrorKind::TimedOut,
            }
    }

    fn agree(&mut self, running: &Running) -> io::Result<Following> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(READY.as_bytes())?;
        let (text, fds) = receive(&self.stream, PATIENCE)?;
        let last: Last = serde_json::from_str(&text)?;
        let shared = &running.shared;
        if let Some(lockouts) = &last.lockouts {
            let now = (Instant::now(), SystemTime::now());
            shared.lockout.begin_again(lockouts, now.0, now.1);
        }
        let visits = last.visits.map(Visits::read).transpose()?.flatten();
        let says_over = visits.as_ref().is_some_and(Visits::says_over);
        let visits = visits.map(|visits| visits.take(shared));
        let following = Following::begin(shared, says_over);
        if let (Some(file), Some(lock)) = (&running.lockouts, fds.into_iter().next()) {
            file.adopt(lock);
        }
        self.stream.write_all(TAKEN.as_bytes())?;
        let mut event = Event::info("took_over").with("pid", self.pid);
        if let Some((sessions, links)) = visits {
            event = event.with("sessions", sessions).with("links", links);
        }
        shared.log.event(event);
        Ok(following)
    }
}

impl Rest {
    /// Until the old process has ended: what begins and ends at one does so at the other, and what the old one has counted to the
    /// last is kept. `ring` is [`Running::bell`].
    pub async fn hear(self, shared: Arc<Shared>, ring: impl Fn()) {
        let Ok(()) = self.stream.set_nonblocking(true) else {
            return;
        };
        if let Ok(stream) = UnixStream::from_std(self.stream) {
            self.following.talk(stream, shared, ring, pending()).await;
        }
    }
}

fn listening(
    fd: OwnedFd,
    address: SocketAddr,
    about: &Sockets,
) -> Result<TcpListener, TakeOverError> {
    let socket = TcpListener::from(fd);
    let is_there = socket.local_addr().is_ok_and(|at| {
        let is_port = address.port() == 0 || at.port() == address.port();
        at.ip() == address.ip() && is_port
    });
    // A thread that waited in it would serve nobody else.
    let is_good = is_there
        && SockRef::from(&socket).is_listener().unwrap_or(false)
        && bind::prepare(&SockRef::from(&socket)).is_ok();
    match is_good {
        true => Ok(socket),
        false => Err(TakeOverError::Strange {
            name: about.name.clone(),
        }),
    }
}
