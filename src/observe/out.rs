//! Where lines end up: whole ones, or none. A disk that is full loses lines, which are counted, and never half of one; a file
//! that has grown gives way to a new one. Only a regular file of the very name that was written is ever renamed: never a link, a device
//! or what either leads to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::log::{Rotation, Sink};
use crate::disk::NONBLOCK;

/// Bytes that are written at once; between two of these a file may give way to a new one.
const PIECE: usize = 64 << 10;
/// After a file could not be opened anew or renamed.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks whether the file still has its name.
const LOOK: Duration = Duration::from_secs(1);

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
    /// When the name was looked at.
    looked: Instant,
    /// It was gone then: whoever has moved the file may be about to make a new one.
    is_gone: bool,
    /// Why the file is not the one that it should be by now; lines go on into it all the same.
    fault: Option<Fault>,
}

/// What could not be done, and why.
enum Fault {
    Reopen(String),
    Rotate(String),
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
            looked: Instant::now(),
            is_gone: false,
            fault: None,
        }))
    }

    /// Writes whole lines. What did not fit is lost, and all that follows.
    pub fn write(&mut self, mut lines: &[u8]) -> Result<(), Lost> {
        while !lines.is_empty() {
            if let Err(error) = self.still_takes() {
                return Err(self.lose(lines, 0, Some(error)));
            }
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

    /// Opens the file anew. The old one stays in use when that fails, which [`Out::fault`] tells, and it is tried again.
    pub fn reopen(&mut self) {
        let Some(path) = self.path.clone() else {
            return;
        };
        match self.begin(&path) {
            Ok(()) => (self.fault, self.not_before) = (None, None),
            Err(error) => {
                let what = format!("cannot open {} anew: {error}", path.display());
                self.fault = Some(Fault::Reopen(what));
                self.not_before = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Goes on with the file that has the name now, where another program has moved or removed ours and told nobody.
    fn follow(&mut self) {
        let Some(path) = self.path.clone() else {
            return;
        };
        if self.fault.is_some() || self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let Ok(own) = self.file.metadata() else {
            return;
        };
        let was_gone = std::mem::take(&mut self.is_gone);
        let is_ours = match fs::metadata(&path) {
            Ok(there) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.is_gone = !was_gone && own.nlink() > 0;
                self.is_gone
            }
            // A folder that cannot be searched for now: the file that is open is as good as any.
            Err(_) => true,
        };
        if !is_ours {
            self.reopen();
        }
    }

    /// Its file; none for standard output.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// What keeps lines out of the file that they should be in, and its size within bounds.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| match fault {
            Fault::Reopen(what) | Fault::Rotate(what) => what.as_str(),
        })
    }

    /// Whether what is written now is kept for anybody and within the bound that the configuration sets.
    fn still_takes(&mut self) -> io::Result<()> {
        self.follow();
        match self.fault {
            None => return Ok(()),
            Some(Fault::Reopen(_)) if self.is_time() => self.reopen(),
            Some(Fault::Rotate(_)) => self.rotate_when_due(),
            Some(Fault::Reopen(_)) => {}
        }
        let failed = |what: &str| Err(io::Error::other(what.to_owned()));
        let most = self
            .rotation
            .map_or(u64::MAX, |r| r.size.saturating_mul(u64::from(r.keep) + 1));
        match &self.fault {
            // Without a name it is gone with its last descriptor.
            Some(Fault::Reopen(what)) if self.file.metadata().is_ok_and(|m| m.nlink() == 0) => {
                failed(what)
            }
            // As large as all files together may be.
            Some(Fault::Rotate(what)) if self.length >= most => failed(what),
            Some(Fault::Reopen(_) | Fault::Rotate(_)) | None => Ok(()),
        }
    }

    fn is_time(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// Goes on with the file of this name.
    fn begin(&mut self, path: &Path) -> io::Result<()> {
        let file = append(path)?;
        self.length = file.metadata()?.len();
        self.file = file;
        (self.is_torn, self.is_gone) = (false, false);
        Ok(())
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
        if self.length < rotation.size || !self.is_time() {
            return;
        }
        match self.rotate(&path, rotation) {
            Ok(done) => {
                self.fault = None;
                self.not_before = (!done).then(|| Instant::now() + AGAIN);
            }
            Err(error) => {
                let what = format!("cannot rotate {}: {error}", path.display());
                self.fault = Some(Fault::Rotate(what));
                self.not_before = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// `access.log` becomes `access.log.1`, that one `access.log.2`; the oldest goes. Every step is one rename. Whether that is done
    /// with what has this name.
    fn rotate(&mut self, path: &Path, rotation: Rotation) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match fs::symlink_metadata(path) {
            // What a link leads to has another name and another owner.
            Ok(there) if !there.is_file() => return Ok(false),
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => {}
            // Another program has moved it.
            Ok(_) | Err(_) => return self.begin(path).map(|()| true),
        }
        if own.len() < rotation.size {
            // Another program has emptied it.
            self.length = own.len();
            return Ok(true);
        }
        let numbered = |n: u16| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        // Up to the first gap: what failed half way last time moves nothing a second time.
        let is_free = |n: &u16| fs::symlink_metadata(numbered(*n)).is_err();
        let free = (1..rotation.keep).find(is_free).unwrap_or(rotation.keep);
        for n in (1..free).rev() {
            fs::rename(numbered(n), numbered(n + 1))?;
        }
        fs::rename(path, numbered(1))?;
        self.begin(path).map(|()| true)
    }
}

/// Where the last whole line ends.
fn last_line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|b| *b == b'\n').map(|i| i + 1)
}

fn append(path: &Path) -> io::Result<File> {
    // A FIFO or a terminal that nobody reads loses lines, and holds up nobody.
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(NONBLOCK)
        .open(path);
    opened.map_err(|error| {
        let is_fifo = || fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo());
        match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) && is_fifo() {
            true => io::Error::new(error.kind(), "no program has this FIFO open for reading"),
            false => error,
        }
    })
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
    fn a_fifo_that_nobody_reads_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let sink = Sink::File(path.clone(), None);
        let error = Out::open(&sink).err().unwrap().to_string();
        assert!(error.contains("for reading"), "{error}");
        let mut reader = File::options();
        let reader = reader.read(true).custom_flags(NONBLOCK).open(&path);
        let mut out = Out::open(&sink).unwrap().unwrap();
        let line = [b"x".repeat(1023), vec![b'\n']].concat();
        let lost = loop {
            if let Err(lost) = out.write(&line) {
                break lost;
            }
        };
        assert_eq!(
            (lost.lines, lost.error.kind()),
            (1, io::ErrorKind::WouldBlock)
        );
        drop(reader);
        assert!(out.write(&line).is_err(), "and when it has gone");
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

    #[test]
    fn a_file_that_was_moved_or_removed_by_others_is_followed_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("old"));
        let mut out = Out::open(&Sink::File(path.clone(), None)).unwrap().unwrap();
        let mut say = |text: &str| {
            out.looked = Instant::now().checked_sub(LOOK).unwrap();
            out.write(text.as_bytes()).unwrap();
        };
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        say("one\n");
        // As `logrotate` does it, with `create`.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "").unwrap();
        say("two\n");
        assert_eq!((read(&old), read(&path)), ("one\n".into(), "two\n".into()));
        // Without: whoever has moved it has a moment to make a new one.
        fs::rename(&path, &old).unwrap();
        say("three\n");
        assert_eq!(read(&old), "two\nthree\n");
        say("four\n");
        assert_eq!(read(&path), "four\n");
        fs::remove_file(&path).unwrap();
        say("five\n");
        assert_eq!(read(&path), "five\n", "nobody would ever read it elsewhere");
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_told_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let path = logs.join("access.log");
        let mut out = out(&path, 1 << 20, 1);
        out.write(b"one\n").unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        fs::remove_dir(&logs).unwrap();
        out.reopen();
        let fault = out.fault().unwrap().to_owned();
        assert!(fault.contains("logs/access.log anew"), "{fault}");
        out.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        // Nobody will ever read what goes there now.
        fs::remove_file(&moved).unwrap();
        assert_eq!(out.write(b"three\nfour\n").unwrap_err().lines, 2);
        fs::create_dir(&logs).unwrap();
        out.not_before = None;
        out.write(b"five\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
        assert!(out.fault().is_none());
    }

    #[test]
    fn a_rotation_that_fails_is_told_moves_nothing_twice_and_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let numbered = |n: u8| dir.path().join(format!("access.log.{n}"));
        let mut out = out(&path, 20, 2);
        // A folder that is not empty takes no file's name.
        fs::create_dir(numbered(2)).unwrap();
        fs::write(numbered(2).join("x"), "").unwrap();
        fs::write(numbered(1), "old").unwrap();
        let line = b"a line of the log\n";
        for _ in 0..4 {
            out.write(line).unwrap();
            out.not_before = None;
        }
        let fault = out.fault().unwrap().to_owned();
        assert!(fault.contains("cannot rotate"), "{fault}");
        assert_eq!(fs::read_to_string(numbered(1)).unwrap(), "old");
        assert_eq!(
            out.write(line).unwrap_err().lines,
            1,
            "three times its size is all"
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), 4 * line.len() as u64);
        fs::remove_dir_all(numbered(2)).unwrap();
        out.not_before = None;
        out.write(line).unwrap();
        assert!(out.fault().is_none());
        assert_eq!(fs::read(&path).unwrap(), line);
        assert_eq!(fs::read_to_string(numbered(2)).unwrap(), "old");
    }

    #[test]
    fn a_link_is_never_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (link, real) = (dir.path().join("link"), dir.path().join("real"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut out = out(&link, 20, 2);
        for _ in 0..8 {
            out.write(b"a line of the log\n").unwrap();
            out.not_before = None;
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().len(), 8 * 18);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(out.fault().is_none());
    }
}
