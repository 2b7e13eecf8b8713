//! What the HTTP/2 library refuses by itself: heads that are far too large, and whatever is against the rules. We are never handed it,
//! but what the library writes tells of it, so the log and the metrics can.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::refusal::{Reason, Refusal};
use crate::flow::{Conn, Worker};
use crate::net::FrameHead;

/// RFC 9113, 6, by type.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
/// RFC 9113, 7.
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// Streams that are remembered: more than run at a time, for those that their clients reset are not forgotten.
const REMEMBERED: usize = 256;

/// How much of it there was since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Heads that are too large and were told so (431).
    told: u32,
    /// One of them that ended the connection.
    ended: u32,
    /// Streams that another broken rule has ended.
    streams: u32,
    /// One that has ended the connection.
    connections: u32,
}

/// Shared by who sees and who tells.
pub(super) type Counts = Rc<Cell<Count>>;

/// What was written, as far as it tells of that.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// Streams whose answers have begun and not ended.
    answered: Vec<u32>,
    counts: Counts,
}

impl Unseen {
    /// Counts there.
    pub fn new(counts: Counts) -> Self {
        Self {
            counts,
            ..Self::default()
        }
    }

    /// A frame to the client. The library answers a head that is too large with a status alone, where answers of ours have a date at
    /// least, or says why it ends the connection.
    pub fn wrote(&mut self, head: FrameHead, begin: Option<&[u8]>) {
        let ends = head.flags & END_STREAM != 0;
        let mut count = self.counts.get();
        match (head.kind, begin) {
            (HEADERS, Some(block)) => {
                let is_first = !self.forget(head.stream);
                if ends && is_first && is_status_alone(head, block) {
                    count.told += 1;
                } else if !ends {
                    if self.answered.len() == REMEMBERED {
                        self.answered.remove(0);
                    }
                    self.answered.push(head.stream);
                }
            }
            (DATA, None) if ends => drop(self.forget(head.stream)),
            (RST_STREAM, None) => drop(self.forget(head.stream)),
            (RST_STREAM, Some(begin)) => match code(begin) {
                // The others are ours, or tell a client of what it could not know.
                PROTOCOL_ERROR | FLOW_CONTROL_ERROR | FRAME_SIZE_ERROR => count.streams += 1,
                _ => return,
            },
            (GOAWAY, Some(begin)) => {
                let about = begin.get(8..).unwrap_or_default();
                match code(begin.get(4..).unwrap_or_default()) {
                    NO_ERROR | INTERNAL_ERROR => return,
                    // It says so of a head of several frames that goes on when it is too large, and of nothing else.
                    COMPRESSION_ERROR => count.ended += 1,
                    _ if [&b"header_list_"[..], b"too_many_con"].contains(&about) => {
                        count.ended += 1;
                    }
                    _ => count.connections += 1,
                }
            }
            _ => return,
        }
        self.counts.set(count);
    }

    /// Whether the answer of this stream had begun.
    fn forget(&mut self, stream: u32) -> bool {
        let at = self.answered.iter().rposition(|s| *s == stream);
        at.map(|at| self.answered.remove(at)).is_some()
    }
}

/// The error code that a payload begins with.
fn code(begin: &[u8]) -> u32 {
    let code = begin.first_chunk();
    code.map_or(NO_ERROR, |code| u32::from_be_bytes(*code))
}

/// Whether a block is one field (RFC 7541, 6): one of the table, or the name `:status` and a value.
fn is_status_alone(head: FrameHead, block: &[u8]) -> bool {
    if head.length as usize != block.len() {
        return false;
    }
    let mut rest = block;
    loop {
        let Some((&first, after)) = rest.split_first() else {
            return false;
        };
        let most = match first {
            0x80.. => 0x7f,
            // The size of the table.
            0x20..=0x3f => 0x1f,
            0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
                return after
                    .split_first()
                    .is_some_and(|(n, value)| usize::from(n & 0x7f) == value.len());
            }
            _ => return false,
        };
        let more = match first & most == most {
            true => after
                .iter()
                .position(|b| b & 0x80 == 0)
                .map_or(after.len(), |n| n + 1),
            false => 0,
        };
        rest = &after[more..];
        if most == 0x7f {
            return rest.is_empty();
        }
    }
}

