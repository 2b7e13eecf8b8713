//! What is counted, where, and for whom: client networks, users, and the pairs of both that have logged in.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::guess::{Together, Way};
use super::rule::{Entry, Rule};
use super::table::Table;
use crate::auth::client_net::ClientNet;
use crate::base::id::random;

/// Our clock begins here, so that what a snapshot tells of the past has room before it.
const BEGINNING: u32 = 1 << 30;
/// How long a user waits between two tries from where he has logged in before and failed too often.
const PAUSE: u32 = 10;
const LONGEST_BAN: u32 = 86_400;
const LONGEST_USER_BAN: u32 = 3600;
const MEMORY: u32 = 86_400;
/// A login is remembered for 30 days.
const TRUST: u32 = 30 * 86_400;
/// What was forgiven last, and is not taken from another process any more.
const MOST_FORGIVEN: usize = 1024;
/// Trusted pairs whose last wrong password is remembered.
const MOST_PAIRS: usize = 1 << 16;

/// When somebody has failed too often, and how much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutSettings {
    /// Wrong guesses that bring a ban, by a client network or against a user.
    pub failures: u8,
    /// Counted from the first of them.
    pub window: Duration,
    /// The first ban; each further one is twice as long, up to a day.
    pub ban: Duration,
    /// Client networks that are remembered; a quarter of it for users and an eighth for pairs.
    pub entries: usize,
}

impl Default for LockoutSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(300),
            ban: Duration::from_secs(900),
            entries: 1 << 20,
        }
    }
}

/// What is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The client's network, for every user that has not logged in from there.
    Client,
    /// The user, from everywhere but where he has logged in.
    User,
    /// The user from one place where he has logged in: a pause of seconds. After a hundred other passwords a ban, for whoever
    /// has neither a session nor an open connection there.
    Pair,
}

/// No guess is listened to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// What is locked.
    pub scope: Scope,
    /// For `Retry-After`.
    pub retry: Duration,
    /// The ban that this very guess brought; worth an event.
    pub ban: Option<Ban>,
}

/// A ban that has just begun; worth an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// What is locked.
    pub scope: Scope,
    /// For how long.
    pub length: Duration,
}

/// Counts failed logins for the whole process; it outlives reloads.
pub struct Lockout {
    pub(super) clients: Table,
    pub(super) users: Table,
    pub(super) pairs: Table,
    pub(super) secret: [u8; 32],
    key: hmac::Key,
    pub(super) under_way: Mutex<HashMap<Way, Together>>,
    /// The last password that was wrong at a trusted pair: a program that repeats an old one is no guesser.
    last_wrong: Mutex<HashMap<u64, u64>>,
    /// What another process counted before it was forgiven here, and when that was: it must not come back ([`Lockout::join`]).
    forgiven: Mutex<VecDeque<(Scope, u64, u32)>>,
    /// Moves on whenever a snapshot would be another one.
    changes: AtomicU64,
    pub(super) began: Instant,
}

impl Lockout {
    /// Nobody has failed yet.
    pub fn new(settings: LockoutSettings, now: Instant) -> Self {
        Self::with_secret(settings, random(), now)
    }

    pub(super) fn with_secret(settings: LockoutSettings, secret: [u8; 32], now: Instant) -> Self {
        let [rule, user, pair] = rules(&settings);
        Self {
            clients: Table::new(settings.entries, rule),
            users: Table::new(settings.entries / 4, user),
            pairs: Table::new(settings.entries / 8, pair),
            secret,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            under_way: Mutex::default(),
            last_wrong: Mutex::default(),
            forgiven: Mutex::default(),
            changes: AtomicU64::new(0),
            began: now,
        }
    }

    /// Other numbers, by which what was counted goes on: bans that run keep their length. The size of the tables stays.
    pub fn configure(&self, settings: LockoutSettings) {
        let tables = [&self.clients, &self.users, &self.pairs];
        for (table, rule) in tables.into_iter().zip(rules(&settings)) {
            table.judge_by(rule);
        }
    }

