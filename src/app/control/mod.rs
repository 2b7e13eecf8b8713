//! The control socket: commands of the owner to the running gate. One connection, one line of JSON each way. It says who
//! asks and hands the question on; what a verb does stands in `app/verbs`.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

mod client;
mod place;
mod words;

pub use client::{AskError, Gate, ask, find};
pub use place::{client_dirs, server_dir};
pub(super) use place::{is_alive, short};
pub use words::{Answer, Failed, PROTOCOL, Verb};

pub(super) use client::{answered, dial};
use words::{Line, Question};

use super::hand_over::Caller;

/// The longest question.
const LONGEST: u64 = 16 << 10;
/// Questions at the same time; one more is told that the gate is busy, and a command asks again.
const MOST: usize = 16;
/// Connections that have not asked yet; one more closes the one that has been silent for longest, so that whoever asks gets in.
const SILENT: usize = 64;
/// For what these have said to be seen before one is closed.
const GLANCE: Duration = Duration::from_millis(1);
/// For a question to arrive, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// For an answer to be found: a reload compiles the plan and looks at every upstream.
const WORK: Duration = Duration::from_secs(120);

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Ask {
    /// What is asked for.
    pub verb: Verb,
    /// The connection itself, where more is to be said than an answer.
    pub caller: Option<Caller>,
    answer: oneshot::Sender<Answer>,
    /// Those who had asked for the same before it was begun: what is done is done for them too.
    others: Vec<oneshot::Sender<Answer>>,
}

impl Ask {
    /// Gives the answer. Nobody may be waiting any more; that is no error.
    pub fn answer(self, answer: Answer) {
        for other in self.others {
            let _ = other.send(answer.clone());
        }
        let _ = self.answer.send(answer);
    }
}

/// The gate's end of the socket. The file goes with it.
#[derive(Debug)]
pub struct Control {
    path: Option<PathBuf>,
    asks: mpsc::Receiver<Ask>,
    /// Taken from there, and not given yet.
    later: VecDeque<Ask>,
    /// Keeps the channel open where there is no socket: then nobody ever asks.
    _open: mpsc::Sender<Ask>,
}

impl Control {
    /// Opens the socket in `dir` (made when missing, 0700) and begins to listen on this runtime.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let (listener, path) = bind(dir)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (asking, asks) = mpsc::channel(MOST);
        tokio::spawn(accept(listener, asking.clone()));
        Ok(Self {
            path: Some(path),
            asks,
            later: VecDeque::new(),
            _open: asking,
        })
    }

    /// A gate that nobody can ask.
    pub fn none() -> Self {
        let (asking, asks) = mpsc::channel(1);
        Self {
            path: None,
            asks,
            later: VecDeque::new(),
            _open: asking,
        }
    }

    /// The next question. One for a reload stands for all that wait, as none of them has been begun. Cancel safe.
    pub async fn next(&mut self) -> Option<Ask> {
        let mut ask = match self.later.pop_front() {
            Some(ask) => ask,
            None => self.asks.recv().await?,
        };
        if ask.verb == Verb::Reload && self.later.len() < MOST {
            self.later
                .extend(std::iter::from_fn(|| self.asks.try_recv().ok()));
            for other in std::mem::take(&mut self.later) {
                match other.verb == Verb::Reload {
                    true => ask.others.push(other.answer),
                    false => self.later.push_back(other),
                }
            }
        }
        Some(ask)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket named by the process, so that several gates of one user are several files. It is bound under another name and
/// moved into place, so that whoever finds it can connect; what a dead process left is taken away.
fn bind(dir: &Path) -> io::Result<(StdListener, PathBuf)> {
    place::make(dir)?;
    place::clear(dir);
    let pid = std::process::id();
    let hidden = dir.join(format!(".{pid}.new"));
    let _ = std::fs::remove_file(&hidden);
    let listener = place::short(&hidden, StdListener::bind)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
    for n in 0..MOST {
        // Process numbers are unique in one process namespace only: containers may share the directory.
        let name = match n {
            0 => format!("{pid}.sock"),
            n => format!("{pid}-{n}.sock"),
        };
        let path = dir.join(name);
        if !place::is_alive(&path) {
            std::fs::rename(&hidden, &path)?;
            return Ok((listener, path));
        }
    }
    let _ = std::fs::remove_file(&hidden);
    Err(io::Error::other(
        "too many gates have their control socket in this directory",
    ))
}

async fn accept(listener: UnixListener, asking: mpsc::Sender<Ask>) {
    let places = Arc::new(Semaphore::new(MOST));
    // Each is closed when its end here is dropped, and closes this when it has asked.
    let mut silent: VecDeque<oneshot::Sender<()>> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|who| is_owner(who.uid())) {
            continue;
        }
        silent.retain(|one| !one.is_closed());
        if silent.len() >= SILENT {
            tokio::time::sleep(GLANCE).await;
            silent.retain(|one| !one.is_closed());
        }
        if silent.len() >= SILENT {
            silent.pop_front();
        }
        let (held, pushed_out) = oneshot::channel();
        silent.push_back(held);
        let (asking, places) = (asking.clone(), Arc::clone(&places));
        tokio::spawn(async move {
            talk(stream, pushed_out, &places, &asking).await;
        });
        // Those that are here are heard before more are let in: a question is read before a crowd pushes it out.
        tokio::task::yield_now().await;
    }
}

