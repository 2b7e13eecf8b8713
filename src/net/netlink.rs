//! The kernel's netlink protocol (linux/netlink.h), as much of it as takes a table: one request, its answers to their end, and once
//! more when the table changed meanwhile.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

/// struct nlmsghdr.
const HEAD: usize = 16;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR: the table changed under the dump.
const INTERRUPTED: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The kernel fills at most this much at a time.
const BUFFER: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);
/// A dump that was interrupted may have missed one: it is taken again, and the last is believed.
const ATTEMPTS: u32 = 4;

/// A socket to ask the kernel by. Blocking, at most two seconds an answer.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Netlink {
    /// Opens one of a netlink protocol; `None` is NETLINK_ROUTE, which is number 0.
    pub fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: Cell::new(0),
        })
    }

    /// Adds to `found` what `read` makes of the messages of `kind` that answer this request, `most` at most.
    pub fn dump<T, I: IntoIterator<Item = T>>(
        &self,
        request: (u16, &[u8]),
        kind: u16,
        most: usize,
        found: &mut Vec<T>,
        read: impl Fn(&[u8]) -> I,
    ) -> io::Result<()> {
        let before = found.len();
        for _ in 0..ATTEMPTS {
            found.truncate(before);
            if self.attempt(request, |k, body| {
                if k == kind {
                    found.extend(read(body));
                }
                match found.len() > most {
                    true => Err(io::Error::other("a table that is too long to be judged")),
                    false => Ok(()),
                }
            })? {
                break;
            }
        }
        Ok(())
    }

    /// One dump; false when it was interrupted.
    fn attempt(
        &self,
        (kind, payload): (u16, &[u8]),
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        send(
            &self.socket,
            &asked(kind, sequence, payload),
            SendFlags::empty(),
        )?;
        let mut buffer = vec![0_u8; BUFFER];
        let mut is_whole = true;
        loop {
            let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let Some(mut rest) = buffer.get(..length) else {
                return Err(io::Error::other("a netlink message longer than its buffer"));
            };
            while let Some((head, body, after)) = message(rest) {
                rest = after;
                if head.sequence != sequence {
                    continue;
                }
                is_whole &= head.flags & INTERRUPTED == 0;
                match head.kind {
                    NLMSG_DONE => return status(body).map(|()| is_whole),
                    NLMSG_ERROR => {
                        return status(body)
                            .and_then(|()| Err(io::Error::other("netlink acknowledged a dump")));
                    }
                    kind => each(kind, body)?,
                }
            }
        }
    }
}

fn asked(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEAD + payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

struct Head {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The next message of a datagram, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(Head, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let body = bytes.get(HEAD..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    let head = Head {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
    };
    Some((head, body, after))
}

/// The number with which the kernel ends a dump: 0, or a negative errno.
fn status(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).map(u32::cast_signed) {
        None | Some(0..) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
    }
}

/// Kind and value of the attributes (struct nlattr) of a message. One without a length ends the list.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number in the order of this machine.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The same of four bytes.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_kernel_is_an_error() {
        assert!(status(&0_i32.to_ne_bytes()).is_ok());
        assert_eq!(
            status(&(-2_i32).to_ne_bytes()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(message(&[72, 0, 0, 0]).is_none());
        let netlink = Netlink::open(None).unwrap();
        let mut found = Vec::new();
        // No such request.
        let refused = netlink.dump((0xfff0, &[0; 4]), 0, 9, &mut found, |_| [()]);
        assert!(refused.is_err() && found.is_empty());
    }

    #[test]
    fn attributes_end_where_they_are_broken() {
        let list = [5, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0].map(u8::from_le);
        let found: Vec<_> = attributes(&list).collect();
        assert_eq!(found, [(8, &[3][..])]);
    }
}
