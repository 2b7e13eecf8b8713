//! Our cookie among those of the application: found strictly, set, and taken out without touching another byte.

use super::session_id::ID_LENGTH;

/// The name of our cookie. `__Host-` makes browsers take it from this host alone and over TLS alone; the instance tells
/// two gates on one host apart, because cookies ignore ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(String);

/// Every cookie of every gate begins with this.
const PREFIX: &str = "__Host-loopgate-";

/// A `Cookie` header value without cookies of gates.
#[derive(Debug, PartialEq, Eq)]
pub enum Stripped {
    /// None was in it: it goes on as it came.
    Untouched,
    /// Nothing else was in it: the header field goes.
    Gone,
    /// The rest.
    Rest(Vec<u8>),
}

impl CookieName {
    /// The session cookie of an instance, whose name is letters, digits, `-` and `_` (other characters are left out).
    pub fn session(instance: &str) -> Self {
        Self::named(instance, "")
    }

    /// The cookie of a browser that has not logged in yet: the login form is bound to it.
    pub fn login(instance: &str) -> Self {
        Self::named(instance, ".login")
    }

    fn named(instance: &str, suffix: &str) -> Self {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let instance: String = instance.chars().filter(allowed).take(64).collect();
        Self(format!("{PREFIX}{instance}{suffix}"))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of our cookie in the `Cookie` header fields of a request, of which HTTP/2 may send several.
    /// `Err` when it is there twice: one of the two is somebody else's doing. A value that cannot be an id of ours
    /// counts as absent.
    pub fn find<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<&'a str>, &'static str> {
        let mut found = None;
        for value in values {
            for part in value.split(|c| *c == b';') {
                let Some(id) = self.of(part) else { continue };
                if found.is_some_and(|other| other != id) {
                    return Err("the session cookie is there twice");
                }
                found = Some(id);
            }
        }
        Ok(found.and_then(as_id))
    }

    /// The `Set-Cookie` value that stores an id for so many seconds.
    pub fn set(&self, id: &str, seconds: u64) -> String {
        format!(
            "{}={id}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax",
            self.0
        )
    }

    /// The `Set-Cookie` value that makes the browser forget it.
    pub fn clear(&self) -> String {
        self.set("", 0)
    }

    /// The value, if this part of a header is our cookie (RFC 6265, 5.4: `name=value`, names differ by case).
    fn of<'a>(&self, part: &'a [u8]) -> Option<&'a [u8]> {
        let rest = part.trim_ascii_start().strip_prefix(self.0.as_bytes())?;
        Some(rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
    }
}

/// One header value without the cookies of gates: ours, the one of the login form, and those of other gates on this host,
/// because browsers send cookies to every port. Every other byte stays. What is left is joined as a browser would have
/// written it.
pub fn strip(value: &[u8]) -> Stripped {
    if !value.split(|c| *c == b';').any(is_of_a_gate) {
        return Stripped::Untouched;
    }
    let mut rest = Vec::with_capacity(value.len());
    let mut is_first = true;
    for part in value
        .split(|c| *c == b';')
        .filter(|part| !is_of_a_gate(part))
    {
        if is_first {
            rest.extend_from_slice(part.trim_ascii_start());
        } else {
            rest.push(b';');
            rest.extend_from_slice(part);
        }
        is_first = false;
    }
    if rest.trim_ascii().is_empty() {
        return Stripped::Gone;
    }
    Stripped::Rest(rest)
}

/// Whether a `Set-Cookie` value of the application is about a cookie of a gate; such a one never reaches the client.
pub fn is_about_a_gate(set_cookie: &[u8]) -> bool {
    // A cookie without a name is sent as its bare value.
    let start = set_cookie
        .iter()
        .position(|c| !matches!(c, b'=' | b' ' | b'\t'));
    is_of_a_gate(&set_cookie[start.unwrap_or(0)..])
}

/// Whether this part of a header is a cookie of a gate. Some readers take names in any case (RFC 6265bis, 4.1.3.2, of prefixes).
fn is_of_a_gate(part: &[u8]) -> bool {
    // Readers of the old kind (RFC 2109) begin a new cookie at a comma.
    part.split(|c| *c == b',').any(|name| {
        let head = name.trim_ascii_start().get(..PREFIX.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(PREFIX.as_bytes()))
    })
}

