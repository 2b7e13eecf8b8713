//! The hint on the page of a service that is not there or not the one it was, for people who are logged in. The threads that serve may
//! not look at other processes, so they ask the control thread who listens instead, and wait a moment for it; else it is said without
//! names. Asked at most once a second for each upstream and thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::intake::Intake;
use super::state::{Conn, Worker};
use crate::base::refusal::{Reason, Refusal};
use crate::exposure::{Scene, place};
use crate::observe::Record;
use crate::plan::Plan;
use crate::upstream::STRANGER;

/// How long a hint is good: who reloads wants to see what has changed.
const GOOD: Duration = Duration::from_secs(1);
/// How long a visitor waits for the names, and for what can be said without. The page says enough without either.
const PATIENCE: Duration = Duration::from_millis(300);
/// Upstreams remembered.
const MOST: usize = 64;
/// Questions that wait at a time.
const WAITING: usize = 16;

/// What to tell of a service with another certificate than the one that is held to.
const CHANGED: &str = "Its certificate is not the one that was seen before. Whoever runs loopgate finds both in its log, and with `loopgate upstream-cert list`.";

/// What listens instead of an upstream: asked by the threads that serve, answered by one that may look.
#[derive(Debug)]
pub struct Questions {
    ask: mpsc::Sender<Question>,
    /// Until somebody has taken it.
    desk: Mutex<Option<mpsc::Receiver<Question>>>,
}

/// One question.
#[derive(Debug)]
pub struct Question {
    /// What was dialled, as [`place`] has it.
    pub place: Place,
    /// The sentence goes there. Whoever asked may have gone.
    pub answer: oneshot::Sender<String>,
}

/// What was dialled, its port, or its path.
type Place = (String, Option<u16>, Option<std::path::PathBuf>);

impl Default for Questions {
    fn default() -> Self {
        let (ask, desk) = mpsc::channel(WAITING);
        let desk = Mutex::new(Some(desk));
        Self { ask, desk }
    }
}

impl Questions {
    /// The questions, for the one who answers them; `None` for everybody after.
    pub fn take(&self) -> Option<mpsc::Receiver<Question>> {
        self.desk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Asks. `None` when nobody answers in time, or at all.
    async fn ask(&self, place: &Place) -> Option<String> {
        let (answer, told) = oneshot::channel();
        let question = Question {
            place: place.clone(),
            answer,
        };
        self.ask.try_send(question).ok()?;
        timeout(PATIENCE, told).await.ok()?.ok()
    }
}

/// The hints of one data thread, by upstream.
#[derive(Debug, Default)]
pub struct Hints(RefCell<HashMap<String, Known>>);

/// When it was looked up, and what was found.
type Known = (Instant, Option<Rc<str>>);

/// What to tell this visitor about the refusal, beside its sentence. Who is not logged in learns nothing of what runs here.
pub async fn hint(
    worker: &Worker,
    refusal: Refusal,
    intake: Option<&Intake<'_>>,
    conn: &Conn,
    plan: &Plan,
    record: &Record,
) -> Option<Rc<str>> {
    let is_absent = refusal.reason == Reason::UpstreamRefused;
    let is_stranger = refusal.reason == Reason::UpstreamBroken && refusal.detail == STRANGER;
    if !(is_absent || is_stranger) || record.user.is_none() {
        return None;
    }
    if is_stranger {
        return Some(CHANGED.into());
    }
    let intake = intake?;
    let found = plan
        .site
        .table
        .find(&intake.authority.host, conn.local.ip(), &intake.path)
        .ok()?;
    let upstream = &plan.routes.get(found)?.upstream;
    let place = place(&upstream.target().address);
    // Boxed: this is the cold branch of every request.
    Box::pin(worker.hints.of(place, &worker.shared.questions)).await
}

impl Hints {
    async fn of(&self, place: Place, questions: &Questions) -> Option<Rc<str>> {
        let (now, dialled) = (Instant::now(), &place.0);
        let known = self.0.borrow().get(dialled).cloned();
        if let Some((_, hint)) = known.clone().filter(|(at, _)| now - *at < GOOD) {
            return hint;
        }
        // Whoever comes meanwhile takes what was known before.
        self.keep(dialled, now, known.and_then(|(_, hint)| hint));
        let hint = match questions.ask(&place).await {
            Some(hint) => hint,
            None => without_names(&place).await?,
        };
        let hint: Rc<str> = hint.into();
        self.keep(dialled, now, Some(Rc::clone(&hint)));
        Some(hint)
    }

    fn keep(&self, name: &str, at: Instant, hint: Option<Rc<str>>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.to_owned(), (at, hint));
    }
}

/// What this thread can tell itself. It sees no files, so of a socket in the file system it says nothing.
async fn without_names((dialled, port, _): &Place) -> Option<String> {
    let (dialled, port) = (dialled.clone(), (*port)?);
    let look = tokio::task::spawn_blocking(move || {
        Scene::without_names().map(|scene| scene.tell(&dialled, port))
    });
    timeout(PATIENCE, look).await.ok()?.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> Place {
        (format!("127.0.0.1:{port}"), Some(port), None)
    }

    #[tokio::test]
    async fn who_may_look_is_asked_and_without_him_it_is_said_without_names() {
        let (questions, hints) = (Questions::default(), Hints::default());
        let mut desk = questions.take().unwrap();
        assert!(questions.take().is_none(), "one answers");
        let answers = async {
            let asked = desk.recv().await.unwrap();
            assert_eq!(asked.place, place(1));
            asked.answer.send("node listens".into()).unwrap();
            // The second one is left unanswered.
            desk.recv().await
        };
        let asks = async {
            let first = hints.of(place(1), &questions).await;
            let again = hints.of(place(1), &questions).await;
            (first, again, hints.of(place(2), &questions).await)
        };
        let (unanswered, (first, again, second)) = tokio::join!(answers, asks);
        assert_eq!(first.as_deref(), Some("node listens"));
        assert_eq!(again, first, "remembered");
        assert_eq!(unanswered.unwrap().place, place(2));
        assert!(second.unwrap().contains("127.0.0.1:2"), "without names");
    }

    #[tokio::test]
    async fn questions_are_bounded_and_hold_nobody_up() {
        let questions = Questions::default();
        let _desk = questions.take().unwrap();
        let (begun, place) = (Instant::now(), place(3));
        let asks = (0..4 * WAITING).map(|_| questions.ask(&place));
        let told = futures_join(asks).await;
        assert!(told.iter().all(Option::is_none));
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(_desk);
        assert_eq!(questions.ask(&place).await, None, "nobody is there");
    }

    async fn futures_join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
        let mut all: Vec<_> = all.map(Box::pin).collect();
        let mut done = Vec::new();
        std::future::poll_fn(|cx| {
            all.retain_mut(|one| match one.as_mut().poll(cx) {
                std::task::Poll::Ready(out) => {
                    done.push(out);
                    false
                }
                std::task::Poll::Pending => true,
            });
            match all.is_empty() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        done
    }
}
