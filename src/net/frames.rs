//! The heads of HTTP/2 frames in a stream of bytes, seen as they pass, and how those begin that answer or end something. Nothing is
//! kept but a few bytes.

/// What a frame says of itself (RFC 9113, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Bytes that follow.
    pub length: u32,
    /// Its stream; 0 is the connection.
    pub stream: u32,
}

/// RFC 9113, 6, by type.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Bytes of a payload that are kept.
const KEPT: usize = 20;

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; 9],
    have: usize,
    left: usize,
    /// The begin of the payload, where it is kept.
    begin: [u8; KEPT],
    kept: usize,
}

impl Frames {
    /// Sees bytes pass; `seen` is told each head once it is whole.
    pub fn pass(&mut self, bytes: &[u8], mut seen: impl FnMut(FrameHead)) {
        self.pass_with_payload(bytes, |head, begin| {
            if begin.is_none() {
                seen(head);
            }
        });
    }

    /// The same; of HEADERS, RST_STREAM and GOAWAY `seen` is told once more when they are whole, with the begin of their payload.
    pub fn pass_with_payload(
        &mut self,
        mut bytes: &[u8],
        mut seen: impl FnMut(FrameHead, Option<&[u8]>),
    ) {
        loop {
            let payload = self.left.min(bytes.len());
            if payload > 0 && matches!(self.head[3], HEADERS | RST_STREAM | GOAWAY) {
                let part = payload.min(KEPT - self.kept);
                self.begin[self.kept..self.kept + part].copy_from_slice(&bytes[..part]);
                self.kept += part;
                if payload == self.left {
                    seen(self.whole(), Some(&self.begin[..self.kept]));
                }
            }
            self.left -= payload;
            bytes = &bytes[payload..];
            if bytes.is_empty() {
                return;
            }
            let part = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have < self.head.len() {
                return;
            }
            (self.have, self.kept) = (0, 0);
            let head = self.whole();
            self.left = head.length as usize;
            seen(head, None);
        }
    }

    fn whole(&self) -> FrameHead {
        let [a, b, c, kind, flags, d, e, f, g] = self.head;
        FrameHead {
            kind,
            flags,
            length: u32::from_be_bytes([0, a, b, c]),
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    /// Whether the last byte that passed was the last of a frame.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a frame's head has begun and is not whole.
    pub fn is_within_head(&self) -> bool {
        self.have > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, length: u32, stream: u32) -> FrameHead {
        FrameHead {
            kind,
            flags: 5,
            length,
            stream,
        }
    }

    #[test]
    fn finds_the_same_heads_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        let all = [head(1, 3, 1), head(6, 0, 0), head(0, 300, 0x7fff_ffff)];
        for head in all {
            bytes.extend(&head.length.to_be_bytes()[1..]);
            bytes.extend([head.kind, head.flags]);
            bytes.extend((head.stream | 1 << 31).to_be_bytes());
            bytes.extend(vec![9; head.length as usize]);
        }
        for size in 1..bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in bytes.chunks(size) {
                frames.pass(part, |head| found.push(head));
            }
            assert_eq!(found, all, "in pieces of {size}");
            assert!(frames.is_between());
        }
    }

    #[test]
    fn tells_how_answers_and_ends_begin_however_the_bytes_are_cut() {
        let mut bytes = vec![0, 0, 4, 1, 5, 0, 0, 0, 5, 0x48, 0x82, 1, 2];
        bytes.extend([0, 0, 1, 0, 0, 0, 0, 0, 7, 9]);
        bytes.extend([0, 0, 30, 7, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 11]);
        bytes.extend(b"too_many_continuations");
        bytes.extend([0, 0, 1, 1, 5, 0, 0, 0, 9, 0xbe]);
        bytes.extend([0, 0, 4, 3, 0, 0, 0, 0, 11, 0, 0, 0, 1]);
        for size in 1..=bytes.len() {
            let (mut frames, mut begins, mut heads) = (Frames::default(), Vec::new(), 0);
            for part in bytes.chunks(size) {
                frames.pass_with_payload(part, |head, begin| match begin {
                    Some(begin) => begins.push((head.stream, begin.to_vec())),
                    None => heads += 1,
                });
            }
            let goaway = [&[0, 0, 0, 9, 0, 0, 0, 11][..], b"too_many_con"].concat();
            let want = [
                (5, vec![0x48, 0x82, 1, 2]),
                (0, goaway),
                (9, vec![0xbe]),
                (11, vec![0, 0, 0, 1]),
            ];
            assert_eq!((&*begins, heads), (&want[..], 5), "in pieces of {size}");
        }
    }

    #[test]
    fn knows_where_it_is() {
        let mut frames = Frames::default();
        frames.pass(&[0, 0, 1], |_| panic!("no head is whole"));
        assert!(frames.is_within_head() && !frames.is_between());
        frames.pass(&[0, 0, 0, 0, 0, 0], |_| {});
        assert!(!frames.is_within_head() && !frames.is_between());
        frames.pass(&[1], |_| {});
        assert!(frames.is_between());
    }
}
