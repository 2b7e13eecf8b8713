//! The authority on disk: one file with both certificates and the key, so that it is there whole or not at all.
//! Written beside and renamed into place under a lock; what a killed process left behind is never read.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::super::private::{self, Holds};
use super::super::{TlsError, pem};
use super::mint::Kept;
use crate::disk;

const FILE: &str = "local-ca.pem";
/// The certificate alone.
const ROOT: &str = "root.pem";
const LOCK: &str = ".lock";

/// Making an authority takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

const HEADER: &str = "\
# The local authority of loopgate: its root, its intermediate, and the intermediate's key. The root's key was not kept.
# Keep this file private. Devices need only the root: `loopgate ca export`.
";

/// The file of an authority in `dir`.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Whether the directory is there. One that others may write, or that belongs to somebody else, is an error.
pub(super) fn is_there(dir: &Path) -> Result<bool, TlsError> {
    let about = match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        about => about.map_err(TlsError::io("look at", dir))?,
    };
    if about.mode() & 0o022 != 0 {
        return Err(TlsError::DirWritable {
            path: dir.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    if !disk::is_trusted(&about, dir.parent()) {
        return Err(TlsError::DirOwner {
            path: dir.to_owned(),
            owner: about.uid(),
            we: rustix::process::geteuid().as_raw(),
        });
    }
    Ok(true)
}

/// Reads what is there; `None` when nothing is. A damaged file is an error: it was written whole, so somebody else has changed it, and
/// with another authority in its place every device would meet a stranger. So is a key that others may read or that is somebody else's.
pub(super) fn find(dir: &Path) -> Result<Option<Kept>, TlsError> {
    if !is_there(dir)? {
        return Ok(None);
    }
    let path = file(dir);
    match private::read(&path, Holds::StateKey) {
        Ok(text) => parse(&text)
            .map(Some)
            .map_err(|found| TlsError::AuthorityDamaged { path, found }),
        Err(TlsError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the directory when it is missing and holds its lock until the file is dropped; the kernel drops it for a process
/// that dies.
pub(super) fn lock(dir: &Path) -> Result<File, TlsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(TlsError::io("make the directory", dir))?;
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(TlsError::io("open", &path))?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if since.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(TlsError::Locked {
                    path,
                    seconds: PATIENCE.as_secs(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(TlsError::io("lock", &path)(error)),
        }
    }
}

/// Puts an authority in place of whatever was there. Call it under the lock.
pub(super) fn write(dir: &Path, kept: &Kept) -> Result<(), TlsError> {
    let path = self::file(dir);
    disk::put(&path, text(kept).as_bytes()).map_err(TlsError::io("write", &path))
}

/// The certificate that others have to trust, in a file of its own, for programs that take only a path.
pub(super) fn publish(dir: &Path, pem: &str) -> Result<PathBuf, TlsError> {
    let path = dir.join(ROOT);
    if !fs::read(&path).is_ok_and(|there| there == pem.as_bytes()) {
        disk::put(&path, pem.as_bytes()).map_err(TlsError::io("write", &path))?;
    }
    Ok(path)
}

fn parse(text: &[u8]) -> Result<Kept, String> {
    if text.trim_ascii().is_empty() {
        return Err("it is empty".into());
    }
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section.map_err(|error| pem::fault(&error).into_owned())? {
            (SectionKind::Certificate, der) => certificates.push(der.into()),
            (SectionKind::PrivateKey, der) => keys.push(Zeroizing::new(der)),
            _ => return Err("it has more than certificates and a key".into()),
        }
    }
    let counted = |n: usize, what: &str| format!("it has {n} {what}");
    let found = (certificates.len(), keys.len());
    let [root, issuer] = <[_; 2]>::try_from(certificates)
        .map_err(|_| counted(found.0, "certificates and not two"))?;
    let [key] = <[_; 1]>::try_from(keys).map_err(|_| counted(found.1, "keys and not one"))?;
    Ok(Kept { root, issuer, key })
}

fn text(kept: &Kept) -> Zeroizing<String> {
    let key = Zeroizing::new(pem::encode("PRIVATE KEY", &kept.key));
    Zeroizing::new(
        [
            HEADER,
            &pem::encode("CERTIFICATE", &kept.root),
            &pem::encode("CERTIFICATE", &kept.issuer),
            &key,
        ]
        .concat(),
    )
}
