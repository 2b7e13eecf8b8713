//! What this machine allows the check to see, and what it hides: containers, network namespaces, and loopback that is routed.

use std::fs;
use std::path::Path;

use super::socket_table::Source;

/// Which processes of this machine `/proc` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// All of this namespace.
    #[default]
    All,
    /// Our own user's alone (`hidepid`, `ProtectProc=invisible`).
    Own,
    /// None: there is no `/proc`.
    None,
}

/// Where the check is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// What tells that this is a container.
    pub container: Option<String>,
    /// Interfaces on which `route_localnet` is set: packets from outside may be sent on to 127.0.0.0/8 there.
    pub routed_loopback: Vec<String>,
    /// Whether any is set cannot be read.
    pub is_routing_unknown: bool,
    /// Which processes can be seen.
    pub processes: Processes,
    /// Where the table of sockets came from.
    pub source: Source,
    /// The ports that the kernel gives to clients.
    pub client_ports: (u16, u16),
    /// The ports that the configuration of sshd names.
    pub ssh_ports: Vec<u16>,
}

impl Surroundings {
    /// Reads them. A dozen small files; blocking.
    pub fn read(source: Source) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let routed_loopback = fs::read_dir("/proc/sys/net/ipv4/conf")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let flag = fs::read_to_string(entry.path().join("route_localnet")).ok()?;
                // `default` is only for interfaces to come, and `lo` has nobody outside.
                let counts = flag.trim() == "1" && name != "default" && name != "lo";
                counts.then_some(name)
            })
            .collect();
        Self {
            container: container(
                Path::new("/.dockerenv").exists(),
                Path::new("/run/.containerenv").exists(),
                std::env::var("KUBERNETES_SERVICE_HOST").is_ok(),
                &text("/proc/self/cgroup"),
                &text("/run/systemd/container"),
            ),
            routed_loopback,
            is_routing_unknown: cfg!(target_os = "linux")
                && fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").is_err(),
            processes: processes(
                Path::new("/proc/self").exists(),
                Path::new("/proc/1").exists(),
            ),
            source,
            client_ports: ports(&text("/proc/sys/net/ipv4/ip_local_port_range")),
            ssh_ports: Vec::new(),
        }
    }

    /// What the check cannot see here, one sentence each, to be said once at start.
    pub fn unseen(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(container) = &self.container {
            said.push(format!(
                "This runs in a container ({container}): the sockets in it are seen, but not which of its ports the host publishes, nor \
                 processes of other containers that share its network."
            ));
        }
        if !self.routed_loopback.is_empty() {
            said.push(format!(
                "`route_localnet` is set ({}): address translation and neighbours on that link may reach 127.0.0.1 itself, which no \
                 socket table shows.",
                self.routed_loopback.join(", ")
            ));
        }
        said.extend(self.hidden().map(str::to_owned));
        if self.is_routing_unknown && self.processes != Processes::None {
            said.push(
                "/proc/sys cannot be read here: whether `route_localnet` lets others reach 127.0.0.1 is not known.".to_owned(),
            );
        }
        if self.source == Source::Proc {
            said.push(
                "The kernel refused netlink, so sockets are read from /proc/net: a socket held to one interface is taken for open on all, and one \
                 that TPROXY may bring others to is not told from others."
                    .to_owned(),
            );
        }
        said
    }
}

impl Surroundings {
    /// What is not noticed because processes are hidden.
    pub fn hidden(&self) -> Option<&'static str> {
        match self.processes {
            Processes::All => None,
            Processes::Own => Some(
                "Processes of other users are hidden here (`hidepid`, `ProtectProc=invisible`): a forwarder or a tunnel that another user \
                 runs, or a second port of a service of another user, is not noticed; `loopgate audit` as root sees them.",
            ),
            Processes::None => Some(
                "There is no /proc here: neither processes nor `route_localnet` can be seen, so no forwarder, no tunnel and no second port \
                 of a service is noticed.",
            ),
        }
    }
}

/// By whether we see ourselves, and the first process.
fn processes(own: bool, first: bool) -> Processes {
    match (own, first) {
        (false, _) => Processes::None,
        (true, false) => Processes::Own,
        (true, true) => Processes::All,
    }
}

