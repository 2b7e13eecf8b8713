//! The listening sockets of this network namespace: who accepts what, as the kernel has it. By netlink where that works, else
//! from `/proc/net`; the same words for both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::cidr::fold;

#[cfg(target_os = "linux")]
use super::diag;
use super::proc_net;

/// More sockets than this are not read; a table cut short is an error, for what is missing could be the open one.
pub const MOST: usize = 500_000;

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, listening (MPTCP is seen as this).
    Tcp,
    /// UDP, bound and not connected.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A socket that accepts connections or datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address it is bound to, as the kernel has it: IPv4-mapped addresses are not folded.
    pub address: SocketAddr,
    /// For IPv6: whether it takes IPv6 only. `None` where the source does not say.
    pub only_v6: Option<bool>,
    /// The interface that it is bound to (`SO_BINDTODEVICE`), 0 for none.
    pub device: u32,
    /// Who opened it.
    pub uid: u32,
    /// It takes what was sent to other addresses (`IP_TRANSPARENT`). False where the source does not say.
    pub is_transparent: bool,
    /// Its number, by which `/proc/PID/fd` names it; 0 for a socket of the kernel.
    pub inode: u64,
}

/// The number of `lo` in every Linux network namespace.
pub const LO: u32 = 1;

impl Socket {
    /// Whether it can be reached from this machine alone: an address of 127.0.0.0/8 or ::1, or held to the device `lo`.
    /// An address that somebody added to `lo` is not loopback: Linux answers for it on every interface.
    pub fn is_loopback(&self) -> bool {
        fold(self.address.ip()).is_loopback() || self.device == LO
    }

    /// Whether it is bound to all addresses of a family or of both.
    pub fn is_wildcard(&self) -> bool {
        fold(self.address.ip()).is_unspecified()
    }

    /// Whether a packet to this address, which the interface with this number holds, would reach it.
    /// What is not known about the socket is taken as open.
    pub fn accepts(&self, to: IpAddr, on: u32) -> bool {
        let to = fold(to);
        if self.device != 0 && self.device != on {
            return false;
        }
        match (self.address.ip(), to) {
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) => self.only_v6 != Some(true),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => true,
            (bound, to) => match fold(bound) {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => to.is_ipv4(),
                bound => bound == to,
            },
        }
    }
}

/// Where a table came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `sock_diag`.
    #[default]
    Netlink,
    /// `/proc/net`: devices, v6-only flags and transparency are not known.
    Proc,
}

/// Reads the listening sockets of one protocol. Blocking; the first source that works is taken.
pub fn read(protocol: Protocol) -> io::Result<(Vec<Socket>, Source)> {
    #[cfg(target_os = "linux")]
    if let Ok(sockets) = diag::dump(protocol) {
        return Ok((sockets, Source::Netlink));
    }
    Ok((proc_net::read(protocol)?, Source::Proc))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `0.0.0.0:3000`, `[::]:3000` (dual stack), `[::]:3000 v6only`, `0.0.0.0:3000 dev 1`.
    pub(crate) fn socket(text: &str) -> Socket {
        let mut words = text.split(' ');
        let address: SocketAddr = words.next().unwrap().parse().unwrap();
        let mut socket = Socket {
            protocol: Protocol::Tcp,
            address,
            only_v6: address.is_ipv6().then_some(false),
            device: 0,
            uid: 1000,
            is_transparent: false,
            inode: 0,
        };
        while let Some(word) = words.next() {
            match word {
                "v6only" => socket.only_v6 = Some(true),
                "transparent" => socket.is_transparent = true,
                "v6?" => socket.only_v6 = None,
                "udp" => socket.protocol = Protocol::Udp,
                "dev" => socket.device = words.next().unwrap().parse().unwrap(),
                "inode" => socket.inode = words.next().unwrap().parse().unwrap(),
                other => panic!("{other}"),
            }
        }
        socket
    }

    #[test]
    fn what_a_socket_accepts() {
        for (bound, to, on, want) in [
            ("0.0.0.0:1", "10.0.0.1", 2, true),
            ("0.0.0.0:1", "fd00::1", 2, false),
            ("[::]:1", "10.0.0.1", 2, true),
            ("[::]:1", "::ffff:10.0.0.1", 2, true),
            ("[::]:1 v6?", "10.0.0.1", 2, true),
            ("[::]:1 v6only", "10.0.0.1", 2, false),
            ("[::]:1 v6only", "fd00::1", 2, true),
            ("10.0.0.1:1", "10.0.0.1", 2, true),
            ("10.0.0.1:1", "10.0.0.2", 2, false),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1", 2, true),
            ("[::ffff:0.0.0.0]:1", "10.0.0.1", 2, true),
            ("127.0.0.1:1", "127.0.0.1", 1, true),
            ("127.0.0.1:1", "127.0.0.2", 1, false),
            ("0.0.0.0:1 dev 3", "10.0.0.1", 2, false),
            ("0.0.0.0:1 dev 3", "10.0.0.1", 3, true),
        ] {
            assert_eq!(
                socket(bound).accepts(to.parse().unwrap(), on),
                want,
                "{bound} {to} {on}"
            );
        }
    }

    #[test]
    fn what_is_loopback() {
        for (bound, want) in [
            ("127.0.0.1:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1 dev 1", true),
            ("0.0.0.0:1", false),
            ("0.0.0.0:1 dev 2", false),
            ("[::]:1 v6only", false),
            ("128.0.0.1:1", false),
            ("[fe80::1]:1", false),
            ("[::127.0.0.1]:1", false),
        ] {
            assert_eq!(socket(bound).is_loopback(), want, "{bound}");
        }
    }
}
