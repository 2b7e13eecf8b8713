//! What else the process behind an upstream does: a second port that it listens on may be the same service, and a forwarder in its
//! place leads to one that may be reached by itself. Neither can be known from here, so it is said and not acted upon. Pure but for
//! [`holders`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::chain::{Reached, open_to};
use super::forward::{Way, recognise};
use super::judge::{Doubt, Snapshot, is_ours};
use super::owner::{self, Holder, Process};
use super::reach::reach;
use super::socket_table::{LO, Protocol, Socket};
use super::spelling::Place;
use crate::base::cidr::fold;
use crate::base::loopback::LoopbackAddr;
use crate::net::interfaces::Interfaces;

/// While the same sockets are there they are in the same hands: so long they are not looked for again.
const KEPT: Duration = Duration::from_secs(60);

struct Last {
    asked: [BTreeSet<u64>; 2],
    at: Instant,
    found: Vec<Holder>,
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// The processes that hold the sockets of upstreams, with those of the open ones that they hold too. Blocking. To look through the
/// descriptors of all processes is dear, so it is done when the sockets have changed and once a minute.
pub(super) fn holders(served: HashSet<u64>, open: HashSet<u64>) -> Vec<Holder> {
    let sorted = |set: &HashSet<u64>| set.iter().copied().collect::<BTreeSet<u64>>();
    let asked = [sorted(&served), sorted(&open)];
    if let Some(last) = &*LAST.lock().unwrap_or_else(PoisonError::into_inner)
        && last.asked == asked
        && last.at.elapsed() < KEPT
    {
        return last.found.clone();
    }
    let mut found = owner::holders(&served, &open);
    let own = std::process::id();
    // systemd holds the sockets of every service that it starts by socket.
    found.retain(|h| h.process.pid != own && h.process.name != "systemd");
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Last {
        asked,
        at: Instant::now(),
        found: found.clone(),
    });
    found
}

/// Whether the kernel would give a connection to the upstream to this socket.
fn serves(socket: &Socket, upstream: &LoopbackAddr) -> bool {
    let takes = |to: SocketAddr| socket.address.port() == to.port() && socket.accepts(to.ip(), LO);
    socket.protocol == Protocol::Tcp && upstream.sockets().any(takes)
}

/// Whether a socket is open to others and another place than the upstream's own: another port, or datagrams on the same one (HTTP/3).
fn is_other(socket: &Socket, upstream: &LoopbackAddr) -> bool {
    let is_same = Some(socket.address.port()) == upstream.port();
    !socket.is_loopback()
        && match socket.protocol {
            Protocol::Tcp => !is_same,
            Protocol::Udp => is_same,
        }
}

/// The sockets to look for in a table: those of the upstreams, and those that are open to others.
pub(super) fn wanted(
    sockets: &[Socket],
    paths: &HashMap<PathBuf, u64>,
    upstreams: &[LoopbackAddr],
) -> (HashSet<u64>, HashSet<u64>) {
    let inodes = |is: &dyn Fn(&Socket) -> bool| -> HashSet<u64> {
        let chosen = sockets.iter().filter(|s| s.inode != 0 && is(s));
        chosen.map(|s| s.inode).collect()
    };
    let mut served = inodes(&|s| upstreams.iter().any(|u| serves(s, u)));
    served.extend(paths.values());
    (served, inodes(&|s| !s.is_loopback()))
}

/// What is doubtful about the process behind an upstream.
pub(super) fn doubts(
    snapshot: &Snapshot,
    interfaces: &Interfaces,
    upstream: &LoopbackAddr,
    ours: &[SocketAddr],
) -> Vec<Doubt> {
    let sockets = || snapshot.sockets.iter().filter(|s| serves(s, upstream));
    let mut served: HashSet<u64> = sockets().map(|s| s.inode).collect();
    served.extend(upstream.unix().and_then(|path| snapshot.paths.get(path)));
    let others: Vec<&Socket> = snapshot
        .sockets
        .iter()
        .filter(|s| is_other(s, upstream) && !is_ours(s, snapshot, ours))
        .collect();
    let (mut doubts, mut told, mut is_led) = (Vec::new(), HashSet::new(), false);
    let behind = snapshot
        .holders
        .iter()
        .filter(|holder| !served.is_disjoint(&holder.inodes));
    for holder in behind.clone() {
        // Workers share what they were started with: each socket is told once.
        let also: Vec<&Socket> = others
            .iter()
            .copied()
            .filter(|s| holder.inodes.contains(&s.inode) && told.insert(s.inode))
            .collect();
        doubts.extend(also_listens(&holder.process.label(), &also, interfaces));
        if !is_led && let Some(doubt) = leads_on(&holder.process, snapshot) {
            is_led = true;
            doubts.push(doubt);
        }
    }
    // Whose it is cannot be seen; then a socket of the same user may be of the same process. Root has too many to say so.
    let unseen = |s: &&Socket| s.uid != 0 && !behind.clone().any(|h| h.inodes.contains(&s.inode));
    for uid in sockets()
        .filter(unseen)
        .map(|s| s.uid)
        .collect::<BTreeSet<u32>>()
    {
        let also: Vec<&Socket> = others
            .iter()
            .copied()
            .filter(|s| s.uid == uid && told.insert(s.inode))
            .collect();
        let who = format!("a process of the same user ({uid}) that cannot be seen from here");
        doubts.extend(also_listens(&who, &also, interfaces));
    }
    doubts
}

