//! The SHA-256 of a whole certificate: what `openssl x509 -fingerprint -sha256` and every browser show, so that people can compare
//! it by eye. A pin of the key alone would outlive a renewal, but nothing on a screen could be held against it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// The fingerprint of a certificate, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    /// Colons between the bytes are allowed, as openssl writes them, and `sha256:` may be missing: no other kind has as many digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a fingerprint is `sha256:` and 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` tells them";
        let is_prefix = |(kind, _): &(&str, &str)| kind.eq_ignore_ascii_case("sha256");
        let digits = text
            .split_once(':')
            .filter(is_prefix)
            .map_or(text, |(_, digits)| digits);
        let digits = match digits.contains(':') {
            true if digits.len() == 95 && digits.split(':').all(|byte| byte.len() == 2) => {
                digits.replace(':', "")
            }
            true => return Err(WRONG),
            false => digits.to_owned(),
        };
        if digits.len() != 64 {
            return Err(WRONG);
        }
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_people_find_it_and_in_no_other_way() {
        let own = Fingerprint::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(own.to_string(), format!("sha256:{hex}"));
        let pairs: Vec<&str> = (0..64).step_by(2).map(|at| &hex[at..at + 2]).collect();
        for (text, want) in [
            (own.to_string(), Ok(own)),
            (own.to_string().to_uppercase(), Ok(own)),
            (
                format!("SHA256:{}", pairs.join(":").to_uppercase()),
                Ok(own),
            ),
            (hex.to_owned(), Ok(own)),
            (pairs.join(":").to_uppercase(), Ok(own)),
            (pairs[..31].join(":"), Err(())),
            (format!("{}:{}", &hex[..3], &hex[3..]), Err(())),
            (format!("sha1:{hex}"), Err(())),
            (format!("sha256:{}", &hex[1..]), Err(())),
            (format!("sha256:{}", pairs[..31].join(":")), Err(())),
            (format!("sha256:{}g", &hex[1..]), Err(())),
            ("sha256:".to_owned(), Err(())),
            (String::new(), Err(())),
        ] {
            assert_eq!(text.parse::<Fingerprint>().map_err(drop), want, "{text}");
        }
    }
}
