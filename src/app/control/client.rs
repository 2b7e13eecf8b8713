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
const LONGEST: usize = 4 << 20;
/// After a busy gate was asked for the first time; then twice as long each time, up to [`PAUSES`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES: Duration = Duration::from_millis(500);
/// It is not asked again when less time is left for its answer.
const LAST: Duration = Duration::from_secs(1);

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

/// Asks the gate at this socket, which has `limit` to answer. While it is busy, which it says before it does anything, it is asked
/// again.
pub fn ask(path: &Path, verb: &Verb, limit: Duration) -> Result<Value, AskError> {
    let talk = |source| AskError::Talk {
        path: path.to_owned(),
        source,
    };
    let (end, mut pause) = (Instant::now() + limit, PAUSE);
    loop {
        let text = exchange(path, verb, end).map_err(talk)?;
        match answered(path, &text) {
            Err(AskError::Failed(failed))
                if failed.is_busy && Instant::now() + pause * 2 + LAST < end =>
            {
                // A crowd that was sent away together does not come back together.
                let part = std::process::id() % 16;
                std::thread::sleep(pause + pause * part / 16);
                pause = (pause * 2).min(PAUSES);
            }
            answer => return answer,
        }
    }
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

/// Connects to a socket that is ours, or that we may use as root, and asks. One that has closed may have said why.
pub(in crate::app) fn dial(path: &Path, verb: &Verb, limit: Duration) -> io::Result<UnixStream> {
    let own = rustix::process::geteuid().as_raw();
    let owner = std::fs::symlink_metadata(path)?.uid();
    if owner != own && owner != 0 && own != 0 {
        let what = "the socket belongs to another user";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut stream = place::connect(path, limit)?;
    stream.set_write_timeout(Some(limit))?;
    match stream.write_all(Question::text(verb).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(stream),
    }
}

/// One line each way.
fn exchange(path: &Path, verb: &Verb, end: Instant) -> io::Result<String> {
    let left = || match end.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = dial(path, verb, left()?)?;
    let (mut text, mut part) = (Vec::new(), [0; 8192]);
    while !text.ends_with(b"\n") {
        if text.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part) {
            Ok(0) if text.is_empty() => return Err(unanswered()),
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(unanswered()),
            Err(e) => return Err(e),
        }
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn unanswered() -> io::Error {
    let what = "it has closed the connection without an answer; `loopgate status` says whether it still runs";
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}
