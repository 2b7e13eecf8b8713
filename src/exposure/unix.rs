//! Who may connect to a Unix socket: its mode, its owner and the folders above it. To connect takes the right to write to the socket
//! and to pass through every folder of its path (unix(7)).

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::owner::{Process, owners};
use super::proc_net::unix_inode;

/// What the file system says about a socket; pure to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// It is a socket.
    pub is_socket: bool,
    /// Its mode, type bits left out.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Every folder above lets everyone pass.
    pub everyone_passes: bool,
    /// The folder it lies in lets others put another socket in its place.
    pub replaceable: bool,
}

/// Who may connect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its owner, and root.
    Owner {
        /// The owner.
        uid: u32,
    },
    /// The members of its group too.
    Group {
        /// The group.
        gid: u32,
    },
    /// Every user and every program of this machine.
    Everyone {
        /// Its mode.
        mode: u32,
    },
    /// Others can put their own socket in its place.
    Replaceable,
    /// It belongs to somebody who is neither root nor this user.
    Foreign {
        /// The owner.
        uid: u32,
    },
    /// There is something else at that path.
    NotASocket,
    /// There is nothing at that path, or it cannot be seen.
    Missing,
}

impl Standing {
    /// Whether somebody should look at it.
    pub fn is_warning(self) -> bool {
        match self {
            Self::Everyone { .. } | Self::Replaceable | Self::Foreign { .. } | Self::NotASocket => {
                true
            }
            Self::Owner { .. } | Self::Group { .. } | Self::Missing => false,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { uid } => write!(f, "open to its owner (user {uid}) alone"),
            Self::Group { gid } => write!(f, "open to its owner and to group {gid}"),
            Self::Everyone { mode } => write!(
                f,
                "every user of this machine may connect to it (mode {mode:04o}): make it 0660 with a group that this gate is in, or put it \
                 in a folder with mode 0750 (gunicorn: `--umask 007`; systemd: `SocketMode=0660`)"
            ),
            Self::Replaceable => f.write_str(
                "others may put their own socket in its place: the folder it lies in can be written by everyone; move it to a folder of its own",
            ),
            Self::Foreign { uid } => write!(
                f,
                "it belongs to user {uid}, who is neither root nor the user of this gate: make sure that this is the service you mean"
            ),
            Self::NotASocket => f.write_str("what is at that path is not a socket"),
            Self::Missing => f.write_str("there is no socket at that path"),
        }
    }
}

/// Looks at the socket of a path. Blocking, a handful of `stat` calls.
pub fn standing(path: &Path) -> Standing {
    match facts(path) {
        Some(facts) => judge(facts, rustix::process::geteuid().as_raw()),
        None => Standing::Missing,
    }
}

/// The process that listens on a Unix socket, where it can be seen. Blocking; looks through the descriptors of all processes.
pub fn listener(path: &Path) -> Option<Process> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let inode = unix_inode(&table, path)?;
    owners(&HashSet::from([inode])).remove(&inode)
}

fn facts(path: &Path) -> Option<Facts> {
    let path = fs::canonicalize(path).ok()?;
    let socket = fs::metadata(&path).ok()?;
    let folders: Vec<fs::Metadata> = path
        .ancestors()
        .skip(1)
        .map_while(|folder| fs::metadata(folder).ok())
        .collect();
    let replaceable = |folder: &fs::Metadata| folder.mode() & 0o1002 == 0o0002;
    Some(Facts {
        is_socket: socket.file_type().is_socket(),
        mode: socket.mode() & 0o7777,
        uid: socket.uid(),
        gid: socket.gid(),
        everyone_passes: folders.iter().all(|folder| folder.mode() & 0o001 != 0),
        replaceable: folders.first().is_some_and(replaceable),
    })
}

/// Who may connect, for a gate that runs as `us`; pure. The worst that holds is said.
pub fn judge(facts: Facts, us: u32) -> Standing {
    if !facts.is_socket {
        return Standing::NotASocket;
    }
    if facts.replaceable && facts.everyone_passes {
        return Standing::Replaceable;
    }
    if facts.uid != 0 && facts.uid != us && us != 0 {
        return Standing::Foreign { uid: facts.uid };
    }
    if facts.mode & 0o002 != 0 && facts.everyone_passes {
        return Standing::Everyone { mode: facts.mode };
    }
    if facts.mode & 0o020 != 0 {
        return Standing::Group { gid: facts.gid };
    }
    Standing::Owner { uid: facts.uid }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    const GOOD: Facts = Facts {
        is_socket: true,
        mode: 0o600,
        uid: 1000,
        gid: 33,
        everyone_passes: true,
        replaceable: false,
    };

    #[test]
    fn who_may_connect() {
        for (facts, us, want) in [
            (GOOD, 1000, Standing::Owner { uid: 1000 }),
            (
                Facts {
                    mode: 0o660,
                    ..GOOD
                },
                1000,
                Standing::Group { gid: 33 },
            ),
            (
                Facts {
                    mode: 0o777,
                    ..GOOD
                },
                1000,
                Standing::Everyone { mode: 0o777 },
            ),
            (
                Facts {
                    mode: 0o602,
                    ..GOOD
                },
                1000,
                Standing::Everyone { mode: 0o602 },
            ),
            (
                Facts {
                    mode: 0o777,
                    everyone_passes: false,
                    ..GOOD
                },
                1000,
                Standing::Group { gid: 33 },
            ),
            (
                Facts {
                    replaceable: true,
                    ..GOOD
                },
                1000,
                Standing::Replaceable,
            ),
            (
                Facts { uid: 1001, ..GOOD },
                1000,
                Standing::Foreign { uid: 1001 },
            ),
            (
                Facts { uid: 1001, ..GOOD },
                0,
                Standing::Owner { uid: 1001 },
            ),
            (
                Facts {
                    uid: 0,
                    mode: 0o660,
                    ..GOOD
                },
                1000,
                Standing::Group { gid: 33 },
            ),
            (
                Facts {
                    is_socket: false,
                    ..GOOD
                },
                1000,
                Standing::NotASocket,
            ),
        ] {
            assert_eq!(judge(facts, us), want, "{facts:?}");
        }
    }

    #[test]
    fn a_real_socket_is_seen_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        assert_eq!(standing(&path), Standing::Missing);
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        // Nobody else passes the folder.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!standing(&path).is_warning());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(standing(&path), Standing::Everyone { mode: 0o666 });
        assert_eq!(listener(&path).map(|p| p.pid), Some(std::process::id()));
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(standing(&dir.path().join("file")), Standing::NotASocket);
    }
}
