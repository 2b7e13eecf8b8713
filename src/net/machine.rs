//! What this machine is called and which addresses it has: the facts behind `this-lan` and behind routes without hosts.

use std::net::IpAddr;

use ipnet::IpNet;

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
    let found = if_addrs::get_if_addrs()?;
    let carries = default_interfaces();
    let mut machine = Machine {
        names: names(),
        ..Machine::default()
    };
    for interface in &found {
        machine.addresses.push(interface.ip());
        let prefix = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => u32::from(v4.netmask).count_ones() as u8,
            if_addrs::IfAddr::V6(v6) => u128::from(v6.netmask).count_ones() as u8,
        };
        let lan = carries.contains(&interface.name)
            && is_ordinary(&interface.name)
            && !interface.is_loopback();
        if let Some(net) = IpNet::new(interface.ip(), prefix).ok().filter(|_| lan) {
            machine.this_lan.push(net.trunc());
        }
    }
    machine.addresses.sort_unstable();
    machine.this_lan.sort_unstable();
    machine.gateways = gateways();
    Ok(machine)
}

fn default_interfaces() -> Vec<String> {
    let four = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let four = four.lines().skip(1).filter_map(|l| {
        let mut words = l.split_whitespace();
        let (name, to) = (words.next()?, words.next()?);
        (to == "00000000").then(|| name.to_owned())
    });
    let six = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let six = six.lines().filter_map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let (to, prefix, name) = (words.first()?, words.get(1)?, words.get(9)?);
        (to.bytes().all(|c| c == b'0') && *prefix == "00" && *name != "lo")
            .then(|| (*name).to_owned())
    });
    four.chain(six).collect()
}

fn gateways() -> Vec<IpAddr> {
    let four = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let gateway = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let raw = u32::from_str_radix(words.get(2)?, 16)
            .ok()
            .filter(|_| words[1] == "00000000")?;
        (raw != 0).then(|| IpAddr::from(raw.to_ne_bytes()))
    };
    four.lines().skip(1).filter_map(gateway).collect()
}

/// Ethernet or wireless: no bridge, tunnel, or container end.
fn is_ordinary(name: &str) -> bool {
    let has = |file: &str| {
        std::path::Path::new("/sys/class/net")
            .join(name)
            .join(file)
            .exists()
    };
    let kind = std::fs::read_to_string(format!("/sys/class/net/{name}/type")).unwrap_or_default();
    kind.trim() == "1" && !has("bridge") && !has("tun_flags")
}
