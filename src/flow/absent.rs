//! The hint on the page of a service that is not there or not the one it was, for people who are logged in. Looked up off the data thread, at most once
//! a second for each upstream and thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::intake::Intake;
use super::state::{Conn, Worker};
use crate::base::refusal::{Reason, Refusal};
use crate::exposure::{absent, place};
use crate::observe::Record;
use crate::plan::Plan;
use crate::upstream::STRANGER;

/// How long a hint is good: who reloads wants to see what has changed.
const GOOD: Duration = Duration::from_secs(1);
/// How long a visitor waits for it. The page says enough without.
const PATIENCE: Duration = Duration::from_millis(400);
/// Upstreams remembered.
const MOST: usize = 64;

/// What to tell of a service with another certificate than the one that is held to.
const CHANGED: &str = "Its certificate is not the one that was seen before. Whoever runs loopgate finds both in its log, and with `loopgate upstream-cert list`.";

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
    let upstream = &plan.routes.get(found.route)?.upstream;
    // Boxed: this is the cold branch of every request.
    Box::pin(worker.hints.of(place(&upstream.target().address))).await
}

type Place = (String, Option<u16>, Option<std::path::PathBuf>);

impl Hints {
    async fn of(&self, (dialled, port, path): Place) -> Option<Rc<str>> {
        let now = Instant::now();
        let known = self.0.borrow().get(&dialled).cloned();
        if let Some((_, hint)) = known.clone().filter(|(at, _)| now - *at < GOOD) {
            return hint;
        }
        // Whoever comes meanwhile takes what was known before.
        self.keep(&dialled, now, known.and_then(|(_, hint)| hint));
        let name = dialled.clone();
        let look = tokio::task::spawn_blocking(move || absent(&dialled, port, path.as_deref()));
        let hint: Rc<str> = timeout(PATIENCE, look).await.ok()?.ok()?.into();
        self.keep(&name, now, Some(Rc::clone(&hint)));
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
