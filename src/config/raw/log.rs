//! What is written down about requests.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is written down about requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where the access log goes: `stdout`, `off`, or the path of a file (reopened on SIGUSR1).
    pub access: LogTarget,
    /// `text` for people, `json` for machines: one line a request either way.
    pub format: LogFormat,
    /// Whether the query string of a request is logged. Off, because query strings carry tokens and searches.
    pub query: bool,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the field says what each one means")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}
