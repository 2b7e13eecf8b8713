//! The process: threads, the end, and the admin address.

use std::num::NonZeroU16;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit;

/// How the process runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Data threads. `auto` is one a core.
    pub workers: Workers,
    /// How long requests may take to finish after a stop or when their listener goes away; then they are cut.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub drain: Duration,
    /// What the process gives up once it listens: new privileges, core files, capabilities, and on the threads that serve
    /// all files (Landlock). `auto` takes what the kernel offers, `require` starts with all of it or not at all, `off`
    /// gives up nothing. Ports below 1024 are bound before; a reload cannot bind them any more.
    pub sandbox: Sandbox,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: Workers::default(),
            drain: Duration::from_secs(30),
            sandbox: Sandbox::Auto,
        }
    }
}

/// What the process gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum Sandbox {
    #[default]
    Auto,
    Require,
    Off,
}

/// How many data threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One a core.
    #[default]
    Auto,
    /// Exactly this many.
    Count(NonZeroU16),
}

/// The address for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A loopback address with port, or `unix:` and a path. Serves `/healthz`, `/readyz` and `/metrics` without a login,
    /// so nothing but loopback or a Unix socket is accepted, and a `Host` that names something else is turned away.
    #[schemars(extend("examples" = ["127.0.0.1:9095"]))]
    pub address: String,
}
