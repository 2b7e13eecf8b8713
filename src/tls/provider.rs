//! The one place where cryptography is chosen: aws-lc-rs, the post-quantum group first.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // Written out, so that no cargo feature of a dependency can change the order.
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        // The suites are rustls's own, in its order: TLS 1.3, and for 1.2 only ECDHE with AEAD. A client's order wins over
        // ours, so a phone without AES instructions gets ChaCha20.
        ..default_provider()
    })
});

/// The provider that every configuration is built with, ours and those of the tests.
/// No process-wide default is installed and none is needed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

#[cfg(test)]
mod tests {
    use rustls::{NamedGroup, ProtocolVersion};

    use super::*;

    #[test]
    fn post_quantum_group_is_first_and_old_suites_are_absent() {
        let provider = provider();
        assert_eq!(provider.kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        for suite in &provider.cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(name.contains("GCM") || name.contains("CHACHA20"), "{name}");
            let old = suite.version().version == ProtocolVersion::TLSv1_2;
            assert!(!old || name.contains("ECDHE"), "{name}");
        }
    }
}
