//! Credentials that were right a moment ago. Only their keyed hashes are here, so a dump of it opens nothing.
//! Read on every request without a lock: a shard is replaced whole, which happens once per password hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

/// 32 bytes that name a credential or a session: an HMAC or a hash, never a secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

/// A key is a hash: its own bytes are as good as any hash of them, and nobody outside can choose them.
#[derive(Default)]
pub(super) struct Own(u64);

impl Hasher for Own {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (i, byte) in bytes.iter().take(8).enumerate() {
            self.0 |= u64::from(*byte) << (8 * i);
        }
    }
}

type Shard = HashMap<Key, Instant, BuildHasherDefault<Own>>;

const SHARDS: usize = 32;

/// A bounded set of keys, each with the moment at which it stops counting.
pub struct Cache {
    shards: Vec<ArcSwap<Shard>>,
    per_shard: usize,
}

impl Cache {
    /// A cache of about `entries` keys, at least one in each of its 32 parts.
    pub fn new(entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            per_shard: entries.div_ceil(SHARDS).max(1),
        }
    }

    /// Whether the key is here and its time has not passed.
    pub fn holds(&self, key: &Key, now: Instant) -> bool {
        let shard = self.shard(key).load();
        shard.get(key).is_some_and(|until| *until > now)
    }

    /// Remembers the key until then. A full part first drops what has passed, then what would pass next.
    pub fn put(&self, key: Key, until: Instant, now: Instant) {
        self.shard(&key).rcu(|old| {
            let mut shard = Shard::clone(old);
            if shard.len() >= self.per_shard && !shard.contains_key(&key) {
                shard.retain(|_, until| *until > now);
            }
            if shard.len() >= self.per_shard
                && !shard.contains_key(&key)
                && let Some(next) = shard.iter().min_by_key(|(_, until)| **until)
            {
                let next = *next.0;
                shard.remove(&next);
            }
            shard.insert(key, until);
            Arc::new(shard)
        });
    }

    /// How many keys are here, passed ones included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// Whether no key is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard.store(Arc::default());
        }
    }

    /// By another byte than those that order the map within the shard.
    fn shard(&self, key: &Key) -> &ArcSwap<Shard> {
        &self.shards[usize::from(key.0[31]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn holds_a_key_until_its_time_has_passed() {
        let (cache, now) = (Cache::new(100), Instant::now());
        let key = Key([7; 32]);
        assert!(!cache.holds(&key, now));
        cache.put(key, now + Duration::from_secs(5), now);
        assert!(cache.holds(&key, now + Duration::from_secs(4)));
        assert!(!cache.holds(&key, now + Duration::from_secs(5)));
        assert!(!cache.holds(&Key([8; 32]), now));
        cache.clear();
        assert!(!cache.holds(&key, now) && cache.is_empty());
    }

    #[test]
    fn a_full_part_drops_what_would_pass_next() {
        let (cache, now) = (Cache::new(1), Instant::now());
        let key = |n: u8| Key(std::array::from_fn(|i| if i == 31 { 0 } else { n }));
        for n in 1..=3 {
            cache.put(key(n), now + Duration::from_secs(n.into()), now);
        }
        assert_eq!(cache.len(), 1);
        assert!(cache.holds(&key(3), now) && !cache.holds(&key(1), now));
    }
}
