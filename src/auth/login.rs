//! The login form as it comes back: whether it is one that this browser was given, what is in it, and where it may lead.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::password::LONGEST;
use super::presented::LONGEST_NAME;
use crate::base::id::random;
use crate::base::path::Path;
use crate::base::secret::Secret;

/// The largest body of a login form.
pub const LARGEST_BODY: usize = 8 * 1024;
/// The longest way back; a longer one is dropped, and the front page takes its place.
pub const LONGEST_RETURN: usize = 2048;
/// How long a login page may stay open before its form is refused and shown again.
pub const FORM_LIFE: Duration = Duration::from_secs(2 * 3600);

/// Makes and checks the hidden value of the login form. The key is this process's: after a restart an open form is
/// simply shown again.
pub struct Csrf {
    key: hmac::Key,
    began: Instant,
}

impl Csrf {
    /// With a new key.
    pub fn new(now: Instant) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
        Self { key, began: now }
    }

    /// A value for the cookie that binds a form to one browser ([`super::cookie::CookieName::login`]).
    pub fn browser() -> String {
        BASE64URL_NOPAD.encode(&random::<32>())
    }

    /// The hidden value for the form of this browser.
    pub fn token(&self, browser: &str, now: Instant) -> String {
        let until = self.seconds(now) + FORM_LIFE.as_secs();
        let mut token = until.to_be_bytes().to_vec();
        token.extend_from_slice(self.tag(browser, until).as_ref());
        BASE64URL_NOPAD.encode(&token)
    }

    /// Whether the value was made for this browser and is not too old.
    pub fn check(&self, token: &str, browser: &str, now: Instant) -> bool {
        let mut bytes = [0; 40];
        if token.len() != 54
            || BASE64URL_NOPAD
                .decode_mut(token.as_bytes(), &mut bytes)
                .is_err()
        {
            return false;
        }
        let (until, tag) = bytes.split_at(8);
        let until = until.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let is_ours = hmac::verify(&self.key, &message(browser, until), tag).is_ok();
        is_ours & (until > self.seconds(now)) & !browser.is_empty()
    }

    fn tag(&self, browser: &str, until: u64) -> hmac::Tag {
        hmac::sign(&self.key, &message(browser, until))
    }

    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }
}

fn message(browser: &str, until: u64) -> Vec<u8> {
    [&until.to_be_bytes(), browser.as_bytes()].concat()
}

/// The way back after the login, if it stays on this origin: a path of ours with its query, no page of the gate itself.
pub fn safe_return(to: &str) -> Option<&str> {
    let path = to.split('?').next().unwrap_or_default();
    // Browsers read `//host` and `/\host` as another origin.
    let leaves = path.starts_with("//") || to.contains('\\');
    let is_plain = to.bytes().all(|c| matches!(c, b'!'..=b'~')) && !to.contains('#');
    if leaves || !is_plain || to.len() > LONGEST_RETURN {
        return None;
    }
    let read = Path::parse(path).ok()?;
    let decoded = String::from_utf8_lossy(&read.decoded);
    let is_own =
        read.is_under("/.loopgate") || (read.doubt.is_some() && decoded.contains(".loopgate"));
    (!is_own).then_some(to)
}

/// What a person typed, and what the page added.
#[derive(Debug)]
pub struct Form {
    /// The user name as typed.
    pub user: String,
    /// The password as typed.
    pub password: Secret<Vec<u8>>,
    /// Where to go afterwards; see [`safe_return`].
    pub to: String,
    /// See [`Csrf::check`].
    pub csrf: String,
}

/// Reads an `application/x-www-form-urlencoded` body. Fields that are not ours are passed over; ours twice, bad escapes,
/// control characters and text that is not UTF-8 are refused.
pub fn form(body: &[u8]) -> Result<Form, &'static str> {
    if body.len() > LARGEST_BODY {
        return Err("the login form is too large");
    }
    let mut fields: [Option<Zeroizing<Vec<u8>>>; 4] = [const { None }; 4];
    for pair in body.split(|c| *c == b'&') {
        let at = pair.iter().position(|c| *c == b'=').unwrap_or(pair.len());
        let slot = match &pair[..at] {
            b"user" => 0,
            b"password" => 1,
            b"to" => 2,
            b"csrf" => 3,
            _ => continue,
        };
        let value = decoded(pair.get(at + 1..).unwrap_or_default())?;
        if fields[slot].replace(value).is_some() {
            return Err("the login form has a field twice");
        }
    }
    let [user, password, to, csrf] = fields;
    let user = text(user)?;
    let mut password = password.unwrap_or_default();
    let password = Secret::new(std::mem::take(&mut *password));
    if std::str::from_utf8(password.expose()).is_err() {
        return Err("the login form is not UTF-8");
    }
    if user.len() > LONGEST_NAME || password.expose().len() > LONGEST {
        return Err("the user name or the password is too long");
    }
    Ok(Form {
        user,
        password,
        to: text(to)?,
        csrf: text(csrf)?,
    })
}

