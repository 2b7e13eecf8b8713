//! Idle upstream connections of one data thread: the youngest is used first, and none is used that might be dead where
//! a request could not be sent again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::dial::proven;
use crate::access::Permit;
use crate::base::refusal::Refusal;
use crate::net::Wire;

/// Idle connections kept per upstream and thread; more are closed.
const KEPT: usize = 256;
/// A connection that was idle for longer is closed: most servers close theirs after 5 to 75 seconds.
const IDLE: Duration = Duration::from_secs(60);
/// A request that cannot be sent again takes only a connection that was used this short a time ago.
const WARM: Duration = Duration::from_secs(1);

/// The pool of one data thread.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    wire: Wire,
    since: Instant,
}

/// A connection to the upstream for one request.
#[derive(Debug)]
pub struct Lease {
    /// The connection.
    pub wire: Wire,
    /// Whether it carried another request before, so that it may prove dead.
    pub reused: bool,
}

impl Pool {
    /// A connection for the permitted request: pooled, else dialled. `again` tells whether the request could be sent twice.
    /// There is no way here without a permit.
    pub async fn lease(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        again: bool,
        limit: Duration,
    ) -> Result<Lease, Refusal> {
        while let Some(idle) = self.pop(upstream.id) {
            let age = idle.since.elapsed();
            if age < IDLE && (again || age < WARM) && idle.wire.is_quiet().await {
                return Ok(Lease {
                    wire: idle.wire,
                    reused: true,
                });
            }
        }
        self.fresh(_permit, upstream, limit).await
    }

    /// A new connection, for a request whose pooled one proved dead.
    pub async fn fresh(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        limit: Duration,
    ) -> Result<Lease, Refusal> {
        Ok(Lease {
            // Boxed: the rare branch must not make the future of every request larger.
            wire: Wire::new(Box::pin(proven(upstream, limit)).await?),
            reused: false,
        })
    }

    fn pop(&self, id: u64) -> Option<Idle> {
        self.idle.borrow_mut().get_mut(&id)?.pop()
    }

    /// Takes a connection back whose answer was read to its end and whose request was sent to its end.
    pub fn give(&self, upstream: &Upstream, wire: Wire) {
        if !wire.input.borrow().is_empty() {
            return;
        }
        wire.input.borrow_mut().release();
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(upstream.id).or_default();
        if list.len() < KEPT {
            list.push(Idle {
                wire,
                since: Instant::now(),
            });
        }
    }

    /// Closes what was idle for too long; called every few seconds.
    pub fn sweep(&self) {
        let mut idle = self.idle.borrow_mut();
        for list in idle.values_mut() {
            list.retain(|i| i.since.elapsed() < IDLE);
        }
        idle.retain(|_, list| !list.is_empty());
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Whether no connection is idle.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
