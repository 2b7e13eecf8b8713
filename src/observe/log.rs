//! The log writer: a thread of its own behind a bounded queue. When the queue is full lines are lost and counted; nobody waits.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::line;
use super::record::Record;

/// Lines that may wait for the disk.
const QUEUE: usize = 8192;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, appended to; opened anew on request.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

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

enum Message {
    Access(Box<Record>),
    Event(Event),
    Reopen,
    /// There is a [`Change`] to be taken.
    Changed,
    Flush(SyncSender<()>),
}

/// The handle that everybody holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    access: Arc<AtomicBool>,
    query: Arc<AtomicBool>,
    next: Arc<Mutex<Option<Change>>>,
}

/// Another place or another look, opened already so that it cannot fail any more.
pub struct Change {
    sink: Sink,
    out: Out,
    format: Format,
    query: bool,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}

type Out = Option<BufWriter<Box<dyn Write + Send>>>;

impl Change {
    /// Opens what a reload asks for.
    pub fn open(sink: Sink, format: Format, query: bool) -> io::Result<Self> {
        Ok(Self {
            out: open(&sink)?,
            sink,
            format,
            query,
        })
    }
}

impl Log {
    /// Starts the writer. An access file that cannot be opened is an error now, not later.
    pub fn start(sink: Sink, format: Format, query: bool) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let next = Arc::new(Mutex::new(None));
        let access = Arc::new(AtomicBool::new(sink != Sink::Off));
        let writer = Writer {
            out: open(&sink)?,
            sink,
            format,
            lost: Arc::clone(&lost),
            next: Arc::clone(&next),
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run(&messages))?;
        Ok(Self {
            queue,
            lost,
            access,
            query: Arc::new(AtomicBool::new(query)),
            next,
        })
    }

    /// Whether access lines are wanted, so that their texts are worth keeping.
    pub fn wants_access(&self) -> bool {
        self.access.load(Ordering::Relaxed)
    }

    /// Whether the query string is wanted.
    pub fn wants_query(&self) -> bool {
        self.query.load(Ordering::Relaxed)
    }

    /// Hands a finished request over.
    pub fn access(&self, record: Box<Record>) {
        if self.wants_access() {
            self.send(Message::Access(record));
        }
    }

    /// Writes an event.
    pub fn event(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Goes on elsewhere, or in another format. Lines that wait already may take the new way.
    pub fn change(&self, change: Change) {
        self.access
            .store(change.sink != Sink::Off, Ordering::Relaxed);
        self.query.store(change.query, Ordering::Relaxed);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(change);
        // If the queue is full, the next line that is written looks as well.
        self.send(Message::Changed);
    }

    /// Opens the access file anew (after rotation).
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Lines lost because the queue was full or the disk refused them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything said so far is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(limit);
        }
    }

    fn send(&self, message: Message) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(message) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    sink: Sink,
    out: Out,
    format: Format,
    lost: Arc<AtomicU64>,
    next: Arc<Mutex<Option<Change>>>,
}

fn open(sink: &Sink) -> io::Result<Out> {
    let out: Box<dyn Write + Send> = match sink {
        Sink::Off => return Ok(None),
        Sink::Stdout => Box::new(io::stdout()),
        Sink::File(path) => {
            let file: File = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)?;
            Box::new(file)
        }
    };
    Ok(Some(BufWriter::with_capacity(64 << 10, out)))
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(_) => {
                    self.flush();
                    match messages.recv_timeout(Duration::from_secs(3600)) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(next) = next {
            self.flush();
            (self.sink, self.out, self.format) = (next.sink, next.out, next.format);
        }
        match message {
            Message::Access(record) => {
                let line = match self.format {
                    Format::Text => line::access_text(&record),
                    Format::Json => line::access_json(&record),
                };
                let wrote = self.out.as_mut().map(|out| writeln!(out, "{line}"));
                self.count(wrote.unwrap_or(Ok(())));
            }
            Message::Event(event) => {
                let line = line::event(&event, self.format == Format::Json);
                let wrote = writeln!(io::stderr(), "{line}");
                self.count(wrote);
            }
            Message::Reopen => {
                self.flush();
                // The old file stays in use when the new one cannot be opened.
                if let Ok(out) = open(&self.sink) {
                    self.out = out;
                }
            }
            Message::Changed => {}
            Message::Flush(done) => {
                self.flush();
                let _ = done.send(());
            }
        }
    }

    fn flush(&mut self) {
        let flushed = self.out.as_mut().map(|out| out.flush());
        self.count(flushed.unwrap_or(Ok(())));
    }

    fn count(&self, result: io::Result<()>) {
        if result.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
