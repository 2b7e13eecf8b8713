//! The interfaces of this machine: addresses, default routes, and which of them face a LAN.
//! Reading is blocking and cheap (under a millisecond with ten interfaces); everything that judges is pure.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv6Net};

use crate::base::cidr::fold;

/// What an interface is, as far as it matters for `this-lan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ethernet, wifi, VLAN, bond, macvlan; also the inner end of a container's or virtual machine's own uplink.
    Ordinary,
    /// `lo`.
    Loopback,
    /// A software bridge: docker0, virbr0, cni0, br-….
    Bridge,
    /// WireGuard, tun, tap, ppp, GRE, VXLAN and their like.
    Tunnel,
    /// The host's end of a container's or virtual machine's cable.
    Container,
    /// A modem, or nothing known.
    Other,
}

/// One interface with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, without an alias suffix.
    pub name: String,
    /// The kernel's number for it; the zone of a link-local address.
    pub index: u32,
    /// Its addresses with their prefix lengths, host bits set.
    pub addresses: Vec<IpNet>,
    /// IPv6 networks that are routed onto this link without a gateway, as router advertisements announce them.
    pub on_link: Vec<IpNet>,
    /// What it is.
    pub kind: Kind,
    /// Whether a default route of either family leaves through it.
    pub has_default_route: bool,
    /// Whether it is up and has a carrier.
    pub is_up: bool,
}

/// All interfaces that have an address, and the gateways of the default routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// In the order of their numbers.
    pub list: Vec<Interface>,
    /// The next hops of the default routes of both families.
    pub gateways: Vec<IpAddr>,
}

impl Interfaces {
    /// The subnets of the ordinary interfaces that carry a default route. A lone address (/32, /128) is no LAN. The link-local
    /// fe80::/64 counts only while no bridge, tunnel or container has one too: the address alone does not tell them apart.
    pub fn this_lan(&self) -> Vec<IpNet> {
        let faces_lan = |i: &&Interface| i.kind == Kind::Ordinary && i.has_default_route;
        let ambiguous = self.list.iter().any(|i| {
            !faces_lan(&i)
                && i.kind != Kind::Loopback
                && i.addresses.iter().chain(&i.on_link).any(is_link_local)
        });
        let mut lan: Vec<IpNet> = Vec::new();
        for net in self
            .list
            .iter()
            .filter(faces_lan)
            .flat_map(|i| i.addresses.iter().chain(&i.on_link))
            .map(IpNet::trunc)
            .filter(|net| is_subnet(net) && !(is_link_local(net) && ambiguous))
        {
            if !lan.contains(&net) {
                lan.push(net);
            }
        }
        lan
    }

    /// Every address of this machine, loopback included, without repetition.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        for net in self.list.iter().flat_map(|i| &i.addresses) {
            if !all.contains(&net.addr()) {
                all.push(net.addr());
            }
        }
        all
    }

    /// Our own ends of the bridges that containers and virtual machines hang on: what a port that is published by a program
    /// (docker-proxy), or by a translation that leads back to the same bridge, shows as its peer instead of the visitor. A bridge
    /// that carries a default route is this machine's own way out, and its address is nobody else's.
    pub fn bridge_ends(&self) -> impl Iterator<Item = IpAddr> {
        self.list
            .iter()
            .filter(|i| i.kind == Kind::Bridge && !i.has_default_route)
            .flat_map(|i| i.addresses.iter().map(IpNet::addr))
    }

    /// Whether an address is on links alone that are down or have no carrier.
    pub fn is_down(&self, ip: IpAddr) -> bool {
        let holds = |i: &&Interface| i.addresses.iter().any(|net| net.addr() == ip);
        let mut holders = self.list.iter().filter(holds).peekable();
        holders.peek().is_some() && holders.all(|i| !i.is_up)
    }

    /// The interface that holds this address.
    pub fn holder(&self, ip: IpAddr) -> Option<&Interface> {
        let ip = fold(ip);
        self.list
            .iter()
            .find(|i| i.addresses.iter().any(|net| net.addr() == ip))
    }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(six) if six.addr().is_unicast_link_local())
}

/// Whether others can live in it, and not the whole world: longer than what a mistyped mask would give.
fn is_subnet(net: &IpNet) -> bool {
    match net {
        IpNet::V4(four) => (8..32).contains(&four.prefix_len()) && !four.addr().is_loopback(),
        IpNet::V6(six) => (48..128).contains(&six.prefix_len()) && !six.addr().is_loopback(),
    }
}

