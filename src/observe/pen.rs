//! Where a data thread leaves its access lines: each writes into a page of its own, so that nothing of a request is touched or freed by
//! another thread, and the log's thread turns the pages over. Nobody waits for a disk: when a page is full, lines are lost and counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::json;
use super::line::{self, Clock};
use super::log::{Format, Log};
use super::record::Record;
use super::ring::{Past, Ring};

/// Bytes of lines that may wait for the disk, a page.
const FULL: usize = 4 << 20;
/// What an empty page keeps.
const SPARE: usize = 256 << 10;

/// What one data thread writes with.
#[derive(Debug)]
pub struct Pen {
    log: Log,
    page: Arc<Mutex<Page>>,
}

impl Pen {
    pub(super) fn new(log: Log) -> Self {
        let page = log.desk.page();
        Self { log, page }
    }

    /// Writes a line for a finished request.
    pub fn access(&self, record: Box<Record>) {
        if !self.log.wants_access() {
            return;
        }
        if !lock(&self.page).write(record) {
            self.log.lose(1);
        }
        let is_awake = &self.log.desk.is_awake;
        if !is_awake.load(Ordering::SeqCst) && !is_awake.swap(true, Ordering::SeqCst) {
            self.log.wake();
        }
    }
}

/// The pages of all data threads.
#[derive(Debug)]
pub(super) struct Desk {
    pages: Mutex<(Format, Vec<Arc<Mutex<Page>>>)>,
    /// The log's thread is about to look, so nobody needs to wake it.
    pub is_awake: AtomicBool,
}

impl Desk {
    pub fn new(format: Format) -> Self {
        Self {
            pages: Mutex::new((format, Vec::new())),
            is_awake: AtomicBool::new(false),
        }
    }

    fn page(&self) -> Arc<Mutex<Page>> {
        let mut pages = lock(&self.pages);
        let page = Arc::new(Mutex::new(Page {
            lines: Vec::new(),
            format: pages.0,
            clock: Clock::default(),
            ring: Ring::default(),
        }));
        pages.1.push(Arc::clone(&page));
        page
    }

    /// Takes what was written; `format` is how it goes on.
    pub fn turn(&self, spare: &mut Vec<u8>, format: Format, mut taken: impl FnMut(&[u8])) {
        let pages = {
            let mut pages = lock(&self.pages);
            pages.0 = format;
            // Not held while lines are written: who reads them may have stopped.
            pages.1.clone()
        };
        for page in &pages {
            let mut page = lock(page);
            page.format = format;
            std::mem::swap(&mut page.lines, spare);
            drop(page);
            if !spare.is_empty() {
                taken(spare);
            }
            spare.clear();
            spare.shrink_to(SPARE);
        }
    }

    /// What is remembered of the request with this id.
    pub fn recall(&self, id: &str) -> Option<Past> {
        let pages = lock(&self.pages);
        pages.1.iter().find_map(|page| lock(page).ring.find(id))
    }
}

#[derive(Debug)]
struct Page {
    lines: Vec<u8>,
    format: Format,
    clock: Clock,
    ring: Ring,
}

impl Page {
    /// Whether there was room for the line. The request is remembered in any case.
    fn write(&mut self, record: Box<Record>) -> bool {
        let has_room = self.lines.len() < FULL;
        if has_room {
            let at = self.clock.stamp(record.at);
            match self.format {
                Format::Text => line::access_text(&record, at, &mut self.lines),
                Format::Json => json::access(&record, at, &mut self.lines),
            }
            self.lines.push(b'\n');
        }
        self.ring.keep(record);
        has_room
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::line::tests::record;

    #[test]
    fn a_full_page_takes_no_line_and_remembers_the_request() {
        let desk = Desk::new(Format::Json);
        let page = desk.page();
        lock(&page).lines = vec![b'x'; FULL - 1];
        assert!(lock(&page).write(Box::new(record())));
        let last = record();
        let id = last.id.to_string();
        assert!(!lock(&page).write(Box::new(last)));
        assert!(desk.recall(&id).is_some());
        let (mut spare, mut bytes) = (Vec::new(), 0);
        desk.turn(&mut spare, Format::Text, |lines| bytes += lines.len());
        assert!(bytes > FULL && bytes < FULL + 1000, "{bytes}");
        assert!(spare.capacity() <= SPARE);
        assert!(lock(&page).write(Box::new(record())), "there is room again");
    }

    #[test]
    fn another_format_begins_with_the_next_line_on_every_page() {
        let desk = Desk::new(Format::Json);
        let (first, second) = (desk.page(), desk.page());
        lock(&first).write(Box::new(record()));
        let mut spare = Vec::new();
        let mut old = Vec::new();
        desk.turn(&mut spare, Format::Text, |lines| {
            old.extend_from_slice(lines)
        });
        assert!(old.starts_with(b"{") && old.ends_with(b"}\n"));
        for page in [&first, &second, &desk.page()] {
            lock(page).write(Box::new(record()));
            let mut new = Vec::new();
            desk.turn(&mut spare, Format::Text, |lines| {
                new.extend_from_slice(lines)
            });
            assert!(new.starts_with(b"1970-01-01T"), "{new:?}");
        }
    }
}
