//! Failed logins over a restart: read at start, written within seconds after they change and at the end. Never on a data thread.

use std::fs::DirBuilder;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use super::life;
use crate::disk::{Format, InUse, InUseError};
use crate::limit::lockout::{Lockout, LockoutSettings, Snapshot};
use crate::observe::{Event, Log};

const FORMAT: Format = Format {
    kind: "lockouts",
    version: 1,
};
/// A flood that changes much takes long to write: this many times as long nothing is written afterwards.
const REST: u32 = 20;

/// For a process that has just taken the lock to write its first file.
const BESIDE: Duration = Duration::from_secs(1);

/// The file of one gate. Where several have the same one, who holds its lock writes; who comes after joins what is there to what it
/// has counted itself.
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
    /// Taken at the start or as soon as it can be: another gate may have it, or the process that hands over to us.
    held: Option<InUse>,
    /// Another process goes on with it: nothing is written here.
    is_given: bool,
    /// What the file was when it was last joined: another one was written since then.
    begun_with: Option<u64>,
}

impl LockoutFile {
    pub fn new(path: PathBuf, now: Instant) -> Self {
        let state = State {
            written: 0,
            rest_until: now,
            has_failed: false,
            held: None,
            is_given: false,
            begun_with: FORMAT.read(&path).ok().flatten().map(|(_, b)| mark(&b)),
        };
        Self {
            path,
            state: Mutex::new(state),
        }
    }

    /// Goes on where the last process ended. A file that cannot be used is said and, where nobody else keeps it, set aside: nobody is
    /// locked out then, and nobody who should be is let in by more than his first guesses. Blocks on the disk.
    pub fn open(&self, settings: LockoutSettings, now: Instant, log: &Log) -> Lockout {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = match self.take() {
            Ok(held) => {
                state.held = Some(held);
                self.read()
            }
            Err(InUseError::Taken { .. }) => self.read_beside(),
            // It may be readable all the same; what cannot be written is said when there is something to write.
            Err(InUseError::Io { .. }) => self.read(),
        };
        if let Ok(Some((snapshot, mark))) = &mut found {
            state.begun_with = Some(*mark);
            let wall = life::wall(&self.path, snapshot.taken());
            return Lockout::restore(settings, snapshot, now, wall);
        }
        if let Err(why) = found {
            self.unread(why, state.held.is_some(), log);
        }
        let lockout = Lockout::new(settings, now);
        if state.held.is_some() {
            // At once, so that whoever starts beside us hides names by the same key.
            let _ = self.write(&lockout, now);
        }
        lockout
    }