/// Reads the interfaces of the network namespace that this process lives in. Blocking; measured in tens of microseconds a link.
/// Where `/proc` has no routes (not Linux, a tight sandbox), no interface carries a default route, so `this-lan` is empty.
pub fn read() -> io::Result<Interfaces> {
    let mut list: Vec<Interface> = Vec::new();
    for found in if_addrs::get_if_addrs()? {
        // An IPv4 alias is reported as `eth0:1`.
        let name = found.name.split(':').next().unwrap_or_default();
        let (address, prefix) = match &found.addr {
            if_addrs::IfAddr::V4(four) => (IpAddr::V4(four.ip), four.prefixlen),
            if_addrs::IfAddr::V6(six) => (IpAddr::V6(six.ip), six.prefixlen),
        };
        let Ok(net) = IpNet::new(address, prefix) else {
            continue;
        };
        match list.iter_mut().find(|i| i.name == name) {
            Some(known) => known.addresses.push(net),
            None => list.push(Interface {
                name: name.to_owned(),
                index: found.index.unwrap_or(0),
                addresses: vec![net],
                on_link: Vec::new(),
                kind: kind(name, &Facts::read(name, found.index.unwrap_or(0))),
                has_default_route: false,
                is_up: found.is_oper_up(),
            }),
        }
    }
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let four = parse_route(&text("/proc/net/route"));
    let six = parse_ipv6_route(&text("/proc/net/ipv6_route"));
    let mut all = assemble(list, &four, &six);
    #[cfg(target_os = "linux")]
    all.gateways
        .extend(super::routes::gateways().unwrap_or_default());
    all.gateways.sort();
    all.gateways.dedup();
    Ok(all)
}

/// Puts links and routes together; pure.
pub fn assemble(mut list: Vec<Interface>, four: &[Default4], six: &Routes6) -> Interfaces {
    for interface in &mut list {
        interface.has_default_route = four.iter().any(|r| r.interface == interface.name)
            || six.defaults.iter().any(|r| r.0 == interface.name);
        interface.on_link = six
            .on_link
            .iter()
            .filter(|(name, _)| *name == interface.name)
            .map(|(_, net)| IpNet::V6(*net))
            .collect();
        interface.addresses.sort();
        interface.on_link.sort();
    }
    list.sort_by(|a, b| (a.index, &a.name).cmp(&(b.index, &b.name)));
    let mut gateways: Vec<IpAddr> = four
        .iter()
        .filter_map(|r| r.gateway.map(IpAddr::V4))
        .chain(
            six.defaults
                .iter()
                .filter_map(|(_, gateway)| gateway.map(IpAddr::V6)),
        )
        .collect();
    gateways.sort();
    gateways.dedup();
    Interfaces { list, gateways }
}

/// An IPv4 default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Default4 {
    /// The interface it leaves through.
    pub interface: String,
    /// The next hop, if it is not the link itself.
    pub gateway: Option<Ipv4Addr>,
}

/// What is of interest in the IPv6 routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes6 {
    /// Default routes: interface and next hop.
    pub defaults: Vec<(String, Option<Ipv6Addr>)>,
    /// Networks that are on the link itself.
    pub on_link: Vec<(String, Ipv6Net)>,
}

const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;
const RTF_LOCAL: u32 = 0x8000_0000;

/// Reads `/proc/net/route` (the main table): its default routes.
pub fn parse_route(text: &str) -> Vec<Default4> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let f: Vec<&str> = line.split_ascii_whitespace().collect();
            let hex = |at: usize| u32::from_str_radix(f.get(at)?, 16).ok();
            let flags = hex(3)?;
            let is_default = hex(1)? == 0 && hex(7)? == 0;
            // The kernel prints the address as one native-endian number.
            let gateway = Ipv4Addr::from(hex(2)?.to_ne_bytes());
            (is_default && flags & RTF_UP != 0 && flags & RTF_REJECT == 0).then(|| Default4 {
                interface: f[0].to_owned(),
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            })
        })
        .collect()
}

