//! A certificate and its key from two PEM files, as `certbot` and every other tool writes them. Nothing is half accepted: the
//! key fits the first certificate, both are readable, and the dates are right now.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use zeroize::Zeroize;

use super::pem::fault;
use super::private::{self, Holds};
use super::{Subject, TlsError, provider, x509};

/// A chain and its key, checked.
#[derive(Clone)]
pub struct Loaded {
    key: Arc<CertifiedKey>,
    subjects: Vec<Subject>,
    not_after: SystemTime,
}

impl Loaded {
    /// Chain and key for rustls.
    pub fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The DNS names of the certificate, wildcards among them; empty for one that browsers refuse.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().filter_map(|subject| match subject {
            Subject::Name(name) => Some(name.as_str()),
            Subject::Ip(_) => None,
        })
    }

    /// The addresses of the certificate.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.subjects.iter().filter_map(|subject| match subject {
            Subject::Ip(address) => Some(*address),
            Subject::Name(_) => None,
        })
    }

    /// The last moment of the certificate.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the certificate speaks for the subject.
    pub fn covers(&self, subject: &Subject) -> bool {
        self.subjects.iter().any(|own| own.speaks_for(subject))
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

/// Reads a chain (the server's own certificate first) and its private key; they may be in one file.
pub fn load(chain: &Path, key: &Path, now: SystemTime) -> Result<Loaded, TlsError> {
    load_as(chain, key, Holds::Key, now)
}

/// As [`load`], also for a key that others on this machine may read: for a listener that only this machine can reach.
pub fn load_open(chain: &Path, key: &Path, now: SystemTime) -> Result<Loaded, TlsError> {
    load_as(chain, key, Holds::Certificates, now)
}

fn load_as(chain: &Path, key: &Path, holds: Holds, now: SystemTime) -> Result<Loaded, TlsError> {
    let certificates = read_chain(chain)?;
    let private = read_key(key, holds)?;
    let malformed = |path: &Path, found: &str| TlsError::Malformed {
        path: path.to_owned(),
        found: found.to_owned(),
    };
    let facts = x509::facts(&certificates[0]).map_err(|found| malformed(chain, found))?;
    let signer = provider()
        .key_provider
        .load_private_key(private)
        .map_err(|error| {
            malformed(
                key,
                &format!("its key is of no kind that we can use ({error})"),
            )
        })?;
    let certified = CertifiedKey::new(certificates, signer);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => return Err(mismatch(&certified, chain, key)),
        Err(error) => return Err(malformed(chain, &error.to_string())),
    }
    if now > facts.until {
        return Err(TlsError::Expired {
            path: chain.to_owned(),
            on: x509::date(facts.until),
        });
    }
    if now < facts.from {
        return Err(TlsError::NotYet {
            path: chain.to_owned(),
            from: x509::date(facts.from),
        });
    }
    Ok(Loaded {
        key: Arc::new(certified),
        subjects: facts.subjects,
        not_after: facts.until,
    })
}

/// Never empty.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, Holds::Certificates)?;
    let (mut chain, mut other) = (Vec::new(), "no PEM text at all");
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, mut der) = section.map_err(|error| unreadable(path, &error))?;
        match kind {
            SectionKind::Certificate => chain.push(der.into()),
            SectionKind::Csr => other = "a request for one",
            _ if is_key(kind) => {
                der.zeroize();
                other = "a private key (`chain` and `key` may be the wrong way round)";
            }
            _ => other = "PEM text of another kind",
        }
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    if is_locked(&text) {
        other = "a private key (`chain` and `key` may be the wrong way round)";
    }
    Err(TlsError::NoCertificate {
        path: path.to_owned(),
        found: other,
    })
}

fn read_key(path: &Path, holds: Holds) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path, holds)?;
    if is_locked(&text) {
        return Err(TlsError::EncryptedKey {
            path: path.to_owned(),
        });
    }
    let mut other = "no PEM text at all";
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (kind, der) = section.map_err(|error| unreadable(path, &error))?;
        match kind {
            SectionKind::PrivateKey => return Ok(PrivateKeyDer::Pkcs8(der.into())),
            SectionKind::RsaPrivateKey => return Ok(PrivateKeyDer::Pkcs1(der.into())),
            SectionKind::EcPrivateKey => return Ok(PrivateKeyDer::Sec1(der.into())),
            SectionKind::Certificate => {
                other = "a certificate (`chain` and `key` may be the wrong way round)";
            }
            _ => other = "PEM text of another kind",
        }
    }
    Err(TlsError::NoKey {
        path: path.to_owned(),
        found: other,
    })
}

fn read(path: &Path, holds: Holds) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    let text = private::read(path, holds)?;
    if text.trim_ascii().is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(text)
}

fn is_key(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
    )
}

/// PKCS#8 and the older OpenSSL form of a key behind a passphrase.
fn is_locked(text: &[u8]) -> bool {
    [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
}

fn unreadable(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Malformed {
        path: path.to_owned(),
        found: format!("its PEM text is damaged ({})", fault(error)),
    }
}

/// A chain in the wrong order looks like a wrong key; it is told apart here.
fn mismatch(certified: &CertifiedKey, chain: &Path, key: &Path) -> TlsError {
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::new(vec![one.clone()], Arc::clone(&certified.key))
            .keys_match()
            .is_ok()
    };
    let (chain, key) = (chain.to_owned(), key.to_owned());
    match certified.cert.iter().position(fits) {
        Some(index) => TlsError::LeafNotFirst {
            chain,
            key,
            position: index + 1,
        },
        None => TlsError::KeyMismatch { chain, key },
    }
}

#[cfg(test)]
pub(super) mod tests;
