//! Which forwarders lead to an upstream, by way of one another; pure. One listens for others and carries to the next, which listens on
//! loopback alone: the first one is the way around.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::forward::{Forward, Way};
use super::judge::Snapshot;
use super::namespaces::Space;
use super::socket_table::{LO, Protocol, Socket};
use super::spelling::Place;
use crate::base::cidr::fold;
use crate::base::loopback::LoopbackAddr;

/// What the forwarders that lead to an upstream are.
#[derive(Debug, Default)]
pub(super) struct Around<'s> {
    /// Open to others: ways around the gate.
    pub open: Vec<&'s Forward>,
    /// They lead there, and where they listen cannot be seen.
    pub unseen: Vec<&'s Forward>,
    /// Open to others, and perhaps they lead there; some through one of which that cannot be told.
    pub unsure: Vec<(&'s Forward, Option<&'s Forward>)>,
}

/// The places from which an upstream is reached, growing.
#[derive(Default)]
pub(super) struct Reached {
    pub sockets: HashSet<(IpAddr, u16)>,
    pub paths: HashSet<PathBuf>,
    pub nodes: HashSet<(u64, u64)>,
}

/// A forwarder with what it listens on.
struct Candidate<'s> {
    forward: &'s Forward,
    held: Vec<&'s Socket>,
    space: Space,
}

/// Follows the forwarders of the snapshot from the upstream outwards: those that lead there, then those that may.
pub(super) fn around<'s>(snapshot: &'s Snapshot, upstream: &LoopbackAddr) -> Around<'s> {
    match snapshot.forwards.is_empty() {
        true => Around::default(),
        false => outwards(snapshot, begin(snapshot, upstream)),
    }
}

/// The first forwarder that is open to others and leads to one of these places.
pub(super) fn open_to(snapshot: &Snapshot, places: Reached) -> Option<&Forward> {
    outwards(snapshot, places).open.first().copied()
}

fn outwards(snapshot: &Snapshot, mut reached: Reached) -> Around<'_> {
    let mut around = Around::default();
    let nameless = nameless(snapshot);
    let all = || snapshot.forwards.iter().map(|f| Candidate::of(f, snapshot));
    let mut left: Vec<Candidate<'_>> = all().collect();
    // What may lead there, each with the places from which it is reached.
    let mut doubtful: Vec<(&Forward, Reached)> = Vec::new();
    while let Some(at) = left.iter().position(|c| c.leads(snapshot, &reached)) {
        let one = left.remove(at);
        one.add_to(&mut reached);
        if one.is_open() {
            around.open.push(one.forward);
        } else if one.is_unseen(&nameless) {
            around.unseen.push(one.forward);
        }
        if !one.forward.is_visible {
            doubtful.push((one.forward, Reached::at(&nameless)));
        } else if one.forward.is_pipe && one.held.is_empty() && !one.is_open() {
            // `nc -l 9000 <f | nc 127.0.0.1 3000 >f`: the one that listens is the other one.
            // Or the one that dials outwards.
            let is_end = |c: &Candidate<'_>| !c.held.is_empty() || c.forward.dials_out();
            for other in all().filter(|c| c.forward.is_pipe && is_end(c)) {
                let is_open = other.is_open() || other.forward.dials_out();
                around
                    .unsure
                    .extend(is_open.then_some((other.forward, None)));
                doubtful.push((other.forward, Reached::at(&other.held)));
            }
        }
    }
    while let Some((at, by)) = left.iter().enumerate().find_map(|(at, one)| {
        let sure = one.may_lead(&reached).then_some(None);
        let through = || {
            let mut all = doubtful.iter();
            let by = all.find(|(_, r)| one.leads(snapshot, r) || one.may_lead(r));
            by.map(|(by, _)| Some(*by))
        };
        Some((at, sure.or_else(through)?))
    }) {
        let one = left.remove(at);
        if one.is_open() || one.is_unseen(&nameless) {
            around.unsure.push((one.forward, by));
        }
        let mut places = Reached::at(match one.forward.is_visible {
            true => &[],
            false => &nameless[..],
        });
        one.add_to(&mut places);
        doubtful.push((one.forward, places));
    }
    around
}

/// The upstream's own place, and where else the same process listens on that port.
fn begin(snapshot: &Snapshot, upstream: &LoopbackAddr) -> Reached {
    let mut reached = Reached::default();
    if let Some(path) = upstream.unix() {
        reached.paths.insert(path.to_owned());
        reached.paths.extend(std::fs::canonicalize(path));
        reached.nodes.extend(snapshot.nodes.get(path));
    }
    for to in upstream.sockets() {
        reached.sockets.insert((to.ip(), to.port()));
        let on_port = |s: &&Socket| s.protocol == Protocol::Tcp && s.address.port() == to.port();
        let holder = |s: &Socket| snapshot.owners.get(&s.inode).map(|p| p.pid);
        let sockets = || snapshot.sockets.iter().filter(on_port);
        let served: Vec<u32> = sockets()
            .filter(|s| s.accepts(to.ip(), LO))
            .filter_map(holder)
            .collect();
        let same = sockets().filter(|s| holder(s).is_some_and(|pid| served.contains(&pid)));
        reached
            .sockets
            .extend(same.map(|s| (fold(s.address.ip()), to.port())));
    }
    reached
}

