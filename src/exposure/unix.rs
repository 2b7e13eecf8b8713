//! Who may connect to a Unix socket: its mode, its owner and every folder and link on the way to it. To connect takes the right to
//! write to the socket and to pass through every folder of its path (unix(7)); whoever may exchange one of them may put a socket of
//! his own in its place.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

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
    /// A folder on the way lets everyone put something else in place of what it leads to.
    pub replaceable: bool,
    /// Somebody who may do so: neither root, nor the user of this gate, nor the socket's owner.
    pub stranger: Option<u32>,
    /// A group that may do so, and has such a member.
    pub strangers: Option<u32>,
    /// Who put it, or a folder on its path, into a folder where everyone may put something: neither root nor the user of this gate.
    pub squatter: Option<u32>,
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
    /// Somebody else can, who owns a folder or a link on the way.
    ReplaceableBy {
        /// The owner.
        uid: u32,
    },
    /// The members of a group can, who may write to a folder on the way.
    ReplaceableByGroup {
        /// The group.
        gid: u32,
    },
    /// It stands where everyone may put one, and this is whose it is.
    Anyones {
        /// The owner.
        uid: u32,
    },
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
            Self::Everyone { .. }
            | Self::Replaceable
            | Self::ReplaceableBy { .. }
            | Self::ReplaceableByGroup { .. }
            | Self::Anyones { .. }
            | Self::Foreign { .. }
            | Self::NotASocket => true,
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
                "others may put their own socket in its place: a folder on its path can be written by everyone; move it to a folder of its own",
            ),
            Self::ReplaceableBy { uid } => write!(
                f,
                "user {uid}, who is neither root nor the user of this gate or the socket, may put his own in its place: a folder or a \
                 link on its path is his; move it to a folder of its owner or of root"
            ),
            Self::ReplaceableByGroup { gid } => write!(
                f,
                "members of group {gid} may put their own socket in its place: a folder on its path can be written by that group; make it \
                 0750, or give it a group without other members"
            ),
            Self::Anyones { uid } => write!(
                f,
                "user {uid} has put it into a folder where everyone may put one (as /tmp): whoever comes first is the service; move it to a \
                 folder of its owner or of root"
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
    let us = rustix::process::geteuid().as_raw();
    match facts(path, us) {
        Some(facts) => judge(facts, us),
        None => Standing::Missing,
    }
}

/// The process that listens on a Unix socket, where it can be seen. Blocking; looks through the descriptors of all processes.
pub fn listener(path: &Path) -> Option<Process> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    let inode = unix_inode(&table, path)?;
    owners(&HashSet::from([inode])).remove(&inode)
}

fn facts(path: &Path, us: u32) -> Option<Facts> {
    let socket = fs::metadata(path).ok()?;
    let trusted = [0, us, socket.uid()];
    let way = way(path)?;
    let (mut everyone_passes, mut replaceable, mut stranger) = (true, false, None);
    let (mut strangers, mut squatter) = (None, None);
    let groups = Groups::read();
    for Step { folder, entry } in &way {
        let mode = folder.mode();
        // To exchange an entry takes the right to write to its folder, and in one with the sticky bit to own either.
        let is_sticky = mode & 0o1000 != 0;
        replaceable |= everyone_passes && mode & 0o003 == 0o003 && !is_sticky;
        if everyone_passes && mode & 0o003 == 0o003 && is_sticky && ![0, us].contains(entry) {
            squatter = squatter.or(Some(*entry));
        }
        if mode & 0o030 == 0o030 && !is_sticky && groups.has_other(folder.gid(), &trusted) {
            strangers = strangers.or(Some(folder.gid()));
        }
        everyone_passes &= mode & 0o001 != 0;
        let owners = [Some(folder.uid()), is_sticky.then_some(*entry)];
        let owners = owners.into_iter().flatten();
        stranger = stranger.or(owners.into_iter().find(|uid| !trusted.contains(uid)));
    }
    Some(Facts {
        is_socket: socket.file_type().is_socket(),
        mode: socket.mode() & 0o7777,
        uid: socket.uid(),
        gid: socket.gid(),
        everyone_passes,
        replaceable,
        stranger,
        strangers,
        squatter,
    })
}

/// Who is in which group, as `/etc` has it.
struct Groups {
    passwd: String,
    group: String,
}

impl Groups {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            passwd: text("/etc/passwd"),
            group: text("/etc/group"),
        }
    }

    /// Whether others than these users are in a group. One that is not in the file may have any members; that of root has none.
    fn has_other(&self, gid: u32, trusted: &[u32]) -> bool {
        if gid == 0 {
            return false;
        }
        // name:x:UID:GID:…
        let users: Vec<(&str, u32, u32)> = self
            .passwd
            .lines()
            .filter_map(|line| {
                let mut f = line.split(':');
                let name = f.next()?;
                Some((name, f.nth(1)?.parse().ok()?, f.next()?.parse().ok()?))
            })
            .collect();
        let is_trusted = |name: &str| {
            let mut known = users.iter().filter(|(n, ..)| *n == name);
            known.any(|(_, uid, _)| trusted.contains(uid))
        };
        // name:x:GID:members
        let members = self.group.lines().find_map(|line| {
            let mut f = line.split(':');
            (f.nth(2)?.parse() == Ok(gid)).then(|| f.next().unwrap_or_default())
        });
        let primary = users
            .iter()
            .any(|(_, uid, group)| *group == gid && !trusted.contains(uid));
        match members {
            None => true,
            Some(members) => {
                let mut names = members.split(',').filter(|name| !name.trim().is_empty());
                primary || names.any(|name| !is_trusted(name.trim()))
            }
        }
    }
}

