//! Whose client certificate it is: from a chain that the client holds the key of, to a user of the users file. Closed on doubt:
//! one name of the kind that was chosen, byte by byte that of a user, and for our own authority a serial number that is listed
//! and not revoked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::users::Users;
use crate::config::raw::ClientName;
use crate::tls::{ClientAuthority, ClientFacts, ClientFault};

/// Whose certificates a listener believes.
#[derive(Debug)]
pub struct Clients {
    authority: ClientAuthority,
    name: ClientName,
    /// What `loopgate cert` has made; `None` for an authority that keeps its own lists.
    register: Option<Register>,
}

/// The certificates that `loopgate cert client` made: nothing else of our authority is let in.
#[derive(Clone, Debug, Default)]
pub struct Register(HashMap<String, Listed>);

#[derive(Clone, Debug)]
struct Listed {
    name: String,
    is_revoked: bool,
}

/// A certificate that is good now, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The user.
    pub user: Arc<str>,
    /// When it ends.
    pub until: SystemTime,
}

/// Why a certificate is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is not good.
    Chain(ClientFault),
    /// It has no name of the kind that was chosen, or several.
    Name,
    /// Our authority signed it, but no `loopgate cert client` did.
    NotListed,
    /// `loopgate cert revoke` ended it.
    Revoked,
    /// There is no such user.
    UnknownUser,
}

impl CertificateFault {
    /// For the log.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Chain(fault) => fault.detail(),
            Self::Name => {
                "the client certificate has not exactly one name of the kind that `user` asks for"
            }
            Self::NotListed => {
                "the client certificate is not in the list of those that `loopgate cert client` made"
            }
            Self::Revoked => "the client certificate is revoked",
            Self::UnknownUser => "the user of the client certificate is not in the users file",
        }
    }
}

impl Register {
    /// From serial numbers and the names that they were made for; true for those that are revoked.
    pub fn new(list: impl IntoIterator<Item = (String, String, bool)>) -> Self {
        let entry = |(serial, name, is_revoked)| (serial, Listed { name, is_revoked });
        Self(list.into_iter().map(entry).collect())
    }

    fn check(&self, facts: &ClientFacts, name: &str) -> Result<(), CertificateFault> {
        match self.0.get(&facts.serial) {
            Some(listed) if listed.name != name => Err(CertificateFault::NotListed),
            Some(listed) if listed.is_revoked => Err(CertificateFault::Revoked),
            Some(_) => Ok(()),
            None => Err(CertificateFault::NotListed),
        }
    }
}

impl Clients {
    /// Those whom the authority signs for. With a register only those in it.
    pub fn new(authority: ClientAuthority, name: ClientName, register: Option<Register>) -> Self {
        Self {
            authority,
            name,
            register,
        }
    }

    /// The authority.
    pub fn authority(&self) -> &ClientAuthority {
        &self.authority
    }

    /// Whether it believes the same authorities in the same way; what is revoked may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        self.authority.id() == other.authority.id()
            && self.name == other.name
            && self.register.is_some() == other.register.is_some()
    }

    /// Whose certificate this is, now.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        users: &Users,
        now: SystemTime,
    ) -> Result<Certified, CertificateFault> {
        let facts = self
            .authority
            .verify(chain, now)
            .map_err(CertificateFault::Chain)?;
        let name = one(self.names(&facts)).ok_or(CertificateFault::Name)?;
        if let Some(register) = &self.register {
            register.check(&facts, name)?;
        }
        let user = users.find(name).ok_or(CertificateFault::UnknownUser)?;
        Ok(Certified {
            user: user.name().into(),
            until: facts.until,
        })
    }

    fn names<'f>(&self, facts: &'f ClientFacts) -> &'f [String] {
        match self.name {
            ClientName::CommonName => &facts.common_names,
            ClientName::SanEmail => &facts.emails,
            ClientName::SanDns => &facts.dns,
            ClientName::SanUri => &facts.uris,
        }
    }
}

