//! Where lines end up: whole ones, or none. A disk that is full loses lines, which are counted, and never half of one; a file
//! that has grown gives way to a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::log::{Rotation, Sink};

/// Bytes that are written at once; between two of these a file may give way to a new one.
const PIECE: usize = 64 << 10;
/// After a rotation that failed.
const AGAIN: Duration = Duration::from_secs(60);

/// Lines that were lost, and why.
#[derive(Debug)]
pub(super) struct Lost {
    pub lines: u64,
    pub error: io::Error,
}

/// An open place for lines.
pub(super) struct Out {
    file: File,
    path: Option<PathBuf>,
    rotation: Option<Rotation>,
    /// Of the file, as far as we know.
    length: u64,
    /// Half a line is out and could not be taken back: a line end comes first.
    is_torn: bool,
    not_before: Option<Instant>,
}

impl Out {
    /// Opens it; nothing for a log that is off.
    pub fn open(sink: &Sink) -> io::Result<Option<Self>> {
        let (file, path, rotation) = match sink {
            Sink::Off => return Ok(None),
            // Not by way of the standard library's buffer, which would hide what was written.
            Sink::Stdout => (
                File::from(io::stdout().as_fd().try_clone_to_owned()?),
                None,
                None,
            ),
            Sink::File(path, rotation) => (append(path)?, Some(path.clone()), *rotation),
        };
        let length = match &path {
            Some(_) => file.metadata()?.len(),
            None => 0,
        };
        Ok(Some(Self {
            file,
            path,
            rotation,
            length,
            is_torn: false,
            not_before: None,
        }))
    }

    /// Writes whole lines. What did not fit is lost, and all that follows.
    pub fn write(&mut self, mut lines: &[u8]) -> Result<(), Lost> {
        while !lines.is_empty() {
            if self.is_torn {
                match write(&mut self.file, b"\n") {
                    (1, _) => self.is_torn = false,
                    (_, error) => return Err(self.lose(lines, 0, error)),
                }
            }
            let long = || lines.iter().position(|b| *b == b'\n').map(|i| i + 1);
            let size = match lines.get(..PIECE) {
                Some(piece) => last_line(piece).or_else(long).unwrap_or(lines.len()),
                None => lines.len(),
            };
            match write(&mut self.file, &lines[..size]) {
                (done, _) if done == size => {}
                (done, error) => return Err(self.lose(lines, done, error)),
            }
            self.length += size as u64;
            lines = &lines[size..];
            self.rotate_when_due();
        }
        Ok(())
    }

    /// Opens the file anew. The old one stays in use when that fails.
    pub fn reopen(&mut self) {
        if let Some(path) = &self.path
            && let Ok(file) = append(path)
        {
            self.length = file.metadata().map_or(0, |m| m.len());
            self.file = file;
            self.is_torn = false;
        }
    }

    /// Only `done` bytes of the lines went out: the last whole line of them is where the file ends, the rest is lost.
    fn lose(&mut self, lines: &[u8], done: usize, error: Option<io::Error>) -> Lost {
        let whole = last_line(&lines[..done]).unwrap_or(0);
        let lost = lines[whole..].iter().filter(|b| **b == b'\n').count();
        self.length += whole as u64;
        if done > whole && !self.take_back(done - whole) {
            self.is_torn = true;
        }
        Lost {
            lines: lost as u64,
            error: error.unwrap_or_else(|| io::ErrorKind::WriteZero.into()),
        }
    }

    /// Takes the end of the file away again, if nobody else has written there.
    fn take_back(&self, bytes: usize) -> bool {
        let is_ours = |m: fs::Metadata| m.is_file() && m.len() == self.length + bytes as u64;
        self.path.is_some()
            && self.file.metadata().is_ok_and(is_ours)
            && self.file.set_len(self.length).is_ok()
    }

    fn rotate_when_due(&mut self) {
        let (Some(path), Some(rotation)) = (self.path.clone(), self.rotation) else {
            return;
        };
        let now = Instant::now();
        if self.length < rotation.size || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        if self.rotate(&path, rotation).is_err() {
            self.not_before = Some(now + AGAIN);
        }
    }

