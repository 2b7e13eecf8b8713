//! Routes: hosts and path, the upstream, and who may use it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::config::unit;

/// What is published, and to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Host names. Without this key: every name and address of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["app.lan"]]))]
    pub hosts: Vec<String>,
    /// A path prefix in whole segments: `/admin` is `/admin` and `/admin/users`, never `/administrator`.
    #[serde(default = "root")]
    pub path: String,
    /// The service: a loopback address or a Unix socket, and nothing else. `127.0.0.1:3000`, `localhost:3000` or
    /// `3000` (127.0.0.1, else ::1), `https://127.0.0.1:8006`, `h2c://127.0.0.1:50051`, `unix:/run/app.sock`.
    #[schemars(extend("examples" = ["127.0.0.1:3000"]))]
    pub upstream: String,
    /// Who may use it: `users` (everybody in the users file; the default), `anyone` (no login), `nobody`, or a table.
    #[serde(default)]
    pub access: Access,
    /// What the service sees as `Host`. `keep`: what the client wrote. `upstream`: the loopback address, for services that
    /// refuse foreign names; redirects and cookies are then mapped back.
    #[serde(default)]
    pub host_header: HostHeader,
    /// What to do when the service turns out to be reachable around loopgate: `refuse` to serve it, or `warn` in the log.
    /// With `warn` whoever reaches the service by itself passes no login, no network and no rule of this file.
    #[serde(default)]
    pub exposed_upstream: ExposedUpstream,
    /// Which certificate an `https` service may have. `first-seen`: the one that is seen first is remembered in the state
    /// directory, and another one is refused until `loopgate upstream-cert accept`. `sha256:…`: the one with this
    /// fingerprint (`openssl x509 -noout -fingerprint -sha256`). `{ file = "service.pem" }`: one of those in a PEM file.
    /// `any`: any, so whoever takes its port while it is down is believed. It must always own its key.
    #[serde(default)]
    pub upstream_cert: UpstreamCert,
    /// Sent to the service with every request, so that it can tell loopgate from other programs on this machine. Text,
    /// `{ file = "…" }`, `{ env = "…" }`, or `{ credential = "…" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Secret", extend("examples" = [{ "file": "upstream.secret" }]))]
    pub upstream_secret: Option<Secret>,
}

impl Route {
    /// A route with the defaults: every host, every path, users only.
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            hosts: Vec::new(),
            path: root(),
            upstream: upstream.into(),
            access: Access::default(),
            host_header: HostHeader::default(),
            exposed_upstream: ExposedUpstream::default(),
            upstream_cert: UpstreamCert::default(),
            upstream_secret: None,
        }
    }
}

fn root() -> String {
    "/".into()
}

/// Who may use a route: one word, or a table of conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Access {
    /// One word.
    Word(AccessWord),
    /// Conditions.
    Table(AccessTable),
}

impl Default for Access {
    fn default() -> Self {
        Self::Word(AccessWord::Users)
    }
}

/// Who may use a route, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum AccessWord {
    Users,
    Anyone,
    Nobody,
}

/// Who may use a route, as conditions. A condition that is not written holds for everybody who is logged in. An empty
/// list is an error, because it would let nobody in: that is `access = "nobody"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessTable {
    /// These users, and the members of `groups`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["alice"]]))]
    pub users: Vec<String>,
    /// The members of these groups, and `users`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["ops"]]))]
    pub groups: Vec<String>,
    /// Only these methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("examples" = [["GET", "POST"]]))]
    pub methods: Vec<String>,
    /// Only clients in these networks, on top of what the listener lets in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), with = "Vec<unit::NetworkText>", extend("examples" = [["10.0.0.0/8"]]))]
    pub networks: Vec<String>,
    /// What a client certificate does here (the listener's `client_certificates` says which are believed). `off`: nothing.
    /// `accepted`: whoever comes with one needs no password. `required`: nobody comes in without one, and a login beside it
    /// must be the same user's. `with-login`: the certificate and a login of the same user, both.
    pub certificate: CertificateUse,
    /// `all`: the network and the user must both be right. `any`: a client in `networks` needs no login.
    pub require: Require,
}

/// What a client certificate does on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum CertificateUse {
    #[default]
    Off,
    Accepted,
    Required,
    WithLogin,
}

/// How networks and people are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum Require {
    #[default]
    All,
    Any,
}

/// What the service sees as `Host`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum HostHeader {
    #[default]
    Keep,
    Upstream,
}

/// What to do about a service that is reachable around loopgate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum ExposedUpstream {
    #[default]
    Refuse,
    Warn,
}

/// Which certificate a service may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum UpstreamCert {
    /// `first-seen`, `any`, or `sha256:` and a fingerprint.
    Word(String),
    /// One of those in a file.
    File {
        /// Certificates, PEM.
        #[schemars(with = "unit::PathText", extend("examples" = ["service.pem"]))]
        file: PathBuf,
    },
}

impl Default for UpstreamCert {
    fn default() -> Self {
        Self::Word("first-seen".into())
    }
}
