//! Which of the child's ports is the one for people: a pure choice.

use std::cmp::Reverse;
use std::net::SocketAddr;

use crate::upstream::{Answer, name_refused};

/// A port that could be fronted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Where it is reached on loopback.
    pub address: SocketAddr,
    /// What it answered, once it did.
    pub answer: Option<Answer>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The port that the child was told.
    pub port: u16,
    /// No other port will do.
    pub only: bool,
}

impl Offer {
    /// The upstream as it is written. The port that was told keeps the name that the plan began with.
    pub fn target(&self, told: u16) -> String {
        let tls = matches!(self.answer, Some(Answer::Http { tls: true, .. }));
        let scheme = if tls { "https://" } else { "" };
        if self.address.port() == told && is_localhost(self.address) {
            return format!("{scheme}localhost:{told}");
        }
        format!("{scheme}{}", self.address)
    }

    /// How good it is; 0 is never taken. A debugger's port answers 400 to everybody who is no debugger, and whoever reaches it may do
    /// anything: that is for people to name, not for us to guess.
    fn rank(&self, wanted: Wanted) -> u8 {
        if self.address.port() == wanted.port {
            return 3;
        }
        match &self.answer {
            _ if wanted.only => 0,
            Some(Answer::Http { status, .. }) if !matches!(status, 400 | 426) => 2,
            Some(answer) if name_refused(answer, "").is_some() => 2,
            Some(Answer::Silent) => 1,
            Some(Answer::Http { .. } | Answer::Other) | None => 0,
        }
    }
}

fn is_localhost(address: SocketAddr) -> bool {
    ["127.0.0.1", "::1"].contains(&address.ip().to_string().as_str())
}

/// The best of them; of equals the one that is fronted already, then the lowest port.
pub fn choose<'o>(offers: &'o [Offer], wanted: Wanted, now: Option<&str>) -> Option<&'o Offer> {
    offers
        .iter()
        .filter(|offer| offer.rank(wanted) > 0)
        .max_by_key(|offer| {
            let is_now = now == Some(offer.target(wanted.port).as_str());
            (offer.rank(wanted), is_now, Reverse(offer.address))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16) -> Option<Answer> {
        Some(Answer::Http {
            tls: false,
            status,
            text: String::new(),
        })
    }

    #[test]
    fn the_port_for_people_is_chosen() {
        let told = Wanted {
            port: 4000,
            only: false,
        };
        let only = Wanted { only: true, ..told };
        let other = || Some(Answer::Other);
        let silent = || Some(Answer::Silent);
        for (name, offers, wanted, now, want) in [
            ("nothing yet", vec![], told, None, None),
            (
                "the told one, before it answers",
                vec![("127.0.0.1:4000", None), ("127.0.0.1:3000", http(200))],
                told,
                None,
                Some("localhost:4000"),
            ),
            (
                "the told one on IPv6",
                vec![("[::1]:4000", None)],
                told,
                None,
                Some("localhost:4000"),
            ),
            (
                "another one that answers HTTP",
                vec![("127.0.0.1:5173", http(404)), ("127.0.0.1:24678", other())],
                told,
                None,
                Some("127.0.0.1:5173"),
            ),
            (
                "another one that takes its time",
                vec![("[::1]:5173", silent()), ("127.0.0.1:24678", other())],
                told,
                None,
                Some("[::1]:5173"),
            ),
            (
                "not yet asked",
                vec![("127.0.0.1:5173", None)],
                told,
                None,
                None,
            ),
            (
                "a debugger alone",
                vec![("127.0.0.1:9229", http(400))],
                told,
                None,
                None,
            ),
            (
                "a socket for hot updates alone",
                vec![("127.0.0.1:24678", http(426))],
                told,
                None,
                None,
            ),
            (
                "the lowest of two websites",
                vec![("127.0.0.1:5174", http(200)), ("127.0.0.1:5173", http(200))],
                told,
                None,
                Some("127.0.0.1:5173"),
            ),
            (
                "the one that people are on",
                vec![("127.0.0.1:5174", http(200)), ("127.0.0.1:5173", http(200))],
                told,
                Some("127.0.0.1:5174"),
                Some("127.0.0.1:5174"),
            ),
            (
                "no other than the wanted one",
                vec![("127.0.0.1:5173", http(200))],
                only,
                None,
                None,
            ),
            (
                "the wanted one, whatever it says",
                vec![("127.0.0.1:5173", http(200)), ("127.0.0.1:4000", other())],
                only,
                None,
                Some("localhost:4000"),
            ),
            (
                "an address of its own",
                vec![("127.0.0.5:4000", None)],
                told,
                None,
                Some("127.0.0.5:4000"),
            ),
        ] {
            let offers: Vec<Offer> = offers
                .into_iter()
                .map(|(address, answer)| Offer {
                    address: address.parse().unwrap(),
                    answer,
                })
                .collect();
            let got = choose(&offers, wanted, now).map(|offer| offer.target(wanted.port));
            assert_eq!(got.as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_service_that_speaks_tls_is_dialled_so() {
        let offer = Offer {
            address: "127.0.0.1:5173".parse().unwrap(),
            answer: Some(Answer::Http {
                tls: true,
                status: 200,
                text: String::new(),
            }),
        };
        assert_eq!(offer.target(4000), "https://127.0.0.1:5173");
        assert_eq!(offer.target(5173), "https://localhost:5173");
    }
}
