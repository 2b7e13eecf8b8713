//! Client certificates: who is believed to sign them, and whether one is good at this moment.
//!
//! The handshake proves that the client holds the key and nothing more: it bounds the chain and keeps it. Whether the chain is
//! good is asked at every request, under the plan in force, because tickets, long connections and reloads outlive a handshake
//! (`docs/decisions/0011-client-certificates.md`). Only [`ClientAuthority::verify`] makes a [`ClientFacts`].

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::private::{self, Holds};
use super::x509::{self, ClientFacts};
use super::{TlsError, pem, provider};

/// Certificates of a chain that a client may send, its own with them.
const LONGEST_CHAIN: usize = 8;
/// Bytes of such a chain: it is kept with the connection, and travels in its session tickets.
const LARGEST_CHAIN: usize = 16 * 1024;

/// Why a client certificate is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the detail says it")]
pub enum ClientFault {
    Expired,
    NotYet,
    UnknownIssuer,
    Purpose,
    Revoked,
    RevocationUnknown,
    RevocationStale,
    Rule,
    Malformed,
}

impl ClientFault {
    /// For the log.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Expired => "the client certificate, or one above it, has expired",
            Self::NotYet => "the client certificate, or one above it, is not valid yet",
            Self::UnknownIssuer => {
                "the client certificate is signed by an authority that is not believed here"
            }
            Self::Purpose => "the client certificate is not for clients: it names other purposes",
            Self::Revoked => "the client certificate is revoked",
            Self::RevocationUnknown => "no revocation list speaks for the client certificate",
            Self::RevocationStale => {
                "the revocation list for the client certificate is out of date"
            }
            Self::Rule => {
                "the client certificate is outside what its authority may sign, or breaks another rule"
            }
            Self::Malformed => "the client certificate cannot be read",
        }
    }
}

/// Who is believed to sign client certificates.
#[derive(Debug)]
pub struct ClientAuthority {
    judge: Arc<dyn ClientCertVerifier>,
    id: [u8; 32],
}

impl ClientAuthority {
    /// These authorities, and these revocation lists when there are any. `path` is where they come from, for messages.
    pub fn new(
        path: &Path,
        authorities: &[CertificateDer<'static>],
        lists: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, TlsError> {
        let malformed = |found: String| TlsError::Malformed {
            path: path.to_owned(),
            found,
        };
        let mut roots = RootCertStore::empty();
        let mut context = digest::Context::new(&digest::SHA256);
        for authority in authorities {
            context.update(authority);
            roots
                .add(authority.clone())
                .map_err(|e| malformed(e.to_string()))?;
        }
        let judge = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(lists)
            // What is revoked since a list ran out nobody knows.
            .enforce_revocation_expiration()
            .allow_unauthenticated()
            .build()
            .map_err(|e| malformed(e.to_string()))?;
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Ok(Self { judge, id })
    }

    /// The authorities in a file, and the revocation lists in another. Certificates that are no authorities are refused;
    /// authorities that have expired are passed over and named in the second value.
    pub fn load(
        ca: &Path,
        crl: Option<&Path>,
        now: SystemTime,
    ) -> Result<(Self, Vec<String>), TlsError> {
        let malformed = |path: &Path, found: &str| TlsError::Malformed {
            path: path.to_owned(),
            found: found.to_owned(),
        };
        let text = private::read(ca, Holds::Certificates)?;
        let (mut good, mut notes) = (Vec::new(), Vec::new());
        for found in CertificateDer::pem_slice_iter(&text) {
            let authority = found.map_err(|e| malformed(ca, &pem::fault(&e)))?;
            let facts = x509::authority(&authority).map_err(|what| malformed(ca, what))?;
            if facts.until <= now {
                notes.push(format!(
                    "the authority `{}` in {} expired on {} and is not believed",
                    facts.name,
                    ca.display(),
                    x509::date(facts.until)
                ));
                continue;
            }
            good.push(authority);
        }
        if good.is_empty() {
            return Err(malformed(ca, "it has no authority that is valid now"));
        }
        let lists = crl.map(lists).transpose()?.unwrap_or_default();
        if let Some(crl) = crl {
            for list in &lists {
                let until = x509::list_until(list).map_err(|what| malformed(crl, what))?;
                if until.is_none_or(|until| until <= now) {
                    notes.push(format!(
                        "a revocation list in {} is older than it may be: those that it speaks for are all refused until a new one is there",
                        crl.display()
                    ));
                }
            }
        }
        let made = Self::new(ca, &good, Vec::new())?;
        // What is wrong from here on is wrong with the lists.
        let made = match crl {
            Some(crl) => Self::new(crl, &good, lists)?,
            None => made,
        };
        Ok((made, notes))
    }

    /// Names the authorities: another value when others are believed.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// What the client's own certificate says, when it and all that it rests on are good now.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<ClientFacts, ClientFault> {
        let (own, above) = chain.split_first().ok_or(ClientFault::Malformed)?;
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| ClientFault::NotYet)?;
        self.judge
            .verify_client_cert(own, above, UnixTime::since_unix_epoch(since))
            .map_err(|error| match fault(&error) {
                // Whatever else is wrong with it: nobody here knows who signed it.
                ClientFault::Rule if self.is_strange(chain) => ClientFault::UnknownIssuer,
                found => found,
            })?;
        x509::client(own).map_err(|_| ClientFault::Malformed)
    }

    /// Whether no certificate of the chain names one of these authorities as its own.
    fn is_strange(&self, chain: &[CertificateDer<'_>]) -> bool {
        let ours = self.judge.root_hint_subjects();
        let mut above = chain.iter().filter_map(|c| x509::issuer(c));
        !above.any(|issuer| ours.iter().any(|name| name.as_ref() == issuer))
    }

    /// What the handshake asks of a client.
    pub(super) fn possession(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Possession(Arc::clone(&self.judge)))
    }
}

/// Revocation lists: PEM, or one in DER.
fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let malformed = |found: String| TlsError::Malformed {
        path: path.to_owned(),
        found,
    };
    let bytes = private::read(path, Holds::Certificates)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.to_vec().into()]);
    }
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|e| malformed(pem::fault(&e).into_owned()))?;
    if all.is_empty() {
        return Err(malformed("it has no revocation list".into()));
    }
    Ok(all)
}

fn fault(error: &Error) -> ClientFault {
    let Error::InvalidCertificate(why) = error else {
        return ClientFault::Malformed;
    };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ClientFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ClientFault::NotYet
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ClientFault::UnknownIssuer
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ClientFault::Purpose
        }
        CertificateError::Revoked => ClientFault::Revoked,
        CertificateError::UnknownRevocationStatus => ClientFault::RevocationUnknown,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => ClientFault::RevocationStale,
        CertificateError::BadEncoding => ClientFault::Malformed,
        // The set is open: whatever else is found is a reason to refuse.
        _ => ClientFault::Rule,
    }
}

/// Asks for proof of possession and takes every chain of a bounded size. It grants nothing: see [`ClientAuthority::verify`].
#[derive(Debug)]
struct Possession(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Possession {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let size = own.len() + above.iter().map(|c| c.len()).sum::<usize>();
        if above.len() >= LONGEST_CHAIN || size > LARGEST_CHAIN {
            return Err(Error::General("the client's chain is too long".into()));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
