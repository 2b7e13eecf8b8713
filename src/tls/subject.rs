//! What one certificate speaks for.

use std::fmt;
use std::net::IpAddr;

use crate::base::host::Host;

/// A name (lower case, perhaps with a first label `*`) or an address. A leaf has exactly one: HTTP/2 reuses a connection for
/// every name of its certificate, and two names on one certificate would be one connection to us.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A DNS name.
    Name(String),
    /// An address; IPv4-mapped ones are folded by [`Subject::from`].
    Ip(IpAddr),
}

impl Subject {
    /// Reads a name, a wildcard or an address (IPv6 with or without brackets) as a person or a certificate writes it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let (star, rest) = match text.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", text),
        };
        match Host::parse(rest)? {
            Host::Name(name) => Ok(Self::Name(format!("{star}{name}"))),
            Host::Ip(_) if !star.is_empty() => Err("an address has no wildcard"),
            Host::Ip(address) => Ok(Self::Ip(address)),
        }
    }

    /// Whether a certificate for this subject speaks for `asked`: the same, or one more label in place of `*`.
    pub fn speaks_for(&self, asked: &Self) -> bool {
        match (self, asked) {
            (Self::Name(own), Self::Name(asked)) => match own.strip_prefix('*') {
                Some(suffix) => {
                    own == asked
                        || asked
                            .strip_suffix(suffix)
                            .is_some_and(|label| !label.is_empty() && !label.contains(['.', '*']))
                }
                None => own == asked,
            },
            (Self::Ip(own), Self::Ip(asked)) => own == asked,
            (Self::Name(_), Self::Ip(_)) | (Self::Ip(_), Self::Name(_)) => false,
        }
    }
}

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_for_itself_and_one_label_under_its_star() {
        for (own, asked, want) in [
            ("app.lan", "APP.lan.", true),
            ("app.lan", "x.app.lan", false),
            ("*.app.lan", "x.app.lan", true),
            ("*.app.lan", "x.y.app.lan", false),
            ("*.app.lan", "app.lan", false),
            ("*.app.lan", "xapp.lan", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("::1", "[::1]", true),
            ("app.lan", "10.0.0.1", false),
        ] {
            let (own, asked) = (Subject::parse(own), Subject::parse(asked));
            assert_eq!(own.unwrap().speaks_for(&asked.unwrap()), want);
        }
        for wrong in ["", "*.", "*", "a.*.lan", "*.10.0.0.1", "a b"] {
            assert!(Subject::parse(wrong).is_err(), "{wrong}");
        }
    }
}
