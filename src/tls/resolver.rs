//! Which certificate a client gets. It asks by name (SNI), or connects to a bare address and says nothing.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Names, Source, Subject};

/// The choice for connections to one local address.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) source: Source,
    pub(super) names: Arc<Names>,
    /// For a name that is not ours (the request behind it is answered 421) and for an address outside the constraints.
    pub(super) fallback: Subject,
    /// The address that the client connected to, when it may have a leaf.
    pub(super) local: Option<Subject>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.source {
            Source::Files(loaded) => Some(loaded.key()),
            Source::LocalCa(authority) => {
                let now = SystemTime::now();
                let subject = match hello.server_name() {
                    Some(name) => self.names.subject(name),
                    None => self.local.as_ref(),
                };
                subject
                    .and_then(|subject| authority.leaf(subject, now).ok())
                    .or_else(|| authority.leaf(&self.fallback, now).ok())
            }
        }
    }
}
