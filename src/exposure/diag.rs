//! The kernel's `sock_diag` netlink protocol (linux/inet_diag.h), as much of it as lists listening sockets.
//! The kernel walks only its table of listeners for this, so that ten thousand open connections cost nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::SOCK_DIAG;

use super::socket_table::{MOST, Protocol, Socket};
use crate::net::netlink::{Netlink, attributes, u32_at};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// INET_DIAG_SKV6ONLY.
const SKV6ONLY: u16 = 11;
/// INET_DIAG_SOCKOPT.
const SOCKOPT: u16 = 22;
/// The flag `transparent` in the first byte of struct inet_diag_sockopt, which is made of bit fields.
const TRANSPARENT: u8 = if cfg!(target_endian = "big") { 4 } else { 32 };
/// struct inet_diag_msg.
const MESSAGE: usize = 72;

/// Lists the listening sockets of both families.
pub(super) fn dump(protocol: Protocol) -> io::Result<Vec<Socket>> {
    let netlink = Netlink::open(Some(SOCK_DIAG))?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = request(family, protocol);
        netlink.dump((BY_FAMILY, &request), BY_FAMILY, MOST, &mut found, |body| {
            parse(body, protocol)
        })?;
    }
    Ok(found)
}

/// struct inet_diag_req_v2.
fn request(family: u8, protocol: Protocol) -> [u8; 56] {
    let (number, states) = match protocol {
        Protocol::Tcp => (6, 1_u32 << 10),
        Protocol::Udp => (17, 1_u32 << 7),
    };
    let mut bytes = [0; 56];
    bytes[..2].copy_from_slice(&[family, number]);
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// One struct inet_diag_msg with its attributes.
fn parse(body: &[u8], protocol: Protocol) -> Option<Socket> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let ip: IpAddr = match *body.first()? {
        AF_INET => <[u8; 4]>::try_from(body.get(8..12)?).ok()?.into(),
        AF_INET6 => <[u8; 16]>::try_from(body.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    let first = |wanted: u16| {
        let mut all = attributes(body.get(MESSAGE..)?);
        let (_, value) = all.find(|(kind, _)| *kind == wanted)?;
        value.first().copied()
    };
    let only_v6 = first(SKV6ONLY).filter(|_| ip.is_ipv6());
    Some(Socket {
        protocol,
        address: SocketAddr::new(ip, port),
        only_v6: only_v6.map(|flag| flag != 0),
        device: u32_at(body, 40)?,
        uid: u32_at(body, 64)?,
        is_transparent: first(SOCKOPT).is_some_and(|flags| flags & TRANSPARENT != 0),
        inode: u64::from(u32_at(body, 68)?),
    })
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
        assert!(!six.is_transparent);
        for (flags, want) in [(TRANSPARENT, true), (!TRANSPARENT, false)] {
            let options = [6, 0, 22, 0].map(u8::from_le);
            let attributes = [&options[..], &[flags, 0, 0, 0]].concat();
            let one = parse(
                &body(AF_INET, 80, &[127, 0, 0, 1], 0, &attributes),
                Protocol::Tcp,
            );
            assert_eq!(one.unwrap().is_transparent, want);
        }
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
