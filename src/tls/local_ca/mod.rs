//! The local authority: made on first use, confined by critical name constraints on its root and on the one intermediate that
//! the root signs, after which the root's key is gone. Leaves live in memory only and are signed when somebody needs them.
//! It must never sign outside its constraints, nor for a name that a client made up.

mod clients;
mod constraints;
mod mint;
mod store;
mod trial;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{Subject, TlsError, pem, provider, x509};
pub use clients::{ClientCa, Issued};
pub use constraints::{Constraints, wildcard_under};
use mint::Kept;
pub use mint::Validity;

/// Leaves kept in memory; a listener has a handful. When full, the one that expires first makes room.
const MOST_LEAVES: usize = 1024;

/// How an authority came to be: the owner is told when devices have something new to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Read,
    /// It was made, because there was none.
    Made,
    /// There is none, and nothing was to be written: it lives as long as this process.
    Imagined,
}

/// An authority, ready to sign. Shared by all listeners of the process and kept across reloads, with its leaves.
pub struct LocalCa {
    root: CertificateDer<'static>,
    root_pem: String,
    chain: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    constraints: Constraints,
    validity: Validity,
    origin: Origin,
    path: PathBuf,
    leaves: ArcSwap<HashMap<Subject, Held>>,
    /// Held while one is signed, so that two threads do not sign the same; readers never wait for it.
    signing: Mutex<()>,
}

#[derive(Clone)]
struct Held {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl LocalCa {
    /// Reads the authority in `dir`; makes one, confined also to `hosts`, when there is none. Two processes that start at once
    /// get the same one. Refuses when others may read its key, when it is damaged or has expired, or when a client would not believe
    /// it: it is replaced by [`LocalCa::renew`] alone.
    ///
    /// The names of an authority that exists are not changed: ask [`LocalCa::covers`].
    pub fn open(dir: &Path, hosts: &[String], now: SystemTime) -> Result<Self, TlsError> {
        if let Some(authority) = Self::find(dir, now)? {
            return Ok(authority);
        }
        let _lock = store::lock(dir)?;
        match Self::find(dir, now)? {
            Some(authority) => Ok(authority),
            None => Self::make(dir, hosts, now),
        }
    }

    /// The authority in `dir`, if there is one; writes nothing.
    pub fn find(dir: &Path, now: SystemTime) -> Result<Option<Self>, TlsError> {
        let load = |kept| Self::load(&store::file(dir), kept, Origin::Read, now);
        store::find(dir)?.map(load).transpose()
    }

    /// The same for a plan that nobody is served by: where there is none, one that is as it would be made, and is not written.
    pub fn imagine(dir: &Path, hosts: &[String], now: SystemTime) -> Result<Self, TlsError> {
        match Self::find(dir, now)? {
            Some(authority) => Ok(authority),
            None => {
                let kept = mint::authority(hosts, now)?;
                Self::load(&store::file(dir), kept, Origin::Imagined, now)
            }
        }
    }

    /// Makes a new authority in place of the old one, which is gone afterwards. Every device has to trust the new one.
    pub fn renew(dir: &Path, hosts: &[String], now: SystemTime) -> Result<Self, TlsError> {
        let _lock = store::lock(dir)?;
        Self::make(dir, hosts, now)
    }

    /// Whether there is an authority in `dir`. Says nothing about its state.
    pub fn exists(dir: &Path) -> bool {
        store::file(dir).is_file()
    }

    /// SHA-256 of the root, as devices show it: upper-case hexadecimal with colons.
    pub fn fingerprint(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.root);
        let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
        bytes.collect::<Vec<_>>().join(":")
    }

    /// The root as PEM, for devices and `loopgate ca export`.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Writes its certificate into `dir`, where it lives, as `root.pem`; gives the path. What is right already is left alone.
    pub fn publish(&self, dir: &Path) -> Result<PathBuf, TlsError> {
        store::publish(dir, self.root_pem())
    }

    /// The root as DER.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// What the authority may sign for.
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// When it ends, and when to speak about that.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it came to be.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether a leaf can be signed that clients believe: inside the constraints, and no wildcard right under a whole suffix.
    pub fn covers(&self, subject: &Subject) -> bool {
        wildcard_under(subject).is_none() && self.constraints.permits(subject)
    }

    /// The leaf for one subject: from memory, else signed now and kept until two thirds of its life are over.
    pub fn leaf(&self, subject: &Subject, now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
        // A clock that runs behind the authority's first day is the wrong one of the two.
        let now = now.max(self.validity.from);
        if let Some(key) = self.held(subject, now) {
            return Ok(key);
        }
        self.may_sign(subject, now)?;
        let _signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.held(subject, now) {
            return Ok(key);
        }
        let held = self.sign(subject, now)?;
        let key = Arc::clone(&held.key);
        self.keep(subject.clone(), held);
        Ok(key)
    }

