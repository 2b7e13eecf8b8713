//! One counter and what happens to it. Times are seconds on a clock of our own that only goes forward.

/// Bytes that one counter takes.
pub const ENTRY_BYTES: usize = size_of::<Entry>();

/// A counter of guesses; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whose it is; 0 marks a free place.
    pub key: u64,
    /// When the first of the counted failures was.
    pub since: u32,
    /// End of the ban; for a trusted pair, of the pause.
    pub until: u32,
    /// Last time that anything happened to it; of a pair, the last login.
    pub seen: u32,
    /// Failures since then.
    pub failed: u8,
    /// Guesses that have begun and whose end is not known yet.
    pub pending: u8,
    /// Bans so far; each is twice as long as the one before.
    pub level: u8,
    /// Of a trusted pair: other passwords that were tried beyond the failures that are listened to.
    pub strikes: u8,
}

/// What the counters are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub failures: u8,
    pub window: u32,
    pub ban: u32,
    /// The longest ban.
    pub longest: u32,
    /// After so long without a failure the next ban is a short one again; and a pair is trusted no more.
    pub memory: u32,
    /// Whether it is about trusted pairs, which pause instead of being banned.
    pub is_pair: bool,
    /// The first ban of a pair that is besieged.
    pub siege: u32,
}

/// Passwords that may be tried in vain against a trusted pair until it is closed to everybody who has neither a session nor an
/// open connection. A guess there tells right from wrong even while it is not listened to, so their number is bounded.
const STRIKES: u8 = 100;
/// After a day without a pause they are forgotten.
const STRIKES_MEMORY: u32 = 86_400;

impl Entry {
    /// Begins a guess, or says for how many seconds there is none to be had.
    pub fn begin(&mut self, rule: &Rule, now: u32) -> Result<(), u32> {
        self.pass(rule, now);
        if now < self.until {
            return Err(self.until - now);
        }
        if self.failed.saturating_add(self.pending) >= rule.failures {
            // As many as there are tries left are under way; their end decides.
            return Err(1);
        }
        self.pending += 1;
        self.touch(rule, now);
        Ok(())
    }

