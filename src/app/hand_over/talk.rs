//! While the old process drains, what begins and ends at one of the two does so at the other: whoever logs out at one is out at both.
//! A line each; what a side does not know it passes over, so that versions may differ. A talk that breaks off before the drain is over
//! ends whoever is logged in: nobody knows any more who has logged out at the other one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Last;
use super::parcel::{Lines, send};
use crate::auth::session::{Change, Changes};
use crate::auth::share::Ends;
use crate::flow::Shared;
use crate::observe::Event;

/// How sessions and links are written. A reader takes what is not newer than itself.
pub(super) const VERSION: u32 = 1;
/// For a line to be taken. A side that reads is never slower, whatever it has to say itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is logged in and which links there are, when the new process takes over.
#[derive(Serialize, Deserialize)]
pub(super) struct Visits {
    version: u32,
    /// Whether the old process says when its drain is over.
    #[serde(default)]
    says_over: bool,
    sessions: Vec<Value>,
    links: Vec<Value>,
}

/// One line, in either direction.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum News {
    Session(Change),
    LinkEnded(String),
    /// It has told less than has happened.
    LostTrack,
    /// What was counted to the last, by the old one.
    Last(Box<Last>),
    /// Its drain is over: the end of the connection is none of the talk before its time.
    Over,
}

/// What begins and ends here, for the other one.
#[derive(Debug)]
pub(super) struct Following {
    sessions: Changes,
    links: Ends,
    /// Whether an end without [`News::Over`] is one before its time.
    has_promise: bool,
}

impl Visits {
    /// All of them, and what happens from then on. No link opens here any more.
    pub fn of(shared: &Shared) -> io::Result<(Self, Following)> {
        let now = Instant::now();
        let (all, sessions) = shared.sessions.carry(now);
        let (open, links) = shared.shares.carry(now);
        let visits = Self {
            version: VERSION,
            says_over: true,
            sessions: all
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<_, _>>()?,
            links: open
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<_, _>>()?,
        };
        // The new one goes on at least as long as the drain.
        let following = Following {
            sessions,
            links,
            has_promise: true,
        };
        Ok((visits, following))
    }

    /// As they were told. `None` when they are of a version that we do not know: whatever that says, people log in again.
    pub fn read(told: Value) -> io::Result<Option<Self>> {
        match told.get("version").and_then(Value::as_u64) {
            Some(version) if version > VERSION.into() => Ok(None),
            Some(_) | None => Ok(Some(serde_json::from_value(told)?)),
        }
    }

    /// Whether the old process says when its drain is over.
    pub fn says_over(&self) -> bool {
        self.says_over
    }

    /// Goes on with them: how many sessions and links there were. One with something that we do not know is left out.
    pub fn take(self, shared: &Shared) -> (usize, usize) {
        let (plan, now) = (shared.live.current(), Instant::now());
        let sessions = self.sessions.into_iter().filter(|one| {
            let one = Deserialize::deserialize(one);
            one.is_ok_and(|one| shared.sessions.adopt(&one, &plan.users, now))
        });
        let links = self.links.into_iter().filter(|one| {
            let one = Deserialize::deserialize(one);
            one.is_ok_and(|one| shared.shares.adopt(one, now))
        });
        (sessions.count(), links.count())
    }
}

impl Following {
    /// What begins and ends from now on. `has_promise`: the other one says when it is over.
    pub fn begin(shared: &Shared, has_promise: bool) -> Self {
        Self {
            sessions: shared.sessions.follow(),
            links: shared.shares.follow(),
            has_promise,
        }
    }

