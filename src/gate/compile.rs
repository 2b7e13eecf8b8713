//! The networks of a listener, from text.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Gate;
use crate::base::cidr::{self, NetSet, Network};
use crate::config::Problem;
use crate::config::raw;
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
                format!("`{all}` lets the whole internet try passwords here"),
            );
            problems.push(problem.hint("name the networks that you mean, for example `this-lan`"));
        }
    }
    let hosts: Vec<IpNet> = machine.gateways.iter().map(|a| IpNet::from(*a)).collect();
    let own: &[IpAddr] = &machine.addresses;
    let gateways = hosts
        .iter()
        .filter(|g| !listener.allow_gateway && !own.contains(&g.addr()));
    Gate {
        allow: NetSet::new(&allowed),
        deny: NetSet::new(&denied),
        allowed,
        denied,
        gateways: NetSet::new(gateways),
    }
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
