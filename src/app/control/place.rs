//! Where control sockets are: in a directory of their own, 0700, below the runtime or the state directory.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

const NAME: &str = "control";
/// The longest path that a socket address holds, its final zero not counted.
const LONGEST: usize = 107;
/// For a full queue to take one more, where only whether somebody is there is asked.
const GLANCE: Duration = Duration::from_millis(100);

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where this process opens its socket: in `$RUNTIME_DIRECTORY`, else in the state directory.
pub fn server_dir(env: Env<'_>, state: &Path) -> PathBuf {
    runtime(env).unwrap_or_else(|| state.to_owned()).join(NAME)
}

/// Where a command looks for the sockets of gates: whoever started one may have had another environment than this shell.
pub fn client_dirs(env: Env<'_>, state: Option<&Path>) -> Vec<PathBuf> {
    let user = env("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .map(|p| p.join("loopgate"));
    let mut dirs: Vec<PathBuf> = Vec::new();
    let places = [
        runtime(env),
        state.map(Path::to_owned),
        user,
        Some("/run/loopgate".into()),
    ];
    for dir in places.into_iter().flatten() {
        let dir = dir.join(NAME);
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

/// systemd gives a list; the first one is ours.
fn runtime(env: Env<'_>) -> Option<PathBuf> {
    let list = env("RUNTIME_DIRECTORY")?;
    let first = PathBuf::from(list.to_str()?.split(':').next()?);
    first.is_absolute().then_some(first)
}

/// Makes the directory, or sees to it that it is ours alone.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{} is no directory of this user", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The sockets in a directory.
pub(super) fn sockets(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "sock"))
        .collect();
    found.sort();
    found
}

/// Connects to a socket, whose queue may be full for so long.
pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The kernel's word for it: a connection that waits has something to send.
    socket.set_write_timeout(Some(limit.max(Duration::from_millis(1))))?;
    match short(path, |path| socket.connect(&SockAddr::unix(path)?)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::TimedOut.into())
        }
        done => done.map(|()| socket.into()),
    }
}

/// Whether somebody listens there.
pub(in crate::app) fn is_alive(socket: &Path) -> bool {
    match connect(socket, GLANCE) {
        Ok(_) => true,
        // No permission, or a full queue: somebody is there.
        Err(e) => !matches!(
            e.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
        ),
    }
}

/// Takes away what processes left that were killed.
pub(super) fn clear(dir: &Path) {
    for socket in sockets(dir) {
        if !is_alive(&socket) {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Does something with the path of a socket, by way of its open directory where the path is too long for an address.
pub(in crate::app) fn short<T>(
    path: &Path,
    act: impl FnOnce(PathBuf) -> io::Result<T>,
) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return act(path.to_owned());
    };
    if path.as_os_str().len() <= LONGEST {
        return act(path.to_owned());
    }
    let open = File::open(dir)?;
    act(Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_takes_nobody_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _first = connect(&path, GLANCE).unwrap();
        let kind = connect(&path, GLANCE).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(is_alive(&path), "somebody is there");
        drop(listener);
        assert!(!is_alive(&path) && !is_alive(&dir.path().join("2.sock")));
    }
}
