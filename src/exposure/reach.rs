//! Who can reach a socket, by its address and the interfaces of this machine; pure. What a firewall stops is not seen here.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::socket_table::Socket;
use crate::base::cidr::{NetSet, private};
use crate::net::interfaces::{Interfaces, Kind};

/// How far a socket is open, by what it is bound to and not by where this machine happens to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Openness {
    /// Loopback.
    ThisMachine,
    /// Private addresses or single interfaces: those networks.
    Networks,
    /// All addresses, or a public one: whoever can route a packet here.
    Everyone,
}

/// Who can reach a socket now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// How far it is open.
    pub openness: Openness,
    /// The networks whose members need no router to reach it, with the interface.
    pub networks: Vec<(IpNet, String)>,
    /// Addresses on it that are routed on the Internet, with the interface.
    pub public: Vec<(IpAddr, String)>,
}

/// Who can reach this socket.
pub fn reach(socket: &Socket, interfaces: &Interfaces) -> Reach {
    let private = NetSet::new(&private());
    let is_public = |ip: IpAddr| !private.contains(ip) && !ip.is_loopback() && !ip.is_unspecified();
    let mut reach = Reach {
        openness: Openness::ThisMachine,
        networks: Vec::new(),
        public: Vec::new(),
    };
    if socket.is_loopback() {
        return reach;
    }
    let is_far = socket.is_wildcard() && socket.device == 0
        || is_public(socket.address.ip().to_canonical()) && !socket.is_wildcard();
    reach.openness = if is_far {
        Openness::Everyone
    } else {
        Openness::Networks
    };
    for interface in &interfaces.list {
        for net in &interface.addresses {
            let ip = net.addr();
            if ip.is_loopback() || !socket.accepts(ip, interface.index) {
                continue;
            }
            let place = || interface.name.clone();
            if is_public(ip) && interface.kind != Kind::Loopback {
                reach.openness = Openness::Everyone;
                reach.public.push((ip, place()));
            }
            let entry = (net.trunc(), place());
            if !reach.networks.contains(&entry) {
                reach.networks.push(entry);
            }
        }
    }
    // IPv4 first, and link-local networks last: people know the former.
    reach.networks.sort_by_key(|(net, _)| {
        let is_link_local = matches!(net, IpNet::V6(six) if six.addr().is_unicast_link_local());
        (is_link_local, net.addr().is_ipv6())
    });
    reach
}

/// More networks than this are counted instead of named.
const NAMED: usize = 3;

impl fmt::Display for Reach {
    /// Who, as the subject of `can reach it`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.openness {
            Openness::ThisMachine => return f.write_str("only this machine"),
            Openness::Everyone if self.networks.is_empty() => {
                return f.write_str(
                    "nobody now, but everyone on the first network that this machine joins",
                );
            }
            Openness::Networks if self.networks.is_empty() => {
                return f.write_str("nobody while that address is on no interface");
            }
            Openness::Networks | Openness::Everyone => {}
        }
        let four = self.public.iter().find(|(ip, _)| ip.is_ipv4());
        match four.or(self.public.first()) {
            Some((ip, _)) if ip.is_ipv4() => write!(f, "the Internet through {ip}, and ")?,
            Some((ip, _)) => write!(
                f,
                "the IPv6 Internet through {ip} unless a router stops it, and "
            )?,
            None => {}
        }
        f.write_str("everyone on ")?;
        for (at, (net, name)) in self.networks.iter().take(NAMED).enumerate() {
            let before = match at {
                0 => "",
                _ if at + 1 == self.networks.len() => " and ",
                _ => ", ",
            };
            write!(f, "{before}{net} ({name})")?;
        }
        match self.networks.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::socket_table::tests::socket;
    use super::*;
    use crate::net::interfaces::Interface;

    /// `eth0 192.168.1.5/24 fe80::5/64` and so on, one interface a text; the first is number 1.
    pub(crate) fn machine(links: &[&str]) -> Interfaces {
        let list = (1..)
            .zip(links)
            .map(|(index, text)| {
                let mut words = text.split(' ');
                let name = words.next().unwrap();
                Interface {
                    name: name.to_owned(),
                    index,
                    addresses: words.map(|net| net.parse().unwrap()).collect(),
                    on_link: Vec::new(),
                    kind: match name {
                        "lo" => Kind::Loopback,
                        "docker0" => Kind::Bridge,
                        _ => Kind::Ordinary,
                    },
                    has_default_route: name == "eth0",
                    is_up: true,
                }
            })
            .collect();
        Interfaces {
            list,
            gateways: Vec::new(),
        }
    }

    #[test]
    fn who_can_reach_what() {
        const LO: &str = "lo 127.0.0.1/8 ::1/128";
        let home = machine(&[
            LO,
            "eth0 192.168.1.5/24 fe80::5/64",
            "docker0 172.17.0.1/16",
        ]);
        let server = machine(&[LO, "eth0 203.0.113.9/24 2001:db8::9/64"]);
        let plane = machine(&[LO]);
        for (on, bound, openness, text) in [
            (
                &home,
                "127.0.0.1:1",
                Openness::ThisMachine,
                "only this machine",
            ),
            (
                &home,
                "0.0.0.0:1",
                Openness::Everyone,
                "everyone on 192.168.1.0/24 (eth0) and 172.17.0.0/16 (docker0)",
            ),
            (
                &home,
                "[::]:1",
                Openness::Everyone,
                "everyone on 192.168.1.0/24 (eth0), 172.17.0.0/16 (docker0) and fe80::/64 (eth0)",
            ),
            (
                &home,
                "[::]:1 v6only",
                Openness::Everyone,
                "everyone on fe80::/64 (eth0)",
            ),
            (
                &home,
                "192.168.1.5:1",
                Openness::Networks,
                "everyone on 192.168.1.0/24 (eth0)",
            ),
            (
                &home,
                "172.17.0.1:1",
                Openness::Networks,
                "everyone on 172.17.0.0/16 (docker0)",
            ),
            (
                &home,
                "0.0.0.0:1 dev 3",
                Openness::Networks,
                "everyone on 172.17.0.0/16 (docker0)",
            ),
            (
                &home,
                "192.168.9.9:1",
                Openness::Networks,
                "nobody while that address is on no interface",
            ),
            (
                &server,
                "0.0.0.0:1",
                Openness::Everyone,
                "the Internet through 203.0.113.9, and everyone on 203.0.113.0/24 (eth0)",
            ),
            (
                &server,
                "203.0.113.9:1",
                Openness::Everyone,
                "the Internet through 203.0.113.9, and everyone on 203.0.113.0/24 (eth0)",
            ),
            (
                &server,
                "[::]:1 v6only",
                Openness::Everyone,
                "the IPv6 Internet through 2001:db8::9 unless a router stops it, and everyone on 2001:db8::/64 (eth0)",
            ),
            (
                &plane,
                "0.0.0.0:1",
                Openness::Everyone,
                "nobody now, but everyone on the first network that this machine joins",
            ),
            (
                &plane,
                "[::1]:1",
                Openness::ThisMachine,
                "only this machine",
            ),
        ] {
            let got = reach(&socket(bound), on);
            assert_eq!(got.openness, openness, "{bound}");
            assert_eq!(got.to_string(), text, "{bound}");
        }
    }
}
