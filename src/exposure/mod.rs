//! The kernel's socket table judged against the plan: whether an upstream can be reached around the gate, and by whom.
//!
//! [`check`] does it all for a set of upstreams. Its parts: [`gather`] reads (blocking), [`judge()`] decides (pure), [`probe`] dials as a
//! second proof. [`audit()`] shows every socket of the machine, [`firewall`] prints rules, [`unix`] looks at Unix sockets.

mod absent;
pub mod advice;
pub mod audit;
mod chain;
#[cfg(target_os = "linux")]
mod diag;
mod expected;
pub mod firewall;
pub mod forward;
mod judge;
mod namespaces;
pub mod owner;
pub mod probe;
mod proc_net;
mod programs;
mod reach;
mod same;
mod socat;
pub mod socket_table;
pub mod spelling;
mod ssh;
mod surroundings;
pub mod table;
pub mod unix;
mod words;

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::base::loopback::LoopbackAddr;
use crate::net::interfaces::Interfaces;

pub use absent::{Scene, absent_socket, place};
pub use audit::audit;
pub use judge::{Doubt, Exposure, Opening, Snapshot, Verdict, judge};
pub use reach::{Openness, Reach, reach};
pub use surroundings::Surroundings;

use forward::Forward;
use namespaces::Space;
use socket_table::{Protocol, Socket, Source};
use spelling::Hosts;

/// Judges these upstreams as they are now, with both proofs, in their order. `ours` are the addresses that this process listens on.
///
/// Reads on the blocking pool, dials from the calling runtime. One call costs about 1.5 ms of CPU on a usual machine and 8 ms with
/// 10,000 listening sockets (optimised; open connections cost nothing). While something is exposed its owner is looked up too, at
/// about 5 µs for each open descriptor of the processes that may be inspected.
/// Dropping the future loses nothing.
pub async fn check(
    upstreams: &[&LoopbackAddr],
    interfaces: &Interfaces,
    ours: &[SocketAddr],
) -> Vec<Verdict> {
    let first = read_for(upstreams, ours).await;
    let judged = upstreams.iter().map(|upstream| match upstream.unix() {
        Some(path) if !path.exists() => Verdict::NotListening,
        _ => judge(&first, interfaces, upstream, ours),
    });
    let mut verdicts: Vec<Verdict> = judged.collect();
    // All of them in one round: what swallows packets is waited for once.
    let known = [ours, &first.guarded_places()].concat();
    let around: Vec<Dials> = upstreams
        .iter()
        .zip(&verdicts)
        .map(|(upstream, verdict)| Dials::of(verdict, upstream, interfaces, &known))
        .collect();
    let all = around.iter().flat_map(|d| d.others.iter().chain(&d.itself));
    let mut all: Vec<SocketAddr> = all.copied().collect();
    all.sort();
    all.dedup();
    let answered = probe::dial(&all).await;
    for ((verdict, dials), upstream) in verdicts.iter_mut().zip(around).zip(upstreams) {
        let found = |places: Vec<SocketAddr>| -> Vec<SocketAddr> {
            let answered = |to: &SocketAddr| answered.contains(to);
            places.into_iter().filter(answered).collect()
        };
        let (others, itself) = (found(dials.others), found(dials.itself));
        if others.is_empty() && itself.is_empty() {
            continue;
        }
        // What answers against the table's word may be a socket that was opened since: the table is asked again.
        let again = read_for(&[upstream], ours).await;
        let again = judge(&again, interfaces, upstream, ours);
        *verdict = again.with_dialled(upstream, &others, !itself.is_empty());
    }
    verdicts
}

/// Where the second proof dials for an upstream. What the table shows as open needs none.
#[derive(Default)]
struct Dials {
    /// This machine's addresses but loopback.
    others: Vec<SocketAddr>,
    /// The upstream's own, where the table shows nobody.
    itself: Vec<SocketAddr>,
}

