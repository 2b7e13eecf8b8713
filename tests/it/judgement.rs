//! The order of judgement (contract 5): every refusal with its word and status, and nothing of the upstream before it.

use std::sync::Arc;

use crate::support::client::End;
use loopgate::auth::token::Token;
use loopgate::auth::token_file;

use crate::support::gate::route;
use crate::support::*;

/// A site with one of everything that can refuse.
fn site(upstream: &Upstream) -> Gate {
    let (nobody, there) = (nobody(), upstream.address);
    let routes = [
        route("app.lan", "/", upstream, "\"users\""),
        route("app.lan", "/open", upstream, "\"anyone\""),
        route("app.lan", "/shut", upstream, "\"nobody\""),
        route(
            "app.lan",
            "/far",
            upstream,
            "{ networks = [\"10.0.0.0/8\"] }",
        ),
        route("app.lan", "/read", upstream, "{ methods = [\"GET\"] }"),
        route("app.lan", "/ops", upstream, "{ groups = [\"ops\"] }"),
        route("api.lan", "/v1", upstream, "\"anyone\""),
        format!(
            "[[route]]\nhosts = [\"app.lan\"]\npath = \"/dead\"\nupstream = \"{nobody}\"\naccess = \"anyone\"\n"
        ),
        format!(
            "[[route]]\nhosts = [\"app.lan\"]\npath = \"/tls\"\nupstream = \"https://{there}\"\naccess = \"anyone\"\n"
        ),
    ];
    let limits =
        "[limits]\nbody_size = \"10B\"\nhead_size = \"4KiB\"\nfields = 20\nanswer = \"300ms\"\n";
    Gate::open(&format!(
        "{limits}[[group]]\nname = \"ops\"\nusers = [\"alice\"]\n{}",
        routes.concat()
    ))
}

/// Answers by the path: with an echo of the user, with garbage, or never.
fn service() -> Upstream {
    Upstream::whole(|request, peer| {
        let user = request.all("x-loopgate-user").join(",");
        match request.target.as_str() {
            "/open/garbage" => drop(peer.say("nonsense\r\n\r\n")),
            "/open/never" => peer.wait_for_end(),
            _ => drop(peer.say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{user}",
                user.len()
            ))),
        }
        After::Keep
    })
}

struct Case {
    head: String,
    sni: Option<&'static str>,
    status: u16,
    word: &'static str,
    reaches: bool,
}

