//! The configuration as it is written: plain structs that mirror the file, one file a subject. Their doc comments are the
//! user's documentation (`config/example.toml`, `docs/configuration.md`) and every default stands here and nowhere else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod auth;
mod clients;
mod limits;
mod listener;
mod log;
mod route;
mod secret;
mod server;
mod test;
mod words;

pub use auth::{Auth, Group, Lockout, Session};
pub use clients::{ClientCertificates, ClientName, ClientSource};
pub use limits::Limits;
pub use listener::{CertificateSource, Listener, Networks, ProxyProtocol, Tls};
pub use log::{Log, LogFormat, LogTarget};
pub use route::{
    Access, AccessTable, AccessWord, CertificateUse, ExposedUpstream, HostHeader, Require, Route,
    UpstreamCert,
};
pub use secret::Secret;
pub use server::{Admin, Sandbox, Server, Workers};
pub use test::{Expect, Test};

/// The configuration of loopgate.
///
/// Layers, later ones win: the defaults, the file, `conf.d/*.toml` beside it in name order, and environment variables
/// `LOOPGATE__SECTION__KEY` (`LOOPGATE__LIMITS__HEAD=5s`). The tables of a list (`[[route]]`) of several files are put
/// together. Durations are written `30s`, `5m`, `1h30m`; sizes `64KiB`, `10MB`. A relative path is taken from the
/// directory of the main file, wherever it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An address that loopgate listens on, with its networks and its certificate. Write one table for each.
    pub listener: Vec<Listener>,
    /// How the process runs.
    pub server: Server,
    /// How long and how much: what a peer may take before the connection ends.
    pub limits: Limits,
    /// What is written down about requests.
    pub log: Log,
    /// The address for health checks and metrics. Without this table there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Admin")]
    pub admin: Option<Admin>,
    /// Who people are, and what happens to those who guess.
    pub auth: Auth,
    /// A name for several users. Write one table for each group.
    pub group: Vec<Group>,
    /// What is published: hosts and a path, the service behind them, and who may use it. Write one table for each. The
    /// most specific host wins, then the longest path; the order of the tables means nothing.
    pub route: Vec<Route>,
    /// A request and the decision that you expect. `check`, every start and every reload run all of them, and one that
    /// fails refuses the file. Write one table for each.
    pub test: Vec<Test>,
}
