//! Makes the authority's certificates and its leaves. Values in, values out: no file, no clock.

use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::{Zeroize, Zeroizing};

use super::super::{Subject, TlsError, x509};
use super::Constraints;
use crate::base::id;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks of phones and appliances are off by hours; a certificate that begins in their future is refused.
const BACKDATED: Duration = DAY;

/// As long as devices are asked to keep the root: changing it means walking to each of them.
pub(super) const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Short, because there is no revocation that a device on the local network would notice.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Before this program was written: a machine without a battery behind its clock, before it has asked for the time.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600); // 2026-01-01

/// From when, until when, and when to make the next one: after two thirds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// When a new one is due.
    pub renew: SystemTime,
    /// The last moment.
    pub until: SystemTime,
}

impl Validity {
    /// A stretch of `life`, begun a little before `now`.
    fn starting(now: SystemTime, life: Duration) -> Option<Self> {
        let from = now.checked_sub(BACKDATED)?;
        Self::between(from, from.checked_add(life)?)
    }

    /// From one moment to another.
    pub(super) fn between(from: SystemTime, until: SystemTime) -> Option<Self> {
        let life = until.duration_since(from).ok()?;
        Some(Self {
            from,
            renew: from.checked_add(life / 3 * 2)?,
            until,
        })
    }

    /// Whether it can still be handed out without thinking of a new one.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.from <= now && now < self.renew
    }
}

/// All of an authority that is kept: two certificates and the key of the second.
pub(super) struct Kept {
    pub(super) root: CertificateDer<'static>,
    pub(super) issuer: CertificateDer<'static>,
    /// PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
}

/// A signed leaf.
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    pub(super) validity: Validity,
}

/// A new root, and the one intermediate that it ever signs. The root's key exists only inside this function.
pub(super) fn authority(hosts: &[String], now: SystemTime) -> Result<Kept, TlsError> {
    let validity = starting(now, AUTHORITY_LIFE)?;
    let constraints = Constraints::with_hosts(hosts);
    let label = label(hosts);
    let failed = |error: rcgen::Error| TlsError::Sign {
        subject: label.clone(),
        found: error.to_string(),
    };

    let root_key = Wiped::generate().map_err(failed)?;
    let params = ca_params(&format!("loopgate CA {label}"), &constraints, validity, 1)?;
    let root = params.self_signed(&root_key.0).map_err(failed)?;
    let by = Issuer::from_params(&params, &root_key.0);

    let key = Wiped::generate().map_err(failed)?;
    let name = format!("loopgate issuer {label}");
    let mut below = ca_params(&name, &constraints, validity, 0)?;
    below.use_authority_key_identifier_extension = true;
    // Servers only: neither mail nor programs nor clients can be signed for with the key that stays.
    below.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = below.signed_by(&key.0, &by).map_err(failed)?;

    Ok(Kept {
        root: owned(&root),
        issuer: owned(&issuer),
        key: Zeroizing::new(key.0.serialize_der()),
    })
}

/// A stretch that begins about now, when this machine's clock can be right.
pub(super) fn starting(now: SystemTime, life: Duration) -> Result<Validity, TlsError> {
    let early = now < SystemTime::UNIX_EPOCH + EARLIEST;
    Validity::starting(now, life)
        .filter(|_| !early)
        .ok_or_else(|| clock(now))
}

/// A leaf for one subject, inside the authority's own life. The caller has asked whether the subject may be signed for.
pub(super) fn leaf(
    subject: &Subject,
    now: SystemTime,
    issuer: &Issuer<'_, KeyPair>,
    authority: Validity,
) -> Result<Leaf, TlsError> {
    let failed = |found: String| TlsError::Sign {
        subject: subject.to_string(),
        found,
    };
    let now = now.max(authority.from);
    let whole = Validity::starting(now, LEAF_LIFE).ok_or_else(|| clock(now))?;
    let (from, until) = (
        whole.from.max(authority.from),
        whole.until.min(authority.until),
    );
    let mut validity = Validity::between(from, until).ok_or_else(|| clock(now))?;
    if until == authority.until {
        // The last one: a next one would not live longer, and in the end every handshake would sign.
        validity.renew = until;
    }

    let mut params = params(validity)?;
    params.subject_alt_names = vec![match subject {
        Subject::Name(name) => {
            let name = Ia5String::try_from(name.as_str()).map_err(|e| failed(e.to_string()))?;
            SanType::DnsName(name)
        }
        Subject::Ip(address) => SanType::IpAddress(*address),
    }];
    // No common name: OpenSSL holds one that looks like a DNS name against the constraints where the leaf is for an address.
    params
        .distinguished_name
        .push(DnType::OrganizationName, "loopgate");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;

    let key = Wiped::generate().map_err(|e| failed(e.to_string()))?;
    let certificate = params
        .signed_by(&key.0, issuer)
        .map_err(|e| failed(e.to_string()))?;
    Ok(Leaf {
        certificate: owned(&certificate),
        key: key.0.serialize_der().into(),
        validity,
    })
}

pub(super) fn clock(now: SystemTime) -> TlsError {
    TlsError::Clock {
        now: x509::date(now),
    }
}

/// A key pair whose serialized form is wiped at the end; aws-lc wipes its own.
pub(super) struct Wiped(pub(super) KeyPair);

impl Wiped {
    pub(super) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self)
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn ca_params(
    name: &str,
    constraints: &Constraints,
    validity: Validity,
    below: u8,
) -> Result<CertificateParams, TlsError> {
    let mut params = params(validity)?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, "loopgate");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(constraints.extension());
    Ok(params)
}

/// Dates and a serial number of our own; rcgen's default would end in the year 4096.
pub(super) fn params(validity: Validity) -> Result<CertificateParams, TlsError> {
    let moment = |at: SystemTime| {
        x509::seconds(at)
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or_else(|| clock(at))
    };
    let mut serial = id::random::<16>();
    // Positive and of full length (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = moment(validity.from)?;
    params.not_after = moment(validity.until)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

/// What a device shows in its list: the first label of this machine, and a few digits that tell two authorities apart.
fn label(hosts: &[String]) -> String {
    let host = hosts.iter().find_map(|host| match Subject::parse(host) {
        Ok(Subject::Name(name)) => name.split('.').next().map(str::to_owned),
        Ok(Subject::Ip(_)) | Err(_) => None,
    });
    // At most 64 characters in all (RFC 5280, ub-common-name); a label has at most 63.
    let host: String = host.unwrap_or_default().chars().take(32).collect();
    format!("{host} {}", tag()).trim_start().to_owned()
}

/// A few digits that tell two authorities apart.
pub(super) fn tag() -> String {
    data_encoding::HEXLOWER.encode(&id::random::<3>())
}

pub(super) fn owned(certificate: &Certificate) -> CertificateDer<'static> {
    certificate.der().clone()
}
