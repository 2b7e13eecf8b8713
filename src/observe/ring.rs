//! The last requests, so that a request id can be explained. Kept by each data thread beside its access lines; bounded in number
//! and in bytes, and refused requests do not make room for others.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::line::stamp;
use super::record::{Record, Texts};

/// Requests of each kind.
const MOST: usize = 1024;
/// Bytes of texts of each kind.
const BYTES: usize = 2 << 20;

/// What is remembered of a request, by the gate or in a line of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in `Record`")]
pub struct Past {
    pub id: String,
    /// As it stands in the log.
    pub at: String,
    /// The plan that judged it.
    pub generation: Option<u64>,
    pub peer: Option<IpAddr>,
    pub client: IpAddr,
    pub listener: Option<SocketAddr>,
    /// Empty where it ended before that was read.
    pub host: String,
    pub method: String,
    pub path: String,
    pub user: Option<String>,
    pub auth: Option<String>,
    pub status: u16,
    /// The word of the refusal.
    pub reason: Option<String>,
    pub detail: String,
}

impl Past {
    fn of(record: &Record) -> Self {
        let texts = record.texts.as_ref();
        let text = |part: fn(&Texts) -> &str| texts.map(part).unwrap_or_default().to_owned();
        Self {
            id: record.id.to_string(),
            at: stamp(record.at),
            generation: Some(record.generation),
            peer: Some(record.peer.ip()),
            client: record.client,
            listener: Some(record.listener),
            host: text(Texts::host),
            method: text(Texts::method),
            path: text(Texts::path),
            user: record.user.as_deref().map(str::to_owned),
            auth: record.auth.map(str::to_owned),
            status: record.status,
            reason: record.refusal.map(|r| r.reason.word().to_owned()),
            detail: record.refusal.map_or("", |r| r.detail).to_owned(),
        }
    }
}

/// The last requests, those that passed and those that were refused each by themselves.
#[derive(Debug, Default)]
pub(super) struct Ring {
    passed: Shelf,
    refused: Shelf,
}

impl Ring {
    /// Keeps a request; the oldest of its kind make room.
    pub fn keep(&mut self, record: Box<Record>) {
        match record.refusal {
            None => self.passed.keep(record),
            Some(_) => self.refused.keep(record),
        }
    }

    /// The request with this id.
    pub fn find(&self, id: &str) -> Option<Past> {
        let all = self.refused.records.iter().chain(&self.passed.records);
        let found = all.rev().find(|record| record.id.as_str() == id)?;
        Some(Past::of(found))
    }
}

#[derive(Debug, Default)]
struct Shelf {
    records: VecDeque<Box<Record>>,
    bytes: usize,
}

impl Shelf {
    fn keep(&mut self, record: Box<Record>) {
        self.bytes += bytes(&record);
        self.records.push_back(record);
        while self.records.len() > MOST || self.bytes > BYTES {
            let Some(oldest) = self.records.pop_front() else {
                return;
            };
            self.bytes -= bytes(&oldest);
        }
    }
}

fn bytes(record: &Record) -> usize {
    record.texts.as_ref().map_or(0, Texts::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::refusal::{Reason, Refusal};
    use crate::observe::line::tests::record;

    #[test]
    fn what_passes_does_not_push_out_what_was_refused_and_both_are_bounded() {
        let mut ring = Ring::default();
        let mut refused = record();
        refused.refusal = Some(Refusal::new(Reason::NotPermitted, "the user is not named"));
        let id = refused.id.to_string();
        ring.keep(Box::new(refused));
        let first = record();
        let gone = first.id.to_string();
        ring.keep(Box::new(first));
        for _ in 0..MOST {
            ring.keep(Box::new(record()));
        }
        assert_eq!(ring.passed.records.len(), MOST);
        let found = ring.find(&id).expect("it is kept");
        assert_eq!(found.reason.as_deref(), Some("not-permitted"));
        assert_eq!(
            (found.detail.as_str(), found.generation),
            ("the user is not named", Some(7))
        );
        assert_eq!(ring.find(&gone), None, "the oldest made room");
        assert_eq!(ring.find(""), None);
    }

    #[test]
    fn giant_texts_do_not_grow_it() {
        let mut ring = Ring::default();
        for _ in 0..100 {
            let mut large = record();
            let giant = vec![b'x'; 100 << 10];
            large.texts = Some(Texts::of("GET", "a", "/", None, Some(&giant)));
            ring.keep(Box::new(large));
            assert!(ring.passed.bytes <= BYTES);
        }
        assert!(ring.passed.records.len() < 30);
        let sum: usize = ring.passed.records.iter().map(|r| bytes(r)).sum();
        assert_eq!(sum, ring.passed.bytes);
    }
}
