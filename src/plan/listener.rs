//! One listener, from text: addresses, gate, and certificate.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::{Kept, Listener};
use crate::base::cidr::Network;
use crate::config::Problem;
use crate::config::raw::{self, CertificateSource, Tls};
use crate::gate;
use crate::net::Machine;
use crate::tls::{Names, ServerTls, Source, Subject, TlsError, files};

/// A listener, with the names and addresses that its certificate adds to our own.
pub(super) struct Compiled {
    pub listener: Listener,
    pub names: Vec<String>,
    pub ips: Vec<IpAddr>,
}

pub(super) fn compile(
    raw: &raw::Listener,
    key: &str,
    base: &Path,
    machine: &Machine,
    kept: &Kept,
    config: &raw::Config,
    problems: &mut Vec<Problem>,
) -> Compiled {
    let addresses = addresses(raw, key, problems);
    let gate = gate::compile(raw, key, machine, problems);
    let only_on = only_on(raw, key, problems);
    let is_open = only_on.is_empty() || machine.is_in(&only_on);
    if !is_open {
        let message = format!("closed here and now: {}", elsewhere(&only_on));
        problems.push(Problem::warning(
            "listener-closed",
            format!("{key}.only_on"),
            message,
        ));
    }
    let (mut names, mut ips) = (Vec::new(), Vec::new());
    let default = machine
        .names
        .get(1)
        .or(machine.names.first())
        .map_or("localhost", String::as_str)
        .to_owned();
    let source = match &raw.tls {
        Tls::From {
            from: CertificateSource::None,
        } => {
            let loopback = addresses.iter().all(|a| a.ip().is_loopback());
            let problem = match loopback {
                true => Problem::warning(
                    "plain-http",
                    format!("{key}.tls"),
                    "plain HTTP: everybody on this machine can read passwords here",
                ),
                false => Problem::error(
                    "plain-http",
                    format!("{key}.tls"),
                    "plain HTTP is only possible on a loopback address: on a network everybody could read the passwords",
                ),
            };
            problems.push(problem.hint("write `tls = { from = \"local-ca\" }`"));
            None
        }
        Tls::From {
            from: CertificateSource::UnsafePlain,
        } => {
            let message = "PLAIN HTTP: everybody on the network reads the passwords and all that is sent, and can change it";
            let problem = Problem::warning("plain-http", format!("{key}.tls"), message);
            problems
                .push(problem.hint("leave `--unsafe-plain-http` out: HTTPS needs nothing else"));
            None
        }
        Tls::From {
            from: CertificateSource::LocalCa,
        } => local(key, machine, kept, config, problems),
        Tls::Files {
            chain,
            key: private,
        } => {
            let loopback = addresses.iter().all(|a| a.ip().is_loopback());
            let loaded = certificate(
                &base.join(chain),
                &base.join(private),
                loopback,
                key,
                problems,
            );
            loaded.map(|loaded| {
                names.extend(loaded.names().map(str::to_ascii_lowercase));
                ips.extend(loaded.ips());
                Source::Files(Arc::new(loaded))
            })
        }
    };
    let all = machine
        .names
        .iter()
        .chain(config.route.iter().flat_map(|r| &r.hosts))
        .map(|n| n.to_ascii_lowercase());
    let (clients, tickets) = super::clients::compile(raw, key, base, kept, problems);
    let tls = source.map(|source| {
        let authority = clients.as_ref().map(|clients| clients.authority());
        let names = Names::new(all);
        Arc::new(ServerTls::new(source, names, &default, tickets, authority))
    });
    Compiled {
        listener: Listener {
            addresses,
            only_on,
            is_open,
            gate,
            tls,
            clients,
        },
        names,
        ips,
    }
}

/// Chain and key from files. A key that others may read is refused, but for a listener that only this machine can reach.
fn certificate(
    chain: &Path,
    private: &Path,
    loopback: bool,
    key: &str,
    problems: &mut Vec<Problem>,
) -> Option<files::Loaded> {
    let at = format!("{key}.tls");
    let now = SystemTime::now();
    match files::load(chain, private, now) {
        Ok(loaded) => Some(loaded),
        Err(error @ TlsError::KeyReadable { .. }) if loopback => {
            problems.push(Problem::warning("key-readable", at.clone(), told(&error)));
            let again = files::load_open(chain, private, now);
            again
                .map_err(|e| problems.push(Problem::error("bad-certificate", at, told(&e))))
                .ok()
        }
        Err(error) => {
            problems.push(Problem::error("bad-certificate", at, told(&error)));
            None
        }
    }
}

