//! A new process takes the place of a running one: the very sockets, their queues with them, so that nobody is refused. All or
//! nothing: until the new one has said that it serves, the old one goes on as if nobody had asked.
//!
//! ```text
//! new: {"do":"take-over"} ────────▶ old
//!      ◀─ what it has, and sockets    │ goes on serving
//! compiles, looks, binds the rest     │
//!      ready ──────────────────────▶  │ writes lockouts for the last time
//!      ◀── last counts, sessions and  │ writes nothing from here on, opens no link
//!          links, and the lock        │
//!      taken ──────────────────────▶  │ drains, and ends
//! opens its doors                     │
//!      ◀── who begins and ends ────▶  │ a session, a link: here as there
//!      ◀── what it counted meanwhile ─┘
//! ```
//!
//! Of sessions and links the hashes go over, never what opens them; and nothing of it touches a disk.
//!
//! The two may be of different versions. Who reads passes over what he does not know, where that gives nobody more than he had, and
//! refuses it elsewhere, while the old one still serves. What is said is held fast by samples (`format`): a new field has to have a
//! default; one that narrows what a session or a link may do, or changes what a word means, is a new `VERSION` (`talk`).

#[cfg(test)]
mod format;
mod give;
mod parcel;
mod take;
mod talk;
#[cfg(test)]
mod trial;

pub(super) use give::{Caller, Giver, Heir, House, Taking};
pub use take::{Estate, Rest, TakeOverError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manager::Manager;
use crate::limit::lockout::Snapshot;

/// Nothing is left in the new one that could fail.
const READY: &str = "ready\n";
/// It serves. Who comes until the old one has read it waits in a queue that both have.
const TAKEN: &str = "taken\n";

/// What the old one has. The sockets come beside it, in this order.
#[derive(Serialize, Deserialize)]
struct Offer {
    /// Its process.
    pid: u32,
    listeners: Vec<Sockets>,
    admin: Vec<Sockets>,
    lockouts: Snapshot,
    /// Who looks after it.
    #[serde(default)]
    manager: Option<Manager>,
}

/// Sockets of one address.
#[derive(Debug, Serialize, Deserialize)]
struct Sockets {
    /// As its plan has it.
    address: String,
    /// What it is called: a port 0 is a real one.
    name: String,
    sockets: usize,
}

/// What it has counted since, whether the lock of its lockouts comes beside it, and who is logged in.
#[derive(Serialize, Deserialize)]
struct Last {
    lockouts: Option<Snapshot>,
    has_lock: bool,
    /// [`talk::Visits`], of whatever version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    visits: Option<Value>,
}
