//! The side of the old process. Up to the word `taken` everything can be taken back.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use socket2::SockRef;
use tokio::net::UnixStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::parcel::{expect, send};
use super::talk::{self, Following, Visits};
use super::{Last, Offer, READY, Sockets, TAKEN};
use crate::app::control::{Answer, Failed, told};
use crate::app::lockout_file::LockoutFile;
use crate::app::manager::Manager;
use crate::app::start::Running;
use crate::flow::Shared;
use crate::observe::Event;

/// For the new process to look at everything and to start its threads.
const START: Duration = Duration::from_secs(120);
/// For it to open its doors.
const OPEN: Duration = Duration::from_secs(10);
/// For what it has said already to be read, when we are about to end.
const BREAK: Duration = Duration::from_secs(1);
/// For the last word to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that asks for our place: of our user, or root.
#[derive(Debug)]
pub struct Caller {
    /// What it has asked by.
    pub stream: UnixStream,
    /// Its process, where the kernel can tell.
    pub pid: Option<i32>,
}

/// One that could begin at once.
#[derive(Debug)]
pub struct Heir {
    caller: Caller,
    /// What was counted when it took over: anything after it is news.
    counted: u64,
    /// What has begun and ended since.
    following: Option<Following>,
    /// One at a time.
    _turn: OwnedSemaphorePermit,
}

/// What is given away, and is ours again when nobody takes it.
#[derive(Clone, Debug)]
pub struct House {
    shared: Arc<Shared>,
    lockouts: Option<Arc<LockoutFile>>,
    /// This process does not go on itself.
    ends: Arc<AtomicBool>,
}

impl House {
    /// Of this gate.
    pub fn of(running: &Running) -> Self {
        Self {
            shared: Arc::clone(&running.shared),
            lockouts: running.lockouts.clone(),
            ends: Arc::default(),
        }
    }
}

/// Nobody has taken it: what stopped for the hand-over goes on.
fn take_back(house: &House) {
    if let Some(file) = &house.lockouts {
        file.resume();
    }
    house.shared.shares.resume();
}

/// The last steps of a hand-over. The other process may be silent, so they go on beside everything else.
pub struct Taking {
    house: House,
    /// The connection once more, to close its way to us.
    ear: io::Result<OwnedFd>,
    steps: Pin<Box<dyn Future<Output = Option<Heir>>>>,
}

impl Taking {
    /// Nothing is given away before it is polled.
    pub fn begin(heir: Heir, house: House) -> Self {
        Self {
            ear: heir.caller.stream.as_fd().try_clone_to_owned(),
            steps: Box::pin(heir.take_all(house.clone())),
            house,
        }
    }

    /// Who has taken it. Cancel safe; not to be polled again afterwards.
    pub async fn end(&mut self) -> Option<Heir> {
        self.steps.as_mut().await
    }

    /// We are about to end. What the other one says from here on fails there, so that it knows that it has nothing; what it has said
    /// before counts. At every moment one of the two knows itself for the owner, and never both.
    pub async fn break_off(mut self) -> Option<Heir> {
        self.house.ends.store(true, Ordering::Relaxed);
        let is_shut = self
            .ear
            .as_ref()
            .is_ok_and(|ear| SockRef::from(ear).shutdown(Shutdown::Read).is_ok());
        // Without the way closed the connection ends with the future, a moment later.
        let limit = if is_shut { BREAK } else { Duration::ZERO };
        match timeout(limit, self.steps.as_mut()).await {
            Ok(heir) => heir,
            Err(_) => {
                drop(self.steps);
                take_back(&self.house);
                None
            }
        }
    }
}

/// Who wants to take over.
#[derive(Debug)]
pub struct Giver {
    turn: Arc<Semaphore>,
    ready: mpsc::Sender<Heir>,
    heirs: mpsc::Receiver<Heir>,
    left: Arc<Notify>,
}

impl Giver {
    /// Nobody yet.
    pub fn new() -> Self {
        let (ready, heirs) = mpsc::channel(1);
        Self {
            turn: Arc::new(Semaphore::new(1)),
            ready,
            heirs,
            left: Arc::default(),
        }
    }

