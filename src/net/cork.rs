//! Coalesced writes for HTTP/2: frames wait until the sockets have been looked at once more, so that what other streams have
//! ready by then shares their TLS record and their system call. Nothing waits longer. Records are full where there is enough
//! for one, whatever the size of frames, and four full ones do not wait.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// What one TLS record carries (RFC 8446, 5.1).
const RECORD: usize = 16 << 10;
/// Bytes in sealed records that go out at once, in one system call.
const ENOUGH: usize = 4 * RECORD;
/// What is read before other tasks have their turn: an upload would be read as far as its window goes before any of it is passed on,
/// and be out of the processor's caches by then.
const TURN: usize = 128 << 10;

/// A stream whose writes are gathered.
///
/// A flush says that it is done while the round goes on: the HTTP/2 library would hand over no further frame otherwise. It
/// flushes again whenever its task is polled, and the end of the round wakes that task.
#[derive(Debug)]
pub struct Cork {
    stream: Stream,
    /// Less than a record.
    held: Vec<u8>,
    /// Bytes that the stream has taken and maybe not sent.
    sealed: usize,
    round: Arc<Round>,
    is_waiting: bool,
    is_draining: bool,
    /// Bytes read in this turn.
    read: usize,
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
    /// Wraps a connected stream.
    pub fn new(mut stream: Stream) -> Self {
        stream.hold_at_most(ENOUGH + 2 * RECORD);
        Self {
            stream,
            held: Vec::new(),
            sealed: 0,
            round: Arc::default(),
            is_waiting: false,
            is_draining: false,
            read: 0,
        }
    }

    /// Makes one record of what is held and what follows, as far as there is room in it; how much of `parts` is in it.
    fn poll_seal(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (mut slices, mut count, mut room) = ([io::IoSlice::new(&[]); 8], 0, RECORD);
        let all = std::iter::once(&self.held[..]).chain(parts.iter().map(|part| &**part));
        for (slice, part) in slices.iter_mut().zip(all.filter(|part| !part.is_empty())) {
            let part = &part[..part.len().min(room)];
            *slice = io::IoSlice::new(part);
            (count, room) = (count + 1, room - part.len());
        }
        let n = ready!(Pin::new(&mut self.stream).poll_take(cx, &slices[..count]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sealed += n;
        let own = n.min(self.held.len());
        self.held.drain(..own);
        Poll::Ready(Ok(n - own))
    }

    /// Sends all that waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            ready!(self.poll_seal(cx, &[]))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.sealed = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Cork {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.read >= TURN {
            me.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut me.stream).poll_read(cx, into);
        me.read = match polled {
            Poll::Ready(_) => me.read + into.filled().len() - before,
            Poll::Pending => 0,
        };
        polled
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
        if me.held.len() + size < RECORD {
            for part in parts {
                me.held.extend_from_slice(part);
            }
            return Poll::Ready(Ok(size));
        }
        loop {
            if me.sealed >= ENOUGH {
                ready!(Pin::new(&mut me.stream).poll_flush(cx))?;
                me.sealed = 0;
            }
            let n = ready!(me.poll_seal(cx, parts))?;
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if !me.is_draining && me.sealed < ENOUGH && (me.sealed > 0 || !me.held.is_empty()) {
            if !std::mem::replace(&mut me.is_waiting, true) {
                me.round.begin();
            }
            if me.round.poll(cx).is_pending() {
                return Poll::Ready(Ok(()));
            }
        }
        (me.is_waiting, me.is_draining) = (false, true);
        ready!(me.poll_drain(cx))?;
        me.is_draining = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_drain(cx))?;
        Pin::new(&mut me.stream).poll_shutdown(cx)
    }
}