/// Writes what can be said of it: a line for each head that is too large, and for the rest a count, for that may have been no request.
pub(super) fn tell(counts: &Counts, conn: &Conn, worker: &Worker) {
    let count = counts.take();
    if count == Count::default() {
        return;
    }
    worker.tally.broke_rules(count.streams, count.connections);
    let statuses = (0..count.told).map(|_| 431);
    let statuses = statuses.chain((0..count.ended).map(|_| 0));
    for status in statuses {
        let mut record = conn.record(worker, "HTTP/2");
        let detail = "the head is larger than twice `head_size`, or comes in too many pieces";
        record.refusal = Some(Refusal::new(Reason::HeaderTooLarge, detail));
        record.status = status;
        worker.finish(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, stream: u32, length: usize) -> FrameHead {
        FrameHead {
            kind,
            flags,
            length: length as u32,
            stream,
        }
    }

    #[test]
    fn a_status_alone_is_known_in_every_spelling() {
        for (block, want) in [
            (&[0x48, 0x82, 1, 2][..], true),
            (&[0x20, 0x48, 0x82, 1, 2], true),
            (&[0x3f, 0xe1, 0x1f, 0x08, 3, 52, 51, 49], true),
            (&[0xbe], true),
            (&[0xff, 0x80, 0x01], true),
            (&[0xbe, 0xbf], false),
            (&[0x89, 0xbe], false),
            (&[0x48, 0x82, 1, 2, 0xbe], false),
            (&[0x40, 1, b'x', 1, b'y'], false),
            (&[0x20], false),
            (&[], false),
        ] {
            let head = head(HEADERS, 5, 1, block.len());
            assert_eq!(is_status_alone(head, block), want, "{block:?}");
        }
        assert!(
            !is_status_alone(head(HEADERS, 5, 1, 30), &[0xbe]),
            "more follows"
        );
    }

    #[test]
    fn what_ends_an_answer_is_no_such_head() {
        let counts = Counts::default();
        let mut unseen = Unseen::new(Rc::clone(&counts));
        // An answer, its trailers; and the trailers of a stream that a client had reset long ago, and whose answer goes on.
        for stream in 0..1000 {
            let stream = 2 * stream + 1;
            unseen.wrote(head(HEADERS, 4, stream, 2), Some(&[0x88, 0xbe]));
            if stream % 3 == 0 {
                unseen.wrote(head(HEADERS, 5, stream, 1), Some(&[0xbe]));
            }
            assert!(unseen.answered.len() <= REMEMBERED);
        }
        assert_eq!(counts.get(), Count::default());
        unseen.wrote(head(HEADERS, 5, 5001, 1), Some(&[0xbe]));
        let goaway = |about: &[u8]| [&[0, 0, 0, 1, 0, 0, 0, 11], about].concat();
        unseen.wrote(head(GOAWAY, 0, 0, 33), Some(&goaway(b"header_list_")));
        unseen.wrote(head(GOAWAY, 0, 0, 23), Some(&goaway(b"too_many_res")));
        unseen.wrote(head(GOAWAY, 0, 0, 8), Some(&goaway(b"")));
        let broken = [0, 0, 0, 1, 0, 0, 0, 9];
        let count = counts.get();
        assert_eq!((count.told, count.ended, count.connections), (1, 1, 2));
        unseen.wrote(head(GOAWAY, 0, 0, 8), Some(&broken));
        assert_eq!(counts.get().ended, 2);
    }

    #[test]
    fn only_what_a_client_did_wrong_is_counted() {
        let counts = Counts::default();
        let mut unseen = Unseen::new(Rc::clone(&counts));
        for code in 0..14u8 {
            unseen.wrote(head(RST_STREAM, 0, 1, 4), None);
            unseen.wrote(head(RST_STREAM, 0, 1, 4), Some(&[0, 0, 0, code]));
        }
        assert_eq!(counts.take().streams, 3);
        for code in 0..14u8 {
            unseen.wrote(head(GOAWAY, 0, 0, 8), None);
            unseen.wrote(head(GOAWAY, 0, 0, 8), Some(&[0, 0, 0, 1, 0, 0, 0, code]));
        }
        let count = counts.take();
        assert_eq!((count.ended, count.connections), (1, 11));
        // A payload that is cut says nothing.
        unseen.wrote(head(GOAWAY, 0, 0, 6), Some(&[0, 0, 0, 1, 0, 0]));
        assert_eq!(counts.get(), Count::default());
    }
}
