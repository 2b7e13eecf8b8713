//! Networks: how one is written, and whether an address is in a set of them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// A network as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A CIDR or a bare address, host bits clear, IPv4-mapped IPv6 folded.
    Net(IpNet),
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// RFC 1918, RFC 6598, link-local and unique local addresses. Not loopback.
    Private,
    /// The subnets of the interfaces that carry a default route.
    ThisLan,
}

/// What is wrong with a network, and what to write instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the message says it")]
pub enum NetworkError {
    #[error("`{written}` is neither a network nor one of `loopback`, `private`, `this-lan`")]
    Unknown { written: String },
    #[error("`{written}` has bits set beyond its prefix; the network is `{network}`")]
    HostBits { written: String, network: IpNet },
    #[error("`{written}`: the prefix length of {family} is at most {most}")]
    Prefix {
        written: String,
        family: &'static str,
        most: u8,
    },
    #[error("`{written}` has a zone; write the network without `%…`")]
    Zone { written: String },
}

impl NetworkError {
    /// What to write instead, where that is known.
    pub fn repair(&self) -> Option<String> {
        match self {
            Self::HostBits { network, .. } => Some(network.to_string()),
            Self::Unknown { .. } | Self::Prefix { .. } | Self::Zone { .. } => None,
        }
    }
}

/// Folds an IPv4-mapped IPv6 address to the IPv4 address it stands for (RFC 4291, 2.5.5.2).
pub fn fold(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        match text {
            "loopback" => return Ok(Self::Loopback),
            "private" => return Ok(Self::Private),
            "this-lan" => return Ok(Self::ThisLan),
            _ => {}
        }
        let written = || text.to_owned();
        if text.contains('%') {
            return Err(NetworkError::Zone { written: written() });
        }
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address
            .parse()
            .map_err(|_| NetworkError::Unknown { written: written() })?;
        let (family, most) = if address.is_ipv4() {
            ("IPv4", 32)
        } else {
            ("IPv6", 128)
        };
        let prefix = match prefix {
            None => most,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= most && digits.bytes().all(|c| c.is_ascii_digit()))
                .ok_or_else(|| NetworkError::Prefix {
                    written: written(),
                    family,
                    most,
                })?,
        };
        let net = IpNet::new(address, prefix).map_err(|_| NetworkError::Prefix {
            written: written(),
            family,
            most,
        })?;
        if net.trunc() != net {
            return Err(NetworkError::HostBits {
                written: written(),
                network: net.trunc(),
            });
        }
        Ok(Self::Net(unmap(net)))
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn unmap(net: IpNet) -> IpNet {
    let IpNet::V6(six) = net else { return net };
    match six.addr().to_ipv4_mapped() {
        Some(four) if six.prefix_len() >= 96 => {
            Ipv4Net::new(four, six.prefix_len() - 96).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

/// The loopback networks.
pub fn loopback() -> Vec<IpNet> {
    nets(&["127.0.0.0/8", "::1/128"])
}

/// The private networks: RFC 1918, RFC 6598 (shared), RFC 3927 and RFC 4291 link-local, RFC 4193 unique local.
pub fn private() -> Vec<IpNet> {
    nets(&[
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fe80::/10",
        "fc00::/7",
    ])
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter()
        .map(|text| text.parse().expect("a constant network"))
        .collect()
}

/// A set of networks, as disjoint ordered ranges: one look-up is one binary search, whatever its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetSet {
    four: Vec<(u32, u32)>,
    six: Vec<(u128, u128)>,
}

impl NetSet {
    /// The set that holds all of `nets`.
    pub fn new<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut set = Self::default();
        for net in nets {
            match unmap(*net) {
                IpNet::V4(n) => set.four.push((n.network().into(), n.broadcast().into())),
                IpNet::V6(n) => set.six.push((n.network().into(), last(n).into())),
            }
        }
        merge(&mut set.four, |end| end.checked_add(1));
        merge(&mut set.six, |end| end.checked_add(1));
        set
    }

    /// Whether the address is in one of the networks. IPv4-mapped addresses are folded first.
    pub fn contains(&self, address: IpAddr) -> bool {
        match fold(address) {
            IpAddr::V4(a) => within(&self.four, a.into()),
            IpAddr::V6(a) => within(&self.six, a.into()),
        }
    }

    /// Whether no address at all is in the set.
    pub fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }
}

fn last(net: Ipv6Net) -> Ipv6Addr {
    net.broadcast()
}

fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for &(from, to) in ranges.iter() {
        match merged.last_mut() {
            Some(last) if from <= last.1 || Some(from) == next(last.1) => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    *ranges = merged;
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let at = ranges.partition_point(|(from, _)| *from <= value);
    at > 0 && ranges[at - 1].1 >= value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_networks_and_says_how_to_repair_them() {
        for (text, want) in [
            (
                "10.0.0.0/8",
                Ok(Network::Net("10.0.0.0/8".parse().unwrap())),
            ),
            ("10.1.2.3", Ok(Network::Net("10.1.2.3/32".parse().unwrap()))),
            (
                "::ffff:10.0.0.0/104",
                Ok(Network::Net("10.0.0.0/8".parse().unwrap())),
            ),
            (
                "::ffff:10.1.2.3",
                Ok(Network::Net("10.1.2.3/32".parse().unwrap())),
            ),
            ("this-lan", Ok(Network::ThisLan)),
            ("10.1.2.3/8", Err(Some("10.0.0.0/8"))),
            ("10.0.0.0/33", Err(None)),
            ("10.0.0.0/+8", Err(None)),
            ("10.0.0/8", Err(None)),
            ("010.0.0.0/8", Err(None)),
            ("lan", Err(None)),
            ("fe80::1%eth0", Err(None)),
            ("", Err(None)),
        ] {
            let got = text.parse::<Network>();
            match want {
                Ok(network) => assert_eq!(got, Ok(network), "{text}"),
                Err(repair) => assert_eq!(got.unwrap_err().repair().as_deref(), repair, "{text}"),
            }
        }
    }

    #[test]
    fn a_set_holds_what_its_networks_hold_and_nothing_else() {
        let nets: Vec<IpNet> = nets(&[
            "10.0.0.0/9",
            "10.128.0.0/9",
            "192.168.1.0/24",
            "192.168.1.128/25",
            "2001:db8::/32",
            "255.255.255.255/32",
        ]);
        let set = NetSet::new(&nets);
        assert_eq!(set.four.len(), 3, "neighbours are merged");
        for (address, want) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("::ffff:10.1.2.3", true),
            ("192.168.1.200", true),
            ("192.168.2.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("255.255.255.255", true),
            ("::", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), want, "{address}");
        }
        assert!(!NetSet::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_empty_prefix_holds_everything_of_its_family_only() {
        let set = NetSet::new(&nets(&["0.0.0.0/0"]));
        assert!(set.contains("8.8.8.8".parse().unwrap()) && !set.contains("::1".parse().unwrap()));
    }
}
