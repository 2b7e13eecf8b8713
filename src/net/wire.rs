//! One end of a connection as the request path uses it: reading and writing side by side in one task, each wait with its deadline.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Instant;

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
    /// Bytes that were written.
    written: Cell<u64>,
}

/// Why a peer is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its connection is broken.
    Vanished,
    /// It has ended its direction, and was sent nothing for so long.
    Silent,
}

/// How often it is looked whether a peer is still there whose input is not read.
const LOOK: Duration = Duration::from_secs(1);

impl Wire {
    /// Wraps a connected stream.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream: RefCell::new(stream),
            input: RefCell::default(),
            reading: Timer::default(),
            writing: Timer::default(),
            written: Cell::new(0),
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
        let polled = self.poll_input(cx, limit);
        until(&self.reading, polled, cx, wait)
    }

    /// As [`Wire::poll_fill`], without a deadline.
    pub fn poll_fill_forever(&self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        self.poll_input(cx, limit)
    }

    /// Most looks find nothing: they take no memory and no way through TLS.
    fn poll_input(&self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let (mut input, mut stream) = (self.input.borrow_mut(), self.stream.borrow_mut());
        if stream.poll_readable(cx).is_pending() && input.len() < limit {
            input.release();
            return Poll::Pending;
        }
        input.poll_fill(&mut *stream, cx, limit)
    }

    /// Starts the clock of the next reads anew at `wait`; they share one deadline until [`Wire::read_done`].
    pub fn read_by(&self, wait: Duration) {
        self.reading.rearm(wait);
    }

    /// As [`Wire::fill`], but bytes that arrive do not move the deadline of [`Wire::read_by`].
    pub async fn fill_by(&self, limit: usize) -> io::Result<usize> {
        poll_fn(|cx| {
            let polled = self.poll_input(cx, limit);
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

    /// Waits until the peer is not worth waiting for, reading what it sends meanwhile into `input` up to `limit`. A peer that ends
    /// its own direction may still want what comes; it may also be gone for good, which looks the same until something is written.
    /// So it is let go when it has been sent nothing for `silence` since.
    pub async fn gone(&self, limit: usize, silence: Duration) -> Gone {
        let is_half = poll_fn(|cx| {
            loop {
                if self.input.borrow().len() >= limit {
                    return Poll::Ready(Some(false));
                }
                match ready!(self.poll_input(cx, limit)) {
                    Ok(0) => return Poll::Ready(Some(true)),
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(None),
                }
            }
        });
        match is_half.await {
            None => Gone::Vanished,
            // Boxed: few come here, and every exchange would carry it.
            Some(is_half) => Box::pin(self.let_go(is_half, silence)).await,
        }
    }

    /// Looks after a peer whose input is not read any more.
    async fn let_go(&self, mut is_half: bool, silence: Duration) -> Gone {
        let look = LOOK.min(silence / 4).max(Duration::from_millis(10));
        let (mut seen, mut since) = (self.written.get(), Instant::now());
        loop {
            tokio::time::sleep(look).await;
            let ends = self.stream.borrow().ends();
            if ends.broken {
                return Gone::Vanished;
            }
            is_half |= ends.half;
            let written = self.written.get();
            if !is_half || std::mem::replace(&mut seen, written) != written {
                since = Instant::now();
            }
            if since.elapsed() >= silence {
                return Gone::Silent;
            }
        }
    }

    /// Whether the kernel holds neither a byte nor an end of the idle peer.
    pub fn is_silent(&self) -> bool {
        self.stream.borrow().is_silent()
    }

    /// Whether the idle peer still seems to be there and has said nothing, as of now. Asks the kernel: what the runtime knows is as
    /// old as its last look at its sockets, and an answer that nobody asked for would become somebody's.
    pub async fn is_quiet(&self) -> bool {
        if !self.is_silent() {
            return false;
        }
        poll_fn(|cx| {
            let polled = self.poll_input(cx, 1);
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
            self.written.set(self.written.get().wrapping_add(n as u64));
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A wire, its socket as the kernel sees it, and the other end.
    fn pair() -> (Wire, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let kernel = ours.try_clone().unwrap();
        let ours = tokio::net::TcpStream::from_std(ours).unwrap();
        (Wire::new(Stream::Tcp(ours)), kernel, peer)
    }

    #[tokio::test]
    async fn a_word_or_an_end_that_the_runtime_has_not_seen_yet_is_seen() {
        for speaks in [true, false] {
            let (wire, kernel, mut peer) = pair();
            // The runtime learns that there is nothing to read.
            tokio::task::yield_now().await;
            let nothing = poll_fn(|cx| Poll::Ready(wire.poll_fill_forever(cx, 9))).await;
            assert!(nothing.is_pending() && wire.is_quiet().await);
            // Not a turn of it lies between this and the look.
            if speaks {
                peer.write_all(b"x").unwrap();
            } else {
                drop(peer);
            }
            // The kernel of a busy machine may take a moment.
            while kernel
                .peek(&mut [0])
                .is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!wire.is_quiet().await, "speaks: {speaks}");
        }
    }

    #[tokio::test]
    async fn who_is_not_read_any_more_is_seen_to_end_or_to_break() {
        let long = Duration::from_secs(600);
        for (breaks, silence, want) in [
            (true, long, Gone::Vanished),
            (false, Duration::from_millis(50), Gone::Silent),
        ] {
            let (wire, _, mut peer) = pair();
            peer.write_all(&[b'x'; 5000]).unwrap();
            if breaks {
                let about = socket2::SockRef::from(&peer);
                about.set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(peer);
            assert_eq!(wire.gone(100, silence).await, want, "breaks: {breaks}");
        }
    }
}
