//! Failed logins over a restart: read at start, written within seconds after they change and at the end. Never on a data thread.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use crate::disk::{Format, InUse};
use crate::limit::lockout::{Lockout, LockoutSettings, Snapshot};
use crate::observe::{Event, Log};

const FORMAT: Format = Format {
    kind: "lockouts",
    version: 1,
};
/// A flood that changes much takes long to write: this many times as long nothing is written afterwards.
const REST: u32 = 20;

/// The file of one gate.
#[derive(Debug)]
pub(super) struct LockoutFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// [`Lockout::changes`] when it was written last.
    written: u64,
    rest_until: Instant,
    has_failed: bool,
    /// Taken at the first writing, and tried again until it can be: the process that hands over to us still has it.
    held: Option<InUse>,
    /// Another process goes on with it: nothing is written here.
    is_given: bool,
}

impl LockoutFile {
    pub fn new(path: PathBuf, now: Instant) -> Self {
        let state = State {
            written: 0,
            rest_until: now,
            has_failed: false,
            held: None,
            is_given: false,
        };
        Self {
            path,
            state: Mutex::new(state),
        }
    }

    /// Goes on where the last process ended. A file that cannot be used is said and kept aside: nobody is locked out then, and
    /// nobody who should be is let in by more than his first guesses.
    pub fn open(&self, settings: LockoutSettings, now: Instant, log: &Log) -> Lockout {
        let why = match FORMAT.read(&self.path) {
            Ok(None) => return Lockout::new(settings, now),
            Ok(Some((_, bytes))) => match serde_json::from_slice::<Snapshot>(&bytes) {
                Ok(snapshot) => {
                    return Lockout::restore(settings, &snapshot, now, SystemTime::now());
                }
                Err(error) => format!("{}: {error}", self.path.display()),
            },
            Err(error) => error.to_string(),
        };
        let aside = self.path.with_extension("unread");
        // Where that fails it is written over, which is as good.
        let _ = std::fs::rename(&self.path, aside);
        log.event(Event::warn("lockouts_unread").with("why", why));
        Lockout::new(settings, now)
    }

    /// Whether there is anything to write, and time to.
    pub fn is_due(&self, lockout: &Lockout, now: Instant) -> bool {
        match self.state.try_lock() {
            Ok(state) => {
                let is_due = state.written != lockout.changes() && now >= state.rest_until;
                is_due && !state.is_given
            }
            Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Writes what has changed. Blocks on the disk.
    pub fn save(&self, lockout: &Lockout, log: &Log) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = lockout.changes();
        if state.written == changes || state.is_given {
            return;
        }
        let began = Instant::now();
        match self.write(lockout, began, &mut state.held) {
            Ok(()) => state.written = changes,
            // Said once, and tried again.
            Err(error) if !state.has_failed => {
                let event = Event::error("lockouts_unwritten");
                log.event(event.with("why", format!("{}: {error}", self.path.display())));
            }
            Err(_) => {}
        }
        state.has_failed = state.written != changes;
        state.rest_until = Instant::now() + began.elapsed().min(Duration::from_secs(60)) * REST;
    }

    /// Writes for the last time, blocking on the disk, and gives the lock for the process that goes on, if there is one. Nothing is
    /// written here until [`LockoutFile::resume`].
    pub fn give(&self, lockout: &Lockout, log: &Log) -> Option<OwnedFd> {
        self.save(lockout, log);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_given = true;
        state.held.as_ref().and_then(|held| held.share().ok())
    }

    /// Nobody has taken it.
    pub fn resume(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_given = false;
    }

    /// Another process has it, and the lock alone: nothing is written here any more.
    pub fn let_go(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_given = true;
        state.held = None;
    }

    /// Goes on with the lock of another process. One that is of another file is none: the own one is taken at the first writing.
    pub fn adopt(&self, lock: OwnedFd) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held = InUse::adopt(&self.path, lock).ok();
    }

