//! Reading files that hold secrets, and files of certificates: bounded, and refused when others could have read them.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::TlsError;
use crate::disk;

/// No chain and no key comes near this.
const MOST: u64 = 1024 * 1024;

/// Whether a file's contents are secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// A key: refused when group or others may read it, and when it belongs to another user.
    Key,
    /// A key of the state directory: root, who looks after it, also reads that of the user to whom its folder belongs.
    StateKey,
    /// Certificates, which anybody may read.
    Certificates,
}

/// The whole file, wiped when dropped. The mode is taken from the open file, so that it cannot be exchanged in between.
pub(super) fn read(path: &Path, holds: Holds) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let file = disk::regular(path).map_err(TlsError::io("open", path))?;
    let about = file.metadata().map_err(TlsError::io("look at", path))?;
    let is_key = match holds {
        Holds::Key | Holds::StateKey => true,
        Holds::Certificates => false,
    };
    if is_key && is_open_to_others(&about) {
        return Err(TlsError::KeyReadable {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    let folder = path.parent().filter(|_| holds == Holds::StateKey);
    if is_key && !disk::is_trusted(&about, folder) {
        return Err(TlsError::KeyOwner {
            path: path.to_owned(),
            owner: about.uid(),
            we: rustix::process::geteuid().as_raw(),
        });
    }
    // Reserved at once: a growing buffer would leave copies of the key behind.
    let size = about.len().min(MOST) as usize;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(TlsError::io("read", path))?;
    if bytes.len() as u64 > MOST {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
            most: MOST,
        });
    }
    Ok(bytes)
}

fn is_open_to_others(about: &Metadata) -> bool {
    let we = rustix::process::geteuid();
    about.mode() & forbidden(about.uid(), we.as_raw()) != 0
}

/// The bits of the mode that a key may not have. PostgreSQL's rule: 0600; a key that belongs to root and is read by another
/// user through a group may be 0640, because that is how system key stores and the secret volumes of containers hand out
/// keys. Others never.
fn forbidden(owner: u32, reader: u32) -> u32 {
    match (owner, reader) {
        (0, 1..) => 0o037,
        _ => 0o077,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roots_keys_may_be_read_through_a_group() {
        for (owner, reader, mode, want) in [
            (1000, 1000, 0o600, true),
            (1000, 1000, 0o640, false),
            (0, 0, 0o600, true),
            (0, 0, 0o640, false),
            (0, 1000, 0o640, true),
            (0, 1000, 0o440, true),
            (0, 1000, 0o660, false),
            (0, 1000, 0o644, false),
            (1001, 1000, 0o640, false),
        ] {
            let fine = mode & forbidden(owner, reader) == 0;
            assert_eq!(fine, want, "{mode:o} of {owner} read by {reader}");
        }
    }
}