/// In the order of judgement: request line, host, further lines, server name, status, word.
fn cases() -> Vec<Case> {
    let alice = format!("Authorization: {}\r\n", basic("alice", "open sesame"));
    let bob = format!("Authorization: {}\r\n", basic("bob", "brick wall"));
    let wrong = format!("Authorization: {}\r\n", basic("alice", "close sesame"));
    let stranger = format!("Authorization: {}\r\n", basic("mallory", "open sesame"));
    let long = format!("X: {}\r\n", "x".repeat(5000));
    let many = "X: y\r\n".repeat(30);
    let app = Some("app.lan");
    let rows: &[(&str, &str, &str, Option<&'static str>, u16, &'static str)] = &[
        ("GET /", "app.lan", &alice, app, 200, "none"),
        ("GET /", "app.lan", "", None, 401, "credentials-missing"),
        ("GET / ", "app.lan", &alice, app, 400, "bad-request"),
        (
            "GET /",
            "app.lan",
            "Host: app.lan\r\n",
            app,
            400,
            "bad-request",
        ),
        ("GET /a/../b", "app.lan", &alice, app, 400, "bad-request"),
        ("GET /", "app.lan", &long, app, 431, "header-too-large"),
        ("GET /", "app.lan", &many, app, 431, "header-too-large"),
        (
            "GET /",
            "evil.example",
            &alice,
            Some("evil.example"),
            421,
            "host-unknown",
        ),
        ("GET /", "evil.example", &alice, app, 421, "host-unknown"),
        ("GET /", "api.lan", &alice, app, 421, "sni-mismatch"),
        (
            "GET /v1",
            "app.lan",
            &alice,
            Some("api.lan"),
            421,
            "sni-mismatch",
        ),
        ("GET /v2", "api.lan", "", Some("api.lan"), 404, "no-route"),
        ("GET /v1", "api.lan", "", Some("api.lan"), 200, "none"),
        (
            "GET /far",
            "app.lan",
            &alice,
            app,
            403,
            "route-network-denied",
        ),
        ("POST /far", "app.lan", "", app, 403, "route-network-denied"),
        ("POST /read", "app.lan", &alice, app, 405, "method-denied"),
        ("POST /read", "app.lan", "", app, 405, "method-denied"),
        ("GET /read", "app.lan", &alice, app, 200, "none"),
        ("GET /shut", "app.lan", &alice, app, 403, "not-permitted"),
        ("GET /", "app.lan", "", app, 401, "credentials-missing"),
        ("GET /", "app.lan", &wrong, app, 401, "credentials-wrong"),
        ("GET /", "app.lan", &stranger, app, 401, "credentials-wrong"),
        (
            "GET /",
            "app.lan",
            "Authorization: Basic !\r\n",
            app,
            401,
            "credentials-wrong",
        ),
        (
            "GET /",
            "app.lan",
            "Authorization: Digest x\r\n",
            app,
            401,
            "credentials-missing",
        ),
        ("GET /ops", "app.lan", &bob, app, 403, "not-permitted"),
        ("GET /ops", "app.lan", &alice, app, 200, "none"),
        (
            "POST /",
            "app.lan",
            "Content-Length: 11\r\n",
            app,
            401,
            "credentials-missing",
        ),
        (
            "POST /open",
            "app.lan",
            "Content-Length: 11\r\n",
            app,
            413,
            "too-large",
        ),
        ("GET /dead", "app.lan", "", app, 502, "upstream-refused"),
        ("GET /tls", "app.lan", "", app, 502, "upstream-broken"),
        (
            "GET /open/garbage",
            "app.lan",
            "",
            app,
            502,
            "upstream-broken",
        ),
        (
            "GET /open/never",
            "app.lan",
            "",
            app,
            504,
            "upstream-timeout",
        ),
        ("GET /open", "app.lan", "", app, 200, "none"),
    ];
    let case = |(line, host, lines, sni, status, word): &(
        &str,
        &str,
        &str,
        Option<&'static str>,
        u16,
        &'static str,
    )| Case {
        head: format!("{line} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"),
        sni: *sni,
        status: *status,
        word,
        reaches: *word == "none" || word.starts_with("upstream"),
    };
    rows.iter().map(case).collect()
}

#[tokio::test]
async fn every_refusal_has_its_word_and_status_over_http1() {
    let upstream = service();
    let gate = site(&upstream);
    for (i, case) in cases().iter().enumerate() {
        upstream.forget();
        let answer = Client::tls(gate.address, case.sni, "http/1.1")
            .await
            .ask(&case.head)
            .await;
        assert_eq!(
            (answer.status, &*gate.word(i + 1).await),
            (case.status, case.word),
            "{}",
            case.head
        );
        assert!(
            case.reaches || upstream.requests().is_empty(),
            "{} reached the upstream",
            case.head
        );
        assert!(
            case.status == 200 || !answer.all("x-request-id").is_empty(),
            "{}: no id to ask about",
            case.head
        );
    }
}

