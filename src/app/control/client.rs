//! The end of a command: finds the gates that run here, and asks one.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use thiserror::Error;

use super::place;
use super::words::{Failed, Line, Question, Verb};

/// The longest answer that is read.
const LONGEST: u64 = 4 << 20;

/// Why there was no answer.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum AskError {
    #[error("cannot talk to the gate at {}: {source}", path.display())]
    Talk { path: PathBuf, source: io::Error },
    #[error("what answers at {} is not a gate of this version", path.display())]
    Strange { path: PathBuf },
    #[error("{}", .0.message)]
    Failed(Failed),
}

/// A gate that runs here.
#[derive(Debug)]
pub struct Gate {
    /// Its socket.
    pub path: PathBuf,
    /// What it says of itself.
    pub status: Value,
}

/// Every gate whose socket is in one of these directories and that answers. The second list has those that did not.
pub fn find(dirs: &[PathBuf]) -> (Vec<Gate>, Vec<AskError>) {
    let (mut gates, mut silent): (Vec<Gate>, _) = (Vec::new(), Vec::new());
    for path in dirs.iter().flat_map(|dir| place::sockets(dir)) {
        if !place::is_alive(&path) {
            continue;
        }
        match ask(&path, &Verb::Status, Duration::from_secs(10)) {
            // One directory may have two names.
            Ok(status) if gates.iter().any(|g| same(&g.path, &path)) => drop(status),
            Ok(status) => gates.push(Gate { path, status }),
            Err(error) => silent.push(error),
        }
    }
    (gates, silent)
}

fn same(a: &Path, b: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    inode(a).is_some() && inode(a) == inode(b)
}

/// Asks the gate at this socket, which has `limit` to answer.
pub fn ask(path: &Path, verb: &Verb, limit: Duration) -> Result<Value, AskError> {
    let talk = |source| AskError::Talk {
        path: path.to_owned(),
        source,
    };
    let text = exchange(path, verb, limit).map_err(talk)?;
    answered(path, &text)
}

/// What the line of an answer says.
pub(in crate::app) fn answered(path: &Path, text: &str) -> Result<Value, AskError> {
    let strange = || AskError::Strange {
        path: path.to_owned(),
    };
    let line: Line = serde_json::from_str(text).map_err(|_| strange())?;
    match line.answer().ok_or_else(strange)? {
        Ok(done) => Ok(done),
        Err(failed) => Err(AskError::Failed(failed)),
    }
}

/// Connects to a socket that is ours, or that we may use as root, and asks.
pub(in crate::app) fn dial(path: &Path, verb: &Verb, limit: Duration) -> io::Result<UnixStream> {
    let own = rustix::process::geteuid().as_raw();
    let owner = std::fs::symlink_metadata(path)?.uid();
    if owner != own && owner != 0 && own != 0 {
        let what = "the socket belongs to another user";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut stream = place::short(path, UnixStream::connect)?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(Question::text(verb).as_bytes())?;
    Ok(stream)
}

fn exchange(path: &Path, verb: &Verb, limit: Duration) -> io::Result<String> {
    let end = Instant::now() + limit;
    let mut stream = dial(path, verb, limit)?;
    let (mut text, mut part) = (Vec::new(), [0; 8192]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || text.len() as u64 > LONGEST {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(e) => return Err(e),
        }
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}
