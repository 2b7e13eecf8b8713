//! Session tickets: what lets a client come back without a full handshake, on whichever core it lands.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

/// The keys that session tickets are sealed with: made once for the process, kept in memory only, changed every six hours,
/// shared by all threads, listeners and reloads.
///
/// A resumed session is not asked for its client certificate again: what it gave at first travels in the ticket, and is judged
/// at every request like any other. A listener that asks for certificates takes `Tickets` of its own all the same, and new ones
/// when the authority that it believes changes, so that no client goes on without a certificate that it was never asked for.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Panics
    /// When the system has no randomness to give: nothing that follows could be trusted.
    pub fn new() -> Self {
        Self(Ticketer::new().expect("the system's random generator works"))
    }

    pub(super) fn ticketer(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.0)
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}
