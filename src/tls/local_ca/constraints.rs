//! What the local authority may sign for, and nothing else: written into its certificates, where every client holds it to
//! them, and asked here before signing, because a leaf outside would be made and then believed by nobody.

use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

use super::super::Subject;
use crate::base::cidr;

/// Names that no public DNS will ever hand out (RFC 6761, 6762, 8375; `internal` by ICANN; `lan` by custom).
const SUFFIXES: [&str; 6] = ["localhost", "local", "lan", "home.arpa", "internal", "test"];

/// Names of this machine that are taken in; it has two or three.
const MOST_NAMES: usize = 16;

/// Top-level domains with three letters or more. A host that is called `dev` would otherwise give its authority all of `.dev`.
const TOP_LEVEL: &str = include_str!("public_suffixes.txt");

/// The permitted name suffixes and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// A name is permitted when it is one of these or ends with one behind a dot.
    pub names: Vec<String>,
    /// Addresses are permitted inside these.
    pub networks: Vec<IpNet>,
}

impl Constraints {
    /// The private suffixes and ranges, and the names of this machine that are not a public suffix.
    pub(super) fn with_hosts(hosts: &[String]) -> Self {
        let mut constraints = Self {
            names: SUFFIXES.map(str::to_owned).to_vec(),
            networks: [cidr::loopback(), cidr::private()].concat(),
        };
        for host in hosts.iter().take(MOST_NAMES) {
            match Subject::parse(host) {
                Ok(subject @ Subject::Name(_)) if constraints.permits(&subject) => {}
                Ok(Subject::Name(name)) if is_own(&name) => constraints.names.push(name),
                Ok(_) | Err(_) => {}
            }
        }
        constraints
    }

    /// Whether a certificate for the subject is inside.
    pub fn permits(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Name(name) => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                self.names.iter().any(|suffix| {
                    name.strip_suffix(suffix.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                })
            }
            Subject::Ip(address) => self.networks.iter().any(|net| net.contains(address)),
        }
    }

    pub(super) fn extension(&self) -> NameConstraints {
        let names = self.names.iter().cloned().map(GeneralSubtree::DnsName);
        let networks = self.networks.iter().map(|net| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                net.network(),
                net.prefix_len(),
            ))
        });
        NameConstraints {
            permitted_subtrees: names.chain(networks).collect(),
            excluded_subtrees: Vec::new(),
        }
    }
}

/// A name that can only mean this machine: with a dot, or a single label that is no top-level domain. Two letters are a country,
/// now or later; `xn--` is a domain in another script.
fn is_own(name: &str) -> bool {
    if name.starts_with("*.") {
        return false;
    }
    let public = name.len() < 3
        || name.starts_with("xn--")
        || TOP_LEVEL.split_ascii_whitespace().any(|top| top == name);
    name.contains('.') || !public
}

/// The suffix under which a wildcard is believed by nobody: a single label, or `home.arpa` (Chromium); `None` when it is.
pub fn wildcard_under(subject: &Subject) -> Option<&str> {
    let Subject::Name(name) = subject else {
        return None;
    };
    let suffix = name.strip_prefix("*.")?;
    (!suffix.contains('.') || suffix == "home.arpa").then_some(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_what_is_private_and_nothing_else() {
        let hosts = [
            "mybox",
            "DEV",
            "de",
            "box",
            "box.example.com",
            "10.0.0.1",
            "a b",
            "x.lan",
        ];
        let constraints = Constraints::with_hosts(&hosts.map(str::to_owned));
        assert_eq!(
            constraints.names[SUFFIXES.len()..],
            ["mybox", "box.example.com"]
        );
        for (text, want) in [
            ("localhost", true),
            ("app.localhost", true),
            ("home.arpa", true),
            ("a.b.home.arpa", true),
            ("*.app.lan", true),
            ("mybox", true),
            ("box", false),
            ("app.box.example.com", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.0.1", true),
            ("169.254.1.1", true),
            ("fe80::1", true),
            ("fd00::1", true),
            ("::ffff:10.0.0.1", true),
            ("evilhome.arpa", false),
            ("arpa", false),
            ("www.example.com", false),
            ("example.com", false),
            ("evilmybox", false),
            ("dev", false),
            ("x.dev", false),
            ("x.de", false),
            ("lan.example.com", false),
            ("8.8.8.8", false),
            ("172.32.0.1", false),
            ("::2", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                constraints.permits(&Subject::parse(text).unwrap()),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn wildcard_needs_a_name_of_its_own() {
        for (text, want) in [
            ("*.lan", Some("lan")),
            ("*.home.arpa", Some("home.arpa")),
            ("*.mybox", Some("mybox")),
            ("*.box.lan", None),
            ("*.x.home.arpa", None),
            ("lan", None),
        ] {
            assert_eq!(
                wildcard_under(&Subject::parse(text).unwrap()),
                want,
                "{text}"
            );
        }
    }
}
