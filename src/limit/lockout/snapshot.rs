//! What outlives a restart. Ages and remaining times are written, not moments: the clock of the next process is
//! another one, and a wall clock that jumped back only makes a ban as long as it was.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::count::{Lockout, LockoutSettings, Scope};
use super::rule::Entry;
use super::table::Table;

/// Of each table; those whose loss would do least harm are left out.
const MOST: usize = 100_000;
/// By how much the moments of two processes may differ where they are the same one.
const ROUNDED: u32 = 2;

/// Counters as they are written to the state folder (0600: it has the key that hides user names).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Seconds since 1970 when it was taken.
    taken: u64,
    secret: [u8; 32],
    clients: Vec<Saved>,
    users: Vec<Saved>,
    pairs: Vec<Saved>,
}

/// Key; `since`, `until` and `seen` counted from when it was taken; failures; bans so far; strikes.
type Saved = (u64, i64, i64, i64, u8, u8, u8);

impl Snapshot {
    /// Seconds since 1970 when it was taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

impl Lockout {
    /// What is worth keeping now.
    pub fn snapshot(&self, now: Instant, wall: SystemTime) -> Snapshot {
        let at = self.seconds(now);
        Snapshot {
            taken: unix(wall),
            secret: self.secret,
            clients: save(&self.clients, at),
            users: save(&self.users, at),
            pairs: save(&self.pairs, at),
        }
    }

    /// Goes on where a snapshot ended. Time that has passed in between counts, if the wall clock tells any.
    pub fn restore(
        settings: LockoutSettings,
        snapshot: &Snapshot,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let lockout = Self::with_secret(settings, snapshot.secret, now);
        lockout.load(snapshot, now, passed(snapshot, wall));
        lockout
    }

    /// Takes over what another process has counted, in a snapshot of later than our beginning: of each counter the stricter state
    /// holds. A second time it changes nothing, and what was forgiven here since then stays so. False when it hides names by another
    /// key: then its client networks alone can be told apart.
    pub fn join(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime) -> bool {
        // Not longer ago than our beginning, whatever the wall clock has done since.
        let most = now.saturating_duration_since(self.began).as_secs();
        self.load(snapshot, now, passed(snapshot, wall).min(most));
        self.changed();
        snapshot.secret == self.secret
    }

    /// The same before anybody was let in: what the other process has forgiven since is gone here, too.
    pub fn begin_again(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime) -> bool {
        if snapshot.secret == self.secret {
            let tables = [&self.clients, &self.users, &self.pairs];
            tables.into_iter().for_each(Table::clear);
        }
        self.join(snapshot, now, wall)
    }

