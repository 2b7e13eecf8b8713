//! Whether a user's password is right: at once when it was right a moment ago, else by a slow hash on threads of its
//! own. What waits is bounded in number, memory and by client; equal credentials are hashed once; unknown users cost
//! what known ones cost.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::watch;

use super::cache::{Cache, Key};
use super::client_net::ClientNet;
use super::password::{Fingerprint, Hash, LONGEST, Scratch};
use super::queue::{Pushed, Queue};
use super::users::{User, Users};
use crate::base::id::random;
use crate::base::secret::Secret;

/// Memory that a thread keeps between two hashes; what is larger goes back to the system after each.
const KEPT: usize = 32 << 20;
/// After so long without a hash it gives back that as well.
const IDLE: Duration = Duration::from_secs(30);

/// The bounds of a [`Verifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Threads that hash.
    pub threads: usize,
    /// Hashes that may wait; a quarter of them from one client.
    pub queue: usize,
    /// Bytes that running hashes may take together. A single one that needs more runs alone.
    pub memory: usize,
    /// Right credentials that are remembered.
    pub cache: usize,
    /// For how long.
    pub ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 2).clamp(1, 4);
        Self {
            threads,
            // At 20 to 40 ms a hash the last one waits less than three seconds; beyond that "try again" is kinder.
            queue: 64 * threads,
            memory: 256 << 20,
            cache: 4096,
            ttl: Duration::from_secs(600),
        }
    }
}

/// What came of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password is the user's.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Nobody had time to look.
    Busy,
}

/// Verifies passwords for all data threads, for as long as the process lives.
/// Dropping it waits for the hashes that run; those that wait are answered [`Outcome::Busy`].
pub struct Verifier {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    key: hmac::Key,
    cache: Cache,
    settings: Settings,
    state: Mutex<State>,
    /// A job came, memory became free, or the end has come.
    changed: Condvar,
}

struct State {
    queue: Queue<Job>,
    /// The answer of every job that waits or runs, for others with the same credential.
    pending: HashMap<Key, watch::Receiver<Option<bool>>>,
    memory: usize,
    hashed: u64,
    is_closing: bool,
}

/// When it is dropped without an answer, those who wait for it read [`Outcome::Busy`].
struct Job {
    key: Key,
    hash: Hash,
    is_known: bool,
    password: Secret<Vec<u8>>,
    answer: watch::Sender<Option<bool>>,
}

/// How much less the hashing threads get of a processor that is wanted by others too: a third of a data thread's part.
const NICE: i32 = 5;

