//! Binds the admin address. A Unix socket is put in place whole, with its mode, and its file goes when it closes.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::app::control::{is_alive, short};
use crate::base::loopback::LoopbackAddr;
use crate::net;
use crate::net::bind::Wrong;

/// What listens.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn again(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    fn mend(&self) -> io::Result<Option<Wrong>> {
        match self {
            Self::Tcp(socket) => net::bind::mend(socket, true),
            Self::Unix(socket) => net::bind::mend_unix(socket),
        }
    }

    fn is_deaf(&self) -> bool {
        match self {
            Self::Tcp(socket) => !net::bind::listens(socket),
            Self::Unix(socket) => net::bind::has_ended(socket),
        }
    }
}

/// One address that is bound.
#[derive(Debug)]
pub struct Bound {
    listener: Option<Listener>,
    /// The same once more, for a process that takes over.
    spare: Listener,
    file: Option<(PathBuf, (u64, u64))>,
    /// The address as it is now: a port 0 is a real one.
    pub name: String,
}

impl Bound {
    /// The listener, once.
    pub(super) fn take(&mut self) -> Option<Listener> {
        self.listener.take()
    }

    fn new(
        name: String,
        listener: Listener,
        file: Option<(PathBuf, (u64, u64))>,
    ) -> io::Result<Self> {
        Ok(Self {
            spare: listener.again()?,
            listener: Some(listener),
            file,
            name,
        })
    }

    /// A socket of the process before. Its file is not ours before [`Bound::own`].
    pub(super) fn adopt(is_unix: bool, name: String, socket: OwnedFd) -> io::Result<Self> {
        let listener = match is_unix {
            true => Listener::Unix(socket.into()),
            false => Listener::Tcp(socket.into()),
        };
        listener.mend()?;
        Self::new(name, listener, None)
    }

    /// Takes the file away at the end.
    pub(super) fn own(&mut self, path: &Path) {
        self.file = inode(path).ok().map(|own| (path.to_owned(), own));
    }

    /// Leaves the file where it is: another process has it.
    pub(super) fn leave(&mut self) {
        self.file = None;
    }

    /// [`net::bind::mend`]; one that is [`Wrong::Deaf`] and a Unix socket stays so.
    pub(super) fn mend(&self) -> io::Result<Option<Wrong>> {
        self.spare.mend()
    }

    /// Whether somebody has ended it.
    pub(super) fn is_deaf(&self) -> bool {
        self.spare.is_deaf()
    }

    /// The listener once more.
    pub(super) fn again(&mut self) -> io::Result<()> {
        self.listener = Some(self.spare.again()?);
        Ok(())
    }

    /// The very socket, for a process that takes over.
    pub(super) fn spare(&self) -> io::Result<OwnedFd> {
        Ok(match self.spare.again()? {
            Listener::Tcp(socket) => socket.into(),
            Listener::Unix(socket) => socket.into(),
        })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another process may have put its own there meanwhile.
        if let Some((path, own)) = &self.file
            && inode(path).is_ok_and(|now| now == *own)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds: one socket, or two for `localhost`, of which one is enough.
pub(super) fn bind(address: &LoopbackAddr) -> io::Result<Vec<Bound>> {
    if let Some(path) = address.unix() {
        return Ok(vec![unix(path)?]);
    }
    let (mut bound, mut last) = (Vec::new(), None);
    for socket in address.sockets() {
        // Not shared with another gate: a scraper would reach one or the other.
        match net::bind::probe(socket).and_then(|()| net::bind::listen(socket, 1)) {
            Ok(listeners) => {
                for listener in listeners {
                    let at = listener.local_addr().unwrap_or(socket);
                    bound.push(Bound::new(at.to_string(), Listener::Tcp(listener), None)?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    match (bound.is_empty(), last) {
        (true, Some(error)) => Err(error),
        _ => Ok(bound),
    }
}

fn unix(path: &Path) -> io::Result<Bound> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let what = format!("{} is there and is no socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        if is_alive(path) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let _ = fs::remove_file(&hidden);
    let listener = short(&hidden, UnixListener::bind)?;
    net::bind::mend_unix(&listener)?;
    // The group may scrape: metrics tell names of routes and no secret.
    fs::set_permissions(&hidden, Permissions::from_mode(0o660))?;
    let own = inode(&hidden)?;
    fs::rename(&hidden, path)?;
    let name = format!("unix:{}", path.display());
    Bound::new(name, Listener::Unix(listener), Some((path.to_owned(), own)))
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::loopback::Target;

    #[test]
    fn an_address_that_another_gate_has_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        // Below the ports that clients are given: one of them could have it before us.
        let mut ports = (0..10_000).map(|n| 20_000 + (std::process::id() + n) % 12_000);
        let port = ports.find(|port| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok());
        let port = port.unwrap();
        let unix = format!("unix:{}/admin.sock", dir.path().display());
        for text in [format!("127.0.0.1:{port}"), unix] {
            let address = text.parse::<Target>().unwrap().address;
            let first = bind(&address).unwrap();
            let error = bind(&address).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{text}");
            drop(first);
            assert!(bind(&address).is_ok(), "{text} is free again");
        }
    }
}
