//! nftables rules for a plan: the gate's ports from its networks, the upstreams' ports from loopback alone. Only text; applies nothing.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// A listener of the gate, with its named sets resolved to networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who may connect.
    pub allow: Vec<IpNet>,
    /// Who may not; wins.
    pub deny: Vec<IpNet>,
    /// Why it is closed where this machine is now, if it is.
    pub closed: Option<String>,
}

/// The rules. They drop what the plan refuses and open nothing that another table closes.
pub fn rules(listeners: &[Listener], upstream_ports: &[u16]) -> String {
    let mut text = String::from(HEAD);
    // As the kernel chooses a socket: one address before all of them, whose last word would shut out whom that one lets in.
    let mut listeners: Vec<&Listener> = listeners.iter().collect();
    listeners.sort_by_key(|listener| listener.address.ip().is_unspecified());
    let mut ports = upstream_ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let ports = set(ports.iter());
    if !ports.is_empty() {
        // Before address translation, so that a port that a container publishes under the same number is met as well.
        let _ = write!(
            text,
            "\n    chain before_translation {{\n        type filter hook prerouting priority raw; policy accept;\n"
        );
        for listener in &listeners {
            let _ = writeln!(text, "        {} return", place(listener.address));
        }
        let _ = writeln!(
            text,
            "        iifname != \"lo\" fib daddr type local tcp dport {ports} drop\n    }}"
        );
    }
    text.push_str(
        "\n    chain input {\n        type filter hook input priority filter - 5; policy accept;\n",
    );
    for listener in listeners {
        text.push('\n');
        for line in gate(listener) {
            let _ = writeln!(text, "        {line}");
        }
    }
    if !ports.is_empty() {
        let _ = writeln!(
            text,
            "\n        # The upstreams: from this machine alone.\n        iifname != \"lo\" tcp dport {ports} drop"
        );
    }
    text.push_str("    }\n}\n");
    text
}

const HEAD: &str = "\
#!/usr/sbin/nft -f
# What loopgate's plan lets in, as nftables rules. Nothing was applied: read them, then `loopgate firewall | sudo nft -f -`.
# They are of the networks as they are now (`this-lan` is resolved); print them again when the plan or the network changes.
# They only drop. What another table closes stays closed, and to take them out again: `sudo nft delete table inet loopgate`.
# Containers: a published port is translated before these rules and forwarded past `input`. A port of the same number as an
# upstream is caught before that; one published under another number is not: publish it as `-p 127.0.0.1:PORT:PORT`.
# If loopgate runs in a container of its own, these belong in that container's network namespace.

table inet loopgate
delete table inet loopgate

table inet loopgate {
";

/// The rules of one listener, in the order of judgement: deny, allow, and nobody else.
fn gate(listener: &Listener) -> Vec<String> {
    let place = place(listener.address);
    let family = if listener.address.is_ipv4() {
        "ip"
    } else {
        "ip6"
    };
    let of_family = |nets: &[IpNet]| {
        let mut nets: Vec<IpNet> = nets
            .iter()
            .map(IpNet::trunc)
            .filter(|net| net.addr().is_ipv4() == listener.address.is_ipv4())
            .collect();
        nets = IpNet::aggregate(&nets);
        nets.sort();
        set(nets.iter())
    };
    let (deny, allow) = (of_family(&listener.deny), of_family(&listener.allow));
    let mut lines = vec![format!("# {}", listener.address)];
    if let Some(why) = &listener.closed {
        lines.push(format!(
            "# Closed here and now: {why}. These are for when it opens."
        ));
    }
    if !deny.is_empty() {
        lines.push(format!("{place} {family} saddr {deny} drop"));
    }
    if !allow.is_empty() {
        lines.push(format!("{place} {family} saddr {allow} accept"));
    }
    lines.push(format!("{place} drop"));
    lines
}

/// What matches a listener's address and port.
fn place(address: SocketAddr) -> String {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("meta nfproto ipv4 tcp dport {port}"),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("meta nfproto ipv6 tcp dport {port}"),
        IpAddr::V4(ip) => format!("ip daddr {ip} tcp dport {port}"),
        IpAddr::V6(ip) => format!("ip6 daddr {ip} tcp dport {port}"),
    }
}