impl Verifier {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()),
            cache: Cache::new(settings.cache),
            settings,
            state: Mutex::new(State {
                queue: Queue::new(settings.queue),
                pending: HashMap::new(),
                memory: 0,
                hashed: 0,
                is_closing: false,
            }),
            changed: Condvar::new(),
        });
        let mut verifier = Self {
            inner,
            threads: Vec::new(),
        };
        for n in 0..settings.threads.max(1) {
            let inner = Arc::clone(&verifier.inner);
            let thread = thread::Builder::new()
                .name(format!("hash-{n}"))
                .spawn(move || {
                    // Requests come first: a flood of logins must not be felt by whoever is in. Of one thread, on Linux.
                    let _ = setpriority_process(Some(gettid()), NICE);
                    inner.work();
                })?;
            verifier.threads.push(thread);
        }
        Ok(verifier)
    }

    /// The user, if this very credential was right within the time to live and the stored hash is still the same.
    /// No lock, no await, no allocation: the path of almost every request.
    pub fn cached<'u>(
        &self,
        users: &'u Users,
        user: &str,
        password: &[u8],
        now: Instant,
    ) -> Option<&'u User> {
        let found = users.find(user);
        let key = self.inner.key(user, found.map(User::fingerprint), password);
        // The key of an unknown user is never put; looking for it all the same keeps the times alike.
        if self.inner.cache.holds(&key, now) {
            return found;
        }
        None
    }

    /// Whether the password is the user's, for a client that may have to wait for the answer.
    ///
    /// Dropping the future loses nothing: the hash is finished and remembered for the next request.
    pub async fn verify(
        &self,
        users: &Users,
        user: &str,
        password: Secret<Vec<u8>>,
        client: ClientNet,
    ) -> Outcome {
        if password.expose().len() > LONGEST {
            return Outcome::Wrong;
        }
        let mut answer = match self.inner.enqueue(users, user, password, client) {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        let right = answer.wait_for(Option::is_some).await.map(|right| *right);
        match right {
            Ok(Some(true)) => Outcome::Right,
            Ok(Some(false)) => Outcome::Wrong,
            Ok(None) | Err(_) => Outcome::Busy,
        }
    }

    /// Names a credential for the lockout: equal ones under way at the same time are one guess.
    pub fn credential(&self, user: &str, password: &[u8]) -> u64 {
        let Key(bytes) = self.inner.key(user, None, password);
        bytes[..8]
            .iter()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    /// How many hashes wait, how many were made, how many credentials are remembered.
    pub fn load(&self) -> Load {
        let state = self.inner.lock();
        Load {
            waiting: state.queue.len(),
            memory: state.memory,
            hashed: state.hashed,
            remembered: self.inner.cache.len(),
        }
    }

    /// Forgets every credential that was right.
    pub fn forget(&self) {
        self.inner.cache.clear();
    }
}

/// What a [`Verifier`] is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Hashes that wait.
    pub waiting: usize,
    /// Bytes that the running ones take.
    pub memory: usize,
    /// Hashes made since the start.
    pub hashed: u64,
    /// Credentials that are remembered.
    pub remembered: usize,
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.inner.lock();
            state.is_closing = true;
            state.pending.clear();
            std::mem::replace(&mut state.queue, Queue::new(1))
        };
        drop(waiting);
        self.inner.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to wait for.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// HMAC over user, stored hash and password, each with its length, so that no two credentials give one message.
    fn key(&self, user: &str, stored: Option<Fingerprint>, password: &[u8]) -> Key {
        let mut context = hmac::Context::with_key(&self.key);
        let stored = stored.unwrap_or(Fingerprint([0; 32]));
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user.as_bytes());
        context.update(&stored.0);
        context.update(&(password.len() as u64).to_le_bytes());
        context.update(password);
        let mut key = Key([0; 32]);
        key.0.copy_from_slice(context.sign().as_ref());
        key
    }

    fn enqueue(
        &self,
        users: &Users,
        user: &str,
        password: Secret<Vec<u8>>,
        client: ClientNet,
    ) -> Result<watch::Receiver<Option<bool>>, Outcome> {
        let found = users.find(user);
        let key = self.key(user, found.map(User::fingerprint), password.expose());
        let hash = match found {
            Some(found) => found.hash().clone(),
            None => users.decoy(user),
        };
        let mut state = self.lock();
        if state.is_closing {
            return Err(Outcome::Busy);
        }
        if let Some(answer) = state.pending.get(&key) {
            return Ok(answer.clone());
        }
        // Looked at under the lock: a job fills the cache before it stops pending, so none is ever hashed twice.
        if self.cache.holds(&key, Instant::now()) {
            return Err(Outcome::Right);
        }
        let (answer, receiver) = watch::channel(None);
        let job = Job {
            key,
            hash,
            is_known: found.is_some(),
            password,
            answer,
        };
        match state.queue.push(client, job) {
            Pushed::Full(_) => return Err(Outcome::Busy),
            Pushed::Displaced(job) => {
                state.pending.remove(&job.key);
            }
            Pushed::Queued => {}
        }
        state.pending.insert(key, receiver.clone());
        drop(state);
        self.changed.notify_one();
        Ok(receiver)
    }

    /// The life of a hashing thread.
    fn work(&self) {
        give_way();
        let mut scratch = Scratch::default();
        while let Some(job) = self.next(&mut scratch) {
            let memory = job.hash.memory();
            // A panic is a mistake of ours: it costs one answer, not the thread.
            let right = catch_unwind(AssertUnwindSafe(|| {
                job.hash.verify_in(job.password.expose(), &mut scratch) & job.is_known
            }));
            if let Ok(true) = right {
                let now = Instant::now();
                self.cache.put(job.key, now + self.settings.ttl, now);
            }
            scratch.release(KEPT);
            let mut state = self.lock();
            state.memory -= memory;
            state.hashed += 1;
            state.pending.remove(&job.key);
            drop(state);
            self.changed.notify_all();
            if let Ok(right) = right {
                job.answer.send_replace(Some(right));
            }
        }
    }

    /// Waits for a job and for the memory that it needs; nothing when the end has come.
    fn next(&self, scratch: &mut Scratch) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_closing {
                return None;
            }
            let needs = state.queue.peek().map(|job| job.hash.memory());
            if let Some(needs) = needs
                && (state.memory == 0 || state.memory + needs <= self.settings.memory)
            {
                state.memory += needs;
                return state.queue.pop();
            }
            let (waited, timeout) = self
                .changed
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                scratch.release(0);
            }
            state = waited;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Data threads come first where both want a core. On Linux the call means the calling thread alone; elsewhere it
/// would mean the whole process.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // Refused in some sandboxes; then the threads are equals.
        let _ = rustix::process::setpriority_process(None, 5);
    }
}

#[cfg(test)]
mod tests;
