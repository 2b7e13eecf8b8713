//! Every listening socket of this machine by exposure, with its process, what guards it, and one line of advice; pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::advice::advice;
use super::expected::expected;
use super::forward::{Forward, Way, recognise};
use super::judge::Snapshot;
use super::namespaces::Space;
use super::owner::Process;
use super::reach::{Openness, reach};
use super::socket_table::{LO, Protocol, Socket};
use super::spelling::Place;
use super::words::plain;
use crate::net::interfaces::Interfaces;

/// A listener of the gate, with what its plan lets in, as `192.168.1.0/24, with a password`.
#[derive(Clone, Debug)]
pub struct GateListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who is let in, in words.
    pub lets_in: String,
}

/// The service of a route, by where it is dialled.
#[derive(Clone, Debug)]
pub struct Service {
    /// The route, as `app.lan/`.
    pub route: String,
    /// Its addresses on loopback.
    pub at: Vec<SocketAddr>,
}

/// Whether somebody should act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Open to others with nothing known to guard it.
    Unguarded,
    /// A listener of loopgate.
    Gate,
    /// Open to others, as a part of the system that is meant to be or that has its own guard.
    Expected,
    /// On loopback.
    Local,
}

/// One line of the audit: a socket, or several of one process at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Address and port.
    pub address: SocketAddr,
    /// `this-machine`, `networks` or `everyone`.
    pub exposure: &'static str,
    /// Who can reach it now, in words.
    pub reachable_by: String,
    /// The interfaces on which it can be reached.
    pub interfaces: Vec<String>,
    /// Who opened it.
    pub uid: u32,
    /// The process, where it can be seen.
    pub pid: Option<u32>,
    /// All processes of that name that share this line, one for each socket whose process can be seen.
    pub pids: Vec<u32>,
    /// Its name.
    pub process: Option<String>,
    /// What it is, where it is known.
    pub what: Option<String>,
    /// The container it is in.
    pub container: Option<String>,
    /// The forwarder it belongs to.
    pub forwarder: Option<&'static str>,
    /// The routes of the plan whose service it is.
    pub service_of: Vec<String>,
    /// How many sockets share this line.
    pub sockets: usize,
    /// Whether somebody should act.
    pub standing: Standing,
    /// What to do, or why nothing.
    pub advice: String,
    #[serde(skip)]
    openness: Openness,
}

/// A program that carries ports out of this machine without a listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// What it is.
    pub what: &'static str,
    /// The process.
    pub pid: u32,
    /// The ports that its arguments name; empty where they do not.
    pub ports: Vec<u16>,
    /// It is a proxy that its visitors tell where to go: all of loopback.
    pub everything: bool,
    /// Whether all it names are ports of the gate.
    pub leads_to_gate: bool,
    /// Whether it lives in another network namespace: the ports that it names are not those of this one.
    pub is_elsewhere: bool,
}

impl Tunnel {
    /// Whether it is known to carry something else than the gate.
    pub fn is_open(&self) -> bool {
        !self.is_elsewhere && (self.everything || (!self.ports.is_empty() && !self.leads_to_gate))
    }
}

/// The audit of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// The widest open first.
    pub sockets: Vec<Row>,
    /// Programs that carry ports outside.
    pub tunnels: Vec<Tunnel>,
    /// What could not be seen, one sentence each.
    pub unseen: Vec<String>,
}

impl Audit {
    /// Whether something is open that nothing guards: the exit code is 4 then.
    pub fn has_unguarded(&self) -> bool {
        self.sockets
            .iter()
            .any(|row| row.standing == Standing::Unguarded)
            || self.tunnels.iter().any(Tunnel::is_open)
    }
}