fn as_id(value: &[u8]) -> Option<&str> {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if value.len() != ID_LENGTH || !value.iter().all(allowed) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE";

    fn filled(text: &str) -> Vec<u8> {
        text.replace("OURS", "__Host-loopgate-a1")
            .replace("ID", ID)
            .into_bytes()
    }

    #[test]
    fn finds_our_cookie_and_no_other() {
        let name = CookieName::session("a1");
        let other = ID.replace('a', "b");
        for (headers, want) in [
            (vec!["OURS=ID"], Ok(Some(ID))),
            (vec!["a=1; OURS=ID; b=2"], Ok(Some(ID))),
            (vec!["a=1", "OURS=ID"], Ok(Some(ID))),
            (vec!["a=1;OURS=ID"], Ok(Some(ID))),
            (vec!["OURS=ID; OURS=ID"], Ok(Some(ID))),
            (vec!["a=OURS=ID"], Ok(None)),
            (vec!["xOURS=ID"], Ok(None)),
            (vec!["OURSx=ID"], Ok(None)),
            (vec!["OURS.login=ID"], Ok(None)),
            (vec!["__host-loopgate-a1=ID"], Ok(None)),
            (vec!["OURS"], Ok(None)),
            (vec!["OURS="], Ok(None)),
            (vec!["OURS=IDx"], Ok(None)),
            (vec!["OURS=\"ID\""], Ok(None)),
            (vec!["OURS=ID", &format!("OURS={other}")], Err(())),
            (vec!["OURS=ID; OURS="], Err(())),
            (vec![], Ok(None)),
        ] {
            let values: Vec<Vec<u8>> = headers.iter().map(|text| filled(text)).collect();
            let got = name.find(values.iter().map(Vec::as_slice)).map_err(|_| ());
            assert_eq!(got, want, "{headers:?}");
        }
    }

    #[test]
    fn takes_ours_out_and_leaves_the_rest_as_it_was() {
        let rest = |text: &str| Stripped::Rest(text.as_bytes().to_vec());
        for (value, want) in [
            ("a=1; b=2", Stripped::Untouched),
            ("a=OURS=ID", Stripped::Untouched),
            ("OURS.login=x", Stripped::Gone),
            ("a=1; OURS.login=x; OURS=ID", rest("a=1")),
            ("__Host-loopgate-9443=ID; a=1", rest("a=1")),
            ("a=1; __HOST-Loopgate-x = 1", rest("a=1")),
            ("__Host-loopgate", Stripped::Untouched),
            ("__Host-other=1", Stripped::Untouched),
            ("OURS=ID", Stripped::Gone),
            ("OURS=ID; ", Stripped::Gone),
            ("OURS=x; OURS=y", Stripped::Gone),
            ("OURS=ID; a=1", rest("a=1")),
            ("a=1; OURS=ID", rest("a=1")),
            (
                "a=1; OURS=ID; b=\"2 , 3\";c;;  d = 4",
                rest("a=1; b=\"2 , 3\";c;;  d = 4"),
            ),
            ("a=1;OURS=ID;b=2", rest("a=1;b=2")),
            ("a=1, OURS=ID", Stripped::Gone),
            ("b=2; a=1 ,__Host-loopgate-x=1", rest("b=2")),
            ("a={\"b\":1,\"c\":2}", Stripped::Untouched),
            ("a=ü; OURS = ID", rest("a=ü")),
        ] {
            assert_eq!(strip(&filled(value)), want, "{value}");
        }
    }

    #[test]
    fn sets_and_clears_with_every_guard() {
        let name = CookieName::session("a1");
        let set = name.set(ID, 60);
        assert_eq!(
            set,
            format!("__Host-loopgate-a1={ID}; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax")
        );
        assert!(name.clear().contains("=; Path=/; Max-Age=0;") && !set.contains("Domain"));
        assert_eq!(
            CookieName::session("a; Domain=x\r\n").as_str(),
            "__Host-loopgate-aDomainx"
        );
        for (value, ours) in [
            ("__Host-loopgate-a1=x; Path=/", true),
            (" __host-LOOPGATE-a1 =x", true),
            ("__Host-loopgate-a2=x", true),
            ("__Host-loopgate-a1.login=; Max-Age=0", true),
            ("=__Host-loopgate-a1=x", true),
            ("", false),
            ("__Host-loopgate", false),
            ("x__Host-loopgate-a1=x", false),
            ("a=__Host-loopgate-a1=x", false),
        ] {
            assert_eq!(is_about_a_gate(value.as_bytes()), ours, "{value}");
        }
    }
}
