//! The ports that the child's family really opened: sockets of the kernel's table that one of its processes holds.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::tree;
use crate::base::cidr::fold;
use crate::exposure::owner;
use crate::exposure::socket_table::{self, Protocol, Socket};

/// A socket that is open to others for this long is meant to be: tools open one for a moment to see whether a port is free.
const MEANT: Duration = Duration::from_millis(250);
/// After so many looks every socket is asked again whose it is: a process may have moved while it was looked for.
const AGAIN: u32 = 20;

/// What is known between two looks.
#[derive(Debug, Default)]
pub struct Ports {
    own: HashSet<u64>,
    strangers: HashSet<u64>,
    open_since: HashMap<u64, Instant>,
    looks: u32,
}

/// What one look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Everything that the family listens on.
    pub sockets: Vec<Socket>,
    /// Those of them that others can reach, for longer than a moment.
    pub exposed: Vec<Socket>,
}

impl Ports {
    /// Reads the table, and the family's descriptors when there is a socket that is not known. Blocking: about 0.1 ms when nothing
    /// has changed.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn look(&mut self, root: u32, now: Instant) -> io::Result<Opened> {
        let (table, _) = socket_table::read(Protocol::Tcp)?;
        self.looks += 1;
        if self.looks.is_multiple_of(AGAIN) {
            self.strangers.clear();
        }
        let is_new =
            |s: &Socket| !self.own.contains(&s.inode) && !self.strangers.contains(&s.inode);
        if table.iter().any(is_new) {
            let held = owner::held_by(&tree::below(root, &tree::all()));
            self.strangers = table.iter().map(|s| s.inode).collect();
            self.strangers.retain(|inode| !held.contains(inode));
            self.own = held;
        }
        Ok(self.sort(table, now))
    }

    /// What of the table is the family's, and how long it has been open; pure.
    fn sort(&mut self, table: Vec<Socket>, now: Instant) -> Opened {
        let is_own = |s: &Socket| s.inode != 0 && self.own.contains(&s.inode);
        let sockets: Vec<Socket> = table.into_iter().filter(is_own).collect();
        self.own
            .retain(|inode| sockets.iter().any(|s| s.inode == *inode));
        let open = |inode: &u64| {
            let mut others = sockets.iter().filter(|s| !s.is_loopback());
            others.any(|s| s.inode == *inode)
        };
        self.open_since.retain(|inode, _| open(inode));
        let mut exposed = Vec::new();
        for socket in sockets.iter().filter(|s| !s.is_loopback()) {
            let since = *self.open_since.entry(socket.inode).or_insert(now);
            if now.duration_since(since) >= MEANT {
                exposed.push(socket.clone());
            }
        }
        Opened { sockets, exposed }
    }
}

/// Where such a socket is reached from here; `None` when that is not on loopback.
pub fn way_in(socket: &Socket) -> Option<SocketAddr> {
    let ip = match fold(socket.address.ip()) {
        IpAddr::V6(ip) if ip.is_unspecified() && socket.only_v6 == Some(true) => {
            Ipv6Addr::LOCALHOST.into()
        }
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip if ip.is_loopback() => ip,
        _ => return None,
    };
    Some(SocketAddr::new(ip, socket.address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, inode: u64) -> Socket {
        Socket {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
            only_v6: None,
            device: 0,
            uid: 1000,
            is_transparent: false,
            inode,
        }
    }

    #[test]
    fn a_socket_that_is_open_for_a_moment_is_not_exposed_and_one_that_stays_is() {
        let now = Instant::now();
        let mut ports = Ports {
            own: HashSet::from([1, 2]),
            ..Ports::default()
        };
        let table = || {
            vec![
                socket("0.0.0.0:80", 1),
                socket("127.0.0.1:81", 2),
                socket("0.0.0.0:82", 3),
            ]
        };
        let first = ports.sort(table(), now);
        assert_eq!(first.sockets.len(), 2, "not the stranger's");
        assert!(first.exposed.is_empty());
        let later = ports.sort(table(), now + MEANT);
        assert_eq!(later.exposed, [socket("0.0.0.0:80", 1)]);
    }

    #[test]
    fn one_that_was_closed_in_between_begins_anew() {
        let now = Instant::now();
        let mut ports = Ports {
            own: HashSet::from([1]),
            ..Ports::default()
        };
        ports.sort(vec![socket("0.0.0.0:80", 1)], now);
        ports.sort(Vec::new(), now + MEANT);
        ports.own.insert(1);
        let again = ports.sort(vec![socket("0.0.0.0:80", 1)], now + MEANT);
        assert!(again.exposed.is_empty());
    }

    #[test]
    fn the_way_in_is_on_loopback_or_there_is_none() {
        for (address, only_v6, want) in [
            ("127.0.0.1:80", None, Some("127.0.0.1:80")),
            ("127.0.0.5:80", None, Some("127.0.0.5:80")),
            ("[::1]:80", None, Some("[::1]:80")),
            ("0.0.0.0:80", None, Some("127.0.0.1:80")),
            ("[::]:80", Some(false), Some("127.0.0.1:80")),
            ("[::]:80", Some(true), Some("[::1]:80")),
            ("192.168.1.5:80", None, None),
        ] {
            let socket = Socket {
                only_v6,
                ..socket(address, 1)
            };
            let want = want.map(|text| text.parse().unwrap());
            assert_eq!(way_in(&socket), want, "{address}");
        }
    }

    #[test]
    fn a_listener_of_a_family_is_found_and_one_beside_it_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = std::process::id();
        let parent = std::os::unix::process::parent_id();
        let has = |root| {
            let opened = Ports::default().look(root, Instant::now()).unwrap();
            opened.sockets.iter().any(|s| s.address.port() == port)
        };
        assert!(has(parent), "we are below our parent");
        // A child that another test has just forked has all that is ours, until it is a program of its own.
        let is_free = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !has(me)
        });
        assert!(is_free, "and not below ourselves");
    }
}
