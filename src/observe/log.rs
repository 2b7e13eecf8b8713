//! The log writers: one thread for events behind a bounded queue, one for the access lines on the pages of the data threads. When there
//! is no room lines are lost and counted; nobody waits.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::event::{Event, Events, Said};
use super::out::{Lost, Out};
use super::pen::{Desk, Pen};
use super::ring::Past;

/// Words to the writer that may wait.
const QUEUE: usize = 8192;
/// How long lines are gathered while they keep coming.
const GATHER: Duration = Duration::from_millis(5);

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, appended to; opened anew on request, and rotated by its size where that is wanted.
    File(PathBuf, Option<Rotation>),
    /// Nowhere.
    Off,
}

/// When a file gives way to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// From this size on, in bytes.
    pub size: u64,
    /// Old files that are kept.
    pub keep: u16,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

enum Message {
    Reopen,
    /// There are lines on a page, or there is a [`Change`] to be taken.
    Look,
    Flush(SyncSender<()>),
}

/// The handle that everybody holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Message>,
    events: Events,
    lost: Arc<AtomicU64>,
    access: Arc<AtomicBool>,
    query: Arc<AtomicBool>,
    next: Arc<Mutex<Option<Change>>>,
    fault: Arc<Mutex<Option<Fault>>>,
    pub(super) desk: Arc<Desk>,
}

/// What is wrong with the access log now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of the file; none is standard output.
    pub path: Option<PathBuf>,
    /// What could not be done, and why.
    pub why: String,
    /// When it was noticed.
    pub since: SystemTime,
}

