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
    client: Option<u64>,
}

impl Counts {
    /// Counts a connection, unless that is one too many in all or for its client, where that is known. The map is bounded by
    /// the number of connections.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<ClientNet>,
        most: usize,
        most_per_client: usize,
    ) -> Option<Counted> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut counted = Counted {
            counts: Arc::clone(self),
            client: None,
        };
        let room = client.is_none_or(|client| counted.assign(client, most_per_client));
        room.then_some(counted)
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

impl Counted {
    /// Counts the connection for this client, from now on; false when that is one too many.
    pub fn assign(&mut self, client: ClientNet, most: usize) -> bool {
        self.leave();
        let client = client.bits();
        let mut map = self.counts.shard(client);
        let count = map.entry(client).or_insert(0);
        if *count >= most {
            return false;
        }
        *count += 1;
        drop(map);
        self.client = Some(client);
        true
    }

    fn leave(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let mut map = self.counts.shard(client);
        if let Some(count) = map.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                map.remove(&client);
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.leave();
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
        let one = counts.enter(Some(a), 3, 2).unwrap();
        let _two = counts.enter(Some(a), 3, 2).unwrap();
        assert!(
            counts.enter(Some(a), 3, 2).is_none(),
            "one too many of this client"
        );
        let _three = counts.enter(Some(b), 3, 2).unwrap();
        assert!(counts.enter(Some(b), 3, 2).is_none(), "one too many in all");
        drop(one);
        assert!(counts.enter(Some(b), 3, 2).is_some());
    }

    #[test]
    fn a_client_that_is_known_later_counts_from_then_on() {
        let counts = Arc::new(Counts::default());
        let a = ClientNet::of("10.0.0.1".parse().unwrap());
        let mut list: Vec<_> = (0..3).map(|_| counts.enter(None, 3, 1).unwrap()).collect();
        assert!(counts.enter(None, 3, 1).is_none(), "one too many in all");
        assert!(list[0].assign(a, 1));
        assert!(!list[1].assign(a, 1), "one too many of this client");
        list.remove(0);
        assert!(list[0].assign(a, 1));
        drop(list);
        assert_eq!(counts.all(), 0);
        assert!(counts.clients.iter().all(|m| m.lock().unwrap().is_empty()));
    }
}