impl Reached {
    /// The places at which these sockets are met from this machine.
    fn at(sockets: &[&Socket]) -> Self {
        let mut reached = Self::default();
        reached.add(sockets);
        reached
    }

    fn add(&mut self, sockets: &[&Socket]) {
        for socket in sockets.iter().filter(|s| s.protocol == Protocol::Tcp) {
            let both = [
                IpAddr::from([127, 0, 0, 1]),
                std::net::Ipv6Addr::LOCALHOST.into(),
            ];
            let any = both.into_iter().filter(|to| socket.accepts(*to, LO));
            let port = socket.address.port();
            let places = any.chain([fold(socket.address.ip())]);
            self.sockets.extend(places.map(|ip| (ip, port)));
        }
    }
}

impl<'s> Candidate<'s> {
    fn of(forward: &'s Forward, snapshot: &'s Snapshot) -> Self {
        let pid = forward.process.pid;
        // Of several holders the owner is one: the parent that opened it may be another.
        let is_owner = |s: &Socket| snapshot.owners.get(&s.inode).is_some_and(|p| p.pid == pid);
        let held = |s: &&Socket| forward.sockets.contains(&s.inode) || is_owner(s);
        Self {
            forward,
            held: snapshot.sockets.iter().filter(held).collect(),
            space: snapshot.spaces.get(&pid).copied().unwrap_or_default(),
        }
    }

    /// Whether one of the places that it names is reached, other than those that it listens on itself. From another network namespace
    /// loopback is another one, and so are sockets without a path.
    fn leads(&self, snapshot: &Snapshot, reached: &Reached) -> bool {
        if self.paths().any(|path| reached.paths.contains(path))
            || self.nodes().any(|node| reached.nodes.contains(&node))
        {
            return true;
        }
        if self.space == Space::Another {
            return false;
        }
        let own = |(ip, port): &(IpAddr, u16)| {
            let mut own = self.held.iter().filter(|s| s.address.port() == *port);
            own.any(|s| s.accepts(*ip, LO))
        };
        let places = &self.forward.places;
        let mut sockets = places
            .iter()
            .flat_map(|place| snapshot.hosts.sockets(place));
        places.contains(&Place::All)
            || sockets.any(|place| reached.sockets.contains(&place) && !own(&place))
    }

    /// Whether it may lead there: by a number that it gives to a program of its own, or arguments that could not be read in whole.
    fn may_lead(&self, reached: &Reached) -> bool {
        let is_named = |(_, port): &(IpAddr, u16)| self.forward.hints.contains(port);
        let has_paths = !reached.paths.is_empty() || !reached.nodes.is_empty();
        // From another network namespace only a path leads here.
        match self.space {
            Space::Another => self.forward.process.is_cut && has_paths,
            Space::Ours | Space::Unknown => {
                self.forward.process.is_cut || reached.sockets.iter().any(is_named)
            }
        }
    }

    /// Whether others can use it. Of a tunnel it must be known that its loopback is ours.
    fn is_open(&self) -> bool {
        let is_known = self.space != Space::Unknown;
        self.forward.way == Way::Tunnel && is_known || self.held.iter().any(|s| !s.is_loopback())
    }

    /// Whether others may use it by a socket that cannot be seen from here.
    fn is_unseen(&self, nameless: &[&Socket]) -> bool {
        match self.space {
            Space::Ours => !self.forward.is_visible && nameless.iter().any(|s| !s.is_loopback()),
            Space::Another | Space::Unknown => true,
        }
    }

    fn add_to(&self, reached: &mut Reached) {
        reached.add(&self.held);
        reached.paths.extend(self.paths().map(Path::to_owned));
        reached.nodes.extend(self.nodes());
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let is_far = self.space == Space::Another;
        let is_abstract = |path: &Path| path.as_os_str().as_encoded_bytes().starts_with(b"@");
        self.forward
            .places
            .iter()
            .filter_map(move |place| match place {
                Place::Path(path) => (!is_far || !is_abstract(path)).then_some(path.as_path()),
                Place::Socket(..)
                | Place::Local(_)
                | Place::Name(..)
                | Place::Service(..)
                | Place::Node(..)
                | Place::All => None,
            })
    }

    fn nodes(&self) -> impl Iterator<Item = (u64, u64)> {
        let node = |place: &Place| match place {
            Place::Node(device, number) => Some((*device, *number)),
            Place::Socket(..)
            | Place::Local(_)
            | Place::Name(..)
            | Place::Service(..)
            | Place::Path(_)
            | Place::All => None,
        };
        self.forward.places.iter().filter_map(node)
    }
}

/// The sockets that nobody is known to hold.
fn nameless(snapshot: &Snapshot) -> Vec<&Socket> {
    let is_nameless =
        |s: &&Socket| s.protocol == Protocol::Tcp && !snapshot.owners.contains_key(&s.inode);
    snapshot.sockets.iter().filter(is_nameless).collect()
}

#[cfg(test)]
mod tests;
