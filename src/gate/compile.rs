//! The networks of a listener and its trusted proxies, from text.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Gate;
use crate::base::cidr::{self, NetSet, Network};
use crate::config::Problem;
use crate::config::raw::{self, ProxyProtocol};
use crate::net::Machine;

/// The gate of the listener under `key`. Nothing is open because something was left out.
pub fn compile(
    listener: &raw::Listener,
    key: &str,
    machine: &Machine,
    problems: &mut Vec<Problem>,
) -> Gate {
    let Some(networks) = &listener.networks else {
        let problem = Problem::error(
            "no-networks",
            key,
            "this listener says nothing about networks, so nobody could come in",
        );
        problems.push(problem.hint("write `networks = { allow = [\"this-lan\", \"loopback\"] }`"));
        return Gate::default();
    };
    let allowed = self::networks(
        &networks.allow,
        &format!("{key}.networks.allow"),
        machine,
        problems,
    );
    let denied = self::networks(
        &networks.deny,
        &format!("{key}.networks.deny"),
        machine,
        problems,
    );
    if networks.allow.is_empty() {
        let problem = Problem::error(
            "no-networks",
            format!("{key}.networks.allow"),
            "no network is allowed, so nobody could come in",
        );
        problems.push(problem.hint("write for example `allow = [\"this-lan\", \"loopback\"]`"));
    }
    for all in ["0.0.0.0/0", "::/0"] {
        if let Some(i) = networks.allow.iter().position(|n| n == all) {
            let problem = Problem::warning(
                "open-network",
                format!("{key}.networks.allow[{i}]"),
                format!(
                    "`{all}` lets the whole internet come here: to the login, and in where a route asks for none"
                ),
            );
            problems.push(problem.hint("name the networks that you mean, for example `this-lan`"));
        }
    }
    let faces: Vec<IpNet> = match listener.allow_gateway {
        true => Vec::new(),
        false => faces_of_nat(machine).map(IpNet::from).collect(),
    };
    let gateways = NetSet::new(&faces);
    let trusted = trusted(listener, key, machine, &gateways, problems);
    Gate {
        allow: NetSet::new(&allowed),
        deny: NetSet::new(&denied),
        allowed,
        denied,
        gateways,
        proxies: NetSet::new(&trusted),
        trusted,
        wants_header: listener.proxy_protocol == ProxyProtocol::Required,
    }
}

/// The addresses that a visitor behind NAT has for us: those of our default gateways, and our own ends of container bridges. Another
/// address of our own that is named as a gateway is no stranger's.
fn faces_of_nat(machine: &Machine) -> impl Iterator<Item = IpAddr> {
    let own: &[IpAddr] = &machine.addresses;
    let gateways = machine.gateways.iter().filter(|g| !own.contains(g));
    gateways.copied().chain(machine.interfaces.bridge_ends())
}

/// Shorter prefixes than these cannot be somebody's proxies. The largest networks of the large proxy services are `/13`
/// and `/29`; a whole private block is one site.
const WIDEST: (u8, u8) = (8, 20);