/// Sorts all sockets by exposure. `gate` are the listeners of the plan that this machine's loopgate runs, `services` what it stands
/// before.
pub fn audit(
    snapshot: &Snapshot,
    interfaces: &Interfaces,
    gate: &[GateListener],
    services: &[Service],
) -> Audit {
    let mut rows: Vec<Row> = Vec::new();
    // Workers of one service share an address.
    let mut twins: HashMap<(Protocol, SocketAddr, u32, u32, Option<&str>), usize> = HashMap::new();
    for socket in &snapshot.sockets {
        let name = holder(socket, snapshot).map(|p| &*p.name);
        let key = (
            socket.protocol,
            socket.address,
            socket.device,
            socket.uid,
            name,
        );
        match twins.get(&key).and_then(|at| rows.get_mut(*at)) {
            Some(twin) => {
                twin.sockets += 1;
                let pid = holder(socket, snapshot).map(|p| p.pid);
                twin.pids.extend(pid.filter(|pid| !twin.pids.contains(pid)));
            }
            None => {
                twins.insert(key, rows.len());
                let row = row(socket, snapshot, interfaces, gate);
                let service_of = service_of(socket, services);
                rows.push(Row { service_of, ..row });
            }
        }
    }
    let order = |row: &Row| {
        (
            std::cmp::Reverse(row.openness),
            row.standing as u8,
            row.protocol,
            row.address.port(),
            row.address,
        )
    };
    rows.sort_by_key(order);
    let mut unseen = snapshot.surroundings.unseen();
    let nameless = rows.iter().filter(|row| row.pid.is_none()).count();
    if let Some(reason) = &snapshot.unreadable {
        unseen.push(format!(
            "The socket table could not be read in whole: {reason}."
        ));
    }
    if nameless > 0 {
        unseen.push(format!(
            "Who holds the sockets with `?` ({nameless}) cannot be seen: they belong to another user (ask again as root), to the kernel, \
             or to another process namespace."
        ));
    }
    Audit {
        sockets: rows,
        tunnels: tunnels(snapshot, gate),
        unseen,
    }
}

/// Of several holders the forwarder, which says more than the parent that opened the socket for it.
fn holder<'s>(socket: &Socket, snapshot: &'s Snapshot) -> Option<&'s Process> {
    let holds = |f: &&Forward| f.way == Way::Listener && f.sockets.contains(&socket.inode);
    let forward = snapshot.forwards.iter().find(holds).map(|f| &f.process);
    forward.or_else(|| snapshot.owners.get(&socket.inode))
}

fn tunnels(snapshot: &Snapshot, gate: &[GateListener]) -> Vec<Tunnel> {
    let is_gates = |port: &u16| gate.iter().any(|g| g.address.port() == *port);
    let tunnel = |forward: &Forward| {
        let ports = forward.ports(&snapshot.hosts);
        Tunnel {
            what: forward.what,
            pid: forward.process.pid,
            everything: forward.places.contains(&Place::All),
            is_elsewhere: snapshot.spaces.get(&forward.process.pid) == Some(&Space::Another),
            leads_to_gate: !ports.is_empty() && ports.iter().all(is_gates),
            ports,
        }
    };
    let all = snapshot.forwards.iter();
    all.filter(|f| f.way == Way::Tunnel).map(tunnel).collect()
}

fn service_of(socket: &Socket, services: &[Service]) -> Vec<String> {
    let takes = |to: &SocketAddr| {
        socket.protocol == Protocol::Tcp
            && socket.address.port() == to.port()
            && socket.accepts(to.ip(), LO)
    };
    let its = services
        .iter()
        .filter(|service| service.at.iter().any(takes));
    its.map(|service| service.route.clone()).collect()
}

fn row(
    socket: &Socket,
    snapshot: &Snapshot,
    interfaces: &Interfaces,
    gate: &[GateListener],
) -> Row {
    let process = holder(socket, snapshot);
    let reach = reach(socket, interfaces);
    let mut names: Vec<String> = reach
        .networks
        .iter()
        .map(|(_, name)| name.clone())
        .collect();
    names.sort();
    names.dedup();
    let what = advice(process, socket.address).what;
    let (standing, advice) = judge(socket, process, reach.openness, snapshot, gate);
    Row {
        protocol: socket.protocol.word(),
        address: socket.address,
        exposure: match reach.openness {
            Openness::ThisMachine => "this-machine",
            Openness::Networks => "networks",
            Openness::Everyone => "everyone",
        },
        reachable_by: reach.to_string(),
        interfaces: names,
        uid: socket.uid,
        pid: process.map(|p| p.pid),
        pids: process.iter().map(|p| p.pid).collect(),
        process: process.map(|p| plain(&p.name)),
        what: what.map(str::to_owned),
        container: process.and_then(|p| p.container.clone()),
        forwarder: process.and_then(recognise).map(|f| f.what),
        service_of: Vec::new(),
        sockets: 1,
        standing,
        advice,
        openness: reach.openness,
    }
}

/// Of a gate that cannot be known for one, as after an update, or of somebody who calls himself that.
const NAMED: &str = "it calls itself loopgate, but is another program than this one and answers on no control socket of yours: restart it \
                     if it is of a version before, or ask as its user";

