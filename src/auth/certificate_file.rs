//! `ca/clients.toml` of the state directory: the client certificates that `loopgate cert client` made, and which of them are
//! revoked. No key is here. Changed atomically, refused whole.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::certificate::Register;
use super::file::{self, FileError, LineProblem};
use crate::disk::rewrite;

const HEADER: &str = "# Written by `loopgate cert`. Certificates that are not listed here are not let in; there is no key in this file.\n";
const HINT: &str = "`loopgate cert` writes this file";

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub name: String,
    /// Upper-case hexadecimal.
    pub serial: String,
    /// Seconds since 1970.
    pub issued: i64,
    /// Seconds since 1970.
    pub expires: i64,
    /// Seconds since 1970; `None` while it is good.
    pub revoked: Option<i64>,
}

/// Why the list was not changed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum CertificateFileError {
    #[error(
        "there is no certificate for `{0}`, and none with that serial number; see `loopgate cert list`"
    )]
    NotThere(String),
    #[error("every certificate of `{0}` is revoked already")]
    Already(String),
    #[error("the time is out of range")]
    Time,
    #[error("the list of client certificates has mistakes and was not changed: {0}")]
    Mistakes(#[from] FileError),
    #[error("the list of client certificates cannot be changed: {0}")]
    File(#[from] io::Error),
}

/// Reads the list; one that is not there yet is empty. Blocks on the disk.
pub fn load(path: &Path) -> Result<Vec<Entry>, FileError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let (bytes, _) = file::read(path, "run `loopgate cert client NAME`")?;
    parse(&bytes)
}

/// The same, for a gate.
pub fn register(path: &Path) -> Result<Register, FileError> {
    let list = load(path)?.into_iter();
    Ok(Register::new(list.map(|entry| {
        (entry.serial, entry.name, entry.revoked.is_some())
    })))
}

/// Adds a certificate that was just made. Blocks on the disk.
pub fn add(path: &Path, entry: Entry) -> Result<(), CertificateFileError> {
    change(path, |list| {
        list.push(entry);
        Ok(())
    })
}

/// Takes back a certificate that nobody has got. Blocks on the disk.
pub fn forget(path: &Path, serial: &str) -> Result<(), CertificateFileError> {
    change(path, |list| {
        list.retain(|entry| entry.serial != serial);
        Ok(())
    })
}

/// Revokes the certificate with this serial number, or all of this name; gives those that were good until now. Blocks on the
/// disk.
pub fn revoke(path: &Path, which: &str, now: i64) -> Result<Vec<Entry>, CertificateFileError> {
    let mut gone = Vec::new();
    let plain = which.replace(':', "");
    change(path, |list| {
        let mut found = false;
        for entry in list
            .iter_mut()
            .filter(|e| e.name == which || e.serial.eq_ignore_ascii_case(&plain))
        {
            found = true;
            if entry.revoked.is_none() {
                entry.revoked = Some(now);
                gone.push(entry.clone());
            }
        }
        match (found, gone.is_empty()) {
            (false, _) => Err(CertificateFileError::NotThere(which.into())),
            (true, true) => Err(CertificateFileError::Already(which.into())),
            (true, false) => Ok(()),
        }
    })?;
    Ok(gone)
}

fn change(
    path: &Path,
    change: impl FnOnce(&mut Vec<Entry>) -> Result<(), CertificateFileError>,
) -> Result<(), CertificateFileError> {
    rewrite(path, |old| {
        let mut list = parse(old.unwrap_or_default())?;
        change(&mut list)?;
        text(&list).map(|text| Some(text.into_bytes()))
    })
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    certificate: Vec<toml::Spanned<RawEntry>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    serial: String,
    issued: String,
    expires: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, FileError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| LineProblem::whole("it is not UTF-8", "save the file as UTF-8"))?;
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        LineProblem::at(text, at, error.message(), HINT)
    })?;
    let (mut problems, mut list) = (Vec::new(), Vec::<Entry>::new());
    for raw in raw.certificate {
        let at = raw.span().start;
        match entry(raw.into_inner()) {
            Ok(entry) if list.iter().any(|other| other.serial == entry.serial) => {
                let message = format!("the serial number {} is here twice", entry.serial);
                problems.push(LineProblem::at(text, at, &message, HINT));
            }
            Ok(entry) => list.push(entry),
            Err(message) => problems.push(LineProblem::at(text, at, &message, HINT)),
        }
    }
    match problems.is_empty() {
        true => Ok(list),
        false => Err(FileError { problems }),
    }
}