    fn write(&self, lockout: &Lockout, now: Instant, held: &mut Option<InUse>) -> io::Result<()> {
        let bytes = serde_json::to_vec(&lockout.snapshot(now, SystemTime::now()))?;
        if let Some(folder) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        if held.is_none() {
            *held = Some(InUse::take(&self.path).map_err(io::Error::other)?);
        }
        FORMAT.write(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::client_net::ClientNet;
    use crate::observe::{Format as Look, Sink};

    const CLIENT: &str = "192.0.2.7";

    fn fails(lockout: &Lockout, times: u64) {
        let (client, now) = (ClientNet::of(CLIENT.parse().unwrap()), Instant::now());
        for n in 0..times {
            lockout.begin(client, "bob", n, now).unwrap().wrong(now);
        }
    }

    fn is_locked(lockout: &Lockout) -> bool {
        let client = ClientNet::of(CLIENT.parse().unwrap());
        lockout.look(client, "alice", Instant::now()).is_some()
    }

    #[test]
    fn a_lockout_outlives_the_process_and_is_written_only_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/lockouts-8443");
        let log = Log::start(Sink::Off, Look::Text, false).unwrap();
        let (now, settings) = (Instant::now(), LockoutSettings::default());
        let file = LockoutFile::new(path.clone(), now);
        let lockout = file.open(settings, now, &log);
        assert!(!file.is_due(&lockout, now) && !is_locked(&lockout));
        fails(&lockout, 5);
        assert!(file.is_due(&lockout, now));
        file.save(&lockout, &log);
        assert!(!file.is_due(&lockout, now + Duration::from_secs(3600)));
        let again = LockoutFile::new(path, now).open(settings, now, &log);
        assert!(is_locked(&again));
    }

    #[test]
    fn one_process_at_a_time_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lockouts-8443");
        let log = Log::start(Sink::Off, Look::Text, false).unwrap();
        let (now, settings) = (Instant::now(), LockoutSettings::default());
        let (old, new) = (
            LockoutFile::new(path.clone(), now),
            LockoutFile::new(path, now),
        );
        let lockout = old.open(settings, now, &log);
        fails(&lockout, 1);
        old.save(&lockout, &log);
        let later = now + Duration::from_secs(3600);
        new.save(&lockout, &log);
        assert!(new.is_due(&lockout, later), "the other one keeps it");
        drop(old);
        new.save(&lockout, &log);
        assert!(!new.is_due(&lockout, later), "and has gone");
    }

    #[test]
    fn what_is_given_is_written_by_the_other_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lockouts-8443");
        let log = Log::start(Sink::Off, Look::Text, false).unwrap();
        let (now, settings) = (Instant::now(), LockoutSettings::default());
        let later = now + Duration::from_secs(3600);
        let (old, new) = (
            LockoutFile::new(path.clone(), now),
            LockoutFile::new(path.clone(), now),
        );
        let lockout = old.open(settings, now, &log);
        fails(&lockout, 1);
        let lock = old.give(&lockout, &log).unwrap();
        let written = std::fs::read(&path).unwrap();
        fails(&lockout, 1);
        assert!(!old.is_due(&lockout, later));
        old.save(&lockout, &log);
        assert_eq!(std::fs::read(&path).unwrap(), written, "nothing any more");
        old.resume();
        assert!(old.is_due(&lockout, later), "nobody has taken it");
        new.adopt(lock);
        old.let_go();
        old.save(&lockout, &log);
        assert_eq!(std::fs::read(&path).unwrap(), written);
        new.save(&lockout, &log);
        assert_ne!(std::fs::read(&path).unwrap(), written);
        assert!(InUse::take(&path).is_err(), "never free between the two");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lockouts-8443");
        let log = Log::start(Sink::Off, Look::Text, false).unwrap();
        let (now, settings) = (Instant::now(), LockoutSettings::default());
        for text in [
            "",
            "loopgate lockouts 1\n{\"taken\":",
            "loopgate lockouts 2\n{}",
        ] {
            std::fs::write(&path, text).unwrap();
            let file = LockoutFile::new(path.clone(), now);
            let lockout = file.open(settings, now, &log);
            assert!(!is_locked(&lockout) && !path.exists(), "{text}");
            fails(&lockout, 1);
            file.save(&lockout, &log);
            assert!(path.exists());
        }
    }
}