fn one(names: &[String]) -> Option<&str> {
    match names {
        [name] if !name.is_empty() => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use rcgen::string::Ia5String;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, SanType,
    };

    use super::*;

    struct Authority {
        params: CertificateParams,
        key: KeyPair,
        der: CertificateDer<'static>,
    }

    fn authority(change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { params, key, der }
    }

    impl Authority {
        fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(&mut params);
            let issuer = Issuer::from_params(&self.params, &self.key);
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &issuer).unwrap().der().clone()
        }

        fn clients(&self, name: ClientName) -> Clients {
            let all = [self.der.clone()];
            let authority = ClientAuthority::new(Path::new("ca.pem"), &all, Vec::new()).unwrap();
            Clients::new(authority, name, None)
        }
    }

    fn cn(name: &'static str) -> impl Fn(&mut CertificateParams) {
        move |params| params.distinguished_name.push(DnType::CommonName, name)
    }

    fn users() -> Users {
        let text = b"alice:$5$alicesalt$2r0gqZaXuJIaknOSFxOWyiTHeyQGDC0/5PRv8A272a2\na@b.lan:$5$alicesalt$2r0gqZaXuJIaknOSFxOWyiTHeyQGDC0/5PRv8A272a2\n";
        Users::parse(text).unwrap().users
    }

    fn ia5(text: &str) -> Ia5String {
        Ia5String::try_from(text).unwrap()
    }

    #[test]
    fn a_certificate_is_the_user_that_it_names_in_one_way() {
        let by = authority(|_| {});
        let email = |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::Rfc822Name(ia5("a@b.lan"))];
        };
        let rows: Vec<(
            &str,
            CertificateDer<'static>,
            ClientName,
            Result<&str, CertificateFault>,
        )> = vec![
            (
                "common name",
                by.sign(cn("alice")),
                ClientName::CommonName,
                Ok("alice"),
            ),
            (
                "no common name",
                by.sign(email),
                ClientName::CommonName,
                Err(CertificateFault::Name),
            ),
            ("mail", by.sign(email), ClientName::SanEmail, Ok("a@b.lan")),
            (
                "common name for mail",
                by.sign(cn("alice")),
                ClientName::SanEmail,
                Err(CertificateFault::Name),
            ),
            (
                "mail for dns",
                by.sign(email),
                ClientName::SanDns,
                Err(CertificateFault::Name),
            ),
            (
                "dns",
                by.sign(|p| p.subject_alt_names = vec![SanType::DnsName(ia5("alice"))]),
                ClientName::SanDns,
                Ok("alice"),
            ),
            (
                "uri",
                by.sign(|p| p.subject_alt_names = vec![SanType::URI(ia5("alice"))]),
                ClientName::SanUri,
                Ok("alice"),
            ),
            (
                "two",
                by.sign(|p| {
                    p.subject_alt_names =
                        vec![SanType::DnsName(ia5("alice")), SanType::DnsName(ia5("bob"))];
                }),
                ClientName::SanDns,
                Err(CertificateFault::Name),
            ),
            (
                "another case",
                by.sign(cn("Alice")),
                ClientName::CommonName,
                Err(CertificateFault::UnknownUser),
            ),
            (
                "unknown",
                by.sign(cn("mallory")),
                ClientName::CommonName,
                Err(CertificateFault::UnknownUser),
            ),
        ];
        for (what, own, name, want) in rows {
            let got = by.clients(name).judge(&[own], &users(), SystemTime::now());
            assert_eq!(
                got.as_ref().map(|c| &*c.user).map_err(|f| *f),
                want,
                "{what}"
            );
        }
    }

    #[test]
    fn a_certificate_that_is_not_good_is_nobodys() {
        let now = SystemTime::now();
        let by = authority(|_| {});
        let stranger = authority(|_| {});
        let day = Duration::from_secs(24 * 3600);
        let dated = |from: SystemTime, until: SystemTime| {
            by.sign(move |p| {
                cn("alice")(p);
                (p.not_before, p.not_after) = (from.into(), until.into());
            })
        };
        let confined = authority(|p| {
            p.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("lan".into())],
                excluded_subtrees: Vec::new(),
            });
        });
        let named = |name: &'static str| {
            confined.sign(move |p| {
                cn("alice")(p);
                p.subject_alt_names = vec![SanType::DnsName(ia5(name))];
            })
        };
        let server = by.sign(|p| {
            cn("alice")(p);
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        use ClientFault::*;
        for (what, by, own, want) in [
            ("good", &by, by.sign(cn("alice")), None),
            (
                "expired",
                &by,
                dated(now - 2 * day, now - day),
                Some(Expired),
            ),
            (
                "not yet valid",
                &by,
                dated(now + day, now + 2 * day),
                Some(NotYet),
            ),
            (
                "of another authority",
                &by,
                stranger.sign(cn("alice")),
                Some(UnknownIssuer),
            ),
            ("for servers", &by, server, Some(Purpose)),
            ("inside constraints", &confined, named("a.lan"), None),
            (
                "outside constraints",
                &confined,
                named("a.example"),
                Some(Rule),
            ),
            (
                "no certificate",
                &by,
                CertificateDer::from(vec![1, 2, 3]),
                Some(Malformed),
            ),
        ] {
            let got = by
                .clients(ClientName::CommonName)
                .judge(&[own], &users(), now);
            assert_eq!(got.err(), want.map(CertificateFault::Chain), "{what}");
        }
        let clients = by.clients(ClientName::CommonName);
        assert!(clients.judge(&[], &users(), now).is_err());
    }

    #[test]
    fn of_our_own_authority_only_what_is_listed_comes_in() {
        let now = SystemTime::now();
        let dir = tempfile::tempdir().unwrap();
        let ca = crate::tls::ClientCa::open(&dir.path().join("ca"), now).unwrap();
        let issue = |name| ca.issue(name, Duration::from_secs(60), now).unwrap();
        let (good, gone, other) = (issue("alice"), issue("alice"), issue("alice"));
        let register = Register::new([
            (good.serial.clone(), "alice".into(), false),
            (gone.serial.clone(), "alice".into(), true),
        ]);
        let all = [ca.certificate().clone()];
        let authority = ClientAuthority::new(ca.path(), &all, Vec::new()).unwrap();
        let clients = Clients::new(authority, ClientName::CommonName, Some(register));
        for (what, issued, at, want) in [
            ("good", &good, now, None),
            ("revoked", &gone, now, Some(CertificateFault::Revoked)),
            ("not listed", &other, now, Some(CertificateFault::NotListed)),
            (
                "expired",
                &good,
                now + Duration::from_secs(61),
                Some(CertificateFault::Chain(ClientFault::Expired)),
            ),
        ] {
            let got = clients.judge(&issued.chain, &users(), at);
            assert_eq!(got.err(), want, "{what}");
        }
    }
}
