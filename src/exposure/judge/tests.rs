//! The table of the issue: bind address × family × forward × firewall, and what must be said in each cell.

use super::super::reach::tests::machine;
use super::super::socket_table::tests::socket;
use super::super::{Surroundings, forward};
use super::*;
use crate::base::loopback::Target;

fn upstream(text: &str) -> LoopbackAddr {
    text.parse::<Target>().unwrap().address
}

fn process(pid: u32, line: &str) -> Process {
    let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let name = arguments[0].rsplit('/').next().unwrap().to_owned();
    Process {
        pid,
        name,
        arguments,
        container: None,
        is_cut: false,
    }
}

fn home() -> Interfaces {
    machine(&[
        "lo 127.0.0.1/8 ::1/128",
        "eth0 192.168.1.5/24 fe80::5/64 2001:db8::5/64",
        "docker0 172.17.0.1/16",
    ])
}

const GATE: &str = "0.0.0.0:8443";

/// Judges sockets written as in `socket`; `ours` are those that this process holds.
fn word(sockets: &[&str], upstream_text: &str, ours: &[&str], routed: bool) -> Verdict {
    let mut snapshot = Snapshot {
        sockets: sockets.iter().map(|text| socket(text)).collect(),
        surroundings: Surroundings {
            routed_loopback: if routed {
                vec!["eth0".to_owned()]
            } else {
                Vec::new()
            },
            ..Surroundings::default()
        },
        ..Snapshot::default()
    };
    let ours: Vec<SocketAddr> = ours.iter().map(|text| text.parse().unwrap()).collect();
    snapshot.own.insert(4242);
    judge(&snapshot, &home(), &upstream(upstream_text), &ours)
}

#[test]
fn bind_address_by_family() {
    const A: &str = "127.0.0.1:3000";
    const SIX: &str = "[::1]:3000";
    const BOTH: &str = "localhost:3000";
    for (sockets, to, want) in [
        // Loopback, each way it can be written.
        (&["127.0.0.1:3000"][..], A, "loopback"),
        (&["127.0.0.1:3000"], BOTH, "loopback"),
        (&["[::1]:3000"], BOTH, "loopback"),
        (&["[::1]:3000"], SIX, "loopback"),
        (&["127.0.0.1:3000", "[::1]:3000"], BOTH, "loopback"),
        (&["[::ffff:127.0.0.1]:3000"], A, "loopback"),
        (&["127.0.0.1:3000", "127.0.0.2:3000"], A, "loopback"),
        (&["127.9.9.9:3000"], "127.9.9.9:3000", "loopback"),
        (&["0.0.0.0:3000 dev 1"], A, "loopback"),
        (&["[::]:3000 dev 1"], A, "loopback"),
        // Nothing that would answer.
        (&[], A, "not-listening"),
        (&["127.0.0.2:3000"], A, "not-listening"),
        (&["[::1]:3000"], A, "not-listening"),
        (&["127.0.0.1:3000"], SIX, "not-listening"),
        (&["127.0.0.1:3001"], A, "not-listening"),
        (&["0.0.0.0:3001"], A, "not-listening"),
        (&["127.0.0.1:3000 udp"], A, "not-listening"),
        // The same user's, and whose it is cannot be seen: it may be the same service.
        (&["0.0.0.0:3000 udp", "127.0.0.1:3000"], A, "cannot-tell"),
        (&["127.0.0.1:3000 udp", "127.0.0.1:3000"], A, "loopback"),
        // Wildcards.
        (&["0.0.0.0:3000"], A, "exposed"),
        (&["0.0.0.0:3000"], BOTH, "exposed"),
        (&["[::]:3000"], A, "exposed"),
        (&["[::]:3000"], SIX, "exposed"),
        (&["[::]:3000 v6only"], SIX, "exposed"),
        (&["[::]:3000 v6?"], A, "exposed"),
        (&["[::ffff:0.0.0.0]:3000"], A, "exposed"),
        // A wildcard of the other family is still a way to the same port.
        (&["127.0.0.1:3000", "[::]:3000 v6only"], A, "exposed"),
        (&["[::1]:3000", "0.0.0.0:3000"], SIX, "exposed"),
        // A wildcard beside the right one (SO_REUSEPORT).
        (&["127.0.0.1:3000", "0.0.0.0:3000"], A, "exposed"),
        (&["127.0.0.1:3000", "[::]:3000"], A, "exposed"),
        // Single addresses.
        (&["192.168.1.5:3000"], A, "exposed"),
        (&["127.0.0.1:3000", "192.168.1.5:3000"], A, "exposed"),
        (&["127.0.0.1:3000", "172.17.0.1:3000"], A, "exposed"),
        (&["[fe80::5]:3000"], BOTH, "exposed"),
        (&["[2001:db8::5]:3000", "127.0.0.1:3000"], A, "exposed"),
        (&["10.99.99.99:3000", "127.0.0.1:3000"], A, "exposed"),
        (&["0.0.0.0:3000 dev 3"], A, "exposed"),
        // An address that merely looks like loopback.
        (&["[::127.0.0.1]:3000"], A, "exposed"),
        (&["128.0.0.1:3000"], A, "exposed"),
    ] {
        assert_eq!(
            word(sockets, to, &[], false).word(),
            want,
            "{sockets:?} {to}"
        );
        // Where loopback is routed, what was fine over IPv4 cannot be told, and nothing becomes fine.
        let routed = word(sockets, to, &[], true).word();
        let serves_four = want == "loopback"
            && sockets.iter().any(|text| {
                let s = socket(text);
                upstream(to)
                    .sockets()
                    .any(|t| t.is_ipv4() && s.protocol == Protocol::Tcp && s.accepts(t.ip(), LO))
            });
        let expected = if serves_four { "cannot-tell" } else { want };
        assert_eq!(routed, expected, "{sockets:?} {to} with route_localnet");
    }
}