    fn load(&self, snapshot: &Snapshot, now: Instant, passed: u64) {
        let at = self.seconds(now);
        for (scope, table, saved) in [
            (Scope::Client, &self.clients, &snapshot.clients),
            (Scope::User, &self.users, &snapshot.users),
            (Scope::Pair, &self.pairs, &snapshot.pairs),
        ] {
            if scope == Scope::Client || snapshot.secret == self.secret {
                load(table, saved, &self.forgiven(scope), at, passed);
            }
        }
    }
}

/// Seconds since it was taken, if the wall clock tells any.
fn passed(snapshot: &Snapshot, wall: SystemTime) -> u64 {
    unix(wall).saturating_sub(snapshot.taken)
}

fn unix(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn save(table: &Table, at: u32) -> Vec<Saved> {
    let rule = table.rule();
    let mut kept = Vec::new();
    table.each(|entry| {
        if entry.is_worth_keeping(&rule, at) {
            kept.push((entry.harm(&rule, at), *entry));
        }
    });
    if kept.len() > MOST {
        kept.select_nth_unstable_by_key(MOST, |(harm, _)| std::cmp::Reverse(*harm));
        kept.truncate(MOST);
    }
    let from = |moment: u32| i64::from(moment) - i64::from(at);
    let saved = |(_, e): (u64, Entry)| {
        (
            e.key,
            from(e.since),
            from(e.until),
            from(e.seen),
            e.failed,
            e.level,
            e.strikes,
        )
    };
    kept.into_iter().map(saved).collect()
}

/// Puts counters back. What no rule of ours could have written is brought within it.
fn load(table: &Table, saved: &[Saved], forgiven: &[(u64, u32)], at: u32, passed: u64) {
    let passed = i64::try_from(passed).unwrap_or(i64::MAX);
    let rule = table.rule();
    let moment = |from: i64, most: u32| {
        let from = from.saturating_sub(passed).min(i64::from(most));
        u32::try_from(i64::from(at).saturating_add(from).max(1)).unwrap_or(at)
    };
    for &(key, since, until, seen, failed, level, strikes) in saved.iter().take(MOST) {
        let entry = Entry {
            key: key.max(1),
            since: moment(since, 0),
            until: moment(until, rule.longest),
            seen: moment(seen, 0),
            failed: failed.min(rule.failures - 1),
            pending: 0,
            level,
            strikes,
        };
        // What it has done since it was forgiven counts; of a pair, `seen` is a login.
        let last = if rule.is_pair {
            entry.since
        } else {
            entry.seen
        };
        let is_forgiven =
            |&(key, when): &(u64, u32)| key == entry.key && last <= when.saturating_add(ROUNDED);
        if entry.is_worth_keeping(&rule, at) && !forgiven.iter().any(is_forgiven) {
            table.put(entry, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::client_net::ClientNet;

    const DAY: Duration = Duration::from_secs(86_400);

    fn client(n: u64) -> ClientNet {
        ClientNet::from_bits(n)
    }

    /// Client 1 is banned, client 2 has failed twice, alice is trusted from client 3.
    fn some(now: Instant) -> Lockout {
        let lockout = Lockout::new(LockoutSettings::default(), now);
        for (who, guesses) in [(1, 5), (2, 2)] {
            for n in 0..guesses {
                lockout
                    .begin(client(who), &format!("u{who}{n}"), n, now)
                    .unwrap()
                    .wrong(now);
            }
        }
        lockout
            .begin(client(3), "alice", 9, now)
            .unwrap()
            .right(now);
        lockout
    }

    fn again(lockout: &Lockout, wall: SystemTime, later: SystemTime) -> (Lockout, Instant) {
        let now = Instant::now();
        let text = serde_json::to_string(&lockout.snapshot(now, wall)).unwrap();
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        (
            Lockout::restore(LockoutSettings::default(), &snapshot, now, later),
            now,
        )
    }

    #[test]
    fn a_restart_forgets_neither_bans_nor_trust() {
        let wall = SystemTime::now();
        let (lockout, now) = again(&some(Instant::now()), wall, wall + Duration::from_secs(60));
        let left = lockout.look(client(1), "bob", now).unwrap().retry.as_secs();
        assert!((830..=840).contains(&left), "{left}");
        for n in 0..3 {
            assert!(lockout.look(client(2), "bob", now).is_none());
            lockout.begin(client(2), "bob", n, now).unwrap().wrong(now);
        }
        assert!(
            lockout.look(client(2), "x", now).is_some(),
            "two before and three after"
        );
        for n in 0..5 {
            lockout
                .begin(client(3), &format!("y{n}"), n, now)
                .unwrap()
                .wrong(now);
        }
        assert!(
            lockout.look(client(3), "x", now).is_some()
                && lockout.look(client(3), "alice", now).is_none()
        );
    }

    #[test]
    fn what_another_process_went_on_counting_is_taken_over_once() {
        let (wall, settings) = (SystemTime::now(), LockoutSettings::default());
        let old = some(Instant::now());
        let (new, now) = again(&old, wall, wall);
        for (lockout, n) in [(&old, 7), (&old, 8), (&new, 9)] {
            lockout.begin(client(2), "x", n, now).unwrap().wrong(now);
        }
        for n in 0..5 {
            let guess = old.begin(client(4), &format!("z{n}"), n, now).unwrap();
            guess.wrong(now);
        }
        let (last, before) = (old.snapshot(now, wall), new.changes());
        assert!(new.join(&last, now, wall) && new.changes() != before);
        assert!(new.join(&last, now, wall), "twice is once");
        assert!(new.look(client(4), "bob", now).is_some(), "a new ban");
        assert!(new.look(client(1), "bob", now).is_some(), "an old one");
        assert!(new.look(client(2), "x", now).is_none(), "four of five");
        new.begin(client(2), "x", 10, now).unwrap().wrong(now);
        assert!(new.look(client(2), "x", now).is_some());
        assert!(!Lockout::new(settings, now).join(&last, now, wall));
    }

    #[test]
    fn what_was_forgiven_meanwhile_does_not_come_back_with_the_last_counts() {
        let (wall, now) = (SystemTime::now(), Instant::now());
        let old = some(now);
        let (new, _) = again(&old, wall, wall);
        let last = old.snapshot(now, wall);
        assert!(new.forgive_client(client(1), now));
        assert!(new.join(&last, now, wall));
        assert!(new.look(client(1), "bob", now).is_none());
        assert_eq!(new.users.with(new.tag(&[b"u20"]), |e, _| e.failed), Some(1));
        assert!(new.forgive_user("u20", now) && new.join(&last, now, wall));
        assert_eq!(new.users.with(new.tag(&[b"u20"]), |_, _| ()), None);
        // Forgiven there, between the offer and the last word.
        let (new, _) = again(&old, wall, wall);
        assert!(old.forgive_client(client(1), now));
        let last = old.snapshot(now, wall);
        assert!(new.join(&last, now, wall) && new.look(client(1), "bob", now).is_some());
        assert!(new.begin_again(&last, now, wall));
        assert!(new.look(client(1), "bob", now).is_none());
        assert!(
            new.is_trusted(3, new.tag(&[b"alice"]), now),
            "the rest stays"
        );
        let strange = Lockout::new(LockoutSettings::default(), now);
        assert!(!strange.begin_again(&last, now, wall));
    }

    #[test]
    fn what_was_done_after_it_was_forgiven_counts() {
        let (wall, now) = (SystemTime::now(), Instant::now());
        let (old, later) = (some(now), now + Duration::from_secs(60));
        let (new, _) = again(&old, wall, wall);
        for lockout in [&old, &new] {
            assert!(lockout.forgive_client(client(1), now));
        }
        for n in 0..5 {
            let guess = old.begin(client(1), &format!("v{n}"), n, later).unwrap();
            guess.wrong(later);
        }
        assert!(new.join(&old.snapshot(later, wall), later, wall));
        assert!(new.look(client(1), "bob", later).is_some());
    }

    #[test]
    fn of_a_process_with_another_key_the_client_networks_are_taken() {
        let (wall, now) = (SystemTime::now(), Instant::now());
        let (one, other) = (some(now), some(now));
        for n in 0..5 {
            let guess = one.begin(client(4), "carol", n, now).unwrap();
            guess.wrong(now);
        }
        assert!(!other.join(&one.snapshot(now, wall), now, wall));
        assert!(other.look(client(4), "bob", now).is_some());
        assert!(other.look(client(9), "carol", now).is_none());
    }

    #[test]
    fn a_wall_clock_that_is_set_meanwhile_ends_no_ban_of_the_other_process() {
        let (wall, now) = (SystemTime::now(), Instant::now());
        let (old, later) = (some(now), now + Duration::from_secs(60));
        let new = Lockout::restore(
            LockoutSettings::default(),
            &Lockout::new(LockoutSettings::default(), now).snapshot(now, wall),
            now,
            wall,
        );
        // Written at once, read a minute later by a clock that a time server has set from 1970 to today.
        new.join(&old.snapshot(now, UNIX_EPOCH), later, wall);
        let locked = new.look(client(1), "bob", later).unwrap();
        assert_eq!(locked.retry, Duration::from_secs(840));
    }

    #[test]
    fn a_clock_that_jumps_makes_no_ban_longer_and_breaks_nothing() {
        let wall = SystemTime::now();
        for (later, banned) in [(wall - DAY, true), (UNIX_EPOCH, true), (wall + DAY, false)] {
            let (lockout, now) = again(&some(Instant::now()), wall, later);
            let locked = lockout.look(client(1), "bob", now);
            assert_eq!(locked.is_some(), banned);
            assert!(locked.is_none_or(|locked| locked.retry <= Duration::from_secs(900)));
        }
    }

    #[test]
    fn a_file_that_lies_cannot_lock_anybody_out_for_ever() {
        let now = Instant::now();
        let lies = Snapshot {
            taken: u64::MAX,
            secret: [0; 32],
            clients: vec![
                (1, i64::MAX, i64::MAX, i64::MIN, 255, 255, 255),
                (0, i64::MIN, i64::MIN, 0, 0, 0, 0),
            ],
            users: Vec::new(),
            pairs: Vec::new(),
        };
        let lockout = Lockout::restore(LockoutSettings::default(), &lies, now, UNIX_EPOCH);
        let locked = lockout.look(client(1), "bob", now).unwrap();
        assert!(locked.retry <= DAY);
        assert!(lockout.look(client(1), "bob", now + DAY).is_none());
    }
}