fn judge(
    socket: &Socket,
    process: Option<&Process>,
    openness: Openness,
    snapshot: &Snapshot,
    gate: &[GateListener],
) -> (Standing, String) {
    // A name proves nothing.
    let is_gate = match process {
        Some(process) => snapshot.gates.contains(&process.pid),
        None => snapshot.told.contains(&socket.address),
    };
    let is_tcp = socket.protocol == Protocol::Tcp;
    let planned = gate.iter().find(|g| is_tcp && g.address == socket.address);
    if let Some(listener) = planned.filter(|_| is_gate) {
        return (Standing::Gate, format!("lets in {}", listener.lets_in));
    }
    if openness == Openness::ThisMachine {
        return (Standing::Local, String::new());
    }
    if is_tcp && is_gate {
        return (
            Standing::Gate,
            "a loopgate with another plan than this one".to_owned(),
        );
    }
    if planned.is_some() && process.is_none() {
        let advice = "the plan has this address, but whether its gate holds it cannot be seen: ask again as root, or as its user";
        return (Standing::Unguarded, advice.to_owned());
    }
    if let Some(reason) = expected(socket, process, snapshot) {
        return (Standing::Expected, reason.to_owned());
    }
    let advice = match process.filter(|p| p.name == "loopgate") {
        Some(_) => NAMED.to_owned(),
        None => advice(process, socket.address).repair,
    };
    (Standing::Unguarded, advice)
}

#[cfg(test)]
mod tests {
    use super::super::reach::tests::machine;
    use super::super::socket_table::tests::socket;
    use super::super::table;
    use super::*;

    fn process(pid: u32, line: &str) -> Process {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let name = arguments[0].rsplit('/').next().unwrap();
        Process {
            pid,
            name: name.trim_end_matches(':').to_owned(),
            arguments,
            container: None,
            is_cut: false,
        }
    }

    fn sample() -> Audit {
        let lines = [
            ("0.0.0.0:22", "sshd"),
            ("[::]:22 v6only", "sshd"),
            ("0.0.0.0:8000", "python3 -m http.server 8000"),
            ("127.0.0.1:5432", "postgres"),
            ("192.168.1.5:6379", "redis-server *:6379"),
            ("0.0.0.0:8443", "loopgate serve"),
            ("0.0.0.0:8443", "loopgate serve"),
            ("0.0.0.0:8444", "loopgate serve"),
            ("0.0.0.0:5353 udp", "avahi-daemon"),
            ("0.0.0.0:40000 udp", "firefox"),
            ("0.0.0.0:53 udp", "dnsmasq"),
            ("0.0.0.0:2222", "sshd: alice@pts/0"),
            ("[::]:3000", "node /app/node_modules/.bin/vite --host"),
            ("0.0.0.0:8445", "loopgate serve"),
            ("0.0.0.0:8446", "?"),
            ("0.0.0.0:8447", "?"),
            ("0.0.0.0:9022", "sshd"),
            ("0.0.0.0:2022", "sshd"),
            ("0.0.0.0:22", "sshd"),
        ];
        let mut snapshot = Snapshot::default();
        snapshot.surroundings.client_ports = (32768, 60999);
        for (n, (bound, line)) in (1_u32..).zip(lines) {
            let mut socket = socket(bound);
            socket.inode = u64::from(n);
            if line != "?" {
                snapshot.owners.insert(socket.inode, process(100 + n, line));
            }
            snapshot.sockets.push(socket);
        }
        snapshot.surroundings.ssh_ports = vec![2022];
        // The last one only has the name.
        snapshot.sshd.extend([101, 102, 112, 117, 118]);
        snapshot.gates.extend([106, 107, 108]);
        snapshot.told.insert("0.0.0.0:8446".parse().unwrap());
        snapshot
            .forwards
            .extend(recognise(&process(900, "ngrok http 8000")));
        let home = machine(&["lo 127.0.0.1/8 ::1/128", "eth0 192.168.1.5/24 fe80::5/64"]);
        let gate = GateListener {
            address: "0.0.0.0:8443".parse().unwrap(),
            lets_in: "192.168.1.0/24, with a password".to_owned(),
        };
        let service = Service {
            route: "app.lan/".to_owned(),
            at: vec![
                "127.0.0.1:5432".parse().unwrap(),
                "[::1]:5432".parse().unwrap(),
            ],
        };
        audit(&snapshot, &home, &[gate], &[service])
    }