    /// The leaves in memory with their dates, for metrics.
    pub fn leaves(&self) -> Vec<(Subject, Validity)> {
        let leaves = self.leaves.load();
        leaves
            .iter()
            .map(|(subject, held)| (subject.clone(), held.validity))
            .collect()
    }

    fn held(&self, subject: &Subject, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        let leaves = self.leaves.load();
        let held = leaves.get(subject)?;
        held.validity.is_fresh(now).then(|| Arc::clone(&held.key))
    }

    fn may_sign(&self, subject: &Subject, now: SystemTime) -> Result<(), TlsError> {
        if let Some(suffix) = wildcard_under(subject) {
            return Err(TlsError::Wildcard {
                subject: subject.to_string(),
                suffix: suffix.to_owned(),
            });
        }
        if !self.constraints.permits(subject) {
            return Err(TlsError::NotCovered {
                subject: subject.to_string(),
            });
        }
        self.still_lives(now)
    }

    fn still_lives(&self, now: SystemTime) -> Result<(), TlsError> {
        if now < self.validity.until {
            return Ok(());
        }
        Err(TlsError::AuthorityExpired {
            path: self.path.clone(),
            on: x509::date(self.validity.until),
        })
    }

    /// Signs without asking whether it may.
    fn sign(&self, subject: &Subject, now: SystemTime) -> Result<Held, TlsError> {
        let leaf = mint::leaf(subject, now, &self.issuer, self.validity)?;
        let chain = vec![leaf.certificate, self.chain.clone()];
        let key = provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(leaf.key))
            .map_err(|error| TlsError::Sign {
                subject: subject.to_string(),
                found: error.to_string(),
            })?;
        Ok(Held {
            key: Arc::new(CertifiedKey::new(chain, key)),
            validity: leaf.validity,
        })
    }

    /// Copies the map: it is read by every handshake and written by almost none.
    fn keep(&self, subject: Subject, held: Held) {
        let mut leaves = HashMap::clone(&self.leaves.load());
        if leaves.len() >= MOST_LEAVES && !leaves.contains_key(&subject) {
            let oldest = leaves.iter().min_by_key(|(_, held)| held.validity.until);
            if let Some(oldest) = oldest.map(|(subject, _)| subject.clone()) {
                leaves.remove(&oldest);
            }
        }
        leaves.insert(subject, held);
        self.leaves.store(Arc::new(leaves));
    }

    fn make(dir: &Path, hosts: &[String], now: SystemTime) -> Result<Self, TlsError> {
        let kept = mint::authority(hosts, now)?;
        store::write(dir, &kept)?;
        Self::load(&store::file(dir), kept, Origin::Made, now)
    }

    fn load(path: &Path, kept: Kept, origin: Origin, now: SystemTime) -> Result<Self, TlsError> {
        let damaged = |found: &str| TlsError::AuthorityDamaged {
            path: path.to_owned(),
            found: found.to_owned(),
        };
        let facts = x509::facts(&kept.issuer).map_err(damaged)?;
        let constraints = x509::constraints(&kept.issuer).map_err(damaged)?;
        let validity = Validity::between(facts.from, facts.until)
            .ok_or_else(|| damaged("its dates are the wrong way round"))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &kept.key.as_slice().into(),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map_err(|error| damaged(&error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&kept.issuer, key)
            .map_err(|error| damaged(&error.to_string()))?;
        let authority = Self {
            root_pem: pem::encode("CERTIFICATE", &kept.root),
            root: kept.root,
            chain: kept.issuer,
            issuer,
            constraints,
            validity,
            origin,
            path: path.to_owned(),
            leaves: ArcSwap::default(),
            signing: Mutex::default(),
        };
        authority.still_lives(now)?;
        authority.try_out(now).map_err(|found| damaged(&found))?;
        Ok(authority)
    }

    /// Signs once and asks a client: root, intermediate, key and constraints belong together, or nobody will believe a leaf.
    fn try_out(&self, now: SystemTime) -> Result<(), String> {
        let subject = Subject::Ip(Ipv4Addr::LOCALHOST.into());
        let held = self.sign(&subject, now).map_err(|e| e.to_string())?;
        let at = held.validity.from.max(now);
        trial::believed(&self.root, &held.key.cert, &subject, at)
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa")
            .field("path", &self.path)
            .field("constraints", &self.constraints)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
