//! Read buffers that are given back while a connection is idle. One free list per thread, bounded.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What a connection begins with: a request or a small answer fits.
const SMALL: usize = 8 << 10;
/// What a bulk body is read with: four full TLS records.
const LARGE: usize = 64 << 10;
/// Buffers kept for reuse, per size and thread.
const KEPT: usize = 64;

thread_local! {
    static FREE: RefCell<[Vec<Vec<u8>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

fn take(size: usize) -> Vec<u8> {
    let class = usize::from(size > SMALL);
    let size = if class == 0 { SMALL } else { LARGE };
    FREE.with_borrow_mut(|free| free[class].pop())
        .unwrap_or_else(|| vec![0; size])
}

fn give(memory: Vec<u8>) {
    let class = match memory.len() {
        SMALL => 0,
        LARGE => 1,
        _ => return,
    };
    FREE.with_borrow_mut(|free| {
        if free[class].len() < KEPT {
            free[class].push(memory);
        }
    });
}

/// Bytes that were read and are not used yet. Holds no memory while it is empty and nobody reads.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    from: usize,
    to: usize,
    full_reads: u8,
}

impl Buffer {
    /// What is there.
    pub fn data(&self) -> &[u8] {
        &self.memory[self.from..self.to]
    }

    /// How much is there.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Drops the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        self.from += n.min(self.len());
        if self.is_empty() {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Gives the memory back when nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.memory.is_empty() {
            give(std::mem::take(&mut self.memory));
            (self.from, self.to, self.full_reads) = (0, 0, 0);
        }
    }

    /// Reads more, until `limit` bytes are there; at the limit it is an error of kind `OutOfMemory`.
    /// 0 is the end of the stream. When nothing arrives and nothing is there, no memory is kept.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if self.len() >= limit {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        self.make_room();
        let mut into = ReadBuf::new(&mut self.memory[self.to..]);
        let polled = Pin::new(stream).poll_read(cx, &mut into);
        let (n, full) = (into.filled().len(), into.remaining() == 0);
        if polled.is_pending() {
            self.release();
        }
        ready!(polled)?;
        self.to += n;
        self.full_reads = if full {
            self.full_reads.saturating_add(1)
        } else {
            0
        };
        Poll::Ready(Ok(n))
    }

    fn make_room(&mut self) {
        let wanted = if self.full_reads >= 2 { LARGE } else { SMALL };
        if self.is_empty() && self.memory.len() < wanted {
            give(std::mem::replace(&mut self.memory, take(wanted)));
            return;
        }
        if self.to < self.memory.len() {
            return;
        }
        if self.from > 0 {
            self.memory.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
            return;
        }
        let mut larger = if self.memory.len() < LARGE {
            take(LARGE)
        } else {
            vec![0; self.memory.len() * 2]
        };
        larger[..self.to].copy_from_slice(&self.memory[..self.to]);
        give(std::mem::replace(&mut self.memory, larger));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.memory.is_empty() {
            give(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn fills_grows_and_gives_back() {
        let text: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut source = text.as_slice();
        let mut buffer = Buffer::default();
        while poll_fn(|cx| buffer.poll_fill(&mut source, cx, 1 << 20))
            .await
            .unwrap()
            > 0
        {}
        assert_eq!(buffer.data(), text);
        assert_eq!(
            poll_fn(|cx| buffer.poll_fill(&mut source, cx, 100))
                .await
                .unwrap_err()
                .kind(),
            io::ErrorKind::OutOfMemory
        );
        buffer.consume(usize::MAX);
        buffer.release();
        assert!(buffer.memory.is_empty());
    }
}
