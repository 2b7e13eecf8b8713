//! Request heads that the HTTP/2 library refuses by itself, because they are far too large: we are never handed them, but what it writes
//! tells of them, so the log and the metrics can.

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
const COMPRESSION_ERROR: [u8; 4] = [0, 0, 0, 9];

/// Streams that are remembered: more than run at a time, for those that their clients reset are not forgotten.
const REMEMBERED: usize = 256;

/// How many such heads there were since the last look: those that were told (431), and one that ended the connection.
pub(super) type Heads = Rc<Cell<(u32, u32)>>;

/// What was written, as far as it tells of such heads.
#[derive(Debug, Default)]
pub(super) struct Oversize {
    /// Streams whose answers have begun and not ended.
    answered: Vec<u32>,
    heads: Heads,
}

impl Oversize {
    /// Tells `heads` of them.
    pub fn new(heads: Heads) -> Self {
        Self {
            heads,
            ..Self::default()
        }
    }

    /// A frame to the client. The library answers such a head with a status alone, where answers of ours have a date at least, or says
    /// why it ends the connection.
    pub fn wrote(&mut self, head: FrameHead, begin: Option<&[u8]>) {
        let ends = head.flags & END_STREAM != 0;
        let (told, ended) = self.heads.get();
        match (head.kind, begin) {
            (HEADERS, Some(block)) => {
                let is_first = !self.forget(head.stream);
                if ends && is_first && is_status_alone(head, block) {
                    self.heads.set((told + 1, ended));
                } else if !ends {
                    if self.answered.len() == REMEMBERED {
                        self.answered.remove(0);
                    }
                    self.answered.push(head.stream);
                }
            }
            (DATA, None) if ends => drop(self.forget(head.stream)),
            (RST_STREAM, None) => drop(self.forget(head.stream)),
            (GOAWAY, Some(begin)) => {
                let (code, about) = (begin.get(4..8), begin.get(8..).unwrap_or_default());
                // It says so of a head of several frames that goes on when it is too large, and of nothing else.
                let is_head = code == Some(&COMPRESSION_ERROR[..])
                    || [&b"header_list_"[..], b"too_many_con"].contains(&about);
                self.heads.set((told, ended + u32::from(is_head)));
            }
            _ => {}
        }
    }

    /// Whether the answer of this stream had begun.
    fn forget(&mut self, stream: u32) -> bool {
        let at = self.answered.iter().rposition(|s| *s == stream);
        at.map(|at| self.answered.remove(at)).is_some()
    }
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

/// Writes what a head that we did not see can be said of.
pub(super) fn tell(heads: &Heads, conn: &Conn, worker: &Worker) {
    let (told, ended) = heads.take();
    let statuses = (0..told).map(|_| 431).chain((0..ended).map(|_| 0));
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
        let heads = Heads::default();
        let mut oversize = Oversize::new(Rc::clone(&heads));
        // An answer, its trailers; and the trailers of a stream that a client had reset long ago, and whose answer goes on.
        for stream in 0..1000 {
            let stream = 2 * stream + 1;
            oversize.wrote(head(HEADERS, 4, stream, 2), Some(&[0x88, 0xbe]));
            if stream % 3 == 0 {
                oversize.wrote(head(HEADERS, 5, stream, 1), Some(&[0xbe]));
            }
            assert!(oversize.answered.len() <= REMEMBERED);
        }
        assert_eq!(heads.get(), (0, 0));
        oversize.wrote(head(HEADERS, 5, 5001, 1), Some(&[0xbe]));
        let goaway = |about: &[u8]| [&[0; 8], about].concat();
        oversize.wrote(head(GOAWAY, 0, 0, 33), Some(&goaway(b"header_list_")));
        oversize.wrote(head(GOAWAY, 0, 0, 23), Some(&goaway(b"too_many_res")));
        oversize.wrote(head(GOAWAY, 0, 0, 8), Some(&goaway(b"")));
        let broken = [0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(heads.get(), (1, 1));
        oversize.wrote(head(GOAWAY, 0, 0, 8), Some(&broken));
        assert_eq!(heads.get(), (1, 2));
    }
}
