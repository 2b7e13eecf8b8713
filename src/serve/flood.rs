//! What stands in front of the HTTP/2 library and bounds what it does not: frames that cost us work and are of no use to an
//! honest client in such numbers, and heads that never end. It sees nothing but frame heads, in both directions.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unseen::Unseen;
use crate::net::{Cork, FrameHead, Frames, Timer};

/// RFC 9113, 6, by type.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// RFC 9113, 7.
const INTERNAL_ERROR: u32 = 2;
const ENHANCE_YOUR_CALM: u32 = 0xb;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `PRI * HTTP/2.0…`, which comes before the first frame.
const PREFACE: usize = 24;

/// What a connection may spend at once, and what time gives back a second. An honest client gives windows and pings in
/// proportion to what it asks for and is sent, which earns it more than they cost.
const PURSE: i32 = 10_000;
const EACH_SECOND: i32 = 1_000;

/// What frames of a client cost. A reset costs the most: a request was begun for nothing. Browsers cancel a screen full of
/// pictures at once, some hundred, and not every second.
fn cost(head: FrameHead) -> i32 {
    match head.kind {
        // Padding may be 256 bytes around nothing.
        DATA if head.flags & END_STREAM != 0 => 0,
        DATA if head.length == 0 || (head.flags & PADDED != 0 && head.length <= 256) => 1,
        DATA => 0,
        HEADERS => -4,
        RST_STREAM => 24,
        SETTINGS => 8,
        // PRIORITY, PING, WINDOW_UPDATE, CONTINUATION, and types that nobody knows.
        _ => 1,
    }
}

/// What frames of ours earn for the client: for 1 KiB of an answer it may open two windows and ask after us twice. Answers in
/// crumbs earn nothing: a client can make us do so by windows of a byte.
fn earned(head: FrameHead) -> i32 {
    match head.kind {
        DATA => (head.length / 256).min(4) as i32,
        _ => 0,
    }
}

fn word(kind: u8) -> &'static str {
    match kind {
        DATA => "empty DATA",
        PRIORITY => "PRIORITY",
        RST_STREAM => "RST_STREAM",
        SETTINGS => "SETTINGS",
        PING => "PING",
        WINDOW_UPDATE => "WINDOW_UPDATE",
        CONTINUATION => "CONTINUATION",
        _ => "of an unknown type",
    }
}

/// What is left to spend. The clock is asked only when nothing is.
#[derive(Debug)]
struct Purse {
    left: i32,
    since: Instant,
}

impl Purse {
    fn new(now: Instant) -> Self {
        Self {
            left: PURSE,
            since: now,
        }
    }

    /// Takes `cost`, or gives it when it is below zero.
    fn take(&mut self, cost: i32) {
        self.left = self.left.saturating_sub(cost).min(PURSE);
    }

    /// Whether more was spent than there was, with what time has given meanwhile.
    fn is_overdrawn(&mut self, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let given = millis.min(u128::from(PURSE.unsigned_abs())) as i32 * EACH_SECOND / 1000;
        self.since = now;
        self.left = self.left.saturating_add(given).min(PURSE);
        self.left < 0
    }
}

/// Why a connection was ended here: which frames there were too many of.
pub(super) type Verdict = Rc<Cell<Option<&'static str>>>;

/// The stream under an HTTP/2 connection, watched.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Cork,
    read: Frames,
    written: Frames,
    preface: usize,
    has_begun: bool,
    /// A GOAWAY is out, or nobody is there to read one.
    has_left: bool,
    /// A header block has begun and not ended.
    open: bool,
    last_stream: u32,
    last_kind: u8,
    purse: Purse,
    /// What was spent on frames of each type; the last one stands for all that nobody knows.
    spent: [u32; 11],
    head: Timer,
    limit: Duration,
    verdict: Verdict,
    unseen: Unseen,
}

impl Watched {
    /// Watches a connection whose heads, the first frame included, may take `limit` each.
    pub fn new(inner: Cork, limit: Duration, verdict: Verdict, unseen: Unseen) -> Self {
        Self {
            inner,
            read: Frames::default(),
            written: Frames::default(),
            preface: PREFACE,
            has_begun: false,
            has_left: false,
            open: false,
            last_stream: 0,
            last_kind: 0,
            purse: Purse::new(Instant::now()),
            spent: [0; 11],
            head: Timer::default(),
            limit,
            verdict,
            unseen,
        }
    }

