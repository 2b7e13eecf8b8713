//! The network that a client is counted by: guesses, queue places and lockouts are shared by all of its addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::cidr::fold;

/// An IPv4 address, or the /64 of an IPv6 address, in eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientNet(u64);

/// Stands above an IPv4 address; ffff:ffff::/32 is multicast and never a client.
const FOUR: u64 = 0xffff_ffff_0000_0000;
/// RFC 6052: an IPv4 client that comes through NAT64 is that client, not all of them.
const NAT64: u128 = 0x0064_ff9b << 96;

impl ClientNet {
    /// The network of an address. Mapped and NAT64 addresses count as the IPv4 address that they stand for.
    pub fn of(address: IpAddr) -> Self {
        match fold(address) {
            IpAddr::V4(four) => Self(FOUR | u64::from(u32::from(four))),
            IpAddr::V6(six) => {
                let bits = u128::from(six);
                if bits >> 32 == NAT64 >> 32 {
                    return Self(FOUR | (bits & 0xffff_ffff) as u64);
                }
                Self((bits >> 64) as u64)
            }
        }
    }

    /// The eight bytes as a number, for tables and snapshots.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The network that [`ClientNet::bits`] came from.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for ClientNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & FOUR == FOUR {
            return Ipv4Addr::from(self.0 as u32).fmt(f);
        }
        write!(f, "{}/64", Ipv6Addr::from(u128::from(self.0) << 64))
    }
}

impl fmt::Debug for ClientNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_client_and_an_ipv4_address_as_itself() {
        for (a, b, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "64:ff9b::10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0", "::", false),
        ] {
            let net = |text: &str| ClientNet::of(text.parse().unwrap());
            assert_eq!(net(a) == net(b), same, "{a} {b}");
        }
    }

    #[test]
    fn is_shown_as_people_write_it() {
        for (address, want) in [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ] {
            let net = ClientNet::of(address.parse().unwrap());
            assert_eq!(net.to_string(), want);
            assert_eq!(ClientNet::from_bits(net.bits()), net);
        }
    }
}