#[test]
fn our_own_sockets_are_no_way_around_but_others_at_the_same_address_are() {
    for (sockets, ours, want) in [
        (
            &["127.0.0.1:8443", "0.0.0.0:8443 inode 4242"][..],
            &[GATE][..],
            "loopback",
        ),
        (
            &["127.0.0.1:8443", "0.0.0.0:8443 inode 4242"],
            &[],
            "exposed",
        ),
        (
            &[
                "127.0.0.1:8443",
                "0.0.0.0:8443 inode 4242",
                "0.0.0.0:8443 inode 7",
            ],
            &[GATE],
            "exposed",
        ),
        (
            &["127.0.0.1:8443", "0.0.0.0:8443 inode 7"],
            &[GATE],
            "exposed",
        ),
        (
            &["127.0.0.1:8443", "192.168.1.5:8443 inode 4242"],
            &["192.168.1.5:8443"],
            "loopback",
        ),
        (
            &["192.168.1.5:8443 inode 4242"],
            &["192.168.1.5:8443"],
            "not-listening",
        ),
    ] {
        assert_eq!(
            word(sockets, "127.0.0.1:8443", ours, false).word(),
            want,
            "{sockets:?}"
        );
    }
}

/// What a forward or a firewall makes of a verdict, by what dialling finds: other addresses that answer, and the upstream itself.
#[test]
fn forwards_and_firewalls() {
    let lan: SocketAddr = "192.168.1.5:3000".parse().unwrap();
    for (sockets, routed, others, itself, want) in [
        // No forward, no firewall: the dial agrees.
        (&["127.0.0.1:3000"][..], false, &[][..], true, "loopback"),
        (&[], false, &[], false, "not-listening"),
        (&["0.0.0.0:3000"], false, &[lan], true, "exposed"),
        // A firewall swallows the dial: what is bound to all addresses stays exposed, it is one rule away.
        (&["0.0.0.0:3000"], false, &[], false, "exposed"),
        (&["127.0.0.1:3000"], false, &[], false, "loopback"),
        // A container's published port without a socket here.
        (&[], false, &[lan], true, "exposed"),
        (&["127.0.0.1:3000"], false, &[lan], true, "exposed"),
        // Published on 127.0.0.1 alone, by translation: no socket, yet it answers.
        (&[], false, &[], true, "cannot-tell"),
        // Translation to loopback in PREROUTING: only route_localnet tells that there may be one.
        (&["127.0.0.1:3000"], true, &[], true, "cannot-tell"),
        (&["[::1]:3000"], true, &[], true, "loopback"),
        (&["127.0.0.1:3000"], true, &[lan], true, "exposed"),
    ] {
        let to = upstream("localhost:3000");
        let got = word(sockets, "localhost:3000", &[], routed).with_dialled(&to, others, itself);
        assert_eq!(got.word(), want, "{sockets:?} {routed} {others:?} {itself}");
        assert_eq!(got.is_exposed(), want == "exposed");
    }
}

