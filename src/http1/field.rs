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
    let (mut lower, mut odd, mut underscore) = ([0u8; LONGEST], false, false);
    let is_odd = |from: u8| folded(from) == b'-' && from != b'-';
    let meaning = match lower.get_mut(..name.len()) {
        Some(lower) => {
            for (to, from) in lower.iter_mut().zip(name) {
                *to = folded(*from);
                odd |= is_odd(*from);
                underscore |= *from == b'_';
            }
            known(lower).unwrap_or_else(|| prefixed(lower))
        }
        None => {
            odd = name.iter().any(|from| is_odd(*from));
            underscore = name.contains(&b'_');
            prefixed(name)
        }
    };
    match meaning {
        Name::Other => (meaning, underscore),
        _ => (meaning, odd),
    }
}

/// The byte as the loosest reader takes it.
const fn folded(byte: u8) -> u8 {
    FOLDED[byte as usize]
}

const FOLDED: [u8; 256] = {
    let mut table = [b'-'; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// The names that mean something by themselves.
const NAMES: &[(&str, Name)] = &[
    ("host", Name::Host),
    ("connection", Name::Connection),
    ("content-length", Name::ContentLength),
    ("content-type", Name::ContentType),
    ("transfer-encoding", Name::TransferEncoding),
    ("upgrade", Name::Upgrade),
    ("te", Name::Te),
    ("expect", Name::Expect),
    ("cookie", Name::Cookie),
    ("set-cookie", Name::SetCookie),
    ("authorization", Name::Authorization),
    ("loopgate-token", Name::LoopgateToken),
    ("accept", Name::Accept),
    ("user-agent", Name::UserAgent),
    ("origin", Name::Origin),
    ("referer", Name::Referer),
    ("destination", Name::Destination),
    ("location", Name::Location),
    ("content-location", Name::ContentLocation),
    ("refresh", Name::Refresh),
    ("sec-fetch-site", Name::SecFetchSite),
    ("sec-fetch-mode", Name::SecFetchMode),
    ("sec-websocket-key", Name::SecWebsocketKey),
    ("sec-websocket-accept", Name::SecWebsocketAccept),
    ("x-request-id", Name::XRequestId),
    ("x-loopgate-hops", Name::Hops),
    ("keep-alive", Name::Hop),
    ("proxy-connection", Name::Hop),
    ("proxy-authorization", Name::Hop),
    ("proxy-authenticate", Name::Hop),
    ("http2-settings", Name::Hop),
    ("script-name", Name::PathOverride),
    ("path-info", Name::PathOverride),
    ("x-original-url", Name::PathOverride),
    ("x-rewrite-url", Name::PathOverride),
    ("x-original-uri", Name::PathOverride),
    ("x-script-name", Name::PathOverride),
    ("x-path-info", Name::PathOverride),
    ("x-request-uri", Name::PathOverride),
    ("x-request-url", Name::PathOverride),
    ("x-replaced-path", Name::PathOverride),
    ("x-override-url", Name::PathOverride),
    ("http-method-override", Name::MethodOverride),
    ("x-http-method-override", Name::MethodOverride),
    ("x-http-method", Name::MethodOverride),
    ("x-method-override", Name::MethodOverride),
    ("x-http-methodoverride", Name::MethodOverride),
    ("x-http-verb", Name::MethodOverride),
    ("x-http-verb-override", Name::MethodOverride),
    ("x-method", Name::MethodOverride),
    ("method-override", Name::MethodOverride),
    ("x-tunneled-method", Name::MethodOverride),
    // Where from, by what name and by what protocol.
    ("forwarded", Name::Claim),
    ("proxy", Name::Claim),
    ("client-ip", Name::Claim),
    ("true-client-ip", Name::Claim),
    ("proxy-client-ip", Name::Claim),
    ("wl-proxy-client-ip", Name::Claim),
    ("fly-client-ip", Name::Claim),
    ("front-end-https", Name::Claim),
    ("https", Name::Claim),
    ("x-real-ip", Name::Claim),
    ("x-real-port", Name::Claim),
    ("x-client-ip", Name::Claim),
    ("x-cluster-client-ip", Name::Claim),
    ("x-proxyuser-ip", Name::Claim),
    ("x-originating-ip", Name::Claim),
    ("x-remote-ip", Name::Claim),
    ("x-remote-addr", Name::Claim),
    ("x-original-for", Name::Claim),
    ("x-original-forwarded-for", Name::Claim),
    ("x-original-host", Name::Claim),
    ("x-original-proto", Name::Claim),
    ("x-original-scheme", Name::Claim),
    ("x-original-method", Name::Claim),
    ("x-original-remote-addr", Name::Claim),
    ("x-host", Name::Claim),
    ("x-scheme", Name::Claim),
    ("x-url-scheme", Name::Claim),
    ("x-http-host-override", Name::Claim),
    // Who. `X-User-Id`, `X-User-Token` and `X-Auth-Token` are no such claims: some applications take their own credentials there.
    ("kubeflow-userid", Name::Claim),
    ("x-grafana-user", Name::Claim),
    ("x-token-subject", Name::Claim),
    ("x-trusted-user", Name::Claim),
    ("eppn", Name::Claim),
    ("smuser", Name::Claim),
    ("auth-user", Name::Claim),
    ("http-remote-user", Name::Claim),
    ("x-user", Name::Claim),
    ("x-username", Name::Claim),
    ("x-user-name", Name::Claim),
    ("x-user-groups", Name::Claim),
    ("x-user-roles", Name::Claim),
    ("x-userinfo", Name::Claim),
    ("x-email", Name::Claim),
    ("x-groups", Name::Claim),
    ("x-roles", Name::Claim),
    ("x-auth-user", Name::Claim),
    ("x-auth-username", Name::Claim),
    ("x-auth-userid", Name::Claim),
    ("x-auth-name", Name::Claim),
    ("x-auth-email", Name::Claim),
    ("x-auth-groups", Name::Claim),
    ("x-auth-roles", Name::Claim),
    ("x-proxy-user", Name::Claim),
    ("x-jwt-assertion", Name::Claim),
    ("x-client-dn", Name::Claim),
    ("x-client-verify", Name::Claim),
    ("x-anonymous-consumer", Name::Claim),
    // Rack takes it for the front server's word on which files it may send.
    ("x-sendfile-type", Name::Claim),
];

/// Where a name stands, or would: at its place or soon behind. Made when this is compiled.
const PLACES: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut i = 0;
    while i < NAMES.len() {
        assert!(NAMES[i].0.len() <= LONGEST && i < u8::MAX as usize);
        let mut at = place(NAMES[i].0.as_bytes());
        while table[at] != u8::MAX {
            at = (at + 1) % table.len();
        }
        table[at] = i as u8;
        i += 1;
    }
    table
};

/// A number from length, first, middle and last byte; any will do.
const fn place(name: &[u8]) -> usize {
    match name {
        [] => 0,
        [first, ..] => {
            let (middle, last) = (name[name.len() / 2] as usize, name[name.len() - 1] as usize);
            (name.len() * 37 + *first as usize * 5 + middle * 3 + last * 11) % 256
        }
    }
}

/// A folded name in the table.
fn known(name: &[u8]) -> Option<Name> {
    let mut at = place(name);
    while let Some((text, meaning)) = NAMES.get(usize::from(PLACES[at])) {
        if text.as_bytes() == name {
            return Some(*meaning);
        }
        at = (at + 1) % PLACES.len();
    }
    None
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
            // RFC 9440: what a proxy says of the certificate of a client.
            b"client-cert",
        ],
        b'f' => &[b"fastly-"],
        b'i' => &[b"iv-", b"impersonate-"],
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
            b"x-apigateway-api-userinfo",
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
        b'e' => &[b"x-envoy-", b"x-endpoint-api-userinfo"],
        b'f' => &[b"x-forward"],
        b'g' => &[b"x-goog-authenticated-", b"x-goog-iap-"],
        b'l' => &[b"x-loopgate-"],
        // The last one: by it a middleware of Next.js knows requests of its own, which it lets pass.
        b'm' => &[b"x-ms-client-principal", b"x-ms-token-", b"x-middleware-"],
        b'o' => &[b"x-oidc-"],
        b'p' => &[b"x-pomerium-"],
        b'r' => &[b"x-remote-"],
        b's' => &[b"x-ssl-", b"x-shib-", b"x-sso-"],
        b't' => &[b"x-tls-client-"],
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
    fn every_name_of_the_table_is_found() {
        for (name, meaning) in NAMES {
            assert_eq!(classify(name.as_bytes()), (*meaning, false), "{name}");
            let dotted = name.to_uppercase().replace('-', ".");
            assert_eq!(
                classify(dotted.as_bytes()),
                (*meaning, name.contains('-')),
                "{dotted}"
            );
            let longer = format!("{name}z");
            assert!(
                classify(longer.as_bytes()).0 != *meaning || *meaning == Name::Claim,
                "{longer}"
            );
        }
        assert_eq!(classify(b""), (Name::Other, false));
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
            ("Client-Cert", (Name::Claim, false)),
            ("Client-Cert-Chain", (Name::Claim, false)),
            ("X-TLS-Client-Cert", (Name::Claim, false)),
            ("Client-Id", (Name::Other, false)),
            ("X-Amz-Meta-a.b", (Name::Other, false)),
            ("X-Endpoint-API-UserInfo", (Name::Claim, false)),
            ("X_Apigateway.Api-Userinfo", (Name::Claim, true)),
            ("WL-Proxy-Client-IP", (Name::Claim, false)),
            ("Proxy-Client-IP", (Name::Claim, false)),
            ("Fly-Client-IP", (Name::Claim, false)),
            ("Fly-Region", (Name::Other, false)),
            ("Impersonate-User", (Name::Claim, false)),
            ("Impersonate-Group", (Name::Claim, false)),
            ("Impersonate_Extra-scopes", (Name::Claim, true)),
            ("Impersonate", (Name::Other, false)),
            ("HTTP_REMOTE_USER", (Name::Claim, true)),
            ("Http-Remote", (Name::Other, false)),
            ("Auth-User", (Name::Claim, false)),
            ("X-SSO-User", (Name::Claim, false)),
            ("X-Sso", (Name::Other, false)),
            ("HTTPS", (Name::Claim, false)),
            ("X-HTTP-Verb", (Name::MethodOverride, false)),
            ("X.HTTP-Verb-Override", (Name::MethodOverride, true)),
            ("X-Method", (Name::MethodOverride, false)),
            ("X-Methods", (Name::Other, false)),
            ("Method-Override", (Name::MethodOverride, false)),
            ("X-Tunneled-Method", (Name::MethodOverride, false)),
            ("X-HTTP-MethodOverride", (Name::MethodOverride, false)),
        ] {
            assert_eq!(classify(name.as_bytes()), want, "{name}");
        }
    }
}
