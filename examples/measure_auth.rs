//! Figures of `auth` and `limit::lockout`: `cargo run --release --example measure_auth`.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loopgate::auth::client_net::ClientNet;
use loopgate::auth::password;
use loopgate::auth::presented;
use loopgate::auth::session::{Origin, SessionSettings, Sessions};
use loopgate::auth::token::{Token, Tokens};
use loopgate::auth::users::Users;
use loopgate::auth::verify::{Outcome, Settings, Verifier};
use loopgate::base::path::Path;
use loopgate::base::secret::Secret;
use loopgate::limit::lockout::{ENTRY_BYTES, Lockout, LockoutSettings};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let hash = password::hash(b"correct horse battery").expect("a hash");
    let text: String = (0..20).map(|n| format!("user{n}:{hash}\n")).collect();
    let users = Arc::new(Users::parse(text.as_bytes()).expect("a users file").users);
    let verifier = Arc::new(Verifier::new(Settings::default()).expect("threads"));
    println!("settings: {:?}", Settings::default());

    runtime.block_on(cold(&verifier, &users));
    hot(&verifier, &users);
    runtime.block_on(equal_time(&verifier, &users));
    runtime.block_on(flood(&verifier, &users));
    lockout();
}

/// 64 connections at once with one credential that nobody has seen yet.
async fn cold(verifier: &Arc<Verifier>, users: &Arc<Users>) {
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (verifier, users) = (Arc::clone(verifier), Arc::clone(users));
            local.spawn_local(
                async move { verifier.verify(&users, "user7", right(), client(1)).await },
            )
        })
        .collect();
    local.await;
    for task in tasks {
        assert_eq!(task.await.expect("a task"), Outcome::Right);
    }
    let hashed = verifier.load().hashed;
    println!(
        "cold: 64 equal credentials, {hashed} hash, all answered after {:?}",
        began.elapsed()
    );
}

fn hot(verifier: &Arc<Verifier>, users: &Arc<Users>) {
    let now = Instant::now();
    let header = b"Basic dXNlcjc6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";
    each("presented::basic", || {
        _ = black_box(presented::basic(black_box(header)))
    });
    let look = || {
        verifier.cached(
            users,
            black_box("user7"),
            black_box(b"correct horse battery"),
            now,
        )
    };
    assert!(look().is_some());
    each("Verifier::cached, hit", || _ = black_box(look()));
    each("Verifier::cached, miss", || {
        _ = black_box(verifier.cached(users, "user7", b"wrong", now))
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                each("Verifier::cached, hit, two threads at once", || {
                    _ = black_box(look())
                })
            });
        }
    });

    let sessions = Sessions::new(SessionSettings::default(), now);
    let user = users.find("user7").expect("a user");
    let opened = sessions.open(user, Origin::Login, now);
    for n in 0..1000 {
        sessions.open(
            users.find(&format!("user{}", n % 20)).expect("a user"),
            Origin::Basic,
            now,
        );
    }
    let id = opened.id.expose();
    assert!(sessions.lookup(users, id, now).is_some());
    each("Sessions::lookup", || {
        _ = black_box(sessions.lookup(users, black_box(id), now))
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                each("Sessions::lookup, one session, two threads at once", || {
                    _ = black_box(sessions.lookup(users, black_box(id), now));
                });
            });
        }
    });

    let (token, text) = Token::new("ci", 0, None);
    let tokens = Tokens::new(vec![token]);
    let path = Path::parse("/api/x").expect("a path");
    each("Tokens::check", || {
        _ = black_box(tokens.check(black_box(text.expose()), "GET", &path, 1));
    });
}

