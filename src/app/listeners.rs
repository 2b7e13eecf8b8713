//! The sockets behind the listeners of a plan: one a data thread for each address, bound all or none, and closed one by one.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::holder;
use super::inherited::Inherited;
use crate::exposure::owner::own_inodes;
use crate::exposure::socket_table::{self, Protocol, Socket};
use crate::net::bind::{self, Wrong};

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum BindError {
    #[error(
        "{address} is in use by {holder}; end that one, or listen elsewhere (`address = \"…\"` in the file, `-l ADDR:PORT` of `expose`)"
    )]
    InUse { address: SocketAddr, holder: String },
    #[error(
        "listening on {address} is not permitted; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or choose a port above"
    )]
    NotPermitted { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Other {
        address: SocketAddr,
        source: io::Error,
    },
}

impl BindError {
    /// The address that it is about.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::InUse { address, .. }
            | Self::NotPermitted { address }
            | Self::Other { address, .. } => *address,
        }
    }
}

/// One socket of a listener, on its way to a data thread.
#[derive(Debug)]
pub(super) struct Listening {
    /// The address, as the plan has it.
    pub address: SocketAddr,
    pub socket: TcpListener,
    /// Turns false when the listener is to close.
    pub open: Arc<AtomicBool>,
}

/// An address that is listened on; its sockets live in the data threads.
#[derive(Debug)]
pub(super) struct Held {
    /// The address, as the plan has it.
    pub address: SocketAddr,
    /// The same with the real port.
    pub bound: SocketAddr,
    open: Arc<AtomicBool>,
    /// The same sockets once more, for a process that takes over. They keep the address open, so they go when it closes.
    spare: Mutex<Vec<TcpListener>>,
}

/// Sockets of the process that hands over to us, by the address that its plan has. Each has a queue of its own.
pub(super) type Handed = HashMap<SocketAddr, Vec<TcpListener>>;

impl Held {
    /// Tells the data threads to close it, as soon as their bells ring.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
        self.give_up();
    }

    /// Leaves the sockets to the data threads alone, which close them at the drain.
    pub fn give_up(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.clear();
    }

    /// The same sockets for new tasks in the place of those that have them: whoever has seen the end of a socket goes on seeing it.
    pub fn again(&mut self, threads: usize) -> io::Result<Vec<Vec<Listening>>> {
        let (sockets, open) = (self.spares()?, Arc::new(AtomicBool::new(true)));
        let mut given: Vec<Vec<Listening>> = (0..threads).map(|_| Vec::new()).collect();
        for (at, socket) in sockets.into_iter().enumerate() {
            given[at % threads].push(Listening {
                address: self.address,
                socket,
                open: Arc::clone(&open),
            });
        }
        std::mem::replace(&mut self.open, open).store(false, Ordering::Release);
        Ok(given)
    }

    /// Puts right what another process has changed that had these sockets too, and says what it was.
    pub fn mend(&self, is_ours: bool) -> io::Result<Option<Wrong>> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        // Each of them, whatever becomes of the others.
        let mend = |socket: &TcpListener| {
            let found = bind::mend(socket, is_ours)?;
            match socket.local_addr()? == self.bound {
                true => Ok(found),
                false => Err(io::Error::other("it has another port now")),
            }
        };
        let found: Vec<_> = spare.iter().map(mend).collect();
        found
            .into_iter()
            .try_fold(None, |worst, one| Ok(worst.max(one?)))
    }

    /// The very sockets, for a process that takes over.
    pub fn spares(&self) -> io::Result<Vec<TcpListener>> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.iter().map(TcpListener::try_clone).collect()
    }
}

/// Addresses that were let go: a data thread may have them for some moments more.
#[derive(Debug, Default)]
pub(super) struct Left(Vec<(SocketAddr, Instant)>);

/// How long a thread is given to close what it has been told to.
pub(super) const CLOSING: Duration = Duration::from_secs(2);

impl Left {
    pub fn add(&mut self, addresses: impl Iterator<Item = SocketAddr>, now: Instant) {
        self.0.retain(|(_, at)| now < *at + CLOSING);
        self.0.extend(addresses.map(|address| (address, now)));
    }

    /// When the wait for this port is over, if it was let go a moment ago.
    pub fn until(&self, port: u16, now: Instant) -> Option<Instant> {
        let ends = self.0.iter().filter(|(address, _)| address.port() == port);
        ends.map(|(_, at)| *at + CLOSING)
            .max()
            .filter(|end| now < *end)
    }
}

