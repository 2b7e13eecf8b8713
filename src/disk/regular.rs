//! Opens what must be a file: a FIFO would block whoever reads it, a device would never end.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// So that a FIFO is opened, and refused, without its other end.
pub const NONBLOCK: i32 = OFlags::NONBLOCK.bits() as i32;

/// A regular file, open for reading. Blocks on the disk, and on nothing else.
pub fn regular(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

/// All of a regular file that has at most so many bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {most} bytes"),
        )),
        false => Ok(bytes),
    }
}

/// All that comes out of a pipe, at most so many bytes; `None` when it is none. It has a few seconds to end.
pub fn pipe(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::options()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Ok(None);
    }
    let (mut bytes, end) = (Vec::new(), Instant::now() + PATIENCE);
    let mut file = file.take(most);
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let what = "whoever writes into this pipe does not come to an end";
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            Err(error) => return Err(error),
        }
    }
}

/// For a pipe to end, and between two looks at one.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        let kind = |path: &Path, most| read(path, most).unwrap_err().kind();
        assert_eq!(kind(&path, 3), io::ErrorKind::FileTooLarge);
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        assert_eq!(pipe(&path, 9).unwrap(), None);
        let (mut ours, mut theirs) = (pipe(&fifo, 9).unwrap(), None);
        assert_eq!(ours, Some(Vec::new()), "nobody writes");
        std::thread::scope(|scope| {
            let reader = File::options()
                .read(true)
                .custom_flags(NONBLOCK)
                .open(&fifo);
            let mut writer = File::options().write(true).open(&fifo).unwrap();
            scope.spawn(move || {
                std::thread::sleep(PAUSE * 3);
                std::io::Write::write_all(&mut writer, b"late").unwrap();
            });
            ours = pipe(&fifo, 9).unwrap();
            theirs = Some(reader);
        });
        assert_eq!(ours, Some(b"late".to_vec()));
        drop(theirs);
        for path in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert_eq!(kind(path, 9), io::ErrorKind::InvalidInput, "{path:?}");
        }
    }
}