/// At most so many places are named.
const SHOWN: usize = 4;

fn also_listens(who: &str, also: &[&Socket], interfaces: &Interfaces) -> Option<Doubt> {
    let widest = also
        .iter()
        .map(|s| reach(s, interfaces))
        .max_by_key(|r| r.openness)?;
    let mut at: Vec<String> = also
        .iter()
        .map(|s| {
            format!(
                "{}{}",
                s.address,
                if s.protocol == Protocol::Udp {
                    " (UDP)"
                } else {
                    ""
                }
            )
        })
        .collect();
    at.sort();
    at.dedup();
    let more = at.len().saturating_sub(SHOWN);
    at.truncate(SHOWN);
    if more > 0 {
        at.push(format!("{more} more"));
    }
    Some(Doubt::AlsoListens {
        who: who.to_owned(),
        at: at.join(", "),
        reach: widest.to_string(),
    })
}

/// What is doubtful about a forwarder that stands in the place of a service: where it leads in the end, when that is not loopback alone,
/// or who else leads there.
fn leads_on(process: &Process, snapshot: &Snapshot) -> Option<Doubt> {
    let who = process.label();
    let mut behind = Reached::default();
    let mut next = vec![process];
    while let Some(process) = next.pop() {
        let Some(forward) = recognise(process).filter(|f| f.way == Way::Listener) else {
            continue;
        };
        if let Some(to) = far(&process.arguments) {
            return Some(Doubt::LeadsOn { who, to });
        }
        // The one that runs knows what its paths are.
        let mut running = snapshot.forwards.iter();
        let running = running.find(|f| f.process.pid == process.pid);
        for place in &running.unwrap_or(&forward).places {
            match place {
                Place::Path(path) => drop(behind.paths.insert(path.clone())),
                Place::Node(device, number) => drop(behind.nodes.insert((*device, *number))),
                Place::Socket(..)
                | Place::Local(_)
                | Place::Name(..)
                | Place::Service(..)
                | Place::All => {}
            }
            for (ip, port) in snapshot.hosts.sockets(place) {
                if !behind.sockets.insert((ip, port)) {
                    continue;
                }
                let is_it = |s: &&Socket| {
                    s.protocol == Protocol::Tcp && s.address.port() == port && s.accepts(ip, LO)
                };
                let there: Vec<&Socket> = snapshot.sockets.iter().filter(is_it).collect();
                if let Some(open) = there.iter().find(|s| !s.is_loopback()) {
                    let to = open.address.to_string();
                    return Some(Doubt::LeadsOn { who, to });
                }
                // It may be a forwarder as well.
                next.extend(there.iter().filter_map(|s| snapshot.owners.get(&s.inode)));
            }
        }
    }
    if behind.sockets.is_empty() && behind.paths.is_empty() && behind.nodes.is_empty() {
        return None;
    }
    let other = open_to(snapshot, behind)?.process.label();
    Some(Doubt::LeadsThereToo { who, other })
}

/// The first address in the arguments of a forwarder that is not of loopback; pure.
fn far(arguments: &[String]) -> Option<String> {
    let after = |option: &str| {
        let mut words = arguments.iter().skip_while(|word| *word != option);
        words.nth(1)
    };
    if let (Some(ip), Some(port)) = (after("-container-ip"), after("-container-port")) {
        return Some(format!("{ip}:{port}"));
    }
    let is_far = |to: &SocketAddr| {
        let ip = fold(to.ip());
        !ip.is_loopback() && !ip.is_unspecified() && to.port() != 0
    };
    let words = arguments
        .iter()
        .skip(1)
        .flat_map(|word| word.split([',', ' ', '/', '=', '@']));
    words
        .flat_map(|word| {
            let starts = word.match_indices(':').map(|(at, _)| at + 1);
            std::iter::once(0)
                .chain(starts)
                .filter_map(|at| word.get(at..))
        })
        .filter_map(|word| word.parse::<SocketAddr>().ok())
        .find(is_far)
        .map(|to| to.to_string())
}