    /// Tells of each who was shown everything, and has left or came to no end.
    pub fn left(&self) -> Arc<Notify> {
        Arc::clone(&self.left)
    }

    /// Shows what there is to one who asks, and waits beside for him to be ready. Nothing changes here.
    pub fn begin(&self, caller: Caller, running: &Running) {
        let (ready, shared) = (self.ready.clone(), Arc::clone(&running.shared));
        let left = Arc::clone(&self.left);
        let turn = Arc::clone(&self.turn).try_acquire_owned();
        let offer = match turn {
            Ok(turn) => offer(running)
                .map(|offer| (turn, offer))
                .map_err(|error| format!("the running gate cannot hand over: {error}")),
            Err(_) => Err("another process is about to take over from the running gate".into()),
        };
        tokio::spawn(async move {
            let (turn, (answer, fds)) = match offer {
                Ok(offer) => offer,
                Err(why) => {
                    let text = told(Err(Failed::new(1, why)));
                    let _ = timeout(PATIENCE, send(&caller.stream, &text, &[])).await;
                    return;
                }
            };
            let mut heir = Heir {
                caller,
                counted: 0,
                following: None,
                _turn: turn,
            };
            let shown = async {
                send(&heir.caller.stream, &told(answer), &fds).await?;
                // Ours are as they were: what the other one has of them ends with him.
                drop(fds);
                expect(&mut heir.caller.stream, READY).await
            };
            let error = match timeout(START, shown).await {
                Ok(Ok(())) => return drop(ready.send(heir).await),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            heir.failed(&shared, &error);
            left.notify_one();
        });
    }

    /// Says that there is nothing to take over any more.
    pub fn decline(caller: Caller) {
        tokio::spawn(async move {
            let why = "the gate is about to end, and has closed its listeners";
            let text = told(Err(Failed::new(1, why)));
            let _ = timeout(PATIENCE, send(&caller.stream, &text, &[])).await;
        });
    }

    /// The next one who could begin at once. Cancel safe.
    pub async fn next(&mut self) -> Option<Heir> {
        self.heirs.recv().await
    }
}

/// Everything that listens, once more, and what is known of failed logins.
fn offer(running: &Running) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let (mut listeners, mut fds) = (Vec::new(), Vec::new());
    for held in &running.held {
        let mut spares = held.spares()?;
        // Those of a service manager are one socket for all threads.
        if running.inherited.has(held.address) {
            spares.truncate(1);
        }
        listeners.push(Sockets {
            address: held.address.to_string(),
            name: held.bound.to_string(),
            sockets: spares.len(),
        });
        fds.extend(spares.into_iter().map(Into::into));
    }
    let mut admin = Vec::new();
    for (address, name, socket) in running.desk.spares()? {
        admin.push(Sockets {
            address,
            name,
            sockets: 1,
        });
        fds.push(socket);
    }
    let lockout = &running.shared.lockout;
    let offer = Offer {
        pid: std::process::id(),
        listeners,
        admin,
        lockouts: lockout.snapshot(Instant::now(), SystemTime::now()),
        manager: Manager::of(running.watchdog),
    };
    Ok((Ok(serde_json::to_value(offer)?), fds))
}

impl Heir {
    /// Its process.
    pub fn pid(&self) -> Option<i32> {
        self.caller.pid
    }

    /// Gives everything away, beside whatever else goes on here. `None` when the other one did not take it, within seconds; then this
    /// process goes on, as it does when the future is dropped and [`take_back`] called.
    async fn take_all(mut self, house: House) -> Option<Self> {
        match self.try_take(&house).await {
            Ok(()) => {
                if let Some(file) = &house.lockouts {
                    file.let_go();
                }
                let event = Event::info("handed_over");
                house.shared.log.event(self.named(event));
                Some(self)
            }
            Err(error) => {
                take_back(&house);
                let error = match house.ends.load(Ordering::Relaxed) {
                    true => io::Error::other("this one was told to end before that"),
                    false => error,
                };
                self.failed(&house.shared, &error);
                None
            }
        }
    }

