//! Programs that carry a local port elsewhere: tunnels that leave this machine, and local forwarders. Recognised by name and
//! arguments, so a hint about what runs here, never proof that nothing else does.

use std::fs;

use super::advice::words;
use super::owner::{Process, processes};
use super::spelling::{Hosts, Place, places};

/// How a forwarder carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over a connection that it opened to the outside; it needs no listening socket.
    Tunnel,
    /// Through a socket that it listens on.
    Listener,
}

/// A forwarder that runs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What it is.
    pub what: &'static str,
    /// How it carries.
    pub way: Way,
    /// The places of this machine that its arguments name.
    pub places: Vec<Place>,
    /// The process.
    pub process: Process,
    /// Its sockets can be seen.
    pub is_visible: bool,
}

impl Forward {
    /// The ports of this machine that it carries to.
    pub fn ports(&self, hosts: &Hosts) -> Vec<u16> {
        let sockets = self.places.iter().flat_map(|place| hosts.sockets(place));
        let mut ports: Vec<u16> = sockets.map(|(_, port)| port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

struct Known {
    /// One of these is the program's name.
    names: &'static [&'static str],
    /// And one of these is an argument, or begins one; empty for none needed.
    option: &'static [&'static str],
    way: Way,
    what: &'static str,
}

const fn known(
    names: &'static [&'static str],
    option: &'static [&'static str],
    way: Way,
    what: &'static str,
) -> Known {
    Known {
        names,
        option,
        way,
        what,
    }
}

const KNOWN: [Known; 26] = [
    known(&["cloudflared"], &[], Way::Tunnel, "cloudflared"),
    known(&["ngrok"], &[], Way::Tunnel, "ngrok"),
    known(&["ssh", "autossh"], &["-R"], Way::Tunnel, "ssh -R"),
    known(&["lt", "localtunnel"], &[], Way::Tunnel, "localtunnel"),
    known(&["bore"], &["local"], Way::Tunnel, "bore"),
    known(&["frpc"], &[], Way::Tunnel, "frp"),
    known(&["rathole"], &[], Way::Tunnel, "rathole"),
    known(&["pagekite"], &[], Way::Tunnel, "PageKite"),
    known(&["zrok"], &[], Way::Tunnel, "zrok"),
    known(&["devtunnel"], &["host"], Way::Tunnel, "devtunnel"),
    known(&["chisel"], &["client"], Way::Tunnel, "chisel"),
    known(&["tailscaled"], &[], Way::Tunnel, "tailscale"),
    known(
        &["ssh", "autossh"],
        &["-L", "-D", "-g"],
        Way::Listener,
        "ssh -L",
    ),
    known(
        &["sshd", "sshd-session"],
        &["@"],
        Way::Listener,
        "ssh -R of a visitor",
    ),
    known(&["docker-proxy"], &[], Way::Listener, "docker-proxy"),
    known(
        &[
            "rootlessport",
            "rootlesskit",
            "slirp4netns",
            "pasta",
            "pasta.avx2",
        ],
        &[],
        Way::Listener,
        "rootless container port",
    ),
    known(
        &["kubectl"],
        &["port-forward"],
        Way::Listener,
        "kubectl port-forward",
    ),
    known(&["socat"], &[], Way::Listener, "socat"),
    known(
        &["systemd-socket-proxyd", "systemd-socket-"],
        &[],
        Way::Listener,
        "systemd-socket-proxyd",
    ),
    known(
        &["caddy"],
        &["reverse-proxy"],
        Way::Listener,
        "caddy reverse-proxy",
    ),
    known(
        &["mitmdump", "mitmproxy", "mitmweb"],
        &[],
        Way::Listener,
        "mitmproxy",
    ),
    known(&["websockify"], &[], Way::Listener, "websockify"),
    known(&["local-ssl-proxy"], &[], Way::Listener, "local-ssl-proxy"),
    known(&["wstunnel"], &["client"], Way::Tunnel, "wstunnel"),
    known(
        &[
            "ncat",
            "nc",
            "netcat",
            "rinetd",
            "redir",
            "simpleproxy",
            "gost",
            "ghostunnel",
        ],
        &[],
        Way::Listener,
        "port forwarder",
    ),
    known(
        &["haproxy", "envoy", "traefik"],
        &[],
        Way::Listener,
        "proxy",
    ),
];

