//! What outlives a plan.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::clients::ClientTickets;
use super::instance;
use crate::net::Machine;
use crate::tls::{LocalCa, Tickets, TlsError};
use crate::upstream::{FirstSeen, Looks, first_seen};

/// What outlives a plan: the local authority, the keys of session tickets, upstreams that stay the same.
#[derive(Debug)]
pub struct Kept {
    pub(super) state: PathBuf,
    pub(super) may_write: bool,
    instance: OnceLock<String>,
    authority: OnceLock<Arc<LocalCa>>,
    /// The keys of session tickets.
    pub tickets: Tickets,
    pub(super) client_tickets: ClientTickets,
    /// The certificates of https services.
    pub first_seen: FirstSeen,
    /// Where a look at an upstream is asked for.
    pub looks: Arc<Looks>,
}

impl Kept {
    /// `state`: the directory of contract 7. Nothing is read yet.
    pub fn new(state: PathBuf) -> Self {
        let first_seen = FirstSeen {
            path: state.join(first_seen::FILE),
            news: Arc::default(),
        };
        Self {
            state,
            may_write: true,
            instance: OnceLock::new(),
            authority: OnceLock::new(),
            tickets: Tickets::new(),
            client_tickets: ClientTickets::default(),
            first_seen,
            looks: Arc::default(),
        }
    }

    /// The same for commands that only look: nothing is written, and what is not there yet is made for this process alone.
    pub fn looking(state: PathBuf) -> Self {
        Self {
            may_write: false,
            ..Self::new(state)
        }
    }

    /// What tells this instance from others that are reached by the same host name; empty where the state cannot be written.
    /// Blocks on the disk, once.
    pub fn instance(&self) -> &str {
        let found = || instance::find(&self.state, self.may_write).unwrap_or_default();
        self.instance.get_or_init(found)
    }

    /// The certificate of the local authority as a file.
    pub fn authority_file(&self, machine: &Machine) -> Result<PathBuf, TlsError> {
        self.authority(machine)?.publish(&self.state.join("ca"))
    }

    /// Makes a new local authority in place of the old one.
    pub fn renew_authority(&self, machine: &Machine) -> Result<LocalCa, TlsError> {
        LocalCa::renew(&self.state.join("ca"), &machine.names, SystemTime::now())
    }

    /// The local authority, if there is one already.
    pub fn present_authority(&self) -> Result<Option<LocalCa>, TlsError> {
        LocalCa::find(&self.state.join("ca"), SystemTime::now())
    }

    /// The local authority, made on first use.
    pub fn authority(&self, machine: &Machine) -> Result<Arc<LocalCa>, TlsError> {
        if let Some(authority) = self.authority.get() {
            return Ok(Arc::clone(authority));
        }
        let (dir, now) = (self.state.join("ca"), SystemTime::now());
        let authority = Arc::new(match self.may_write {
            true => LocalCa::open(&dir, &machine.names, now)?,
            false => LocalCa::imagine(&dir, &machine.names, now)?,
        });
        Ok(Arc::clone(self.authority.get_or_init(|| authority)))
    }
}
