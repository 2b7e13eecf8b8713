//! Sessions that another process of ours goes on with: ages instead of moments, hashes instead of ids. What begins or ends afterwards
//! is told in its order, each thing once, so that nothing that has ended comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::super::session_id;
use super::super::users::Users;
use super::{Index, Origin, Session, Sessions, lock, read};
use crate::auth::cache::Key;

/// What may wait to be told. Whoever falls behind by so much has lost track.
const MOST_UNTOLD: usize = 1 << 16;

/// A session as it is told to another process. It opens nothing: the browser alone has the id.
///
/// One with a field that we do not know is not read: that may be what limits it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    key: String,
    user: String,
    /// Of the stored hash, which has to be the same there.
    stored: String,
    origin: Origin,
    /// Milliseconds since the login, and since the last use.
    age: u64,
    idle: u64,
}

/// What has happened to the sessions of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// One has begun.
    Began(Carried),
    /// Somebody has ended the one of this key. Those that time or want of room end are not told: they may be in use at the other.
    Ended(String),
}

/// Everything that happens from the begin on. `None` from the channel: it was not read, and something is missing.
pub type Changes = mpsc::Receiver<Change>;

impl Sessions {
    /// What begins and ends from now on.
    pub fn follow(&self) -> Changes {
        followed(&mut lock(&self.index))
    }

    /// All there are, and what begins and ends from then on: nothing is missing between the two.
    pub fn carry(&self, now: Instant) -> (Vec<Carried>, Changes) {
        let at = self.millis(now);
        let mut index = lock(&self.index);
        let changes = followed(&mut index);
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = read(shard);
            let timely = shard.iter().filter(|(_, s)| self.is_timely(s, at));
            all.extend(timely.map(|(key, session)| session.carried(key, at)));
        }
        drop(index);
        (all, changes)
    }

    /// Goes on with a session of another process, within the bounds of ours. False when it is here, over, or nobody's.
    pub fn adopt(&self, carried: &Carried, users: &Users, now: Instant) -> bool {
        let (Some(key), Some(stored)) = (
            session_id::read(&carried.key),
            session_id::read(&carried.stored),
        ) else {
            return false;
        };
        let Some(user) = users.find(&carried.user) else {
            return false;
        };
        let at = self.millis(now);
        let (opened, used) = (
            at.saturating_sub(carried.age),
            at.saturating_sub(carried.idle),
        );
        let mut index = lock(&self.index);
        let session = Session {
            user: index.name(user.name()),
            stored: user.fingerprint(),
            origin: carried.origin,
            opened,
            used: AtomicU64::new(used),
            passed: Default::default(),
        };
        let is_good = session.stored.0 == stored.0 && self.is_timely(&session, at);
        if !is_good || self.session(&key).is_some() {
            return false;
        }
        self.make_room(&mut index, user.name(), carried.origin, at);
        self.put(&mut index, key, session);
        true
    }

    /// Ends the session of a key as it was told.
    pub fn close_carried(&self, key: &str) -> bool {
        session_id::read(key).is_some_and(|key| self.close_key(&key))
    }

    /// Ends all: nobody knows which of them are over elsewhere.
    pub fn close_all(&self) -> usize {
        let mut index = lock(&self.index);
        let keys = self.keys(|_| true);
        let closed = keys.iter().filter(|key| self.end(&mut index, key));
        let closed = closed.count();
        drop(index);
        self.tell(closed);
        closed
    }
}

impl Session {
    pub(super) fn carried(&self, key: &Key, at: u64) -> Carried {
        Carried {
            key: session_id::text(key),
            user: self.user.to_string(),
            stored: session_id::text(&Key(self.stored.0)),
            origin: self.origin,
            age: at.saturating_sub(self.opened),
            idle: at.saturating_sub(self.used.load(Ordering::Relaxed)),
        }
    }
}

impl Index {
    /// The name, kept once for all sessions of a user.
    pub(super) fn name(&self, user: &str) -> Arc<str> {
        let known = self.keys.get_key_value(user);
        known.map_or_else(|| Arc::from(user), |(name, _)| Arc::clone(name))
    }

    /// Tells those who follow. Never waits; whoever has lost track hears no more.
    pub(super) fn tell(&mut self, change: impl FnOnce() -> Change) {
        if !self.told.is_empty() {
            let change = change();
            self.told
                .retain(|follower| follower.try_send(change.clone()).is_ok());
        }
    }