/// Reads `/proc/net/ipv6_route`: default routes and on-link networks.
pub fn parse_ipv6_route(text: &str) -> Routes6 {
    let mut routes = Routes6::default();
    for line in text.lines() {
        let f: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |at: usize| u128::from_str_radix(f.get(at)?, 16).ok();
        let small = |at: usize| u32::from_str_radix(f.get(at)?, 16).ok();
        let (Some(to), Some(length), Some(hop), Some(flags), Some(name)) =
            (address(0), small(1), address(4), small(8), f.get(9))
        else {
            continue;
        };
        if flags & RTF_UP == 0 || flags & (RTF_REJECT | RTF_LOCAL) != 0 || *name == "lo" {
            continue;
        }
        let hop = (hop != 0).then(|| Ipv6Addr::from(hop));
        let to = Ipv6Addr::from(to);
        if to.is_unspecified() && length == 0 {
            routes.defaults.push(((*name).to_owned(), hop));
            continue;
        }
        let net = u8::try_from(length)
            .ok()
            .and_then(|length| Ipv6Net::new(to, length).ok());
        if let (Some(net), None, false) = (net, hop, to.is_multicast()) {
            routes.on_link.push(((*name).to_owned(), net));
        }
    }
    routes
}

/// What the kernel says about a link; nothing, where `/sys` shows another network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// ARPHRD number.
    pub hardware: Option<u32>,
    /// `DEVTYPE` of its uevent.
    pub device_type: Option<String>,
    /// It is a bridge.
    pub is_bridge: bool,
    /// It is a tun or tap device.
    pub is_tun: bool,
    /// It is a port of a bridge.
    pub has_master: bool,
}

impl Facts {
    fn read(name: &str, index: u32) -> Self {
        let dir = Path::new("/sys/class/net").join(name);
        let number =
            |file| -> Option<u32> { fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok() };
        if number("ifindex") != Some(index) {
            return Self::default();
        }
        let uevent = fs::read_to_string(dir.join("uevent")).unwrap_or_default();
        Self {
            hardware: number("type"),
            device_type: uevent
                .lines()
                .find_map(|line| line.strip_prefix("DEVTYPE="))
                .map(str::to_owned),
            is_bridge: dir.join("bridge").exists(),
            is_tun: dir.join("tun_flags").exists(),
            has_master: dir.join("master").exists(),
        }
    }
}

/// Names that container and tunnel programs give; they count beside what the kernel says, never against it.
const NAMES: [(Kind, &[&str]); 3] = [
    (
        Kind::Bridge,
        &[
            "docker",
            "br-",
            "virbr",
            "lxcbr",
            "lxdbr",
            "incusbr",
            "cni",
            "podman",
            "cbr",
            "kube-bridge",
        ],
    ),
    (
        Kind::Tunnel,
        &[
            "wg",
            "tun",
            "tap",
            "tailscale",
            "zt",
            "utun",
            "ppp",
            "flannel",
            "vxlan",
            "sit",
            "gre",
            "ip6tnl",
            "ipsec",
            "nordlynx",
            "proton",
        ],
    ),
    (
        Kind::Container,
        &["veth", "cali", "lxc", "vnet", "vb-", "ve-", "fwln", "fwpr"],
    ),
];

/// What kind of interface it is; pure.
pub fn kind(name: &str, facts: &Facts) -> Kind {
    match facts.hardware {
        Some(772) => return Kind::Loopback,
        // ARPHRD_NONE (tun, wireguard), PPP, and the tunnels from IPIP to IP6GRE.
        Some(65534 | 512 | 768 | 769 | 776 | 778 | 823) => return Kind::Tunnel,
        _ => {}
    }
    if name == "lo" {
        return Kind::Loopback;
    }
    if facts.is_bridge {
        return Kind::Bridge;
    }
    if facts.is_tun {
        return Kind::Tunnel;
    }
    match facts.device_type.as_deref() {
        Some("bridge") => return Kind::Bridge,
        Some("wireguard" | "vxlan" | "geneve" | "gre" | "ppp") => return Kind::Tunnel,
        Some("wwan") => return Kind::Other,
        Some("wlan" | "vlan" | "bond" | "macvlan") => return Kind::Ordinary,
        _ => {}
    }
    let by_name = NAMES
        .iter()
        .find(|(_, names)| names.iter().any(|start| name.starts_with(start)));
    match (by_name, facts.hardware) {
        (Some((kind, _)), _) => *kind,
        // A port of a bridge or bond has no addresses of its own in any sane setup.
        (None, _) if facts.has_master => Kind::Container,
        (None, Some(1 | 801..=803)) => Kind::Ordinary,
        // Another namespace's /sys: Ethernet names are all there is to go by.
        (None, None) if name.starts_with('e') || name.starts_with("wl") => Kind::Ordinary,
        (None, _) => Kind::Other,
    }
}

#[cfg(test)]
mod tests;