#[tokio::test]
async fn every_refusal_has_its_word_and_status_over_http2() {
    let upstream = service();
    let gate = site(&upstream);
    let mut logged = 0;
    for case in cases() {
        let mut lines = case.head.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let fields: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let hosts = fields.iter().filter(|(n, _)| n == "host").count();
        // What only HTTP/1.1 can say wrongly has rows of its own in the HTTP/2 tables.
        if first.len() != 3
            || hosts != 1
            || fields
                .iter()
                .any(|(n, v)| n == "content-length" || v.len() > 4000)
        {
            continue;
        }
        upstream.forget();
        let mut h2 = H2::open(Client::tls(gate.address, case.sni, "h2").await).await;
        let mut all = vec![
            (":method", first[0]),
            (":scheme", "https"),
            (":authority", &*fields[0].1),
            (":path", first[1]),
        ];
        all.extend(fields[1..].iter().map(|(n, v)| (&**n, &**v)));
        h2.send(frames::frame(
            frames::HEADERS,
            frames::END_HEADERS | frames::END_STREAM,
            1,
            frames::block(&all),
        ))
        .await;
        let outcome = h2.outcome(1).await;
        logged += 1;
        assert_eq!(
            (outcome.status(), &*gate.word(logged).await),
            (case.status, case.word),
            "{}",
            case.head
        );
        assert!(
            case.reaches || upstream.requests().is_empty(),
            "{} reached the upstream",
            case.head
        );
    }
    assert!(logged > 20, "only {logged} cases were told");
}

#[tokio::test]
async fn a_peer_outside_the_networks_sees_a_closed_socket_and_nothing_else() {
    let upstream = Upstream::ok();
    let tables = route("app.lan", "/", &upstream, "\"anyone\"");
    for networks in [
        "networks = { allow = [\"10.0.0.0/8\"] }",
        "networks = { allow = [\"loopback\"], deny = [\"127.0.0.1\"] }",
    ] {
        let gate = Gate::listening(networks, &tables);
        assert!(
            Client::try_tls(gate.address, Some("app.lan"), "http/1.1")
                .await
                .is_err()
        );
        let mut plain = Client::tcp(gate.address).await;
        let _ = plain
            .try_send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n")
            .await;
        plain.closed().await;
        assert_eq!(
            (&plain.got[..], &*gate.word(2).await),
            (&b""[..], "network-denied")
        );
    }
    assert!(upstream.conversations().is_empty());
}

#[tokio::test]
async fn nothing_of_the_upstream_is_seen_without_the_password() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nX-Inside: secret\r\nContent-Length: 6\r\n\r\nsecret",
    );
    let gate = Gate::open(&route("app.lan", "/", &upstream, "\"users\""));
    let wrong = basic("alice", "close sesame");
    for method in ["GET", "POST", "HEAD", "OPTIONS", "TRACE", "PUT", "BREW"] {
        for path in ["/", "/favicon.ico", "/.well-known/x", "/?token=1"] {
            let (mut one, mut two) = (gate.h1().await, gate.h2().await);
            for line in ["", &format!("Authorization: {wrong}\r\n")] {
                let answer = one
                    .ask(format!(
                        "{method} {path} HTTP/1.1\r\nHost: app.lan\r\n{line}\r\n"
                    ))
                    .await;
                assert_eq!(answer.status, 401, "{method} {path} {line}");
                assert!(!format!("{answer:?}").contains("secret"), "{answer:?}");
            }
            assert_eq!(
                two.ask(1, method, path, &[], b"").await.status(),
                401,
                "{method} {path}"
            );
            assert_eq!(
                two.ask(3, method, path, &[("authorization", &wrong)], b"")
                    .await
                    .status(),
                401,
                "{method} {path}"
            );
        }
    }
    assert!(
        upstream.conversations().is_empty(),
        "the upstream was asked"
    );
}

#[tokio::test]
async fn a_request_is_refused_by_the_first_rule_that_it_breaks() {
    let upstream = service();
    let gate = site(&upstream);
    // Each row breaks what its word says and everything that comes later in the order.
    for (i, (line, host, status, word)) in [
        (
            "POST /far/%2e%2e",
            "evil.example\r\nHost: x",
            400,
            "bad-request",
        ),
        ("POST /far/../x", "evil.example", 421, "host-unknown"),
        ("POST /far/../x", "api.lan", 421, "sni-mismatch"),
        ("POST /far/../x", "app.lan", 400, "bad-request"),
        ("POST /far", "app.lan", 403, "route-network-denied"),
        ("POST /read", "app.lan", 405, "method-denied"),
        ("POST /ops", "app.lan", 401, "credentials-missing"),
    ]
    .iter()
    .enumerate()
    {
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n");
        let answer = gate.h1().await.ask(head).await;
        assert_eq!(
            (answer.status, &*gate.word(i + 1).await),
            (*status, *word),
            "{line} {host}"
        );
    }
    assert!(upstream.conversations().is_empty());
}

