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

/// Whether a process lives in another network namespace than this one. False where that cannot be seen.
pub(super) fn is_elsewhere(pid: u32) -> bool {
    let (ours, its) = (of("self"), of(&pid.to_string()));
    ours.is_some() && its.is_some() && ours != its
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
        "Something listens in {count} of this machine ({first}): what leads from there to a service, as by a Unix socket, is not in the \
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
        assert!(two.contains("2 other network namespaces of this machine (nginx (pid 7))"));
        assert!(!is_elsewhere(std::process::id()) && !is_elsewhere(u32::MAX));
    }
}
