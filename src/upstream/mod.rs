//! A permitted request to a loopback address: dialling and the pool of one data thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::Notify;

use crate::base::loopback::{Scheme, Target};
use crate::base::refusal::Refusal;
use crate::tls::upstream_client;

use looks::Seen;
use turns::Turns;

mod ask;
mod dial;
pub mod first_seen;
mod h2c;
mod looks;
mod names;
mod open;
mod pin;
mod pool;
mod turns;

pub use ask::{Answer, ask};
pub use dial::STRANGER;
pub use h2c::H2cPool;
pub use looks::{Begun, Looks};
pub use names::{NameRefused, name_refused, refuses};
pub use open::{Bounds, Link, Open};
pub use pin::{FirstSeen, News, Pin, Trust};
pub use pool::{Lease, Pool};

/// A compiled upstream. One value for as long as its text stays the same, reloads included.
pub struct Upstream {
    id: u64,
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    pin: Pin,
    host: String,
    refuses_exposed: bool,
    seen: Seen,
    /// Connections to it.
    open: Arc<AtomicUsize>,
    turns: Turns,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.target)
    }
}

impl Upstream {
    /// Makes an upstream. Where the target is `https` its certificate is judged by `trust`, and `news` is told what came of it.
    /// `refuses_exposed`: it is not served while it can be reached around the gate.
    pub fn new(
        target: Target,
        (trust, news): (Trust, &Arc<Notify>),
        refuses_exposed: bool,
        looks: &Arc<Looks>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tls = (target.scheme == Scheme::Https).then(upstream_client);
        let host = match (target.address.port(), target.address.sockets().next()) {
            (Some(port), Some(address)) if address.is_ipv6() => format!("[::1]:{port}"),
            (Some(port), _) => format!("localhost:{port}"),
            (None, _) => "localhost".to_owned(),
        };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target,
            tls,
            pin: Pin::new(trust, news),
            host,
            refuses_exposed,
            seen: Seen::new(looks),
            open: Arc::default(),
            turns: Turns::default(),
        }
    }

    /// Tells it from others, those of other plans too.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The target as it was written.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Which certificate it may have, and which ones came; only an `https` service is asked for one.
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Whether it takes a connection within `limit`. The connection is closed at once and nothing is asked by it, so it needs no
    /// `Permit`.
    pub async fn answers(&self, limit: Duration) -> Result<(), Refusal> {
        dial::dial(self, limit).await.map(drop)
    }

    /// What is spoken to it.
    pub fn scheme(&self) -> Scheme {
        self.target.scheme
    }

    /// The `Host` that the service knows itself by (`host_header = "upstream"`).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The origin that the service knows itself by.
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }
}
