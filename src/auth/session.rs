//! Who has logged in: a bounded table on our side; the browser holds an opaque id, and the table only its hash, so a
//! dump of the table opens nothing. A session ends with its time, with its user, and with the user's stored hash.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::cache::{Key, Own};
use super::password::Fingerprint;
use super::session_id;
use super::users::{User, Users};
use crate::base::secret::Secret;

mod carry;
mod list;
mod room;

pub use carry::{Carried, Change, Changes};
pub use list::Listed;

const SHARDS: usize = 64;
/// Our clock in milliseconds begins here, so that sessions of the process before us have room before it.
const BEGINNING: u64 = 1 << 50;
/// A use is written down when the last one is older: most requests only read.
const TOUCH: u64 = 1_000;
/// Credentials of applications under a user's own name.
const MOST_PASSED: usize = 8;

/// How long sessions live and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// From the login on, whatever happens.
    pub lifetime: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Of one user and one origin; the one idle for longest ends when another begins.
    pub per_user: usize,
    /// In all; when full, the 64th part that is idle for longest ends.
    pub most: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(12 * 3600),
            idle: Duration::from_secs(2 * 3600),
            per_user: 32,
            most: 65_536,
        }
    }
}

/// What a session began with. Those of clients that send Basic and drop cookies never push out those of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The login page.
    Login,
    /// Basic credentials.
    Basic,
}

/// All sessions of the process; they outlive reloads.
pub struct Sessions {
    per_user: usize,
    most: usize,
    /// Milliseconds; a reload may change both.
    lifetime: AtomicU64,
    idle: AtomicU64,
    shards: Vec<RwLock<Shard>>,
    /// Who has which; taken by those who open and close, never by those who look up.
    index: Mutex<Index>,
    count: AtomicUsize,
    began: Instant,
    ended: watch::Sender<u64>,
    endings: AtomicU64,
}

type Shard = HashMap<Key, Arc<Session>, BuildHasherDefault<Own>>;

struct Session {
    user: Arc<str>,
    stored: Fingerprint,
    origin: Origin,
    /// Milliseconds since the table began.
    opened: u64,
    used: AtomicU64,
    /// Credentials of the application under the user's own name; see [`Sessions::may_pass`].
    passed: Mutex<Vec<u64>>,
}

/// A session that is alive.
#[derive(Clone, Copy, Debug)]
pub struct Found<'u> {
    /// Whose it is.
    pub user: &'u User,
    /// What it began with.
    pub origin: Origin,
    /// For [`Sessions::look`], without the id being kept.
    pub key: Key,
    /// When it ends if nobody uses it; `None` for never.
    pub until: Option<Instant>,
}

/// A session that has just begun.
#[derive(Debug)]
pub struct Opened {
    /// For the cookie; nobody can make it again.
    pub id: Secret<String>,
    /// For [`Sessions::look`].
    pub key: Key,
}

impl Sessions {
    /// An empty table.
    pub fn new(settings: SessionSettings, now: Instant) -> Self {
        Self {
            per_user: settings.per_user.max(1),
            most: settings.most.max(64),
            lifetime: AtomicU64::new(span(settings.lifetime)),
            idle: AtomicU64::new(span(settings.idle)),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            index: Mutex::default(),
            count: AtomicUsize::new(0),
            began: now,
            ended: watch::Sender::new(0),
            endings: AtomicU64::new(0),
        }
    }

    /// Other times, for the sessions that there are too. How many there may be stays as it is.
    pub fn configure(&self, settings: SessionSettings) {
        self.lifetime
            .store(span(settings.lifetime), Ordering::Relaxed);
        self.idle.store(span(settings.idle), Ordering::Relaxed);
    }

    /// Begins a session for a user who has just proven who he is. Always a new id, whatever the browser sent.
    pub fn open(&self, user: &User, origin: Origin, now: Instant) -> Opened {
        let (id, key) = session_id::fresh();
        let at = self.millis(now);
        let mut index = lock(&self.index);
        self.make_room(&mut index, user.name(), origin, at);
        let session = Session {
            user: index.name(user.name()),
            stored: user.fingerprint(),
            origin,
            opened: at,
            used: AtomicU64::new(at),
            passed: Mutex::default(),
        };
        index.tell(|| Change::Began(session.carried(&key, at)));
        self.put(&mut index, key, session);
        Opened { id, key }
    }

