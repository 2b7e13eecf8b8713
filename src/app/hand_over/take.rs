//! The side of the new process.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;
use thiserror::Error;
use tokio::net::UnixStream;

use super::parcel::{receive, rest};
use super::{Last, Offer, READY, Sockets, TAKEN};
use crate::app::control::{AskError, Verb, answered, dial};
use crate::app::listeners::Handed;
use crate::app::start::Running;
use crate::flow::Shared;
use crate::limit::lockout::Snapshot;
use crate::observe::Event;

/// For the running gate to show what it has, and to say its last word.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why nothing was taken over. The running gate goes on.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum TakeOverError {
    #[error(transparent)]
    Refused(#[from] AskError),
    #[error("the running gate (process {pid}) does not hand over: {source}; it goes on")]
    Talk { pid: u32, source: io::Error },
    #[error("what the running gate hands over on {name} is no listening socket of that address")]
    Strange { name: String },
}

/// What a running gate offers.
pub struct Estate {
    pub(in crate::app) listeners: Handed,
    /// Its admin address, as its plan has it, and the sockets with their names.
    pub(in crate::app) admin: Option<(String, Vec<(String, OwnedFd)>)>,
    pub(in crate::app) lockouts: Option<Snapshot>,
    stream: StdStream,
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

/// What the old process may still have to say.
#[derive(Debug)]
pub struct Rest(StdStream);

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
        let offer: Offer = serde_json::from_value(offer).map_err(|_| strange())?;
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
            stream,
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
        if let Err(source) = self.agree(running) {
            // They are the other one's.
            if let Some(file) = &running.lockouts {
                file.let_go();
            }
            return Err(TakeOverError::Talk {
                pid: self.pid,
                source,
            });
        }
        running.open();
        running.desk.own();
        let event = Event::info("took_over").with("pid", self.pid);
        running.shared.log.event(event);
        Ok(Rest(self.stream))
    }

    fn agree(&mut self, running: &Running) -> io::Result<()> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(READY.as_bytes())?;
        let (text, fds) = receive(&self.stream, PATIENCE)?;
        let last: Last = serde_json::from_str(&text)?;
        know(&running.shared, &last);
        if let (Some(file), Some(lock)) = (&running.lockouts, fds.into_iter().next()) {
            file.adopt(lock);
        }
        self.stream.write_all(TAKEN.as_bytes())
    }
}

impl Rest {
    /// Waits until the old process has ended, and keeps what it has counted to the last.
    pub async fn hear(self, shared: Arc<Shared>) {
        let Ok(()) = self.0.set_nonblocking(true) else {
            return;
        };
        let Ok(mut stream) = UnixStream::from_std(self.0) else {
            return;
        };
        let text = rest(&mut stream).await.unwrap_or_default();
        if let Ok(last) = serde_json::from_slice::<Last>(&text) {
            know(&shared, &last);
        }
    }
}

fn know(shared: &Shared, last: &Last) {
    if let Some(lockouts) = &last.lockouts {
        let now = (Instant::now(), SystemTime::now());
        shared.lockout.join(lockouts, now.0, now.1);
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
    match is_there && SockRef::from(&socket).is_listener().unwrap_or(false) {
        true => Ok(socket),
        false => Err(TakeOverError::Strange {
            name: about.name.clone(),
        }),
    }
}
