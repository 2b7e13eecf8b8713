//! The end of a process whose control thread hangs, in a file system that does not answer for example. Signals are heard by a thread
//! that touches no file: the first begins the drain if nobody else does, the second ends everything.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::start::Running;
use super::worker;
use crate::base::drain::Phase;
use crate::flow::Shared;
use crate::observe::Event;

/// For the control thread to begin the drain; it may be at a reload.
const BEGIN: Duration = Duration::from_secs(5);
/// For it to end the process after the drain, or after a second signal: the last lines of the log, the last lockouts.
const END: Duration = Duration::from_secs(10);
/// For the log to take what is said about it.
const TOLD: Duration = Duration::from_millis(500);
/// The exit code of contract 3 for what failed.
const FAILED: i32 = 1;

/// Watches over the end of this process from now on. For a program that does nothing else: it ends the process.
pub fn guard(running: &Running) -> io::Result<()> {
    let (shared, phase) = (Arc::clone(&running.shared), running.signal.clone());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let heard = {
        let _in = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    let watch = move || runtime.block_on(watched(heard, &shared, &phase));
    let named = thread::Builder::new().name("guard".into());
    named.spawn(watch).map(drop)
}

async fn watched(
    (mut terminate, mut interrupt): (Signal, Signal),
    shared: &Shared,
    phase: &watch::Sender<worker::Signal>,
) {
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    let first = async {
        let mut begun = phase.subscribe();
        let begun = begun.wait_for(|now| now.phase > Phase::Run);
        if timeout(BEGIN, begun).await.is_err() {
            let event = Event::error("control_stuck");
            shared.log.event(event.with("why", "the control thread does not come back, from a file system that does not answer for example: the data threads drain without it"));
            phase.send_modify(|now| now.phase = now.phase.max(Phase::Drain));
        }
        sleep(shared.live.current().drain + END).await;
    };
    tokio::select! {
        () = first => {}
        () = async { next().await; sleep(END).await } => {}
    }
    let event = Event::error("ended_by_force");
    let event = event.with("why", "the control thread did not end the process in time");
    shared.log.event(event);
    shared.log.flush(TOLD);
    std::process::exit(FAILED);
}
