//! Coalesced writes for HTTP/2: small frames wait until the sockets have been looked at once more, so that what other streams
//! have ready by then shares their TLS record and their system call. Nothing waits longer, and large frames do not wait at all.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// One full TLS record; more is not held back.
const FULL: usize = 16 << 10;

/// A stream whose small writes are gathered.
#[derive(Debug)]
pub struct Cork {
    stream: Stream,
    held: Vec<u8>,
    sent: usize,
    round: Arc<Round>,
    is_waiting: bool,
}

/// One look of this thread at its sockets. The streams of a connection wake its task as well, many times a round, so being
/// polled again does not mean that the round is over.
#[derive(Debug, Default)]
struct Round {
    is_over: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Round {
    /// Begins one: the runtime wakes what has yielded after it has looked at the sockets.
    fn begin(self: &Arc<Self>) {
        self.is_over.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(self));
        // Dropping the future keeps its wake-up.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Wake for Round {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

impl Cork {
    /// Wraps a connected stream. Holds no memory while nothing waits.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
            round: Arc::default(),
            is_waiting: false,
        }
    }

    /// Writes what is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.sent = 0;
        self.held.clear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Cork {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Cork {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if me.held.len() + size > FULL {
            ready!(me.poll_drain(cx))?;
            if size > FULL / 2 {
                let first = parts.iter().find(|part| !part.is_empty());
                return Pin::new(&mut me.stream).poll_write(cx, first.map_or(&[], |part| part));
            }
        }
        for part in parts {
            me.held.extend_from_slice(part);
        }
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if (1..FULL / 2).contains(&me.held.len()) {
            if !std::mem::replace(&mut me.is_waiting, true) {
                me.round.begin();
            }
            ready!(me.round.poll(cx));
        }
        me.is_waiting = false;
        ready!(me.poll_drain(cx))?;
        if me.held.capacity() > 2 * FULL {
            me.held = Vec::new();
        }
        Pin::new(&mut me.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_drain(cx))?;
        Pin::new(&mut me.stream).poll_shutdown(cx)
    }
}
