//! One end of a connection as the request path uses it: reading and writing side by side in one task, each wait with its deadline.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::buffer::Buffer;
use super::stream::Stream;
use super::timer::Timer;

/// A stream with its read buffer and timers. Shared by reference between the futures of one task;
/// nothing is borrowed across an await.
#[derive(Debug)]
pub struct Wire {
    stream: RefCell<Stream>,
    /// Bytes that were read and not used yet.
    pub input: RefCell<Buffer>,
    reading: Timer,
    writing: Timer,
}

impl Wire {
    /// Wraps a connected stream.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream: RefCell::new(stream),
            input: RefCell::default(),
            reading: Timer::default(),
            writing: Timer::default(),
        }
    }

    /// Reads more into `input`, which holds at most `limit` bytes. 0 is the end of the stream; `TimedOut` when
    /// nothing came for `wait`. Cancel safe.
    pub async fn fill(&self, limit: usize, wait: Duration) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, limit, wait)).await
    }

    /// As [`Wire::fill`], for a future that waits for several things.
    pub fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        limit: usize,
        wait: Duration,
    ) -> Poll<io::Result<usize>> {
        let polled = self
            .input
            .borrow_mut()
            .poll_fill(&mut *self.stream.borrow_mut(), cx, limit);
        until(&self.reading, polled, cx, wait)
    }

    /// As [`Wire::poll_fill`], without a deadline.
    pub fn poll_fill_forever(&self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.input
            .borrow_mut()
            .poll_fill(&mut *self.stream.borrow_mut(), cx, limit)
    }

    /// Starts the clock of the next reads anew at `wait`; they share one deadline until [`Wire::read_done`].
    pub fn read_by(&self, wait: Duration) {
        self.reading.rearm(wait);
    }

    /// As [`Wire::fill`], but bytes that arrive do not move the deadline of [`Wire::read_by`].
    pub async fn fill_by(&self, limit: usize) -> io::Result<usize> {
        poll_fn(|cx| {
            let polled =
                self.input
                    .borrow_mut()
                    .poll_fill(&mut *self.stream.borrow_mut(), cx, limit);
            if polled.is_pending() && self.reading.poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            polled
        })
        .await
    }

    /// Ends the shared deadline of [`Wire::read_by`].
    pub fn read_done(&self) {
        self.reading.disarm();
    }

    /// Waits until the peer is gone (`Ok`), reading what it sends meanwhile into `input` up to `limit`. With that
    /// much unread input the peer is taken to be there. Never ends otherwise; no deadline.
    pub async fn gone(&self, limit: usize) {
        poll_fn(|cx| {
            loop {
                if self.input.borrow().len() >= limit {
                    return Poll::Pending;
                }
                match ready!(self.input.borrow_mut().poll_fill(
                    &mut *self.stream.borrow_mut(),
                    cx,
                    limit
                )) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(_) => {}
                }
            }
        })
        .await;
    }

    /// Whether the idle peer still seems to be there and has said nothing. Costs no system call in the common case.
    pub async fn is_quiet(&self) -> bool {
        poll_fn(|cx| {
            let polled = self
                .input
                .borrow_mut()
                .poll_fill(&mut *self.stream.borrow_mut(), cx, 1);
            Poll::Ready(polled.is_pending())
        })
        .await
    }

    /// Writes all of `data` and flushes. `TimedOut` when nothing could be written for `wait`.
    pub async fn write(&self, data: &[u8], wait: Duration) -> io::Result<()> {
        let mut done = 0;
        poll_fn(|cx| self.poll_write(cx, data, &mut done, wait)).await
    }

    /// As [`Wire::write`]; `done` counts what was written and belongs to the caller.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        done: &mut usize,
        wait: Duration,
    ) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        while *done < data.len() {
            let polled = Pin::new(&mut *stream).poll_write(cx, &data[*done..]);
            let n = ready!(until(&self.writing, polled, cx, wait))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *done += n;
        }
        let polled = Pin::new(&mut *stream).poll_flush(cx);
        until(&self.writing, polled, cx, wait)
    }

    /// Ends our direction: close_notify and FIN. At most `wait`.
    pub async fn shutdown(&self, wait: Duration) -> io::Result<()> {
        poll_fn(|cx| {
            let polled = Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx);
            until(&self.writing, polled, cx, wait)
        })
        .await
    }

    /// Ends our direction, then reads and throws away what the peer still sends, so that the last answer is not
    /// lost to a reset (RFC 9112, 9.6). At most `wait` in all and 16 MiB: a client that uploads over a fast wire has sent some
    /// of that before it looks at what came.
    pub async fn linger(&self, wait: Duration) {
        if self.shutdown(wait).await.is_err() {
            return;
        }
        let mut left = 16usize << 20;
        self.read_by(wait);
        while left > 0 {
            let n = self.input.borrow().len();
            self.input.borrow_mut().consume(n);
            match self.fill_by(usize::MAX).await {
                Ok(0) | Err(_) => return,
                Ok(n) => left = left.saturating_sub(n),
            }
        }
    }

    /// The stream itself, with whatever was read and not used.
    pub fn into_parts(self) -> (Stream, Buffer) {
        (self.stream.into_inner(), self.input.into_inner())
    }
}

/// Pending becomes `TimedOut` when `wait` has passed since the first pending.
fn until<T>(
    timer: &Timer,
    polled: Poll<io::Result<T>>,
    cx: &mut Context<'_>,
    wait: Duration,
) -> Poll<io::Result<T>> {
    if polled.is_pending() {
        timer.arm(wait);
        if timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        timer.disarm();
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    timer.disarm();
    polled
}
