//! The heads of HTTP/2 frames in a stream of bytes, seen as they pass. Nothing is kept but nine bytes.

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

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; 9],
    have: usize,
    left: usize,
}

impl Frames {
    /// Sees bytes pass; `seen` is told each head once it is whole.
    pub fn pass(&mut self, mut bytes: &[u8], mut seen: impl FnMut(FrameHead)) {
        loop {
            let payload = self.left.min(bytes.len());
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
            self.have = 0;
            let [a, b, c, kind, flags, d, e, f, g] = self.head;
            let length = u32::from_be_bytes([0, a, b, c]);
            self.left = length as usize;
            seen(FrameHead {
                kind,
                flags,
                length,
                stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
            });
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
