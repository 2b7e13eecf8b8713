//! Certificates and rustls configurations: where a certificate comes from, which one a client gets, and the rules that
//! every handshake follows. rustls is named here and in `serve`; no other room chooses a cipher, a group or a version.

mod client_cert;
mod error;
pub mod files;
mod fingerprint;
pub mod local_ca;
mod names;
pub mod pem;
pub mod pkcs12;
mod private;
mod provider;
mod resolver;
mod server;
mod subject;
mod tickets;
mod upstream;
mod x509;

pub use client_cert::{ClientAuthority, ClientFault};
pub use error::TlsError;
pub use fingerprint::Fingerprint;
pub use local_ca::{ClientCa, Issued, LocalCa};
pub use names::Names;
pub use provider::provider;
pub use server::{ServerTls, Source};
pub use subject::Subject;
pub use tickets::Tickets;
pub use upstream::upstream_client;
pub use x509::ClientFacts;
