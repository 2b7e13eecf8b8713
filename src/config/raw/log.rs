//! What is written down about requests.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit::{self, ByteSize};

/// What is written down about requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where the access log goes: `stdout`, `off`, or the path of a file (reopened on SIGUSR1).
    pub access: LogTarget,
    /// `text` for people, `json` for machines: one line a request either way.
    pub format: LogFormat,
    /// Whether the query string of a request is logged. Off, because query strings carry tokens and searches.
    pub query: bool,
    /// A file that has grown to this size becomes `access.log.1`, and a new one is begun, so that no log fills the disk.
    /// `none` leaves that to another program, which sends SIGUSR1 afterwards.
    #[serde(with = "unit::size_or_none")]
    #[schemars(with = "unit::SizeOrNone")]
    pub rotate_size: Option<ByteSize>,
    /// How many files before it are kept: `access.log.1` is the latest.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u16,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            access: LogTarget::default(),
            format: LogFormat::default(),
            query: false,
            rotate_size: Some(ByteSize(100 << 20)),
            keep: 5,
        }
    }
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