#[tokio::test]
async fn two_users_on_one_upstream_connection_are_never_mixed() {
    let upstream = service();
    let gate = Gate::open(&route("app.lan", "/", &upstream, "\"users\""));
    let (mut first, mut second) = (gate.h1().await, gate.h2().await);
    let people = [
        ("alice", basic("alice", "open sesame")),
        ("bob", basic("bob", "brick wall")),
    ];
    for turn in 0..20u32 {
        let (name, credential) = &people[turn as usize % 2];
        let answer = first
            .get(
                "/",
                &format!("Authorization: {credential}\r\nX-Loopgate-User: root\r\n"),
            )
            .await;
        assert_eq!(answer.text(), *name);
        assert_eq!(
            first.get("/", "").await.status,
            401,
            "a connection has no user"
        );
        let (name, credential) = &people[(turn as usize + 1) % 2];
        let fields = [
            ("authorization", &**credential),
            ("x-loopgate-user", "root"),
        ];
        assert_eq!(
            second.ask(4 * turn + 1, "GET", "/", &fields, b"").await,
            Outcome::Answer(200, name.as_bytes().to_vec())
        );
        assert_eq!(
            second.get(4 * turn + 3, "/").await.status(),
            401,
            "a connection has no user"
        );
    }
    assert_eq!(
        upstream.conversations().len(),
        1,
        "one connection carried them all"
    );
}

#[tokio::test]
async fn claims_of_the_client_never_pass() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&route("app.lan", "/", &upstream, "\"users\""));
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Original-Forwarded-For",
        "X-Cluster-Client-IP",
        "X-Loopgate-User",
        "X-Loopgate-Groups",
        "X-Loopgate-Secret",
        "X-Loopgate-Anything",
        "Loopgate-Anything",
        "X-Remote-User",
        "Remote-User",
        "X-Request-Id",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Host",
        "X-Host",
        "Proxy",
        "Proxy-Authorization",
        // Who somebody is, as other gates say it.
        "X-User",
        "X-Username",
        "X-Email",
        "X-Groups",
        "X-Auth-User",
        "X-Auth-Request-User",
        "X-Authenticated-Userid",
        "X-Consumer-Username",
        "X-Consumer-Id",
        "X-Consumer-Custom-Id",
        "X-Consumer-Groups",
        "X-Credential-Identifier",
        "Oidc-Claim-Sub",
        "OIDC_CLAIM_email",
        "Shib-Session-Id",
        "SM-User",
        "X-WEBAUTH-USER",
        "X-Authentik-Username",
        "X-Authelia-User",
        "Remote-Groups",
        "X-Vouch-User",
        "X-Pomerium-Jwt-Assertion",
        "X-Amzn-Oidc-Identity",
        "X-Goog-Authenticated-User-Email",
        "X-Goog-IAP-JWT-Assertion",
        "X-MS-CLIENT-PRINCIPAL-NAME",
        "CF-Access-Authenticated-User-Email",
        "Tailscale-User-Login",
        "SSL-Client-Verify",
        "X-Client-Cert",
        // Where from, and where to.
        "Fastly-Client-IP",
        "X-ProxyUser-Ip",
        "X-Envoy-External-Address",
        "X-Appengine-User-Email",
        "X-Original-Method",
        "X-Request-Uri",
        "X-Accel-Mapping",
        "X-Sendfile-Type",
        "X-Middleware-Subrequest",
        "X-Endpoint-API-UserInfo",
        "X-Apigateway-Api-Userinfo",
        "WL-Proxy-Client-IP",
        "Proxy-Client-IP",
        "Fly-Client-IP",
        "Impersonate-User",
        "Impersonate-Group",
        "Impersonate-Extra-Scopes",
        "HTTP-Remote-User",
        "Auth-User",
        "X-SSO-User",
        "HTTPS",
    ];
    let credential = basic("alice", "open sesame");
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    for (i, name) in names
        .iter()
        .flat_map(|n| {
            [
                n.to_string(),
                n.replace('-', "_"),
                n.replacen('-', "_", 1),
                n.replace('-', "."),
                n.to_uppercase(),
            ]
        })
        .enumerate()
    {
        upstream.forget();
        let lines = format!("Authorization: {credential}\r\n{name}: forged\r\n");
        assert_eq!(one.get("/", &lines).await.status, 200, "{name}");
        let lower = name.to_ascii_lowercase();
        let fields = [("authorization", &*credential), (&lower, "forged")];
        assert_eq!(
            two.ask(2 * i as u32 + 1, "GET", "/", &fields, b"")
                .await
                .status(),
            200,
            "{name}"
        );
        for request in upstream.requests() {
            assert!(
                !format!("{request:?}").contains("forged"),
                "{name} passed: {request:?}"
            );
            assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(request.all("x-forwarded-proto"), ["https"]);
            assert_eq!(request.all("x-forwarded-host"), ["app.lan"]);
            assert_eq!(request.all("x-loopgate-user"), ["alice"]);
            assert_eq!(request.all("x-request-id").len(), 1);
        }
    }
}