    /// Tells and hears until the other side says that its drain is over, or `over` does of ours; then the connection is given back for
    /// a last word. Whoever ends or does not read before has lost track. `ring` has every stream look whether it may go on.
    pub async fn talk(
        self,
        stream: UnixStream,
        shared: Arc<Shared>,
        ring: impl Fn(),
        over: impl Future<Output = ()>,
    ) -> Option<Arc<UnixStream>> {
        let has_promise = self.has_promise;
        let end = self.until_over(stream, &shared, &ring, over).await;
        match end {
            Ok(stream) => stream,
            Err(_) => {
                if has_promise {
                    lost(&shared, &ring);
                }
                None
            }
        }
    }

    /// `None` when the other side has said it.
    async fn until_over(
        mut self,
        stream: UnixStream,
        shared: &Shared,
        ring: &impl Fn(),
        over: impl Future<Output = ()>,
    ) -> io::Result<Option<Arc<UnixStream>>> {
        let (mut lines, mut tells) = (Lines::new(stream), true);
        tokio::pin!(over);
        loop {
            let news = tokio::select! {
                biased;
                change = self.sessions.recv(), if tells => change.map(News::Session),
                id = self.links.recv(), if tells => id.map(News::LinkEnded),
                line = lines.next() => {
                    if hear(shared, &line?, ring) {
                        return Ok(None);
                    }
                    continue;
                }
                () = &mut over => return Ok(Some(lines.stream)),
            };
            tells = news.is_some();
            let text = line(&news.unwrap_or(News::LostTrack))?;
            let out = Arc::clone(&lines.stream);
            let sent = timeout(PATIENCE, send(&out, &text, &[]));
            tokio::pin!(sent);
            // Two that both have much to say must not wait for each other.
            loop {
                tokio::select! {
                    sent = &mut sent => {
                        // One that has ended may have said its last word before.
                        tells &= sent?.is_ok();
                        break;
                    }
                    line = lines.next() => if hear(shared, &line?, ring) {
                        return Ok(None);
                    },
                }
            }
        }
    }
}

/// The last words of the old process: what it has counted, and that it has nothing more to say.
pub(super) async fn last(stream: &UnixStream, last: Option<Last>) {
    let last = last.map(|last| News::Last(Box::new(last)));
    for news in last.into_iter().chain([News::Over]) {
        if let Ok(text) = line(&news) {
            let _ = timeout(PATIENCE, send(stream, &text, &[])).await;
        }
    }
}

/// What either side has heard: whether the drain of the other one is over. A line that is not known is passed over.
fn hear(shared: &Shared, line: &[u8], ring: &impl Fn()) -> bool {
    match serde_json::from_slice(line) {
        Ok(News::Session(Change::Began(carried))) => {
            let (plan, now) = (shared.live.current(), Instant::now());
            shared.sessions.adopt(&carried, &plan.users, now);
        }
        // Their streams are woken by it.
        Ok(News::Session(Change::Ended(key))) => _ = shared.sessions.close_carried(&key),
        Ok(News::LinkEnded(id)) => {
            if shared.shares.revoke(Some(&id), Instant::now()) > 0 {
                ring();
            }
        }
        Ok(News::LostTrack) => lost(shared, ring),
        Ok(News::Last(last)) => know(shared, &last),
        Ok(News::Over) => return true,
        Err(_) => {}
    }
    false
}

/// Nobody knows which of them have ended: whoever is logged in does so again.
fn lost(shared: &Shared, ring: &impl Fn()) {
    let sessions = shared.sessions.close_all();
    let links = shared.shares.revoke(None, Instant::now());
    ring();
    let event = Event::warn("hand_over_lost").with("sessions", sessions);
    shared.log.event(event.with("links", links));
}

/// Counts of the other process.
fn know(shared: &Shared, last: &Last) {
    if let Some(lockouts) = &last.lockouts {
        let now = (Instant::now(), SystemTime::now());
        shared.lockout.join(lockouts, now.0, now.1);
    }
}

