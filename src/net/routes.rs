//! The gateways of all default routes, of every table and of every next hop, by rtnetlink: `/proc/net/route` shows the main table and
//! one next hop of each IPv4 route. `0.0.0.0/1` with `128.0.0.0/1` is how tunnels write a default route.

use std::io;
use std::net::IpAddr;

use super::netlink::{Netlink, attributes, u16_at};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// RTM_GETROUTE and what answers it, RTM_NEWROUTE.
const GET: u16 = 26;
const NEW: u16 = 24;
/// RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA.
const GATEWAY: u16 = 5;
const MULTIPATH: u16 = 9;
const VIA: u16 = 18;
/// RTN_UNICAST.
const UNICAST: u8 = 1;
/// struct rtmsg and struct rtnexthop.
const ROUTE_HEAD: usize = 12;
const HOP_HEAD: usize = 8;
/// Gateways beyond this are a router's.
const MOST: usize = 4096;

/// The next hops of every default route. Blocking.
pub(super) fn gateways() -> io::Result<Vec<IpAddr>> {
    let netlink = Netlink::open(None)?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = [0; ROUTE_HEAD];
        request[0] = family;
        netlink.dump((GET, &request), NEW, MOST, &mut found, route)?;
    }
    Ok(found)
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
        assert!(route(&[]).is_empty());
    }

    #[test]
    fn the_routes_of_this_machine_can_be_read() {
        gateways().unwrap();
    }
}
