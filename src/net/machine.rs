//! What this machine is called and which addresses it has: the facts behind `this-lan` and behind routes without hosts.

use std::net::IpAddr;

use ipnet::IpNet;

use super::interfaces::Interfaces;

/// A view of the machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `localhost`, the host name, and the host name under `.local`; lower case.
    pub names: Vec<String>,
    /// The addresses of all interfaces.
    pub addresses: Vec<IpAddr>,
    /// The subnets of the interfaces that carry a default route.
    pub this_lan: Vec<IpNet>,
    /// The addresses of our default gateways.
    pub gateways: Vec<IpAddr>,
    /// The interfaces behind all that.
    pub interfaces: Interfaces,
}

impl Machine {
    /// Whether this machine has an address in one of these networks. 127.0.0.1 and ::1 are no place, nor is an address that was left
    /// on a link that is down or has no carrier.
    pub fn is_in(&self, nets: &[IpNet]) -> bool {
        let mut placed = self
            .addresses
            .iter()
            .filter(|ip| !ip.is_loopback() && !self.interfaces.is_down(**ip));
        placed.any(|ip| nets.iter().any(|net| net.contains(ip)))
    }
}

/// The names by which this machine goes.
pub fn names() -> Vec<String> {
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_ascii_lowercase();
    let short = node.split('.').next().unwrap_or_default().to_owned();
    let mut names = vec!["localhost".to_owned()];
    let usable = |name: &str| {
        matches!(
            crate::base::host::Host::parse(name),
            Ok(crate::base::host::Host::Name(_))
        )
    };
    if usable(&short) && short != "localhost" {
        names.push(short.clone());
        names.push(format!("{short}.local"));
    }
    if usable(&node) && !names.contains(&node) {
        names.push(node);
    }
    names
}

/// Reads the machine as it is now.
pub fn read() -> std::io::Result<Machine> {
    let interfaces = super::interfaces::read()?;
    let mut addresses = interfaces.addresses();
    addresses.sort_unstable();
    let mut this_lan = interfaces.this_lan();
    // fe80::/64 is the same on every interface: an address in it does not say on which one its owner is.
    this_lan.retain(|net| !matches!(net, IpNet::V6(six) if six.addr().is_unicast_link_local()));
    this_lan.sort_unstable();
    Ok(Machine {
        names: names(),
        addresses,
        this_lan,
        gateways: interfaces.gateways.clone(),
        interfaces,
    })
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::{Interface, Kind};
    use super::*;

    #[test]
    fn an_address_on_a_link_that_is_down_is_no_place() {
        let link = |name: &str, is_up| Interface {
            name: name.to_owned(),
            index: 2,
            addresses: vec!["10.9.9.5/24".parse().unwrap()],
            on_link: Vec::new(),
            kind: Kind::Ordinary,
            has_default_route: false,
            is_up,
        };
        let home = ["10.9.9.0/24".parse().unwrap()];
        for (list, want) in [
            (vec![link("eth0", true)], true),
            (vec![link("eth0", false)], false),
            (vec![link("eth0", false), link("eth1", true)], true),
            // Nothing is known about its link.
            (vec![], true),
        ] {
            let machine = Machine {
                addresses: vec!["10.9.9.5".parse().unwrap()],
                interfaces: Interfaces {
                    list,
                    gateways: Vec::new(),
                },
                ..Machine::default()
            };
            assert_eq!(machine.is_in(&home), want);
        }
    }
}
