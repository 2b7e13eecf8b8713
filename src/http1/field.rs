//! The fields that a gate must know by name, whatever their spelling.

/// What a field name means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of that name")]
pub enum Name {
    Host,
    Connection,
    ContentLength,
    ContentType,
    TransferEncoding,
    Upgrade,
    /// `TE`: only `trailers` is passed on.
    Te,
    Expect,
    Cookie,
    SetCookie,
    Authorization,
    LoopgateToken,
    Accept,
    UserAgent,
    Origin,
    Referer,
    Destination,
    Location,
    ContentLocation,
    Refresh,
    SecFetchSite,
    SecFetchMode,
    SecWebsocketKey,
    SecWebsocketAccept,
    XRequestId,
    /// Hop-by-hop and removed: Keep-Alive, Proxy-Connection, Proxy-Authorization, Proxy-Authenticate, HTTP2-Settings.
    Hop,
    /// What only a proxy may say: Forwarded, X-Forwarded-*, X-Real-IP and the like, X-Loopgate-*, Proxy.
    Claim,
    /// Fields by which some frameworks take another path: X-Original-URL, Script-Name and the like.
    PathOverride,
    /// Fields by which some frameworks take another method: X-HTTP-Method-Override and the like.
    MethodOverride,
    Other,
}

/// Longest name that the table knows.
const LONGEST: usize = 24;

/// What the name means, and whether it is spelled otherwise than the table has it: an underscore stood for a hyphen, or another
/// byte did. CGI makes a variable of a name, and every byte that is neither letter nor digit becomes an underscore there
/// (lighttpd, for one): `X.Loopgate.Groups` would be read as ours.
pub fn classify(name: &[u8]) -> (Name, bool) {
    let mut lower = [0u8; LONGEST];
    let odd = |c: &u8| !c.is_ascii_alphanumeric() && *c != b'-';
    let meaning = match lower.get_mut(..name.len()) {
        Some(lower) => {
            for (to, from) in lower.iter_mut().zip(name) {
                *to = folded(*from);
            }
            known(lower)
        }
        None => prefixed(name),
    };
    let is_odd = match meaning {
        Name::Other => name.contains(&b'_'),
        _ => name.iter().any(odd),
    };
    (meaning, is_odd)
}

/// The byte as the loosest reader takes it.
fn folded(byte: u8) -> u8 {
    match byte {
        c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
        _ => b'-',
    }
}

fn known(name: &[u8]) -> Name {
    match name {
        b"host" => Name::Host,
        b"connection" => Name::Connection,
        b"content-length" => Name::ContentLength,
        b"content-type" => Name::ContentType,
        b"transfer-encoding" => Name::TransferEncoding,
        b"upgrade" => Name::Upgrade,
        b"te" => Name::Te,
        b"expect" => Name::Expect,
        b"cookie" => Name::Cookie,
        b"set-cookie" => Name::SetCookie,
        b"authorization" => Name::Authorization,
        b"loopgate-token" => Name::LoopgateToken,
        b"accept" => Name::Accept,
        b"user-agent" => Name::UserAgent,
        b"origin" => Name::Origin,
        b"referer" => Name::Referer,
        b"destination" => Name::Destination,
        b"location" => Name::Location,
        b"content-location" => Name::ContentLocation,
        b"refresh" => Name::Refresh,
        b"sec-fetch-site" => Name::SecFetchSite,
        b"sec-fetch-mode" => Name::SecFetchMode,
        b"sec-websocket-key" => Name::SecWebsocketKey,
        b"sec-websocket-accept" => Name::SecWebsocketAccept,
        b"x-request-id" => Name::XRequestId,
        b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authorization"
        | b"proxy-authenticate"
        | b"http2-settings" => Name::Hop,
        b"forwarded"
        | b"proxy"
        | b"x-real-ip"
        | b"x-client-ip"
        | b"client-ip"
        | b"true-client-ip"
        | b"cf-connecting-ip"
        | b"x-cluster-client-ip"
        | b"x-original-forwarded-for"
        | b"x-original-host"
        | b"x-host"
        | b"x-scheme"
        | b"x-url-scheme"
        | b"front-end-https"
        | b"x-http-host-override"
        | b"x-remote-user"
        | b"remote-user" => Name::Claim,
        b"x-original-url" | b"x-rewrite-url" | b"x-original-uri" | b"script-name"
        | b"path-info" | b"x-script-name" | b"x-path-info" => Name::PathOverride,
        b"x-http-method-override" | b"x-http-method" | b"x-method-override" => Name::MethodOverride,
        _ => prefixed(name),
    }
}

