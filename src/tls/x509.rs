//! The few facts that are read out of a certificate. Bytes from outside come in here; nothing here trusts them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use data_encoding::HEXUPPER;
use ipnet::IpNet;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::Subject;
use super::local_ca::Constraints;

/// What a certificate says about itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Subject alternative names that are DNS names or addresses.
    pub(super) subjects: Vec<Subject>,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

/// A public key as it stands in a certificate.
pub(super) struct PublicKey<'a> {
    pub(super) spki: SubjectPublicKeyInfoDer<'a>,
    pub(super) bits: &'a [u8],
}

/// Reads the facts; `Err` says what is wrong with the bytes.
pub(super) fn facts(der: &[u8]) -> Result<Facts, &'static str> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "its subject alternative names are malformed")?;
    let names = names.map(|extension| &extension.value.general_names);
    let subjects = names.into_iter().flatten().filter_map(subject).collect();
    let validity = certificate.validity();
    Ok(Facts {
        subjects,
        from: instant(validity.not_before.timestamp()),
        until: instant(validity.not_after.timestamp()),
    })
}

/// What a client certificate says about its owner. Made here from bytes; that they are to be believed is
/// [`super::ClientAuthority::verify`]'s word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFacts {
    /// Upper-case hexadecimal, as it stands in the certificate.
    pub serial: String,
    /// The last moment.
    pub until: SystemTime,
    /// The common names of the subject.
    pub common_names: Vec<String>,
    /// Alternative names: mail addresses.
    pub emails: Vec<String>,
    /// Alternative names: DNS names.
    pub dns: Vec<String>,
    /// Alternative names: URIs.
    pub uris: Vec<String>,
}

/// What an authority says about itself.
pub(super) struct AuthorityFacts {
    pub(super) name: String,
    pub(super) until: SystemTime,
}

/// Reads a client's own certificate.
pub(super) fn client(der: &[u8]) -> Result<ClientFacts, &'static str> {
    let certificate = parse(der)?;
    let (mut emails, mut dns, mut uris) = (Vec::new(), Vec::new(), Vec::new());
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "its subject alternative names are malformed")?;
    for name in names.iter().flat_map(|e| &e.value.general_names) {
        match name {
            GeneralName::RFC822Name(name) => emails.push((*name).to_owned()),
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::URI(name) => uris.push((*name).to_owned()),
            _ => {}
        }
    }
    let common_names = certificate.subject().iter_common_name();
    let common_names: Result<_, _> = common_names
        .map(|n| n.as_str().map(str::to_owned))
        .collect();
    Ok(ClientFacts {
        serial: HEXUPPER.encode(certificate.raw_serial()),
        until: instant(certificate.validity().not_after.timestamp()),
        common_names: common_names.map_err(|_| "its subject is malformed")?,
        emails,
        dns,
        uris,
    })
}

/// Reads an authority; a certificate that may not sign others is none.
pub(super) fn authority(der: &[u8]) -> Result<AuthorityFacts, &'static str> {
    let certificate = parse(der)?;
    let basic = certificate.basic_constraints().ok().flatten();
    if !basic.is_some_and(|extension| extension.value.ca) {
        return Err("one of its certificates is no authority: it may not sign others");
    }
    Ok(AuthorityFacts {
        name: certificate.subject().to_string(),
        until: instant(certificate.validity().not_after.timestamp()),
    })
}

/// Until when a revocation list is meant to be used; `None` when it does not say.
pub(super) fn list_until(der: &[u8]) -> Result<Option<SystemTime>, &'static str> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list.next_update().map(|t| instant(t.timestamp()))),
        Ok(_) | Err(_) => Err("it is no revocation list"),
    }
}

/// The key of a certificate of any version; `None` for bytes that are no certificate.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let key = &certificate.tbs_certificate.subject_pki;
    Some(PublicKey {
        spki: key.raw.into(),
        // The bits borrow from `der`, but only the raw form says so.
        bits: key
            .raw
            .get(key.raw.len() - key.subject_public_key.data.len()..)?,
    })
}

/// The permitted names and networks of an authority.
pub(super) fn constraints(der: &[u8]) -> Result<Constraints, &'static str> {
    let certificate = parse(der)?;
    let extension = certificate
        .name_constraints()
        .ok()
        .flatten()
        .filter(|extension| extension.critical)
        .ok_or("it has no critical name constraints")?;
    let mut constraints = Constraints::default();
    for GeneralSubtree { base } in extension.value.permitted_subtrees.iter().flatten() {
        match base {
            GeneralName::DNSName(name) => constraints.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => constraints
                .networks
                .push(network(bytes).ok_or("its name constraints are malformed")?),
            _ => return Err("its name constraints are not ours"),
        }
    }
    if constraints.names.is_empty() || constraints.networks.is_empty() {
        return Err("its name constraints leave names or addresses open");
    }
    Ok(constraints)
}

/// A date as people write it, for messages.
pub(super) fn date(instant: SystemTime) -> String {
    seconds(instant)
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .map_or_else(|| "an impossible date".to_owned(), |t| t.date().to_string())
}

/// Seconds since 1970; negative before it.
pub(super) fn seconds(instant: SystemTime) -> Option<i64> {
    match instant.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|s| -s),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err("it is no X.509 certificate"),
    }
}

fn subject(name: &GeneralName<'_>) -> Option<Subject> {
    match name {
        GeneralName::DNSName(name) => Subject::parse(name).ok(),
        GeneralName::IPAddress(bytes) => address(bytes).map(Subject::from),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Address and mask, one behind the other (RFC 5280, 4.2.1.10).
fn network(bytes: &[u8]) -> Option<IpNet> {
    let (base, mask) = bytes.split_at(bytes.len() / 2);
    IpNet::with_netmask(address(base)?, address(mask)?).ok()
}

/// Years that a clock cannot hold end at the Unix epoch or at the last moment that it can.
fn instant(seconds: i64) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let far = Duration::from_secs(seconds.unsigned_abs());
    let moment = match seconds {
        0.. => epoch.checked_add(far),
        _ => epoch.checked_sub(far),
    };
    moment.unwrap_or(epoch)
}

/// The name of who signed it, as it is encoded.
pub(super) fn issuer(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.issuer().as_raw().to_vec())
}
