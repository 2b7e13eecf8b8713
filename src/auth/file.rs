//! Reads the small files that say who may come in. What a stranger could have written is refused; what a stranger can
//! read is warned of.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use thiserror::Error;

/// The largest file that is read: some 40,000 users.
const LARGEST: u64 = 4 << 20;

/// A place in a file and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// Counted from 1; 0 means the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 means the line as a whole.
    pub column: usize,
    /// What was found. Never the hash itself.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} mistake(s)", problems.len())]
pub struct FileError {
    /// In the order of the file; never empty.
    pub problems: Vec<LineProblem>,
}

impl LineProblem {
    /// About the file as a whole.
    pub fn whole(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            line: 0,
            column: 0,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// At a byte of the text.
    pub fn at(text: &str, byte: usize, message: &str, hint: &str) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }
}

impl From<LineProblem> for FileError {
    fn from(problem: LineProblem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// The bytes of a regular file and what is unwise about it; `create` is the hint where there is none. A FIFO would
/// block and a device would never end: neither is read. Blocks on the disk.
pub fn read(path: &Path, create: &str) -> Result<(Vec<u8>, Vec<LineProblem>), FileError> {
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => create,
            ErrorKind::PermissionDenied => "let the account that runs loopgate read it",
            _ => "",
        };
        LineProblem::whole(format!("it cannot be read: {error}"), hint)
    };
    let file = open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(LineProblem::whole("it is not a regular file", "").into());
    }
    let repair = format!("run `chmod 600 {}`", path.display());
    let mode = mode(&about);
    if mode & 0o002 != 0 {
        let message = "everybody on this machine can write to it and let himself in";
        return Err(LineProblem::whole(message, repair).into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(LineProblem::whole("it is larger than 4 MiB", "").into());
    }
    let mut warnings = Vec::new();
    if mode & 0o004 != 0 {
        let message = "everybody on this machine can read it and guess at the hashes";
        warnings.push(LineProblem::whole(message, repair));
    }
    Ok((bytes, warnings))
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn mode(about: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions())
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}
