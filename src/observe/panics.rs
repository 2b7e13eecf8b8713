//! A panic is a mistake of ours. It ends the task that it happens in, is counted, and is told in the log; everybody else is served.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::event::Event;
use super::log::Log;
use super::metrics::Metrics;

/// Runs a task to its end. `None` when it panicked: what it held is dropped, and the rest goes on.
pub async fn contained<F: Future>(
    task: &'static str,
    log: &Log,
    metrics: &Metrics,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| guarded(task, log, metrics, || future.as_mut().poll(cx))).await
}

/// One step of a task; it must not be taken again after a `None`.
///
/// Whatever tasks share on a data thread is changed in steps that cannot panic, so nothing half changed is left behind.
pub fn guarded<T>(
    task: &'static str,
    log: &Log,
    metrics: &Metrics,
    step: impl FnOnce() -> Poll<T>,
) -> Poll<Option<T>> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(polled) => polled.map(Some),
        Err(panic) => {
            metrics.panics.fetch_add(1, Ordering::Relaxed);
            let event = Event::error("panic").with("task", task);
            log.event(event.with("error", words(&*panic)));
            Poll::Ready(None)
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Format, Sink};

    #[tokio::test]
    async fn a_panic_ends_its_task_is_counted_and_told() {
        let log = Log::start(Sink::Off, Format::Text, false).unwrap();
        let metrics = Metrics::default();
        let held = std::rc::Rc::new(());
        let inside = std::rc::Rc::clone(&held);
        let task = async move {
            let _inside = inside;
            tokio::task::yield_now().await;
            panic!("on purpose");
        };
        assert_eq!(contained("test", &log, &metrics, task).await, None::<()>);
        assert_eq!(std::rc::Rc::strong_count(&held), 1, "nothing is kept");
        assert_eq!(metrics.panics.load(Ordering::Relaxed), 1);
        assert_eq!(
            contained("test", &log, &metrics, async { 7 }).await,
            Some(7)
        );
    }
}
