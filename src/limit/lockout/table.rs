//! A bounded table of counters. It grows as it is used, up to a size that is fixed; then the least harmful counter of
//! eight makes room. A flood of strange addresses thus costs those that are banned nothing, and memory never grows.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::rule::{Entry, Rule};

/// Places among which a counter may be.
const WAYS: usize = 8;
const SHARDS: usize = 16;

/// Counters by key, each shard behind its own lock.
pub(super) struct Table {
    shards: Vec<Mutex<Shard>>,
    /// Held for as long as it takes to copy it; a reload may change it.
    rule: RwLock<Rule>,
}

struct Shard {
    /// Always a power of two.
    rows: Vec<[Entry; WAYS]>,
    most_rows: usize,
    used: usize,
}

impl Table {
    /// At most about `entries` counters: the next power of two, at least 128.
    pub fn new(entries: usize, rule: Rule) -> Self {
        let rows = (entries / (SHARDS * WAYS)).max(1).next_power_of_two();
        let shard = || Shard {
            rows: vec![[Entry::default(); WAYS]],
            most_rows: rows,
            used: 0,
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            rule: RwLock::new(rule),
        }
    }

    pub fn rule(&self) -> Rule {
        *self.rule.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another rule, by which the counters that there are go on.
    pub fn judge_by(&self, rule: Rule) {
        *self.rule.write().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Does something to the counter of a key, if there is one.
    pub fn with<T>(&self, key: u64, act: impl FnOnce(&mut Entry, &Rule) -> T) -> Option<T> {
        let key = key.max(1);
        let mut shard = self.lock(key);
        let row = shard.row(key);
        let entry = shard.rows[row].iter_mut().find(|entry| entry.key == key)?;
        Some(act(entry, &self.rule()))
    }

    /// Does something to the counter of a key, which is made where there is none.
    pub fn with_new<T>(&self, key: u64, now: u32, act: impl FnOnce(&mut Entry, &Rule) -> T) -> T {
        let key = key.max(1);
        let mut shard = self.lock(key);
        let rule = self.rule();
        act(shard.place(key, &rule, now), &rule)
    }

    /// Takes the counter of a key away.
    pub fn forget(&self, key: u64) -> bool {
        let key = key.max(1);
        let mut shard = self.lock(key);
        let row = shard.row(key);
        let found = shard.rows[row].iter_mut().find(|entry| entry.key == key);
        let is_there = found.map(|entry| *entry = Entry::default()).is_some();
        shard.used -= usize::from(is_there);
        is_there
    }

    /// Takes all counters away.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.rows.fill([Entry::default(); WAYS]);
            shard.used = 0;
        }
    }

    /// Joins a counter of a snapshot to its own one. Where it has none and every place is taken, the less harmful of the two goes.
    pub fn put(&self, entry: Entry, now: u32) {
        let mut shard = self.lock(entry.key);
        let rule = self.rule();
        let (row, place) = shard.find(entry.key, &rule, now);
        let there = &mut shard.rows[row][place];
        let (is_own, is_free) = (there.key == entry.key, there.key == 0);
        if is_own {
            there.join(entry, &rule, now);
        } else if there.harm(&rule, now) < entry.harm(&rule, now) {
            *there = entry;
            shard.used += usize::from(is_free);
        }
    }

