//! How many connections there are, in all and per client network. Shared by all data threads.
//!
//! A client is counted by what it holds: its connections, and what its HTTP/2 streams hold besides. A connection is good for one
//! exchange with a service at a time; each stream that runs to a service beside another one of its connection counts as one more
//! connection. So HTTP/1.1 pays nothing for a request, and a stream one addition to a counter that only its client's threads touch.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::client_net::ClientNet;

/// The counters. One shard lock per connection, held for a map look-up.
#[derive(Debug, Default)]
pub struct Counts {
    all: AtomicUsize,
    clients: [Mutex<HashMap<u64, Arc<AtomicUsize>>>; 16],
}

/// One counted connection.
#[derive(Debug)]
pub struct Counted {
    counts: Arc<Counts>,
    client: RefCell<Option<(u64, Arc<AtomicUsize>)>>,
    running: Cell<usize>,
}

/// One exchange with a service, counted until it is dropped.
#[derive(Debug)]
pub struct Exchange(Rc<Counted>);

/// Adds one, unless that is more than `most`.
fn take(count: &AtomicUsize, most: usize) -> bool {
    let has_room = count.fetch_add(1, Ordering::Relaxed) < most;
    if !has_room {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    has_room
}

impl Counts {
    /// Counts a connection, unless that is one too many in all or for its client, where that is known. The map is bounded by
    /// the number of connections.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<ClientNet>,
        most: usize,
        most_per_client: usize,
    ) -> Option<Rc<Counted>> {
        if !take(&self.all, most) {
            return None;
        }
        let counted = Rc::new(Counted {
            counts: Arc::clone(self),
            client: RefCell::default(),
            running: Cell::new(0),
        });
        let room = client.is_none_or(|client| counted.assign(client, most_per_client));
        room.then_some(counted)
    }

    /// How many connections there are.
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// How much all clients hold, streams included.
    pub fn held(&self) -> usize {
        let shards = self.clients.iter();
        let shards = shards.map(|m| m.lock().unwrap_or_else(PoisonError::into_inner));
        shards
            .map(|map| {
                map.values()
                    .map(|n| n.load(Ordering::Relaxed))
                    .sum::<usize>()
            })
            .sum()
    }

    fn shard(&self, client: u64) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<AtomicUsize>>> {
        let at = (client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize;
        self.clients[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Counts the connection for this client, from now on; false when that is one too many.
    pub fn assign(&self, client: ClientNet, most: usize) -> bool {
        self.leave();
        let client = client.bits();
        let mut map = self.counts.shard(client);
        let held = map.entry(client).or_default();
        let has_room = take(held, most);
        if has_room {
            *self.client.borrow_mut() = Some((client, Arc::clone(held)));
        }
        has_room
    }

    /// An exchange with a service begins on this connection; `None` when it is one too many for its client. Whoever stands for
    /// many clients is not counted.
    pub fn exchange(self: &Rc<Self>, most: usize) -> Option<Exchange> {
        let others = self.running.get();
        if others > 0
            && let Some((_, held)) = &*self.client.borrow()
            && !take(held, most)
        {
            return None;
        }
        self.running.set(others + 1);
        Some(Exchange(Rc::clone(self)))
    }

    fn leave(&self) {
        let Some((client, held)) = self.client.take() else {
            return;
        };
        let mut map = self.counts.shard(client);
        // The last of its client takes the entry with it. Others come and go only while the map is locked.
        if held.fetch_sub(1, Ordering::Relaxed) == 1 {
            map.remove(&client);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let left = self.0.running.get() - 1;
        self.0.running.set(left);
        if left > 0
            && let Some((_, held)) = &*self.0.client.borrow()
        {
            held.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn a_stream_beside_another_one_counts_as_a_connection() {
        let counts = Arc::new(Counts::default());
        let client = ClientNet::of("10.0.0.1".parse().unwrap());
        let (one, two) = (
            counts.enter(Some(client), 99, 4).unwrap(),
            counts.enter(Some(client), 99, 4).unwrap(),
        );
        let first = [one.exchange(4).unwrap(), two.exchange(4).unwrap()];
        assert_eq!(counts.held(), 2, "the first of a connection is its own");
        let mut more = vec![one.exchange(4).unwrap(), one.exchange(4).unwrap()];
        assert!(one.exchange(4).is_none() && two.exchange(4).is_none());
        assert!(counts.enter(Some(client), 99, 4).is_none());
        // Whichever of them ends first.
        drop(first);
        assert_eq!(counts.held(), 3);
        more.push(one.exchange(4).unwrap());
        let proxy = counts.enter(None, 99, 1).unwrap();
        let many: Vec<_> = (0..9).map(|_| proxy.exchange(1).unwrap()).collect();
        // A connection counts as long as one of its streams runs.
        drop((one, two));
        assert_eq!((counts.all(), counts.held()), (2, 3));
        drop((more, many, proxy));
        assert_eq!((counts.all(), counts.held()), (0, 0));
        assert!(counts.clients.iter().all(|m| m.lock().unwrap().is_empty()));
    }
}
