//! What to tell a visitor whose service is not there: what was dialled, and what listens instead. A look for people, never a
//! verdict.

use std::collections::HashMap;
use std::path::Path;

use super::owner::{self, Process};
use super::socket_table::{self, Protocol, Socket};
use super::words::plain;
use crate::base::loopback::LoopbackAddr;

/// Dev servers whose port is taken try the next ones.
const NEAR: u16 = 10;
/// More is not told.
const SHOWN: usize = 3;

/// What listens on this machine, and whose it is as far as can be seen.
#[derive(Debug)]
pub struct Scene {
    sockets: Vec<Socket>,
    owners: HashMap<u64, Process>,
}

impl Scene {
    /// One look, for any number of questions. Blocking: about 1 ms, and 5 µs for each open descriptor of other processes. `None`
    /// when the table cannot be read.
    pub fn look() -> Option<Self> {
        let mut scene = Self::without_names()?;
        let inodes = scene.sockets.iter().map(|socket| socket.inode).collect();
        scene.owners = owner::owners(&inodes);
        Some(scene)
    }

    /// The same without names, for threads that may not look at other processes.
    pub fn without_names() -> Option<Self> {
        let (table, _) = socket_table::read(Protocol::Tcp).ok()?;
        let own = owner::own_inodes();
        let others = |socket: &Socket| !own.contains(&socket.inode);
        Some(Self {
            sockets: table.into_iter().filter(others).collect(),
            owners: HashMap::new(),
        })
    }

    /// Where nothing answered on a port, and what listens instead.
    pub fn tell(&self, dialled: &str, port: u16) -> String {
        let near: Vec<&Socket> = self.sockets.iter().filter(|s| is_near(s, port)).collect();
        sentence(dialled, port, &near, &self.owners)
    }
}

/// Where nothing answered in the file system. Blocking, and only for threads that may look at files.
pub fn absent_socket(path: &Path) -> String {
    let shown = plain(&path.display().to_string());
    match path.exists() {
        true => format!("The socket {shown} is there, but nobody answers."),
        false => format!("There is no socket {shown}."),
    }
}

/// What a question about an upstream needs.
pub fn place(address: &LoopbackAddr) -> (String, Option<u16>, Option<std::path::PathBuf>) {
    (
        address.to_string(),
        address.port(),
        address.unix().map(Path::to_owned),
    )
}

fn is_near(socket: &Socket, port: u16) -> bool {
    (port..=port.saturating_add(NEAR)).contains(&socket.address.port())
}

fn sentence(
    dialled: &str,
    port: u16,
    sockets: &[&Socket],
    owners: &HashMap<u64, Process>,
) -> String {
    let here = |s: &&&Socket| s.address.port() == port;
    // On other ports only what has a name: the port alone says nothing.
    let mut found: Vec<&&Socket> = match sockets.iter().any(|s| here(&s)) {
        true => sockets.iter().filter(here).collect(),
        false => sockets
            .iter()
            .filter(|s| owners.contains_key(&s.inode))
            .collect(),
    };
    found.sort_by_key(|s| s.address);
    let words: Vec<String> = found
        .iter()
        .take(SHOWN)
        .map(|socket| {
            let name = owners
                .get(&socket.inode)
                .map_or("something".to_owned(), |process| plain(&process.name));
            format!("{name} listens on {}", socket.address)
        })
        .collect();
    match words.as_slice() {
        [] => format!("Nothing listens on {dialled}."),
        words => format!("Nothing answers on {dialled}, but {}.", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket_table::tests::socket;
    use super::*;

    fn told(sockets: &[&str]) -> String {
        let sockets: Vec<Socket> = sockets.iter().map(|text| socket(text)).collect();
        let near: Vec<&Socket> = sockets.iter().filter(|s| is_near(s, 3000)).collect();
        let process = |name: &str| Process {
            name: name.to_owned(),
            ..Process::default()
        };
        let owners = HashMap::from([(7, process("node")), (8, process("evil\u{1b}[2J"))]);
        sentence("127.0.0.1:3000", 3000, &near, &owners)
    }

    #[test]
    fn says_what_listens_instead() {
        for (sockets, want) in [
            (vec![], "Nothing listens on 127.0.0.1:3000."),
            (
                vec!["[::1]:3000 inode 7", "127.0.0.1:3001 inode 8"],
                "Nothing answers on 127.0.0.1:3000, but node listens on [::1]:3000.",
            ),
            (
                vec!["[::1]:3000 inode 9"],
                "Nothing answers on 127.0.0.1:3000, but something listens on [::1]:3000.",
            ),
            (
                vec!["127.0.0.1:3001 inode 7", "127.0.0.1:3002 inode 9"],
                "Nothing answers on 127.0.0.1:3000, but node listens on 127.0.0.1:3001.",
            ),
            (
                vec!["127.0.0.1:2999 inode 7", "127.0.0.1:3011 inode 7"],
                "Nothing listens on 127.0.0.1:3000.",
            ),
            (
                vec!["127.0.0.1:3001 inode 8"],
                "Nothing answers on 127.0.0.1:3000, but evil?[2J listens on 127.0.0.1:3001.",
            ),
        ] {
            assert_eq!(told(&sockets), want, "{sockets:?}");
        }
    }

    #[test]
    fn a_socket_in_the_file_system_is_there_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        assert!(absent_socket(&path).starts_with("There is no socket"));
        std::fs::write(&path, "").unwrap();
        assert!(absent_socket(&path).ends_with("nobody answers."));
    }
}
