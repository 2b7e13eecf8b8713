//! What stands in an `Authorization` header: Basic (RFC 7617), Bearer (RFC 6750), or something that is not ours.
//! Strict: what two readers could take differently is refused.

use data_encoding::BASE64;
use zeroize::{Zeroize, Zeroizing};

use super::password::LONGEST;
use crate::base::secret::Secret;

/// The longest header value that is looked at.
pub const LONGEST_VALUE: usize = 4096;
/// The longest user name, in bytes; longer ones cannot be in a users file either.
pub const LONGEST_NAME: usize = 128;

/// What a client presented.
#[derive(Debug)]
pub enum Presented<'a> {
    /// A user and a password.
    Basic(Basic),
    /// A token, as it came.
    Bearer(&'a str),
    /// A scheme that is not ours; the application's, perhaps.
    Foreign,
}

/// A user and a password in one allocation that is wiped.
pub struct Basic {
    text: Secret<String>,
    colon: usize,
}

impl Basic {
    /// The user name.
    pub fn user(&self) -> &str {
        &self.text.expose()[..self.colon]
    }

    /// The password.
    pub fn password(&self) -> &[u8] {
        &self.text.expose().as_bytes()[self.colon + 1..]
    }

    /// The password as a value that outlives the request.
    pub fn password_owned(&self) -> Secret<Vec<u8>> {
        Secret::new(self.password().to_vec())
    }
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Basic({:?}, [secret])", self.user())
    }
}

/// Reads the value of the one `Authorization` header; that there is only one is the caller's to see to.
pub fn authorization(value: &[u8]) -> Result<Presented<'_>, &'static str> {
    if value.is_empty() {
        return Err("the Authorization header is empty");
    }
    if scheme(value, b"basic").is_some() {
        return basic(value).map(Presented::Basic);
    }
    if let Some(token) = scheme(value, b"bearer") {
        return bearer(token).map(Presented::Bearer);
    }
    Ok(Presented::Foreign)
}

/// Reads Basic credentials. Refused: other schemes, base64 that is not canonical, text that is not UTF-8, control
/// characters, no colon, an empty user or password, and more than [`LONGEST_VALUE`] bytes.
pub fn basic(value: &[u8]) -> Result<Basic, &'static str> {
    if value.len() > LONGEST_VALUE {
        return Err("the Authorization header is too long");
    }
    let encoded = scheme(value, b"basic").ok_or("the scheme is not Basic")?;
    let mut bytes = Zeroizing::new(vec![0; encoded.len() / 4 * 3]);
    if encoded.len() % 4 != 0 {
        return Err("the Basic credentials are not canonical base64");
    }
    let length = BASE64
        .decode_mut(encoded, &mut bytes)
        .map_err(|_| "the Basic credentials are not canonical base64")?;
    bytes.truncate(length);
    if bytes.iter().any(u8::is_ascii_control) {
        return Err("the Basic credentials have a control character in them");
    }
    let colon = bytes.iter().position(|c| *c == b':');
    let colon = colon.ok_or("the Basic credentials have no colon")?;
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        error.into_bytes().zeroize();
        "the Basic credentials are not UTF-8"
    })?;
    let basic = Basic {
        text: Secret::new(text),
        colon,
    };
    match (basic.user().len(), basic.password().len()) {
        (0, _) => Err("the Basic credentials have no user"),
        (_, 0) => Err("the Basic credentials have no password"),
        (user, _) if user > LONGEST_NAME => Err("the user name is too long"),
        (_, password) if password > LONGEST => Err("the password is too long"),
        (_, _) => Ok(basic),
    }
}

/// RFC 6750, 2.1: `b64token`, and nothing after it.
fn bearer(token: &[u8]) -> Result<&str, &'static str> {
    if token.is_empty() || token.len() > LONGEST_VALUE {
        return Err("the Bearer token is empty or too long");
    }
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"-._~+/=".contains(c);
    std::str::from_utf8(token)
        .ok()
        .filter(|token| token.as_bytes().iter().all(allowed))
        .ok_or("the Bearer token has a foreign character in it")
}