/// Sockets that are bound and not handed out yet. Dropped, they are closed.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub held: Vec<Held>,
    /// What each thread gets.
    pub threads: Vec<Vec<Listening>>,
}

/// Binds all of these for so many threads, or none. Those that were handed to us, by a service manager or by the process before, are
/// bound already.
pub(super) fn bind(
    addresses: &[SocketAddr],
    threads: usize,
    inherited: &Inherited,
    handed: &mut Handed,
) -> Result<Bound, BindError> {
    // First all are asked for, then all are taken: `0.0.0.0:8443` and `127.0.0.1:8443` of one plan are no strangers to each other.
    let is_bound = |at: &SocketAddr| inherited.has(*at) || handed.contains_key(at);
    for address in addresses.iter().filter(|at| !is_bound(at)) {
        can_be_had(*address).map_err(|source| error(*address, source))?;
    }
    let mut bound = Bound {
        held: Vec::with_capacity(addresses.len()),
        threads: (0..threads).map(|_| Vec::new()).collect(),
    };
    for address in addresses {
        let given = match handed.remove(address) {
            Some(sockets) => Some(spread(sockets, threads)),
            None => inherited.listen(*address, threads),
        };
        let sockets = given
            .unwrap_or_else(|| bind::listen(*address, threads))
            .map_err(|source| error(*address, source))?;
        let spare = sockets.iter().map(TcpListener::try_clone);
        let spare: io::Result<_> = spare.collect();
        let open = Arc::new(AtomicBool::new(true));
        bound.held.push(Held {
            address: *address,
            bound: sockets
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .unwrap_or(*address),
            open: Arc::clone(&open),
            spare: Mutex::new(spare.map_err(|source| error(*address, source))?),
        });
        for (at, socket) in sockets.into_iter().enumerate() {
            bound.threads[at % threads].push(Listening {
                address: *address,
                socket,
                open: Arc::clone(&open),
            });
        }
    }
    Ok(bound)
}

/// Every queue to a thread, and a queue for every thread: there may be another number of threads than there was.
fn spread(mut sockets: Vec<TcpListener>, threads: usize) -> io::Result<Vec<TcpListener>> {
    let queues = sockets.len();
    for at in queues..threads {
        let again = sockets[at % queues.max(1)].try_clone()?;
        sockets.push(again);
    }
    Ok(sockets)
}

/// Refuses an address that this gate has as its admin address.
pub(super) fn keep_apart(
    wanted: &[SocketAddr],
    admin: impl Iterator<Item = SocketAddr>,
) -> Result<(), BindError> {
    for admin in admin {
        let meets = |at: &&SocketAddr| {
            let is_same = at.ip() == admin.ip() || at.ip().is_unspecified();
            at.port() == admin.port() && is_same && at.is_ipv4() == admin.is_ipv4()
        };
        if let Some(address) = wanted.iter().find(meets) {
            let (address, holder) = (*address, holder::OURSELVES.to_owned());
            return Err(BindError::InUse { address, holder });
        }
    }
    Ok(())
}

/// How often the address and the table are compared: our own sockets may be closing between the two looks.
const LOOKS: usize = 5;

fn can_be_had(address: SocketAddr) -> io::Result<()> {
    let mut last = bind::probe(address);
    for _ in 0..LOOKS {
        match last {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            had => return had,
        }
        if is_ours_alone(address) {
            return Ok(());
        }
        last = bind::probe(address);
    }
    last
}

fn error(address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse {
            address,
            holder: holder::of(address),
        },
        io::ErrorKind::PermissionDenied => BindError::NotPermitted { address },
        _ => BindError::Other { address, source },
    }
}

/// Whether the address is in use by sockets of this process and by nobody else's: `0.0.0.0:8443` that becomes `127.0.0.1:8443`.
/// What cannot be seen is somebody else's.
fn is_ours_alone(address: SocketAddr) -> bool {
    let Ok((sockets, _)) = socket_table::read(Protocol::Tcp) else {
        return false;
    };
    let (own, mut users) = (own_inodes(), 0);
    sockets
        .iter()
        .filter(|socket| overlaps(socket, address))
        .inspect(|_| users += 1)
        .all(|socket| own.contains(&socket.inode))
        && users > 0
}

