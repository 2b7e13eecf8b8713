//! The verifier with real hashes, as cheap as they may be.

use super::*;

/// argon2id with the smallest costs, so that a hash takes microseconds.
fn cheap(password: &[u8]) -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
    let params = Params::new(64, 1, 1, None).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password)
        .unwrap()
        .to_string()
}

fn users(list: &[(&str, &str)]) -> Arc<Users> {
    let text: String = list
        .iter()
        .map(|(name, password)| format!("{name}:{}\n", cheap(password.as_bytes())))
        .collect();
    Arc::new(Users::parse(text.as_bytes()).unwrap().users)
}

fn client(n: u64) -> ClientNet {
    ClientNet::from_bits(n)
}

fn secret(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn verifier(threads: usize, queue: usize) -> Verifier {
    Verifier::new(Settings {
        threads,
        queue,
        ..Settings::default()
    })
    .unwrap()
}

/// Holds all threads of the verifier until it is dropped: they need the lock to take a job.
fn stalled(verifier: &Verifier) {
    verifier.inner.lock().memory = usize::MAX / 2;
}

fn released(verifier: &Verifier) {
    verifier.inner.lock().memory = 0;
    verifier.inner.changed.notify_all();
}

#[test]
fn right_wrong_and_unknown() {
    let verifier = verifier(1, 8);
    let users = users(&[("alice", "secret")]);
    for (user, password, want) in [
        ("alice", "secret", Outcome::Right),
        ("alice", "Secret", Outcome::Wrong),
        ("alice", "", Outcome::Wrong),
        ("nobody", "secret", Outcome::Wrong),
        ("", "secret", Outcome::Wrong),
    ] {
        let got = run(verifier.verify(&users, user, secret(password), client(1)));
        assert_eq!(got, want, "{user} {password}");
    }
    let giant = Secret::new(vec![b'x'; LONGEST + 1]);
    let got = run(verifier.verify(&users, "alice", giant, client(1)));
    assert_eq!((got, verifier.load().hashed), (Outcome::Wrong, 5));
}

#[test]
fn only_successes_are_remembered_until_their_time_has_passed() {
    let verifier = verifier(1, 8);
    let users = users(&[("alice", "secret")]);
    let now = Instant::now();
    assert!(verifier.cached(&users, "alice", b"secret", now).is_none());
    for (user, password) in [("alice", "secret"), ("alice", "wrong"), ("eve", "secret")] {
        run(verifier.verify(&users, user, secret(password), client(1)));
    }
    let found = verifier.cached(&users, "alice", b"secret", now);
    assert_eq!(found.map(User::name), Some("alice"));
    assert!(verifier.cached(&users, "alice", b"wrong", now).is_none());
    assert!(verifier.cached(&users, "eve", b"secret", now).is_none());
    assert_eq!(verifier.load().remembered, 1);
    let later = Instant::now() + Settings::default().ttl;
    assert!(verifier.cached(&users, "alice", b"secret", later).is_none());
    verifier.forget();
    assert!(verifier.cached(&users, "alice", b"secret", now).is_none());
}

#[test]
fn a_changed_or_removed_user_is_forgotten_at_once() {
    let verifier = verifier(1, 8);
    let before = users(&[("alice", "secret"), ("bob", "secret")]);
    run(verifier.verify(&before, "alice", secret("secret"), client(1)));
    let now = Instant::now();
    let cached = |users: &Users| verifier.cached(users, "alice", b"secret", now).is_some();
    assert!(cached(&before));
    // The same password with another salt is another stored hash.
    assert!(!cached(&users(&[("alice", "secret")])));
    assert!(!cached(&users(&[("bob", "secret")])));
    assert!(verifier.cached(&before, "bob", b"secret", now).is_none());
}

#[test]
fn the_parts_of_a_credential_cannot_be_shifted_into_each_other() {
    let verifier = verifier(1, 8);
    let key = |user, password: &[u8]| verifier.inner.key(user, None, password);
    assert_ne!(key("ab", b"c"), key("a", b"bc"));
    assert_ne!(key("", b"abc"), key("abc", b""));
}

#[test]
fn sixty_four_cold_connections_with_one_credential_cost_one_hash() {
    let verifier = Arc::new(verifier(2, 8));
    let users = users(&[("alice", "secret")]);
    stalled(&verifier);
    run(async {
        let tasks: Vec<_> = (0..64)
            .map(|n| {
                let (verifier, users) = (Arc::clone(&verifier), Arc::clone(&users));
                tokio::spawn(async move {
                    let password = secret("secret");
                    verifier.verify(&users, "alice", password, client(n)).await
                })
            })
            .collect();
        while verifier.inner.lock().pending.is_empty() {
            tokio::task::yield_now().await;
        }
        released(&verifier);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Outcome::Right);
        }
    });
    assert_eq!(verifier.load().hashed, 1);
}

#[test]
fn a_hash_is_finished_and_remembered_when_the_client_has_gone() {
    let verifier = verifier(1, 8);
    let users = users(&[("alice", "secret")]);
    run(async {
        let mut asked = Box::pin(verifier.verify(&users, "alice", secret("secret"), client(1)));
        // One look is enough to put it into the queue.
        tokio::select! { biased; _ = &mut asked => {}, () = std::future::ready(()) => {} }
        drop(asked);
        while verifier.load().remembered == 0 {
            tokio::task::yield_now().await;
        }
    });
    let now = Instant::now();
    assert!(verifier.cached(&users, "alice", b"secret", now).is_some());
}

#[test]
fn a_flood_is_told_busy_at_once_and_leaves_room_for_others() {
    let verifier = verifier(1, 8);
    let users = users(&[("alice", "secret")]);
    stalled(&verifier);
    run(async {
        let guess =
            |who, n: u32| verifier.verify(&users, "alice", secret(&n.to_string()), client(who));
        let mut waiting = Vec::new();
        for n in 0..100 {
            let mut asked = Box::pin(guess(1, n));
            tokio::select! {
                biased;
                outcome = &mut asked => assert_eq!(outcome, Outcome::Busy),
                () = std::future::ready(()) => waiting.push(asked),
            }
        }
        assert_eq!(
            (waiting.len(), verifier.load().waiting),
            (2, 2),
            "a quarter of eight"
        );
        let mut other = Box::pin(verifier.verify(&users, "alice", secret("secret"), client(2)));
        tokio::select! { biased; _ = &mut other => panic!("it waits"), () = std::future::ready(()) => {} }
        released(&verifier);
        assert_eq!(other.await, Outcome::Right);
        for asked in waiting {
            assert_eq!(asked.await, Outcome::Wrong);
        }
    });
    assert_eq!(verifier.load().memory, 0);
}

#[test]
fn those_who_wait_at_the_end_are_told_busy() {
    let verifier = verifier(1, 8);
    let users = users(&[("alice", "secret")]);
    stalled(&verifier);
    let answer = verifier
        .inner
        .enqueue(&users, "alice", secret("secret"), client(1))
        .unwrap();
    drop(verifier);
    assert!(answer.has_changed().is_err(), "nobody will answer");
}
