//! Why a gate does not start, in words for whoever started it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::holder;
use super::inherited::InheritedError;
use super::listeners::BindError;
use crate::plan::Plan;

/// Why nothing was started.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    #[error(
        "the admin address {address} is in use by {holder}; end that one, or write another `address` under `[admin]`"
    )]
    AdminInUse { address: String, holder: String },
    #[error("cannot open the admin address {address}: {source}")]
    Admin { address: String, source: io::Error },
    #[error(
        "{place}cannot open the access log {}: {source}; make its folder, give this user the right to write there, or write another path (or `stdout`) as `access` under `[log]`",
        path.display()
    )]
    Log {
        place: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot start the log: {0}")]
    Writer(io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("`sandbox = \"require\"`: {0}")]
    Sandbox(io::Error),
}

impl StartError {
    pub(super) fn admin(plan: &Plan) -> impl FnOnce(io::Error) -> Self {
        let wanted = plan.admin.clone();
        let address = wanted.as_ref().map(|a| a.to_string());
        let address = address.unwrap_or_default();
        move |source| match source.kind() {
            io::ErrorKind::AddrInUse => Self::AdminInUse {
                holder: holder::of_admin(wanted.as_deref()),
                address,
            },
            _ => Self::Admin { address, source },
        }
    }
}