/// What these paths are in the file system. Blocking.
pub(super) fn nodes(upstreams: &[LoopbackAddr]) -> HashMap<PathBuf, (u64, u64)> {
    let paths = upstreams.iter().filter_map(LoopbackAddr::unix);
    let node = |path: &Path| {
        let about = std::fs::metadata(path).ok()?;
        Some((path.to_owned(), (about.dev(), about.ino())))
    };
    paths.filter_map(node).collect()
}

/// Where the kernel has the sockets of these paths. Blocking.
pub(super) fn paths(upstreams: &[LoopbackAddr]) -> HashMap<PathBuf, u64> {
    let wanted: Vec<&Path> = upstreams.iter().filter_map(LoopbackAddr::unix).collect();
    if wanted.is_empty() {
        return HashMap::new();
    }
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let inode = |path: &Path| {
        super::proc_net::unix_inode(&table, path).or_else(|| {
            let real = std::fs::canonicalize(path).ok()?;
            super::proc_net::unix_inode(&table, &real)
        })
    };
    let found = wanted
        .into_iter()
        .filter_map(|path| Some((path.to_owned(), inode(path)?)));
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Verdict, judge};
    use super::super::reach::tests::machine;
    use super::super::socket_table::tests::socket;
    use super::*;
    use crate::base::loopback::Target;

    /// What is said of an upstream, with sockets and the processes that hold them.
    fn said(upstream: &str, sockets: &[&str], holders: &[(&str, &[u64])]) -> String {
        let mut snapshot = Snapshot {
            sockets: sockets.iter().map(|text| socket(text)).collect(),
            ..Snapshot::default()
        };
        snapshot.paths.insert("/run/app.sock".into(), 77);
        for (pid, (line, inodes)) in (7_u32..).zip(holders) {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            snapshot.holders.push(Holder {
                process: Process {
                    pid,
                    name: arguments[0].clone(),
                    arguments,
                    container: None,
                    is_cut: false,
                },
                inodes: inodes.iter().copied().collect(),
            });
        }
        let home = machine(&["lo 127.0.0.1/8", "eth0 192.168.1.5/24"]);
        let to = upstream.parse::<Target>().unwrap().address;
        let verdict = judge(&snapshot, &home, &to, &[]);
        assert!(!verdict.is_exposed());
        match verdict {
            Verdict::CannotTell(_) => verdict.to_string(),
            _ => String::new(),
        }
    }

    #[test]
    fn another_open_port_of_the_same_process_is_told() {
        let app = "127.0.0.1:3000 inode 1";
        for (upstream, sockets, holders, want) in [
            (
                "3000",
                &[app, "0.0.0.0:3001 inode 2"][..],
                &[("python", &[1_u64, 2][..])][..],
                "python (pid 7) also listens on 0.0.0.0:3001: if",
            ),
            (
                "3000",
                &[app, "0.0.0.0:3001 inode 2"],
                &[("python", &[1])],
                "",
            ),
            (
                "3000",
                &[app, "127.0.0.1:3001 inode 2"],
                &[("python", &[1, 2])],
                "",
            ),
            (
                "3000",
                &[app, "0.0.0.0:3000 udp inode 2"],
                &[("python", &[1, 2])],
                "on 0.0.0.0:3000 (UDP): if",
            ),
            (
                "3000",
                &[app, "0.0.0.0:3001 udp inode 2"],
                &[("python", &[1, 2])],
                "",
            ),
            // The worker has what its master opened, and one of its own.
            (
                "3000",
                &[app, "0.0.0.0:3001 inode 2"],
                &[("master", &[1]), ("worker", &[1, 2])],
                "worker (pid 8) also",
            ),
            (
                "unix:/run/app.sock",
                &["0.0.0.0:3001 inode 2"],
                &[("python", &[77, 2])],
                "also listens on 0.0.0.0:3001",
            ),
            (
                "unix:/run/other.sock",
                &["0.0.0.0:3001 inode 2"],
                &[("python", &[77, 2])],
                "",
            ),
            // Nobody can be seen: the user may be the same.
            (
                "3000",
                &[app, "0.0.0.0:3001 inode 2"],
                &[],
                "same user (1000) that cannot be seen",
            ),
        ] {
            let said = said(upstream, sockets, holders);
            assert_eq!(said.is_empty(), want.is_empty(), "{sockets:?} {said}");
            assert!(said.contains(want), "{sockets:?} {said}");
        }
    }

    #[test]
    fn a_forwarder_in_the_place_of_the_service_leads_on() {
        let app = "127.0.0.1:3000 inode 1";
        for (line, want) in [
            (
                "socat TCP-LISTEN:3000,bind=127.0.0.1,fork TCP:172.30.0.2:80",
                "172.30.0.2:80",
            ),
            (
                "socat TCP-LISTEN:3000,bind=127.0.0.1 TCP6:[fd00::2]:80",
                "[fd00::2]:80",
            ),
            (
                "docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 3000 -container-ip 172.30.0.2 -container-port 80",
                "172.30.0.2:80",
            ),
            (
                "simpleproxy -L 127.0.0.1:3000 -R 10.0.0.5:80",
                "10.0.0.5:80",
            ),
            ("socat TCP-LISTEN:3000 TCP:127.0.0.1:4000", "0.0.0.0:4000"),
            ("socat TCP-LISTEN:3000 TCP:127.0.0.1:5000", ""),
            ("python3 TCP:172.30.0.2:80", ""),
        ] {
            let said = said("3000", &[app, "0.0.0.0:4000 inode 9"], &[(line, &[1])]);
            assert_eq!(said.is_empty(), want.is_empty(), "{line} {said}");
            assert!(said.contains(want), "{line} {said}");
        }
    }

    #[test]
    fn a_forwarder_in_the_place_of_the_service_is_followed() {
        let line = |line: &str, pid| Process {
            pid,
            name: "socat".to_owned(),
            arguments: line.split(' ').map(str::to_owned).collect(),
            ..Process::default()
        };
        for (second, open, want) in [
            // The second one leads away, by itself or to what is open.
            (
                "socat TCP-LISTEN:4000 TCP:172.30.0.2:80",
                "",
                "leads to 172.30.0.2:80",
            ),
            (
                "socat TCP-LISTEN:4000 TCP:127.0.0.1:6000",
                "",
                "leads to 0.0.0.0:6000",
            ),
            ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", "", ""),
            // A third one, open to others, leads to what the first one leads to.
            (
                "app",
                "socat TCP-LISTEN:9000 TCP:127.0.0.1:4000",
                "socat (pid 3), which others can use",
            ),
            ("app", "socat TCP-LISTEN:9000 TCP:127.0.0.1:4001", ""),
            (
                "socat TCP-LISTEN:4000 TCP:127.0.0.1:5000",
                "socat TCP-LISTEN:9000 TCP:127.0.0.1:5000",
                "socat (pid 3), which others can use",
            ),
        ] {
            let mut snapshot = Snapshot::default();
            let first = line("socat TCP-LISTEN:3000 TCP:127.0.0.1:4000", 1);
            let held = [
                ("127.0.0.1:3000 inode 1", first.clone()),
                ("127.0.0.1:4000 inode 2", line(second, 2)),
                ("0.0.0.0:9000 inode 3", line(open, 3)),
                ("0.0.0.0:6000 inode 4", line("app", 4)),
            ];
            for (text, process) in held {
                let socket = socket(text);
                snapshot.forwards.extend(recognise(&process));
                snapshot.owners.insert(socket.inode, process);
                snapshot.sockets.push(socket);
            }
            snapshot.holders.push(Holder {
                process: first,
                inodes: [1].into(),
            });
            let to = "3000".parse::<Target>().unwrap().address;
            let home = machine(&["lo 127.0.0.1/8"]);
            let verdict = judge(&snapshot, &home, &to, &[]);
            assert_eq!(
                verdict == Verdict::Loopback,
                want.is_empty(),
                "{second} {open} {verdict}"
            );
            assert!(
                verdict.to_string().contains(want),
                "{second} {open} {verdict}"
            );
        }
    }

    #[test]
    fn a_socket_that_takes_what_was_sent_elsewhere_is_in_doubt() {
        let said_of = |text: &str| said("3000", &[text], &[]);
        assert!(said_of("127.0.0.1:3000 transparent").contains("TPROXY"));
        assert_eq!(said_of("127.0.0.1:3000"), "");
        let other = said(
            "3000",
            &["127.0.0.1:3000", "127.0.0.1:3001 transparent"],
            &[],
        );
        assert_eq!(other, "");
    }

    #[test]
    fn who_holds_both_is_found_among_the_running() {
        let [one, two] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let inode = |l: &std::net::TcpListener| {
            let fd = std::os::fd::AsRawFd::as_raw_fd(l);
            let about = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
            std::os::unix::fs::MetadataExt::ino(&about)
        };
        let found = owner::holders(&HashSet::from([inode(&one)]), &HashSet::from([inode(&two)]));
        let ours = found
            .iter()
            .find(|h| h.process.pid == std::process::id())
            .unwrap();
        assert_eq!(ours.inodes, HashSet::from([inode(&one), inode(&two)]));
    }
}