    /// A guess that had begun was none, or was right.
    pub fn give_back(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// A guess was wrong. Returns the length of the ban that this one brought.
    pub fn fail(&mut self, rule: &Rule, now: u32) -> Option<u32> {
        self.pass(rule, now);
        if now < self.until {
            // It began before the ban, which stands for it too.
            return None;
        }
        if self.failed == 0 {
            self.since = now;
        }
        self.failed = self.failed.saturating_add(1);
        self.touch(rule, now);
        if self.failed < rule.failures {
            return None;
        }
        if rule.is_pair {
            // From now on one try after each pause, until the window is over.
            self.failed = rule.failures - 1;
            self.until = now.saturating_add(rule.ban);
            return Some(rule.ban);
        }
        self.failed = 0;
        Some(self.ban(rule.ban, rule, now))
    }

    /// Another password was tried in vain against a trusted pair that pauses. Returns the length of the ban that this brought.
    pub fn strike(&mut self, rule: &Rule, now: u32) -> Option<u32> {
        self.pass(rule, now);
        if !rule.is_pair || self.strikes >= STRIKES {
            return None;
        }
        self.strikes += 1;
        (self.strikes >= STRIKES).then(|| self.ban(rule.siege, rule, now))
    }

    /// Whether a trusted pair is closed to whoever only knows the password.
    pub fn is_besieged(&self, now: u32) -> bool {
        self.strikes >= STRIKES && now < self.until
    }

    fn ban(&mut self, first: u32, rule: &Rule, now: u32) -> u32 {
        let longer = 1 << u32::from(self.level).min(20);
        let ban = first.saturating_mul(longer).min(rule.longest);
        self.until = now.saturating_add(ban);
        self.level = self.level.saturating_add(1);
        ban
    }

    /// Failures must not prolong the trust in a pair.
    fn touch(&mut self, rule: &Rule, now: u32) {
        if !rule.is_pair {
            self.seen = now;
        }
    }

    /// Two counts of the same: what either of them knows now holds.
    pub fn join(&mut self, mut other: Self, rule: &Rule, now: u32) {
        // Failures of long ago must not hide those of today.
        self.pass(rule, now);
        other.pass(rule, now);
        if (other.failed, other.since) > (self.failed, self.since) {
            (self.failed, self.since) = (other.failed, other.since);
        }
        self.until = self.until.max(other.until);
        self.seen = self.seen.max(other.seen);
        self.level = self.level.max(other.level);
        self.strikes = self.strikes.max(other.strikes);
    }

    /// Whether forgetting it would change any answer.
    pub fn is_worth_keeping(&self, rule: &Rule, now: u32) -> bool {
        let is_counting = self.failed > 0 && now.saturating_sub(self.since) < rule.window;
        let is_banned = self.until > now;
        let was_banned = self.level > 0 && now.saturating_sub(self.until) < rule.memory;
        let is_trusted = rule.is_pair && now.saturating_sub(self.seen) < rule.memory;
        is_counting || is_banned || was_banned || is_trusted
    }

    /// Forgets what is too old to count.
    fn pass(&mut self, rule: &Rule, now: u32) {
        if now.saturating_sub(self.since) >= rule.window {
            self.failed = 0;
        }
        if now.saturating_sub(self.until) >= rule.memory {
            self.level = 0;
        }
        let is_over = self.strikes >= STRIKES && now >= self.until;
        if is_over || now.saturating_sub(self.until) >= STRIKES_MEMORY {
            self.strikes = 0;
        }
    }

    /// How much harm it does to forget this one: the least harmful makes room.
    pub fn harm(&self, rule: &Rule, now: u32) -> u64 {
        if self.key == 0 {
            return 0;
        }
        let banned = u64::from(self.until.saturating_sub(now));
        let is_counting = now.saturating_sub(self.since) < rule.window;
        let failed = if is_counting {
            u64::from(self.failed)
        } else {
            0
        };
        let level = if now.saturating_sub(self.until) < rule.memory {
            u64::from(self.level)
        } else {
            0
        };
        let age = u64::from(now.saturating_sub(self.seen) >> 6).min(0xffff);
        // Bans first, the longest most of all; then guesses under way; then those banned before; then failures; then age.
        1 + (banned << 40)
            + (u64::from(self.pending.min(15)) << 36)
            + (level << 28)
            + (failed << 20)
            + (0xffff - age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        failures: 3,
        window: 60,
        ban: 100,
        longest: 350,
        memory: 1000,
        is_pair: false,
        siege: 0,
    };

    fn guess(entry: &mut Entry, now: u32) -> Result<Option<u32>, u32> {
        entry.begin(&RULE, now)?;
        entry.give_back();
        Ok(entry.fail(&RULE, now))
    }

    #[test]
    fn bans_grow_and_are_forgotten() {
        let mut entry = Entry::default();
        let mut now = 5000;
        for want in [100, 200, 350, 350] {
            assert_eq!(guess(&mut entry, now), Ok(None));
            assert_eq!(guess(&mut entry, now), Ok(None));
            assert_eq!(guess(&mut entry, now), Ok(Some(want)));
            assert_eq!(guess(&mut entry, now + want - 1), Err(1));
            now += want;
        }
        now += 1000;
        for want in [None, None, Some(100)] {
            assert_eq!(guess(&mut entry, now), Ok(want));
        }
    }

    #[test]
    fn a_trusted_pair_pauses_and_its_failures_do_not_prolong_the_trust() {
        let rule = Rule {
            is_pair: true,
            ban: 10,
            ..RULE
        };
        let mut entry = Entry {
            seen: 4000,
            ..Entry::default()
        };
        for (now, want) in [
            (5000, None),
            (5001, None),
            (5002, Some(10)),
            (5012, Some(10)),
            (5022, Some(10)),
        ] {
            assert_eq!(entry.begin(&rule, now), Ok(()));
            entry.give_back();
            assert_eq!(entry.fail(&rule, now), want, "{now}");
        }
        assert_eq!(entry.begin(&rule, 5031), Err(1));
        assert_eq!(entry.begin(&rule, 5032), Ok(()));
        assert_eq!(entry.seen, 4000);
    }

    #[test]
    fn a_besieged_pair_is_closed_for_a_while_that_grows() {
        let rule = Rule {
            is_pair: true,
            ban: 10,
            memory: 1_000_000,
            siege: 100,
            ..RULE
        };
        let mut entry = Entry::default();
        let mut now = 5000;
        for want in [100, 200, 350, 350] {
            for n in 1..STRIKES {
                assert_eq!(entry.strike(&rule, now), None, "{n}");
            }
            assert!(!entry.is_besieged(now));
            assert_eq!(entry.strike(&rule, now), Some(want));
            assert_eq!(entry.strike(&rule, now), None, "once");
            assert!(entry.is_besieged(now + want - 1));
            assert_eq!(entry.begin(&rule, now + want - 1), Err(1));
            now += want;
            assert!(!entry.is_besieged(now));
        }
        assert_eq!(entry.strike(&rule, now), None);
        assert_eq!(entry.strikes, 1, "it begins anew");
        entry.pass(&rule, now + STRIKES_MEMORY);
        assert_eq!(entry.strikes, 0, "a day later nobody remembers");
    }

    #[test]
    fn of_two_counts_the_stricter_one_holds_whichever_comes_first() {
        let entry = |failed, since, until, level| Entry {
            key: 1,
            failed,
            since,
            until,
            level,
            ..Entry::default()
        };
        let now = 5000;
        for (a, b, want) in [
            // A later end of a ban, more failures, more bans before.
            ((1, 4990, 5100, 1), (2, 4980, 0, 0), (2, 4980, 5100, 1)),
            ((2, 4980, 5100, 1), (2, 4990, 5200, 3), (2, 4990, 5200, 3)),
            // Failures whose window is over are none, however many they are.
            ((2, 4940, 0, 0), (1, 4999, 0, 0), (1, 4999, 0, 0)),
            ((0, 0, 5001, 9), (2, 4940, 4000, 1), (0, 4940, 5001, 9)),
        ] {
            let of = |(failed, since, until, level)| entry(failed, since, until, level);
            for (mut one, other) in [(of(a), of(b)), (of(b), of(a))] {
                one.join(other, &RULE, now);
                assert_eq!((one.failed, one.until, one.level), (want.0, want.2, want.3));
                assert!(one.failed == 0 || one.since == want.1, "{one:?}");
                let before = one;
                one.join(other, &RULE, now);
                assert_eq!(one, before, "twice is once");
            }
        }
    }

    #[test]
    fn guesses_that_end_during_a_ban_do_not_add_to_it() {
        let mut entry = Entry {
            until: 5100,
            ..Entry::default()
        };
        for _ in 0..10 {
            assert_eq!(entry.fail(&RULE, 5050), None);
        }
        assert_eq!((entry.failed, entry.begin(&RULE, 5100)), (0, Ok(())));
    }

    #[test]
    fn failures_outside_the_window_do_not_add_up() {
        let mut entry = Entry::default();
        for n in 0..20 {
            assert_eq!(guess(&mut entry, 5000 + n * 31), Ok(None), "{n}");
        }
    }

    #[test]
    fn guesses_under_way_count() {
        let mut entry = Entry::default();
        for _ in 0..3 {
            assert_eq!(entry.begin(&RULE, 5000), Ok(()));
        }
        assert_eq!(entry.begin(&RULE, 5000), Err(1));
        entry.give_back();
        assert_eq!(entry.begin(&RULE, 5000), Ok(()));
    }

    #[test]
    fn what_is_banned_is_kept_before_what_only_failed() {
        let at = |change: fn(&mut Entry)| {
            let mut entry = Entry {
                key: 1,
                since: 5000,
                seen: 5000,
                ..Entry::default()
            };
            change(&mut entry);
            entry.harm(&RULE, 5000)
        };
        let order = [
            0,
            at(|e| e.seen = 0),
            at(|_| {}),
            at(|e| e.failed = 1),
            at(|e| e.failed = 2),
            at(|e| (e.level, e.until) = (1, 4999)),
            at(|e| e.pending = 1),
            at(|e| e.until = 5001),
            at(|e| e.until = 6000),
        ];
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(ENTRY_BYTES, 24);
    }
}
