//! Programs that carry a local port elsewhere: tunnels that leave this machine, and local forwarders. Recognised by name and
//! arguments, so a hint about what runs here, never proof that nothing else does.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::advice::words;
use super::namespaces::has_own_paths;
use super::owner::{NAMELESS, Process, held_by, processes};
use super::programs::{Netcat, STARTS, chisel, is_open_gost, is_open_mitmproxy, wstunnel};
use super::spelling::{Hosts, MOST, Place, numbers, places};
use super::{socat, ssh};

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
    /// Ports that a program which it starts may go to.
    pub hints: Vec<u16>,
    /// It carries between its socket and its input and output: two of them make a forwarder.
    pub is_pipe: bool,
    /// The process.
    pub process: Process,
    /// The sockets that it holds, perhaps beside others.
    pub sockets: HashSet<u64>,
    /// Its sockets can be seen.
    pub is_visible: bool,
}

impl Forward {
    /// Whether anything about it says where it leads.
    pub fn may_lead(&self) -> bool {
        !self.places.is_empty() || !self.hints.is_empty() || self.is_pipe || self.process.is_cut
    }

    /// Whether one of its ends dials a place that is not of this machine, and none of them listens.
    pub fn dials_out(&self) -> bool {
        let arguments = &self.process.arguments;
        let words: Vec<&str> = match &arguments[..] {
            [title] => title.split(' ').collect(),
            all => all.iter().map(String::as_str).collect(),
        };
        match self.what {
            "socat" => socat::dials_out(&words),
            _ => self.is_pipe && Netcat::read(&words).dials_out(),
        }
    }

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

const KNOWN: [Known; 25] = [
    known(&["cloudflared"], &[], Way::Tunnel, "cloudflared"),
    known(&["ngrok"], &[], Way::Tunnel, "ngrok"),
    // Which of them it is, its own parser says.
    known(&["ssh", "autossh"], &[], Way::Tunnel, "ssh"),
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
            "tcpsvd",
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
    let program = Process {
        name: process.name.clone(),
        arguments: program(&line),
        ..Process::default()
    };
    let program = words(&program);
    let kind = KNOWN.iter().find(|kind| {
        kind.names.iter().any(|name| program.contains(name))
            && (kind.option.is_empty() || kind.option.iter().any(|option| has(&line, option)))
    })?;
    // An argument with spaces is one, save where it is a title.
    let arguments: Vec<&str> = match &process.arguments[..] {
        [_] => line.clone(),
        all => all.iter().map(String::as_str).collect(),
    };
    let mut forward = Forward {
        what: kind.what,
        way: kind.way,
        places: Vec::new(),
        hints: Vec::new(),
        is_pipe: false,
        process: process.clone(),
        sockets: HashSet::new(),
        is_visible: true,
    };
    match kind.what {
        "ssh" => {
            let carried = ssh::carried(&arguments)?;
            (forward.what, forward.way) = (carried.what, carried.way);
            forward.places = carried.places;
            forward.process.is_cut |= carried.is_unclear;
        }
        // Its ports are those of a pod.
        "kubectl port-forward" => {}
        // A client of somebody else's tunnel: the port here is its own.
        "cloudflared" if line.contains(&"access") => {}
        // What does not come back is of the far side, as of `ssh -L`.
        "chisel" | "wstunnel" => {
            let is_chisel = kind.what == "chisel";
            let back = if is_chisel {
                chisel(&line)
            } else {
                wstunnel(&line)
            };
            match back {
                Some(places) => forward.places = places,
                None => forward.way = Way::Listener,
            }
        }
        _ => forward.places = places(&line, false),
    }
    match kind.what {
        "socat" => {
            let named = socat::named(&arguments);
            for place in named.places {
                if !forward.places.contains(&place) {
                    forward.places.push(place);
                }
            }
            forward.hints = named.hints;
            forward.process.is_cut |= named.is_unclear;
            let is_own = |word: &&&str| matches!(**word, "-" | "STDIO" | "STDIN" | "STDOUT");
            forward.is_pipe = arguments.iter().skip(1).find(is_own).is_some();
            // Both of its ends dial: one of them outwards, as of `ssh -R`.
            if !forward.is_pipe && forward.dials_out() {
                forward.way = Way::Tunnel;
            }
        }
        "mitmproxy" if is_open_mitmproxy(&line) => forward.places.push(Place::All),
        "port forwarder" if program.contains(&"gost") => {
            forward
                .places
                .extend(is_open_gost(&line).then_some(Place::All));
        }
        "port forwarder" => {
            let is_starter = program.contains(&"tcpsvd")
                || line.iter().any(|w| STARTS.iter().any(|s| w.starts_with(s)));
            if is_starter {
                forward.hints = line.iter().skip(1).flat_map(|w| numbers(w)).collect();
            }
            let is_netcat = |name: &&str| ["nc", "ncat", "netcat"].contains(name);
            forward.is_pipe = program.iter().any(is_netcat);
            if forward.is_pipe {
                let netcat = Netcat::read(&arguments);
                forward.places.extend(netcat.places());
                forward.places.extend(netcat.is_proxy.then_some(Place::All));
                if netcat.is_starting && netcat.dials_out() {
                    forward.way = Way::Tunnel;
                }
            }
        }
        _ => {}
    }
    // Where there are more places than are kept, those that are left out are not known.
    forward.process.is_cut |= forward.places.len() >= MOST;
    Some(forward)
}

/// The words of a line that say which program it is: the first, and of an interpreter its script or module.
fn program(line: &[&str]) -> Vec<String> {
    let first = line.first().copied().unwrap_or_default();
    let file = first.rsplit('/').next().unwrap_or_default();
    let mut words = vec![first.to_owned()];
    if is_interpreter(file) {
        let mut rest = line.iter().skip(1);
        while let Some(word) = rest.next() {
            match word.strip_prefix("-m") {
                Some("") => words.extend(rest.next().map(|module| (*module).to_owned())),
                Some(module) => words.push(module.to_owned()),
                None if word.starts_with('-') => continue,
                None => words.push((*word).to_owned()),
            }
            break;
        }
    }
    words
}

fn is_interpreter(file: &str) -> bool {
    let bare = file.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    matches!(
        bare,
        "node" | "nodejs" | "python" | "bun" | "ruby" | "busybox" | "busybox.static" | "toybox"
    )
}

/// Whether the arguments hold a word. `@` is any word with it, which is how sshd entitles a session.
fn has(line: &[&str], option: &str) -> bool {
    line.iter()
        .skip(1)
        .any(|word| (option == "@" && word.contains('@')) || *word == option)
}

/// The forwarders that run here and can be seen. One small read a process; the rest only for those with a known name.
pub fn running() -> Vec<Forward> {
    processes()
        .into_iter()
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let comm = comm.trim_end();
            // `node` for localtunnel and `python3` for PageKite.
            is_interpreter(comm)
                || NAMELESS.contains(&comm)
                || KNOWN.iter().any(|kind| {
                    kind.names
                        .iter()
                        .any(|name| comm.starts_with(&name[..name.len().min(15)]))
                })
        })
        .filter_map(|pid| {
            let forward = recognise(&Process::read(pid)?)?;
            let is_visible = fs::read_dir(format!("/proc/{pid}/fd")).is_ok();
            let folder = match has_own_paths(pid) {
                true => Err(PathBuf::from(format!("/proc/{pid}"))),
                false => Ok(fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default()),
            };
            let places = forward.places.into_iter();
            Some(Forward {
                is_visible,
                sockets: held_by(&[pid]),
                places: places
                    .flat_map(|place| resolved(of_its_own(place, pid), folder.as_deref()))
                    .collect(),
                ..forward
            })
        })
        .collect()
}

