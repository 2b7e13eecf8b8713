//! The life of a guess: it begins and counts, its hash is made elsewhere, and then it was right, wrong, or none.

use std::time::{Duration, Instant};

use super::count::{Ban, Locked, Lockout};
use crate::auth::client_net::ClientNet;

/// Guesses under way that are known by their credential; beyond that each counts by itself.
const MOST_UNDER_WAY: usize = 1 << 16;

/// Client, user and credential of a guess under way.
pub(super) type Way = (u64, u64, u64);

/// Equal guesses under way: they count as one until they prove wrong.
pub(super) struct Together {
    count: u32,
    /// Where they are counted, decided once.
    is_trusted: bool,
    /// Whether the end of one of them is known, and with it that of all.
    is_judged: bool,
}

/// A guess that has begun and counts. Dropped without a word it goes on counting as a wrong one, unless an equal one
/// is still under way or was judged.
#[must_use = "a guess that is dropped counts as wrong"]
pub struct Guess<'a> {
    lockout: &'a Lockout,
    way: Way,
    is_trusted: bool,
    /// Whether it is known by its credential, or counts by itself.
    is_known: bool,
    began: Instant,
    is_settled: bool,
}

/// How a guess left those that are under way.
struct Left {
    /// It was the last of its kind: what was counted for all is given back.
    is_last: bool,
    /// One of its kind was judged before.
    is_judged: bool,
}

impl Lockout {
    /// Begins a guess: it counts from now on. `credential` names user and password (a keyed hash of them): equal ones
    /// under way at the same time from one client are one guess until it proves wrong, so that a browser that opens
    /// many connections at once is not taken for many guessers.
    pub fn begin(
        &self,
        client: ClientNet,
        user: &str,
        credential: u64,
        now: Instant,
    ) -> Result<Guess<'_>, Locked> {
        let way = (client.bits(), self.tag(&[user.as_bytes()]), credential);
        let mut under_way = self.under_way();
        let (is_trusted, is_known) = match under_way.get_mut(&way) {
            Some(together) => {
                together.count += 1;
                (together.is_trusted, true)
            }
            None => {
                let is_trusted = self.is_trusted(way.0, way.1, now);
                if let Err(locked) = self.count(way.0, way.1, is_trusted, now) {
                    drop(under_way);
                    let ban = is_trusted.then(|| self.strike(way, now)).flatten();
                    let longest = self
                        .blocked(way.0, way.1, now)
                        .map_or(locked.retry, |l| l.retry);
                    let retry = longest.max(locked.retry);
                    return Err(Locked {
                        ban,
                        retry,
                        ..locked
                    });
                }
                let is_known = under_way.len() < MOST_UNDER_WAY;
                if is_known {
                    let together = Together {
                        count: 1,
                        is_trusted,
                        is_judged: false,
                    };
                    under_way.insert(way, together);
                }
                (is_trusted, is_known)
            }
        };
        Ok(Guess {
            lockout: self,
            way,
            is_trusted,
            is_known,
            began: now,
            is_settled: false,
        })
    }
}

impl Guess<'_> {
    /// The password was right: the guess is given back, and the user is trusted from this client from now on.
    pub fn right(mut self, now: Instant) {
        let left = self.leave(true);
        self.give_back(&left);
        self.lockout.trust(self.way.0, self.way.1, now);
    }

    /// The password was wrong. Returns the bans that this guess brought.
    pub fn wrong(mut self, now: Instant) -> Vec<Ban> {
        let left = self.leave(true);
        self.give_back(&left);
        self.fail(now)
    }

    /// Nobody looked at the password (the gate was busy): the guess is given back.
    pub fn unjudged(mut self) {
        let left = self.leave(false);
        self.give_back(&left);
    }

    fn give_back(&self, left: &Left) {
        if !left.is_last {
            return;
        }
        for (_, table, key) in self
            .lockout
            .counters(self.way.0, self.way.1, self.is_trusted)
        {
            table.with(key, |entry, _| entry.give_back());
        }
    }

    fn fail(&self, now: Instant) -> Vec<Ban> {
        let bans = self.count_failure(now);
        self.lockout.changed();
        // A pair that pauses again is tried beyond its failures.
        let again = self.is_trusted && !bans.is_empty();
        let siege = again.then(|| self.lockout.strike(self.way, now)).flatten();
        bans.into_iter().chain(siege).collect()
    }

    fn count_failure(&self, now: Instant) -> Vec<Ban> {
        let now = self.lockout.seconds(now);
        let counters = self
            .lockout
            .counters(self.way.0, self.way.1, self.is_trusted);
        let bans = counters.filter_map(|(scope, table, key)| {
            let seconds = table.with_new(key, now, |entry, rule| entry.fail(rule, now))?;
            Some(Ban {
                scope,
                length: Duration::from_secs(seconds.into()),
            })
        });
        bans.collect()
    }

    fn leave(&mut self, is_judged: bool) -> Left {
        self.is_settled = true;
        let mut under_way = self.lockout.under_way();
        let together = under_way.get_mut(&self.way).filter(|_| self.is_known);
        let Some(together) = together else {
            return Left {
                is_last: true,
                is_judged: false,
            };
        };
        together.count -= 1;
        together.is_judged |= is_judged;
        let left = Left {
            is_last: together.count == 0,
            is_judged: together.is_judged,
        };
        if left.is_last {
            under_way.remove(&self.way);
        }
        left
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let left = self.leave(false);
        self.give_back(&left);
        if left.is_last && !left.is_judged {
            self.fail(self.began);
        }
    }
}

#[cfg(test)]
mod tests;