    async fn try_take(&mut self, house: &House) -> io::Result<()> {
        let mut lock = Vec::new();
        if let Some(file) = house.lockouts.as_ref().map(Arc::clone) {
            let shared = Arc::clone(&house.shared);
            let give = move || file.give(&shared.lockout, &shared.log);
            let given = tokio::task::spawn_blocking(give).await;
            lock.extend(given.map_err(io::Error::other)?);
        }
        let lockout = &house.shared.lockout;
        self.counted = lockout.changes();
        let (visits, following) = Visits::of(&house.shared)?;
        self.following = Some(following);
        let last = Last {
            lockouts: Some(lockout.snapshot(Instant::now(), SystemTime::now())),
            has_lock: !lock.is_empty(),
            visits: Some(serde_json::to_value(visits)?),
        };
        let text = line(&last)?;
        let agreed = async {
            send(&self.caller.stream, &text, &lock).await?;
            expect(&mut self.caller.stream, TAKEN).await
        };
        timeout(OPEN, agreed)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Tells the other one what begins and ends here during the drain, and hears the same.
    pub fn part(self, running: &Running) -> Parted {
        let (over, is_over) = oneshot::channel::<()>();
        let (shared, ring) = (Arc::clone(&running.shared), running.bell());
        let (stream, turn) = (self.caller.stream, self._turn);
        let task = self.following.map(|following| {
            let over = async { _ = is_over.await };
            tokio::spawn(following.talk(stream, shared, ring, over))
        });
        Parted {
            counted: self.counted,
            task,
            over,
            _turn: turn,
        }
    }

    fn failed(&self, shared: &Shared, error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => "it has ended".to_owned(),
            io::ErrorKind::TimedOut => "it did not come to an end in time".to_owned(),
            _ => error.to_string(),
        };
        let event = self.named(Event::warn("hand_over_failed"));
        shared.log.event(event.with("why", why));
    }

    fn named(&self, event: Event) -> Event {
        match self.caller.pid {
            Some(pid) => event.with("pid", pid),
            None => event,
        }
    }
}

/// The old process, after it has given everything away.
#[derive(Debug)]
pub struct Parted {
    counted: u64,
    task: Option<JoinHandle<Option<Arc<UnixStream>>>>,
    over: oneshot::Sender<()>,
    _turn: OwnedSemaphorePermit,
}

impl Parted {
    /// Tells what was counted during the drain, when that is over.
    pub async fn tell_rest(self, shared: &Shared) {
        let _ = self.over.send(());
        let Some(task) = self.task else { return };
        let Ok(Ok(Some(stream))) = timeout(PATIENCE, task).await else {
            return;
        };
        let lockout = &shared.lockout;
        let last = (lockout.changes() != self.counted).then(|| Last {
            lockouts: Some(lockout.snapshot(Instant::now(), SystemTime::now())),
            has_lock: false,
            visits: None,
        });
        talk::last(&stream, last).await;
    }
}

fn line(last: &Last) -> io::Result<String> {
    Ok(json!(last).to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;
    use crate::app::hand_over::trial::gate;

    #[tokio::test]
    async fn whoever_ends_in_the_last_moment_knows_whether_his_place_was_taken() {
        for is_taken in [true, false] {
            let (ours, theirs) = StdStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let caller = Caller {
                stream: UnixStream::from_std(ours).unwrap(),
                pid: None,
            };
            let heir = Heir {
                caller,
                counted: 0,
                following: None,
                _turn: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
            };
            let house = House {
                shared: gate(),
                lockouts: None,
                ends: Arc::default(),
            };
            let mut taking = Taking::begin(heir, house);
            let mut lines = BufReader::new(theirs.try_clone().unwrap());
            let given = tokio::task::spawn_blocking(move || lines.read_line(&mut String::new()));
            tokio::select! {
                _ = taking.end() => panic!("nobody has said that he serves"),
                given = given => assert!(given.unwrap().unwrap() > 0),
            }
            if is_taken {
                // It lies there, unread.
                (&theirs).write_all(TAKEN.as_bytes()).unwrap();
            }
            let begun = Instant::now();
            assert_eq!(taking.break_off().await.is_some(), is_taken);
            assert!(begun.elapsed() < BREAK, "nobody is waited for");
            if !is_taken {
                let late = (&theirs).write_all(TAKEN.as_bytes()).unwrap_err();
                assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            }
        }
    }
}
