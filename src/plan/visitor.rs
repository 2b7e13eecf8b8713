//! Who visits, for `explain` and `[[test]]`: an address that connects, and whom it names when it is a trusted proxy.

use std::net::IpAddr;

use super::explain::{Explained, Request};
use crate::base::cidr::fold;
use crate::base::refusal::Refusal;
use crate::gate::{Client, Gate, Told};

/// Who visits.
pub(super) struct Visitor {
    /// The client.
    pub client: IpAddr,
    /// The connection is a trusted proxy's own.
    pub is_through_proxy: bool,
}

/// Judges the visitor at a gate, with a step for each thing that was found. `key` is the listener's.
pub(super) fn judge(
    gate: &Gate,
    key: &str,
    request: &Request<'_>,
    told: &mut Explained,
) -> Result<Visitor, Refusal> {
    let peer = fold(request.from);
    let networks = || Some(format!("{key}.networks"));
    let proxies = || Some(format!("{key}.trusted_proxies"));
    if let Err(refusal) = gate.judge_connection(peer, peer) {
        told.step(
            "network",
            format!("{peer} is {}", refusal.detail),
            networks(),
        );
        return Err(refusal);
    }
    let mut connection = Client::of_connection(peer, peer);
    let mut said = request.forwarded_for;
    if !gate.trusts(peer) {
        if said.is_some() {
            let found =
                format!("{peer} is no trusted proxy: what it says of others is thrown away");
            told.step("proxy", found, proxies());
        }
    } else if gate.wants_header() {
        let (rest, named) = match said.map(|list| list.rsplit_once(',').unwrap_or(("", list))) {
            Some((rest, named)) => (rest, named.trim()),
            None => ("", ""),
        };
        let Ok(source) = named.parse().map(fold) else {
            let refusal =
                Refusal::bad("a trusted proxy without a PROXY header that names an address");
            told.step(
                "proxy",
                format!("{peer}: {}", refusal.detail),
                Some(format!("{key}.proxy_protocol")),
            );
            return Err(refusal);
        };
        told.step(
            "proxy",
            format!("{peer} is a trusted proxy and names {source}"),
            proxies(),
        );
        if let Err(refusal) = gate.judge_connection(peer, source) {
            told.step(
                "network",
                format!("{source} is {}", refusal.detail),
                networks(),
            );
            return Err(refusal);
        }
        connection = Client::of_connection(peer, source);
        said = Some(rest).filter(|rest| !rest.is_empty());
    }
    let believed = gate.trusts(connection.address);
    told.is_answered |= believed;
    let list = Told {
        forwarded_for: said.map(str::as_bytes).into_iter().collect(),
        forwarded: Vec::new(),
    };
    let from = connection.address;
    let client = match gate.client(connection, &list) {
        Ok(client) => client,
        Err(refusal) => {
            told.step("client", refusal.detail, proxies());
            return Err(refusal);
        }
    };
    if believed {
        let found = match client.address == from {
            true => {
                format!("{from} is a trusted proxy and names nobody, so it is the client itself")
            }
            false => {
                let through: Vec<_> = client.through.iter().map(ToString::to_string).collect();
                format!("{} through {}", client.address, through.join(", "))
            }
        };
        told.step("client", found, proxies());
    }
    let client = client.address;
    if let Err(refusal) = gate.judge(client) {
        told.step(
            "network",
            format!("{client} is {}", refusal.detail),
            networks(),
        );
        return Err(refusal);
    }
    told.step("network", format!("{client} may connect"), networks());
    Ok(Visitor {
        client,
        is_through_proxy: believed,
    })
}
