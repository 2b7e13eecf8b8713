//! State between two runs of the process: one line that says what the file is and in which version, then its bytes.
//! Another kind, a version of tomorrow, or a file that others could have read or written is refused, never guessed at.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::put;

/// The largest state that is read.
const LARGEST: u64 = 64 << 20;

/// What a file of state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// One word: `lockouts`.
    pub kind: &'static str,
    /// Raised whenever older code would misread the bytes.
    pub version: u32,
}

/// Why a file of state was not read. None of its bytes are used then.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum ReadError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} has mode {mode:04o}: others can read or change it; run `chmod 600 {0}`, and remove it if you do not trust it any more",
        path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} belongs to another user ({owner}), who can have written anything into it; remove it", path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} is not a file of {kind}; move it away", path.display())]
    Foreign { path: PathBuf, kind: &'static str },
    #[error("{} was written by a newer loopgate (version {found}, this one knows {known}); start that one, or move the file away", path.display())]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
}

impl Format {
    /// Writes the state whole. Blocks on the disk.
    pub fn write(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let head = format!("loopgate {} {}\n", self.kind, self.version);
        put(path, &[head.as_bytes(), bytes].concat())
    }

    /// The version and the bytes that were written; `None` when there is no file. Blocks on the disk.
    pub fn read(self, path: &Path) -> Result<Option<(u32, Vec<u8>)>, ReadError> {
        let failed = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        // A FIFO in its place must not block.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = match File::options().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() || about.len() > LARGEST {
            return Err(failed(io::Error::other(
                "not a regular file of at most 64 MiB",
            )));
        }
        if about.mode() & 0o077 != 0 {
            return Err(ReadError::Open {
                path: path.to_owned(),
                mode: about.mode() & 0o7777,
            });
        }
        if !super::is_trusted(&about, path.parent()) {
            return Err(ReadError::Owner {
                path: path.to_owned(),
                owner: about.uid(),
            });
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        let (version, rest) = self.head(&bytes).ok_or_else(|| ReadError::Foreign {
            path: path.to_owned(),
            kind: self.kind,
        })?;
        if version > self.version {
            return Err(ReadError::Newer {
                path: path.to_owned(),
                found: version,
                known: self.version,
            });
        }
        bytes.drain(..rest);
        Ok(Some((version, bytes)))
    }

    /// The version, and where the bytes begin.
    fn head(self, bytes: &[u8]) -> Option<(u32, usize)> {
        let end = bytes.iter().take(80).position(|c| *c == b'\n')?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let version = line.strip_prefix("loopgate ")?.strip_prefix(self.kind)?;
        Some((version.strip_prefix(' ')?.parse().ok()?, end + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FORMAT: Format = Format {
        kind: "lockouts",
        version: 2,
    };

    #[test]
    fn gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(FORMAT.read(&path).unwrap().is_none());
        for bytes in [&b""[..], b"\n", b"loopgate lockouts 9\n\0\xff"] {
            FORMAT.write(&path, bytes).unwrap();
            assert_eq!(FORMAT.read(&path).unwrap(), Some((2, bytes.to_vec())));
        }
    }

    #[test]
    fn an_older_version_is_read_and_a_newer_or_foreign_file_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for (text, want) in [
            ("loopgate lockouts 1\nx", Ok(1)),
            ("loopgate lockouts 3\nx", Err("newer loopgate")),
            ("loopgate sessions 2\nx", Err("not a file of lockouts")),
            ("loopgate lockouts2\nx", Err("not a file of lockouts")),
            ("loopgate lockouts 2", Err("not a file of lockouts")),
            ("loopgate lockouts -1\n", Err("not a file of lockouts")),
            ("", Err("not a file of lockouts")),
            ("\u{fffd}\n", Err("not a file of lockouts")),
        ] {
            put(&path, text.as_bytes()).unwrap();
            match (FORMAT.read(&path), want) {
                (Ok(Some((version, rest))), Ok(old)) => {
                    assert_eq!((version, rest), (old, b"x".to_vec()), "{text}");
                }
                (Err(error), Err(told)) => {
                    assert!(error.to_string().contains(told), "{text}: {error}");
                }
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_others_can_read_or_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        FORMAT.write(&path, b"x").unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o602, false)] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(FORMAT.read(&path).is_ok(), fine, "{mode:o}");
        }
        // Only root can give it away.
        FORMAT.write(&path, b"x").unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let error = FORMAT.read(&path).unwrap_err().to_string();
            assert!(error.contains("another user (65534)"), "{error}");
            std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
            assert!(FORMAT.read(&path).is_ok(), "the state of a service");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(FORMAT.read(&path).is_err(), "a folder");
    }
}