/// `{ a, b }`, or nothing.
fn set(elements: impl Iterator<Item = impl ToString>) -> String {
    let list: Vec<String> = elements.map(|element| element.to_string()).collect();
    if list.is_empty() {
        return String::new();
    }
    format!("{{ {} }}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, allow: &[&str], deny: &[&str]) -> Listener {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        Listener {
            address: address.parse().unwrap(),
            allow: nets(allow),
            deny: nets(deny),
            closed: None,
        }
    }

    #[test]
    fn rules_say_what_the_plan_says() {
        let text = rules(
            &[
                listener(
                    "0.0.0.0:8443",
                    &[
                        "192.168.1.0/24",
                        "127.0.0.0/8",
                        "fd00::/8",
                        "192.168.1.7/32",
                    ],
                    &["192.168.1.66/32"],
                ),
                listener("[::]:8443", &["192.168.1.0/24", "fd00::/8"], &[]),
                listener("192.168.1.5:9000", &[], &[]),
            ],
            &[3001, 3000, 3001],
        );
        let rules: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("tcp dport"))
            .collect();
        assert_eq!(
            rules,
            [
                "ip daddr 192.168.1.5 tcp dport 9000 return",
                "meta nfproto ipv4 tcp dport 8443 return",
                "meta nfproto ipv6 tcp dport 8443 return",
                "iifname != \"lo\" fib daddr type local tcp dport { 3000, 3001 } drop",
                "ip daddr 192.168.1.5 tcp dport 9000 drop",
                "meta nfproto ipv4 tcp dport 8443 ip saddr { 192.168.1.66/32 } drop",
                "meta nfproto ipv4 tcp dport 8443 ip saddr { 127.0.0.0/8, 192.168.1.0/24 } accept",
                "meta nfproto ipv4 tcp dport 8443 drop",
                "meta nfproto ipv6 tcp dport 8443 ip6 saddr { fd00::/8 } accept",
                "meta nfproto ipv6 tcp dport 8443 drop",
                "iifname != \"lo\" tcp dport { 3000, 3001 } drop",
            ]
        );
    }

    #[test]
    fn one_address_stands_before_all_of_them() {
        let text = rules(
            &[
                listener("0.0.0.0:8443", &["10.0.0.0/8"], &[]),
                listener("[::]:8443", &["fd00::/64"], &[]),
                listener("192.168.77.1:8443", &["192.168.77.0/24"], &[]),
                listener("[fd77::1]:8443", &["fd77::/64"], &[]),
            ],
            &[],
        );
        let at = |rule: &str| text.find(rule).unwrap_or_else(|| panic!("{rule}\n{text}"));
        for (accept, drop) in [
            (
                "ip daddr 192.168.77.1 tcp dport 8443 ip saddr { 192.168.77.0/24 } accept",
                "meta nfproto ipv4 tcp dport 8443 drop",
            ),
            (
                "ip6 daddr fd77::1 tcp dport 8443 ip6 saddr { fd77::/64 } accept",
                "meta nfproto ipv6 tcp dport 8443 drop",
            ),
        ] {
            assert!(at(accept) < at(drop), "{text}");
        }
    }

    #[test]
    fn a_listener_that_is_closed_here_is_marked() {
        let open = listener("0.0.0.0:8443", &["10.0.0.0/8"], &[]);
        let closed = Listener {
            closed: Some("elsewhere".into()),
            ..open.clone()
        };
        let mark = "# Closed here and now: elsewhere.";
        assert!(rules(&[closed], &[]).contains(mark) && !rules(&[open], &[]).contains("Closed"));
    }

    #[test]
    fn without_upstreams_nothing_is_dropped_before_translation() {
        let text = rules(&[listener("0.0.0.0:8443", &["0.0.0.0/0"], &[])], &[]);
        assert!(!text.contains("prerouting") && !text.contains("iifname"));
    }
}