/// `/proc/self` means another process to it than to us.
fn of_its_own(place: Place, pid: u32) -> Place {
    let Place::Path(path) = &place else {
        return place;
    };
    let own = ["/proc/self", "/proc/thread-self"];
    match own.iter().find_map(|own| path.strip_prefix(own).ok()) {
        Some(rest) => Place::Path(Path::new("/proc").join(pid.to_string()).join(rest)),
        None => place,
    }
}

/// A path as the file system has it, through links and `..`, and the socket there by its number; nothing for what is no socket. It is of a
/// process in that folder, or of one with paths of its own, whose `/proc/PID` it is.
fn resolved(place: Place, folder: Result<&Path, &PathBuf>) -> Vec<Place> {
    let path = match place {
        Place::Path(path) if !path.as_os_str().as_encoded_bytes().starts_with(b"@") => path,
        place => return vec![place],
    };
    let real = match (folder, path.strip_prefix("/")) {
        (Ok(folder), _) => folder.join(&path),
        (Err(its), Ok(path)) => its.join("root").join(path),
        (Err(its), Err(_)) => its.join("cwd").join(&path),
    };
    let node = fs::metadata(&real).map(|about| {
        let is_socket = about.file_type().is_socket();
        is_socket.then(|| Place::Node(about.dev(), about.ino()))
    });
    match (node, folder) {
        (Ok(None), _) => Vec::new(),
        (node, Ok(_)) => {
            let path = Place::Path(fs::canonicalize(&real).unwrap_or(real));
            node.ok().flatten().into_iter().chain([path]).collect()
        }
        (node, Err(_)) => node.ok().flatten().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests;
