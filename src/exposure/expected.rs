//! What is open on most machines by its nature: parts of the system, and programs with a guard of their own. The audit shows it and
//! does not count it.

use super::advice::words;
use super::forward::{Way, recognise};
use super::judge::Snapshot;
use super::owner::Process;
use super::socket_table::{Protocol, Socket};

/// Parts of a system that are open by their nature: protocol, ports (none for any), programs (none for any), why.
type Known = (
    Protocol,
    &'static [u16],
    &'static [&'static str],
    &'static str,
);

const EXPECTED: [Known; 10] = [
    (Protocol::Tcp, &[22], &["systemd"], "ssh has its own logins"),
    (
        Protocol::Tcp,
        &[],
        &["tailscaled"],
        "open to the tailnet, whose policy guards it",
    ),
    (Protocol::Udp, &[], &["tailscaled"], "encrypted tunnel"),
    (
        Protocol::Udp,
        &[68, 546],
        &[],
        "address configuration (DHCP client)",
    ),
    (
        Protocol::Udp,
        &[5353],
        &[],
        "names in the local network (mDNS)",
    ),
    (
        Protocol::Udp,
        &[5355],
        &[],
        "names in the local network (LLMNR)",
    ),
    (
        Protocol::Tcp,
        &[5355],
        &["systemd-resolve"],
        "names in the local network (LLMNR)",
    ),
    (
        Protocol::Udp,
        &[1900],
        &[],
        "announcements in the local network (SSDP)",
    ),
    (
        Protocol::Udp,
        &[],
        &["chronyd", "ntpd", "systemd-timesyn"],
        "time",
    ),
    (
        Protocol::Udp,
        &[],
        &[
            "NetworkManager",
            "systemd-network",
            "dhclient",
            "dhcpcd",
            "avahi-daemon",
        ],
        "network configuration",
    ),
];

/// Why a socket that others can reach is no finding; `None` where it is one.
pub(super) fn expected(
    socket: &Socket,
    process: Option<&Process>,
    snapshot: &Snapshot,
) -> Option<&'static str> {
    let client_ports = snapshot.surroundings.client_ports;
    let port = socket.address.port();
    if socket.protocol == Protocol::Udp && socket.inode == 0 {
        return Some("a socket of the kernel itself (a tunnel such as WireGuard)");
    }
    let is_forward = process
        .and_then(recognise)
        .is_some_and(|f| f.way == Way::Listener);
    let is_one = |known: &&Known| {
        let (protocol, ports, programs, _) = known;
        // sshd lends its name to what its visitors open, which its logins do not guard.
        *protocol == socket.protocol
            && (ports.is_empty() || ports.contains(&port))
            && (programs.is_empty() || process.is_some_and(|p| programs.contains(&&*p.name)))
            && !is_forward
    };
    // By its program and on a port of its own: what a visitor opens by `-R` is not behind its logins.
    let is_sshd = |p: &Process| snapshot.sshd.contains(&p.pid);
    if socket.protocol == Protocol::Tcp
        && !is_forward
        && (port == 22 || snapshot.surroundings.ssh_ports.contains(&port))
        && process.is_some_and(is_sshd)
    {
        return Some("ssh has its own logins");
    }
    if let Some(known) = EXPECTED.iter().find(is_one) {
        return Some(known.3);
    }
    if process.is_none() && (socket.protocol, port, socket.uid) == (Protocol::Tcp, 22, 0) {
        return Some("most likely ssh, which has its own logins");
    }
    let is_client =
        socket.protocol == Protocol::Udp && (client_ports.0..=client_ports.1).contains(&port);
    let is_server = process.is_some_and(|p| words(p).iter().any(|word| word.ends_with("server")));
    (is_client && !is_server).then_some(
        "in the range of ports that the kernel gives to clients; a service may have one too",
    )
}
