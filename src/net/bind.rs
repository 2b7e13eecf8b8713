//! Listening sockets: one per data thread on the same address, and a clear word when the address is taken.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Whether the address can be had by itself. One that anybody listens on already is `AddrInUse`, also when that one would share
/// it: without SO_REUSEPORT, another process of ours that would take a part of the connections silently is found here.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let probe = socket(address, false)?;
    probe.bind(&address.into())?;
    if address.port() != 0 {
        probe.listen(1)?;
    }
    Ok(())
}

/// Binds `count` listeners to one address, by SO_REUSEPORT, so that they share it with each other and with whoever else of this
/// user asked for that: [`probe`] first. Port 0 picks a port, the same for all.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(count);
    // One whose port was given keeps it whatever becomes of it; one that was left to choose does not (see `mend`).
    let chosen = socket(address, true)?;
    let address = match address.port() {
        0 => {
            chosen.bind(&address.into())?;
            let at = chosen.local_addr()?.as_socket();
            at.ok_or(io::ErrorKind::AddrNotAvailable)?
        }
        _ => address,
    };
    for _ in 0..count.max(1) {
        let socket = socket(address, true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    prepare(&socket)?;
    Ok(socket)
}

/// What [`mend`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Whoever waited in it served nobody else.
    Blocks,
    /// It took no connection any more.
    Deaf,
}

/// Puts a socket right that another process has as well, which may have changed it: flags and options are one and the same there and
/// here, and who ends it there ends it here. The length of its queue is left alone unless it `is_ours`.
pub fn mend(socket: &TcpListener, is_ours: bool) -> io::Result<Option<Wrong>> {
    let about = SockRef::from(socket);
    let blocks = !about.nonblocking()?;
    prepare(&about)?;
    let is_deaf = !listens(socket);
    if is_deaf || is_ours {
        about.listen(BACKLOG)?;
    }
    Ok(match (is_deaf, blocks) {
        (true, _) => Some(Wrong::Deaf),
        (false, true) => Some(Wrong::Blocks),
        (false, false) => None,
    })
}

/// The same for a Unix socket, of which one that is [`Wrong::Deaf`] stays so.
pub fn mend_unix(socket: &UnixListener) -> io::Result<Option<Wrong>> {
    let about = SockRef::from(socket);
    let blocks = !about.nonblocking()?;
    about.set_read_timeout(Some(WAIT))?;
    about.set_nonblocking(true)?;
    let is_deaf = has_ended(socket);
    Ok(match (is_deaf, blocks) {
        (true, _) => Some(Wrong::Deaf),
        (false, true) => Some(Wrong::Blocks),
        (false, false) => None,
    })
}

/// Whether it takes connections.
pub fn listens(socket: &TcpListener) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

/// Whether somebody has ended it.
pub fn has_ended(socket: &UnixListener) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

/// How long a thread waits at most in a listening socket that somebody has made a blocking one; the kernel rounds it up.
pub const WAIT: Duration = Duration::from_millis(1);

/// What every listening socket has, also one that we were given. Accepted sockets inherit it: a phone that left without a word
/// does not keep its tunnel for ever.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    let alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&alive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_a_port_among_our_own_and_with_nobody_else() {
        let ours = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert!(ours.iter().all(|l| l.local_addr().unwrap() == address));
        assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(ours);
        probe(address).unwrap();
    }

    #[test]
    fn what_somebody_else_has_changed_is_put_right() {
        let ours = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = ours[0].local_addr().unwrap();
        let theirs: Vec<_> = ours.iter().map(|l| l.try_clone().unwrap()).collect();
        let connects = || std::net::TcpStream::connect(address).is_ok();
        assert!(ours.iter().all(|l| mend(l, true).unwrap().is_none()));
        assert!(connects());
        for their in &theirs {
            their.set_nonblocking(false).unwrap();
        }
        // Both queues but the one with the client are empty: nobody waits in it for ever.
        let waits = |l: &TcpListener| l.accept().map(drop).map_err(|e| e.kind());
        for listener in ours.iter().chain(&ours) {
            assert!(matches!(
                waits(listener),
                Ok(()) | Err(io::ErrorKind::WouldBlock)
            ));
        }
        for listener in &ours {
            assert_eq!(mend(listener, false).unwrap(), Some(Wrong::Blocks));
            assert!(SockRef::from(listener).nonblocking().unwrap());
        }
        for their in &theirs {
            let ended = SockRef::from(their).shutdown(std::net::Shutdown::Read);
            ended.unwrap();
        }
        assert!(!connects());
        for listener in &ours {
            assert_eq!(mend(listener, false).unwrap(), Some(Wrong::Deaf));
        }
        let clients: Vec<_> = (0..16)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let accepted: Vec<usize> = ours
            .iter()
            .map(|l| std::iter::from_fn(|| l.accept().ok()).count())
            .collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|n| *n > 0), "both queues: {accepted:?}");
    }
}
