//! While the old process drains, what begins and ends at one of the two does so at the other: whoever logs out at one is out at both.
//! A line each; what a side does not know it passes over, so that versions may differ.

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
const VERSION: u32 = 1;
/// For a line to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is logged in and which links there are, when the new process takes over.
#[derive(Serialize, Deserialize)]
pub(super) struct Visits {
    version: u32,
    sessions: Vec<Value>,
    links: Vec<Value>,
}

/// One line, in either direction.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum News {
    Session(Change),
    LinkEnded(String),
    /// It has told less than has happened.
    LostTrack,
    /// What was counted to the last, by the old one.
    Last(Box<Last>),
}

/// What begins and ends here, for the other one.
#[derive(Debug)]
pub(super) struct Following {
    sessions: Changes,
    links: Ends,
}

impl Visits {
    /// All of them, and what happens from then on. No link opens here any more.
    pub fn of(shared: &Shared) -> io::Result<(Self, Following)> {
        let now = Instant::now();
        let (all, sessions) = shared.sessions.carry(now);
        let (open, links) = shared.shares.carry(now);
        let visits = Self {
            version: VERSION,
            sessions: all
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<_, _>>()?,
            links: open
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<_, _>>()?,
        };
        Ok((visits, Following { sessions, links }))
    }

    /// Goes on with them: how many sessions and links there were. `None` when they are of a version that we do not know.
    pub fn take(self, shared: &Shared) -> Option<(usize, usize)> {
        if self.version > VERSION {
            return None;
        }
        let (plan, now) = (shared.live.current(), Instant::now());
        let sessions = self.sessions.into_iter().filter(|one| {
            let one = Deserialize::deserialize(one);
            one.is_ok_and(|one| shared.sessions.adopt(&one, &plan.users, now))
        });
        let links = self.links.into_iter().filter(|one| {
            let one = Deserialize::deserialize(one);
            one.is_ok_and(|one| shared.shares.adopt(one, now))
        });
        Some((sessions.count(), links.count()))
    }
}

impl Following {
    /// What begins and ends from now on.
    pub fn begin(shared: &Shared) -> Self {
        Self {
            sessions: shared.sessions.follow(),
            links: shared.shares.follow(),
        }
    }

    /// Tells and hears until the other side ends, or `over` says so; then the connection is given back for a last word. `ring` has
    /// every stream look whether it may go on.
    pub async fn talk(
        mut self,
        stream: UnixStream,
        shared: Arc<Shared>,
        ring: impl Fn(),
        over: impl Future<Output = ()>,
    ) -> Option<UnixStream> {
        let (mut lines, mut tells) = (Lines::new(stream), true);
        tokio::pin!(over);
        loop {
            let news = tokio::select! {
                biased;
                change = self.sessions.recv(), if tells => change.map(News::Session),
                id = self.links.recv(), if tells => id.map(News::LinkEnded),
                line = lines.next() => {
                    hear(&shared, &line.ok()?, &ring);
                    continue;
                }
                () = &mut over => return Some(lines.stream),
            };
            tells = news.is_some();
            let text = line(&news.unwrap_or(News::LostTrack)).ok()?;
            // Whoever does not read is of a version that does not know the talk, or hangs: he is listened to all the same.
            let sent = timeout(PATIENCE, send(&lines.stream, &text, &[])).await;
            tells &= matches!(sent, Ok(Ok(())));
        }
    }
}

/// The last word of the old process.
pub(super) async fn last(stream: &UnixStream, last: Last) {
    if let Ok(text) = line(&News::Last(Box::new(last))) {
        let _ = timeout(PATIENCE, send(stream, &text, &[])).await;
    }
}

/// What either side has heard. A line that is not known is passed over.
fn hear(shared: &Shared, line: &[u8], ring: &impl Fn()) {
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
        // Nobody knows which of them have ended: whoever is logged in does so again.
        Ok(News::LostTrack) => {
            let sessions = shared.sessions.close_all();
            let links = shared.shares.revoke(None, Instant::now());
            ring();
            let event = Event::warn("hand_over_lost").with("sessions", sessions);
            shared.log.event(event.with("links", links));
        }
        Ok(News::Last(last)) => know(shared, &last),
        Err(_) => {}
    }
}

/// Counts of the other process.
fn know(shared: &Shared, last: &Last) {
    if let Some(lockouts) = &last.lockouts {
        let now = (Instant::now(), SystemTime::now());
        shared.lockout.join(lockouts, now.0, now.1);
    }
}

fn line(news: &News) -> io::Result<String> {
    Ok(json!(news).to_string() + "\n")
}