fn trusted(
    listener: &raw::Listener,
    key: &str,
    machine: &Machine,
    gateways: &NetSet,
    problems: &mut Vec<Problem>,
) -> Vec<IpNet> {
    let key_of = |i| format!("{key}.trusted_proxies[{i}]");
    let list = &listener.trusted_proxies;
    let nets = networks(list, &format!("{key}.trusted_proxies"), machine, problems);
    for (i, text) in list.iter().enumerate() {
        if let Ok(Network::Net(net)) = text.parse()
            && is_too_wide(&net)
        {
            let message = format!(
                "`{text}` cannot be trusted proxies: everybody in it could claim to be any client, by one header"
            );
            let problem = Problem::error("wide-proxies", key_of(i), message);
            problems.push(
                problem
                    .hint("name the addresses of the proxies themselves, for example `10.0.0.5`"),
            );
        }
        if matches!(text.as_str(), "private" | "this-lan") {
            let message =
                format!("every device in `{text}` can claim to be any client, by one header");
            let problem = Problem::warning("wide-proxies", key_of(i), message);
            problems.push(problem.hint("name the addresses of the proxies themselves"));
        }
    }
    let at = format!("{key}.trusted_proxies");
    let all = NetSet::new(&nets);
    for gateway in faces_of_nat(machine).filter(|face| all.contains(*face)) {
        let what = match machine.gateways.contains(&gateway) {
            true => "default gateway",
            false => "end of a container bridge",
        };
        let (message, hint) = match gateways.contains(gateway) {
            true => (
                format!(
                    "our {what} {gateway} is in it, and is not believed: behind address translation it stands for everybody"
                ),
                "if the gateway is the proxy and translates nobody's address, write `allow_gateway = true`",
            ),
            false => (
                format!(
                    "our {what} {gateway} is believed: whoever it translates to its own address can claim to be any client"
                ),
                "let the proxy connect from an address of its own, and remove `allow_gateway`",
            ),
        };
        problems.push(Problem::warning("gateway-proxy", at.clone(), message).hint(hint));
    }
    if listener.proxy_protocol == ProxyProtocol::Required && list.is_empty() {
        let message = "no proxy is trusted, so nobody's PROXY header would be read";
        let problem = Problem::error("no-proxies", format!("{key}.proxy_protocol"), message);
        problems.push(
            problem.hint("write `trusted_proxies = [\"10.0.0.5\"]`, or remove `proxy_protocol`"),
        );
    }
    nets
}

fn is_too_wide(net: &IpNet) -> bool {
    let private = cidr::private().iter().any(|block| block.contains(net));
    let (four, six) = WIDEST;
    let shortest = if net.addr().is_ipv4() { four } else { six };
    net.prefix_len() < shortest && !private
}

/// A list of networks under `key`.
pub fn network_set(
    list: &[String],
    key: &str,
    machine: &Machine,
    problems: &mut Vec<Problem>,
) -> NetSet {
    NetSet::new(&networks(list, key, machine, problems))
}

