//! Lines with descriptors beside them, over a Unix socket. The descriptors go first, some with each space, then the text and its
//! newline: whoever reads to the newline has all of them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

/// Descriptors in one message; the kernel takes 253.
const EACH: usize = 64;
/// And in one parcel.
const MOST: usize = 16 << 10;
/// The longest text: the counters of a full table.
const LONGEST: usize = 64 << 20;
/// The longest word of the other side.
const WORD: usize = 64;

/// Sends a line, which has its newline, and descriptors with it.
pub(super) async fn send(stream: &UnixStream, text: &str, fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    for some in fds.chunks(EACH) {
        part(stream, b" ", some).await?;
    }
    let mut left = text.as_bytes();
    while !left.is_empty() {
        left = &left[part(stream, left, &[]).await?..];
    }
    Ok(())
}

async fn part(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(EACH))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, flags)?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Waits for a line and what came beside it, for at most `limit`.
pub(super) fn receive(stream: &StdStream, limit: Duration) -> io::Result<(String, Vec<OwnedFd>)> {
    let end = Instant::now() + limit;
    let (mut text, mut fds, mut part) = (Vec::new(), Vec::new(), [0; 16 << 10]);
    while text.last() != Some(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(EACH))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut part)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        );
        let got = match got.map_err(io::Error::from) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            let what = "no descriptors are left for what is handed over";
            return Err(io::Error::other(what));
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(&part[..got.bytes]);
        if text.len() > LONGEST || fds.len() > MOST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((text, fds))
}

/// Waits for this word and nothing else.
pub(super) async fn expect(stream: &mut UnixStream, word: &str) -> io::Result<()> {
    let mut got = Vec::new();
    while got.last() != Some(&b'\n') {
        if got.len() == WORD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        got.push(stream.read_u8().await?);
    }
    match got == word.as_bytes() {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Lines without descriptors, one by one.
pub(super) struct Lines {
    pub stream: Arc<UnixStream>,
    /// What has come of the next one, and what came behind it.
    held: Vec<u8>,
}

impl Lines {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream: Arc::new(stream),
            held: Vec::new(),
        }
    }

    /// The next one, without its newline; an error when there is none any more. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.held[seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.held.split_off(seen + at + 1);
                let mut line = std::mem::replace(&mut self.held, rest);
                line.pop();
                return Ok(line);
            }
            seen = self.held.len();
            if seen > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.held) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn every_descriptor_arrives_in_order_and_what_follows_is_left() {
        let (ours, theirs) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |n: usize| File::create(dir.path().join(n.to_string())).unwrap();
        let files: Vec<OwnedFd> = (0..150).map(|n| file(n).into()).collect();
        let inode = |fd: &OwnedFd| {
            File::from(fd.try_clone().unwrap())
                .metadata()
                .unwrap()
                .ino()
        };
        let wanted: Vec<u64> = files.iter().map(inode).collect();
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(300_000));
        let (taken, mut was_taken) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::task::spawn_blocking(move || {
            [(); 3].map(|()| {
                let got = receive(&theirs, LIMIT);
                let _ = taken.send(());
                got
            })
        });
        send(&ours, &long, &files).await.unwrap();
        drop(files);
        // The next line is sent when the one before was taken: that is how the two talk.
        was_taken.recv().await.unwrap();
        send(&ours, "two\n", &[]).await.unwrap();
        was_taken.recv().await.unwrap();
        drop(ours);
        let [first, second, third] = reader.await.unwrap();
        let (text, fds) = first.unwrap();
        assert_eq!(text.trim_start(), long);
        assert_eq!(fds.iter().map(inode).collect::<Vec<_>>(), wanted);
        assert_eq!(second.unwrap().0, "two\n");
        assert_eq!(third.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn lines_come_one_by_one_however_they_are_cut() {
        let (ours, theirs) = StdStream::pair().unwrap();
        for stream in [&ours, &theirs] {
            stream.set_nonblocking(true).unwrap();
        }
        let ours = UnixStream::from_std(ours).unwrap();
        let mut lines = Lines::new(UnixStream::from_std(theirs).unwrap());
        let long = "x".repeat(100_000);
        let text = format!("one\n\n{long}\nhalf");
        let send = async {
            for part in text.as_bytes().chunks(7001) {
                let part = std::str::from_utf8(part).unwrap();
                send(&ours, part, &[]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(ours);
        };
        let read = async {
            let mut got = Vec::new();
            while let Ok(line) = lines.next().await {
                got.push(String::from_utf8(line).unwrap());
            }
            got
        };
        let ((), got) = tokio::join!(send, read);
        assert_eq!(got, ["one", "", &*long]);
    }

    #[tokio::test]
    async fn a_word_is_that_word_and_silence_has_an_end() {
        for (said, want) in [
            ("ready\n", true),
            ("redy\n", false),
            (&*"x".repeat(99), false),
        ] {
            let (ours, theirs) = StdStream::pair().unwrap();
            for stream in [&ours, &theirs] {
                stream.set_nonblocking(true).unwrap();
            }
            let (ours, mut theirs) = (
                UnixStream::from_std(ours).unwrap(),
                UnixStream::from_std(theirs).unwrap(),
            );
            send(&ours, said, &[]).await.unwrap();
            assert_eq!(expect(&mut theirs, "ready\n").await.is_ok(), want, "{said}");
        }
        let (_ours, theirs) = StdStream::pair().unwrap();
        let error = receive(&theirs, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
