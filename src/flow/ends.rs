//! When what a stream rests on ends by itself: a session, a token, a client certificate. Then everybody on this thread looks.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// Two looks are at least that far apart: what seems over to us may have a moment left.
const LEAST: Duration = Duration::from_millis(20);
/// And at most: a wall clock may be set.
const MOST: Duration = Duration::from_secs(5);

/// The first end of those that were told. Whoever looks then tells of the next.
#[derive(Debug, Default)]
pub struct Ends {
    at: Cell<Option<Instant>>,
    on: Cell<Option<SystemTime>>,
    earlier: Notify,
}

impl Ends {
    /// Something ends then, whatever the wall clock says. Told at every request, so it must cost nothing.
    pub fn at(&self, end: Option<Instant>) {
        if let Some(end) = end
            && self.at.get().is_none_or(|first| end < first)
        {
            self.at.set(Some(end));
            self.earlier.notify_one();
        }
    }

    /// Something ends at that date.
    pub fn on(&self, end: Option<SystemTime>) {
        if let Some(end) = end
            && self.on.get().is_none_or(|first| end < first)
        {
            self.on.set(Some(end));
            self.earlier.notify_one();
        }
    }

    /// Waits until the first of them is over, and forgets it. Cancel safe.
    pub async fn next(&self) {
        loop {
            let now = Instant::now();
            let at = self.at.get().map(|end| end.saturating_duration_since(now));
            let date = SystemTime::now();
            let on = self
                .on
                .get()
                .map(|end| end.duration_since(date).unwrap_or_default());
            let left = at.into_iter().chain(on).min().unwrap_or(MOST);
            tokio::select! {
                () = tokio::time::sleep(left.clamp(LEAST, MOST)) => {}
                () = self.earlier.notified() => continue,
            }
            let (now, date) = (Instant::now(), SystemTime::now());
            let is_at = self.at.get().is_some_and(|end| end <= now);
            let is_on = self.on.get().is_some_and(|end| end <= date);
            if is_at {
                self.at.set(None);
            }
            if is_on {
                self.on.set(None);
            }
            if is_at || is_on {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_end_is_waited_for_and_an_earlier_one_comes_first() {
        let ends = Ends::default();
        let is_over = async |ends: &Ends| {
            let wait = Duration::from_millis(100);
            tokio::time::timeout(wait, ends.next()).await.is_ok()
        };
        assert!(!is_over(&ends).await, "nothing ends");
        let now = Instant::now();
        ends.at(Some(now + Duration::from_secs(3600)));
        ends.on(Some(SystemTime::now() + Duration::from_secs(3600)));
        assert!(!is_over(&ends).await, "not yet");
        ends.at(Some(now));
        ends.on(Some(SystemTime::now()));
        assert!(is_over(&ends).await);
        assert!(!is_over(&ends).await, "both are forgotten");
    }
}