fn text(field: Option<Zeroizing<Vec<u8>>>) -> Result<String, &'static str> {
    let bytes = field.unwrap_or_default().to_vec();
    String::from_utf8(bytes).map_err(|_| "the login form is not UTF-8")
}

/// Undoes the encoding of one value: `+` is a space, `%XX` a byte.
fn decoded(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let digit = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16));
    let mut out = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut i = 0;
    while i < value.len() {
        let byte = match value[i] {
            b'+' => b' ',
            b'%' => {
                let pair = digit(value.get(i + 1)).zip(digit(value.get(i + 2)));
                let (high, low) = pair.ok_or("the login form has a broken escape")?;
                i += 2;
                (high << 4 | low) as u8
            }
            c => c,
        };
        if byte.is_ascii_control() {
            return Err("the login form has a control character in it");
        }
        out.push(byte);
        i += 1;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_counts_for_the_browser_it_was_given_to_and_for_its_time() {
        let now = Instant::now();
        let (csrf, browser) = (Csrf::new(now), Csrf::browser());
        let token = csrf.token(&browser, now);
        assert!(csrf.check(&token, &browser, now));
        assert!(csrf.check(&token, &browser, now + FORM_LIFE - Duration::from_secs(1)));
        assert!(!csrf.check(&token, &browser, now + FORM_LIFE));
        assert!(!csrf.check(&token, &Csrf::browser(), now));
        assert!(!csrf.check(&token, "", now) && !csrf.check(&csrf.token("", now), "", now));
        assert!(
            !Csrf::new(now).check(&token, &browser, now),
            "another process"
        );
        for wrong in [
            "",
            "x",
            &token[1..],
            &token.replace(|c: char| c.is_ascii_digit(), "x")[..53],
        ] {
            assert!(!csrf.check(wrong, &browser, now));
        }
    }

    #[test]
    fn a_way_back_stays_on_this_origin() {
        let long = format!("/{}", "x".repeat(LONGEST_RETURN));
        for (to, safe) in [
            ("/", true),
            ("/a/b?x=1&to=//evil.example", true),
            ("/a%20b", true),
            ("/a//b", true),
            ("/lab;v=1/tree", true),
            ("", false),
            ("a", false),
            ("//evil.example", false),
            ("///evil.example", false),
            ("/\\evil.example", false),
            ("\\/evil.example", false),
            ("/a\\..\\evil", false),
            ("https://evil.example/", false),
            ("javascript:alert(1)", false),
            ("/\t/evil.example", false),
            ("/a\r\nSet-Cookie: x=1", false),
            ("/a b", false),
            ("/ü", false),
            ("/a#b", false),
            ("/.loopgate/logout", false),
            ("/.loopgate", false),
            ("/%2eloopgate/login", false),
            ("/x/../.loopgate/login", false),
            ("/.loopgates", true),
            (&long, false),
        ] {
            assert_eq!(safe_return(to).is_some(), safe, "{to:?}");
        }
    }

    #[test]
    fn reads_a_form() {
        let got =
            form(b"csrf=abc&user=j%C3%BCrgen&to=%2Fa%3Fb%3D1&password=p%26+%2b%C3%A9&other=%zz")
                .unwrap();
        assert_eq!(
            (got.user.as_str(), got.to.as_str(), got.csrf.as_str()),
            ("jürgen", "/a?b=1", "abc")
        );
        assert_eq!(got.password.expose(), "p& +é".as_bytes());
        assert!(!format!("{got:?}").contains("p&"));
        let empty = form(b"").unwrap();
        assert!(empty.user.is_empty() && empty.password.expose().is_empty());
    }

    #[test]
    fn refuses_a_form_that_two_readers_could_take_differently() {
        let large = [b"user=".to_vec(), vec![b'x'; LARGEST_BODY]].concat();
        let name = [b"user=".to_vec(), vec![b'x'; LONGEST_NAME + 1]].concat();
        for (body, want) in [
            (&b"user=a&user=b"[..], "twice"),
            (b"user=%", "escape"),
            (b"user=%4", "escape"),
            (b"user=%+1", "escape"),
            (b"user=a%00", "control"),
            (b"password=a%0Ab", "control"),
            (b"password=a\nb", "control"),
            (b"user=%ff", "UTF-8"),
            (b"password=%ff", "UTF-8"),
            (&large, "too large"),
            (&name, "too long"),
        ] {
            let error = form(body).unwrap_err();
            assert!(error.contains(want), "{}: {error}", body.escape_ascii());
        }
    }
}