fn networks(
    list: &[String],
    key: &str,
    machine: &Machine,
    problems: &mut Vec<Problem>,
) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match text.parse::<Network>() {
            Ok(Network::Net(net)) => nets.push(net),
            Ok(Network::Loopback) => nets.extend(cidr::loopback()),
            Ok(Network::Private) => nets.extend(cidr::private()),
            Ok(Network::ThisLan) => nets.extend(&machine.this_lan),
            Err(error) => {
                let hint = match error.repair() {
                    Some(repair) => format!("write `{repair}`"),
                    None => "write a network such as `192.168.1.0/24` or `2001:db8::/32`, an address, or one of `this-lan`, `loopback`, `private`".into(),
                };
                problems.push(
                    Problem::error("bad-network", format!("{key}[{i}]"), error.to_string())
                        .hint(hint),
                );
            }
        }
    }
    nets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;
    use crate::net::interfaces::{Interface, Kind};

    /// The problems of a listener behind these proxies: `!` for an error, then the code.
    fn problems(proxies: &[&str], change: impl Fn(&mut raw::Listener)) -> Vec<String> {
        let mut listener = raw::Listener::new("0.0.0.0:8443");
        listener.networks = Some(raw::Networks {
            allow: vec!["this-lan".into()],
            deny: Vec::new(),
        });
        listener.trusted_proxies = proxies.iter().map(ToString::to_string).collect();
        change(&mut listener);
        let machine = Machine {
            gateways: vec!["192.168.1.1".parse().unwrap()],
            this_lan: vec!["192.168.1.0/24".parse().unwrap()],
            ..Machine::default()
        };
        let mut problems = Vec::new();
        compile(&listener, "listener[0]", &machine, &mut problems);
        let told = |p: &Problem| {
            let mark = if p.severity == Severity::Error {
                "!"
            } else {
                ""
            };
            format!("{mark}{}", p.code)
        };
        problems.iter().map(told).collect()
    }

    #[test]
    fn proxies_that_could_be_anybody_are_refused() {
        for (proxies, want) in [
            (&[][..], &[][..]),
            (&["10.0.0.5", "fd00::5"], &[]),
            (&["10.0.0.0/8", "172.16.0.0/12", "fc00::/7"], &[]),
            (&["104.16.0.0/13", "2a06:98c0::/29"], &[]),
            (&["loopback"], &[]),
            (&["0.0.0.0/0"], &["!wide-proxies", "gateway-proxy"]),
            (&["::/0"], &["!wide-proxies"]),
            (&["::ffff:0.0.0.0/96"], &["!wide-proxies", "gateway-proxy"]),
            (
                &["0.0.0.0/1", "128.0.0.0/1"],
                &["!wide-proxies", "!wide-proxies", "gateway-proxy"],
            ),
            (&["2000::/3"], &["!wide-proxies"]),
            (&["private"], &["wide-proxies", "gateway-proxy"]),
            (&["this-lan"], &["wide-proxies", "gateway-proxy"]),
            (&["192.168.1.1"], &["gateway-proxy"]),
            (&["proxy.lan"], &["!bad-network"]),
        ] {
            assert_eq!(problems(proxies, |_| {}), want, "{proxies:?}");
        }
        let required = |l: &mut raw::Listener| l.proxy_protocol = ProxyProtocol::Required;
        assert_eq!(problems(&[], required), ["!no-proxies"]);
        assert!(problems(&["10.0.0.5"], required).is_empty());
    }

    #[test]
    fn who_stands_for_others_matches_no_allow_unless_told_so() {
        let bridge = |name: &str, address: &str, has_default_route| Interface {
            name: name.into(),
            index: 1,
            addresses: vec![address.parse().unwrap()],
            on_link: Vec::new(),
            kind: Kind::Bridge,
            has_default_route,
            is_up: true,
        };
        let mut machine = Machine {
            gateways: vec!["192.168.1.1".parse().unwrap()],
            ..Machine::default()
        };
        // The second one is a hypervisor's: its own way into the network.
        machine.interfaces.list = vec![
            bridge("docker0", "172.17.0.1/16", false),
            bridge("vmbr0", "192.168.1.5/24", true),
        ];
        machine.addresses = machine.interfaces.addresses();
        for (peer, want) in [
            ("192.168.1.1", false),
            ("::ffff:192.168.1.1", false),
            ("172.17.0.1", false),
            ("172.17.0.2", true),
            ("192.168.1.5", true),
            ("192.168.1.9", true),
        ] {
            for (allow_gateway, want) in [(false, want), (true, true)] {
                let mut listener = raw::Listener::new("0.0.0.0:8443");
                listener.networks = Some(raw::Networks {
                    allow: vec!["private".into()],
                    deny: Vec::new(),
                });
                listener.allow_gateway = allow_gateway;
                let gate = compile(&listener, "", &machine, &mut Vec::new());
                let got = gate.judge(peer.parse().unwrap());
                assert_eq!(got.is_ok(), want, "{peer} {allow_gateway} {got:?}");
            }
        }
    }

    #[test]
    fn a_gateway_is_a_trusted_proxy_only_when_told_so() {
        for (allow_gateway, want) in [(false, false), (true, true)] {
            let mut listener = raw::Listener::new("0.0.0.0:8443");
            listener.networks = Some(raw::Networks::default());
            listener.trusted_proxies = vec!["192.168.1.1".into(), "192.168.1.2".into()];
            listener.allow_gateway = allow_gateway;
            let machine = Machine {
                gateways: vec!["192.168.1.1".parse().unwrap()],
                ..Machine::default()
            };
            let gate = compile(&listener, "", &machine, &mut Vec::new());
            assert_eq!(gate.trusts("192.168.1.1".parse().unwrap()), want);
            assert!(gate.trusts("192.168.1.2".parse().unwrap()));
        }
    }
}