fn local(
    key: &str,
    machine: &Machine,
    kept: &Kept,
    config: &raw::Config,
    problems: &mut Vec<Problem>,
) -> Option<Source> {
    let authority = match kept.authority(machine) {
        Ok(authority) => authority,
        Err(error) => {
            problems.push(Problem::error(
                "local-ca",
                format!("{key}.tls"),
                told(&error),
            ));
            return None;
        }
    };
    for (i, route) in config.route.iter().enumerate() {
        for (j, host) in route.hosts.iter().enumerate() {
            let Ok(subject) = Subject::parse(host) else {
                continue;
            };
            if !authority.covers(&subject) {
                let message = format!(
                    "the local authority cannot sign for `{host}`: it is confined to private names and addresses"
                );
                let hint = "use a name under `.lan`, `.home.arpa`, `.internal`, `.local`, `.test` or this host's name, or give the listener a certificate: `tls = { chain = \"…\", key = \"…\" }`";
                problems.push(
                    Problem::error("local-ca", format!("route[{i}].hosts[{j}]"), message)
                        .hint(hint),
                );
            }
        }
    }
    Some(Source::LocalCa(authority))
}

pub(super) fn told(error: &TlsError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The networks of `only_on`. The named sets are no places: each of them is there wherever the machine is.
fn only_on(raw: &raw::Listener, key: &str, problems: &mut Vec<Problem>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (i, text) in raw.only_on.iter().enumerate() {
        let (message, hint) = match text.parse::<Network>() {
            Ok(Network::Net(net)) if !is_everywhere(&net) => {
                nets.push(net);
                continue;
            }
            Ok(Network::Net(_) | Network::Loopback | Network::Private | Network::ThisLan) => (
                format!("`{text}` is no place: this machine would be in it nearly everywhere"),
                "name the network itself, for example `192.168.1.0/24`; `ip -brief address` shows where this machine is now".to_owned(),
            ),
            Err(error) => (
                error.to_string(),
                match error.repair() {
                    Some(repair) => format!("write `{repair}`"),
                    None => "write a network such as `192.168.1.0/24`".to_owned(),
                },
            ),
        };
        problems
            .push(Problem::error("bad-network", format!("{key}.only_on[{i}]"), message).hint(hint));
    }
    nets
}

/// Shorter prefixes than these are no place: the largest private networks have them.
const WIDEST: (u8, u8) = (8, 7);

/// Whether nearly every machine has an address in it: everything, loopback, and link-local addresses.
fn is_everywhere(net: &IpNet) -> bool {
    let (shortest, link) = match net {
        IpNet::V4(four) => (WIDEST.0, four.addr().is_link_local()),
        IpNet::V6(six) => (WIDEST.1, six.addr().is_unicast_link_local()),
    };
    link || net.addr().is_loopback() || net.prefix_len() < shortest
}

/// Why a listener is closed.
pub(super) fn elsewhere(only_on: &[IpNet]) -> String {
    let nets: Vec<String> = only_on.iter().map(ToString::to_string).collect();
    format!(
        "this machine has no address in {} (`only_on`)",
        nets.join(" or ")
    )
}

fn addresses(raw: &raw::Listener, key: &str, problems: &mut Vec<Problem>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for (i, text) in raw.address.iter().enumerate() {
        let at = if raw.address.len() > 1 {
            format!("{key}.address[{i}]")
        } else {
            format!("{key}.address")
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if addresses.contains(&address) => {
                problems.push(
                    Problem::error("duplicate-address", at, format!("`{text}` is named twice"))
                        .hint("remove one of them"),
                );
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let problem = Problem::error(
                    "bad-address",
                    at,
                    format!("`{text}` is no address with a port"),
                );
                problems.push(
                    problem.hint(
                        "write for example `0.0.0.0:8443`, `[::]:8443` or `192.168.1.5:8443`",
                    ),
                );
            }
        }
    }
    if raw.address.is_empty() {
        problems.push(
            Problem::error(
                "bad-address",
                format!("{key}.address"),
                "no address is named",
            )
            .hint("write `address = \"0.0.0.0:8443\"`"),
        );
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_that_a_machine_can_leave() {
        for (text, want) in [
            ("192.168.1.0/24", true),
            ("10.0.0.0/8", true),
            ("fc00::/7", true),
            ("2001:db8::/32", true),
            ("192.168.1.5", true),
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("::ffff:0.0.0.0/96", false),
            ("128.0.0.0/1", false),
            ("2000::/3", false),
            ("127.0.0.0/8", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.0.0/16", false),
            ("fe80::/10", false),
            ("fe80::/64", false),
            ("loopback", false),
            ("this-lan", false),
        ] {
            let mut raw = raw::Listener::new("0.0.0.0:8443");
            raw.only_on = vec![text.to_owned()];
            let mut problems = Vec::new();
            let nets = only_on(&raw, "listener[0]", &mut problems);
            assert_eq!(
                (problems.is_empty(), nets.len() == 1),
                (want, want),
                "{text}"
            );
        }
    }
}
