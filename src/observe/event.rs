//! Events, and who writes them: a thread of its own behind a bounded queue, as a reader of standard output that has stopped must not
//! silence standard error.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::SystemTime;

use super::line;
use super::log::Format;

/// Events that may wait to be written.
const QUEUE: usize = 8192;

/// Something worth a line of its own.
#[derive(Debug)]
pub struct Event {
    pub(super) at: SystemTime,
    pub(super) level: &'static str,
    pub(super) name: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Event {
    /// An event that nobody needs to act on.
    pub fn info(name: &'static str) -> Self {
        Self {
            at: SystemTime::now(),
            level: "info",
            name,
            fields: Vec::new(),
        }
    }

    /// Someone should look today.
    pub fn warn(name: &'static str) -> Self {
        Self {
            level: "warn",
            ..Self::info(name)
        }
    }

    /// We failed at our job.
    pub fn error(name: &'static str) -> Self {
        Self {
            level: "error",
            ..Self::info(name)
        }
    }

    /// Adds a fact. Never a secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }
}

pub(super) enum Said {
    Event(Event),
    /// Answers when all that was said before is written.
    Flush(SyncSender<()>),
}

/// The handle to their writer.
#[derive(Clone, Debug)]
pub(super) struct Events {
    pub queue: SyncSender<Said>,
    pub is_json: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Events {
    pub fn start(format: Format, lost: &Arc<AtomicU64>) -> io::Result<Self> {
        let (queue, said) = sync_channel(QUEUE);
        let events = Self {
            queue,
            is_json: Arc::new(AtomicBool::new(format == Format::Json)),
            lost: Arc::clone(lost),
        };
        let (is_json, lost) = (Arc::clone(&events.is_json), Arc::clone(lost));
        std::thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                for said in said {
                    match said {
                        Said::Event(event) => {
                            let line = line::event(&event, is_json.load(Ordering::Relaxed)) + "\n";
                            // At once and whole: other programs may write there too.
                            if io::stderr().write_all(line.as_bytes()).is_err() {
                                lost.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        Said::Flush(done) => drop(done.send(())),
                    }
                }
            })?;
        Ok(events)
    }

    pub fn tell(&self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Said::Event(event)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
