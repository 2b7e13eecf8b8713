//! What holds of every request that the service gets, by the strict reader's word.

use crate::strict::{Framing, Request, show, token, trim, values};

/// What a client asked, in the words of either protocol.
#[derive(Clone)]
pub struct Asked {
    pub method: Vec<u8>,
    /// In origin form.
    pub target: Vec<u8>,
    pub host: Vec<u8>,
    /// Names in lower case.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show(
            f,
            &[&self.method, &self.target, &self.host],
            &[&self.fields, &self.trailers],
            &self.body,
        )
    }
}

/// Fields of hops, of framing, and claims that only a gate may make: the client's never pass.
const NEVER: &[&str] = &[
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "remote-user",
    "x-remote-user",
    "proxy",
    "loopgate-token",
    "x-loopgate-user",
    "x-loopgate-groups",
    "x-loopgate-secret",
];

/// Harmless fields: they pass as they came, unless `Connection` names them.
const ALWAYS: &[&str] = &[
    "accept",
    "user-agent",
    "content-type",
    "x",
    "y",
    "accept-language",
    "range",
    "if-none-match",
];

/// What the service may see of this request, whoever it answers to.
pub fn alone(request: &Request, cookie: &str) {
    let one = |name: &str| {
        let found = values(&request.fields, name);
        assert_eq!(found.len(), 1, "one {name}: {request:?}");
        found[0].to_vec()
    };
    assert_eq!(request.minor, 1);
    assert!(!one("host").is_empty(), "{request:?}");
    assert_eq!(one("x-forwarded-for"), b"127.0.0.1", "{request:?}");
    assert_eq!(one("x-forwarded-proto"), b"https", "{request:?}");
    one("x-forwarded-host");
    assert!(token(&one("x-request-id")), "{request:?}");
    one("x-loopgate-hops");
    for (name, value) in &request.fields {
        let text = String::from_utf8_lossy(name);
        assert!(!name.contains(&b'_'), "{text}: {request:?}");
        assert!(!NEVER.contains(&&*text), "{text}: {request:?}");
        let known = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
        assert!(
            !text.starts_with("x-forwarded") || known.contains(&&*text),
            "{text}: {request:?}"
        );
        let hops = text == "x-loopgate-hops" && matches!(&value[..], b"1" | b"2" | b"3" | b"4");
        assert!(
            hops || !text.starts_with("x-loopgate-"),
            "{text}: {request:?}"
        );
        if text == "cookie" {
            // Without `=` all is value, which is no session of ours.
            let mut names = value
                .split(|c| *c == b';')
                .filter_map(|p| Some(trim(&p[..p.iter().position(|c| *c == b'=')?])));
            assert!(
                names.all(|n| n != cookie.as_bytes() && !n.starts_with(b"__Host-loopgate-")),
                "our cookie: {request:?}"
            );
        }
    }
    let connection = values(&request.fields, "connection");
    let (te, upgrade) = (
        values(&request.fields, "te"),
        values(&request.fields, "upgrade"),
    );
    match &connection[..] {
        [] => assert!(te.is_empty() && upgrade.is_empty(), "{request:?}"),
        [one] if *one == b"TE" => assert!(te == [b"trailers"] && upgrade.is_empty(), "{request:?}"),
        [one] if *one == b"Upgrade" => {
            let plain = upgrade.len() == 1 && upgrade[0].split(|c| *c == b'/').all(token);
            assert!(plain && te.is_empty(), "{request:?}");
            assert!(
                matches!(request.framing, Framing::None | Framing::Length(0)),
                "{request:?}"
            );
            assert!(
                !upgrade[0].to_ascii_lowercase().starts_with(b"h2c"),
                "{request:?}"
            );
        }
        other => panic!("Connection: {other:?} in {request:?}"),
    }
    for (name, _) in &request.trailers {
        let name = String::from_utf8_lossy(name);
        let never = [
            "host",
            "content-length",
            "transfer-encoding",
            "authorization",
            "cookie",
            "connection",
            "te",
            "upgrade",
            "expect",
            "trailer-not",
        ];
        assert!(
            !never.contains(&&*name) && !NEVER.contains(&&*name),
            "a trailer {name}: {request:?}"
        );
    }
}

/// Whether this is what the client asked, head only.
pub fn is_head_of(request: &Request, asked: &Asked) -> bool {
    let is_own = asked.host.to_ascii_lowercase().starts_with(b"own.lan");
    let host = if is_own {
        b"localhost"
    } else {
        &asked.host[..]
    };
    // Where a name in a field is mapped, so is the one that the client used.
    let mut named = ["origin", "referer"]
        .into_iter()
        .flat_map(|name| values(&asked.fields, name));
    let forwarded = match is_own && named.any(|url| is_ours(url, &asked.host)) {
        true => host,
        false => &asked.host,
    };
    request.method == asked.method
        && request.target == asked.target
        && values(&request.fields, "host") == [host]
        && values(&request.fields, "x-forwarded-host") == [forwarded]
}

/// Whether a URL is one of this host, as the client spells it.
fn is_ours(url: &[u8], host: &[u8]) -> bool {
    let origin = [b"https://", host].concat();
    let (named, rest) = match url.split_at_checked(origin.len()) {
        Some(parts) if std::str::from_utf8(url).is_ok() => parts,
        _ => return false,
    };
    named.eq_ignore_ascii_case(&origin) && matches!(rest.first(), None | Some(b'/' | b'?' | b'#'))
}

/// What is wrong with it as the answer to what the client asked, whose head it has.
pub fn compare(request: &Request, asked: &Asked) {
    assert_eq!(request.body, asked.body, "{request:?} for {asked:?}");
    for trailer in &request.trailers {
        assert!(
            asked.trailers.contains(trailer),
            "{trailer:?} in {request:?} for {asked:?}"
        );
    }
    if let Some(name) = lost(request, asked) {
        panic!("{name} in {request:?} for {asked:?}");
    }
    let client = values(&asked.fields, "x-request-id");
    assert!(
        !client.contains(&values(&request.fields, "x-request-id")[0]),
        "the client's id: {request:?}"
    );
}

/// The first of the harmless fields that did not pass as the client sent it.
pub fn lost(request: &Request, asked: &Asked) -> Option<&'static str> {
    let named: Vec<Vec<u8>> = values(&asked.fields, "connection")
        .iter()
        .flat_map(|v| v.split(|c| *c == b','))
        .map(|t| trim(t).to_ascii_lowercase())
        .collect();
    ALWAYS.iter().copied().find(|name| {
        let mut want = values(&asked.fields, name);
        if named.iter().any(|n| n == name.as_bytes()) {
            want.clear();
        }
        values(&request.fields, name) != want
    })
}
