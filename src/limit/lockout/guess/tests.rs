//! Stories of guessers and of those who are guessed at.

use super::super::count::{LockoutSettings, Scope};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn client(n: u64) -> ClientNet {
    ClientNet::from_bits(n)
}

fn lockout(now: Instant) -> Lockout {
    let settings = LockoutSettings {
        entries: 4096,
        ..LockoutSettings::default()
    };
    Lockout::new(settings, now)
}

/// Wrong guesses one after the other, each another one; how many were listened to.
fn guess(lockout: &Lockout, who: u64, user: &str, count: u64, now: Instant) -> u64 {
    let listened = |n: &u64| match lockout.begin(client(who), user, *n, now) {
        Ok(guess) => {
            guess.wrong(now);
            true
        }
        Err(_) => false,
    };
    (0..count).filter(listened).count() as u64
}

#[test]
fn five_wrong_guesses_lock_the_client_for_every_user() {
    let now = Instant::now();
    let lockout = lockout(now);
    for n in 0..5 {
        assert!(lockout.look(client(1), "zoe", now).is_none(), "{n}");
        let bans = lockout
            .begin(client(1), &format!("u{n}"), n, now)
            .unwrap()
            .wrong(now);
        let want = Ban {
            scope: Scope::Client,
            length: 15 * MINUTE,
        };
        assert_eq!(bans, if n == 4 { vec![want] } else { vec![] });
    }
    let locked = lockout.begin(client(1), "zoe", 9, now).err().unwrap();
    assert_eq!(
        locked,
        Locked {
            scope: Scope::Client,
            retry: 15 * MINUTE,
            ban: None
        }
    );
    assert_eq!(lockout.banned_clients(now), 1);
    assert!(
        lockout.look(client(2), "zoe", now).is_none(),
        "others are free"
    );
    assert!(
        lockout.look(client(1), "zoe", now + 15 * MINUTE).is_none(),
        "it ends"
    );
    assert!(
        lockout.forgive_client(client(1), now) && lockout.look(client(1), "zoe", now).is_none()
    );
}

#[test]
fn guesses_against_one_user_from_many_places_lock_the_user() {
    let now = Instant::now();
    let lockout = lockout(now);
    for who in 1..=5 {
        assert_eq!(guess(&lockout, who, "alice", 1, now), 1);
    }
    let locked = lockout.look(client(9), "alice", now).unwrap();
    assert_eq!(locked.scope, Scope::User);
    assert!(lockout.look(client(9), "bob", now).is_none());
    assert!(lockout.forgive_user("alice", now) && lockout.look(client(9), "alice", now).is_none());
}

#[test]
fn the_time_that_is_told_is_the_longest_whoever_it_is_about() {
    let now = Instant::now();
    let lockout = lockout(now);
    guess(&lockout, 1, "x", 5, now);
    let later = now + 10 * MINUTE;
    for who in 2..=6 {
        guess(&lockout, who, "alice", 1, later);
    }
    let told = lockout.begin(client(1), "alice", 9, later).err().unwrap();
    assert_eq!(
        told.retry,
        15 * MINUTE,
        "of the user, though the client is looked at first"
    );
    assert_eq!(
        lockout.look(client(1), "alice", later),
        Some(Locked {
            scope: Scope::User,
            ..told
        })
    );
    let told = lockout.begin(client(1), "bob", 9, later).err().unwrap();
    assert_eq!(told.retry, 5 * MINUTE);
}

#[test]
fn a_pause_is_forgiven_where_a_user_belongs_and_he_stays_known_there() {
    let now = Instant::now();
    let lockout = lockout(now);
    lockout
        .begin(client(1), "alice", 0, now)
        .unwrap()
        .right(now);
    guess(&lockout, 1, "alice", 5, now);
    assert_eq!(
        lockout.look(client(1), "alice", now).unwrap().scope,
        Scope::Pair
    );
    assert!(!lockout.forgive_pair(client(2), "alice", now));
    assert!(lockout.forgive_pair(client(1), "alice", now));
    assert!(lockout.look(client(1), "alice", now).is_none());
    assert!(
        !lockout.forgive_pair(client(1), "alice", now),
        "there is nothing left"
    );
    // Others lock the user out everywhere but there.
    for who in 10..15 {
        guess(&lockout, who, "alice", 1, now);
    }
    assert!(lockout.listens(client(1), "alice", now) && !lockout.listens(client(2), "alice", now));
}