/// What follows the scheme, if it is this one: schemes are case-insensitive, spaces follow (RFC 9110, 11.4).
fn scheme<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = value.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name) {
        return None;
    }
    let spaces = tail.iter().take_while(|c| **c == b' ').count();
    (spaces > 0 || tail.is_empty()).then(|| &tail[spaces..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(credentials: &[u8]) -> Vec<u8> {
        format!("Basic {}", BASE64.encode(credentials)).into_bytes()
    }

    #[test]
    fn reads_user_and_password() {
        for (value, user, password) in [
            (&b"Basic YWxpY2U6c2VzYW1l"[..], "alice", "sesame"),
            (b"basic YWxpY2U6c2VzYW1l", "alice", "sesame"),
            (b"BASIC   YWxpY2U6c2VzYW1l", "alice", "sesame"),
            (&encoded(b"a:b:c"), "a", "b:c"),
            (
                &encoded("jürgen:pässwörd €".as_bytes()),
                "jürgen",
                "pässwörd €",
            ),
        ] {
            let basic = basic(value).unwrap();
            assert_eq!(
                (basic.user(), basic.password()),
                (user, password.as_bytes())
            );
            assert!(!format!("{basic:?}").contains(password));
        }
    }

    #[test]
    fn refuses_what_two_readers_could_take_differently() {
        let long = encoded(&[b"a:".to_vec(), vec![b'x'; LONGEST + 1]].concat());
        let giant = encoded(&[b"a:".to_vec(), vec![b'x'; LONGEST_VALUE]].concat());
        let name = encoded(&[vec![b'x'; LONGEST_NAME + 1], b":a".to_vec()].concat());
        for (value, want) in [
            (&b"Basic"[..], "no colon"),
            (b"Basic ", "no colon"),
            (b"BasicYWxpY2U6c2VjcmV0", "scheme"),
            (b"Basic\tYWxpY2U6c2VjcmV0", "scheme"),
            (b"Basic YWxpY2U6c2VjcmV0 ", "base64"),
            (b"Basic YWxpY2U6c2Vj cmV0", "base64"),
            (b"Basic YWxpY2U6c2VjcmV0,YQ==", "base64"),
            (b"Basic YTpi\n", "base64"),
            (b"Basic YTo_", "base64"),
            (b"Basic YTpiYg", "base64"),
            (b"Basic YTpiYh==", "base64"),
            (b"Basic YTpiYg=", "base64"),
            (&encoded(b"alice"), "no colon"),
            (&encoded(b":secret"), "no user"),
            (&encoded(b"alice:"), "no password"),
            (&encoded(b"alice:a\0b"), "control"),
            (&encoded(b"al\nice:ab"), "control"),
            (&encoded(b"alice:ab\x7f"), "control"),
            (&encoded(b"alice:\xff\xfe"), "UTF-8"),
            (&encoded(b"alice:\xc0\xaf"), "UTF-8"),
            (&long, "password is too long"),
            (&giant, "header is too long"),
            (&name, "user name is too long"),
        ] {
            let error = basic(value).unwrap_err();
            assert!(error.contains(want), "{}: {error}", value.escape_ascii());
        }
    }

    #[test]
    fn tells_our_schemes_from_foreign_ones() {
        for (value, want) in [
            (&b"Basic YTpi"[..], Some("basic")),
            (b"Bearer lgt_abc", Some("bearer")),
            (b"bearer abc==", Some("bearer")),
            (b"Digest username=\"x\"", Some("foreign")),
            (b"Negotiate YII", Some("foreign")),
            (b"Bearerx", Some("foreign")),
            (b"Bearer", None),
            (b"Bearer a b", None),
            (b"Bearer a,b", None),
            (b"", None),
        ] {
            let got = authorization(value).ok().map(|presented| match presented {
                Presented::Basic(_) => "basic",
                Presented::Bearer(_) => "bearer",
                Presented::Foreign => "foreign",
            });
            assert_eq!(got, want, "{}", value.escape_ascii());
        }
    }
}
