//! The other network namespaces of this machine: their sockets are in no table that this process reads.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::owner::{Process, processes};
use super::proc_net;
use super::socket_table::Protocol;

/// More are not looked into.
const MOST: usize = 64;

fn of(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// The network namespace of a process, seen from ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// The same.
    #[default]
    Ours,
    /// Another one: its loopback is not ours.
    Another,
    /// It runs in another container, and its namespace cannot be read from here.
    Unknown,
}

/// Where a process lives. One that cannot be asked and runs in no container of its own is taken for a neighbour.
pub(super) fn space(process: &Process) -> Space {
    match (of("self"), of(&process.pid.to_string())) {
        (Some(ours), Some(its)) if ours != its => Space::Another,
        (_, None) if process.container.is_some() && process.container != container() => {
            Space::Unknown
        }
        (Some(_) | None, Some(_) | None) => Space::Ours,
    }
}

/// Whether the paths of a process are not ours: another mount namespace or root. False where that cannot be seen.
pub(super) fn has_own_paths(pid: u32) -> bool {
    let differs = |what: &str| {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/{what}")).ok();
        let its = link(&pid.to_string());
        its.is_some() && its != link("self")
    };
    differs("ns/mnt") || differs("root")
}

fn container() -> Option<String> {
    super::owner::container(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// What to say of processes that listen in other namespaces, if there are such. Blocking.
pub(super) fn unseen() -> Option<String> {
    let ours = of("self")?;
    let mut seen = HashSet::from([ours]);
    let mut listen = Vec::new();
    for pid in processes() {
        if seen.len() > MOST {
            break;
        }
        // A thread of the kernel has no arguments, and listens to nobody.
        let is_new = |space: &PathBuf| !seen.contains(space);
        let Some(space) = of(&pid.to_string()).filter(is_new) else {
            continue;
        };
        let process = Process::read(pid).filter(|process| !process.arguments.is_empty());
        if let Some(process) = process {
            seen.insert(space);
            listen.extend(listens(pid).then(|| process.label()));
        }
    }
    sentence(&listen)
}

fn listens(pid: u32) -> bool {
    let table = |word: &str| fs::read_to_string(format!("/proc/{pid}/net/{word}"));
    ["tcp", "tcp6"].iter().any(|word| {
        let text = table(word).unwrap_or_default();
        let sockets = proc_net::parse(&text, Protocol::Tcp);
        sockets.iter().any(|s| !s.is_loopback())
    })
}

/// Pure. `listen` is one process of each namespace that listens.
fn sentence(listen: &[String]) -> Option<String> {
    let first = listen.first()?;
    let count = match listen.len() {
        1 => "another network namespace".to_owned(),
        n => format!("{n} other network namespaces"),
    };
    Some(format!(
        "Something listens in {count} of this machine (that of {first}): what leads from there to a service, as by a Unix socket, is not in the \
         table of sockets."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_namespaces_are_told_with_one_of_their_processes() {
        assert_eq!(sentence(&[]), None);
        let one = sentence(&["nginx (pid 7)".to_owned()]).unwrap();
        assert!(one.starts_with("Something listens in another network namespace"));
        let two = sentence(&["nginx (pid 7)".to_owned(), "app (pid 8)".to_owned()]).unwrap();
        assert!(two.contains("2 other network namespaces of this machine (that of nginx (pid 7))"));
    }

    #[test]
    fn only_another_container_that_cannot_be_read_is_in_doubt() {
        for (pid, container, want) in [
            (std::process::id(), None, Space::Ours),
            (std::process::id(), Some("docker 0123"), Space::Ours),
            (u32::MAX, None, Space::Ours),
            (u32::MAX, Some("docker 0123"), Space::Unknown),
        ] {
            let process = Process {
                pid,
                container: container.map(str::to_owned),
                ..Process::default()
            };
            assert_eq!(space(&process), want, "{pid} {container:?}");
        }
    }
}
