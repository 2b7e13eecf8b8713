//! The streams of one HTTP/2 connection, run by its own task: no task of the runtime is made and ended for each, and the memory of a
//! stream serves the next one.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use pin_project_lite::pin_project;

use crate::flow::{UnlessStalled, Worker, unless_stalled};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The running streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    worker: Rc<Worker>,
    running: FuturesUnordered<Task>,
    begun: Begun,
}

/// Those that were handed over and have not run yet. A stream that becomes a tunnel hands one over while it runs itself.
#[derive(Clone, Default)]
struct Begun(Rc<RefCell<Vec<Task>>>);

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Begun")
    }
}

impl Streams {
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self {
            worker: Rc::clone(worker),
            running: FuturesUnordered::new(),
            begun: Begun::default(),
        }
    }

    /// Where hyper hands them over. Each ends when its client takes nothing for so long, and alone when it panics.
    pub fn entrance(&self, limit: Duration) -> Entrance {
        Entrance {
            limit,
            worker: Rc::clone(&self.worker),
            begun: self.begun.clone(),
        }
    }

    /// Lets those go on that can.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            self.running.extend(self.begun.0.borrow_mut().drain(..));
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {}
            if self.begun.0.borrow().is_empty() {
                return;
            }
        }
    }

    /// Lets those begin that were handed over since.
    pub fn poll_begun(&mut self, cx: &mut Context<'_>) {
        if !self.begun.0.borrow().is_empty() {
            self.poll(cx);
        }
    }

    /// The connection has ended: what its streams have begun comes to its end by itself.
    pub fn leave(mut self) {
        let worker = Rc::clone(&self.worker);
        if self.running.is_empty() {
            return;
        }
        let rest = poll_fn(move |cx| {
            self.poll(cx);
            match self.running.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        worker.spawn("streams", rest);
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // A stream holds an entrance, so one that was never run would hold itself.
        drop(self.begun.0.take());
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entrance {
    limit: Duration,
    worker: Rc<Worker>,
    begun: Begun,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Entrance {
    fn execute(&self, future: F) {
        self.begun.0.borrow_mut().push(Box::pin(Alone {
            stream: unless_stalled(future, self.limit),
            worker: Rc::clone(&self.worker),
        }));
    }
}

pin_project! {
    /// A stream that, when it panics, ends alone.
    struct Alone<F> {
        #[pin]
        stream: UnlessStalled<F>,
        worker: Rc<Worker>,
    }
}

impl<F: Future> Future for Alone<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.project();
        me.worker.guarded("stream", || me.stream.poll(cx))
    }
}

thread_local! {
    /// The shelf of this thread; there is one kind of streams.
    static SHELF: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
}

/// Memory for futures of one kind, used again by all connections of a thread.
#[derive(Debug)]
pub(super) struct Shelf<F> {
    free: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

/// Pieces that are kept.
const KEPT: usize = 128;

impl<F: Future + 'static> Shelf<F> {
    /// That of this thread.
    pub fn here() -> Rc<Self> {
        SHELF.with_borrow_mut(|here| {
            let known = here.clone().and_then(|here| here.downcast().ok());
            known.unwrap_or_else(|| {
                let shelf = Rc::new(Self {
                    free: RefCell::default(),
                });
                *here = Some(Rc::clone(&shelf) as Rc<dyn Any>);
                shelf
            })
        })
    }

    /// The future in memory of the shelf.
    pub fn lend(self: &Rc<Self>, future: F) -> Lent<F> {
        let memory = self.free.borrow_mut().pop();
        let memory = match memory {
            Some(mut memory) => {
                memory.as_mut().set(Some(future));
                memory
            }
            None => Box::pin(Some(future)),
        };
        Lent {
            memory: Some(memory),
            shelf: Rc::clone(self),
        }
    }
}

/// A future that gives its memory back.
#[derive(Debug)]
pub(super) struct Lent<F: Future> {
    memory: Option<Pin<Box<Option<F>>>>,
    shelf: Rc<Shelf<F>>,
}

impl<F: Future> Future for Lent<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let memory = self.get_mut().memory.as_mut();
        match memory.and_then(|memory| memory.as_mut().as_pin_mut()) {
            Some(future) => future.poll(cx),
            // It has ended, or never was.
            None => Poll::Pending,
        }
    }
}

impl<F: Future> Drop for Lent<F> {
    fn drop(&mut self) {
        if let Some(mut memory) = self.memory.take() {
            memory.as_mut().set(None);
            let mut free = self.shelf.free.borrow_mut();
            if free.len() < KEPT {
                free.push(memory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A future that says its number after a turn, and holds something.
    async fn number(n: u8, held: Rc<()>) -> u8 {
        tokio::task::yield_now().await;
        drop(held);
        n
    }

    #[tokio::test]
    async fn memory_serves_the_next_future_and_keeps_nothing_of_the_one_before() {
        let (shelf, held) = (Shelf::here(), Rc::new(()));
        let shelf = &shelf;
        let lend = |n| shelf.lend(number(n, Rc::clone(&held)));
        assert_eq!(lend(1).await, 1);
        assert_eq!(shelf.free.borrow().len(), 1);
        let mut given_up = lend(2);
        assert!(shelf.free.borrow().is_empty(), "the memory is in use again");
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut given_up).poll(cx).is_pending());
        assert_eq!(Rc::strong_count(&held), 2);
        drop(given_up);
        assert_eq!(Rc::strong_count(&held), 1, "what it held is gone");
        assert_eq!(lend(3).await, 3);
        let many: Vec<_> = (0..KEPT + 9).map(|_| lend(4)).collect();
        drop(many);
        assert_eq!(shelf.free.borrow().len(), KEPT);
        assert!(shelf.free.borrow().iter().all(|memory| memory.is_none()));
    }
}