    /// Whether there is anything to write, and time to.
    pub fn is_due(&self, lockout: &Lockout, now: Instant) -> bool {
        match self.state.try_lock() {
            Ok(state) => {
                // One that another gate keeps is ours as soon as that one has ended.
                let is_wanted = state.held.is_none() || state.written != lockout.changes();
                is_wanted && now >= state.rest_until && !state.is_given
            }
            Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Writes what has changed. With the lock of a gate that kept it until now comes what that one has counted, which holds here from
    /// then on. Blocks on the disk.
    pub fn save(&self, lockout: &Lockout, log: &Log) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_given || (state.held.is_some() && state.written == lockout.changes()) {
            return;
        }
        let began = Instant::now();
        let held = match &state.held {
            Some(_) => Ok(()),
            None => match self.take() {
                Ok(held) => {
                    state.held = Some(held);
                    self.join(lockout, state.begun_with, began, log);
                    Ok(())
                }
                Err(why) => {
                    self.learn(&mut state, lockout, began);
                    Err(why)
                }
            },
        };
        let changes = lockout.changes();
        let written = match held {
            _ if state.written == changes => Ok(()),
            Ok(()) => self.write(lockout, began),
            Err(error) => Err(io::Error::other(error)),
        };
        match written {
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

    /// Nobody has taken it. Where the lock was ended meanwhile, and another gate has it now, the file is that one's.
    pub fn resume(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_given = false;
        state.held = state.held.take().filter(InUse::again);
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

    fn take(&self) -> Result<InUse, InUseError> {
        if let Some(folder) = self.path.parent() {
            let mut all = DirBuilder::new();
            // What is missing then is said by the next step.
            let _ = all.recursive(true).mode(0o700).create(folder);
        }
        InUse::take(&self.path)
    }

    fn write(&self, lockout: &Lockout, now: Instant) -> io::Result<()> {
        let wall = SystemTime::now();
        let bytes = serde_json::to_vec(&lockout.snapshot(now, wall))?;
        FORMAT.write(&self.path, &bytes)?;
        life::note(&self.path, wall);
        Ok(())
    }

    /// What is in the file, and its mark; else why it is of no use.
    fn read(&self) -> Result<Option<(Snapshot, u64)>, String> {
        let Some((_, bytes)) = FORMAT.read(&self.path).map_err(|e| e.to_string())? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(snapshot) => Ok(Some((snapshot, mark(&bytes)))),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    /// The same while another gate has the lock, which writes a file as soon as it has it.
    fn read_beside(&self) -> Result<Option<(Snapshot, u64)>, String> {
        let end = Instant::now() + BESIDE;
        loop {
            match self.read() {
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                found => return found,
            }
        }
    }

    /// Joins what the gate that kept the file until now has counted since we began.
    fn join(&self, lockout: &Lockout, begun_with: Option<u64>, now: Instant, log: &Log) {
        let why = match self.read() {
            Ok(None) => return,
            Ok(Some((_, mark))) if Some(mark) == begun_with => return,
            Ok(Some((snapshot, _))) if lockout.join(&snapshot, now, SystemTime::now()) => return,
            Ok(Some(_)) => format!(
                "{}: it hides names by another key, so of users nothing was taken; client networks were",
                self.path.display()
            ),
            Err(why) => why,
        };
        self.unread(why, true, log);
    }

    /// Joins what the gate that keeps the file has counted by now, while it goes on.
    fn learn(&self, state: &mut State, lockout: &Lockout, now: Instant) {
        if let Ok(Some((snapshot, mark))) = self.read()
            && state.begun_with.replace(mark) != Some(mark)
        {
            lockout.join(&snapshot, now, SystemTime::now());
        }
    }

    fn unread(&self, why: String, is_ours: bool, log: &Log) {
        if is_ours {
            let aside = self.path.with_extension("unread");
            // Where that fails it is written over, which is as good.
            let _ = std::fs::rename(&self.path, aside);
        }
        log.event(Event::warn("lockouts_unread").with("why", why));
    }
}

/// Tells two writings of the file apart.
fn mark(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
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

    fn wrong(lockout: &Lockout, client: &str, user: &str, times: u64) {
        let (client, now) = (ClientNet::of(client.parse().unwrap()), Instant::now());
        for n in 0..times {
            let _ = lockout.begin(client, user, n, now).map(|g| g.wrong(now));
        }
    }

    fn locks(lockout: &Lockout, client: &str, user: &str) -> bool {
        let client = ClientNet::of(client.parse().unwrap());
        lockout.look(client, user, Instant::now()).is_some()
    }

    /// Two gates of one state directory, which was empty before.
    struct Two {
        dir: tempfile::TempDir,
        log: Log,
        files: [LockoutFile; 2],
        counts: [Lockout; 2],
    }

    fn two() -> Two {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::start(Sink::Off, Look::Text, false).unwrap();
        let (now, settings) = (Instant::now(), LockoutSettings::default());
        let path = dir.path().join("lockouts-8443");
        let files = [(); 2].map(|()| LockoutFile::new(path.clone(), now));
        let counts = [0, 1].map(|n| files[n].open(settings, now, &log));
        Two {
            dir,
            log,
            files,
            counts,
        }
    }

    #[test]
    fn what_the_gate_beside_it_has_written_holds_as_soon_as_that_one_has_ended() {
        let Two {
            dir,
            log,
            files: [first, second],
            counts: [a, b],
        } = two();
        // Of users as well: the second one has the key of the first.
        (1..=5).for_each(|n| wrong(&a, &format!("192.0.2.{n}"), "carol", 1));
        wrong(&a, "198.51.100.1", "x", 5);
        wrong(&b, "198.51.100.2", "y", 5);
        first.save(&a, &log);
        let later = Instant::now() + Duration::from_secs(3600);
        second.save(&b, &log);
        assert!(second.is_due(&b, later), "the first one keeps it");
        // While both go on, the second one holds to what the first has written, and not the other way round.
        assert!(locks(&b, "198.51.100.1", "z") && locks(&b, "203.0.113.9", "carol"));
        assert!(!locks(&a, "198.51.100.2", "z"));
        wrong(&a, "198.51.100.3", "v", 5);
        first.save(&a, &log);
        assert!(!locks(&b, "198.51.100.3", "z"));
        second.save(&b, &log);
        assert!(locks(&b, "198.51.100.3", "z"));
        drop(first);
        second.save(&b, &log);
        for lockout in [
            &b,
            &LockoutFile::new(dir.path().join("lockouts-8443"), later).open(
                LockoutSettings::default(),
                Instant::now(),
                &log,
            ),
        ] {
            assert!(
                locks(lockout, "203.0.113.9", "carol"),
                "a user of the other"
            );
            assert!(locks(lockout, "198.51.100.1", "z"), "a client of the other");
            assert!(locks(lockout, "198.51.100.2", "z"), "its own");
            assert!(!locks(lockout, "203.0.113.9", "z"));
        }
        assert!(!second.is_due(&b, later), "once");
    }

    #[test]
    fn a_gate_that_has_counted_nothing_takes_over_what_the_other_one_has_written() {
        let two = two();
        let [first, second] = two.files;
        wrong(&two.counts[0], "198.51.100.1", "x", 5);
        first.save(&two.counts[0], &two.log);
        drop(first);
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(second.is_due(&two.counts[1], later));
        second.save(&two.counts[1], &two.log);
        assert!(locks(&two.counts[1], "198.51.100.1", "z"));
    }

    #[test]
    fn a_file_that_nobody_has_written_since_is_not_joined_again() {
        let two = two();
        let [first, second] = two.files;
        wrong(&two.counts[0], "198.51.100.1", "x", 5);
        first.save(&two.counts[0], &two.log);
        let settings = LockoutSettings::default();
        let path = two.dir.path().join("lockouts-8443");
        let third = LockoutFile::new(path, Instant::now());
        let _ = third.open(settings, Instant::now(), &two.log);
        drop((first, second));
        // One that has let go since of what it began with: how long ago that was written nobody can tell any more.
        let count = Lockout::new(settings, Instant::now());
        third.save(&count, &two.log);
        assert!(!locks(&count, "198.51.100.1", "z"));
    }

    #[test]
    fn what_the_other_gate_left_and_cannot_be_read_is_set_aside_and_only_then() {
        let two = two();
        let [first, second] = two.files;
        let path = two.dir.path().join("lockouts-8443");
        std::fs::write(&path, "loopgate lockouts 2\n{}").unwrap();
        let settings = LockoutSettings::default();
        let third = LockoutFile::new(path.clone(), Instant::now());
        let _ = third.open(settings, Instant::now(), &two.log);
        assert!(path.exists(), "it is another one's");
        wrong(&two.counts[1], "198.51.100.2", "y", 5);
        drop(first);
        second.save(&two.counts[1], &two.log);
        let aside = std::fs::read(path.with_extension("unread")).unwrap();
        assert_eq!(aside, b"loopgate lockouts 2\n{}");
        assert!(FORMAT.read(&path).unwrap().is_some());
        assert!(locks(&two.counts[1], "198.51.100.2", "z"));
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
            assert!(!is_locked(&lockout), "{text}");
            let aside = std::fs::read_to_string(path.with_extension("unread"));
            assert_eq!(aside.unwrap(), text);
            fails(&lockout, 1);
            file.save(&lockout, &log);
            assert!(FORMAT.read(&path).unwrap().is_some());
        }
    }
}
