//! Which forwarders lead to an upstream, by way of one another; pure. One listens for others and carries to the next, which listens on
//! loopback alone: the first one is the way around.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::forward::{Forward, Way};
use super::judge::Snapshot;
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
    /// Open to others, and perhaps they lead there.
    pub unsure: Vec<&'s Forward>,
}

/// The places from which the upstream is reached, growing.
#[derive(Default)]
struct Reached {
    sockets: HashSet<(IpAddr, u16)>,
    paths: HashSet<PathBuf>,
}

/// Follows the forwarders of the snapshot from the upstream outwards.
pub(super) fn around<'s>(snapshot: &'s Snapshot, upstream: &LoopbackAddr) -> Around<'s> {
    let mut around = Around::default();
    if snapshot.forwards.is_empty() {
        return around;
    }
    let mut reached = begin(snapshot, upstream);
    let mut left: Vec<&Forward> = snapshot.forwards.iter().collect();
    loop {
        let (lead, rest): (Vec<&Forward>, Vec<&Forward>) = left
            .iter()
            .partition(|forward| leads(forward, snapshot, &reached));
        if lead.is_empty() {
            let is_unsure = |f: &&&Forward| may_lead(f, snapshot, &reached);
            around.unsure.extend(left.iter().filter(is_unsure));
            return around;
        }
        left = rest;
        for forward in lead {
            for socket in held(forward, snapshot) {
                let ip = fold(socket.address.ip());
                let both = [
                    IpAddr::from([127, 0, 0, 1]),
                    std::net::Ipv6Addr::LOCALHOST.into(),
                ];
                let any = both.into_iter().filter(|to| socket.accepts(*to, LO));
                let port = socket.address.port();
                reached.sockets.extend(any.chain([ip]).map(|ip| (ip, port)));
            }
            reached.paths.extend(paths(forward).map(Path::to_owned));
            if forward.way == Way::Tunnel || held(forward, snapshot).any(|s| !s.is_loopback()) {
                around.open.push(forward);
            } else if is_elsewhere(forward, snapshot)
                || !forward.is_visible && has_nameless(snapshot)
            {
                around.unseen.push(forward);
            } else if forward.is_pipe && held(forward, snapshot).next().is_none() {
                // `nc -l 9000 <f | nc 127.0.0.1 3000 >f`: the one that is open is the other one.
                let other = |f: &&Forward| f.is_pipe && held(f, snapshot).any(|s| !s.is_loopback());
                around.unsure.extend(snapshot.forwards.iter().find(other));
            }
        }
    }
}

