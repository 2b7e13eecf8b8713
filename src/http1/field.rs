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
    /// `X-Loopgate-Hops`: through how many gates a request has come.
    Hops,
    /// Hop-by-hop and removed: Keep-Alive, Proxy-Connection, Proxy-Authorization, Proxy-Authenticate, HTTP2-Settings.
    Hop,
    /// What only a gate may say: Forwarded, X-Forwarded-*, X-Real-IP and the like, X-Loopgate-*, Proxy, and who somebody is.
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
        b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authorization"
        | b"proxy-authenticate"
        | b"http2-settings" => Name::Hop,
        b"forwarded" | b"proxy" | b"client-ip" | b"true-client-ip" | b"front-end-https"
        | b"eppn" | b"smuser" => Name::Claim,
        b"script-name" | b"path-info" => Name::PathOverride,
        b"http-method-override" => Name::MethodOverride,
        // Most of what follows begins so, and most of what comes does not.
        [b'x', b'-', rest @ ..] => known_x(rest, name),
        _ => prefixed(name),
    }
}

/// The same for names that begin with `x-`; `rest` is what follows.
fn known_x(rest: &[u8], name: &[u8]) -> Name {
    match rest {
        b"request-id" => Name::XRequestId,
        b"loopgate-hops" => Name::Hops,
        b"original-url" | b"rewrite-url" | b"original-uri" | b"script-name" | b"path-info"
        | b"request-uri" | b"request-url" | b"replaced-path" | b"override-url" => {
            Name::PathOverride
        }
        b"http-method-override" | b"http-method" | b"method-override" => Name::MethodOverride,
        // Where from, by what name and by what protocol.
        b"real-ip"
        | b"real-port"
        | b"client-ip"
        | b"cluster-client-ip"
        | b"proxyuser-ip"
        | b"originating-ip"
        | b"remote-ip"
        | b"remote-addr"
        | b"original-for"
        | b"original-forwarded-for"
        | b"original-host"
        | b"original-proto"
        | b"original-scheme"
        | b"original-method"
        | b"original-remote-addr"
        | b"host"
        | b"scheme"
        | b"url-scheme"
        | b"http-host-override" => Name::Claim,
        // Who. `X-User-Id`, `X-User-Token` and `X-Auth-Token` are no such claims: some applications take their own credentials there.
        b"user"
        | b"username"
        | b"user-name"
        | b"user-groups"
        | b"user-roles"
        | b"userinfo"
        | b"email"
        | b"groups"
        | b"roles"
        | b"auth-user"
        | b"auth-username"
        | b"auth-userid"
        | b"auth-name"
        | b"auth-email"
        | b"auth-groups"
        | b"auth-roles"
        | b"proxy-user"
        | b"jwt-assertion"
        | b"client-dn"
        | b"client-verify"
        | b"anonymous-consumer" => Name::Claim,
        // Rack takes it for the front server's word on which files it may send.
        b"sendfile-type" => Name::Claim,
        _ => prefixed(name),
    }
}

/// Families of fields by which gates tell applications who somebody is, where from and by what protocol, by first letter; those of
/// `x-` by the letter behind it. An application that trusts its neighbour on loopback would believe a client's.
fn families(first: u8) -> &'static [&'static [u8]] {
    match first {
        b'c' => &[
            b"cf-access-",
            b"cf-connecting-",
            b"cf-ipcountry",
            b"cf-pseudo-",
            b"cf-visitor",
        ],
        b'f' => &[b"fastly-"],
        b'i' => &[b"iv-"],
        b'l' => &[b"loopgate-"],
        b'm' => &[b"mellon-"],
        b'o' => &[b"oidc-", b"oam-"],
        b'r' => &[b"remote-"],
        b's' => &[b"ssl-client-", b"shib-", b"sm-user", b"sm-universalid"],
        b't' => &[b"tailscale-"],
        _ => &[],
    }
}

fn families_x(first: u8) -> &'static [&'static [u8]] {
    match first {
        b'a' => &[
            b"x-auth-request-",
            b"x-authenticated-",
            b"x-authentik-",
            b"x-authelia-",
            b"x-amzn-oidc-",
            b"x-amzn-mtls-",
            b"x-appengine-",
            b"x-arr-",
            b"x-azure-",
            b"x-accel-",
        ],
        b'c' => &[b"x-client-cert", b"x-consumer-", b"x-credential-"],
        b'e' => &[b"x-envoy-"],
        b'f' => &[b"x-forward"],
        b'g' => &[b"x-goog-authenticated-", b"x-goog-iap-"],
        b'l' => &[b"x-loopgate-"],
        // The last one: by it a middleware of Next.js knows requests of its own, which it lets pass.
        b'm' => &[b"x-ms-client-principal", b"x-ms-token-", b"x-middleware-"],
        b'o' => &[b"x-oidc-"],
        b'p' => &[b"x-pomerium-"],
        b'r' => &[b"x-remote-"],
        b's' => &[b"x-ssl-", b"x-shib-"],
        b'v' => &[b"x-vouch-"],
        b'w' => &[b"x-webauth-"],
        _ => &[],
    }
}

/// The families, in every spelling.
fn prefixed(name: &[u8]) -> Name {
    let begins = |prefix: &&[u8]| {
        name.len() >= prefix.len() && name.iter().zip(*prefix).all(|(c, p)| folded(*c) == *p)
    };
    let at = |n: usize| name.get(n).map_or(0, |c| folded(*c));
    let families = match (at(0), at(1)) {
        (b'x', b'-') => families_x(at(2)),
        (first, _) => families(first),
    };
    match families.iter().any(begins) {
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
            ("Loopgate_Token", (Name::LoopgateToken, true)),
            ("X-Loopgate-Hops", (Name::Hops, false)),
            ("X-Loopgate-Hops-Of-Somebody", (Name::Claim, false)),
            ("X-Loop", (Name::Other, false)),
            ("X-User", (Name::Claim, false)),
            ("X.User", (Name::Claim, true)),
            ("X-User-Agent", (Name::Other, false)),
            ("X_Consumer.Username", (Name::Claim, true)),
            ("OIDC_CLAIM_sub", (Name::Claim, true)),
            ("X", (Name::Other, false)),
            ("X-", (Name::Other, false)),
            ("X.Request.Uri", (Name::PathOverride, true)),
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