    /// Whether a guess for this user from this client would be listened to; counts nothing. For `explain` and pages.
    pub fn look(&self, client: ClientNet, user: &str, now: Instant) -> Option<Locked> {
        self.blocked(client.bits(), self.tag(&[user.as_bytes()]), now)
    }

    pub(super) fn blocked(&self, client: u64, user: u64, now: Instant) -> Option<Locked> {
        let is_trusted = self.is_trusted(client, user, now);
        let now = self.seconds(now);
        let banned = |entry: &mut Entry, rule: &Rule| {
            let mut copy = *entry;
            copy.begin(rule, now).err()
        };
        // The longest: whoever waits for it is listened to, and the time does not tell which one it was.
        self.counters(client, user, is_trusted)
            .filter_map(|(scope, table, key)| Some(locked(scope, table.with(key, banned)??)))
            .reduce(|a, b| if b.retry > a.retry { b } else { a })
    }

    /// Whether a right password of this user would be listened to from this client: nothing is banned, or the user has logged in
    /// from there before and nobody besieges that pair (such a user is not locked out by what others do elsewhere).
    pub fn listens(&self, client: ClientNet, user: &str, now: Instant) -> bool {
        let (client, user) = (client.bits(), self.tag(&[user.as_bytes()]));
        let at = self.seconds(now);
        let pair = self.pairs.with(self.pair(client, user), |entry, _| {
            at.saturating_sub(entry.seen) < TRUST && !entry.is_besieged(at)
        });
        pair == Some(true) || self.blocked(client, user, now).is_none()
    }

    /// Moves on whenever a snapshot would be another one.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many client networks are banned now. Walks the whole table: for a scrape, not for a request.
    pub fn banned_clients(&self, now: Instant) -> usize {
        let (now, mut count) = (self.seconds(now), 0);
        self.clients
            .each(|entry| count += usize::from(entry.until > now));
        count
    }

    /// Ends the bans of a client network, for the one who runs the gate.
    pub fn forgive_client(&self, client: ClientNet, now: Instant) -> bool {
        self.changed();
        self.remember(Scope::Client, client.bits(), now);
        self.clients.forget(client.bits())
    }

    /// Ends what a user has to wait where he has logged in before, for the one who runs the gate. He stays known there.
    pub fn forgive_pair(&self, client: ClientNet, user: &str, now: Instant) -> bool {
        self.changed();
        let key = self.pair(client.bits(), self.tag(&[user.as_bytes()]));
        self.remember(Scope::Pair, key, now);
        let forgive = |entry: &mut Entry, _: &Rule| {
            let before = *entry;
            *entry = Entry {
                key: before.key,
                seen: before.seen,
                pending: before.pending,
                ..Entry::default()
            };
            *entry != before
        };
        self.pairs.with(key, forgive) == Some(true)
    }

    /// Ends the bans of a user, for the one who runs the gate.
    pub fn forgive_user(&self, user: &str, now: Instant) -> bool {
        self.changed();
        let key = self.tag(&[user.as_bytes()]);
        self.remember(Scope::User, key, now);
        self.users.forget(key)
    }

    fn remember(&self, scope: Scope, key: u64, now: Instant) {
        let now = self.seconds(now);
        let mut forgiven = lock(&self.forgiven);
        forgiven.truncate(MOST_FORGIVEN - 1);
        forgiven.push_front((scope, key.max(1), now));
    }

    /// What was forgiven of these counters, and when that was.
    pub(super) fn forgiven(&self, scope: Scope) -> Vec<(u64, u32)> {
        let forgiven = lock(&self.forgiven);
        let own = forgiven.iter().filter(|(of, ..)| *of == scope);
        own.map(|(_, key, at)| (*key, *at)).collect()
    }