pub(super) fn line(news: &News) -> io::Result<String> {
    Ok(json!(news).to_string() + "\n")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::app::hand_over::trial::gate;
    use crate::auth::session::{Opened, Origin};
    use crate::auth::users::Users;

    const A: &str = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";
    const MANY: usize = 4_000;

    fn open(gate: &Shared) -> Opened {
        let users = Users::parse(format!("alice:{A}").as_bytes()).unwrap().users;
        let alice = users.find("alice").unwrap();
        gate.sessions.open(alice, Origin::Login, Instant::now())
    }

    /// More than a socket holds.
    fn much(gate: &Shared) {
        for _ in 0..MANY {
            assert!(gate.sessions.close_key(&open(gate).key));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_read_has_lost_track_and_so_has_the_other() {
        let gate = gate();
        let _ = open(&gate);
        let following = Following::begin(&gate, true);
        much(&gate);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let rung = AtomicUsize::new(0);
        let ring = || _ = rung.fetch_add(1, Ordering::Relaxed);
        let talk = following.talk(ours, Arc::clone(&gate), ring, pending());
        assert!(talk.await.is_none(), "the connection has an end");
        assert_eq!((gate.sessions.len(), rung.into_inner()), (0, 1));
        let mut text = Vec::new();
        theirs.read_to_end(&mut text).await.unwrap();
        assert!(text.len() > 1000, "and it is seen there");
    }

    #[tokio::test]
    async fn an_end_without_the_last_word_is_one_before_its_time() {
        for (said, has_promise, is_left) in [
            ("", true, false),
            ("\"over\"", true, false),
            ("\"over\"\n", true, true),
            ("\"lost-track\"\n\"over\"\n", true, false),
            ("{\"of\":\"tomorrow\"}\n", true, false),
            ("{\"of\":\"tomorrow\"}\n\"over\"\n", true, true),
            // A version that promised nothing.
            ("", false, true),
        ] {
            let gate = gate();
            let _ = open(&gate);
            let following = Following::begin(&gate, has_promise);
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said.as_bytes()).await.unwrap();
            drop(theirs);
            let talk = following.talk(ours, Arc::clone(&gate), || {}, pending());
            assert!(talk.await.is_none());
            assert_eq!(!gate.sessions.is_empty(), is_left, "{said:?} {has_promise}");
        }
    }

    #[tokio::test]
    async fn the_drain_of_the_old_one_is_over_when_it_says_so() {
        let [old, new] = [gate(), gate()];
        let [there, here] = [open(&old), open(&new)];
        let (ours, theirs) = UnixStream::pair().unwrap();
        let talks = (
            Following::begin(&old, true).talk(ours, Arc::clone(&old), || {}, ready(())),
            Following::begin(&new, true).talk(theirs, Arc::clone(&new), || {}, pending()),
        );
        let ends = async {
            last(&talks.0.await.unwrap(), None).await;
        };
        let ((), end) = tokio::join!(ends, talks.1);
        assert!(end.is_none());
        for (gate, opened) in [(&old, there), (&new, here)] {
            assert!(gate.sessions.close_key(&opened.key), "it went on");
        }
    }

    #[tokio::test]
    async fn two_that_have_much_to_say_do_not_wait_for_each_other() {
        let [old, new] = [gate(), gate()];
        let both = [Following::begin(&old, true), Following::begin(&new, true)];
        for gate in [&old, &new] {
            let _ = open(gate);
            much(gate);
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [mine, other] = both;
        let started = Instant::now();
        let talks = (
            mine.talk(ours, Arc::clone(&old), || {}, ready(())),
            other.talk(theirs, Arc::clone(&new), || {}, pending()),
        );
        let ends = async {
            let stream = talks.0.await.expect("everything was told");
            last(&stream, None).await;
            // What the other one says last is of no use to anybody.
            drop(stream);
        };
        let ((), end) = tokio::join!(ends, talks.1);
        assert!(end.is_none() && started.elapsed() < PATIENCE * 10);
        assert_eq!(old.sessions.len(), 1);
        assert_eq!(new.sessions.len(), 1, "nobody has lost track");
    }
}