#[test]
fn a_table_that_cannot_be_read_is_not_an_empty_one() {
    let snapshot = Snapshot {
        unreadable: Some("permission denied".to_owned()),
        ..Snapshot::default()
    };
    let to = upstream("3000");
    let verdict = judge(&snapshot, &home(), &to, &[]);
    assert!(matches!(&verdict, Verdict::CannotTell(d) if matches!(d[..], [Doubt::NoTable(_)])));
    let lan = ["192.168.1.5:3000".parse().unwrap()];
    assert!(verdict.with_dialled(&to, &lan, false).is_exposed());
}

#[test]
fn forwarders_expose_the_port_that_they_name() {
    for (line, holds_open_socket, port, want) in [
        ("ngrok http 3000", false, "3000", "exposed"),
        ("ngrok http 3001", false, "3000", "loopback"),
        ("ssh -N -R 80:localhost:3000 host", false, "3000", "exposed"),
        (
            "socat TCP-LISTEN:9000,fork TCP:127.0.0.1:3000",
            true,
            "3000",
            "exposed",
        ),
        (
            "socat TCP-LISTEN:9000,bind=127.0.0.1 TCP:127.0.0.1:3000",
            false,
            "3000",
            "loopback",
        ),
        (
            "socat TCP-LISTEN:9000,fork TCP:127.0.0.1:3000",
            true,
            "3001",
            "not-listening",
        ),
    ] {
        let forwarder = process(77, line);
        let mut snapshot = Snapshot {
            sockets: vec![socket("127.0.0.1:3000"), socket("127.0.0.1:9001 inode 5")],
            forwards: forward::recognise(&forwarder).into_iter().collect(),
            ..Snapshot::default()
        };
        snapshot.owners.insert(5, forwarder.clone());
        if holds_open_socket {
            snapshot.sockets.push(socket("0.0.0.0:9000 inode 6"));
            snapshot.owners.insert(6, forwarder);
        }
        let verdict = judge(&snapshot, &home(), &upstream(port), &[]);
        assert_eq!(verdict.word(), want, "{line}");
    }
}

#[test]
fn the_message_names_process_address_who_and_repair() {
    let mut snapshot = Snapshot {
        sockets: vec![socket("0.0.0.0:8000 inode 9")],
        ..Snapshot::default()
    };
    snapshot
        .owners
        .insert(9, process(4711, "python3 -m http.server 8000"));
    let lan = machine(&["lo 127.0.0.1/8", "eth0 192.168.1.5/24"]);
    let verdict = judge(&snapshot, &lan, &upstream("8000"), &[]);
    assert_eq!(
        verdict.to_string(),
        "localhost:8000 can be reached without passing this gate:\n  \
         python3 (pid 4711), Python's http.server, listens on 0.0.0.0:8000: reachable by everyone on 192.168.1.0/24 (eth0)\n  \
         repair: `python3 -m http.server 8000 --bind 127.0.0.1`"
    );
    snapshot.owners.clear();
    snapshot.sockets.push(socket("127.0.0.1:8000 inode 10"));
    let text = judge(&snapshot, &lan, &upstream("8000"), &[]).to_string();
    assert!(text.contains("a process that cannot be seen from here (user 1000) listens on 0.0.0.0:8000 beside the one on loopback"), "{text}");
}