    /// The live session of an id as it came in a cookie, and counts as its use. The path of almost every request.
    pub fn lookup<'u>(&self, users: &'u Users, id: &str, now: Instant) -> Option<Found<'u>> {
        self.use_it(users, &session_id::key_of(id)?, now)
    }

    /// The same by its key, for a stream that carries something. It is used as long as bytes pass, whoever sends them.
    pub fn use_it<'u>(&self, users: &'u Users, key: &Key, now: Instant) -> Option<Found<'u>> {
        let at = self.millis(now);
        let shard = read(self.shard(key));
        let (session, user) = self.alive(&shard, users, key, at)?;
        if at.saturating_sub(session.used.load(Ordering::Relaxed)) >= TOUCH {
            session.used.store(at, Ordering::Relaxed);
        }
        Some(self.found(session, user, key))
    }

    /// The session, if it is alive, for a stream that goes on. To look is no use.
    pub fn look<'u>(&self, users: &'u Users, key: &Key, now: Instant) -> Option<Found<'u>> {
        let shard = read(self.shard(key));
        let (session, user) = self.alive(&shard, users, key, self.millis(now))?;
        Some(self.found(session, user, key))
    }

    /// Whether a credential under the user's own name, beside the session, may pass on to the application. The first few do,
    /// again and again; then no other one: whether it passes tells whether it is the user's password here, and nobody may
    /// find that out by trying.
    pub fn may_pass(&self, key: &Key, credential: u64) -> bool {
        let Some(session) = self.session(key) else {
            return false;
        };
        let mut passed = lock(&session.passed);
        let is_known = passed.contains(&credential);
        if !is_known && passed.len() < MOST_PASSED {
            passed.push(credential);
            return true;
        }
        is_known
    }

    /// How many sessions have ended so far, by whatever means. It has moved before the one that ends a session is told so.
    pub fn endings(&self) -> u64 {
        self.endings.load(Ordering::Acquire)
    }

    /// Ends the session of an id. Says whether there was one.
    pub fn close(&self, id: &str) -> bool {
        session_id::key_of(id).is_some_and(|key| self.close_key(&key))
    }

    /// Ends one session by its key.
    pub fn close_key(&self, key: &Key) -> bool {
        let mut index = lock(&self.index);
        let closed = self.end(&mut index, key);
        if !closed {
            index.tell_forgotten(key);
        }
        drop(index);
        self.tell(usize::from(closed));
        closed
    }

    /// Ends all sessions of a user; returns how many.
    pub fn close_user(&self, user: &str) -> usize {
        let mut index = lock(&self.index);
        let keys = index.keys.get(user).cloned().unwrap_or_default();
        let closed = keys.iter().filter(|key| self.end(&mut index, key)).count();
        drop(index);
        self.tell(closed);
        closed
    }

    /// Drops what has ended by itself: time, a removed user, a changed password. For a chore and for reloads.
    pub fn sweep(&self, users: &Users, now: Instant) -> usize {
        let at = self.millis(now);
        let mut index = lock(&self.index);
        // The other process judges time by itself: it may be in use there.
        let over = self.keys(|session| !self.is_timely(session, at));
        let over = over.iter().filter(|key| self.remove(&mut index, key));
        let mut swept = over.count();
        let withdrawn = self.keys(|session| !self.is_good(session, users, at));
        let withdrawn = withdrawn.iter().filter(|key| self.end(&mut index, key));
        swept += withdrawn.count();
        drop(index);
        self.tell(swept);
        swept
    }

    /// How many there are, ended ones that were not swept yet included.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes whenever sessions are ended before their time: streams ask [`Sessions::look`] then.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Has streams ask again: something else that one of them rests on has ended.
    pub fn stir(&self) {
        self.tell(1);
    }

    fn alive<'s, 'u>(
        &self,
        shard: &'s Shard,
        users: &'u Users,
        key: &Key,
        at: u64,
    ) -> Option<(&'s Session, &'u User)> {
        let session = shard.get(key)?;
        let user = users.find(&session.user)?;
        let is_good = self.is_timely(session, at) && user.fingerprint() == session.stored;
        is_good.then_some((session, user))
    }

    fn found<'u>(&self, session: &Session, user: &'u User, key: &Key) -> Found<'u> {
        Found {
            user,
            origin: session.origin,
            key: *key,
            until: self.until(session),
        }
    }

    fn until(&self, session: &Session) -> Option<Instant> {
        let end = |since: u64, limit: &AtomicU64| {
            let end = since.saturating_add(limit.load(Ordering::Relaxed));
            let end = end.saturating_sub(BEGINNING);
            self.began.checked_add(Duration::from_millis(end))
        };
        let ends = [
            end(session.opened, &self.lifetime),
            end(session.used.load(Ordering::Relaxed), &self.idle),
        ];
        ends.into_iter().flatten().min()
    }

    fn is_timely(&self, session: &Session, at: u64) -> bool {
        let within = |since: u64, limit: &AtomicU64| {
            at.saturating_sub(since) < limit.load(Ordering::Relaxed)
        };
        within(session.opened, &self.lifetime)
            && within(session.used.load(Ordering::Relaxed), &self.idle)
    }

    fn is_good(&self, session: &Session, users: &Users, at: u64) -> bool {
        let user = users.find(&session.user);
        self.is_timely(session, at) && user.is_some_and(|user| user.fingerprint() == session.stored)
    }

    fn keys(&self, wanted: impl Fn(&Session) -> bool) -> Vec<Key> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            let shard = read(shard);
            keys.extend(shard.iter().filter(|(_, s)| wanted(s)).map(|(key, _)| *key));
        }
        keys
    }

    fn put(&self, index: &mut Index, key: Key, session: Session) {
        let keys = index.keys.entry(Arc::clone(&session.user));
        keys.or_default().push(key);
        self.write(&key).insert(key, Arc::new(session));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn tell(&self, ended: usize) {
        if ended > 0 {
            self.ended.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    fn session(&self, key: &Key) -> Option<Arc<Session>> {
        read(self.shard(key)).get(key).cloned()
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        &self.shards[usize::from(key.0[31]) % SHARDS]
    }

    fn write(&self, key: &Key) -> RwLockWriteGuard<'_, Shard> {
        self.shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        BEGINNING + now.saturating_duration_since(self.began).as_millis() as u64
    }
}

/// In milliseconds.
fn span(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Index {
    keys: HashMap<Arc<str>, Vec<Key>>,
    /// Other processes that go on with what is here.
    told: Vec<mpsc::Sender<Change>>,
    /// What is over here and may go on there: a logout reaches it all the same.
    forgotten: HashSet<Key>,
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
