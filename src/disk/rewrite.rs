//! Changes a small file that others read at the same time: readers see the old one or the new one, never half of one,
//! and two who change it wait for each other. What a process that was killed left beside it is swept away by the next.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use data_encoding::HEXLOWER;

use crate::base::id::random;

/// The largest file that is changed in this way.
const LARGEST: u64 = 16 << 20;
/// How long another editor is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives the bytes of the file (none when there is none) to `change` and puts what it returns in their place.
///
/// The new bytes are on the disk before they take the name. A new file is 0600, an existing one keeps its mode and its
/// owner; a symbolic link stays one. Where the owner cannot be kept, nothing is changed. Blocks on the disk.
pub fn rewrite<E: From<io::Error>>(
    path: &Path,
    change: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>, E>,
) -> Result<(), E> {
    let place = Place::find(path)?;
    let old = match super::regular(&place.path) {
        Ok(file) => Some(Old::read(file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = change(old.as_ref().map(|old| old.bytes.as_slice()))? else {
        return Ok(());
    };
    place.replace(old.as_ref().map(|old| &old.about), &bytes)?;
    Ok(())
}

/// Puts `bytes` in the place of whatever was there, ours alone (0600), as [`rewrite`] does. When it returns, the disk has
/// them. Blocks on the disk.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Place::find(path)?.replace(None, bytes)
}

/// A file and its folder, which is locked until this is dropped: the file itself is another one after every change.
struct Place {
    path: PathBuf,
    folder: PathBuf,
    held: File,
}

impl Place {
    fn find(path: &Path) -> io::Result<Self> {
        // The end of a link, so that the file and not the link is replaced.
        let path = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let held = File::open(&folder)?;
        lock(&held)?;
        Ok(Self { path, folder, held })
    }

    fn replace(&self, old: Option<&fs::Metadata>, bytes: &[u8]) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.new-");
        self.sweep(&prefix);
        let new = format!("{prefix}{}", HEXLOWER.encode(&random::<8>()));
        let new = self.folder.join(new);
        let done = write(&new, old, bytes).and_then(|()| fs::rename(&new, &self.path));
        if done.is_err() {
            // What is left of it is of no use to anybody.
            let _ = fs::remove_file(&new);
            return done;
        }
        // The name is durable only when its folder is (rename(2), fsync(2)).
        self.held.sync_all()
    }

    /// Removes what a writer that was killed left behind. Under the lock nobody else is writing it.
    fn sweep(&self, prefix: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

struct Old {
    bytes: Vec<u8>,
    about: fs::Metadata,
}

impl Old {
    fn read(file: File) -> io::Result<Self> {
        let about = file.metadata()?;
        if !about.is_file() || about.len() > LARGEST {
            return Err(io::Error::other("not a regular file of at most 16 MiB"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(Self { bytes, about })
    }
}

fn lock(folder: &File) -> io::Result<()> {
    let step = Duration::from_millis(50);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        match folder.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) => thread::sleep(step),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        "somebody else is changing it; try again in a moment",
    ))
}

#[cfg(unix)]
fn write(new: &Path, old: Option<&fs::Metadata>, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(bytes)?;
    if let Some(about) = old {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
            fchown(&file, Some(about.uid()), Some(about.gid()))?;
        }
        file.set_permissions(about.permissions())?;
    }
    file.sync_all()
}

#[cfg(not(unix))]
fn write(new: &Path, _: Option<&fs::Metadata>, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(new)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn append(path: &Path, text: &str) -> io::Result<()> {
        rewrite(path, |old| {
            Ok(Some([old.unwrap_or_default(), text.as_bytes()].concat()))
        })
    }

    #[test]
    fn a_new_file_is_ours_alone_and_an_existing_one_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        append(&path, "a").unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        append(&path, "b").unwrap();
        assert_eq!(
            (mode(), fs::read_to_string(&path).unwrap().as_str()),
            (0o640, "ab")
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left lying about"
        );
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let beside = [".file.new-0123", ".file.swp", ".other.new-0123", "filed"];
        for name in beside {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        put(&path, b"a").unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        assert_eq!(beside.map(there), [false, true, true, true]);
        assert_eq!(fs::read(&path).unwrap(), b"a");
    }

    #[test]
    fn put_makes_a_file_ours_alone_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "open to all").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        put(&path, b"secret").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode, fs::read(&path).unwrap()),
            (0o600, b"secret".to_vec())
        );
        assert!(put(&dir.path().join("missing/file"), b"").is_err());
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "a").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        append(&link, "b").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "ab");
    }

    #[test]
    fn nothing_changes_when_the_change_fails_or_wants_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let failed: io::Result<()> = rewrite(&path, |_| Err(io::Error::other("no")));
        assert!(failed.is_err() && !path.exists());
        rewrite(&path, |_| Ok::<_, io::Error>(None)).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| append(&path, "x").unwrap());
            }
        });
        assert_eq!(fs::read(&path).unwrap().len(), 8);
    }
}