#[test]
fn bans_grow_up_to_a_day_for_clients_and_an_hour_for_users() {
    let now = Instant::now();
    let lockout = lockout(now);
    let (mut at, mut user) = (now, Vec::new());
    for n in 0..9 {
        for who in 0..5 {
            for ban in lockout
                .begin(client(n * 5 + who), "alice", who, at)
                .unwrap()
                .wrong(at)
            {
                user.push(ban.length.as_secs() / 60);
            }
        }
        at += 61 * MINUTE;
    }
    assert_eq!(user, [15, 30, 60, 60, 60, 60, 60, 60, 60]);
    let (mut at, mut lengths) = (now, Vec::new());
    for n in 0..9u64 {
        for guess in 0..5 {
            let name = format!("{n}-{guess}");
            for ban in lockout
                .begin(client(99), &name, guess, at)
                .unwrap()
                .wrong(at)
            {
                lengths.push(ban.length.as_secs() / 60);
                at += ban.length;
            }
        }
    }
    assert_eq!(lengths, [15, 30, 60, 120, 240, 480, 960, 1440, 1440]);
}

#[test]
fn a_hundred_guesses_at_once_are_five() {
    let now = Instant::now();
    let lockout = lockout(now);
    let begun: Vec<_> = (0..100)
        .filter_map(|n| lockout.begin(client(1), "alice", n, now).ok())
        .collect();
    assert_eq!(begun.len(), 5);
    let bans: Vec<_> = begun
        .into_iter()
        .flat_map(|guess| guess.wrong(now))
        .collect();
    assert_eq!(bans.len(), 2, "the client and the user");
    assert_eq!(guess(&lockout, 1, "alice", 10, now), 0);
}

#[test]
fn sixty_four_connections_with_the_right_password_are_all_listened_to() {
    let now = Instant::now();
    let lockout = lockout(now);
    let begun: Vec<_> = (0..64)
        .map(|_| lockout.begin(client(1), "alice", 7, now).unwrap())
        .collect();
    begun.into_iter().for_each(|guess| guess.right(now));
    assert_eq!(
        guess(&lockout, 1, "bob", 10, now),
        5,
        "nothing is left of them"
    );
    assert!(lockout.under_way().is_empty());
}

#[test]
fn equal_guesses_at_once_all_count_once_they_prove_wrong() {
    let now = Instant::now();
    let lockout = lockout(now);
    let begun: Vec<_> = (0..64)
        .map(|_| lockout.begin(client(1), "alice", 7, now).unwrap())
        .collect();
    begun.into_iter().for_each(|guess| _ = guess.wrong(now));
    assert!(lockout.look(client(1), "alice", now).is_some());
}

#[test]
fn a_right_guess_gives_back_itself_and_not_the_wrong_ones_before() {
    let now = Instant::now();
    let lockout = lockout(now);
    assert_eq!(guess(&lockout, 1, "bob", 4, now), 4);
    // A guesser with an account of his own cannot wash his count.
    lockout
        .begin(client(1), "mallory", 1, now)
        .unwrap()
        .right(now);
    assert_eq!(guess(&lockout, 1, "carol", 10, now), 1);
}

#[test]
fn a_busy_gate_counts_nothing() {
    let now = Instant::now();
    let lockout = lockout(now);
    for n in 0..50 {
        lockout
            .begin(client(1), "alice", n, now)
            .unwrap()
            .unjudged();
    }
    assert_eq!(guess(&lockout, 1, "bob", 10, now), 5);
}

