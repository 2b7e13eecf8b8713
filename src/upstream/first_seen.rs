//! The certificates that were seen first, in the state directory: one line a service, as ssh keeps its hosts. A file that cannot be
//! read in one way, or that others could have written, is refused: who forgets whom he knew can be told anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::loopback::{Scheme, Target};
use crate::disk::{is_trusted, regular, rewrite};
use crate::tls::Fingerprint;

/// The name of the file in the state directory.
pub const FILE: &str = "upstream-certs";
const HEADER: &str = "# loopgate: the certificates of https services that were seen first. Change it with `loopgate upstream-cert`.\n";
/// More services than any gate has.
const MOST: usize = 4096;
const LARGEST: u64 = 1 << 20;

/// Why the file was not read or changed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum FirstSeenError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} has mode {mode:04o}: others can change it; run `chmod 600 {0}`, and look through it with `loopgate upstream-cert list`",
        path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{} belongs to another user ({owner}), who can change it; look through it with `cat`, then `chown` it to the gate's user",
        path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error(
        "line {line} of {} is not `https://ADDRESS:PORT sha256:HEX`; repair it, or remove the line to trust that service anew",
        path.display()
    )]
    Line { path: PathBuf, line: usize },
    #[error("{} names more than {MOST} services; remove those that are gone", path.display())]
    Full { path: PathBuf },
    #[error("changing the list failed: {0}")]
    Change(#[from] io::Error),
}

/// Service to certificate.
pub type List = BTreeMap<String, Fingerprint>;