fn entry(raw: RawEntry) -> Result<Entry, String> {
    let moment = |text: &str, key| match text.parse::<Timestamp>() {
        Ok(moment) => Ok(moment.as_second()),
        Err(_) => Err(format!(
            "`{key}` of the certificate {} is not a time such as 2026-01-31T12:00:00Z",
            raw.serial
        )),
    };
    let is_serial = |c: u8| matches!(c, b'0'..=b'9' | b'A'..=b'F');
    if raw.serial.is_empty() || !raw.serial.bytes().all(is_serial) {
        return Err("`serial` is upper-case hexadecimal".into());
    }
    Ok(Entry {
        issued: moment(&raw.issued, "issued")?,
        expires: moment(&raw.expires, "expires")?,
        revoked: raw
            .revoked
            .as_deref()
            .map(|t| moment(t, "revoked"))
            .transpose()?,
        name: raw.name,
        serial: raw.serial,
    })
}

fn text(list: &[Entry]) -> Result<String, CertificateFileError> {
    let moment = |second: i64| match Timestamp::from_second(second) {
        Ok(moment) => Ok(moment.to_string()),
        Err(_) => Err(CertificateFileError::Time),
    };
    let mut text = HEADER.to_owned();
    for entry in list {
        let raw = RawEntry {
            name: entry.name.clone(),
            serial: entry.serial.clone(),
            issued: moment(entry.issued)?,
            expires: moment(entry.expires)?,
            revoked: entry.revoked.map(moment).transpose()?,
        };
        let table = toml::to_string(&raw).map_err(io::Error::other)?;
        text += &format!("\n[[certificate]]\n{table}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, serial: &str) -> Entry {
        Entry {
            name: name.into(),
            serial: serial.into(),
            issued: 1_700_000_000,
            expires: 1_800_000_000,
            revoked: None,
        }
    }

    #[test]
    fn lists_and_revokes_by_name_and_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clients.toml");
        assert_eq!(load(&path).unwrap(), []);
        for one in [
            entry("alice", "4A01"),
            entry("alice", "4A02"),
            entry("bob", "4A03"),
        ] {
            add(&path, one).unwrap();
        }
        let gone = |which: &str| {
            let gone = revoke(&path, which, 1_750_000_000);
            gone.map(|list| list.into_iter().map(|e| e.serial).collect::<Vec<_>>())
        };
        assert_eq!(gone("4a:02").unwrap(), ["4A02"]);
        assert_eq!(gone("alice").unwrap(), ["4A01"]);
        assert!(matches!(
            gone("alice"),
            Err(CertificateFileError::Already(_))
        ));
        assert!(matches!(
            gone("carol"),
            Err(CertificateFileError::NotThere(_))
        ));
        forget(&path, "4A03").unwrap();
        let left: Vec<_> = load(&path).unwrap();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|e| e.revoked == Some(1_750_000_000)));
    }

    #[test]
    fn refuses_a_list_with_mistakes_and_says_where() {
        let good = text(&[entry("alice", "4A01")]).unwrap();
        let twice = good.clone() + good.trim_start_matches(HEADER);
        for (text, line, want) in [
            (good.replace("name", "nane"), 4, "nane"),
            (good.replace("2023-", "x"), 3, "`issued`"),
            (good.replace("4A01", "4a01"), 3, "hexadecimal"),
            (twice, 9, "twice"),
            ("[[certificate]".into(), 1, ""),
        ] {
            let problem = &parse(text.as_bytes()).unwrap_err().problems[0];
            assert!(problem.message.contains(want), "{problem:?}\n{text}");
            assert_eq!(problem.line, line, "{problem:?}\n{text}");
        }
    }
}