/// Tables as `ss -tlnp` shows them on real machines: the socket, who holds it.
#[test]
fn tables_of_real_machines() {
    const PROXY: &str = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 3000 -container-ip 172.17.0.2 -container-port 80";
    const PROXY_6: &str = "/usr/bin/docker-proxy -proto tcp -host-ip :: -host-port 3000 -container-ip 172.17.0.2 -container-port 80";
    const PROXY_LOCAL: &str = "/usr/bin/docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 3000 -container-ip 172.17.0.2 -container-port 80";
    for (machine, table, want, says) in [
        (
            "a port published by docker",
            &[("0.0.0.0:3000", PROXY), ("[::]:3000 v6only", PROXY_6)][..],
            "exposed",
            "`-p 127.0.0.1:3000:80`",
        ),
        (
            "the same, on loopback",
            &[("127.0.0.1:3000", PROXY_LOCAL)],
            "loopback",
            "",
        ),
        (
            "node without a host: one dual-stack socket",
            &[("[::]:3000", "node server.js")],
            "exposed",
            "server.listen(3000, \"127.0.0.1\")",
        ),
        (
            "a resolver and a service on other addresses of loopback",
            &[
                ("127.0.0.53:53 dev 1", "/lib/systemd/systemd-resolved"),
                ("127.0.1.1:3000", "python3 app.py"),
                ("127.0.0.1:3000", "python3 app.py"),
            ],
            "loopback",
            "",
        ),
        (
            "java, which writes IPv4 addresses as mapped ones",
            &[("[::ffff:127.0.0.1]:3000", "java -jar app.jar")],
            "loopback",
            "",
        ),
        (
            "java on a mapped address of the network",
            &[("[::ffff:192.168.1.5]:3000", "java -jar app.jar")],
            "exposed",
            "--server.address=127.0.0.1",
        ),
        (
            "a twin by SO_REUSEPORT, which nobody sees who dials loopback",
            &[
                ("127.0.0.1:3000 inode 1", "node server.js"),
                (
                    "0.0.0.0:3000 inode 2",
                    "socat TCP-LISTEN:3000,reuseport EXEC:sh",
                ),
            ],
            "exposed",
            "beside the one on loopback",
        ),
        (
            "ssh -L, on loopback as it is by itself",
            &[("127.0.0.1:3000", "ssh -N -L 3000:db:5432 bastion")],
            "loopback",
            "",
        ),
        (
            "ssh -g -L",
            &[("0.0.0.0:3000", "ssh -N -g -L 3000:db:5432 bastion")],
            "exposed",
            "leave `-g` out",
        ),
        (
            "a port that somebody's ssh -R opened here, with GatewayPorts",
            &[("0.0.0.0:3000", "sshd: alice")],
            "exposed",
            "GatewayPorts no",
        ),
        (
            "the same without",
            &[("127.0.0.1:3000", "sshd: alice")],
            "loopback",
            "",
        ),
        (
            "tailscale serve on the same port, at the tailnet's address",
            &[
                ("127.0.0.1:3000", "node server.js"),
                ("100.100.3.7:3000", "tailscaled --port=41641"),
            ],
            "exposed",
            "tailscale serve reset",
        ),
    ] {
        let mut snapshot = Snapshot::default();
        for (inode, (bound, line)) in (100..).zip(table) {
            let mut socket = socket(bound);
            socket.inode = inode;
            snapshot.owners.insert(inode, process(7, line));
            snapshot.sockets.push(socket);
        }
        let verdict = judge(&snapshot, &home(), &upstream("127.0.0.1:3000"), &[]);
        assert_eq!(verdict.word(), want, "{machine}: {verdict}");
        assert!(verdict.to_string().contains(says), "{machine}: {verdict}");
    }
}

#[test]
fn a_port_that_another_gate_holds_is_no_way_around() {
    let mut snapshot = Snapshot::default();
    for (inode, text) in [(1, "127.0.0.1:3000"), (2, "192.168.1.5:3000")] {
        let mut socket = socket(text);
        socket.inode = inode;
        snapshot.sockets.push(socket);
    }
    let target = "3000".parse::<crate::base::loopback::Target>().unwrap();
    let verdict =
        |snapshot: &Snapshot| judge(snapshot, &Interfaces::default(), &target.address, &[]).word();
    assert_eq!(verdict(&snapshot), "exposed");
    snapshot.guarded.insert(2);
    assert_eq!(verdict(&snapshot), "loopback");
}

#[test]
fn workers_are_said_once_and_nobody_is_no_one_who_can() {
    let mut snapshot = Snapshot::default();
    for inode in 1..=8 {
        let mut socket = socket("10.9.9.9:3000");
        socket.inode = inode;
        snapshot.owners.insert(inode, process(7, "node server.js"));
        snapshot.sockets.push(socket);
    }
    let lan = machine(&["lo 127.0.0.1/8", "eth0 192.168.1.5/24"]);
    let verdict = judge(&snapshot, &lan, &upstream("3000"), &[]);
    let text = verdict.to_string();
    assert!(verdict.is_exposed());
    assert_eq!(text.matches("listens on").count(), 1, "{text}");
    assert!(
        !text.contains("can be reached") && text.contains("is not on loopback alone"),
        "{text}"
    );
    assert_eq!(verdict.ways(), ["node (pid 7) 10.9.9.9:3000"]);
    let here = machine(&["lo 127.0.0.1/8", "eth0 10.9.9.9/24"]);
    let text = judge(&snapshot, &here, &upstream("3000"), &[]).to_string();
    assert!(text.contains("can be reached without passing"), "{text}");
}