/// Families of fields by which gates tell applications who somebody is, where from and by what protocol. An application that
/// trusts its neighbour on loopback would believe a client's.
const FAMILIES: [&[u8]; 17] = [
    b"x-forwarded",
    b"x-loopgate-",
    b"loopgate-",
    b"x-remote-",
    b"remote-",
    b"x-auth-request-",
    b"x-authenticated-",
    b"x-webauth-",
    b"x-authentik-",
    b"x-ssl-",
    b"ssl-client-",
    b"x-client-cert",
    b"tailscale-",
    b"cf-access-",
    b"x-ms-client-principal",
    b"x-goog-authenticated-",
    b"x-goog-iap-",
];

/// The families, in every spelling.
fn prefixed(name: &[u8]) -> Name {
    let begins = |prefix: &&[u8]| {
        name.len() >= prefix.len() && name.iter().zip(*prefix).all(|(c, p)| folded(*c) == *p)
    };
    // Most names begin with none of these letters: one look.
    let first = name.first().map(u8::to_ascii_lowercase);
    let may = matches!(first, Some(b'x' | b'l' | b'r' | b's' | b't' | b'c'));
    match may && FAMILIES.iter().any(begins) {
        true => Name::Claim,
        false => Name::Other,
    }
}

/// Whether a name is a token (RFC 9110, 5.6.2), as HTTP/1 needs it. The `http` crate also takes a double quote.
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c))
}

/// The comma-separated tokens of a value, without white space and empty ones.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|c| *c == b',')
        .map(|t| t.trim_ascii())
        .filter(|t| !t.is_empty())
}

/// Whether a comma-separated value holds the token, in any case.
pub fn has_token(value: &[u8], token: &str) -> bool {
    tokens(value).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens() {
        for name in ["x", "X-Y", "!#$%&'*+-.^_`|~09aZ"] {
            assert!(is_token(name.as_bytes()), "{name}");
        }
        for name in ["", "x y", "x\"", "x:", "x(y)", "x\u{e9}", "x\r\n", "\0"] {
            assert!(!is_token(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn knows_names_in_every_spelling() {
        for (name, want) in [
            ("host", (Name::Host, false)),
            ("HOST", (Name::Host, false)),
            ("Content_Length", (Name::ContentLength, true)),
            ("X-Forwarded-For", (Name::Claim, false)),
            ("x_forwarded_for", (Name::Claim, true)),
            ("X-Forwarded-Anything-That-Is-Longer", (Name::Claim, false)),
            ("X_LOOPGATE-user", (Name::Claim, true)),
            ("Loopgate-Token", (Name::LoopgateToken, false)),
            ("X-Loop", (Name::Other, false)),
            ("Accept-Encoding", (Name::Other, false)),
            ("x_custom", (Name::Other, true)),
            ("X.Loopgate.Groups", (Name::Claim, true)),
            ("X+Loopgate+Anything-That-Is-Longer", (Name::Claim, true)),
            ("X!Forwarded~For", (Name::Claim, true)),
            ("Content.Length", (Name::ContentLength, true)),
            ("Transfer'Encoding", (Name::TransferEncoding, true)),
            ("Remote.User", (Name::Claim, true)),
            ("X-Amz-Meta-a.b", (Name::Other, false)),
        ] {
            assert_eq!(classify(name.as_bytes()), want, "{name}");
        }
    }
}
