//! One data thread: a runtime, listeners and pools of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::listeners::Listening;
use super::manager::Beat;
use super::sandbox::Cell;
use crate::base::drain::{Phase, Watch};
use crate::flow::{Shared, Worker};
use crate::limit::Counts;
use crate::serve::accept;

/// What the control side tells a data thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    pub phase: Phase,
    pub generation: u64,
}

/// What a data thread needs.
pub(super) struct Job {
    pub shared: Arc<Shared>,
    /// Listeners, now and later.
    pub listeners: mpsc::Receiver<Vec<Listening>>,
    pub counts: Arc<Counts>,
    pub drain: Watch,
    pub signal: watch::Receiver<Signal>,
    pub cell: Cell,
    /// Asked whether this thread still turns.
    pub beat: Beat,
}

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

/// Starts a data thread; it ends when the phase becomes `Stop`, with all its connections.
pub(super) fn spawn(index: usize, job: Job) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(format!("data-{index}"))
        .spawn(move || {
            job.cell.close();
            let built = Builder::new_current_thread()
                .enable_all()
                .event_interval(1024)
                .build_local(LocalOptions::default());
            match built {
                Ok(runtime) => runtime.block_on(serve(job)),
                Err(_) => job
                    .shared
                    .log
                    .event(crate::observe::Event::error("runtime_failed")),
            }
        })
}

async fn serve(mut job: Job) {
    let worker = Worker::new(Arc::clone(&job.shared));
    let mut sweep = tokio::time::interval(SWEEP);
    let mut ended = job.shared.sessions.ended();
    let mut asked = job.shared.open.asked();
    loop {
        tokio::select! {
            Some(listeners) = job.listeners.recv() => open(listeners, &worker, &job),
            Ok(()) = ended.changed() => worker.ring(),
            Ok(()) = asked.changed() => worker.pool.give_way(),
            () = job.beat.answer() => {}
            changed = job.signal.changed() => {
                let signal = *job.signal.borrow_and_update();
                // Lets the plan before go, also where nobody is connected.
                drop(worker.plan());
                worker.advance(if changed.is_err() { Phase::Stop } else { signal.phase });
                if worker.phase() == Phase::Stop {
                    return;
                }
            }
            _ = sweep.tick() => {
                worker.sweep();
                worker.turn_on();
            }
            () = worker.ends.next() => worker.ring(),
        }
    }
}

/// Accepts on these from now on.
fn open(listeners: Vec<Listening>, worker: &Rc<Worker>, job: &Job) {
    for listening in listeners {
        match tokio::net::TcpListener::from_std(listening.socket) {
            Ok(listener) => drop(tokio::task::spawn_local(accept(
                listener,
                listening.address,
                listening.open,
                worker.clone(),
                job.counts.clone(),
                job.drain.clone(),
            ))),
            Err(error) => job
                .shared
                .log
                .event(crate::observe::Event::error("listen_failed").with("error", error)),
        }
    }
}