    /// Bytes that all counters take now, and at most.
    pub fn bytes(&self) -> (usize, usize) {
        let tables = [&self.clients, &self.users, &self.pairs].map(Table::bytes);
        tables
            .iter()
            .fold((0, 0), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
    }

    /// Our clock: it follows the monotonic one, so what happens to the wall clock is of no account.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.began).as_secs();
        BEGINNING.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX))
    }

    pub(super) fn count(
        &self,
        client: u64,
        user: u64,
        is_trusted: bool,
        now: Instant,
    ) -> Result<(), Locked> {
        let now = self.seconds(now);
        let mut counted: Vec<(&Table, u64)> = Vec::with_capacity(2);
        for (scope, table, key) in self.counters(client, user, is_trusted) {
            if let Err(seconds) = table.with_new(key, now, |entry, rule| entry.begin(rule, now)) {
                for (table, key) in counted {
                    table.with(key, |entry, _| entry.give_back());
                }
                return Err(locked(scope, seconds));
            }
            counted.push((table, key));
        }
        Ok(())
    }

    /// Where a guess counts: trusted pairs by themselves, all others with their client and their user.
    pub(super) fn counters(
        &self,
        client: u64,
        user: u64,
        is_trusted: bool,
    ) -> impl Iterator<Item = (Scope, &Table, u64)> {
        let pair = is_trusted.then(|| (Scope::Pair, &self.pairs, self.pair(client, user)));
        let others = [
            (Scope::Client, &self.clients, client),
            (Scope::User, &self.users, user),
        ];
        pair.into_iter()
            .chain(others.into_iter().filter(move |_| !is_trusted))
    }

    pub(super) fn is_trusted(&self, client: u64, user: u64, now: Instant) -> bool {
        let now = self.seconds(now);
        let pair = self
            .pairs
            .with(self.pair(client, user), |entry, _| entry.seen);
        pair.is_some_and(|seen| now.saturating_sub(seen) < TRUST)
    }

    pub(super) fn trust(&self, client: u64, user: u64, now: Instant) {
        let now = self.seconds(now);
        let with = |entry: &mut Entry, _: &Rule| entry.seen = now;
        self.pairs.with_new(self.pair(client, user), now, with);
        self.changed();
    }

    /// Another password was tried in vain at a trusted pair, beyond what is listened to there. Returns the ban that it brought.
    pub(super) fn strike(&self, way: Way, now: Instant) -> Option<Ban> {
        let (now, pair) = (self.seconds(now), self.pair(way.0, way.1));
        let mut last = lock(&self.last_wrong);
        if last.len() >= MOST_PAIRS && !last.contains_key(&pair) {
            last.clear();
        }
        if last.insert(pair, way.2) == Some(way.2) {
            return None;
        }
        drop(last);
        let seconds = self
            .pairs
            .with(pair, |entry, rule| entry.strike(rule, now))??;
        self.changed();
        Some(Ban {
            scope: Scope::Pair,
            length: Duration::from_secs(seconds.into()),
        })
    }

    fn pair(&self, client: u64, user: u64) -> u64 {
        self.tag(&[&client.to_le_bytes(), &user.to_le_bytes()])
    }

    /// Keyed, so that nobody can choose names that meet in one place of a table.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&context.sign().as_ref()[..8]);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn under_way(&self) -> MutexGuard<'_, HashMap<Way, Together>> {
        lock(&self.under_way)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What client networks, users and pairs are judged by.
fn rules(settings: &LockoutSettings) -> [Rule; 3] {
    let seconds = |span: Duration| {
        u32::try_from(span.as_secs())
            .unwrap_or(u32::MAX)
            .clamp(1, LONGEST_BAN)
    };
    let rule = Rule {
        failures: settings.failures.max(1),
        window: seconds(settings.window),
        ban: seconds(settings.ban),
        longest: LONGEST_BAN,
        memory: MEMORY,
        is_pair: false,
        siege: 0,
    };
    // It is others who lock a user out, so that ends within the hour.
    let user = Rule {
        longest: LONGEST_USER_BAN.max(rule.ban),
        ..rule
    };
    let pair = Rule {
        ban: PAUSE,
        memory: TRUST,
        is_pair: true,
        siege: rule.ban,
        ..user
    };
    [rule, user, pair]
}

fn locked(scope: Scope, seconds: u32) -> Locked {
    Locked {
        scope,
        retry: Duration::from_secs(seconds.into()),
        ban: None,
    }
}