    /// One is over here alone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.told.retain(|follower| !follower.is_closed());
        if self.told.is_empty() {
            self.forgotten = HashSet::new();
        } else if self.forgotten.len() < MOST_UNTOLD {
            self.forgotten.insert(*key);
        } else {
            self.tell(|| Change::Ended(session_id::text(key)));
        }
    }

    /// Somebody ends one that was over here already.
    pub(super) fn tell_forgotten(&mut self, key: &Key) {
        if self.forgotten.remove(key) {
            self.tell(|| Change::Ended(session_id::text(key)));
        }
    }
}

fn followed(index: &mut Index) -> Changes {
    let (told, changes) = mpsc::channel(MOST_UNTOLD);
    index.told.retain(|follower| !follower.is_closed());
    index.told.push(told);
    changes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::SessionSettings;
    use super::*;

    const A: &str = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";
    const B: &str = "$5$abcd$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D";
    const HOUR: Duration = Duration::from_secs(3600);

    fn users(text: &str) -> Users {
        Users::parse(text.as_bytes()).unwrap().users
    }

    fn told(carried: &impl Serialize) -> Carried {
        serde_json::from_str(&serde_json::to_string(carried).unwrap()).unwrap()
    }

    #[test]
    fn another_process_goes_on_where_this_one_was() {
        let (users, now) = (users(&format!("alice:{A}")), Instant::now());
        let old = Sessions::new(SessionSettings::default(), now);
        let opened = old.open(users.find("alice").unwrap(), Origin::Basic, now);
        assert!(old.use_it(&users, &opened.key, now + HOUR).is_some());
        let later = now + HOUR * 2;
        let (all, _changes) = old.carry(later);
        assert_eq!(all.len(), 1);
        assert!(
            !serde_json::to_string(&all)
                .unwrap()
                .contains(opened.id.expose())
        );
        let new = Sessions::new(SessionSettings::default(), later);
        assert!(new.adopt(&told(&all[0]), &users, later));
        assert!(!new.adopt(&all[0], &users, later), "once");
        let found = new.lookup(&users, opened.id.expose(), later).unwrap();
        assert_eq!((found.user.name(), found.origin), ("alice", Origin::Basic));
        assert_eq!(found.until, Some(later + HOUR * 2), "used just now");
        for hours in (3..12).step_by(1) {
            assert!(
                new.lookup(&users, opened.id.expose(), now + HOUR * hours)
                    .is_some()
            );
        }
        assert!(
            new.lookup(&users, opened.id.expose(), now + HOUR * 12)
                .is_none(),
            "as old as before"
        );
    }

    #[test]
    fn what_is_over_or_nobodys_is_not_taken() {
        let (before, now) = (users(&format!("alice:{A}\nbob:{A}")), Instant::now());
        let old = Sessions::new(SessionSettings::default(), now);
        for name in ["alice", "bob"] {
            let _ = old.open(before.find(name).unwrap(), Origin::Login, now);
        }
        let (all, _changes) = old.carry(now);
        let new = Sessions::new(SessionSettings::default(), now);
        for text in [format!("alice:{B}"), format!("carol:{A}")] {
            assert!(
                !all.iter().any(|one| new.adopt(one, &users(&text), now)),
                "{text}"
            );
        }
        for wrong in ["", "x", &"=".repeat(43)] {
            let one = Carried {
                key: wrong.into(),
                ..all[0].clone()
            };
            assert!(!new.adopt(&one, &before, now), "{wrong}");
        }
        let one = Carried {
            idle: 2 * 3_600_000,
            ..all[0].clone()
        };
        assert!(!new.adopt(&one, &before, now), "idle for too long");
        let one = Carried {
            age: u64::MAX,
            ..all[0].clone()
        };
        assert!(!new.adopt(&one, &before, now), "older than any");
        assert!(new.is_empty());
        assert!(old.carry(now + HOUR * 2).0.is_empty(), "nor is it told");
    }

    #[test]
    fn what_ends_is_told_and_does_not_come_back() {
        let (users, now) = (users(&format!("alice:{A}")), Instant::now());
        let [old, new] = [0, 1].map(|_| Sessions::new(SessionSettings::default(), now));
        let open = |at: &Sessions| at.open(users.find("alice").unwrap(), Origin::Login, now);
        let one = open(&old);
        let (all, mut changes) = old.carry(now);
        let mut back = new.follow();
        assert!(new.adopt(&all[0], &users, now));
        let two = open(&old);
        assert!(old.close(one.id.expose()));
        for _ in 0..2 {
            match changes.try_recv().unwrap() {
                Change::Began(carried) => assert!(new.adopt(&carried, &users, now)),
                Change::Ended(key) => assert!(new.close_carried(&key)),
            }
        }
        let live = |at: &Sessions, key| at.look(&users, key, now).is_some();
        assert!(!live(&new, &one.key) && live(&new, &two.key));
        assert!(new.close(two.id.expose()));
        let mut ended = Vec::new();
        while let Ok(Change::Ended(key)) = back.try_recv() {
            ended.push(key);
        }
        assert_eq!(ended.len(), 2);
        assert_eq!(ended.iter().filter(|key| old.close_carried(key)).count(), 1);
        assert!(!live(&old, &two.key));
        assert!(
            matches!(changes.try_recv(), Ok(Change::Ended(_))),
            "which the other one knows"
        );
        assert!(
            changes.try_recv().is_err() && back.try_recv().is_err(),
            "and says no more"
        );
    }

    #[test]
    fn what_time_or_want_of_room_end_goes_on_at_the_other_until_somebody_ends_it() {
        let (both, now) = (users(&format!("alice:{A}\nbob:{A}")), Instant::now());
        let settings = SessionSettings {
            per_user: 2,
            ..SessionSettings::default()
        };
        let old = Sessions::new(settings, now);
        let open = |name, at| old.open(both.find(name).unwrap(), Origin::Login, at);
        let (idle, later) = (open("alice", now), now + HOUR * 3);
        let mut changes = old.follow();
        assert_eq!(old.sweep(&both, later), 1);
        assert!(changes.try_recv().is_err(), "its time is over, here");
        let crowd = [0, 1, 2, 3].map(|n| open("bob", later + HOUR / 60 * n));
        for one in &crowd {
            let told = changes.try_recv();
            let key = session_id::text(&one.key);
            assert!(matches!(told, Ok(Change::Began(one)) if one.key == key));
        }
        assert!(changes.try_recv().is_err(), "pushed out, here");
        assert_eq!(old.len(), 2);
        for over in [&idle, &crowd[0]] {
            let ended = Change::Ended(session_id::text(&over.key));
            assert!(!old.close(over.id.expose()));
            assert_eq!(changes.try_recv(), Ok(ended), "logged out");
            assert!(!old.close(over.id.expose()));
            assert!(changes.try_recv().is_err(), "once");
        }
        assert!(!old.close_carried(&"A".repeat(43)));
        assert!(changes.try_recv().is_err(), "nobody's");
        let alone = users(&format!("alice:{A}"));
        assert_eq!(old.sweep(&alone, later), 2);
        for _ in 0..2 {
            assert!(
                matches!(changes.try_recv(), Ok(Change::Ended(_))),
                "withdrawn"
            );
        }
    }

    #[test]
    fn whoever_loses_track_hears_so_and_the_bounds_hold() {
        let (users, now) = (users(&format!("alice:{A}")), Instant::now());
        let settings = SessionSettings {
            per_user: 4,
            ..SessionSettings::default()
        };
        let old = Sessions::new(SessionSettings::default(), now);
        let mut changes = old.follow();
        for _ in 0..=MOST_UNTOLD {
            let opened = old.open(users.find("alice").unwrap(), Origin::Login, now);
            if changes.is_closed() {
                break;
            }
            old.close_key(&opened.key);
        }
        let mut heard = 0;
        while changes.try_recv().is_ok() {
            heard += 1;
        }
        assert_eq!(heard, MOST_UNTOLD);
        assert_eq!(
            changes.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        );
        let new = Sessions::new(settings, now);
        for _ in 0..9 {
            let _ = old.open(users.find("alice").unwrap(), Origin::Login, now);
        }
        let taken = old
            .carry(now)
            .0
            .iter()
            .filter(|one| new.adopt(one, &users, now))
            .count();
        assert!(taken >= 9 && new.len() == 4, "{taken} {}", new.len());
        assert_eq!((new.close_all(), new.len()), (4, 0));
    }
}
