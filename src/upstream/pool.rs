//! Idle upstream connections of one data thread: the youngest is used first, and none is used that might be dead where
//! a request could not be sent again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::dial::proven;
use super::open::{Bounds, Link, Open};
use crate::access::Permit;
use crate::base::refusal::Refusal;
use crate::net::Wire;

/// Idle connections kept per upstream and thread; more are closed.
const KEPT: usize = 256;
/// A connection that was idle for longer is closed: most servers close theirs after 5 to 75 seconds.
const IDLE: Duration = Duration::from_secs(60);
/// Idle connections that one sweep asks the kernel about, so that it takes no longer than about a millisecond.
const LOOKS: usize = 1024;
/// A request that cannot be sent again takes only a connection that was used this short a time ago.
const WARM: Duration = Duration::from_secs(1);

/// The pool of one data thread.
#[derive(Debug)]
pub struct Pool {
    open: Arc<Open>,
    idle: RefCell<BTreeMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    wire: Link,
    since: Instant,
}

/// A connection to the upstream for one request.
#[derive(Debug)]
pub struct Lease {
    /// The connection.
    pub wire: Link,
    /// Whether it carried another request before, so that it may prove dead.
    pub reused: bool,
}

impl Pool {
    /// An empty pool; what it opens counts there.
    pub fn new(open: Arc<Open>) -> Self {
        Self {
            open,
            idle: RefCell::default(),
        }
    }

    /// A connection for the permitted request: pooled, else dialled. `again` tells whether the request could be sent twice.
    /// There is no way here without a permit.
    pub async fn lease(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        again: bool,
        bounds: Bounds,
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
        self.fresh(_permit, upstream, bounds).await
    }

    /// A new connection, for a request whose pooled one proved dead.
    pub async fn fresh(
        &self,
        _permit: &Permit,
        upstream: &Upstream,
        bounds: Bounds,
    ) -> Result<Lease, Refusal> {
        let place = self.open.room(upstream, bounds, || self.shed()).await?;
        // Boxed: the rare branch must not make the future of every request larger.
        let wire = Wire::new(Box::pin(proven(upstream, bounds.connect)).await?);
        Ok(Lease {
            wire: Link::new(wire, place),
            reused: false,
        })
    }

    /// Closes one idle connection, whatever it leads to; false when there is none.
    fn shed(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.values_mut().any(|list| list.pop().is_some())
    }

    fn pop(&self, id: u64) -> Option<Idle> {
        self.idle.borrow_mut().get_mut(&id)?.pop()
    }

    /// Takes a connection back whose answer was read to its end and whose request was sent to its end.
    pub fn give(&self, upstream: &Upstream, wire: Link) {
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

    /// Closes every idle connection: somebody has found no room for one.
    pub fn give_way(&self) {
        self.idle.borrow_mut().clear();
        self.open.gave_way();
    }

    /// Closes what was idle for too long, whose service has closed it, or whose service is not there any more.
    pub fn sweep(&self, is_there: impl Fn(u64) -> bool) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|id, _| is_there(*id));
        let mut looks = LOOKS;
        for list in idle.values_mut() {
            list.retain(|i| {
                let is_asked = looks > 0;
                looks -= usize::from(is_asked);
                i.since.elapsed() < IDLE && (!is_asked || i.wire.is_silent())
            });
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
