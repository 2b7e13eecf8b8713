//! The kit of the integration tests: the real program in process, clients that write raw bytes, a recording upstream, and
//! an oracle that reads what arrived there.

#![allow(dead_code, reason = "a kit offers more than each test takes")]

pub mod client;
pub mod frames;
pub mod gate;
pub mod h2_client;
pub mod h2_upstream;
pub mod message;
pub mod naive;
pub mod table;
pub mod upstream;

use std::future::Future;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::Client;
pub use frames::{H2, Outcome};
pub use gate::Gate;
pub use message::Request;
pub use upstream::{After, At, Upstream, free, hold, nobody};

/// What takes longer than this has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for something within the deadline.
pub async fn soon<T>(what: &str, it: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, it).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits for a fact that nobody announces.
pub async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    soon(what, async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Tells another thread that something may happen, or has happened. Every `set` lets one `wait` pass.
#[derive(Clone, Default)]
pub struct Signal(Arc<(Mutex<usize>, Condvar)>);

impl Signal {
    pub fn set(&self) {
        *self.0.0.lock().expect("not poisoned") += 1;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let lock = self.0.0.lock().expect("not poisoned");
        let (mut lock, waited) = self
            .0
            .1
            .wait_timeout_while(lock, DEADLINE, |n| *n == 0)
            .expect("not poisoned");
        assert!(!waited.timed_out(), "nobody gave the signal");
        *lock -= 1;
    }
}

/// Whether this process runs the named test and nothing else. Otherwise it is run in a process of its own, to its end: what is
/// measured of a process must not be somebody else's.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os("LOOPGATE_ALONE").is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("LOOPGATE_ALONE", "1")
        .output()
        .expect("this program can be started");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test has this name: {said}");
    false
}

/// How many times longer than alone a piece of work takes on this machine now: what it takes on average, by what it takes at best.
pub fn crowding() -> f64 {
    let (start, mut best, mut pieces) = (Instant::now(), Duration::MAX, 0_u32);
    while start.elapsed() < Duration::from_millis(80) {
        let begun = Instant::now();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[0; 16 << 10]);
        std::hint::black_box(hash);
        best = best.min(begun.elapsed());
        pieces += 1;
    }
    let alone = f64::from(pieces) * best.as_secs_f64().max(1e-9);
    (start.elapsed().as_secs_f64() / alone).max(1.0)
}

/// `Basic` credentials.
pub fn basic(user: &str, password: &str) -> String {
    let text = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    format!("Basic {text}")
}