    /// Shows every counter.
    pub fn each(&self, mut see: impl FnMut(&Entry)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard
                .rows
                .iter()
                .flatten()
                .filter(|entry| entry.key != 0)
                .for_each(&mut see);
        }
    }

    /// Bytes that the table takes now, and at most.
    pub fn bytes(&self) -> (usize, usize) {
        let sum = |rows: fn(&Shard) -> usize| {
            let rows =
                |shard: &Mutex<Shard>| rows(&shard.lock().unwrap_or_else(PoisonError::into_inner));
            self.shards.iter().map(rows).sum::<usize>() * size_of::<[Entry; WAYS]>()
        };
        (
            sum(|shard| shard.rows.capacity()),
            sum(|shard| shard.most_rows),
        )
    }

    fn lock(&self, key: u64) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[(mixed(key) >> 60) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn row(&self, key: u64) -> usize {
        mixed(key) as usize & (self.rows.len() - 1)
    }

    fn place(&mut self, key: u64, rule: &Rule, now: u32) -> &mut Entry {
        let (row, place) = self.find(key, rule, now);
        let entry = &mut self.rows[row][place];
        if entry.key != key {
            self.used += usize::from(entry.key == 0);
            *entry = Entry {
                key,
                seen: now,
                ..Entry::default()
            };
        }
        entry
    }

    /// Where the counter of a key is; else a free place, or the one of the least harmful.
    fn find(&mut self, key: u64, rule: &Rule, now: u32) -> (usize, usize) {
        loop {
            let row = self.row(key);
            let found = self.rows[row].iter().position(|entry| entry.key == key);
            let place = found.or_else(|| self.rows[row].iter().position(|entry| entry.key == 0));
            let is_crowded = self.used * 3 > self.rows.len() * WAYS;
            match place {
                Some(place) => return (row, place),
                None if is_crowded && self.rows.len() < self.most_rows => self.grow(),
                None => return (row, self.least_harmful(row, rule, now)),
            }
        }
    }

    fn least_harmful(&self, row: usize, rule: &Rule, now: u32) -> usize {
        let harms = self.rows[row].iter().enumerate();
        harms
            .min_by_key(|(_, entry)| entry.harm(rule, now))
            .map_or(0, |(place, _)| place)
    }

    /// Twice the rows: each row's counters go to it or to its new twin, so there is room for all of them.
    fn grow(&mut self) {
        let half = self.rows.len();
        self.rows.resize(half * 2, [Entry::default(); WAYS]);
        for row in 0..half {
            for place in 0..WAYS {
                let entry = self.rows[row][place];
                if entry.key != 0 && self.row(entry.key) != row {
                    self.rows[row + half][place] = entry;
                    self.rows[row][place] = Entry::default();
                }
            }
        }
    }
}

/// Spreads the bits of a key (the finisher of MurmurHash3). Addresses that an attacker picks so as to meet in one row
/// displace each other there, and the least harmful goes: he frees only his own.
fn mixed(key: u64) -> u64 {
    let key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        failures: 5,
        window: 300,
        ban: 900,
        longest: 86_400,
        memory: 86_400,
        is_pair: false,
        siege: 0,
    };

    #[test]
    fn finds_what_was_put_in_after_it_has_grown() {
        let table = Table::new(1 << 16, RULE);
        for key in 1..=20_000 {
            table.with_new(key, 1000, |entry, _| entry.failed = (key % 100) as u8);
        }
        let found = (1..=20_000)
            .filter(|key| table.with(*key, |e, _| e.failed == (key % 100) as u8) == Some(true));
        assert!(
            found.count() > 19_900,
            "almost nothing is displaced before the table is full"
        );
        assert!(table.forget(7) && !table.forget(7));
        assert_eq!(table.with(7, |_, _| ()), None);
        let (now, most) = table.bytes();
        assert!(now <= most && most == (1 << 16) * 24);
    }

    #[test]
    fn what_is_put_in_displaces_nothing_that_is_worse() {
        let table = Table::new(1, RULE);
        let banned = |key, until| Entry {
            key,
            until,
            ..Entry::default()
        };
        let ours: Vec<u64> = (1..=2000).collect();
        ours.iter()
            .for_each(|key| table.put(banned(*key, 9000), 1000));
        let count = |wanted: u32| {
            let mut count = 0;
            table.each(|entry| count += usize::from(entry.until == wanted));
            count
        };
        assert_eq!(count(9000), 128, "as many as there are places");
        (3000..5000).for_each(|key| table.put(banned(key, 8000), 1000));
        assert_eq!((count(9000), count(8000)), (128, 0));
        (5000..7000).for_each(|key| table.put(banned(key, 9500), 1000));
        assert_eq!((count(9000), count(9500)), (0, 128));
    }

    #[test]
    fn a_flood_displaces_nobody_who_is_banned_and_never_outgrows_the_bound() {
        let table = Table::new(1024, RULE);
        for key in 1..=100 {
            table.with_new(key, 1000, |entry, _| entry.until = 9000);
        }
        for key in 1000..200_000 {
            table.with_new(key, 1000, |entry, _| entry.failed = 4);
        }
        let kept = (1..=100)
            .filter(|key| table.with(*key, |e, _| e.until == 9000) == Some(true))
            .count();
        assert_eq!(kept, 100);
        let mut count = 0;
        table.each(|_| count += 1);
        assert!(count <= 1024 && table.bytes().0 <= 1024 * 24);
    }
}
