//! The kernel's `sock_diag` netlink protocol (linux/inet_diag.h), as much of it as lists listening sockets.
//! The kernel walks only its table of listeners for this, so that ten thousand open connections cost nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::socket_table::{MOST, Protocol, Socket};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR: the table changed under the dump.
const INTERRUPTED: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// INET_DIAG_SKV6ONLY.
const SKV6ONLY: u16 = 11;
/// struct inet_diag_msg.
const MESSAGE: usize = 72;
/// The kernel fills at most this much at a time.
const BUFFER: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// Lists the listening sockets of both families.
pub(super) fn dump(protocol: Protocol) -> io::Result<Vec<Socket>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        // A dump that was interrupted may have missed one: it is taken again, and the last is believed.
        for attempt in 0..4_u32 {
            let before = found.len();
            let is_whole = dump_family(&socket, family, protocol, attempt, &mut found)?;
            if is_whole || attempt == 3 {
                break;
            }
            found.truncate(before);
        }
    }
    Ok(found)
}

fn dump_family(
    socket: &OwnedFd,
    family: u8,
    protocol: Protocol,
    attempt: u32,
    found: &mut Vec<Socket>,
) -> io::Result<bool> {
    let sequence = u32::from(family) << 8 | attempt;
    send(
        socket,
        &request(family, protocol, sequence),
        SendFlags::empty(),
    )?;
    let mut buffer = vec![0_u8; BUFFER];
    let mut is_whole = true;
    loop {
        let (_, length) = recv(socket, &mut buffer[..], RecvFlags::TRUNC)?;
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
                BY_FAMILY => found.extend(parse(body, protocol)),
                _ => {}
            }
            if found.len() > MOST {
                return Err(io::Error::other("more sockets than can be judged"));
            }
        }
    }
}

/// struct nlmsghdr and struct inet_diag_req_v2.
fn request(family: u8, protocol: Protocol, sequence: u32) -> Vec<u8> {
    let (number, states) = match protocol {
        Protocol::Tcp => (6, 1_u32 << 10),
        Protocol::Udp => (17, 1_u32 << 7),
    };
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([family, number, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.resize(72, 0);
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
    let body = bytes.get(16..length)?;
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

/// One struct inet_diag_msg with its attributes.
fn parse(body: &[u8], protocol: Protocol) -> Option<Socket> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let ip: IpAddr = match *body.first()? {
        AF_INET => <[u8; 4]>::try_from(body.get(8..12)?).ok()?.into(),
        AF_INET6 => <[u8; 16]>::try_from(body.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    let mut only_v6 = None;
    let mut rest = body.get(MESSAGE..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        if kind == SKV6ONLY && ip.is_ipv6() {
            only_v6 = rest.get(4).map(|flag| *flag != 0);
        }
        match rest.get(length.next_multiple_of(4)..) {
            Some(after) if length >= 4 => rest = after,
            _ => break,
        }
    }
    Some(Socket {
        protocol,
        address: SocketAddr::new(ip, port),
        only_v6,
        device: u32_at(body, 40)?,
        uid: u32_at(body, 64)?,
        inode: u64::from(u32_at(body, 68)?),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn body(family: u8, port: u16, ip: &[u8], device: u32, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![family, 10, 0, 0];
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(ip);
        bytes.resize(40, 0);
        bytes.extend(device.to_ne_bytes());
        bytes.resize(64, 0);
        bytes.extend(1000_u32.to_ne_bytes());
        bytes.extend(77_u32.to_ne_bytes());
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn a_message_is_read_with_its_attributes() {
        let four = parse(&body(AF_INET, 3000, &[127, 0, 0, 1], 0, &[]), Protocol::Tcp).unwrap();
        assert_eq!(four.address, "127.0.0.1:3000".parse().unwrap());
        assert_eq!((four.uid, four.inode, four.only_v6), (1000, 77, None));
        // INET_DIAG_SHUTDOWN (8) first, then SKV6ONLY.
        let attributes = [5, 0, 8, 0, 3, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0].map(u8::from_le);
        let six = parse(&body(AF_INET6, 80, &[0; 16], 4, &attributes), Protocol::Tcp).unwrap();
        assert_eq!((six.only_v6, six.device), (Some(true), 4));
        // An attribute without a length ends the list instead of going round for ever.
        assert!(
            parse(
                &body(AF_INET6, 80, &[0; 16], 4, &[0, 0, 0, 0]),
                Protocol::Tcp
            )
            .is_some()
        );
        assert!(parse(&body(AF_INET, 80, &[0; 4], 0, &[])[..60], Protocol::Tcp).is_none());
        assert!(parse(&[], Protocol::Tcp).is_none());
    }

    #[test]
    fn an_error_of_the_kernel_is_an_error() {
        assert!(status(&0_i32.to_ne_bytes()).is_ok());
        assert_eq!(
            status(&(-2_i32).to_ne_bytes()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(message(&[72, 0, 0, 0]).is_none());
    }

    #[test]
    fn a_listener_of_this_process_is_in_the_table_until_it_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_listed = || {
            dump(Protocol::Tcp)
                .unwrap()
                .iter()
                .any(|s| s.address == address)
        };
        assert!(is_listed());
        drop(listener);
        assert!(!is_listed());
    }
}