/// 200 tries each for a known user with a wrong password and for an unknown one, in turns, every one another password.
async fn equal_time(verifier: &Arc<Verifier>, users: &Arc<Users>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..200 {
        for (list, user) in [
            (&mut known, "user3".to_owned()),
            (&mut unknown, format!("nobody{n}")),
        ] {
            let password = Secret::new(format!("wrong {n:04}").into_bytes());
            let began = Instant::now();
            let outcome = verifier.verify(users, &user, password, client(1)).await;
            list.push(began.elapsed().as_secs_f64() * 1e3);
            assert_eq!(outcome, Outcome::Wrong);
        }
    }
    let (a, b) = (about(&known), about(&unknown));
    let t = (a.0 - b.0) / (a.1 / 200.0 + b.1 / 200.0).sqrt();
    println!(
        "equal time, 200 each: known {:.3} ms (median {:.3}, sd {:.3}), unknown {:.3} ms (median {:.3}, sd {:.3}), Welch's t = {t:.2} (2.59 is the limit at 0.01)",
        a.0,
        a.2,
        a.1.sqrt(),
        b.0,
        b.2,
        b.1.sqrt()
    );
}

/// 10,000 wrong logins at once from 5,000 addresses.
async fn flood(verifier: &Arc<Verifier>, users: &Arc<Users>) {
    let (before, began) = (resident(), Instant::now());
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = (0..10_000u32)
        .map(|n| {
            let (verifier, users) = (Arc::clone(verifier), Arc::clone(users));
            local.spawn_local(async move {
                let password = Secret::new(format!("wrong {n}").into_bytes());
                verifier
                    .verify(&users, "user3", password, client(n / 2))
                    .await
            })
        })
        .collect();
    let probe = Arc::clone(verifier);
    let people = Arc::clone(users);
    let cached = local.spawn_local(async move {
        let began = Instant::now();
        let found = probe
            .cached(&people, "user7", b"correct horse battery", began)
            .is_some();
        (found, began.elapsed())
    });
    local.await;
    let mut busy = 0;
    for task in tasks {
        busy += usize::from(task.await.expect("a task") == Outcome::Busy);
    }
    println!(
        "flood: 10,000 wrong logins at once, {busy} told busy, all answered after {:?}; resident {before} KiB before, {} KiB after, {} KiB at most; a cached credential amid it: {:?}",
        began.elapsed(),
        resident(),
        peak(),
        cached.await.expect("a task")
    );
}

fn lockout() {
    let now = Instant::now();
    let before = resident();
    let lockout = Lockout::new(LockoutSettings::default(), now);
    let began = Instant::now();
    for n in 0..1_000_000u32 {
        let user = format!("user{}", n % 1000);
        for guess in 0..5 {
            if let Ok(guess) = lockout.begin(client(n), &user, guess, now) {
                guess.wrong(now);
            }
        }
    }
    let spent = began.elapsed();
    for n in 0..1_000_000u32 {
        for guess in 0..5 {
            let user = format!("u{n}-{guess}");
            if let Ok(guess) = lockout.begin(client(n), &user, guess, now) {
                guess.wrong(now);
            }
        }
    }
    let banned = lockout.banned_clients(now);
    let (bytes, most) = lockout.bytes();
    println!(
        "lockout: {ENTRY_BYTES} bytes an entry; 1,000,000 addresses with 5 guesses each: {banned} banned, tables {bytes} bytes ({most} at most), resident {before} -> {} KiB, {:.0} ns a guess",
        resident(),
        spent.as_nanos() as f64 / 5e6
    );
    let wall = std::time::SystemTime::now();
    let began = Instant::now();
    let size = serde_json::to_vec(&lockout.snapshot(now, wall)).map_or(0, |text| text.len());
    println!("snapshot: {size} bytes in {:?}", began.elapsed());
}

fn each(name: &str, mut act: impl FnMut()) {
    const ROUNDS: u32 = 200_000;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            act();
        }
        best = best.min(began.elapsed());
    }
    println!(
        "{name}: {:.0} ns",
        best.as_nanos() as f64 / f64::from(ROUNDS)
    );
}

/// Mean, variance and median.
fn about(list: &[f64]) -> (f64, f64, f64) {
    let n = list.len() as f64;
    let mean = list.iter().sum::<f64>() / n;
    let variance = list.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    (mean, variance, sorted[sorted.len() / 2])
}

fn client(n: u32) -> ClientNet {
    ClientNet::of(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)))
}

fn right() -> Secret<Vec<u8>> {
    Secret::new(b"correct horse battery".to_vec())
}

fn resident() -> usize {
    status("VmRSS:")
}

fn peak() -> usize {
    status("VmHWM:")
}

fn status(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
