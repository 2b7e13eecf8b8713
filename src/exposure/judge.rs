//! Whether an upstream can be reached around the gate: a pure function of the socket table, the interfaces and what a dial found.
//! In doubt a socket is open. What cannot be known is `CannotTell`, never `Loopback`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::chain::around;
use super::forward::Forward;
use super::namespaces::Space;
use super::owner::{Holder, Process};
use super::probe;
use super::reach::{Reach, reach};
use super::same;
use super::socket_table::{LO, Protocol, Socket};
use super::spelling::Hosts;
use super::surroundings::Surroundings;
use crate::base::loopback::LoopbackAddr;
use crate::net::interfaces::Interfaces;

/// All that a judgement is made of, taken at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Listening sockets.
    pub sockets: Vec<Socket>,
    /// Why the table could not be read; then there are no sockets in it and nothing can be told.
    pub unreadable: Option<String>,
    /// Processes by socket inode, of those that were asked for and can be seen.
    pub owners: HashMap<u64, Process>,
    /// Inodes of this process's own sockets.
    pub own: HashSet<u64>,
    /// Processes behind upstreams, with the open sockets that they hold besides.
    pub holders: Vec<Holder>,
    /// The inodes of listening Unix sockets that were asked for.
    pub paths: HashMap<PathBuf, u64>,
    /// The same paths in the file system, by device and number.
    pub nodes: HashMap<PathBuf, (u64, u64)>,
    /// Forwarders that run here.
    pub forwards: Vec<Forward>,
    /// Those of them that do not live in our network namespace, or may not.
    pub spaces: HashMap<u32, Space>,
    /// The names of loopback by which they may call it.
    pub hosts: Hosts,
    /// Processes that are gates, as they have proven: their program is ours, or they answer on a control socket of ours.
    pub gates: HashSet<u32>,
    /// Processes whose program is `sshd`: the file, and one of root.
    pub sshd: HashSet<u32>,
    /// Where gates listen that have said so on a control socket of ours; their processes cannot be looked into.
    pub told: HashSet<SocketAddr>,
    /// Inodes of open sockets that other gates hold, and they alone: a way in that is guarded.
    pub guarded: HashSet<u64>,
    /// What hides sockets here.
    pub surroundings: Surroundings,
}

/// Whether an upstream can be reached around the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On loopback alone.
    Loopback,
    /// Open to others.
    Exposed(Exposure),
    /// Nothing listens there now; who will, is judged then.
    NotListening,
    /// Nothing was found open, but something hides what would be, or is open and may be the same service.
    CannotTell(Vec<Doubt>),
}

/// How an upstream is open to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The upstream as it is written.
    pub upstream: String,
    /// Its port.
    pub port: u16,
    /// Each way in.
    pub openings: Vec<Opening>,
}

/// One way around the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A socket on the upstream's port that is bound to more than loopback.
    Socket {
        /// The socket.
        socket: Socket,
        /// Whose it is, if that can be seen.
        process: Option<Process>,
        /// Who can reach it.
        reach: Reach,
        /// It is not the one that requests from the gate arrive at: a more specific socket holds loopback.
        is_beside: bool,
    },
    /// A program that carries the upstream's port to the outside.
    Forwarder {
        /// The program.
        forward: Forward,
    },
    /// The port answers on an address of this machine although no socket is bound there: the kernel redirects it.
    Redirect {
        /// The address that answered.
        address: SocketAddr,
    },
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The socket table cannot be read.
    NoTable(String),
    /// `route_localnet` is set on these interfaces, so that 127.0.0.1 may be reached from outside.
    RoutedLoopback(Vec<String>),
    /// This forwarder leads to it, and where it listens cannot be seen.
    UnseenForwarder(String),
    /// This forwarder leads to it from another network namespace, by its number.
    FarForwarder(String, u32),
    /// This forwarder is open to others, and whether it leads to it does not follow from its arguments.
    UnclearForwarder(String),
    /// A forwarder is open to others and leads to one of which it cannot be told whether, or from where, it leads to it.
    UnclearChain {
        /// The one that is open.
        who: String,
        /// The one in doubt.
        by: String,
    },
    /// Something answers although no socket listens: the kernel redirects to another namespace.
    AnswersFromElsewhere,
    /// Whether 127.0.0.1 is routed cannot be read.
    UnknownRouting,
    /// Its socket takes what was sent elsewhere: TPROXY may bring others to it.
    Transparent,
    /// This machine has more addresses than are dialled.
    TooManyAddresses(usize),
    /// The process behind it listens elsewhere too, open to others: that may be the same service.
    AlsoListens {
        /// The process.
        who: String,
        /// Where.
        at: String,
        /// Who can reach that.
        reach: String,
    },
    /// A forwarder stands in its place, and what it leads to may be reached by itself.
    LeadsOn {
        /// The forwarder.
        who: String,
        /// Where it leads.
        to: String,
    },
    /// A forwarder stands in its place, and another one that is open to others leads to the same place behind it.
    LeadsThereToo {
        /// The forwarder in its place.
        who: String,
        /// The other one.
        other: String,
    },
}

impl Verdict {
    /// Whether the policy must act. Doubt alone is said, not acted upon.
    pub fn is_exposed(&self) -> bool {
        matches!(self, Self::Exposed(_))
    }

