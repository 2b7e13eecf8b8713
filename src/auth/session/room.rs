//! How a session ends: by somebody, by time, or because another one begins and the table has to stay within its bounds.

use std::sync::atomic::Ordering;

use super::super::session_id;
use super::{Change, Index, Origin, Sessions, read};
use crate::auth::cache::Key;

impl Sessions {
    /// Ends what a new session of the user has to end for the bounds to hold.
    pub(super) fn make_room(&self, index: &mut Index, user: &str, origin: Origin, at: u64) {
        let own = index.keys.get(user).cloned().unwrap_or_default();
        let mut live = Vec::new();
        for key in own {
            match self.session(&key).filter(|s| self.is_timely(s, at)) {
                None => _ = self.remove(index, &key),
                Some(s) if s.origin == origin => live.push((s.used.load(Ordering::Relaxed), key)),
                Some(_) => {}
            }
        }
        if live.len() >= self.per_user
            && let Some((_, key)) = live.iter().min_by_key(|(used, _)| *used)
        {
            self.remove(index, key);
            self.tell(1);
        }
        if self.len() < self.most {
            return;
        }
        for key in self.keys(|session| !self.is_timely(session, at)) {
            self.remove(index, &key);
        }
        if self.len() >= self.most {
            self.end_idlest(index, self.most / 64);
        }
    }

    /// Somebody has ended it: it is over in every process.
    pub(super) fn end(&self, index: &mut Index, key: &Key) -> bool {
        let ended = self.take(index, key);
        if ended {
            index.tell(|| Change::Ended(session_id::text(key)));
        }
        ended
    }

    /// Time or want of room have ended it, here.
    pub(super) fn remove(&self, index: &mut Index, key: &Key) -> bool {
        let removed = self.take(index, key);
        if removed {
            index.forget(key);
        }
        removed
    }

    fn take(&self, index: &mut Index, key: &Key) -> bool {
        let Some(session) = self.write(key).remove(key) else {
            return false;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.endings.fetch_add(1, Ordering::Release);
        if let Some(keys) = index.keys.get_mut(&session.user) {
            keys.retain(|k| k != key);
            if keys.is_empty() {
                index.keys.remove(&session.user);
            }
        }
        true
    }

    /// A part at once, so that a full table is not searched at every login.
    fn end_idlest(&self, index: &mut Index, count: usize) {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = read(shard);
            all.extend(
                shard
                    .iter()
                    .map(|(key, s)| (s.used.load(Ordering::Relaxed), *key)),
            );
        }
        let count = count.clamp(1, all.len().max(1));
        if count < all.len() {
            all.select_nth_unstable_by_key(count, |(used, _)| *used);
        }
        for (_, key) in all.iter().take(count) {
            self.remove(index, key);
        }
        self.tell(count);
    }
}