    /// Looks at what was read; true when that is a flood.
    fn is_flood(&mut self, bytes: &[u8]) -> bool {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let Self {
            read,
            purse,
            open,
            last_stream,
            last_kind,
            has_begun,
            spent,
            head: timer,
            ..
        } = self;
        read.pass(&bytes[preface..], |head| {
            *has_begun = true;
            *last_kind = head.kind;
            if matches!(head.kind, HEADERS | CONTINUATION) {
                *open = head.flags & END_HEADERS == 0;
                *last_stream = head.stream.max(*last_stream);
            }
            if !*open {
                // A head has ended: the next one has its own time.
                timer.disarm();
            }
            let cost = cost(head);
            purse.take(cost);
            let spent = &mut spent[usize::from(head.kind).min(10)];
            *spent = spent.saturating_add(cost.max(0).unsigned_abs());
        });
        self.purse.left < 0 && self.purse.is_overdrawn(Instant::now())
    }

    /// Whether a head is on its way: the first frame, a frame's own head, or a header block.
    fn is_within_head(&self) -> bool {
        !self.has_begun
            || self.open
            || self.read.is_within_head()
            || (self.last_kind == HEADERS && !self.read.is_between())
    }

    /// Tells the client why, as far as it listens.
    fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        let most = (0..=10).max_by_key(|kind| self.spent[usize::from(*kind)]);
        self.verdict.set(most.map(word));
        self.leave(cx, ENHANCE_YOUR_CALM);
    }

    /// Writes a GOAWAY, as far as there is room for one, unless one is out.
    fn leave(&mut self, cx: &mut Context<'_>, code: u32) {
        if self.has_left || !self.written.is_between() {
            return;
        }
        self.has_left = true;
        let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        goaway.extend(self.last_stream.to_be_bytes());
        goaway.extend(code.to_be_bytes());
        let mut inner = Pin::new(&mut self.inner);
        if inner.as_mut().poll_write(cx, &goaway).is_ready() {
            // A flush would wait for others to write, and nobody will.
            let _ = inner.as_mut().poll_shutdown(cx);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let before = into.filled().len();
        let polled = Pin::new(&mut me.inner).poll_read(cx, into);
        if polled.is_ready() {
            me.has_left |= into.filled().len() == before;
            if me.is_flood(&into.filled()[before..]) {
                me.say_goodbye(cx);
                return Poll::Ready(Err(io::Error::other("a flood of HTTP/2 frames")));
            }
            return polled;
        }
        if !me.is_within_head() {
            me.head.disarm();
            return polled;
        }
        me.head.arm(me.limit);
        match me.head.poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => polled,
        }
    }
}

impl AsyncWrite for Watched {
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
        let polled = Pin::new(&mut me.inner).poll_write_vectored(cx, parts);
        if let Poll::Ready(Ok(mut left)) = polled {
            let Self {
                written,
                purse,
                has_left,
                unseen,
                ..
            } = me;
            for part in parts {
                let n = left.min(part.len());
                written.pass_with_payload(&part[..n], |head, begin| {
                    unseen.wrote(head, begin);
                    if begin.is_none() {
                        *has_left |= head.kind == GOAWAY;
                        purse.take(-earned(head));
                    }
                });
                left -= n;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        me.has_left = true;
        Pin::new(&mut me.inner).poll_shutdown(cx)
    }
}

/// The library ends some connections without a word (an extended CONNECT with a content-length is one reason).
impl Drop for Watched {
    fn drop(&mut self) {
        if self.has_begun {
            self.leave(&mut Context::from_waker(Waker::noop()), INTERNAL_ERROR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_gives_back_and_a_full_purse_takes_no_more() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut purse = Purse::new(start);
        purse.take(-50);
        purse.take(PURSE + 1);
        assert!(purse.is_overdrawn(start), "spent at once");
        assert!(!purse.is_overdrawn(after(1)), "a second gives a thousand");
        purse.take(EACH_SECOND);
        assert!(purse.is_overdrawn(after(1)), "and no more");
        assert!(!purse.is_overdrawn(after(1_000_000)));
        purse.take(PURSE + 1);
        assert!(purse.is_overdrawn(after(1_000_000)), "a purse is a purse");
    }
}