impl Dials {
    fn of(
        verdict: &Verdict,
        upstream: &LoopbackAddr,
        interfaces: &Interfaces,
        ours: &[SocketAddr],
    ) -> Self {
        let Some(port) = upstream.port().filter(|_| !verdict.is_exposed()) else {
            return Self::default();
        };
        let places = || upstream.sockets().filter(|to| !ours.contains(to));
        Self {
            others: probe::targets(port, interfaces, ours),
            itself: match verdict {
                Verdict::NotListening => places().collect(),
                Verdict::Loopback | Verdict::Exposed(_) | Verdict::CannotTell(_) => Vec::new(),
            },
        }
    }
}

async fn read_for(upstreams: &[&LoopbackAddr], ours: &[SocketAddr]) -> Snapshot {
    let upstreams: Vec<LoopbackAddr> = upstreams.iter().map(|u| (*u).clone()).collect();
    let ours = ours.to_vec();
    let read = tokio::task::spawn_blocking(move || gather(&upstreams, &ours)).await;
    read.unwrap_or_else(|error| Snapshot {
        unreadable: Some(error.to_string()),
        ..Snapshot::default()
    })
}

/// Reads what [`judge()`] needs for these upstreams: the TCP table, the owners of what is open, forwarders that name them, what else
/// the processes behind them listen on. Blocking. Never fails: a table that cannot be read is itself a fact.
pub fn gather(upstreams: &[LoopbackAddr], ours: &[SocketAddr]) -> Snapshot {
    let ports: Vec<u16> = upstreams.iter().filter_map(LoopbackAddr::port).collect();
    let mut snapshot = table_now();
    snapshot.forwards = forward::running();
    snapshot.forwards.retain(Forward::may_lead);
    snapshot.find_spaces();
    let datagrams = socket_table::read(Protocol::Udp).map_or_else(|_| Vec::new(), |(all, _)| all);
    let in_use = |s: &Socket| {
        let mut carried = snapshot.forwards.iter().map(|f| &f.sockets);
        ports.contains(&s.address.port()) || carried.any(|held| held.contains(&s.inode))
    };
    let datagrams: Vec<Socket> = datagrams.into_iter().filter(in_use).collect();
    snapshot.sockets.extend(datagrams);
    snapshot.paths = same::paths(upstreams);
    snapshot.nodes = same::nodes(upstreams);
    let (served, open) = same::wanted(&snapshot.sockets, &snapshot.paths, upstreams);
    snapshot.holders = same::holders(served, open);
    let has_forwards = !snapshot.forwards.is_empty();
    if has_forwards {
        snapshot.hosts = hosts();
    }
    let is_open = |s: &Socket| {
        s.protocol == Protocol::Tcp && !s.is_loopback() && ports.contains(&s.address.port())
    };
    let is_ours = |s: &Socket| !s.is_loopback() && ours.contains(&s.address);
    if snapshot.sockets.iter().any(is_ours) {
        snapshot.own = owner::own_inodes();
    }
    // A chain of forwarders may pass through any port.
    snapshot.name_owners(|s| has_forwards || is_open(s));
    snapshot.find_guarded(is_open);
    snapshot
}

fn hosts() -> Hosts {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Hosts::parse(&text("/etc/hosts")).with_services(&text("/etc/services"))
}

fn table_now() -> Snapshot {
    match socket_table::read(Protocol::Tcp) {
        Ok((sockets, source)) => Snapshot {
            sockets,
            surroundings: Surroundings::read(source),
            ..Snapshot::default()
        },
        Err(error) => Snapshot {
            unreadable: Some(error.to_string()),
            surroundings: Surroundings::read(Source::Proc),
            ..Snapshot::default()
        },
    }
}

/// What no check can see here, one sentence each. Blocking.
pub fn unseen() -> Vec<String> {
    let mut said = unseen_now();
    said.extend(namespaces::unseen());
    said
}

/// The same without a look at every process: what hides sockets and forwarders here. Reads the table and a dozen small files.
pub fn unseen_now() -> Vec<String> {
    let source = socket_table::read(Protocol::Tcp).map_or(Source::Proc, |(_, source)| source);
    Surroundings::read(source).unseen()
}