pub(super) fn overlaps(socket: &Socket, address: SocketAddr) -> bool {
    // `accepts` asks for the interface only where the socket is held to one, and such a socket is in the way as well.
    let same = |a: &Socket, to: SocketAddr| {
        let anywhere = Socket {
            device: 0,
            ..a.clone()
        };
        anywhere.accepts(to.ip(), 0)
    };
    let family = || {
        socket.address.is_ipv4() == address.is_ipv4()
            || (socket.is_wildcard() && socket.only_v6 != Some(true))
    };
    socket.address.port() == address.port()
        && (same(socket, address) || (address.ip().is_unspecified() && family()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_none_and_overlapping_only_with_ourselves() {
        let none = Inherited::default();
        let first = bind(
            &["127.0.0.1:0".parse().unwrap()],
            2,
            &none,
            &mut Handed::new(),
        )
        .unwrap();
        let port = first.held[0].bound.port();
        let any: SocketAddr = format!("0.0.0.0:{port}").parse().unwrap();
        let other: SocketAddr = format!("127.0.0.2:{port}").parse().unwrap();
        let wide = bind(&[any, other], 2, &none, &mut Handed::new()).unwrap();
        assert_eq!(wide.threads.len(), 2);
        assert!(wide.threads.iter().all(|sockets| sockets.len() == 2));

        // A socket that belongs to nobody of this process cannot be made here: one that no table names as ours stands for it.
        let taken = bind(
            &[
                "127.0.0.1:0".parse().unwrap(),
                "203.0.113.9:1".parse().unwrap(),
            ],
            1,
            &none,
            &mut Handed::new(),
        );
        assert!(matches!(taken, Err(BindError::Other { .. })), "{taken:?}");
    }

    #[test]
    fn every_queue_of_the_process_before_is_served_by_however_many_threads() {
        let none = Inherited::default();
        for (before, threads) in [(3, 2), (2, 3), (1, 4), (2, 2)] {
            let sockets = bind::listen("127.0.0.1:0".parse().unwrap(), before).unwrap();
            let address = sockets[0].local_addr().unwrap();
            let ours: Vec<TcpListener> = sockets.iter().map(|s| s.try_clone().unwrap()).collect();
            let mut handed = Handed::from([(address, sockets)]);
            let bound = super::bind(&[address], threads, &none, &mut handed).unwrap();
            assert!(bound.threads.iter().all(|sockets| !sockets.is_empty()));
            // By whichever queue somebody comes, one of the threads has it.
            for _ in 0..16 {
                let _client = std::net::TcpStream::connect(address).unwrap();
                let accepted = || {
                    let sockets = bound.threads.iter().flatten();
                    sockets.filter(|l| l.socket.accept().is_ok()).count()
                };
                // On a busy machine a client knows a moment before the queue does.
                let found = (0..2000).find_map(|_| match accepted() {
                    0 => {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        None
                    }
                    found => Some(found),
                });
                assert_eq!(found, Some(1));
            }
            drop((bound, ours));
            assert!(std::net::TcpStream::connect(address).is_err());
        }
    }

    #[test]
    fn what_is_in_the_way() {
        let socket = |text: &str, only_v6| Socket {
            protocol: Protocol::Tcp,
            address: text.parse().unwrap(),
            only_v6,
            device: 0,
            uid: 0,
            is_transparent: false,
            inode: 1,
        };
        for (socket, address, want) in [
            (socket("0.0.0.0:80", None), "127.0.0.1:80", true),
            (socket("0.0.0.0:80", None), "127.0.0.1:81", false),
            (socket("127.0.0.1:80", None), "0.0.0.0:80", true),
            (socket("127.0.0.1:80", None), "127.0.0.2:80", false),
            (socket("127.0.0.1:80", None), "[::]:80", false),
            (socket("[::]:80", Some(true)), "0.0.0.0:80", false),
            (socket("[::]:80", Some(false)), "0.0.0.0:80", true),
            (socket("[::]:80", None), "127.0.0.1:80", true),
            (socket("[::1]:80", None), "[::]:80", true),
            (
                Socket {
                    device: 7,
                    ..socket("0.0.0.0:80", None)
                },
                "127.0.0.1:80",
                true,
            ),
        ] {
            assert_eq!(
                overlaps(&socket, address.parse().unwrap()),
                want,
                "{socket:?} {address}"
            );
        }
    }
}
