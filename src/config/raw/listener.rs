//! Listeners: addresses, the networks let in, and where the certificate comes from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClientCertificates;
use crate::config::unit;

/// An address that loopgate listens on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, or a list of them. `0.0.0.0:8443` is every IPv4 address of this machine; `[::]:8443` is IPv6 only.
    #[serde(deserialize_with = "unit::one_or_many::deserialize")]
    #[schemars(with = "unit::OneOrMany")]
    #[schemars(extend("examples" = ["0.0.0.0:8443"]))]
    pub address: Vec<String>,
    /// Who may connect. There is no default: a listener that names no networks is an error, because "everybody" should
    /// be a decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Networks", extend("examples" = [{ "allow": ["this-lan", "loopback"] }]))]
    pub networks: Option<Networks>,
    /// Where the certificate comes from: `{ from = "local-ca" }` (our own authority; the default), or your own files
    /// `{ chain = "certs/site.pem", key = "certs/site.key" }`, or `{ from = "none" }` for plain HTTP without encryption.
    #[serde(default)]
    pub tls: Tls,
    /// Which client certificates are believed. Without this table none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientCertificates", extend("examples" = [{ "from": "local-ca" }]))]
    pub client_certificates: Option<ClientCertificates>,
    /// The proxies in front of us: their `X-Forwarded-For` and `Forwarded`, read from right to left, name the client, and
    /// `X-Forwarded-Proto` its scheme; `networks` then judge that client. Everybody else's are thrown away. A proxy may
    /// connect without being in `networks.allow`; what it asks for itself, naming nobody, may not.
    #[serde(default)]
    #[schemars(with = "Vec<unit::NetworkText>")]
    pub trusted_proxies: Vec<String>,
    /// `required`: every connection of a trusted proxy begins with a PROXY header (version 1 or 2) that names the client,
    /// and is closed without one. Nobody else's is read. `off`: there are none.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Whether a peer that is our own default gateway, or has the address of our own end of a container bridge, may match
    /// `networks.allow`. Off, because behind address translation such an address stands for everybody outside. The same
    /// for one in `trusted_proxies`.
    #[serde(default)]
    pub allow_gateway: bool,
    /// Listen only while this machine has an address in one of these networks (a laptop at home, not in the café).
    /// Empty: always.
    #[serde(default)]
    #[schemars(with = "Vec<unit::NetworkText>")]
    pub only_on: Vec<String>,
}

impl Listener {
    /// A listener with the defaults, which lets nobody in until its networks are named.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: vec![address.into()],
            networks: None,
            tls: Tls::default(),
            client_certificates: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::Off,
            allow_gateway: false,
            only_on: Vec::new(),
        }
    }
}

/// Who may connect, judged on the peer's address before a byte is read.
///
/// A network is a CIDR (`192.168.1.0/24`, `fd00::/8`), a bare address, or a named set: `loopback` (this machine),
/// `private` (private, shared and link-local addresses), `this-lan` (the subnets of the interfaces that carry a default
/// route, followed when they change).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Networks {
    /// The networks let in. Everybody else is closed without a word.
    #[schemars(with = "Vec<unit::NetworkText>", length(min = 1))]
    #[schemars(extend("examples" = [["this-lan", "loopback"]]))]
    pub allow: Vec<String>,
    /// Networks kept out, whatever `allow` says.
    #[serde(default)]
    #[schemars(with = "Vec<unit::NetworkText>")]
    pub deny: Vec<String>,
}

/// Whether trusted proxies send a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum ProxyProtocol {
    #[default]
    Off,
    Required,
}

/// Where the certificate of a listener comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Tls {
    /// Made by loopgate, or none at all.
    From {
        /// `local-ca`: certificates of our own authority, renewed by themselves. `none`: plain HTTP, unencrypted.
        #[schemars(extend("examples" = ["local-ca"]))]
        from: CertificateSource,
    },
    /// Files of your own.
    Files {
        /// The certificate and its intermediates, PEM.
        #[schemars(with = "unit::PathText", extend("examples" = ["certs/site.pem"]))]
        chain: PathBuf,
        /// The private key, PEM. Must not be readable by others; a warning where all addresses are loopback.
        #[schemars(with = "unit::PathText", extend("examples" = ["certs/site.key"]))]
        key: PathBuf,
    },
}

impl Default for Tls {
    fn default() -> Self {
        Self::From {
            from: CertificateSource::LocalCa,
        }
    }
}

/// A source of certificates that needs no files of yours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum CertificateSource {
    LocalCa,
    None,
    // `--unsafe-plain-http`. A file cannot say it: there plain HTTP is for loopback alone.
    #[serde(skip)]
    UnsafePlain,
}