    #[test]
    fn each_socket_has_its_standing() {
        let audit = sample();
        for (port, want) in [
            (22, Standing::Expected),
            (8000, Standing::Unguarded),
            (5432, Standing::Local),
            (6379, Standing::Unguarded),
            (8443, Standing::Gate),
            (8444, Standing::Gate),
            // Somebody's program of that name; one that says so itself, and one that nobody knows.
            (8445, Standing::Unguarded),
            (8446, Standing::Gate),
            (8447, Standing::Unguarded),
            (5353, Standing::Expected),
            (40000, Standing::Expected),
            (53, Standing::Unguarded),
            (2222, Standing::Unguarded),
            (9022, Standing::Unguarded),
            (2022, Standing::Expected),
            (3000, Standing::Unguarded),
        ] {
            let row = audit
                .sockets
                .iter()
                .find(|row| row.address.port() == port)
                .unwrap();
            assert_eq!(row.standing, want, "{port}");
        }
        assert!(audit.has_unguarded());
        let services = audit
            .sockets
            .iter()
            .filter(|row| !row.service_of.is_empty());
        let ports: Vec<u16> = services.map(|row| row.address.port()).collect();
        assert_eq!(ports, [5432]);
        let named = audit.sockets.iter().find(|row| row.address.port() == 8445);
        assert_eq!(named.unwrap().advice, NAMED);
        let ours = audit
            .sockets
            .iter()
            .find(|row| row.address.port() == 8443)
            .unwrap();
        assert_eq!(
            (ours.sockets, &*ours.advice),
            (2, "lets in 192.168.1.0/24, with a password")
        );
        assert_eq!(ours.pids, [106, 107]);
        assert!(!audit.tunnels[0].leads_to_gate);
        let on_22 = audit.sockets.iter().filter(|row| row.address.port() == 22);
        let of = |row: &Row| (row.pid, row.standing);
        let on_22: Vec<_> = on_22.map(of).collect();
        assert!(
            on_22.contains(&(Some(101), Standing::Expected)),
            "{on_22:?}"
        );
    }

    #[test]
    fn the_parent_of_a_forwarder_does_not_hide_it() {
        let mut snapshot = Snapshot::default();
        let mut open = socket("0.0.0.0:9000");
        open.inode = 7;
        snapshot.owners.insert(7, process(50, "python3 start.py"));
        let forward = recognise(&process(51, "systemd-socket-proxyd 127.0.0.1:3000"));
        snapshot.forwards.extend(forward.map(|f| Forward {
            sockets: [7].into(),
            ..f
        }));
        snapshot.sockets.push(open);
        let found = audit(&snapshot, &Interfaces::default(), &[], &[]);
        let row = &found.sockets[0];
        assert_eq!(
            (row.pid, row.forwarder),
            (Some(51), Some("systemd-socket-proxyd"))
        );
    }

    #[test]
    fn a_proxy_into_loopback_is_open() {
        let mut snapshot = Snapshot::default();
        for (line, want) in [
            ("ssh -R 9000 h", true),
            ("ssh -R 9000:10.0.0.1:80 h", false),
        ] {
            snapshot.forwards = recognise(&process(9, line)).into_iter().collect();
            let found = audit(&snapshot, &Interfaces::default(), &[], &[]);
            assert_eq!(found.has_unguarded(), want, "{line}");
            assert_eq!(table::render(&found, 80).contains("all of loopback"), want);
        }
    }

    #[test]
    fn what_another_namespace_carries_is_its_own() {
        let mut snapshot = Snapshot::default();
        let ngrok = recognise(&process(9, "ngrok http 3000"));
        snapshot.forwards.extend(ngrok);
        for (space, want) in [
            (Space::Ours, true),
            (Space::Unknown, true),
            (Space::Another, false),
        ] {
            snapshot.spaces.insert(9, space);
            let found = audit(&snapshot, &Interfaces::default(), &[], &[]);
            assert_eq!(found.has_unguarded(), want, "{space:?}");
            let text = table::render(&found, 80);
            assert_eq!(text.contains("another network namespace"), !want, "{text}");
        }
    }

    #[test]
    fn a_machine_with_only_guarded_sockets_passes() {
        let mut audit = sample();
        audit
            .sockets
            .retain(|row| row.standing != Standing::Unguarded);
        assert!(audit.has_unguarded(), "the tunnel is still there");
        audit.tunnels.clear();
        assert!(!audit.has_unguarded());
    }

    #[test]
    fn the_table_fits_its_width_and_names_what_is_open() {
        let audit = sample();
        let text = table::render(&audit, 80);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        for part in [
            "python3 -m http.server 8000 --bind 127.0.0.1",
            "0.0.0.0:8000",
            "ngrok",
            "vite --host 127.0.0.1",
            "postgres (pid 104), the service of app.lan/",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
