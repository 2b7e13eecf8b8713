//! The client behind trusted proxies: whom the PROXY header of a connection, and the fields of a request, are believed to name.
//! Walked from us outwards over proxies that are trusted; the first address that is not one is the client, and what stands
//! beyond it was written by nobody we know.

use std::net::IpAddr;

use super::Gate;
use super::forwarded::{address, elements, entries};
use crate::base::refusal::{Reason, Refusal};

/// Proxies in a row; more than that is a loop or somebody's joke.
const MOST: usize = 16;

/// Where a request comes from, as far as it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client.
    pub address: IpAddr,
    /// The proxies between it and us, ours last. Empty where there are none.
    pub through: Vec<IpAddr>,
}

/// The values of the fields that say where a request comes from, in their order.
#[derive(Clone, Debug, Default)]
pub struct Told<'a> {
    /// `X-Forwarded-For`, one a line.
    pub forwarded_for: Vec<&'a [u8]>,
    /// `Forwarded`, one a line.
    pub forwarded: Vec<&'a [u8]>,
}

impl Client {
    /// Whoever a connection comes from: its peer, or whom the peer's PROXY header names.
    pub fn of_connection(peer: IpAddr, source: IpAddr) -> Self {
        let through = if source == peer {
            Vec::new()
        } else {
            vec![peer]
        };
        Self {
            address: source,
            through,
        }
    }
}

