//! The gateways of all default routes, of every table and of every next hop, by rtnetlink: `/proc/net/route` shows the main table and
//! one next hop of each IPv4 route. `0.0.0.0/1` with `128.0.0.0/1` is how tunnels write a default route.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// RTM_GETROUTE and what answers it, RTM_NEWROUTE.
const GET: u16 = 26;
const NEW: u16 = 24;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA.
const GATEWAY: u16 = 5;
const MULTIPATH: u16 = 9;
const VIA: u16 = 18;
/// RTN_UNICAST.
const UNICAST: u8 = 1;
/// struct rtmsg and struct rtnexthop.
const ROUTE_HEAD: usize = 12;
const HOP_HEAD: usize = 8;
const BUFFER: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);
/// Messages beyond this are a router's, whose tables are not read to their end.
const MOST: usize = 4096;

/// The next hops of every default route. Blocking.
pub(super) fn gateways() -> io::Result<Vec<IpAddr>> {
    let flags = SocketFlags::CLOEXEC;
    // NETLINK_ROUTE is number 0, for which rustix wants none.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut found = Vec::new();
    let mut buffer = vec![0_u8; BUFFER];
    for family in [AF_INET, AF_INET6] {
        send(&socket, &request(family), SendFlags::empty())?;
        let mut is_over = false;
        for _ in 0..MOST {
            let (_, length) = recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let Some(bytes) = buffer.get(..length) else {
                return Err(io::Error::other("a netlink message longer than its buffer"));
            };
            is_over = read(bytes, family, &mut found);
            if is_over {
                break;
            }
        }
        if !is_over {
            return Err(io::Error::other("more routes than are read"));
        }
    }
    Ok(found)
}

/// struct nlmsghdr and struct rtmsg.
fn request(family: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    bytes.extend(28_u32.to_ne_bytes());
    bytes.extend(GET.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend(u32::from(family).to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.push(family);
    bytes.resize(28, 0);
    bytes
}

/// Reads one datagram of a dump; true when it is the last.
fn read(mut bytes: &[u8], family: u8, found: &mut Vec<IpAddr>) -> bool {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(16..length) else {
            return true;
        };
        match kind {
            NLMSG_DONE | NLMSG_ERROR => return true,
            NEW if u32_at(bytes, 8) == Some(u32::from(family)) => found.extend(route(body)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The next hops of a route that is a default one; pure.
fn route(body: &[u8]) -> Vec<IpAddr> {
    let is_default = body.get(1).is_some_and(|length| *length <= 1);
    if !is_default || body.get(7) != Some(&UNICAST) {
        return Vec::new();
    }
    let mut hops = Vec::new();
    for (kind, value) in attributes(body.get(ROUTE_HEAD..).unwrap_or_default()) {
        match kind {
            GATEWAY | VIA => hops.extend(hop(kind, value)),
            MULTIPATH => {
                let mut rest = value;
                while let Some(length) = u16_at(rest, 0).map(usize::from)
                    && let Some(inner) = rest.get(HOP_HEAD..length)
                {
                    hops.extend(attributes(inner).filter_map(|(kind, value)| hop(kind, value)));
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    hops
}

fn hop(kind: u16, value: &[u8]) -> Option<IpAddr> {
    let address = match kind {
        GATEWAY => value,
        // struct rtvia: the family first.
        VIA => value.get(2..)?,
        _ => return None,
    };
    match address.len() {
        4 => Some(<[u8; 4]>::try_from(address).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(address).ok()?.into()),
        _ => None,
    }
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
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
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(length: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![AF_INET, length, 0, 0, 100, 3, 0, kind, 0, 0, 0, 0];
        body.extend(attributes.concat());
        body
    }

    fn next_hop(address: [u8; 4]) -> Vec<u8> {
        let inner = attribute(GATEWAY, &address);
        let length = u16::try_from(HOP_HEAD + inner.len()).unwrap();
        [&length.to_ne_bytes()[..], &[0; 6], &inner].concat()
    }

    #[test]
    fn every_next_hop_of_a_default_route_is_a_gateway() {
        let one = attribute(GATEWAY, &[192, 168, 1, 1]);
        let two = [next_hop([192, 168, 1, 2]), next_hop([192, 168, 1, 3])].concat();
        let via = [&[10, 0][..], &[0xfe; 16]].concat();
        for (length, kind, attributes, want) in [
            (0, UNICAST, vec![one.clone()], &["192.168.1.1"][..]),
            // Half of everything, as tunnels have it.
            (1, UNICAST, vec![one.clone()], &["192.168.1.1"]),
            (8, UNICAST, vec![one.clone()], &[]),
            // RTN_UNREACHABLE.
            (0, 7, vec![one], &[]),
            (
                0,
                UNICAST,
                vec![attribute(MULTIPATH, &two)],
                &["192.168.1.2", "192.168.1.3"],
            ),
            (
                0,
                UNICAST,
                vec![attribute(VIA, &via)],
                &["fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe"],
            ),
            (0, UNICAST, vec![attribute(MULTIPATH, &[0, 0, 0, 0])], &[]),
            (0, UNICAST, vec![], &[]),
        ] {
            let found = route(&message(length, kind, &attributes));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, want);
        }
        assert!(route(&[]).is_empty() && read(&[9, 0, 0, 0, 24, 0], AF_INET, &mut Vec::new()));
    }

    #[test]
    fn the_routes_of_this_machine_can_be_read() {
        gateways().unwrap();
    }
}