/// Another place or another look, opened already so that it cannot fail any more.
pub struct Change {
    sink: Sink,
    out: Option<Out>,
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

impl Change {
    /// Opens what a reload asks for.
    pub fn open(sink: Sink, format: Format, query: bool) -> io::Result<Self> {
        Ok(Self {
            out: Out::open(&sink)?,
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
        let (next, fault) = (Arc::new(Mutex::new(None)), Arc::default());
        let access = Arc::new(AtomicBool::new(sink != Sink::Off));
        let desk = Arc::new(Desk::new(format));
        let events = Events::start(format, &lost)?;
        let writer = Writer {
            out: Out::open(&sink)?,
            format,
            events: events.clone(),
            lost: Arc::clone(&lost),
            next: Arc::clone(&next),
            fault: Arc::clone(&fault),
            desk: Arc::clone(&desk),
            spare: Vec::new(),
            failing: None,
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.run(&messages))?;
        Ok(Self {
            queue,
            events,
            lost,
            access,
            query: Arc::new(AtomicBool::new(query)),
            next,
            fault,
            desk,
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

    /// What a data thread writes its access lines with.
    pub fn pen(&self) -> Pen {
        Pen::new(self.clone())
    }

    /// Writes an event.
    pub fn event(&self, event: Event) {
        self.events.tell(event);
    }

    /// Goes on elsewhere, or in another format, from the writer's next look on: lines of these few milliseconds still go the old way.
    pub fn change(&self, change: Change) {
        self.access
            .store(change.sink != Sink::Off, Ordering::Relaxed);
        self.query.store(change.query, Ordering::Relaxed);
        let is_json = change.format == Format::Json;
        self.events.is_json.store(is_json, Ordering::Relaxed);
        *lock(&self.next) = Some(change);
        // If the queue is full, the next line that is written looks as well.
        self.wake();
    }

    /// Opens the access file anew (after rotation).
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Lines lost because there was no room for them or the disk refused them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why lines are lost or do not go where they should, while that is so.
    pub fn fault(&self) -> Option<Fault> {
        lock(&self.fault).clone()
    }

    /// Waits until everything said so far is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (done, wait) = sync_channel(2);
        let asked = [
            self.events
                .queue
                .try_send(Said::Flush(done.clone()))
                .is_ok(),
            self.queue.try_send(Message::Flush(done)).is_ok(),
        ];
        for _ in asked.iter().filter(|asked| **asked) {
            let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
    }

    /// What is remembered of one of the last requests; nothing while the access log is off.
    pub fn recall(&self, id: &str) -> Option<Past> {
        self.desk.recall(id)
    }

    /// Has the writer look at the pages. When the queue is full, it is about to.
    pub(super) fn wake(&self) {
        let _ = self.queue.try_send(Message::Look);
    }

    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    fn send(&self, message: Message) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(message) {
            self.lose(1);
        }
    }
}

struct Writer {
    out: Option<Out>,
    format: Format,
    events: Events,
    lost: Arc<AtomicU64>,
    failing: Option<Failing>,
    next: Arc<Mutex<Option<Change>>>,
    /// The same for whoever asks.
    fault: Arc<Mutex<Option<Fault>>>,
    desk: Arc<Desk>,
    /// An empty page.
    spare: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Failing {
    /// What the counter was when it began.
    lost: u64,
    /// It is the lines that were refused, so only a line that is taken ends it.
    is_write: bool,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(Duration::from_secs(3600)) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // The first line is written at once. While more come they are gathered: to be woken for each would cost more
            // than the line itself.
            loop {
                let mut is_quiet = !self.look();
                std::thread::sleep(GATHER);
                while let Ok(message) = messages.try_recv() {
                    self.handle(message);
                    is_quiet = false;
                }
                // From here on who writes wakes us; who has written before is seen now.
                if is_quiet {
                    self.desk.is_awake.store(false, Ordering::SeqCst);
                    if !self.look() {
                        break;
                    }
                }
            }
        }
        self.look();
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Reopen => {
                self.look();
                if let Some(out) = &mut self.out {
                    out.reopen();
                    self.note(None);
                }
            }
            Message::Look => {
                self.look();
            }
            Message::Flush(done) => {
                self.look();
                let _ = done.send(());
            }
        }
    }

    /// Writes what is on the pages, and takes a change; whether there was a line.
    fn look(&mut self) -> bool {
        let next = lock(&self.next).take();
        self.format = next.as_ref().map_or(self.format, |next| next.format);
        let mut spare = std::mem::take(&mut self.spare);
        let mut has_lines = false;
        Arc::clone(&self.desk).turn(&mut spare, self.format, |lines| {
            has_lines = true;
            let wrote = self.out.as_mut().map(|out| out.write(lines));
            self.note(wrote);
        });
        self.spare = spare;
        if let Some(next) = next {
            self.out = next.out;
            self.recovered();
        }
        has_lines
    }

    /// Counts what was lost, and says once that lines are lost or go where they should not, and once that they no longer do.
    fn note(&mut self, result: Option<Result<(), Lost>>) {
        let Some(out) = &self.out else {
            return;
        };
        let lost = self.lost.load(Ordering::Relaxed);
        let fault = out.fault().map(str::to_owned);
        let is_write = fault.is_none() && matches!(result, Some(Err(_)));
        let why = match result {
            Some(Err(Lost { lines, error })) => {
                self.lost.fetch_add(lines, Ordering::Relaxed);
                Some(error.to_string())
            }
            // Nothing was written, so what refuses lines may refuse them still.
            None if fault.is_none() && self.failing.is_some_and(|f| f.is_write) => return,
            Some(Ok(())) | None => fault,
        };
        let Some(why) = why else {
            self.recovered();
            return;
        };
        if self.failing.is_none() {
            let event = Event::error("log_failed").with("error", &why);
            self.events.tell(event);
        }
        let lost = self.failing.map_or(lost, |failing| failing.lost);
        self.failing = Some(Failing { lost, is_write });
        let mut told = lock(&self.fault);
        *told = Some(Fault {
            path: out.path().cloned(),
            why,
            since: told.as_ref().map_or_else(SystemTime::now, |f| f.since),
        });
    }

    /// Says so, if anything was wrong.
    fn recovered(&mut self) {
        if let Some(Failing { lost, .. }) = self.failing.take() {
            *lock(&self.fault) = None;
            let lost = self.lost.load(Ordering::Relaxed) - lost;
            self.events
                .tell(Event::info("log_recovered").with("lines_lost", lost));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_anew_is_a_fault_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let sink = || Sink::File(path.clone(), None);
        let log = Log::start(sink(), Format::Text, false).unwrap();
        let fault = || {
            log.flush(Duration::from_secs(20));
            log.fault()
        };
        let block = || {
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            log.reopen();
        };
        log.reopen();
        assert_eq!(fault(), None);
        block();
        let first = fault().unwrap();
        assert_eq!(first.path.as_ref(), Some(&path));
        assert!(first.why.contains("cannot open"), "{}", first.why);
        log.reopen();
        assert_eq!(fault().unwrap().since, first.since, "the same one");
        std::fs::remove_dir(&path).unwrap();
        log.reopen();
        assert_eq!(fault(), None);
        block();
        assert!(fault().is_some());
        // Another place is none of its business.
        let elsewhere = Sink::File(dir.path().join("other.log"), None);
        log.change(Change::open(elsewhere, Format::Text, false).unwrap());
        assert_eq!(fault(), None);
    }
}
