//! Lines of forwarders, and the sockets that they make reachable, as the kernel tells them.

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
        snapshot
            .spaces
            .extend(elsewhere.then_some((7, Space::Another)));
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

/// Forwarders by their lines, what they listen on, and whether that can be seen; how many are ways around, unseen, in doubt.
fn counted(programs: &[(&str, &str, bool)]) -> (usize, usize, usize) {
    let mut snapshot = Snapshot::default();
    snapshot.sockets.push(socket("127.0.0.1:3000"));
    snapshot.owners.insert(0, Process::default());
    for (pid, (line, listens, is_visible)) in (1_u32..).zip(programs) {
        // A program in quotes is one argument.
        let parts = line.split('"').enumerate();
        let arguments: Vec<&str> = parts
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_ascii_whitespace().collect(),
                _ => vec![part],
            })
            .collect();
        let mut process = program(&arguments);
        process.pid = pid;
        if !listens.is_empty() {
            let mut held = socket(listens);
            held.inode = u64::from(pid);
            snapshot.sockets.push(held);
            if *is_visible {
                snapshot.owners.insert(u64::from(pid), process.clone());
            }
        }
        let forward = recognise(&process).map(|f| Forward {
            is_visible: *is_visible,
            ..f
        });
        snapshot.forwards.extend(forward);
    }
    let target = "3000".parse::<Target>().unwrap().address;
    let around = around(&snapshot, &target);
    (around.open.len(), around.unseen.len(), around.unsure.len())
}

#[test]
fn doubt_goes_through_chains() {
    let unclear = "socat TCP-LISTEN:4000 \"EXEC:nc 0x7f.1 0xbb8\"";
    let (near, open) = ("127.0.0.1:4000", "0.0.0.0:9000");
    let to = "socat TCP-LISTEN:9000 TCP:127.0.0.1:4000";
    let beside = "socat TCP-LISTEN:9000 TCP:127.0.0.1:4001";
    for (programs, want) in [
        (vec![(unclear, near, true), (to, open, true)], (0, 0, 1)),
        (vec![(to, open, true), (unclear, near, true)], (0, 0, 1)),
        (vec![(unclear, near, true), (beside, open, true)], (0, 0, 0)),
        (
            vec![(unclear, near, true), (to, "127.0.0.1:9000", true)],
            (0, 0, 0),
        ),
        (
            vec![(unclear, near, true), ("ngrok http 4000", "", true)],
            (0, 0, 1),
        ),
        // Three in a row, the first one unclear, and one that is named by another unclear one.
        (
            vec![
                (unclear, near, true),
                (
                    "socat TCP-LISTEN:5000 TCP:127.0.0.1:4000",
                    "127.0.0.1:5000",
                    true,
                ),
                ("socat TCP-LISTEN:9000 TCP:127.0.0.1:5000", open, true),
            ],
            (0, 0, 1),
        ),
        (
            vec![
                (unclear, near, true),
                ("socat TCP-LISTEN:9000 \"EXEC:nc 0x7f.1 0xfa0\"", open, true),
            ],
            (0, 0, 1),
        ),
        // Where somebody else's listens cannot be seen; then it may be there.
        (
            vec![
                ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", near, false),
                (to, open, true),
            ],
            (0, 0, 1),
        ),
        (
            vec![
                ("socat TCP-LISTEN:4000 TCP:127.0.0.1:3000", near, false),
                (beside, open, true),
            ],
            (0, 0, 0),
        ),
        // Two pipes on loopback, and one that leads to them.
        (
            vec![
                ("nc -l 127.0.0.1 4000", near, true),
                ("nc 127.0.0.1 3000", "", true),
                (to, open, true),
            ],
            (0, 0, 1),
        ),
    ] {
        assert_eq!(counted(&programs), want, "{programs:?}");
    }
}

#[test]
fn what_takes_datagrams_for_it_is_a_way_around() {
    let socat = "socat UDP-LISTEN:9000,fork TCP:127.0.0.1:3000";
    assert_eq!(counted(&[(socat, "0.0.0.0:9000 udp", true)]), (1, 0, 0));
    assert_eq!(counted(&[(socat, "127.0.0.1:9000 udp", true)]), (0, 0, 0));
}

#[test]
fn from_another_namespace_only_a_path_leads_here() {
    for (line, space, want) in [
        (
            "socat TCP-LISTEN:9000 TCP:127.0.0.1:3000",
            Space::Another,
            (0, 0),
        ),
        (
            "socat TCP-LISTEN:9000 TCP:127.0.0.1:3000",
            Space::Unknown,
            (0, 1),
        ),
        ("ngrok http 3000", Space::Another, (0, 0)),
        ("ngrok http 3000", Space::Unknown, (0, 1)),
        ("ngrok http 3000", Space::Ours, (1, 0)),
        ("ssh -R 9000 h", Space::Another, (0, 0)),
        ("ssh -R 9000:/run/a.sock h", Space::Another, (1, 0)),
        (
            "socat TCP-LISTEN:9000 UNIX-CONNECT:/run/a.sock",
            Space::Another,
            (0, 1),
        ),
        (
            "socat TCP-LISTEN:9000 UNIX-CONNECT:/run/b.sock",
            Space::Another,
            (0, 0),
        ),
        // Sockets without a path belong to their namespace.
        (
            "socat TCP-LISTEN:9000 ABSTRACT-CONNECT:name",
            Space::Another,
            (0, 0),
        ),
    ] {
        let mut snapshot = Snapshot::default();
        snapshot.sockets.push(socket("127.0.0.1:3000"));
        let words: Vec<&str> = line.split(' ').collect();
        snapshot.spaces.insert(7, space);
        let front = program(&["socat", "UNIX-LISTEN:/run/a.sock", "TCP:127.0.0.1:3000"]);
        let named = program(&["socat", "ABSTRACT-LISTEN:name", "TCP:127.0.0.1:3000"]);
        for (pid, process) in [(7, program(&words)), (8, front), (9, named)] {
            let process = Process { pid, ..process };
            snapshot.forwards.extend(recognise(&process));
        }
        let target = "3000".parse::<Target>().unwrap().address;
        let around = around(&snapshot, &target);
        assert_eq!(
            (around.open.len(), around.unseen.len()),
            want,
            "{line} {space:?}"
        );
        assert!(around.unsure.is_empty());
    }
}

