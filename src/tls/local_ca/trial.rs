//! The authority as a client sees it: one that trusts the root and nothing else.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::super::{Subject, provider};

/// Whether that client believes the chain to speak for the subject; `Err` is what it says.
pub(super) fn believed(
    root: &CertificateDer<'static>,
    chain: &[CertificateDer<'_>],
    subject: &Subject,
    at: SystemTime,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).map_err(|e| e.to_string())?;
    let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| e.to_string())?;
    let name = ServerName::try_from(subject.to_string()).map_err(|e| e.to_string())?;
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|e| e.to_string())?;
    let (leaf, rest) = chain.split_first().ok_or("the chain is empty")?;
    client
        .verify_server_cert(leaf, rest, &name, &[], UnixTime::since_unix_epoch(at))
        .map(|_| ())
        .map_err(|e| e.to_string())
}
