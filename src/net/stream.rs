//! One byte stream, whatever carries it. Data and closing only; no policy.

use std::future::Future;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// A connected stream. The TLS states are boxed: an idle connection should be small.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear.
    Tcp(TcpStream),
    /// A Unix socket in clear.
    Unix(UnixStream),
    /// TLS where we are the server.
    TlsServer(Box<server::TlsStream<TcpStream>>),
    /// TLS where we are the client.
    TlsClient(Box<client::TlsStream<TcpStream>>),
}

/// What is known of the ends of a connection without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The peer sends no more (FIN), though there may be data before its end.
    pub half: bool,
    /// The connection is broken (RST, or a peer that does not answer any more).
    pub broken: bool,
}

impl Stream {
    /// What the runtime has learnt of the ends so far, whatever waits to be read. Costs no system call.
    pub fn ends(&self) -> Ends {
        let about = Interest::PRIORITY | Interest::ERROR | Interest::WRITABLE;
        match self {
            Self::Tcp(s) => ends(s.ready(about)),
            Self::Unix(s) => ends(s.ready(about)),
            Self::TlsServer(s) => ends(s.get_ref().0.ready(about)),
            Self::TlsClient(s) => ends(s.get_ref().0.ready(about)),
        }
    }

    /// Pending while there is surely nothing to read; costs no system call. Ready promises nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Without `wants_read` there are bytes (or an end) that TLS has read already.
        let polled = match self {
            Self::Tcp(s) => s.poll_read_ready(cx),
            Self::Unix(s) => s.poll_read_ready(cx),
            Self::TlsServer(s) if s.get_ref().1.wants_read() => s.get_ref().0.poll_read_ready(cx),
            Self::TlsClient(s) if s.get_ref().1.wants_read() => s.get_ref().0.poll_read_ready(cx),
            Self::TlsServer(_) | Self::TlsClient(_) => return Poll::Ready(()),
        };
        polled.map(|_error_too| ())
    }

    /// Whether the kernel holds no byte for us, and no end. Asks it, because the runtime may not have looked for a while.
    pub fn is_silent(&self) -> bool {
        let socket = match self {
            Self::Tcp(s) => SockRef::from(s),
            Self::Unix(s) => SockRef::from(s),
            Self::TlsServer(s) => SockRef::from(s.get_ref().0),
            Self::TlsClient(s) => SockRef::from(s.get_ref().0),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes what the stream can without waiting for the socket: TLS makes records of it, up to [`Stream::hold_at_most`], and a flush sends
    /// them. In clear it is a write.
    pub fn poll_take(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, parts),
            Self::Unix(s) => Pin::new(s).poll_write_vectored(cx, parts),
            Self::TlsServer(s) => Poll::Ready(s.get_mut().1.writer().write_vectored(parts)),
            Self::TlsClient(s) => Poll::Ready(s.get_mut().1.writer().write_vectored(parts)),
        }
    }

    /// How many bytes of records [`Stream::poll_take`] keeps until a flush.
    pub fn hold_at_most(&mut self, bytes: usize) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::TlsServer(s) => s.get_mut().1.set_buffer_limit(Some(bytes)),
            Self::TlsClient(s) => s.get_mut().1.set_buffer_limit(Some(bytes)),
        }
    }
}

/// Looks at what is ready once.
fn ends(ready: impl Future<Output = io::Result<Ready>>) -> Ends {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => Ends {
            half: ready.is_read_closed(),
            broken: ready.is_error() || ready.is_write_closed(),
        },
        Poll::Ready(Err(_)) => Ends {
            half: true,
            broken: true,
        },
        Poll::Pending => Ends {
            half: false,
            broken: false,
        },
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::TlsServer(s) => Pin::new(s).poll_read(cx, buf),
            Self::TlsClient(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, data),
            Self::Unix(s) => Pin::new(s).poll_write(cx, data),
            Self::TlsServer(s) => Pin::new(s).poll_write(cx, data),
            Self::TlsClient(s) => Pin::new(s).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::TlsServer(s) => Pin::new(s).poll_flush(cx),
            Self::TlsClient(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::TlsServer(s) => Pin::new(s).poll_shutdown(cx),
            Self::TlsClient(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
