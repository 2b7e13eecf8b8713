//! What ends when another session begins, so that the table stays within its bounds.

use std::sync::atomic::Ordering;

use super::{Index, Origin, Sessions, read};

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