/// What kind of forwarder a process is; pure.
pub fn recognise(process: &Process) -> Option<Forward> {
    // A program may have written a title over its arguments: one argument with spaces.
    let line: Vec<&str> = process
        .arguments
        .iter()
        .flat_map(|argument| argument.split(' '))
        .collect();
    let is_script = matches!(&*process.name, "node" | "python3");
    let program = Process {
        name: process.name.clone(),
        arguments: line
            .iter()
            .take(if is_script { 2 } else { 1 })
            .map(|word| (*word).to_owned())
            .collect(),
        ..Process::default()
    };
    let program = words(&program);
    let kind = KNOWN.iter().find(|kind| {
        kind.names.iter().any(|name| program.contains(name))
            && (kind.option.is_empty() || kind.option.iter().any(|option| has(&line, option)))
    })?;
    Some(Forward {
        what: kind.what,
        way: kind.way,
        places: places(&line, kind.what.starts_with("ssh")),
        process: process.clone(),
        is_visible: true,
    })
}

/// Whether the arguments hold a word; of an option the letter, among others (`-fNR`) or before its value (`-R80:…`). `@` is any word
/// with it, which is how sshd entitles a session.
fn has(line: &[&str], option: &str) -> bool {
    line.iter()
        .skip(1)
        .any(|word| match option.strip_prefix('-') {
            Some(letter) => word
                .strip_prefix('-')
                .and_then(|flags| flags.split(|c: char| !c.is_ascii_alphabetic()).next())
                .is_some_and(|flags| flags.contains(letter)),
            None if option == "@" => word.contains('@'),
            None => *word == option,
        })
}

/// The forwarders that run here and can be seen. One small read a process; the rest only for those with a known name.
pub fn running() -> Vec<Forward> {
    processes()
        .into_iter()
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comm = comm.trim_end();
            // `node` for localtunnel and `python3` for PageKite.
            matches!(comm, "node" | "python3")
                || KNOWN.iter().any(|kind| {
                    kind.names
                        .iter()
                        .any(|name| comm.starts_with(&name[..name.len().min(15)]))
                })
        })
        .filter_map(|pid| {
            let forward = recognise(&Process::read(pid)?)?;
            let is_visible = fs::read_dir(format!("/proc/{pid}/fd")).is_ok();
            Some(Forward {
                is_visible,
                ..forward
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised(line: &str) -> Option<(&'static str, Way, Vec<u16>)> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let name = arguments[0]
            .rsplit('/')
            .next()
            .unwrap()
            .trim_end_matches(':')
            .to_owned();
        recognise(&Process {
            pid: 1,
            name,
            arguments,
            container: None,
        })
        .map(|f| (f.what, f.way, f.ports(&Hosts::default())))
    }

    #[test]
    fn forwarders_are_told_by_name_and_arguments_and_others_are_not() {
        for (line, want) in [
            ("ngrok http 3000", Some(("ngrok", Way::Tunnel, vec![3000]))),
            (
                "/usr/bin/cloudflared tunnel --url http://localhost:3000",
                Some(("cloudflared", Way::Tunnel, vec![3000])),
            ),
            (
                "ssh -N -R 80:localhost:3000 host.example",
                Some(("ssh -R", Way::Tunnel, vec![3000])),
            ),
            (
                "ssh -NR 80:127.0.0.1:3000 host.example",
                Some(("ssh -R", Way::Tunnel, vec![3000])),
            ),
            (
                "ssh -R8080:localhost:80 -R 9090:localhost:90 h",
                Some(("ssh -R", Way::Tunnel, vec![80, 90])),
            ),
            (
                "ssh -L 3000:db:5432 host.example",
                Some(("ssh -L", Way::Listener, vec![])),
            ),
            (
                "socat TCP-LISTEN:9000,fork TCP:127.0.0.1:3000",
                Some(("socat", Way::Listener, vec![3000])),
            ),
            (
                "bore local 3000 --to bore.example",
                Some(("bore", Way::Tunnel, vec![3000])),
            ),
            (
                "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0",
                Some(("docker-proxy", Way::Listener, vec![])),
            ),
            (
                "tailscaled --state=/var/lib/x",
                Some(("tailscale", Way::Tunnel, vec![])),
            ),
            (
                "node /usr/bin/lt --port 3000",
                Some(("localtunnel", Way::Tunnel, vec![3000])),
            ),
            (
                "sshd: alice@pts/0",
                Some(("ssh -R of a visitor", Way::Listener, vec![])),
            ),
            (
                "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
                None,
            ),
            ("node server.js 3000", None),
            ("ssh host.example", None),
            ("ssh host.example --RAW", None),
            ("bash -R", None),
            ("kubectl get pods", None),
            ("vim localhost:3000", None),
        ] {
            assert_eq!(recognised(line), want, "{line}");
        }
    }
}
