//! Listening sockets: one per data thread on the same address, and a clear word when the address is taken.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

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
    for _ in 0..count.max(1) {
        let address = listeners
            .first()
            .map_or(Ok(address), TcpListener::local_addr)?;
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

/// What every listening socket has, also one that we were given. Accepted sockets inherit it: a phone that left without a word
/// does not keep its tunnel for ever.
pub fn prepare(socket: &Socket) -> io::Result<()> {
    let alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&alive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
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
}
