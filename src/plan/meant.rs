//! Where a request that nobody sent would arrive: the listeners that its address can mean.

use std::net::{IpAddr, SocketAddr};

use super::Plan;
use crate::base::cidr::fold;
use crate::base::host::{Authority, Host};

/// Whether a connection to this address arrives here.
pub(super) fn is_here(plan: &Plan, address: IpAddr) -> bool {
    plan.site.table.is_own(address)
        || address.is_loopback()
        || plan.addresses().any(|bound| fold(bound.ip()) == address)
}

/// The listeners that can be meant: the one of this address, else those that the URL leads to, else all. Where its host is an
/// address, the kernel gives a connection to who is bound to that one, before it gives it to who is bound to all of them.
pub(super) fn gates(
    plan: &Plan,
    listener: Option<SocketAddr>,
    authority: &Authority<'_>,
) -> Vec<usize> {
    let with = |has: &dyn Fn(&SocketAddr) -> bool| -> Vec<usize> {
        let all = plan.listeners.iter().enumerate();
        all.filter(|(_, l)| l.addresses.iter().any(has))
            .map(|(i, _)| i)
            .collect()
    };
    let meant = match listener {
        Some(address) => with(&|a| *a == address),
        None => Vec::new(),
    };
    if !meant.is_empty() {
        return meant;
    }
    let has_port = |a: &SocketAddr| authority.port.is_none_or(|port| port == a.port());
    let is_known = !with(&has_port).is_empty();
    let fits = |a: &SocketAddr| !is_known || has_port(a);
    let found = match &authority.host {
        Host::Ip(ip) => {
            let bound = with(&|a| fits(a) && fold(a.ip()) == *ip);
            let all = |a: &SocketAddr| a.ip().is_unspecified() && a.is_ipv4() == ip.is_ipv4();
            match bound.is_empty() {
                true => with(&|a| fits(a) && all(a)),
                false => bound,
            }
        }
        Host::Name(_) => Vec::new(),
    };
    match found.is_empty() {
        true => with(&fits),
        false => found,
    }
}

#[cfg(test)]
mod tests {
    use crate::net::Machine;
    use crate::plan::explain::{Question, explain};
    use crate::plan::{Kept, compile};

    #[test]
    fn the_listener_of_an_address_decides_about_it() {
        let dir = tempfile::tempdir().unwrap();
        let listener = |address: &str, allow: &str| {
            format!(
                "[[listener]]\naddress = \"{address}\"\nnetworks = {{ allow = [\"{allow}\"] }}\n"
            )
        };
        let text = [
            listener("127.0.0.1:7443", "192.0.2.0/24"),
            listener("192.0.2.7:7443", "198.51.100.0/24"),
            listener("127.0.0.3:7443", "loopback"),
            listener("0.0.0.0:7444", "loopback"),
            "[[route]]\nupstream = \"127.0.0.1:3000\"\naccess = \"anyone\"\n".to_owned(),
        ]
        .concat();
        let raw = crate::config::from_text("meant", &text).unwrap().raw;
        let kept = Kept::new(dir.path().join("state"));
        let machine = Machine {
            addresses: vec![[192, 0, 2, 7].into()],
            names: vec!["localhost".into()],
            ..Machine::default()
        };
        let made = compile(&raw, dir.path(), &machine, &kept, None, None);
        let (plan, _) = made.unwrap_or_else(|problems| panic!("{problems:#?}"));
        for (from, url, want) in [
            // Allowed by the other listener of this port, which never sees it.
            ("192.0.2.7", "https://192.0.2.7:7443/", "network-denied"),
            ("198.51.100.1", "https://192.0.2.7:7443/", "allowed"),
            ("198.51.100.1", "https://127.0.0.1:7443/", "network-denied"),
            ("192.0.2.9", "https://127.0.0.1:7443/", "allowed"),
            ("127.0.0.1", "https://127.0.0.3:7443/", "allowed"),
            ("127.0.0.1", "https://127.0.0.4:7444/", "allowed"),
            ("127.0.0.1", "https://127.0.0.3/", "allowed"),
            ("192.0.2.9", "https://127.0.0.3/", "network-denied"),
            ("127.0.0.1", "https://203.0.113.1:7444/", "host-unknown"),
            // A name says nothing of the address.
            ("192.0.2.9", "https://localhost:7443/", "allowed"),
            ("127.0.0.1", "https://localhost:7443/", "allowed"),
        ] {
            let question = Question {
                from: from.parse().unwrap(),
                forwarded_for: None,
                user: None,
                certificate: None,
                method: "GET",
                url,
            };
            let told = explain(&plan, &raw, &question).unwrap();
            assert_eq!(told.word(), want, "{from} {url} {:?}", told.steps);
        }
    }
}
