//! What a service manager is told (`sd_notify(3)`): ready, reloading, stopping, alive. Without `NOTIFY_SOCKET` nothing is.

use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::start::Running;
use crate::base::drain::Phase;
use crate::observe::Event;

/// How long a manager that does not read may hold us up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What looks after a process: one that takes its place in the same unit is looked after as well, whatever `WATCHDOG_PID` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manager {
    /// `NOTIFY_SOCKET`.
    socket: String,
    /// Microseconds.
    watchdog: Option<u64>,
}

impl Manager {
    /// Who looks after this process; `watchdog` is how long he waits for a sign of life.
    pub fn of(watchdog: Option<Duration>) -> Option<Self> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Some(Self {
            socket: socket()?.to_string_lossy().into_owned(),
            watchdog: watchdog.map(micros),
        })
    }

    /// Whether he looks after this process, too.
    pub fn is_ours(&self) -> bool {
        Self::of(None).is_some_and(|ours| ours.socket == self.socket)
    }

    /// How long he waits for a sign of life, if he does.
    pub fn watchdog(&self) -> Option<Duration> {
        let micros = self.watchdog.filter(|micros| *micros > 0);
        micros.map(Duration::from_micros)
    }
}

fn socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

/// It serves, by the plan in force, which is the newest there is or not.
pub(super) fn ready(running: &Running, is_newest: bool) {
    // It has been told of the end, or looks after another process.
    if running.phase() != Phase::Run {
        return;
    }
    let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
    let what = match is_newest {
        true => "serving",
        false => "the last reload was rejected (`loopgate status` says why); serving",
    };
    let status = format!("READY=1\nSTATUS={what} {}", addresses.join(" "));
    tell(running, &status);
}

/// Another plan is being taken; [`ready`] follows, whatever comes of it.
pub(super) fn reloading(running: &Running) {
    if running.phase() != Phase::Run {
        return;
    }
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    tell(
        running,
        &format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"),
    );
}

/// Another process goes on: the manager looks after that one, where it is of the same unit.
pub(super) fn handed_over(running: &Running, heir: Option<i32>) {
    if let Some(pid) = heir {
        tell(running, &format!("MAINPID={pid}"));
    }
}

/// What runs has time to finish.
pub(super) fn stopping(running: &Running) {
    tell(running, "STOPPING=1\nSTATUS=draining");
}

fn tell(running: &Running, text: &str) {
    let Some(socket) = socket() else { return };
    if let Err(error) = send(&socket, text) {
        let event = Event::warn("notify_failed").with("error", error);
        running.shared.log.event(event);
    }
}

fn send(name: &OsStr, text: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// How long the manager waits for a sign of life of this process, if it does.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && for_us)?;
    Some(Duration::from_micros(micros))
}

/// Asks the data threads whether they still turn.
#[derive(Debug, Default)]
pub(super) struct Heart {
    asked: watch::Sender<u64>,
    answers: Vec<Arc<AtomicU64>>,
}

/// The end of a data thread.
#[derive(Debug)]
pub(super) struct Beat {
    asked: watch::Receiver<u64>,
    answer: Arc<AtomicU64>,
}

impl Heart {
    /// One more thread that is to answer.
    pub fn thread(&mut self) -> Beat {
        let answer = Arc::<AtomicU64>::default();
        self.answers.push(Arc::clone(&answer));
        Beat {
            asked: self.asked.subscribe(),
            answer,
        }
    }

    /// Whether all have answered the last question; then the next one is asked.
    fn beats(&self) -> bool {
        let asked = *self.asked.borrow();
        let answered = |answer: &Arc<AtomicU64>| answer.load(Ordering::Acquire) == asked;
        let all = self.answers.iter().all(answered);
        if all {
            self.asked.send_modify(|asked| *asked += 1);
        }
        all
    }
}

impl Beat {
    /// Answers when it is asked. For ever, and cancel safe.
    pub async fn answer(&mut self) {
        while self.asked.changed().await.is_ok() {
            let asked = *self.asked.borrow_and_update();
            self.answer.store(asked, Ordering::Release);
        }
        pending().await
    }
}

/// Tells the manager twice in its time that all threads turn, for as long as they do. For ever: the control loop turns it.
pub(super) async fn keep_alive(heart: Arc<Heart>, watchdog: Option<Duration>) {
    let Some((every, socket)) = watchdog.map(|time| time / 2).zip(socket()) else {
        return pending().await;
    };
    loop {
        let next = if heart.beats() {
            // What does not arrive is missed by the manager, who acts on it.
            let _ = send(&socket, "WATCHDOG=1");
            every
        } else {
            every / 8
        };
        tokio::time::sleep(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_heart_beats_while_every_thread_answers() {
        let mut heart = Heart::default();
        let (mut one, mut two) = (heart.thread(), heart.thread());
        assert!(heart.beats(), "nothing was asked yet");
        assert!(!heart.beats(), "nobody has answered");
        let turn = Duration::from_millis(50);
        let _ = tokio::time::timeout(turn, one.answer()).await;
        assert!(!heart.beats(), "one has not");
        let _ = tokio::time::timeout(turn, two.answer()).await;
        assert!(heart.beats());
        assert!(!heart.beats(), "and they are asked again");
    }

    #[test]
    fn what_is_sent_arrives_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let hidden = format!("loopgate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).unwrap();
        for (socket, name) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.clone().into_os_string(),
            ),
            (
                UnixDatagram::bind_addr(&address).unwrap(),
                format!("@{hidden}").into(),
            ),
        ] {
            send(&name, "READY=1").unwrap();
            let mut got = [0; 64];
            let n = socket.recv(&mut got).unwrap();
            assert_eq!(&got[..n], b"READY=1");
        }
        assert!(send(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
