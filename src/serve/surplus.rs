//! Connections beyond the limits: some of them are told so (`too-busy`, 503), for a short time; the others are closed unheard.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use crate::flow::Worker;
use crate::limit::Counted;

/// How many are told at a time, by each thread: a handshake is dear, and they come when the gate has least to spare.
const MOST: usize = 32;
/// And by all threads: these descriptors are counted on for what is not a connection (`app/descriptors`).
const ALL: usize = 256;
/// For the handshake, the question and the answer.
const LIFE: Duration = Duration::from_secs(10);

/// Why a connection may be here.
#[derive(Debug)]
pub(super) enum Place {
    /// It is within the limits.
    Counted(Rc<Counted>),
    /// It is beyond, and will be told so.
    Surplus { _held: Surplus },
}

/// A connection that is being told.
#[derive(Debug)]
pub(super) struct Surplus(Rc<Cell<usize>>);

impl Surplus {
    /// One more, unless there are too many of these as well.
    pub fn enter(worker: &Worker) -> Option<Self> {
        let count = &worker.surplus;
        let most = (ALL / worker.plan().workers.max(1)).clamp(1, MOST);
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(Rc::clone(count))
        })
    }
}

impl Drop for Surplus {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Place {
    /// Where it counts; `None` when it is one too many.
    pub fn counted(&self) -> Option<Rc<Counted>> {
        match self {
            Self::Counted(counted) => Some(Rc::clone(counted)),
            Self::Surplus { .. } => None,
        }
    }

    /// Waits until a connection that is one too many has had its time.
    pub async fn over(&self) {
        match self {
            Self::Counted(_) => pending().await,
            // Boxed: every connection would carry the timer that few have.
            Self::Surplus { .. } => Box::pin(tokio::time::sleep(LIFE)).await,
        }
    }
}
