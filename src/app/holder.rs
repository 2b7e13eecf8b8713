//! Who has an address that we wanted, in words. Looked up only when it was refused.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::listeners::overlaps;
use crate::base::loopback::LoopbackAddr;
use crate::exposure::owner::{own_inodes, owners};
use crate::exposure::socket_table::{self, Protocol, Socket};
use crate::net;

/// It has the address for its other purpose.
pub(super) const OURSELVES: &str = "this gate itself, as the admin address or a listener of until now; free it by one reload, then use it by a second";

/// The process that listens there, with its number; or why it cannot be named.
pub(super) fn of(address: SocketAddr) -> String {
    let Ok((sockets, _)) = socket_table::read(Protocol::Tcp) else {
        return "another program (the kernel does not tell which)".to_owned();
    };
    named(&sockets, address)
}

/// The same for the admin address.
pub(super) fn of_admin(address: Option<&LoopbackAddr>) -> String {
    let mut sockets = address.into_iter().flat_map(|address| address.sockets());
    let taken = sockets.find(|at| net::bind::probe(*at).is_err());
    taken.map_or_else(|| "another program: something answers there".to_owned(), of)
}

fn named(sockets: &[Socket], address: SocketAddr) -> String {
    let own = own_inodes();
    // A socket of ours may be there beside the stranger's, as it was made to find him.
    let (ours, there): (Vec<_>, Vec<_>) = sockets
        .iter()
        .filter(|s| overlaps(s, address))
        .partition(|s| own.contains(&s.inode));
    let Some(first) = there.first() else {
        return match ours.is_empty() {
            true => "another program (which one cannot be told: it is bound and does not listen, or has ended just now)",
            false => OURSELVES,
        }
        .to_owned();
    };
    let inodes: HashSet<u64> = there.iter().map(|socket| socket.inode).collect();
    let found = owners(&inodes);
    let shown = |socket: &&&Socket| {
        Some(format!(
            "another program: {} listens on {}",
            found.get(&socket.inode)?.label(),
            socket.address
        ))
    };
    there.iter().find_map(|socket| shown(&socket)).unwrap_or_else(|| {
        format!("another program: a process of user {} that is hidden from this one listens on {}; `sudo loopgate audit` names it", first.uid, first.address)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_has_it_is_named_or_it_is_said_why_not() {
        let ours = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = ours.local_addr().unwrap();
        assert!(of(at).starts_with("this gate itself"), "{}", of(at));
        let (mut sockets, _) = socket_table::read(Protocol::Tcp).unwrap();
        let hidden = Socket {
            protocol: Protocol::Tcp,
            address: at,
            only_v6: None,
            device: 0,
            uid: 4711,
            is_transparent: false,
            inode: u64::MAX,
        };
        sockets.push(hidden);
        let said = named(&sockets, at);
        assert!(
            said.contains("user 4711") && said.contains("hidden"),
            "a stranger is named, also beside a socket of ours: {said}"
        );
        drop(ours);
        assert!(of(at).contains("cannot be told"), "{}", of(at));
    }
}
