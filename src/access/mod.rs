//! May they? The pure decision of contract 5, in its order, and the only maker of [`Permit`].
//! The live path, `explain`, `[[test]]` and the tests call the same functions.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::auth::{Method, Who};
use crate::base::cidr::NetSet;
use crate::base::host::Host;
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};
pub use crate::config::raw::CertificateUse;
use crate::route::Table;

mod compile;

pub use compile::compile;

/// What is asked, whoever carried it: the same for HTTP/1.1, HTTP/2, `explain` and tests.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The host of `Host` or `:authority`.
    pub host: &'a Host<'a>,
    /// The server name of the TLS handshake, lower case; `None` when there was none.
    pub sni: Option<&'a str>,
    /// The path as it is judged.
    pub path: &'a Path<'a>,
    /// The method.
    pub method: &'a str,
    /// The client: the peer, or the address behind trusted proxies.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub local: IpAddr,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum People {
    /// Everyone who is logged in.
    Users,
    /// Only these users; groups are expanded.
    Some(HashSet<String>),
    /// No log-in is asked for.
    Anyone,
    /// Nobody at all.
    Nobody,
}

/// The compiled access rule of one route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Who.
    pub people: People,
    /// The methods allowed; `None` for all.
    pub methods: Option<Vec<String>>,
    /// The networks allowed; `None` for all that the listener let in.
    pub networks: Option<NetSet>,
    /// What a client certificate does.
    pub certificate: CertificateUse,
    /// `require = "any"`: the right network is enough, and so is the right user.
    pub either: bool,
}

/// What is still to be known before a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the request may pass without a person.
    Nobody,
    /// Who it is.
    Person,
}

/// A request that passed everything up to the question who it is. Only [`Site::before`] makes one.
#[derive(Debug)]
pub struct Stage {
    route: usize,
    need: Need,
    certificate: CertificateUse,
}

/// Proof that a request may be forwarded. Neither `Clone` nor `Default`; only [`Site::after`] makes one.
#[derive(Debug)]
pub struct Permit {
    route: usize,
    certificate: CertificateUse,
    who: Option<Who>,
}

/// Routes and their rules.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Host and path to route.
    pub table: Table,
    /// The rule of each route.
    pub rules: Vec<Rule>,
}

impl Site {
    /// Step 4 alone, for pages of our own: the host is one of ours and agrees with SNI.
    pub fn host(&self, asked: &Asked<'_>) -> Result<(), Refusal> {
        if !self.table.knows(asked.host, asked.local) {
            return Err(Refusal::new(
                Reason::HostUnknown,
                "no route names this host, and it is none of this machine's names",
            ));
        }
        agree(asked.host, asked.sni)
    }

    /// Steps 4 to 6 of contract 5: host, SNI, route, the route's networks and methods.
    pub fn before(&self, asked: &Asked<'_>) -> Result<Stage, Refusal> {
        self.host(asked)?;
        let route = self.table.find(asked.host, asked.local, asked.path)?;
        let rule = self
            .rules
            .get(route)
            .ok_or(Refusal::new(Reason::NoRoute, "the route has no rule"))?;
        let inside = rule.networks.as_ref().map(|set| set.contains(asked.client));
        if inside == Some(false) && !rule.either {
            return Err(Refusal::new(
                Reason::RouteNetworkDenied,
                "the client is in none of the route's networks",
            ));
        }
        if let Some(methods) = &rule.methods
            && !methods.iter().any(|m| m == asked.method)
        {
            return Err(Refusal::new(
                Reason::MethodDenied,
                "the route does not allow this method",
            ));
        }
        let need = match rule.people {
            People::Anyone => Need::Nobody,
            People::Nobody => {
                return Err(Refusal::new(
                    Reason::NotPermitted,
                    "the route is open to nobody",
                ));
            }
            People::Users | People::Some(_) if rule.either && inside == Some(true) => Need::Nobody,
            People::Users | People::Some(_) => Need::Person,
        };
        let certificate = match need {
            Need::Nobody => CertificateUse::Off,
            Need::Person => rule.certificate,
        };
        Ok(Stage {
            route,
            need,
            certificate,
        })
    }

