//! Who is logged in, as a list.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::cache::Key;
use super::{Origin, Sessions, read};

/// One line of a list of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Names the session in [`Sessions::close_key`].
    pub key: Key,
    /// Whose it is.
    pub user: Arc<str>,
    /// What it began with.
    pub origin: Origin,
    /// Since the login.
    pub age: Duration,
    /// Since the last request, to the second.
    pub idle: Duration,
}

impl Sessions {
    /// The sessions of one user, or of all; live ones only as far as time goes.
    pub fn list(&self, user: Option<&str>, now: Instant) -> Vec<Listed> {
        let at = self.millis(now);
        let span = |since: u64| Duration::from_millis(at.saturating_sub(since));
        let mut list = Vec::new();
        for shard in &self.shards {
            for (key, session) in read(shard).iter() {
                if user.is_some_and(|user| *user != *session.user) || !self.is_timely(session, at) {
                    continue;
                }
                list.push(Listed {
                    key: *key,
                    user: Arc::clone(&session.user),
                    origin: session.origin,
                    age: span(session.opened),
                    idle: span(session.used.load(Ordering::Relaxed)),
                });
            }
        }
        list.sort_by_key(|listed| listed.age);
        list
    }
}