    /// `access.log` becomes `access.log.1`, that one `access.log.2`; the oldest goes. Every step is one rename.
    fn rotate(&mut self, path: &Path, rotation: Rotation) -> io::Result<()> {
        let own = self.file.metadata()?;
        let there = fs::metadata(path);
        let is_moved = there.is_ok_and(|m| (m.dev(), m.ino()) != (own.dev(), own.ino()));
        if is_moved || own.len() < rotation.size {
            // Another program has rotated it, by name or in place.
            let file = append(path)?;
            self.length = file.metadata()?.len();
            self.file = file;
            return Ok(());
        }
        let numbered = |n: u16| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..rotation.keep).rev() {
            match fs::rename(numbered(n), numbered(n + 1)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        fs::rename(path, numbered(1))?;
        self.file = append(path)?;
        self.length = 0;
        Ok(())
    }
}

/// Where the last whole line ends.
fn last_line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b == b'\n').map(|i| i + 1)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// How much was written, and why not all of it.
fn write(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < bytes.len() {
        match file.write(&bytes[done..]) {
            Ok(0) => return (done, None),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(path: &Path, size: u64, keep: u16) -> Out {
        let sink = Sink::File(path.to_owned(), Some(Rotation { size, keep }));
        Out::open(&sink).unwrap().unwrap()
    }

    #[test]
    fn a_file_that_has_grown_gives_way_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut out = out(&path, 20, 2);
        for n in 0..8 {
            out.write(format!("line {n} of the log\n").as_bytes())
                .unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("access.log"), "");
        assert_eq!(
            read("access.log.1"),
            "line 6 of the log\nline 7 of the log\n"
        );
        assert_eq!(
            read("access.log.2"),
            "line 4 of the log\nline 5 of the log\n"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        // Another program moves the file away: nothing is renamed, the new one is written to.
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        fs::write(&path, "").unwrap();
        for n in 0..3 {
            out.write(format!("late {n} of the log\n").as_bytes())
                .unwrap();
        }
        assert_eq!(read("elsewhere"), "late 0 of the log\nlate 1 of the log\n");
        assert_eq!(read("access.log"), "late 2 of the log\n");
    }

    #[test]
    fn a_half_line_is_taken_back_and_what_is_lost_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut out = out(&path, 1 << 20, 1);
        out.write(b"whole\n").unwrap();
        // As a disk that is full after nine bytes.
        out.file.write_all(b"first\nsec").unwrap();
        let full = Some(io::ErrorKind::StorageFull.into());
        let lost = out.lose(b"first\nsecond\nthird\n", 9, full);
        assert_eq!(lost.lines, 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nfirst\n");
        out.write(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nfirst\nafter\n");
        // Somebody else has written there: nothing of theirs is taken.
        out.file.write_all(b"sectheirs\n").unwrap();
        assert_eq!(out.lose(b"second\n", 3, None).lines, 1);
        out.write(b"end\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "whole\nfirst\nafter\nsectheirs\n\nend\n");
    }

    #[test]
    fn a_device_that_is_full_loses_lines_and_says_how_many() {
        let sink = Sink::File("/dev/full".into(), None);
        let mut out = Out::open(&sink).unwrap().unwrap();
        let lost = out.write(b"one\ntwo\n").unwrap_err();
        assert_eq!(lost.lines, 2);
        assert_eq!(lost.error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn many_lines_are_cut_between_lines_where_the_file_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut out = out(&path, 90_000, 9);
        let long = "y".repeat(70_000) + "\n";
        let lines = "x".repeat(999) + "\n";
        let all = lines.repeat(150) + &long + &lines;
        out.write(all.as_bytes()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let parts = ["access.log.2", "access.log.1", "access.log"].map(read);
        assert_eq!(parts.concat(), all);
        assert_eq!(parts.map(|part| part.len()), [130_000, 90_001, 1000]);
    }
}
