//! The end of an HTTP/2 exchange: the record is written when the answer's body is dropped.

use std::cell::Cell;
use std::rc::Rc;

use http::Response;
use http_body::Body as _;

use super::body::{Carried, Count};
use super::state::Worker;
use crate::observe::Record;

/// Counts what passes, and writes the record at the end.
pub fn counted(
    worker: &Rc<Worker>,
    record: Box<Record>,
    response: Response<Carried>,
) -> Response<Carried> {
    if response.body().is_end_stream() {
        worker.finish(record);
        return response;
    }
    let count = Rc::new(Ending {
        worker: Rc::clone(worker),
        record: Cell::new(Some(record)),
        out: Cell::new(0),
        done: Cell::new(false),
    });
    response.map(|body| Carried::Counted(Box::new(body), count))
}

/// Writes the record when the answer's body is dropped.
struct Ending {
    worker: Rc<Worker>,
    record: Cell<Option<Box<Record>>>,
    out: Cell<u64>,
    done: Cell<bool>,
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ending")
    }
}

impl Count for Ending {
    fn add(&self, n: u64) {
        self.out.set(self.out.get() + n);
    }

    fn done(&self) {
        self.done.set(true);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.bytes_out = self.out.get();
            record.cut = !self.done.get();
            self.worker.finish(record);
        }
    }
}