fn container(
    docker: bool,
    podman: bool,
    kubernetes: bool,
    cgroup: &str,
    systemd: &str,
) -> Option<String> {
    if kubernetes {
        return Some("kubernetes".to_owned());
    }
    if docker {
        return Some("docker".to_owned());
    }
    if podman {
        return Some("podman".to_owned());
    }
    let systemd = systemd.trim();
    if !systemd.is_empty() {
        return Some(systemd.to_owned());
    }
    super::owner::container(cgroup)
}

/// The ports of the sshd of this machine, by its configuration. Blocking, a few small files.
pub(super) fn ssh_ports() -> Vec<u16> {
    let parts = fs::read_dir("/etc/ssh/sshd_config.d");
    let parts = parts.into_iter().flatten().take(100);
    let parts = parts.filter_map(|entry| Some(entry.ok()?.path()));
    let files = std::iter::once(Path::new("/etc/ssh/sshd_config").to_owned()).chain(parts);
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| ports_of_ssh(&text)).collect()
}

/// `Port` and the ports of `ListenAddress` in a sshd_config(5); pure.
fn ports_of_ssh(text: &str) -> Vec<u16> {
    let line = |line: &str| {
        let words = line.split(['=', ' ', '\t']).filter(|word| !word.is_empty());
        let mut words = words.map(|word| word.trim_matches('"'));
        let key = words.next()?.to_ascii_lowercase();
        let value = words.next()?;
        match &*key {
            "port" => value.parse().ok(),
            // A bare IPv6 address has no port.
            "listenaddress" if value.contains("]:") || value.matches(':').count() == 1 => {
                value.rsplit(':').next()?.parse().ok()
            }
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}

fn ports(text: &str) -> (u16, u16) {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(from)), Some(Ok(to))) => (from, to),
        _ => (32768, 60999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_by_any_of_its_marks() {
        assert_eq!(container(false, false, false, "0::/user.slice\n", ""), None);
        assert_eq!(
            container(true, false, false, "", "").as_deref(),
            Some("docker")
        );
        assert_eq!(
            container(true, false, true, "", "").as_deref(),
            Some("kubernetes")
        );
        assert_eq!(
            container(false, false, false, "0::/lxc.payload.web\n", "").as_deref(),
            Some("lxc web")
        );
        assert_eq!(
            container(false, false, false, "", "systemd-nspawn\n").as_deref(),
            Some("systemd-nspawn")
        );
    }

    #[test]
    fn nothing_is_said_where_all_can_be_seen() {
        assert!(Surroundings::default().unseen().is_empty());
        let kube = Surroundings {
            container: Some("kubernetes".to_owned()),
            routed_loopback: vec!["all".to_owned()],
            source: Source::Proc,
            ..Surroundings::default()
        };
        assert_eq!(kube.unseen().len(), 3);
        for (own, first, is_routing_unknown, want) in [
            (true, true, false, &[][..]),
            (true, false, false, &["Processes of other users are hidden"]),
            (false, false, true, &["There is no /proc"]),
            (true, true, true, &["/proc/sys cannot be read"]),
        ] {
            let here = Surroundings {
                processes: processes(own, first),
                is_routing_unknown,
                ..Surroundings::default()
            };
            let said = here.unseen();
            assert_eq!(said.len(), want.len(), "{said:?}");
            assert!(
                said.iter().zip(want).all(|(s, w)| s.starts_with(w)),
                "{said:?}"
            );
        }
    }

    #[test]
    fn ports_of_ssh_are_read() {
        let text = "# Port 1\n#Port 2\nPort 2222\n port=\"2223\"\nListenAddress 0.0.0.0:2224\nListenAddress [::]:2225\n\
                    ListenAddress fd00::5\nListenAddress 10.0.0.1\nPermitRootLogin no\n";
        assert_eq!(ports_of_ssh(text), [2222, 2223, 2224, 2225]);
    }

    #[test]
    fn client_ports_have_a_default() {
        assert_eq!(ports("1024\t65535\n"), (1024, 65535));
        assert_eq!(ports(""), (32768, 60999));
    }
}
