//! TLS towards an upstream on loopback. Whoever can answer there was already judged by the address, which is proven loopback;
//! services there use certificates that they made themselves, often old ones, for a name that is not `127.0.0.1`. So no name, date or
//! authority is asked for, but the key must have signed the handshake. Which certificate it may be is `upstream::pin`'s business.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::public_key_to_spki;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme,
};

use super::{provider, server::VERSIONS, x509};

/// Sessions kept for one upstream: more than its pool has connections.
const SESSIONS: usize = 256;

/// A configuration for `https://` upstreams: any certificate, HTTP/1.1, sessions resumed. Make one for each upstream: sessions
/// are kept by name, and two upstreams on 127.0.0.1 would hand each other's tickets around.
pub fn upstream_client() -> Arc<ClientConfig> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Arc::new(config)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    /// rustls's own check wants a version 3 certificate with extensions that it knows; many an appliance made itself something
    /// older. So the key is taken out here, and the same algorithms are asked.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = x509::public_key(cert).ok_or(CertificateError::BadEncoding)?;
        let algorithms = self.0.signature_verification_algorithms.mapping;
        let (_, candidates) = algorithms
            .iter()
            .find(|(scheme, _)| *scheme == dss.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // TLS 1.2 names hash and kind of key, not the curve: the one that the key says.
        candidates
            .iter()
            .find(|one| public_key_to_spki(&one.public_key_alg_id(), key.bits) == key.spki)
            .and_then(|one| {
                one.verify_signature(key.bits, message, dss.signature())
                    .ok()
            })
            .map(|()| HandshakeSignatureValid::assertion())
            .ok_or_else(|| CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = x509::public_key(cert).ok_or(CertificateError::BadEncoding)?;
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key.spki, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
