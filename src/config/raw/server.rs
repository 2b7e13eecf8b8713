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
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: Workers::default(),
            drain: Duration::from_secs(30),
        }
    }
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