/// The user of this process, or root. The mode of the directory says the same; this holds should somebody change it.
fn is_owner(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw() || uid == 0
}

async fn talk(
    stream: UnixStream,
    pushed_out: oneshot::Receiver<()>,
    places: &Semaphore,
    asking: &mpsc::Sender<Ask>,
) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(LONGEST));
    let asked = tokio::select! {
        biased;
        heard = timeout(PATIENCE, reader.read_line(&mut line)) => match heard {
            Ok(Ok(_)) => Question::parse(&line),
            Ok(Err(_)) | Err(_) => return,
        },
        // Whoever asks in this very moment reads why.
        _ = pushed_out => Err(Failed::busy()),
    };
    let place = places.try_acquire();
    let answer = match asked {
        Ok(_) if place.is_err() => Err(Failed::busy()),
        Ok(Verb::TakeOver) => {
            // Nothing follows the question until it is answered.
            if let Ok(stream) = reader.into_inner().into_inner().reunite(writer) {
                lend(stream, asking);
            }
            return;
        }
        Ok(verb) => work(verb, asking).await,
        Err(failed) => Err(failed),
    };
    let text = told(answer);
    let _ = timeout(PATIENCE, async {
        writer.write_all(text.as_bytes()).await?;
        writer.shutdown().await
    })
    .await;
}

/// An answer as it is said.
pub(super) fn told(answer: Answer) -> String {
    Line::new(answer).text()
}

/// Hands the connection on. When the gate is busy it closes, which the other side can read.
fn lend(stream: UnixStream, asking: &mpsc::Sender<Ask>) {
    let pid = stream.peer_cred().ok().and_then(|who| who.pid());
    let (answer, _) = oneshot::channel();
    let _ = asking.try_send(Ask {
        verb: Verb::TakeOver,
        caller: Some(Caller { stream, pid }),
        answer,
        others: Vec::new(),
    });
}

