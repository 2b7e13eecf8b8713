//! The end of an exchange: its record is written when what carries it is dropped, whoever drops it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame};

use super::body::{Carried, CutError};
use super::h1::Visit;
use super::state::{Held, Worker};
use crate::observe::Record;

/// Counts what passes, and writes the record at the end. Until then the stream counts as running.
pub fn counted(
    worker: &Rc<Worker>,
    record: Box<Record>,
    response: Response<Carried>,
    held: Held,
) -> Response<Carried> {
    if response.body().is_end_stream() {
        worker.finish(record);
        return response;
    }
    response.map(|body| {
        Carried::Sent(Box::new(Sent {
            body,
            worker: Rc::clone(worker),
            record: Some(record),
            out: 0,
            is_whole: false,
            _held: held,
        }))
    })
}

/// A request that has no answer yet. One that is dropped, as its client has given up or the drain is over, is told as cut.
pub(super) struct Unanswered {
    worker: Rc<Worker>,
    record: Option<Box<Record>>,
}

impl Unanswered {
    pub fn new(worker: &Rc<Worker>, record: Box<Record>) -> Self {
        Self {
            worker: Rc::clone(worker),
            record: Some(record),
        }
    }

    /// What is known of it.
    pub fn record(&mut self) -> &mut Record {
        self.record.as_mut().expect("only `answered` takes it")
    }

    /// There is an answer, which is told of from now on.
    pub fn answered(mut self) -> Box<Record> {
        self.record.take().expect("it is taken once")
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.cut = true;
            self.worker.finish(record);
        }
    }
}

/// A request with its record, which is written when it is dropped: at its end, or with the connection when a drain is over.
pub(super) struct Asked<'a> {
    visit: Visit<'a>,
    record: Option<Box<Record>>,
    /// It has come to its end.
    pub is_over: bool,
}

impl<'a> Asked<'a> {
    pub fn new(visit: Visit<'a>, record: Box<Record>) -> Self {
        Self {
            visit,
            record: Some(record),
            is_over: false,
        }
    }

    pub fn parts(&mut self) -> (&mut Visit<'a>, &mut Record) {
        let record = self.record.as_mut().expect("only its end takes it");
        (&mut self.visit, record)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.bytes_in = self.visit.bytes_in.get();
            record.bytes_out = self.visit.bytes_out.get();
            record.status = self.visit.status.get();
            record.cut |= !self.is_over;
            self.visit.worker.finish(record);
        }
    }
}

/// An answer on its way to its client.
pub struct Sent {
    body: Carried,
    worker: Rc<Worker>,
    record: Option<Box<Record>>,
    out: u64,
    is_whole: bool,
    _held: Held,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sent")
    }
}

impl Sent {
    /// What it carries.
    pub fn body(&self) -> &Carried {
        &self.body
    }

    /// As of a body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.out += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.is_whole |= self.body.is_end_stream();
            }
            Poll::Ready(None) => self.is_whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.bytes_out = self.out;
            record.cut = !self.is_whole;
            self.worker.finish(record);
        }
    }
}