/// A folder on the way to a socket, and the owner of what the way takes there: a folder, a link, at last the socket.
struct Step {
    folder: fs::Metadata,
    entry: u32,
}

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// Every folder on the way, as the kernel takes it: through links too.
fn way(path: &Path) -> Option<Vec<Step>> {
    let (mut here, mut steps, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    let names = |path: &Path| -> Vec<PathBuf> {
        let parts = path.components().rev();
        parts.map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    let mut left = names(path);
    while let Some(name) = left.pop() {
        match name.components().next()? {
            Component::RootDir | Component::Prefix(_) => here = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => drop(here.pop()),
            Component::Normal(_) => {
                let entry = here.join(&name);
                let about = fs::symlink_metadata(&entry).ok()?;
                steps.push(Step {
                    folder: fs::metadata(&here).ok()?,
                    entry: about.uid(),
                });
                if about.is_symlink() {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    left.extend(names(&fs::read_link(&entry).ok()?));
                } else {
                    here = entry;
                }
            }
        }
    }
    Some(steps)
}

/// Who may connect, for a gate that runs as `us`; pure. The worst that holds is said.
pub fn judge(facts: Facts, us: u32) -> Standing {
    if !facts.is_socket {
        return Standing::NotASocket;
    }
    if facts.replaceable {
        return Standing::Replaceable;
    }
    if let Some(uid) = facts.stranger {
        return Standing::ReplaceableBy { uid };
    }
    if let Some(gid) = facts.strangers {
        return Standing::ReplaceableByGroup { gid };
    }
    if let Some(uid) = facts.squatter.filter(|_| us == 0) {
        return Standing::Anyones { uid };
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
        stranger: None,
        strangers: None,
        squatter: None,
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
                Facts {
                    stranger: Some(7),
                    ..GOOD
                },
                1000,
                Standing::ReplaceableBy { uid: 7 },
            ),
            (
                Facts {
                    strangers: Some(100),
                    ..GOOD
                },
                1000,
                Standing::ReplaceableByGroup { gid: 100 },
            ),
            (
                Facts {
                    squatter: Some(1001),
                    uid: 1001,
                    ..GOOD
                },
                0,
                Standing::Anyones { uid: 1001 },
            ),
            (
                Facts {
                    squatter: Some(1001),
                    uid: 1001,
                    ..GOOD
                },
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
    fn a_group_has_others_by_either_file() {
        let groups = Groups {
            passwd: "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/\nbob:x:1001:100::/:/\n".into(),
            group: "root:x:0:\nann:x:1000:\nusers:x:100:\nweb:x:33:ann\nmore:x:34:ann,bob\nodd:x:35:who\n".into(),
        };
        for (gid, want) in [
            (0, false),
            (1000, false),
            (100, true),
            (33, false),
            (34, true),
            (35, true),
            (4711, true),
        ] {
            assert_eq!(groups.has_other(gid, &[0, 1000]), want, "{gid}");
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

    #[test]
    fn every_folder_and_link_on_the_way_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("open/inner")).unwrap();
        fs::create_dir(at("own")).unwrap();
        let _listener = UnixListener::bind(at("open/inner/app.sock")).unwrap();
        mode(&at("open/inner/app.sock"), 0o600);
        std::os::unix::fs::symlink("../open/inner", at("own/link")).unwrap();
        std::os::unix::fs::symlink(at("own"), at("open/back")).unwrap();
        std::os::unix::fs::symlink("loop", at("own/loop")).unwrap();
        let found = |name: &str| standing(&at(name));
        let good = Standing::Owner {
            uid: rustix::process::geteuid().as_raw(),
        };
        for (above, open, inner, want) in [
            (0o755, 0o755, 0o755, good),
            (0o755, 0o777, 0o755, Standing::Replaceable),
            (0o755, 0o733, 0o755, Standing::Replaceable),
            (0o755, 0o1777, 0o755, good),
            (0o755, 0o755, 0o777, Standing::Replaceable),
            // Nobody gets as far as that.
            (0o700, 0o777, 0o777, good),
            (0o755, 0o700, 0o777, good),
        ] {
            mode(dir.path(), above);
            mode(&at("open"), open);
            mode(&at("open/inner"), inner);
            let paths = [
                "open/inner/app.sock",
                "own/link/app.sock",
                "open/back/link/app.sock",
                "own/./../open/inner/app.sock",
            ];
            for path in paths {
                assert_eq!(found(path), want, "{path} {above:o} {open:o} {inner:o}");
            }
        }
        // Only the way of the link passes the open folder.
        mode(&at("open/inner"), 0o755);
        mode(&at("open"), 0o755);
        mode(&at("own"), 0o777);
        assert_eq!(found("own/link/app.sock"), Standing::Replaceable);
        assert_eq!(found("open/inner/app.sock"), good);
        assert_eq!(found("own/loop/app.sock"), Standing::Missing);
    }
}