impl Gate {
    /// Whether fields and PROXY headers from this address are believed. A default gateway is not, unless told so: behind
    /// address translation it is everybody.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.contains(address)
            && !self.deny.contains(address)
            && !self.gateways.contains(address)
    }

    /// Judges the two ends of a connection that a proxy may have made: the socket's, and whom its PROXY header named.
    /// Each may be a proxy; who asks through it is judged with every request.
    pub fn judge_connection(&self, peer: IpAddr, source: IpAddr) -> Result<(), Refusal> {
        let known = |address| {
            if self.trusts(address) {
                Ok(())
            } else {
                self.judge(address)
            }
        };
        known(peer)?;
        if peer == source {
            return Ok(());
        }
        if !self.trusts(peer) {
            return Err(Refusal::new(
                Reason::NetworkDenied,
                "the proxy is not trusted any more",
            ));
        }
        known(source)
    }

    /// The client of a request on a connection from `source`, by what its fields say. Refused when a proxy that is trusted
    /// has written something else than an address.
    pub fn client(&self, connection: Client, told: &Told<'_>) -> Result<Client, Refusal> {
        if !self.trusts(connection.address) {
            return Ok(connection);
        }
        let list = || {
            let all: Vec<&[u8]> = told.forwarded_for.iter().flat_map(|v| entries(v)).collect();
            self.walk(&connection, all.into_iter().map(address))
        };
        let standard = || {
            let mut all = Vec::new();
            for value in &told.forwarded {
                all.extend(elements(value).map_err(Refusal::bad)?);
            }
            self.walk(&connection, all.into_iter())
        };
        match (told.forwarded_for.is_empty(), told.forwarded.is_empty()) {
            (true, true) => Ok(connection),
            (false, true) => list(),
            (true, false) => standard(),
            // A proxy that writes one of them hands the other one on, as the client wrote it.
            (false, false) => match (list()?, standard()?) {
                (one, other) if one == other => Ok(one),
                _ => Err(Refusal::bad(
                    "X-Forwarded-For and Forwarded name two clients",
                )),
            },
        }
    }

    fn walk(
        &self,
        connection: &Client,
        entries: impl DoubleEndedIterator<Item = Option<IpAddr>>,
    ) -> Result<Client, Refusal> {
        let mut client = connection.clone();
        for entry in entries.rev() {
            if !self.trusts(client.address) {
                break;
            }
            if client.through.len() >= MOST {
                return Err(Refusal::bad("more than 16 proxies in a row"));
            }
            let next = entry.ok_or(Refusal::bad(
                "a trusted proxy names something that is no address",
            ))?;
            let proxy = std::mem::replace(&mut client.address, next);
            client.through.insert(0, proxy);
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cidr::NetSet;

    fn gate() -> Gate {
        let set = |list: &[&str]| {
            NetSet::new(&list.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        };
        Gate {
            allow: set(&["10.0.0.0/8", "2001:db8::/32"]),
            deny: set(&["10.6.6.0/24", "192.168.0.66/32"]),
            proxies: set(&["192.168.0.0/24", "fd00::/64"]),
            gateways: set(&["192.168.0.1/32"]),
            ..Gate::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn found(
        peer: &str,
        lists: &[&str],
        standard: &[&str],
    ) -> Result<(String, String), &'static str> {
        let told = Told {
            forwarded_for: lists.iter().map(|v| v.as_bytes()).collect(),
            forwarded: standard.iter().map(|v| v.as_bytes()).collect(),
        };
        let client = gate().client(Client::of_connection(ip(peer), ip(peer)), &told);
        client.map_err(|r| r.detail).map(|c| {
            let through: Vec<_> = c.through.iter().map(ToString::to_string).collect();
            (c.address.to_string(), through.join(" "))
        })
    }

    #[test]
    fn walks_from_right_to_left_over_trusted_proxies_only() {
        for (peer, lists, client, through) in [
            // Nobody else is believed.
            ("10.1.1.1", &["203.0.113.9"][..], "10.1.1.1", ""),
            ("203.0.113.9", &["10.1.1.1"], "203.0.113.9", ""),
            ("192.168.0.1", &["10.1.1.1"], "192.168.0.1", ""),
            ("192.168.0.66", &["10.1.1.1"], "192.168.0.66", ""),
            // A trusted proxy that says nothing is the client itself.
            ("192.168.0.2", &[], "192.168.0.2", ""),
            ("192.168.0.2", &["10.1.1.1"], "10.1.1.1", "192.168.0.2"),
            ("fd00::2", &["10.1.1.1"], "10.1.1.1", "fd00::2"),
            // What the client wrote itself stands further to the left and is never reached.
            (
                "192.168.0.2",
                &["10.9.9.9, 203.0.113.9"],
                "203.0.113.9",
                "192.168.0.2",
            ),
            (
                "192.168.0.2",
                &["192.168.0.9, 203.0.113.9"],
                "203.0.113.9",
                "192.168.0.2",
            ),
            (
                "192.168.0.2",
                &["<script>,, 203.0.113.9"],
                "203.0.113.9",
                "192.168.0.2",
            ),
            // Two proxies; several lines are one list.
            (
                "192.168.0.2",
                &["10.9.9.9,10.1.1.1 ,\t192.168.0.3"],
                "10.1.1.1",
                "192.168.0.3 192.168.0.2",
            ),
            (
                "192.168.0.2",
                &["10.9.9.9", "10.1.1.1", "192.168.0.3"],
                "10.1.1.1",
                "192.168.0.3 192.168.0.2",
            ),
            ("192.168.0.2", &["10.1.1.1:5000"], "10.1.1.1", "192.168.0.2"),
            (
                "192.168.0.2",
                &["[2001:db8::7]:5000"],
                "2001:db8::7",
                "192.168.0.2",
            ),
            (
                "192.168.0.2",
                &["::ffff:10.1.1.1"],
                "10.1.1.1",
                "192.168.0.2",
            ),
            // Mapped spelling makes no second address of a proxy.
            (
                "192.168.0.2",
                &["10.1.1.1, ::ffff:192.168.0.3"],
                "10.1.1.1",
                "192.168.0.3 192.168.0.2",
            ),
            // Proxies all the way: the first of them.
            (
                "192.168.0.2",
                &["192.168.0.4, 192.168.0.3"],
                "192.168.0.4",
                "192.168.0.3 192.168.0.2",
            ),
            // A gateway and a denied proxy end the walk.
            (
                "192.168.0.2",
                &["10.1.1.1, 192.168.0.1"],
                "192.168.0.1",
                "192.168.0.2",
            ),
            (
                "192.168.0.2",
                &["10.1.1.1, 192.168.0.66"],
                "192.168.0.66",
                "192.168.0.2",
            ),
        ] {
            let want = Ok((client.to_owned(), through.to_owned()));
            assert_eq!(found(peer, lists, &[]), want, "{peer} {lists:?}");
            let standard: Vec<String> = lists
                .iter()
                .map(|list| {
                    list.split(',')
                        .map(|e| format!("for=\"{}\"", e.trim()))
                        .collect::<Vec<_>>()
                        .join(", ")
                })
                .collect();
            let standard: Vec<&str> = standard.iter().map(String::as_str).collect();
            assert_eq!(found(peer, &[], &standard), want, "{peer} {standard:?}");
            assert_eq!(found(peer, lists, &standard), want, "both");
        }
    }

    #[test]
    fn refuses_what_a_trusted_proxy_should_not_have_written() {
        let seventeen = vec!["192.168.0.3"; 17].join(",");
        for (lists, standard) in [
            (&["unknown"][..], &[][..]),
            (&["10.1.1.1, unknown"], &[]),
            (&["10.1.1.1, "], &[]),
            (&[""], &[]),
            (&["10.1.1.1 10.1.1.2"], &[]),
            (&["10.1.1.1, app.lan, 192.168.0.3"], &[]),
            (&[&seventeen], &[]),
            (&[], &["for=_secret"]),
            (&[], &["proto=https"]),
            (&[], &["for=10.9.9.9\", for=10.1.1.1"]),
            (&[], &["for=\"10.9.9.9, for=10.1.1.1"]),
            // Two words, two clients: one of them is the client's own.
            (&["10.1.1.1"], &["for=10.9.9.9"]),
            (&["10.1.1.1"], &["for=10.1.1.1, for=192.168.0.3"]),
            (&["10.1.1.1"], &[""]),
        ] {
            assert!(
                found("192.168.0.2", lists, standard).is_err(),
                "{lists:?} {standard:?}"
            );
            assert!(
                found("10.1.1.1", lists, standard).is_ok(),
                "nobody reads it from a stranger"
            );
        }
    }

    #[test]
    fn a_connection_needs_a_peer_and_a_source_that_may_be_there() {
        for (peer, source, want) in [
            ("10.1.1.1", "10.1.1.1", true),
            ("192.168.0.2", "192.168.0.2", true),
            ("203.0.113.9", "203.0.113.9", false),
            ("192.168.0.2", "10.1.1.1", true),
            ("192.168.0.2", "192.168.0.3", true),
            ("192.168.0.2", "203.0.113.9", false),
            ("192.168.0.2", "10.6.6.6", false),
            ("10.1.1.1", "10.1.1.2", false),
            ("203.0.113.9", "10.1.1.1", false),
            ("192.168.0.1", "10.1.1.1", false),
            ("192.168.0.66", "10.1.1.1", false),
        ] {
            let got = gate().judge_connection(ip(peer), ip(source));
            assert_eq!(got.is_ok(), want, "{peer} {source}");
        }
        let through = Client::of_connection(ip("192.168.0.2"), ip("10.1.1.1")).through;
        assert_eq!(through, [ip("192.168.0.2")]);
    }
}
