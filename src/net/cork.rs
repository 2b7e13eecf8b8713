//! Coalesced writes for HTTP/2: small frames wait for one trip round the scheduler, so that what other streams have ready
//! by then shares their TLS record and their system call. Nothing waits longer, and large frames do not wait at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

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
    has_waited: bool,
}

impl Cork {
    /// Wraps a connected stream. Holds no memory while nothing waits.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            held: Vec::new(),
            sent: 0,
            has_waited: false,
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
        if !me.held.is_empty() && me.held.len() < FULL / 2 && !me.has_waited {
            me.has_waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        me.has_waited = false;
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