#[test]
fn a_guess_that_is_dropped_counts_unless_an_equal_one_is_judged() {
    let now = Instant::now();
    let lockout = lockout(now);
    for n in 0..5 {
        drop(lockout.begin(client(1), "alice", n, now).unwrap());
    }
    assert!(lockout.look(client(1), "zoe", now).is_some());
    // A person who reloads the page while the hash is made.
    for _ in 0..5 {
        let (first, second) = (
            lockout.begin(client(2), "bob", 7, now).unwrap(),
            lockout.begin(client(2), "bob", 7, now).unwrap(),
        );
        drop(first);
        second.right(now);
    }
    assert_eq!(guess(&lockout, 2, "carol", 10, now), 5);
}

#[test]
fn where_a_user_has_logged_in_nobody_else_locks_him_out() {
    let now = Instant::now();
    let lockout = lockout(now);
    lockout
        .begin(client(1), "alice", 1, now)
        .unwrap()
        .right(now);
    // Guesses against her from elsewhere, and guesses of her neighbour against others.
    for who in 10..20 {
        guess(&lockout, who, "alice", 5, now);
    }
    guess(&lockout, 1, "bob", 10, now);
    assert!(
        lockout.look(client(2), "alice", now).is_some(),
        "locked from anywhere else"
    );
    assert!(
        lockout.look(client(1), "carol", now).is_some(),
        "her network is locked for others"
    );
    lockout
        .begin(client(1), "alice", 1, now)
        .unwrap()
        .right(now);
    // Her neighbour guesses at her: she waits ten seconds at most.
    assert_eq!(guess(&lockout, 1, "alice", 50, now), 5);
    let locked = lockout.look(client(1), "alice", now).unwrap();
    assert_eq!(
        locked,
        Locked {
            scope: Scope::Pair,
            retry: Duration::from_secs(10),
            ban: None
        }
    );
    assert!(
        lockout
            .look(client(1), "alice", now + Duration::from_secs(10))
            .is_none()
    );
}

#[test]
fn whoever_tries_a_hundred_passwords_where_a_user_belongs_is_not_listened_to_there() {
    let now = Instant::now();
    let lockout = lockout(now);
    lockout
        .begin(client(1), "alice", 1, now)
        .unwrap()
        .right(now);
    // A program that repeats one old password is no guesser.
    for _ in 0..500 {
        if let Ok(guess) = lockout.begin(client(1), "alice", 2, now) {
            guess.wrong(now);
        }
    }
    assert!(lockout.listens(client(1), "alice", now));
    let mut bans = Vec::new();
    for n in 10..500 {
        match lockout.begin(client(1), "alice", n, now) {
            Ok(guess) => bans.extend(guess.wrong(now)),
            Err(locked) => bans.extend(locked.ban),
        }
    }
    let siege = Ban {
        scope: Scope::Pair,
        length: 15 * MINUTE,
    };
    assert_eq!(bans, [siege], "told once");
    assert!(!lockout.listens(client(1), "alice", now + 14 * MINUTE));
    assert!(lockout.listens(client(1), "alice", now + 15 * MINUTE));
    assert!(lockout.listens(client(1), "bob", now), "nobody else is");
}

#[test]
fn trust_ends_thirty_days_after_the_last_login() {
    let now = Instant::now();
    let lockout = lockout(now);
    lockout
        .begin(client(1), "alice", 1, now)
        .unwrap()
        .right(now);
    let day = 24 * 60 * MINUTE;
    guess(&lockout, 1, "bob", 5, now + 29 * day);
    assert!(lockout.look(client(1), "alice", now + 29 * day).is_none());
    guess(&lockout, 1, "bob", 5, now + 30 * day);
    assert!(lockout.look(client(1), "alice", now + 30 * day).is_some());
}

#[test]
fn a_million_addresses_take_no_more_than_the_bound() {
    let now = Instant::now();
    let lockout = lockout(now);
    for who in 0..100_000 {
        let name = format!("u{who}");
        lockout
            .begin(client(who), &name, 1, now)
            .unwrap()
            .wrong(now);
    }
    let (bytes, most) = lockout.bytes();
    assert!(bytes <= most && most <= (4096 + 1024 + 512) * super::super::ENTRY_BYTES);
}