/// The upstream's own place, and where else the same process listens on that port.
fn begin(snapshot: &Snapshot, upstream: &LoopbackAddr) -> Reached {
    let mut reached = Reached::default();
    if let Some(path) = upstream.unix() {
        reached.paths.insert(path.to_owned());
        reached.paths.extend(std::fs::canonicalize(path));
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

/// Whether one of the places that a forwarder names is reached, other than those that it listens on itself.
fn leads(forward: &Forward, snapshot: &Snapshot, reached: &Reached) -> bool {
    let own = |ip: IpAddr, port: u16| {
        held(forward, snapshot).any(|s| s.address.port() == port && s.accepts(ip, LO))
    };
    let sockets = forward
        .places
        .iter()
        .flat_map(|place| snapshot.hosts.sockets(place));
    if forward.places.contains(&Place::All) {
        return true;
    }
    paths(forward).any(|path| reached.paths.contains(path))
        || sockets
            .filter(|(ip, port)| !own(*ip, *port))
            .any(|place| reached.sockets.contains(&place))
}

/// Whether a forwarder that is open to others may lead there: a number that it gives to a program of its own, or arguments that could
/// not be read in whole.
fn may_lead(forward: &Forward, snapshot: &Snapshot, reached: &Reached) -> bool {
    let is_named = |(_, port): &(IpAddr, u16)| forward.hints.contains(port);
    let is_open = forward.way == Way::Tunnel
        || held(forward, snapshot).any(|s| !s.is_loopback())
        || (!forward.is_visible && has_nameless(snapshot));
    is_open && (forward.process.is_cut || reached.sockets.iter().any(is_named))
}

fn paths(forward: &Forward) -> impl Iterator<Item = &Path> {
    forward.places.iter().filter_map(|place| match place {
        Place::Path(path) => Some(path.as_path()),
        Place::Socket(..) | Place::Local(_) | Place::Name(..) | Place::Service(..) | Place::All => {
            None
        }
    })
}

/// The sockets that a forwarder listens on.
fn held<'s>(forward: &'s Forward, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Socket> {
    snapshot.sockets.iter().filter(|s| {
        // Of several holders the owner is one: the parent that opened it may be another.
        let owner = snapshot.owners.get(&s.inode);
        let is_owner = || owner.is_some_and(|p| p.pid == forward.process.pid);
        s.protocol == Protocol::Tcp && (forward.sockets.contains(&s.inode) || is_owner())
    })
}

/// Whether it lives in another network namespace, from where it comes by a path.
fn is_elsewhere(forward: &Forward, snapshot: &Snapshot) -> bool {
    snapshot.elsewhere.contains(&forward.process.pid) && paths(forward).next().is_some()
}

/// Whether a socket is open to others that nobody is known to hold.
fn has_nameless(snapshot: &Snapshot) -> bool {
    snapshot.sockets.iter().any(|s| {
        s.protocol == Protocol::Tcp && !s.is_loopback() && !snapshot.owners.contains_key(&s.inode)
    })
}

#[cfg(test)]
mod tests {
    use super::super::forward::recognise;
    use super::super::owner::Process;
    use super::super::socket_table::tests::socket;
    use super::super::spelling::Hosts;
    use super::*;
    use crate::base::loopback::Target;

    /// Programs with the sockets they hold; which of them, by their place in the list, are ways around.
    fn found(upstream: &str, programs: &[(&str, &[&str])]) -> Vec<u32> {
        let mut snapshot = Snapshot {
            hosts: Hosts::parse("127.0.0.1 box\n"),
            ..Snapshot::default()
        };
        for (pid, (line, sockets)) in (0_u32..).zip(programs) {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let process = Process {
                pid,
                name: arguments[0].clone(),
                arguments,
                container: None,
                is_cut: false,
            };
            snapshot.forwards.extend(recognise(&process));
            for (n, text) in (0_u32..).zip(*sockets) {
                let mut socket = socket(text);
                socket.inode = u64::from(100 * pid + n + 1);
                snapshot.owners.insert(socket.inode, process.clone());
                snapshot.sockets.push(socket);
            }
        }
        let target = upstream.parse::<Target>().unwrap().address;
        let around = around(&snapshot, &target);
        around.open.iter().map(|f| f.process.pid).collect()
    }

    const SERVICE: (&str, &[&str]) = ("app", &["127.0.0.1:3000"]);
    const OPEN: &[&str] = &["0.0.0.0:9000"];
    const NEAR: &[&str] = &["127.0.0.1:4000"];

    #[test]
    fn forwarders_are_followed_through_one_another() {
        for (upstream, programs, want) in [
            (
                "3000",
                vec![SERVICE, ("socat TCP-LISTEN:9000 TCP:127.1:3000", OPEN)],
                vec![1],
            ),
            (
                "3000",
                vec![SERVICE, ("socat TCP-LISTEN:9000 TCP:box:3000", OPEN)],
                vec![1],
            ),
            (
                "3000",
                vec![SERVICE, ("socat TCP-LISTEN:9000 TCP:other:3000", OPEN)],
                vec![],
            ),
            // It is not on that address of loopback.
            (
                "3000",
                vec![SERVICE, ("socat TCP-LISTEN:9000 TCP:127.0.0.2:3000", OPEN)],
                vec![],
            ),
            (
                "127.0.0.2:3000",
                vec![
                    ("app", &["127.0.0.2:3000"]),
                    ("socat TCP-LISTEN:9000 TCP:127.0.0.2:3000", OPEN),
                ],
                vec![1],
            ),
            // But the same process is.
            (
                "3000",
                vec![
                    ("app", &["127.0.0.1:3000", "127.0.0.2:3000"]),
                    ("socat TCP-LISTEN:9000 TCP:127.0.0.2:3000", OPEN),
                ],
                vec![1],
            ),
            (
                "3000",
                vec![
                    ("app", &["127.0.0.1:3000", "[::1]:3000"]),
                    ("socat TCP-LISTEN:9000 TCP6:[::1]:3000", OPEN),
                ],
                vec![1],
            ),
            // Two and three in a row.
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", NEAR),
                    ("socat TCP-LISTEN:9000 TCP:localhost:4000", OPEN),
                ],
                vec![2],
            ),
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat TCP-LISTEN:9000 TCP:localhost:5000", OPEN),
                    (
                        "socat TCP-LISTEN:5000 TCP:localhost:4000",
                        &["127.0.0.1:5000"],
                    ),
                    ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", NEAR),
                ],
                vec![1],
            ),
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", NEAR),
                    ("ngrok http 4000", &[]),
                ],
                vec![2],
            ),
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", NEAR),
                    ("socat TCP-LISTEN:9000 TCP:localhost:4001", OPEN),
                ],
                vec![],
            ),
            // By way of a Unix socket, and to one.
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat UNIX-LISTEN:/tmp/a.sock,fork TCP:127.0.0.1:3000", &[]),
                    ("socat TCP-LISTEN:9000 UNIX-CONNECT:/tmp/a.sock", OPEN),
                ],
                vec![2],
            ),
            (
                "unix:/run/app.sock",
                vec![("socat TCP-LISTEN:9000 UNIX-CONNECT:/run/app.sock", OPEN)],
                vec![0],
            ),
            (
                "unix:/run/app.sock",
                vec![("socat TCP-LISTEN:9000 UNIX-CONNECT:/run/other.sock", OPEN)],
                vec![],
            ),
            // A forwarder that is the service itself, in a circle, or that nobody else reaches.
            (
                "3000",
                vec![(
                    "simpleproxy -L 127.0.0.1:3000 -R 10.0.0.5:80",
                    &["127.0.0.1:3000", "0.0.0.0:9000"],
                )],
                vec![],
            ),
            (
                "3000",
                vec![
                    SERVICE,
                    ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", NEAR),
                    (
                        "socat TCP-LISTEN:3000 TCP:127.0.0.1:4000",
                        &["127.0.0.1:3000"],
                    ),
                ],
                vec![],
            ),
        ] {
            assert_eq!(found(upstream, &programs), want, "{upstream} {programs:?}");
        }
    }

    #[test]
    fn one_in_another_namespace_that_leads_to_the_socket_is_told() {
        let process = Process {
            pid: 7,
            name: "socat".into(),
            arguments: ["socat", "TCP-LISTEN:9000", "UNIX-CONNECT:/run/app.sock"]
                .map(str::to_owned)
                .to_vec(),
            container: None,
            is_cut: false,
        };
        for (elsewhere, upstream, want) in [
            (true, "unix:/run/app.sock", 1),
            (false, "unix:/run/app.sock", 0),
            (true, "unix:/run/other.sock", 0),
        ] {
            let mut snapshot = Snapshot::default();
            snapshot.forwards.extend(recognise(&process));
            snapshot.elsewhere.extend(elsewhere.then_some(7));
            let target = upstream.parse::<Target>().unwrap().address;
            assert_eq!(around(&snapshot, &target).unseen.len(), want, "{upstream}");
        }
    }

    #[test]
    fn where_one_listens_that_cannot_be_seen_is_told() {
        let process = Process {
            pid: 7,
            name: "socat".into(),
            arguments: ["socat", "TCP-LISTEN:9000", "TCP:127.0.0.1:3000"]
                .map(str::to_owned)
                .to_vec(),
            container: None,
            is_cut: false,
        };
        let target = "3000".parse::<Target>().unwrap().address;
        for (is_visible, open, want) in [(false, true, 1), (true, true, 0), (false, false, 0)] {
            let mut snapshot = Snapshot::default();
            snapshot
                .forwards
                .extend(recognise(&process).map(|f| Forward { is_visible, ..f }));
            snapshot.sockets.push(socket("127.0.0.1:3000"));
            if open {
                snapshot.sockets.push(socket("0.0.0.0:9000 inode 9"));
            }
            assert_eq!(around(&snapshot, &target).unseen.len(), want);
        }
    }

    /// One program beside the service, with what it holds; whether it is a way around, and whether it may be one.
    fn beside(process: &Process, open: &str, change: impl Fn(&mut Forward)) -> (usize, usize) {
        let mut snapshot = Snapshot::default();
        let mut forward = recognise(process).unwrap();
        forward.sockets.insert(9);
        change(&mut forward);
        snapshot.forwards.push(forward);
        let mut held = socket(open);
        held.inode = 9;
        let parent = Process {
            pid: 3,
            ..Process::default()
        };
        snapshot.owners.insert(9, parent);
        snapshot.sockets.extend([held, socket("127.0.0.1:3000")]);
        let target = "3000".parse::<Target>().unwrap().address;
        let around = around(&snapshot, &target);
        (around.open.len(), around.unsure.len())
    }

    fn program(arguments: &[&str]) -> Process {
        Process {
            pid: 7,
            name: arguments[0].to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn a_socket_that_a_parent_holds_too_is_the_forwarders() {
        let proxyd = program(&["systemd-socket-proxyd", "127.0.0.1:3000"]);
        assert_eq!(beside(&proxyd, "0.0.0.0:9000", |_| ()), (1, 0));
        assert_eq!(beside(&proxyd, "127.0.0.1:9000", |_| ()), (0, 0));
        let other = program(&["systemd-socket-proxyd", "127.0.0.1:3001"]);
        assert_eq!(beside(&other, "0.0.0.0:9000", |_| ()), (0, 0));
    }

    #[test]
    fn what_may_lead_there_is_in_doubt() {
        let open = "0.0.0.0:9000";
        for (side, want) in [
            ("SYSTEM:nc -v 127.0.0.1 -w 5 3000", (0, 1)),
            ("EXEC:nc 0x7f.1 0xbb8", (0, 1)),
            ("EXEC:nc 127.0.0.1 3001", (0, 0)),
            ("TCP:10.0.0.1:3000", (0, 0)),
        ] {
            let socat = program(&["socat", "TCP-LISTEN:9000,fork", side]);
            assert_eq!(beside(&socat, open, |_| ()), want, "{side}");
            assert_eq!(beside(&socat, "127.0.0.1:9000", |_| ()), (0, 0), "{side}");
        }
        let long = program(&["socat", "TCP-LISTEN:9000"]);
        assert_eq!(beside(&long, open, |_| ()), (0, 0));
        assert_eq!(beside(&long, open, |f| f.process.is_cut = true), (0, 1));
    }

    #[test]
    fn a_proxy_into_loopback_leads_everywhere() {
        const NONE: [u32; 0] = [];
        assert_eq!(found("3000", &[SERVICE, ("ssh -R 9000 h", &[])]), [1]);
        assert_eq!(
            found("3000", &[SERVICE, ("ssh -R 9000:localhost:22 h", &[])]),
            NONE
        );
        let here = "ssh -R 9001:localhost:22 -L 127.0.0.1:3001:localhost:3000 h";
        assert_eq!(found("3000", &[SERVICE, (here, &["127.0.0.1:3001"])]), NONE);
        let there = "ssh -g -L 9000:localhost:3000 bastion";
        assert_eq!(found("3000", &[SERVICE, (there, OPEN)]), NONE);
        let pod = "kubectl port-forward --address 0.0.0.0 pod/x :3000";
        assert_eq!(found("3000", &[SERVICE, (pod, OPEN)]), NONE);
    }

    #[test]
    fn two_pipes_may_be_one_forwarder() {
        let target = "3000".parse::<Target>().unwrap().address;
        for (listens, want) in [("0.0.0.0:9000", 1), ("127.0.0.1:9000", 0)] {
            let mut snapshot = Snapshot::default();
            let front = program(&["nc", "-lk", "9000"]);
            let back = Process {
                pid: 8,
                ..program(&["nc", "127.0.0.1", "3000"])
            };
            let mut held = socket(listens);
            held.inode = 5;
            snapshot.owners.insert(5, front.clone());
            snapshot.sockets.extend([held, socket("127.0.0.1:3000")]);
            let both = [front, back];
            snapshot.forwards.extend(both.iter().filter_map(recognise));
            let around = around(&snapshot, &target);
            assert_eq!((around.open.len(), around.unsure.len()), (0, want));
        }
    }
}
