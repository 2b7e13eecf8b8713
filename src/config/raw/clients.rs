//! Client certificates: which authority is believed, and which name in a certificate is the user.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit;

/// Client certificates. A listener without this table asks nobody for one.
///
/// A certificate stands for a user of the users file, and only on routes whose `access` says `certificate`. It is judged
/// again at every request: dates, signatures, revocation, user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum ClientCertificates {
    /// Made by loopgate.
    From {
        /// `local-ca`: those that `loopgate cert client NAME` makes, until `loopgate cert revoke` ends them. Their common
        /// name is the user.
        #[schemars(extend("examples" = ["local-ca"]))]
        from: ClientSource,
    },
    /// Of an authority of your own.
    Files {
        /// The certificates of your own authority, PEM, one or more roots or intermediates. Each may sign for every user.
        #[schemars(with = "unit::PathText", extend("examples" = ["certs/clients.pem"]))]
        ca: PathBuf,
        /// Its revocation lists, PEM or one in DER, for `ca` and for every authority below it that signs. A certificate that
        /// none of them speaks for is refused, and so is everybody once a list is older than it says itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "unit::PathText", extend("examples" = ["certs/clients.crl"]))]
        crl: Option<PathBuf>,
        /// Which name in the certificate is the user: `common-name` of the subject, or one of the alternative names
        /// `san-email`, `san-dns`, `san-uri`. Compared byte by byte with the users file; a certificate with none or two of
        /// that kind is refused.
        #[serde(default)]
        user: ClientName,
    },
}

/// An authority for client certificates that needs no files of yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what it means")]
pub enum ClientSource {
    LocalCa,
}

/// Which name in a client certificate is the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum ClientName {
    #[default]
    CommonName,
    SanEmail,
    SanDns,
    SanUri,
}