    /// Whether somebody who is no user and in no group, a visitor by a link, may ever come to this path.
    pub fn lets_visitors(&self, host: &Host<'_>, local: IpAddr, path: &Path<'_>) -> bool {
        let found = self.table.find(host, local, path).ok();
        let rule = found.and_then(|route| self.rules.get(route));
        rule.is_some_and(|rule| {
            let needs_none = match rule.certificate {
                CertificateUse::Off | CertificateUse::Accepted => true,
                CertificateUse::Required | CertificateUse::WithLogin => false,
            };
            match rule.people {
                People::Anyone => true,
                People::Users => needs_none || rule.either,
                People::Some(_) => rule.either,
                People::Nobody => false,
            }
        })
    }

    /// Step 9: may this person? `who` is what identification found, and `certified` the user of a client certificate that is
    /// good.
    pub fn after(
        &self,
        stage: Stage,
        who: Option<Who>,
        certified: Option<&str>,
    ) -> Result<Permit, Refusal> {
        proven(stage.certificate, certified, who.as_ref())?;
        let Stage {
            route,
            need,
            certificate,
        } = stage;
        let rule = self
            .rules
            .get(route)
            .ok_or(Refusal::new(Reason::NoRoute, "the route has no rule"))?;
        match (need, &who, &rule.people) {
            (Need::Nobody, _, _) => {}
            (Need::Person, None, _) => {
                return Err(Refusal::new(
                    Reason::CredentialsMissing,
                    "nobody is logged in",
                ));
            }
            (Need::Person, Some(_), People::Users) => {}
            (Need::Person, Some(who), People::Some(users)) if users.contains(&*who.user) => {}
            (Need::Person, Some(_), People::Some(_)) => {
                return Err(Refusal::new(
                    Reason::NotPermitted,
                    "the user is neither named nor in a named group",
                ));
            }
            (Need::Person, Some(_), People::Anyone | People::Nobody) => {
                return Err(Refusal::new(
                    Reason::NotPermitted,
                    "the rule changed under way",
                ));
            }
        }
        Ok(Permit {
            route,
            certificate,
            who,
        })
    }
}

/// SNI and the request's host must name the same (RFC 9110, 7.4). Without SNI there is nothing to disagree with.
fn agree(host: &Host<'_>, sni: Option<&str>) -> Result<(), Refusal> {
    let Some(sni) = sni else { return Ok(()) };
    match host {
        Host::Name(name) if name.as_ref() == sni => Ok(()),
        Host::Name(_) | Host::Ip(_) => Err(Refusal::new(
            Reason::SniMismatch,
            "the host is not the name of the TLS handshake",
        )),
    }
}

/// Whether the certificate is what is `asked` for, by itself and beside the login. A token is no person: beside it the certificate may
/// be any user's.
pub fn proven(
    asked: CertificateUse,
    certified: Option<&str>,
    who: Option<&Who>,
) -> Result<(), Refusal> {
    match asked {
        CertificateUse::Off | CertificateUse::Accepted => return Ok(()),
        CertificateUse::Required | CertificateUse::WithLogin => {}
    }
    let Some(certified) = certified else {
        return Err(Refusal::new(
            Reason::CertificateMissing,
            "the route asks for a client certificate, and there is none",
        ));
    };
    match who {
        Some(who) if who.by != Method::Token && &*who.user != certified => Err(Refusal::new(
            Reason::CertificateRefused,
            "the client certificate and the login are of two users",
        )),
        Some(who) if who.by == Method::Certificate && asked == CertificateUse::WithLogin => {
            Err(Refusal::new(
                Reason::CredentialsMissing,
                "the route asks for a login beside the client certificate",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

impl Stage {
    /// The route that was found.
    pub fn route(&self) -> usize {
        self.route
    }

    /// What is still to be known.
    pub fn need(&self) -> Need {
        self.need
    }

    /// What a client certificate does here; [`CertificateUse::Off`] where nobody is asked for.
    pub fn certificate_use(&self) -> CertificateUse {
        self.certificate
    }
}

impl Permit {
    /// The route to take.
    pub fn route(&self) -> usize {
        self.route
    }

    /// What a client certificate did for it; [`CertificateUse::Off`] where nobody was asked for.
    pub fn certificate_use(&self) -> CertificateUse {
        self.certificate
    }

    /// The person, when one was asked for.
    pub fn who(&self) -> Option<&Who> {
        self.who.as_ref()
    }
}