#[test]
fn one_of_another_namespace_that_cannot_be_read_is_in_doubt_for_paths_alone() {
    for (upstream, space, want) in [
        ("3000", Space::Another, 0),
        ("3000", Space::Unknown, 1),
        ("unix:/run/app.sock", Space::Another, 1),
    ] {
        let mut snapshot = Snapshot::default();
        let process = program(&["socat", "TCP-LISTEN:9000", "SOCKET-CONNECT:2:6:x0bb8"]);
        snapshot.forwards.extend(recognise(&process));
        snapshot.spaces.insert(7, space);
        let target = upstream.parse::<Target>().unwrap().address;
        let found = around(&snapshot, &target).unsure.len();
        assert_eq!(found, want, "{upstream} {space:?}");
    }
}

#[test]
fn a_socket_is_the_same_one_through_every_mount() {
    for (device, space, want) in [
        (8, Space::Ours, (1, 0)),
        (8, Space::Another, (0, 1)),
        (9, Space::Ours, (0, 0)),
    ] {
        let mut snapshot = Snapshot::default();
        snapshot.nodes.insert("/run/app.sock".into(), (8, 77));
        let process = program(&["socat", "TCP-LISTEN:9000", "UNIX-CONNECT:/mnt/x.sock"]);
        let forward = recognise(&process).map(|f| Forward {
            places: vec![Place::Node(device, 77)],
            sockets: [9].into(),
            ..f
        });
        snapshot.forwards.extend(forward);
        snapshot.spaces.insert(7, space);
        if space == Space::Ours {
            snapshot.sockets.push(socket("0.0.0.0:9000 inode 9"));
        }
        let target = "unix:/run/app.sock".parse::<Target>().unwrap().address;
        let around = around(&snapshot, &target);
        assert_eq!(
            (around.open.len(), around.unseen.len()),
            want,
            "{device} {space:?}"
        );
    }
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

#[test]
fn one_whose_ends_both_dial_carries_the_port_out() {
    for (programs, want) in [
        (
            vec![(
                "socat TCP:10.0.0.2:9001,forever TCP:127.0.0.1:3000",
                "",
                true,
            )],
            (1, 0, 0),
        ),
        (
            vec![("socat TCP:10.0.0.2:9001 TCP:127.0.0.1:3001", "", true)],
            (0, 0, 0),
        ),
        (
            vec![("socat TCP:127.0.0.1:3001 TCP:127.0.0.1:3000", "", true)],
            (0, 0, 0),
        ),
        (
            vec![(
                "ncat 10.0.0.2 9001 --sh-exec \"ncat 127.0.0.1 3000\"",
                "",
                true,
            )],
            (1, 0, 0),
        ),
        (
            vec![(
                "ncat 10.0.0.2 9001 --sh-exec \"ncat 127.0.0.1 3001\"",
                "",
                true,
            )],
            (0, 0, 0),
        ),
        // Two that are joined by a FIFO, and one alone.
        (
            vec![
                ("nc 10.0.0.2 9001", "", true),
                ("nc 127.0.0.1 3000", "", true),
            ],
            (0, 0, 1),
        ),
        (vec![("nc 127.0.0.1 3000", "", true)], (0, 0, 0)),
        (vec![("nc 10.0.0.2 9001", "", true)], (0, 0, 0)),
    ] {
        assert_eq!(counted(&programs), want, "{programs:?}");
    }
}

#[test]
fn what_cannot_be_read_is_in_doubt_and_proxies_lead_everywhere() {
    let open = "0.0.0.0:9000";
    for (line, want) in [
        ("socat TCP-LISTEN:9000 TCP:127\\.0.0.1:3000", (1, 0, 0)),
        ("socat TCP-LISTEN:9000 TCP:127.0.0.1:68536", (1, 0, 0)),
        ("socat TCP-LISTEN:9000 TCP:127.0.0.1:3\\000", (0, 0, 1)),
        (
            "socat TCP-LISTEN:9000 SOCKET-CONNECT:2:6:x0bb87f000001",
            (0, 0, 1),
        ),
        ("socat TCP-LISTEN:9000 TCP:10.0.0.1:3000", (0, 0, 0)),
        ("mitmdump -p 9000", (1, 0, 0)),
        ("mitmdump --mode reverse:http://127.0.0.1:3001", (0, 0, 0)),
        ("ncat -lk 9000 --proxy-type http", (1, 0, 0)),
        ("gost -L :9000", (1, 0, 0)),
        ("gost -L tcp://:9000/127.0.0.1:3001", (0, 0, 0)),
    ] {
        assert_eq!(counted(&[(line, open, true)]), want, "{line}");
    }
}