#[tokio::test]
async fn what_goes_round_between_gates_ends() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    for (i, (said, status, passed)) in [
        ("1", 200, Some("2")),
        ("3", 200, Some("4")),
        ("4", 502, None),
        ("200", 502, None),
        ("forged", 200, Some("1")),
        ("-1", 200, Some("1")),
    ]
    .into_iter()
    .enumerate()
    {
        upstream.forget();
        let lines = format!("X-Loopgate-Hops: {said}\r\n");
        assert_eq!(one.get("/", &lines).await.status, status, "{said}");
        let fields = [("x-loopgate-hops", said)];
        let answer = two.ask(2 * i as u32 + 1, "GET", "/", &fields, b"").await;
        assert_eq!(answer.status(), status, "{said}");
        let requests = upstream.requests();
        assert_eq!(requests.len(), if passed.is_some() { 2 } else { 0 });
        for request in requests {
            assert_eq!(request.all("x-loopgate-hops"), passed.as_slice(), "{said}");
        }
    }
}

#[tokio::test]
async fn our_credential_and_our_cookie_stay_with_us() {
    let upstream = Upstream::ok();
    let gate = Gate::open(&route("app.lan", "/", &upstream, "\"users\""));
    let (credential, cookie) = (basic("alice", "open sesame"), gate.cookie());
    for (sent, kept) in [
        (format!("{cookie}=abc"), None),
        (format!("a=1; {cookie}=abc; b=2"), Some("a=1; b=2")),
        (format!("{cookie}=abc; b=2"), Some("b=2")),
        (format!("a=1; {cookie}=abc"), Some("a=1")),
        (
            format!("a=1; x{cookie}=abc"),
            Some(&*format!("a=1; x{cookie}=abc")),
        ),
        ("a=1;b=2".to_owned(), Some("a=1;b=2")),
    ] {
        upstream.forget();
        let (mut one, mut two) = (gate.h1().await, gate.h2().await);
        one.get(
            "/",
            &format!("Authorization: {credential}\r\nCookie: {sent}\r\nLoopgate-Token: t\r\n"),
        )
        .await;
        two.ask(
            1,
            "GET",
            "/",
            &[("authorization", &credential), ("cookie", &sent)],
            b"",
        )
        .await;
        for request in upstream.requests() {
            assert_eq!(request.all("authorization"), [""; 0], "{request:?}");
            assert_eq!(request.all("loopgate-token"), [""; 0], "{request:?}");
            assert_eq!(
                request.all("cookie"),
                kept.into_iter().collect::<Vec<_>>(),
                "{sent}"
            );
        }
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[tokio::test]
async fn what_only_looks_like_a_claim_passes() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let names = [
        "X-User-Agent",
        "X-User-Id",
        "X-Auth-Token",
        "X-Original-Filename",
        "X-Client-Version",
        "X-CSRF-Token",
        "X-Requested-With",
        "X-Amz-Date",
        "CF-Custom",
        "Fast-Lane",
        "Shibboleth",
        "I",
        "X",
        "X-",
    ];
    for name in names {
        upstream.forget();
        gate.h1().await.get("/", &format!("{name}: kept\r\n")).await;
        assert_eq!(upstream.only().all(name), ["kept"], "{name}");
    }
}

#[tokio::test]
async fn a_token_counts_under_its_exact_name_alone() {
    let upstream = Upstream::ok();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tokens.toml");
    let (token, text) = Token::new("ci", 0, None);
    token_file::add(&path, token).expect("a tokens file");
    let gate = Gate::with(
        &format!("tokens_file = {path:?}\n"),
        "networks = { allow = [\"loopback\"] }",
        &route("app.lan", "/", &upstream, "\"users\""),
    );
    let right = text.expose().as_str();
    for (fields, status) in [
        (&[("loopgate-token", right)][..], 200),
        (&[("LOOPGATE-TOKEN", right)], 200),
        (&[("loopgate_token", right)], 401),
        (&[("loopgate.token", right)], 401),
        (&[("loopgate_token", "x"), ("loopgate-token", right)], 200),
        (&[("loopgate-token", right), ("loopgate_token", "x")], 200),
        (&[("loopgate-token", "x"), ("loopgate_token", right)], 401),
    ] {
        upstream.forget();
        let lines: String = fields
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let got = gate.h1().await.get("/", &lines).await.status;
        assert_eq!(got, status, "{lines}");
        let lower: Vec<(String, &str)> = fields
            .iter()
            .map(|(n, v)| (n.to_ascii_lowercase(), *v))
            .collect();
        let lower: Vec<(&str, &str)> = lower.iter().map(|(n, v)| (&**n, *v)).collect();
        let got = gate.h2().await.ask(1, "GET", "/", &lower, b"").await;
        assert_eq!(got.status(), status, "{lines} over HTTP/2");
        assert!(!format!("{:?}", upstream.requests()).contains("oopgate_"));
        assert!(!format!("{:?}", upstream.requests()).contains("lgt_"));
        assert_eq!(upstream.requests().len(), if status == 200 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_token_for_a_path_is_not_led_out_of_it() {
    let upstream = Upstream::ok();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tokens.toml");
    let (mut token, text) = Token::new("ci", 0, None);
    token.paths = vec!["/api".into()];
    token_file::add(&path, token).expect("a tokens file");
    let gate = Gate::with(
        &format!("tokens_file = {path:?}\n"),
        "networks = { allow = [\"loopback\"] }",
        &route("app.lan", "/", &upstream, "\"users\""),
    );
    for (target, destination, status) in [
        ("/api/a", "", 200),
        ("/api/A.B", "", 200),
        ("/api/a", "Destination: /api/b\r\n", 200),
        ("/api/a", "Destination: https://app.lan/api/b\r\n", 200),
        ("/api/a", "Destination: /b\r\n", 403),
        ("/api/a", "Destination: /api/../b\r\n", 403),
        ("/api/a", "Destination: b\r\n", 400),
        ("/API/a", "", 403),
        ("/api./a", "", 403),
        ("/api/../b", "", 403),
        ("/api/%EF%BC%8E%EF%BC%8E/b", "", 403),
        ("/api/%EF%BC%8F..%EF%BC%8F..%EF%BC%8Fb", "", 403),
        ("/api/..%20/b", "", 403),
    ] {
        upstream.forget();
        let lines = format!("Authorization: Bearer {}\r\n{destination}", text.expose());
        let got = gate.h1().await.get(target, &lines).await.status;
        assert_eq!(got, status, "{target} {destination}");
        assert_eq!(upstream.requests().len(), usize::from(status == 200));
    }
}

/// An application that answers TRACE shows a script of its page what the browser may not show it.
#[tokio::test]
async fn trace_shows_no_secret_of_ours() {
    let upstream = Upstream::whole(|request, peer| {
        let echo = format!("{request:?}");
        let length = echo.len();
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{echo}"
        ));
        After::Keep
    });
    let secret = "upstream_secret = \"between-the-two-of-us\"\n";
    let route = route("app.lan", "/", &upstream, "\"users\"") + secret;
    let gate = Gate::open(&route);
    let (credential, cookie) = (basic("alice", "open sesame"), gate.cookie());
    let lines = format!(
        "Origin: https://app.lan\r\nAuthorization: {credential}\r\nCookie: {cookie}=abc; own=1\r\nLoopgate-Token: mine_x\r\nX-Loopgate-Secret: guess\r\n"
    );
    for (method, has_secret) in [("GET", true), ("TRACE", false), ("OPTIONS", true)] {
        let head = format!("{method} / HTTP/1.1\r\nHost: app.lan\r\n{lines}\r\n");
        let answer = gate.h1().await.ask(head).await;
        assert_eq!(answer.status, 200, "{method}");
        let shown = answer.text();
        assert!(shown.contains("own=1"), "{shown}");
        assert_eq!(shown.contains("between-the-two-of-us"), has_secret);
        for hidden in [&*cookie, "Basic", "mine_x", "guess"] {
            assert!(!shown.contains(hidden), "{hidden} in {shown}");
        }
    }
}

#[tokio::test]
async fn a_credential_of_the_application_passes_where_nobody_is_asked_for() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let ours = basic("alice", "open sesame");
    for (credential, passes) in [
        ("Bearer abc", true),
        ("Digest a=b", true),
        (&basic("eve", "x"), true),
        (&ours, false),
    ] {
        upstream.forget();
        gate.h1()
            .await
            .get("/", &format!("Authorization: {credential}\r\n"))
            .await;
        assert_eq!(
            !upstream.only().all("authorization").is_empty(),
            passes,
            "{credential}"
        );
        assert!(upstream.only().all("x-loopgate-user").is_empty());
    }
}

#[tokio::test]
async fn the_upstream_cannot_set_our_cookie() {
    let name = Arc::new(std::sync::Mutex::new(String::new()));
    let shared = Arc::clone(&name);
    let upstream = Upstream::whole(move |_, peer| {
        let cookie = shared.lock().unwrap().clone();
        peer.say(format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}=evil; Path=/\r\nSet-Cookie: own=1\r\nContent-Length: 0\r\n\r\n"));
        After::Keep
    });
    let gate = Gate::plain(&upstream);
    *name.lock().unwrap() = gate.cookie();
    assert_eq!(
        gate.h1().await.get("/", "").await.all("set-cookie"),
        ["own=1"]
    );
}

#[tokio::test]
async fn a_gate_that_drains_takes_no_more_requests() {
    let upstream = Upstream::ok();
    let gate = Gate::plain(&upstream);
    let (mut one, mut two) = (gate.h1().await, gate.h2().await);
    assert_eq!(
        (
            one.get("/", "").await.status,
            two.get(1, "/").await.status()
        ),
        (200, 200)
    );
    let (drained, _) = tokio::join!(gate.drain(DEADLINE), two.end());
    assert!(drained, "idle connections end by themselves");
    let _ = one
        .try_send("GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n")
        .await;
    assert_eq!((one.closed().await, one.got.len()), (End::Clean, 0));
    assert!(
        Client::try_tls(gate.address, Some("app.lan"), "h2")
            .await
            .is_err()
    );
    assert_eq!(upstream.requests().len(), 2);
}