async fn work(verb: Verb, asking: &mpsc::Sender<Ask>) -> Answer {
    let (answer, wait) = oneshot::channel();
    let asked = asking.try_send(Ask {
        verb,
        caller: None,
        answer,
        others: Vec::new(),
    });
    if asked.is_err() {
        return Err(Failed::busy());
    }
    match timeout(WORK, wait).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Failed::new(1, "the gate has ended")),
        Err(_) => Err(Failed::new(1, "the gate did not come to an answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_answered_and_what_cannot_be_read_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a".repeat(120)).join("control");
        let mut control = Control::open(&dir).unwrap();
        let path = control.path.clone().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        let second = Control::open(&dir).unwrap();
        assert_ne!(second.path, control.path, "two in one directory");
        let asked = path.clone();
        let client = tokio::task::spawn_blocking(move || ask(&asked, &Verb::Status, PATIENCE));
        let question = control.next().await.unwrap();
        assert!(matches!(question.verb, Verb::Status));
        question.answer(Ok(json!({"pid": 7})));
        assert_eq!(client.await.unwrap().unwrap()["pid"], 7);
        for (text, want) in [
            ("nonsense\n", "cannot be read"),
            ("{\"v\":1,\"do\":\"dance\"}\n", "does not know"),
            ("{\"v\":2,\"do\":\"status\"}\n", "protocol"),
        ] {
            let stream = place::short(&path, std::os::unix::net::UnixStream::connect).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut stream = UnixStream::from_std(stream).unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut got = String::new();
            stream.read_to_string(&mut got).await.unwrap();
            assert!(got.contains(want), "{text}: {got}");
        }
        drop(control);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn whoever_asks_gets_in_past_any_number_of_silent_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut control = Control::open(dir.path()).unwrap();
        let path = control.path.clone().unwrap();
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(UnixStream::connect(&path).await.unwrap());
        }
        let client = tokio::task::spawn_blocking(move || ask(&path, &Verb::Status, PATIENCE));
        let question = tokio::time::timeout(PATIENCE, control.next())
            .await
            .unwrap();
        question.unwrap().answer(Ok(json!({"pid": 7})));
        assert_eq!(client.await.unwrap().unwrap()["pid"], 7);
        // Those that were pushed out know it; the last ones are still heard.
        let mut told = String::new();
        crowd[0].read_to_string(&mut told).await.unwrap();
        assert!(told.contains("is_busy"), "{told}");
        let (mut last, mut text) = (crowd.pop().unwrap(), String::new());
        last.write_all(b"nonsense\n").await.unwrap();
        last.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("cannot be read"), "{text}");
    }

    #[tokio::test]
    async fn one_reload_is_done_for_all_who_asked_before_it_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut control = Control::open(dir.path()).unwrap();
        let path = control.path.clone().unwrap();
        let client = |verb: Verb| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || ask(&path, &verb, PATIENCE).unwrap())
        };
        let mut early: Vec<_> = (0..5).map(|_| client(Verb::Reload)).collect();
        early.push(client(Verb::Status));
        while control.asks.len() < 6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut reload, mut other) = (None, None);
        for _ in 0..2 {
            let ask = control.next().await.unwrap();
            match ask.verb {
                Verb::Reload => reload = Some(ask),
                _ => other = Some(ask),
            }
        }
        // Who asks now is not answered by what has begun.
        let late = client(Verb::Reload);
        while control.asks.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        other.unwrap().answer(Ok(json!("status")));
        reload.unwrap().answer(Ok(json!("first")));
        let mut told = Vec::new();
        for one in early {
            told.push(one.await.unwrap());
        }
        let first = told.iter().filter(|one| **one == "first");
        assert_eq!((first.count(), &told[5]), (5, &json!("status")));
        let second = control.next().await.unwrap();
        second.answer(Ok(json!("second")));
        assert_eq!(late.await.unwrap(), "second");
    }

    #[tokio::test]
    async fn a_command_asks_a_busy_gate_again_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut control = Control::open(dir.path()).unwrap();
        let path = control.path.clone().unwrap();
        let client = |limit: Duration| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || ask(&path, &Verb::Status, limit))
        };
        let first: Vec<_> = (0..MOST).map(|_| client(PATIENCE * 6)).collect();
        while control.asks.len() < MOST {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = client(Duration::from_secs(3)).await.unwrap();
        let error = error.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, AskError::Failed(f) if f.is_busy && f.code == 1));
        assert!(told.contains("busy") && told.contains("nothing was done"));
        let patient = client(PATIENCE * 6);
        for _ in 0..MOST {
            control.next().await.unwrap().answer(Ok(json!(1)));
        }
        for one in first {
            one.await.unwrap().unwrap();
        }
        control.next().await.unwrap().answer(Ok(json!(2)));
        assert_eq!(patient.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_directory_that_others_can_write_is_made_private_and_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("control");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let _control = Control::open(&open).unwrap();
        assert_eq!(
            std::fs::metadata(&open).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(Control::open(&link).is_err());
    }

    #[test]
    fn only_the_owner_and_root_may_ask() {
        let own = rustix::process::geteuid().as_raw();
        assert!(is_owner(own) && is_owner(0));
        assert!(!is_owner(own.wrapping_add(4711)));
    }
}