/// Reads everything that [`audit()`] shows: both protocols, all owners, all forwarders. Blocking, and dearer than [`gather`].
pub fn survey() -> Snapshot {
    let mut snapshot = table_now();
    match socket_table::read(Protocol::Udp) {
        Ok((sockets, _)) => snapshot.sockets.extend(sockets),
        Err(error) => snapshot.unreadable = Some(error.to_string()),
    }
    snapshot.forwards = forward::running();
    snapshot.find_spaces();
    snapshot.hosts = hosts();
    snapshot.surroundings.ssh_ports = surroundings::ssh_ports();
    snapshot.name_owners(|_| true);
    let holders: HashSet<u32> = snapshot.owners.values().map(|p| p.pid).collect();
    let gates = holders
        .into_iter()
        .filter(|pid| owner::is_our_program(*pid));
    snapshot.gates = gates.collect();
    let named = snapshot.owners.values().filter(|p| p.name == "sshd");
    let named: HashSet<u32> = named.map(|p| p.pid).collect();
    snapshot.sshd = named
        .into_iter()
        .filter(|pid| owner::is_sshd(*pid))
        .collect();
    snapshot
}

impl Snapshot {
    /// Finds the forwarders whose loopback is not ours, or may not be.
    fn find_spaces(&mut self) {
        let processes = self.forwards.iter().map(|f| &f.process);
        let spaces = processes.map(|process| (process.pid, namespaces::space(process)));
        self.spaces = spaces.filter(|(_, space)| *space != Space::Ours).collect();
    }

    /// Finds the open sockets that other gates hold, and nobody beside them who could take the connections.
    fn find_guarded(&mut self, is_open: impl Fn(&Socket) -> bool) {
        let holder = |s: &&Socket| self.owners.get(&s.inode).map(|p| p.pid);
        let is_gate = |pid: u32| owner::is_our_program(pid);
        let guarded = self.sockets.iter().filter(|s| is_open(s));
        let guarded = guarded.filter(|s| holder(s).is_some_and(is_gate));
        let guarded: HashSet<u64> = guarded.map(|s| s.inode).collect();
        if guarded.is_empty() {
            return;
        }
        // systemd keeps the sockets that it hands over.
        let beside = owner::held_beside(&guarded, |pid| pid == 1 || is_gate(pid));
        self.guarded = guarded.difference(&beside).copied().collect();
    }

    /// Where other gates answer: what is met there is guarded.
    fn guarded_places(&self) -> Vec<SocketAddr> {
        let guarded = |s: &&Socket| self.guarded.contains(&s.inode);
        let mut places: Vec<SocketAddr> = Vec::new();
        for socket in self.sockets.iter().filter(guarded) {
            let any = std::net::Ipv4Addr::UNSPECIFIED.into();
            places.push(socket.address);
            if socket.is_wildcard() && socket.accepts(any, socket.device) {
                places.push(SocketAddr::new(any, socket.address.port()));
            }
        }
        places
    }

    /// Finds the processes behind the sockets that are asked for.
    fn name_owners(&mut self, is_wanted: impl Fn(&Socket) -> bool) {
        let inodes: HashSet<u64> = self
            .sockets
            .iter()
            .filter(|socket| is_wanted(socket))
            .map(|socket| socket.inode)
            .collect();
        if !inodes.is_empty() {
            self.owners = owner::owners(&inodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::base::loopback::Target;

    #[tokio::test]
    async fn one_round_of_dials_gives_each_upstream_its_own_verdict() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (open, other) = (listen(), listen());
        // Taken, so that nobody else listens there, and not listening.
        let shut =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        shut.bind(&any.into()).unwrap();
        let address = |l: &TcpListener| l.local_addr().unwrap();
        let not_open = shut.local_addr().unwrap().as_socket().unwrap();
        let all = [address(&open), not_open, address(&other)];
        let targets: Vec<Target> = all
            .iter()
            .map(|address| address.to_string().parse().unwrap())
            .collect();
        let upstreams: Vec<_> = targets.iter().map(|target| &target.address).collect();
        let verdicts = check(&upstreams, &Interfaces::default(), &[]).await;
        let words: Vec<_> = verdicts.iter().map(Verdict::word).collect();
        assert_eq!(words, ["loopback", "not-listening", "loopback"]);
    }
}
