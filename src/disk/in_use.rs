//! One process at a time keeps a file of state. The kernel ends the lock of a process that dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// This process keeps the file, until this is dropped.
#[derive(Debug)]
pub struct InUse {
    held: File,
}

/// Why this process must not write there.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum InUseError {
    #[error("another loopgate keeps it{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken { pid: Option<u32> },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl InUse {
    /// Takes `file`, by a lock beside it. Never waits.
    pub fn take(file: &Path) -> Result<Self, InUseError> {
        let path = file.with_extension("lock");
        let failed = |source| InUseError::Io {
            path: path.clone(),
            source,
        };
        // Never removed: a lock on a file that has lost its name would be nobody's.
        let mut held = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InUseError::Taken {
                    pid: pid(&mut held),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        sign(&mut held).map_err(failed)?;
        Ok(Self { held })
    }

    /// The lock once more, for the process that goes on: it holds until both have let go, so nobody comes in between.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.held.try_clone().map(Into::into)
    }

    /// Whether the lock is ours again, after somebody with whom it was shared may have ended it.
    pub fn again(&self) -> bool {
        self.held.try_lock().is_ok()
    }

    /// Goes on with a lock that another process has shared, if it is the one of `file`.
    pub fn adopt(file: &Path, lock: OwnedFd) -> Result<Self, InUseError> {
        let path = file.with_extension("lock");
        let failed = |source| InUseError::Io {
            path: path.clone(),
            source,
        };
        let mut held = File::from(lock);
        let (own, named) = (held.metadata(), std::fs::metadata(&path));
        let (own, named) = (own.map_err(failed)?, named.map_err(failed)?);
        if (own.dev(), own.ino()) != (named.dev(), named.ino()) {
            let what = "the lock that was handed over is another file's";
            return Err(failed(io::Error::other(what)));
        }
        match held.try_lock() {
            Ok(()) => sign(&mut held).map_err(failed)?,
            Err(TryLockError::WouldBlock) => return Err(InUseError::Taken { pid: None }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { held })
    }
}

/// Only for people: who holds it is the kernel's knowledge.
fn sign(held: &mut File) -> io::Result<()> {
    held.set_len(0)?;
    held.rewind()?;
    held.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("lockouts-8443");
        let first = InUse::take(&state).unwrap();
        let error = InUse::take(&state).unwrap_err().to_string();
        let us = std::process::id().to_string();
        assert!(error.contains(&us), "{error}");
        InUse::take(&dir.path().join("lockouts-8444")).unwrap();
        drop(first);
        InUse::take(&state).unwrap();
    }

    #[test]
    fn a_lock_that_is_shared_is_never_free_between_the_two() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = InUse::take(&state).unwrap();
        let other = InUse::take(&dir.path().join("other")).unwrap();
        assert!(InUse::adopt(&state, other.share().unwrap()).is_err());
        let shared = first.share().unwrap();
        drop(first);
        InUse::take(&state).unwrap_err();
        let second = InUse::adopt(&state, shared).unwrap();
        InUse::take(&state).unwrap_err();
        drop(second);
        InUse::take(&state).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_holds_nobody_back() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("state.lock");
        std::fs::write(&lock, "999999999\nrest").unwrap();
        let _first = InUse::take(&dir.path().join("state")).unwrap();
        let text = std::fs::read_to_string(&lock).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }
}