/// What is known; nothing when there is no file. Blocks on the disk.
pub fn load(path: &Path) -> Result<List, FirstSeenError> {
    let failed = |source| FirstSeenError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::new()),
        file => file.map_err(failed)?,
    };
    // Of the open file, so that it cannot be exchanged in between.
    let about = file.metadata().map_err(failed)?;
    if about.mode() & 0o022 != 0 {
        return Err(FirstSeenError::Open {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    if !is_trusted(&about, path.parent()) {
        return Err(FirstSeenError::Owner {
            path: path.to_owned(),
            owner: about.uid(),
        });
    }
    let mut bytes = Vec::new();
    let most = &mut file.take(LARGEST + 1);
    most.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    parse(path, &bytes)
}

/// Remembers the certificate of a service that has none yet; gives the one that counts. Blocks on the disk.
pub fn keep(path: &Path, service: &str, found: Fingerprint) -> Result<Fingerprint, FirstSeenError> {
    let mut counts = found;
    change(path, |list| {
        counts = *list.entry(service.to_owned()).or_insert(found);
    })?;
    Ok(counts)
}

/// Remembers this certificate in place of another; gives the one before. Blocks on the disk.
pub fn accept(
    path: &Path,
    service: &str,
    found: Fingerprint,
) -> Result<Option<Fingerprint>, FirstSeenError> {
    let mut before = None;
    change(path, |list| before = list.insert(service.to_owned(), found))?;
    Ok(before)
}

/// Forgets a service: the next certificate is its first. Gives the one before. Blocks on the disk.
pub fn forget(path: &Path, service: &str) -> Result<Option<Fingerprint>, FirstSeenError> {
    let mut before = None;
    change(path, |list| before = list.remove(service))?;
    Ok(before)
}

fn change(path: &Path, change: impl FnOnce(&mut List)) -> Result<(), FirstSeenError> {
    // Refuses what others can write before anything is taken over from it.
    load(path)?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    rewrite(path, |old| {
        let before = parse(path, old.unwrap_or_default())?;
        let mut list = before.clone();
        change(&mut list);
        if list.len() > MOST {
            return Err(FirstSeenError::Full {
                path: path.to_owned(),
            });
        }
        if list == before {
            return Ok(None);
        }
        let lines = list
            .iter()
            .map(|(service, one)| format!("{service} {one}\n"));
        Ok(Some(
            [HEADER.to_owned()]
                .into_iter()
                .chain(lines)
                .collect::<String>()
                .into_bytes(),
        ))
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<List, FirstSeenError> {
    let mut list = List::new();
    for (at, line) in bytes.split(|c| *c == b'\n').enumerate() {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let read = std::str::from_utf8(line).ok().and_then(|line| {
            let (service, one) = line.split_once(' ')?;
            Some((service_name(service)?, one.parse().ok()?))
        });
        // Twice is two readings.
        match read {
            Some((service, one)) if list.insert(service.clone(), one).is_none() => {}
            Some(_) | None => {
                return Err(FirstSeenError::Line {
                    path: path.to_owned(),
                    line: at + 1,
                });
            }
        }
    }
    Ok(list)
}

/// The one spelling of an https service; `127.0.0.1:8006` alone is meant as one. `None` for what has no certificate.
pub fn service_name(text: &str) -> Option<String> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    let target: Target = whole.parse().ok()?;
    (target.scheme == Scheme::Https).then(|| target.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SERVICE: &str = "https://127.0.0.1:8006";

    #[test]
    fn what_was_seen_first_is_kept_until_somebody_says_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join(FILE);
        let [a, b] = [Fingerprint::of(b"a"), Fingerprint::of(b"b")];
        assert!(load(&path).unwrap().is_empty());
        assert_eq!(keep(&path, SERVICE, a).unwrap(), a);
        assert_eq!(keep(&path, SERVICE, b).unwrap(), a, "the first one counts");
        assert_eq!(keep(&path, "https://[::1]:8006", b).unwrap(), b);
        assert_eq!(load(&path).unwrap()[SERVICE], a);
        assert_eq!(accept(&path, SERVICE, b).unwrap(), Some(a));
        assert_eq!(load(&path).unwrap()[SERVICE], b);
        assert_eq!(forget(&path, SERVICE).unwrap(), Some(b));
        assert_eq!(forget(&path, SERVICE).unwrap(), None);
        assert_eq!(load(&path).unwrap().len(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_two_readings_or_other_writers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let one = Fingerprint::of(b"a");
        let good = format!("# x\n\n{SERVICE} {one}\n");
        for (text, want) in [
            (good.clone(), true),
            (good.replace('\n', "\r\n"), false),
            (format!("{good}{SERVICE} {one}\n"), false),
            (format!("{good}https://127.0.0.1:08006 {one}\n"), false),
            (format!("https://192.0.2.1:1 {one}\n"), false),
            (format!("http://127.0.0.1:1 {one}\n"), false),
            (format!("{SERVICE}\n"), false),
            (format!("{SERVICE} sha256:ab\n"), false),
            (format!("{SERVICE} {one} more\n"), false),
        ] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            assert_eq!(load(&path).is_ok(), want, "{text}");
            assert_eq!(keep(&path, "https://[::1]:1", one).is_ok(), want, "{text}");
        }
        fs::write(&path, good).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(matches!(load(&path), Err(FirstSeenError::Open { .. })));
        assert!(accept(&path, SERVICE, one).is_err());
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        load(&path).unwrap();
        // Only root can give it away.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let error = accept(&path, SERVICE, one).unwrap_err().to_string();
            assert!(error.contains("another user (65534)"), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(load(&path).is_err());
        fs::remove_file(&path).unwrap();
        for (size, want) in [(LARGEST, true), (LARGEST + 1, false)] {
            fs::write(&path, "#".repeat(usize::try_from(size).unwrap())).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            assert_eq!(load(&path).is_ok(), want, "{size}");
        }
    }

    /// Somebody exchanges the file all the time: what is believed is always the one that was looked at.
    #[test]
    fn a_list_that_others_can_change_is_never_believed_in_the_place_of_another() {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [good, bad] = [(b"a", 0o600), (b"b", 0o666)].map(|(text, mode)| {
            let one = Fingerprint::of(text);
            let path = at(&format!("{mode:o}"));
            fs::write(&path, format!("{SERVICE} {one}\n")).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            (path, one)
        });
        let (path, is_over) = (at(FILE), AtomicBool::new(false));
        fs::copy(&good.0, &path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    for (one, _) in [&bad, &good] {
                        fs::hard_link(one, at("new")).unwrap();
                        fs::rename(at("new"), &path).unwrap();
                    }
                }
            });
            let mut believed = Vec::new();
            for _ in 0..20_000 {
                believed.extend(load(&path).ok().map(|list| list[SERVICE]));
            }
            is_over.store(true, Relaxed);
            assert!(believed.contains(&good.1) && !believed.contains(&bad.1));
        });
    }
}
