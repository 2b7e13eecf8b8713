//! How many connections there are, in all and per client network. Shared by all data threads; touched once per connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::client_net::ClientNet;

/// The counters. One shard lock per connection, held for a map look-up.
#[derive(Debug, Default)]
pub struct Counts {
    all: AtomicUsize,
    clients: [Mutex<HashMap<u64, usize>>; 16],
}

/// One counted connection.
#[derive(Debug)]
pub struct Counted {
    counts: Arc<Counts>,
    client: u64,
}

impl Counts {
    /// Counts a connection, unless that is one too many. The map is bounded by the number of connections.
    pub fn enter(
        self: &Arc<Self>,
        client: ClientNet,
        most: usize,
        most_per_client: usize,
    ) -> Option<Counted> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let client = client.bits();
        let mut map = self.shard(client);
        let count = map.entry(client).or_insert(0);
        if *count >= most_per_client {
            drop(map);
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        drop(map);
        Some(Counted {
            counts: Arc::clone(self),
            client,
        })
    }

    /// How many connections there are.
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    fn shard(&self, client: u64) -> std::sync::MutexGuard<'_, HashMap<u64, usize>> {
        let at = (client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize;
        self.clients[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut map = self.counts.shard(self.client);
        if let Some(count) = map.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.client);
            }
        }
        drop(map);
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_all_and_per_client() {
        let counts = Arc::new(Counts::default());
        let (a, b) = (
            ClientNet::of("10.0.0.1".parse().unwrap()),
            ClientNet::of("10.0.0.2".parse().unwrap()),
        );
        let one = counts.enter(a, 3, 2).unwrap();
        let _two = counts.enter(a, 3, 2).unwrap();
        assert!(
            counts.enter(a, 3, 2).is_none(),
            "one too many of this client"
        );
        let _three = counts.enter(b, 3, 2).unwrap();
        assert!(counts.enter(b, 3, 2).is_none(), "one too many in all");
        drop(one);
        assert!(counts.enter(b, 3, 2).is_some());
    }
}
