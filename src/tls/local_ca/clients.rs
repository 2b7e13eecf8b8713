//! The authority for client certificates: a second one beside the first, in a file of its own. No device is asked to trust it;
//! only gates of this state directory do. So the key that stays with the first cannot make a client, the key that stays here
//! cannot make a server, and neither's leaves are taken for the other's.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::HEXUPPER;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use super::super::private::{self, Holds};
use super::super::{TlsError, pem, x509};
use super::mint::{self, AUTHORITY_LIFE, Validity, Wiped};
use super::store;
use crate::disk;

const FILE: &str = "clients.pem";

const HEADER: &str = "\
# The authority for client certificates of loopgate, and its key. Whoever has this file can make certificates, but only those
# that `clients.toml` lists are let in. Nothing has to trust it; keep it private.
";

/// The longest common name (RFC 5280, ub-common-name).
const LONGEST_NAME: usize = 64;
/// Clocks differ by minutes; a certificate that begins in the gate's future is refused.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// The authority for client certificates, ready to sign.
pub struct ClientCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    until: SystemTime,
    path: PathBuf,
}

/// A certificate for one client, with its key: shown to nobody but the one who gets the file.
pub struct Issued {
    /// The client's certificate, then its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// Upper-case hexadecimal.
    pub serial: String,
    /// The last moment.
    pub until: SystemTime,
}

impl ClientCa {
    /// Reads the authority for clients in `dir`; makes one when there is none. Refuses when others may read its key, when it is
    /// damaged and when it has expired.
    pub fn open(dir: &Path, now: SystemTime) -> Result<Self, TlsError> {
        if let Some(found) = find(dir, now)? {
            return Ok(found);
        }
        let _lock = store::lock(dir)?;
        if let Some(found) = find(dir, now)? {
            return Ok(found);
        }
        let path = dir.join(FILE);
        disk::put(&path, make(now)?.as_bytes()).map_err(TlsError::io("write", &path))?;
        find(dir, now)?.ok_or_else(|| damaged(&dir.join(FILE), "it is gone again"))
    }

    /// The same for a plan that nobody is served by: where there is none, one that is not written.
    pub fn imagine(dir: &Path, now: SystemTime) -> Result<Self, TlsError> {
        match find(dir, now)? {
            Some(found) => Ok(found),
            None => read(dir.join(FILE), make(now)?.as_bytes(), now),
        }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Signs a certificate for one client, for so long, but never for longer than the authority itself.
    pub fn issue(&self, name: &str, life: Duration, now: SystemTime) -> Result<Issued, TlsError> {
        let failed = |found: String| TlsError::Sign {
            subject: name.to_owned(),
            found,
        };
        if name.is_empty()
            || name.chars().count() > LONGEST_NAME
            || name.chars().any(char::is_control)
        {
            return Err(TlsError::ClientName { most: LONGEST_NAME });
        }
        let until = now.checked_add(life).ok_or_else(|| mint::clock(now))?;
        let from = now.checked_sub(BACKDATED).ok_or_else(|| mint::clock(now))?;
        let until = until.min(self.until);
        let validity = Validity::between(from, until).ok_or_else(|| mint::clock(now))?;
        let mut params = mint::params(validity)?;
        params
            .distinguished_name
            .push(DnType::OrganizationName, "loopgate");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = Wiped::generate().map_err(|e| failed(e.to_string()))?;
        let signed = params
            .signed_by(&key.0, &self.issuer)
            .map_err(|e| failed(e.to_string()))?;
        let serial = params.serial_number.as_ref();
        Ok(Issued {
            chain: vec![mint::owned(&signed), self.certificate.clone()],
            key: Zeroizing::new(key.0.serialize_der()),
            serial: serial
                .map(|s| HEXUPPER.encode(s.as_ref()))
                .unwrap_or_default(),
            until,
        })
    }
}

impl std::fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCa")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn damaged(path: &Path, found: &str) -> TlsError {
    TlsError::ClientsDamaged {
        path: path.to_owned(),
        found: found.to_owned(),
    }
}

fn find(dir: &Path, now: SystemTime) -> Result<Option<ClientCa>, TlsError> {
    let path = dir.join(FILE);
    if !store::is_there(dir)? {
        return Ok(None);
    }
    let text = match private::read(&path, Holds::StateKey) {
        Ok(text) => text,
        Err(TlsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    read(path, &text, now).map(Some)
}

fn read(path: PathBuf, text: &[u8], now: SystemTime) -> Result<ClientCa, TlsError> {
    let (mut certificate, mut key) = (None, None);
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section.map_err(|e| damaged(&path, &pem::fault(&e)))? {
            (SectionKind::Certificate, der) => certificate = Some(CertificateDer::from(der)),
            (SectionKind::PrivateKey, der) => key = Some(Zeroizing::new(der)),
            _ => return Err(damaged(&path, "it holds something else too")),
        }
    }
    let (certificate, key) = certificate
        .zip(key)
        .ok_or_else(|| damaged(&path, "its certificate or its key is missing"))?;
    let key =
        KeyPair::from_pkcs8_der_and_sign_algo(&key.as_slice().into(), &PKCS_ECDSA_P256_SHA256)
            .map_err(|e| damaged(&path, &e.to_string()))?;
    let facts = x509::authority(&certificate).map_err(|what| damaged(&path, what))?;
    if facts.until <= now {
        return Err(damaged(
            &path,
            &format!("it expired on {}", x509::date(facts.until)),
        ));
    }
    let issuer =
        Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged(&path, &e.to_string()))?;
    Ok(ClientCa {
        certificate,
        issuer,
        until: facts.until,
        path,
    })
}

/// A new authority as text. It may sign for clients, and for no name or address that a server could have.
fn make(now: SystemTime) -> Result<Zeroizing<String>, TlsError> {
    let failed = |error: rcgen::Error| TlsError::Sign {
        subject: "the authority for clients".to_owned(),
        found: error.to_string(),
    };
    let validity = mint::starting(now, AUTHORITY_LIFE)?;
    let mut params: CertificateParams = mint::params(validity)?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, "loopgate");
    params.distinguished_name.push(
        DnType::CommonName,
        format!("loopgate clients {}", mint::tag()),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: Vec::new(),
        excluded_subtrees: vec![
            GeneralSubtree::DnsName(String::new()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    let key = Wiped::generate().map_err(failed)?;
    let certificate = params.self_signed(&key.0).map_err(failed)?;
    let secret = Zeroizing::new(key.0.serialize_der());
    let secret = Zeroizing::new(pem::encode("PRIVATE KEY", &secret));
    let certificate = pem::encode("CERTIFICATE", &mint::owned(&certificate));
    Ok(Zeroizing::new([HEADER, &certificate, &secret].concat()))
}