    /// The word for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Exposed(_) => "exposed",
            Self::NotListening => "not-listening",
            Self::CannotTell(_) => "cannot-tell",
        }
    }

    /// The verdict together with what dialling found: addresses of this machine other than loopback that answered on the port, and
    /// whether the upstream itself answered.
    #[must_use]
    pub fn with_dialled(
        self,
        upstream: &LoopbackAddr,
        others: &[SocketAddr],
        itself: bool,
    ) -> Self {
        let openings = || {
            others
                .iter()
                .map(|address| Opening::Redirect { address: *address })
        };
        match self {
            Self::Exposed(exposure) => Self::Exposed(exposure),
            _ if !others.is_empty() => Self::Exposed(Exposure {
                upstream: upstream.to_string(),
                port: upstream.port().unwrap_or(0),
                openings: openings().collect(),
            }),
            Self::NotListening if itself => Self::CannotTell(vec![Doubt::AnswersFromElsewhere]),
            Self::Loopback | Self::NotListening | Self::CannotTell(_) => self,
        }
    }
}

/// Judges one upstream. `ours` are the addresses that the gate itself listens on: its own sockets there are no way around it.
/// A Unix socket has no place in the table: forwarders may lead to it, and who may connect is judged by [`super::unix`].
pub fn judge(
    snapshot: &Snapshot,
    interfaces: &Interfaces,
    upstream: &LoopbackAddr,
    ours: &[SocketAddr],
) -> Verdict {
    let around = around(snapshot, upstream);
    let forwarder = |forward: &&Forward| Opening::Forwarder {
        forward: (*forward).clone(),
    };
    let port = upstream.port().unwrap_or(0);
    if let Some(reason) = &snapshot.unreadable {
        return Verdict::CannotTell(vec![Doubt::NoTable(reason.clone())]);
    }
    let on_port: Vec<&Socket> = snapshot
        .sockets
        .iter()
        .filter(|s| s.protocol == Protocol::Tcp && Some(s.address.port()) == upstream.port())
        .filter(|s| !is_ours(s, snapshot, ours))
        .collect();
    let mut openings: Vec<Opening> = on_port
        .iter()
        .filter(|s| !s.is_loopback() && !snapshot.guarded.contains(&s.inode))
        .map(|s| Opening::Socket {
            socket: (*s).clone(),
            process: snapshot.owners.get(&s.inode).cloned(),
            reach: reach(s, interfaces),
            is_beside: is_beside(s, &on_port, upstream),
        })
        .collect();
    openings.extend(around.open.iter().map(forwarder));
    if !openings.is_empty() {
        return Verdict::Exposed(Exposure {
            upstream: upstream.to_string(),
            port,
            openings,
        });
    }
    let mut doubts = Vec::new();
    if let Some(unseen) = around.unseen.first() {
        let (who, pid) = (unseen.process.label(), unseen.process.pid);
        doubts.push(match snapshot.spaces.get(&pid) {
            Some(Space::Another) => Doubt::FarForwarder(who, pid),
            Some(Space::Ours | Space::Unknown) | None => Doubt::UnseenForwarder(who),
        });
    }
    if let Some((unsure, by)) = around.unsure.first() {
        let who = unsure.process.label();
        doubts.push(match by {
            None => Doubt::UnclearForwarder(who),
            Some(by) => Doubt::UnclearChain {
                who,
                by: by.process.label(),
            },
        });
    }
    if upstream.unix().is_none() {
        let serves = |to: SocketAddr| on_port.iter().any(|s| s.accepts(to.ip(), LO));
        if doubts.is_empty() && !upstream.sockets().any(serves) {
            return Verdict::NotListening;
        }
        // The kernel drops packets from outside to ::1 whatever is configured, and to 127.0.0.0/8 unless it is told otherwise.
        if upstream.sockets().any(|to| to.is_ipv4() && serves(to)) {
            let here = &snapshot.surroundings;
            if here.is_routing_unknown {
                doubts.push(Doubt::UnknownRouting);
            } else if !here.routed_loopback.is_empty() {
                doubts.push(Doubt::RoutedLoopback(here.routed_loopback.clone()));
            }
        }
        let takes = |s: &&&Socket| upstream.sockets().any(|to| s.accepts(to.ip(), LO));
        if on_port.iter().find(takes).is_some_and(|s| s.is_transparent) {
            doubts.push(Doubt::Transparent);
        }
        let count = probe::not_dialled(interfaces);
        if count > 0 {
            doubts.push(Doubt::TooManyAddresses(count));
        }
    }
    doubts.extend(same::doubts(snapshot, interfaces, upstream, ours));
    match doubts.is_empty() {
        true => Verdict::Loopback,
        false => Verdict::CannotTell(doubts),
    }
}

/// A socket is ours when we hold it and asked for it. Another process may share the address by `SO_REUSEPORT`; that one is not.
pub(super) fn is_ours(socket: &Socket, snapshot: &Snapshot, ours: &[SocketAddr]) -> bool {
    ours.contains(&socket.address) && snapshot.own.contains(&socket.inode)
}

/// Whether requests from the gate go to another socket: Linux prefers the one with the more specific address.
fn is_beside(open: &Socket, on_port: &[&Socket], upstream: &LoopbackAddr) -> bool {
    let has_own = |to: SocketAddr| {
        let mut holders = on_port.iter().filter(|s| s.is_loopback());
        holders.any(|s| s.accepts(to.ip(), LO))
    };
    upstream.sockets().any(has_own)
        && upstream
            .sockets()
            .all(|to| has_own(to) || !open.accepts(to.ip(), LO))
}

#[cfg(test)]
mod tests;
