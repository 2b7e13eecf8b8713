//! Client certificates: which one lets whom in, and that nothing outlives its end: not a connection, not a resumed session, not
//! a stream.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::client::{End, Identity, config};
use crate::support::gate::route;
use crate::support::message::Answer;
use crate::support::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const LOCAL: &str =
    "networks = { allow = [\"loopback\"] }\nclient_certificates = { from = \"local-ca\" }";

/// An authority of somebody's own.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        Identity {
            chain: vec![params.signed_by(&key, &issuer).unwrap().der().clone()],
            key: key.serialize_der(),
        }
    }

    fn user(&self, name: &str) -> Identity {
        self.sign(name, |_| {})
    }

    /// A revocation list with one serial number in it.
    fn list(&self, serial: u64, until: SystemTime) -> String {
        let now = SystemTime::now() - DAY;
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: until.into(),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: now.into(),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }
}

/// The listener's keys for an authority in a file, with more keys of its table.
fn believing(ca: &Path, more: &str) -> String {
    format!(
        "networks = {{ allow = [\"loopback\"] }}\nclient_certificates = {{ ca = \"{}\"{more} }}",
        ca.display()
    )
}

/// One route of each kind.
fn routes(upstream: &Upstream) -> String {
    [
        "[[group]]\nname = \"ops\"\nusers = [\"alice\"]\n".to_owned(),
        route("app.lan", "/", upstream, "\"users\""),
        route("app.lan", "/open", upstream, "\"anyone\""),
        route(
            "app.lan",
            "/accepted",
            upstream,
            "{ certificate = \"accepted\" }",
        ),
        route(
            "app.lan",
            "/required",
            upstream,
            "{ certificate = \"required\" }",
        ),
        route(
            "app.lan",
            "/both",
            upstream,
            "{ certificate = \"with-login\" }",
        ),
        route(
            "app.lan",
            "/ops",
            upstream,
            "{ certificate = \"required\", groups = [\"ops\"] }",
        ),
    ]
    .concat()
}

/// Answers with the user that it was told.
fn service() -> Upstream {
    Upstream::whole(|request, peer| {
        if !request.all("upgrade").is_empty() {
            peer.say("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            return After::Echo;
        }
        let user = request.all("x-loopgate-user").join(",");
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{user}",
            user.len()
        ));
        After::Keep
    })
}

async fn h1(gate: &Gate, identity: Option<&Identity>) -> Client {
    Client::with(gate.address, &config(identity, "http/1.1", &TLS13))
        .await
        .0
}

async fn h2(gate: &Gate, identity: Option<&Identity>) -> H2 {
    let config = config(identity, "h2", &TLS13);
    H2::open(Client::with(gate.address, &config).await.0).await
}

/// Certificate, path, login, status, word (or the user, when it passes).
type Row<'a> = (
    &'a str,
    Option<&'a Identity>,
    &'a str,
    &'a str,
    u16,
    &'a str,
);

#[tokio::test]
async fn a_certificate_opens_what_the_route_says_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, stranger) = (Authority::new("ours"), Authority::new("ours"));
    std::fs::write(dir.path().join("ca.pem"), &ca.pem).unwrap();
    let now = SystemTime::now();
    let (alice, bob, mallory) = (ca.user("alice"), ca.user("bob"), ca.user("mallory"));
    let foreign = stranger.user("alice");
    let expired = ca.sign("alice", |p| {
        (p.not_before, p.not_after) = ((now - 2 * DAY).into(), (now - DAY).into());
    });
    let early = ca.sign("alice", |p| {
        (p.not_before, p.not_after) = ((now + DAY).into(), (now + 2 * DAY).into());
    });
    let server = ca.sign("alice", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let upstream = service();
    let gate = Gate::listening(
        &believing(&dir.path().join("ca.pem"), ""),
        &routes(&upstream),
    );
    let as_alice = basic("alice", "open sesame");
    let as_bob = basic("bob", "brick wall");
    let (refused, missing) = ("certificate-refused", "certificate-missing");
    let rows: Vec<Row<'_>> = vec![
        ("none", None, "/open", "", 200, ""),
        ("none", None, "/", "", 401, "credentials-missing"),
        ("none", None, "/accepted", "", 401, "credentials-missing"),
        ("none", None, "/accepted", &as_alice, 200, "alice"),
        ("none", None, "/required", "", 403, missing),
        ("none", None, "/required", &as_alice, 403, missing),
        ("none", None, "/both", &as_alice, 403, missing),
        ("alice", Some(&alice), "/open", "", 200, ""),
        ("alice", Some(&alice), "/", "", 401, "credentials-missing"),
        ("alice", Some(&alice), "/accepted", "", 200, "alice"),
        ("alice", Some(&alice), "/accepted", &as_bob, 200, "bob"),
        ("alice", Some(&alice), "/required", "", 200, "alice"),
        ("alice", Some(&alice), "/required", &as_alice, 200, "alice"),
        ("alice", Some(&alice), "/required", &as_bob, 403, refused),
        (
            "alice",
            Some(&alice),
            "/both",
            "",
            401,
            "credentials-missing",
        ),
        ("alice", Some(&alice), "/both", &as_alice, 200, "alice"),
        ("alice", Some(&alice), "/both", &as_bob, 403, refused),
        ("alice", Some(&alice), "/ops", "", 200, "alice"),
        ("bob", Some(&bob), "/ops", "", 403, "not-permitted"),
        ("bob", Some(&bob), "/required", "", 200, "bob"),
        ("unknown", Some(&mallory), "/required", "", 403, refused),
        ("unknown", Some(&mallory), "/accepted", "", 403, refused),
        (
            "unknown",
            Some(&mallory),
            "/accepted",
            &as_alice,
            200,
            "alice",
        ),
        ("unknown", Some(&mallory), "/open", "", 200, ""),
        ("foreign", Some(&foreign), "/required", "", 403, refused),
        ("foreign", Some(&foreign), "/accepted", "", 403, refused),
        ("expired", Some(&expired), "/required", "", 403, refused),
        ("early", Some(&early), "/required", "", 403, refused),
        ("server", Some(&server), "/required", "", 403, refused),
        ("server", Some(&server), "/accepted", "", 403, refused),
    ];
    for (what, identity, path, login, status, want) in rows {
        upstream.forget();
        let line = match login {
            "" => String::new(),
            login => format!("Authorization: {login}\r\n"),
        };
        let answer = h1(&gate, identity).await.get(path, &line).await;
        let fields = [("authorization", login)];
        let fields = if login.is_empty() {
            &fields[..0]
        } else {
            &fields[..]
        };
        let two = h2(&gate, identity)
            .await
            .ask(1, "GET", path, fields, b"")
            .await;
        assert_eq!(
            (answer.status, two.status()),
            (status, status),
            "{what} {path} {login}"
        );
        let (log, reached) = (lines(&gate, path).await, upstream.requests().len());
        for line in &log[log.len() - 2..] {
            let got = match status {
                200 => line["user"].as_str().unwrap_or_default(),
                _ => line["reason"].as_str().unwrap_or_default(),
            };
            assert_eq!(got, want, "{what} {path} {login}: {line}");
        }
        assert_eq!(reached, if status == 200 { 2 } else { 0 }, "{what} {path}");
        if status == 200 {
            assert_eq!(answer.text(), want, "{what} {path}");
        }
    }
}

/// The lines of the access log for this path so far; at least two.
async fn lines(gate: &Gate, path: &str) -> Vec<serde_json::Value> {
    let mut n = 2;
    loop {
        let log = gate.log(n).await;
        let found: Vec<_> = log.iter().filter(|l| l["path"] == path).cloned().collect();
        if found.len() >= 2 && found.len() % 2 == 0 {
            return found;
        }
        n = log.len() + 1;
    }
}

#[tokio::test]
async fn the_log_says_who_came_by_certificate_and_why_another_one_did_not() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (alice, _) = gate.issue("alice", YEAR);
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    let (unlisted, serial) = gate.issue("bob", YEAR);
    assert_eq!(
        h1(&gate, Some(&alice))
            .await
            .get("/required", "")
            .await
            .status,
        200
    );
    let log = gate.log(1).await;
    assert_eq!(
        (&log[0]["auth"], &log[0]["user"]),
        (&"certificate".into(), &"alice".into()),
        "{log:?}"
    );
    // Not listed when the plan was made; the page is for a person.
    let page = h1(&gate, Some(&unlisted))
        .await
        .get("/open", "Accept: text/html\r\n")
        .await;
    assert_eq!(page.status, 200);
    let page = h1(&gate, Some(&unlisted))
        .await
        .get("/required", "Accept: text/html\r\n")
        .await;
    assert!(
        page.text().contains("certificate is not accepted"),
        "{}",
        page.text()
    );
    assert!(!page.text().contains(&serial) && !page.text().contains("list"));
    let log = gate.log(3).await;
    assert_eq!(log[2]["reason"], "certificate-refused");
    assert!(log[2]["rule"].as_str().unwrap().contains("list"), "{log:?}");
    let metrics = gate.metrics();
    for (result, n) in [("success", 1), ("failure", 2)] {
        let line = format!(
            "loopgate_auth_attempts_total{{method=\"certificate\",result=\"{result}\"}} {n}\n"
        );
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn another_site_does_not_use_the_certificate() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (alice, _) = gate.issue("alice", YEAR);
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    let mut client = h1(&gate, Some(&alice)).await;
    for (origin, status) in [
        ("https://app.lan", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let post = format!(
            "POST /accepted HTTP/1.1\r\nHost: app.lan\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(client.ask(post).await.status, status, "{origin}");
    }
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(gate.word(3).await, "cross-site");
}

const SWITCH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

#[tokio::test]
async fn a_revoked_certificate_ends_what_rests_on_it_and_nothing_else() {
    let upstream = service();
    let tables = routes(&upstream);
    let gate = Gate::listening(LOCAL, &tables);
    let (alice, serial) = gate.issue("alice", YEAR);
    let (bob, _) = gate.issue("bob", YEAR);
    gate.try_replan(LOCAL, &tables).unwrap();
    let login = format!(
        "Authorization: {}\r\n{SWITCH}",
        basic("alice", "open sesame")
    );
    let mut cut = h1(&gate, Some(&alice)).await;
    assert_eq!(cut.get("/required", SWITCH).await.status, 101);
    // The certificate is needed here too, though the password says who it is.
    let mut both = h1(&gate, Some(&alice)).await;
    assert_eq!(both.get("/both", &login).await.status, 101);
    let mut other = h1(&gate, Some(&bob)).await;
    assert_eq!(other.get("/required", SWITCH).await.status, 101);
    // By the password alone; beside a certificate that is enough it would say nothing.
    let mut password = h1(&gate, None).await;
    assert_eq!(password.get("/accepted", &login).await.status, 101);
    let mut beside = h1(&gate, Some(&alice)).await;
    assert_eq!(beside.get("/accepted", &login).await.status, 101);
    let (mut one, mut two) = (h1(&gate, Some(&alice)).await, h2(&gate, Some(&alice)).await);
    assert_eq!(one.get("/required", "").await.status, 200);
    assert_eq!(two.get(1, "/required").await.status(), 200);

    gate.revoke(&serial);
    gate.try_replan(LOCAL, &tables).unwrap();
    assert_ne!(cut.closed().await, End::Clean);
    both.closed().await;
    beside.closed().await;
    assert_eq!(one.get("/required", "").await.status, 403);
    assert_eq!(two.get(3, "/required").await.status(), 403);
    assert_eq!(
        two.get(5, "/open").await.status(),
        200,
        "nobody is asked for"
    );
    for alive in [&mut other, &mut password] {
        alive.send("still here").await;
        alive.at_least(10).await;
    }
    assert_eq!(
        h1(&gate, Some(&alice))
            .await
            .get("/required", "")
            .await
            .status,
        403
    );
    assert_eq!(
        h1(&gate, Some(&bob))
            .await
            .get("/required", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_runs_at_a_service_that_was_replaced_ends_with_the_certificate_beside_its_login() {
    let (blue, green) = (service(), service());
    let gate = Gate::listening(LOCAL, &routes(&blue));
    let login = format!(
        "Authorization: {}\r\n{SWITCH}",
        basic("alice", "open sesame")
    );
    // Neither new route asks for a certificate.
    for access in ["\"users\"", "\"anyone\""] {
        let (alice, serial) = gate.issue("alice", YEAR);
        gate.try_replan(LOCAL, &routes(&blue)).unwrap();
        let mut both = h1(&gate, Some(&alice)).await;
        assert_eq!(both.get("/both", &login).await.status, 101);
        let mut password = h1(&gate, None).await;
        assert_eq!(password.get("/accepted", &login).await.status, 101);
        let new = ["/both", "/accepted"].map(|path| route("app.lan", path, &green, access));
        gate.try_replan(LOCAL, &new.concat()).unwrap();
        for alive in [&mut both, &mut password] {
            alive.send("still here").await;
            alive.at_least(10).await;
        }
        gate.revoke(&serial);
        gate.try_replan(LOCAL, &new.concat()).unwrap();
        assert_ne!(both.closed().await, End::Clean, "{access}");
        password.send("still here").await;
        password.at_least(20).await;
    }
}

#[tokio::test]
async fn a_certificate_counts_at_an_address_that_another_listener_takes_over() {
    let upstream = service();
    let port = free("0.0.0.0").port();
    let text = |host: &str| {
        format!(
            "[server]\nworkers = 1\n[auth]\nusers_file = \"users.htpasswd\"\n[[listener]]\naddress = \"{host}:{port}\"\n{LOCAL}\n{}",
            routes(&upstream)
        )
    };
    let mut gate = Gate::written(&text("0.0.0.0"));
    let (bob, serial) = gate.issue("bob", YEAR);
    gate.reload(&text("0.0.0.0")).await.unwrap();
    gate.address = ([127, 0, 0, 1], port).into();
    let mut tunnel = h1(&gate, Some(&bob)).await;
    assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);
    let mut client = h1(&gate, Some(&bob)).await;
    assert_eq!(client.get("/required", "").await.status, 200);
    gate.reload(&text("127.0.0.1")).await.unwrap();
    assert_eq!(client.get("/required", "").await.status, 200);
    tunnel.send("still here").await;
    tunnel.at_least(10).await;
    gate.revoke(&serial);
    gate.reload(&text("127.0.0.1")).await.unwrap();
    assert_ne!(tunnel.closed().await, End::Clean);
    assert_eq!(client.get("/required", "").await.status, 403);
}

#[tokio::test]
async fn a_certificate_counts_at_an_address_that_is_leaving_until_it_is_revoked() {
    let upstream = service();
    let (first, second) = (free("127.0.0.1"), free("127.0.0.1"));
    let text = |address: std::net::SocketAddr, clients: &str, routes: &str| {
        format!(
            "[server]\nworkers = 1\n[auth]\nusers_file = \"users.htpasswd\"\n[[listener]]\naddress = \"{address}\"\n{clients}\n{routes}"
        )
    };
    let all = routes(&upstream);
    let another = Authority::new("another");
    let (dir, file) = (tempfile::tempdir().unwrap(), "another.pem");
    std::fs::write(dir.path().join(file), &another.pem).unwrap();
    let others = believing(&dir.path().join(file), "");
    // The new address believes the same authority, or another one, which says nothing of this certificate.
    for (clients, is_known) in [(LOCAL, true), (&*others, false)] {
        let mut gate = Gate::written(&text(first, LOCAL, &all));
        let (bob, serial) = gate.issue("bob", YEAR);
        gate.reload(&text(first, LOCAL, &all)).await.unwrap();
        let mut tunnel = h1(&gate, Some(&bob)).await;
        assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);
        gate.reload(&text(second, clients, &all)).await.unwrap();
        if is_known {
            tunnel.send("still here").await;
            tunnel.at_least(10).await;
            gate.revoke(&serial);
            gate.reload(&text(second, clients, &all)).await.unwrap();
        }
        assert_ne!(tunnel.closed().await, End::Clean);
    }
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_a_configuration_without_mistakes() {
    let upstream = service();
    let tables = routes(&upstream);
    let mut gate = Gate::listening(LOCAL, &tables);
    let ((alice, serial), (bob, _)) = (gate.issue("alice", YEAR), gate.issue("bob", YEAR));
    gate.try_replan(LOCAL, &tables).unwrap();
    let mut tunnel = h1(&gate, Some(&alice)).await;
    assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);
    let (mut hers, mut his) = (h1(&gate, Some(&alice)).await, h1(&gate, Some(&bob)).await);
    assert_eq!(hers.get("/required", "").await.status, 200);
    gate.revoke(&serial);
    gate.reload("nonsense = 1\n").await.unwrap_err();
    tunnel.closed().await;
    assert_eq!(hers.get("/required", "").await.status, 403);
    assert_eq!(his.get("/required", "").await.status, 200);
    let mut again = h1(&gate, Some(&alice)).await;
    assert_eq!(again.get("/required", "").await.status, 403);
}

#[tokio::test]
async fn a_strangers_certificate_is_called_a_strangers_whatever_else_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, stranger) = (Authority::new("ours"), Authority::new("of somebody else"));
    std::fs::write(dir.path().join("ca.pem"), &ours.pem).unwrap();
    let upstream = service();
    let listener = believing(&dir.path().join("ca.pem"), "");
    let gate = Gate::listening(&listener, &routes(&upstream));
    // An authority shows itself: no client, and nobody's.
    let shown = |authority: &Authority| Identity {
        chain: vec![
            authority
                .params
                .self_signed(&authority.key)
                .unwrap()
                .der()
                .clone(),
        ],
        key: authority.key.serialize_der(),
    };
    for (n, (authority, is_strange)) in [(&stranger, true), (&ours, false)].into_iter().enumerate()
    {
        let mut client = h1(&gate, Some(&shown(authority))).await;
        assert_eq!(client.get("/required", "").await.status, 403);
        let log = gate.log(n + 1).await;
        let why = log[n]["rule"].as_str().unwrap_or_default();
        assert_eq!(
            why.contains("authority that is not believed"),
            is_strange,
            "{why}"
        );
    }
}

/// Says by what `Authorization` it was asked.
fn witness() -> Upstream {
    Upstream::whole(|request, peer| {
        let got = request.all("authorization").join(",");
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{got}",
            got.len()
        ));
        After::Keep
    })
}

#[tokio::test]
async fn beside_a_good_certificate_authorization_is_the_applications() {
    let upstream = witness();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (alice, _) = gate.issue("alice", YEAR);
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    for path in ["/accepted", "/required"] {
        let ask = async |value: &str| {
            let line = format!("Authorization: {value}\r\n");
            let answer = h1(&gate, Some(&alice)).await.get(path, &line).await;
            let fields = [("authorization", value)];
            let two = h2(&gate, Some(&alice))
                .await
                .ask(1, "GET", path, &fields, b"")
                .await;
            assert_eq!(answer.status, two.status(), "{path} {value}");
            (
                answer.status,
                answer.text() == value && answer.status == 200,
            )
        };
        for (user, password, want) in [
            ("appuser", "app secret", (200, true)),
            ("alice", "app secret", (200, true)),
            ("alice", "open sesame", (200, false)),
            ("alice", "app secret", (200, true)),
            ("bob", "wrong", (401, false)),
        ] {
            let value = basic(user, password);
            assert_eq!(ask(&value).await, want, "{path} {user} {password}");
        }
        assert_eq!(ask("Bearer of something").await, (200, true));
        assert_eq!(ask("Bearer lgt_something").await.0, 401, "{path}");
        // With both it is a login, and without a certificate as well.
        let line = format!("Authorization: {}\r\n", basic("alice", "app secret"));
        assert_eq!(
            h1(&gate, Some(&alice))
                .await
                .get("/both", &line)
                .await
                .status,
            401
        );
        assert_eq!(
            h1(&gate, None).await.get("/accepted", &line).await.status,
            401
        );
    }
    // It tells a few passwords that are not hers, and locks nobody out.
    let mut client = h1(&gate, Some(&alice)).await;
    let mut told = 0;
    for n in 0..300 {
        let line = format!(
            "Authorization: {}\r\n",
            basic("alice", &format!("guess {n}"))
        );
        let answer = client.get("/required", &line).await;
        assert_eq!(answer.status, 200);
        told += usize::from(!answer.text().is_empty());
    }
    assert!((1..8).contains(&told), "{told}");
    let right = format!("Authorization: {}\r\n", basic("alice", "open sesame"));
    assert_eq!(client.get("/required", &right).await.text(), "");
    assert_eq!(
        h1(&gate, None).await.get("/accepted", &right).await.status,
        200
    );
}

#[tokio::test]
async fn a_password_beside_a_certificate_is_told_by_nothing_in_the_answer() {
    let upstream = witness();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (alice, _) = gate.issue("alice", YEAR);
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    let lines = |password: &str| {
        let value = basic("alice", password);
        format!("Authorization: {value}\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n")
    };
    let right = lines("open sesame");
    let mut client = h1(&gate, Some(&alice)).await;
    let same = |one: &Answer, two: &Answer| {
        assert_eq!((one.status, two.status), (200, 200));
        assert_eq!(one.text(), two.text());
        assert!(one.all("set-cookie").is_empty() && two.all("set-cookie").is_empty());
    };
    // Nobody has used it yet.
    let first = client.get("/required", &right).await;
    assert_eq!(first.text(), "");
    same(&first, &first);
    // Alice uses hers elsewhere, so that it is remembered. That one is a login.
    let login = h1(&gate, None).await.get("/accepted", &right).await;
    assert_eq!(login.status, 200);
    assert_eq!(login.all("set-cookie").len(), 1);
    let mut wrong = None;
    for n in 0..20 {
        wrong = Some(client.get("/required", &lines(&format!("guess {n}"))).await);
    }
    let told = client.get("/required", &right).await;
    same(&told, &wrong.unwrap());
    assert_eq!(upstream.requests().len(), 23);
}

#[tokio::test]
async fn a_certificate_that_runs_out_cuts_what_rests_on_it() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (alice, _) = gate.issue("alice", Duration::from_secs(8));
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    let mut tunnel = h1(&gate, Some(&alice)).await;
    let mut idle = h1(&gate, Some(&alice)).await;
    assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);
    assert_eq!(idle.get("/required", "").await.status, 200);
    tunnel.closed().await;
    assert_eq!(idle.get("/required", "").await.status, 403);
}

/// Resumes a session of before: true when the gate let it be resumed.
async fn resumed(
    gate: &Gate,
    config: &std::sync::Arc<rustls::ClientConfig>,
    path: &str,
) -> (bool, u16) {
    let (mut client, resumed) = Client::with(gate.address, config).await;
    (resumed, client.get(path, "").await.status)
}

#[tokio::test]
async fn a_resumed_session_is_no_better_than_its_certificate_is_now() {
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    for version in versions {
        let upstream = service();
        let tables = routes(&upstream);
        let gate = Gate::listening(LOCAL, &tables);
        let (alice, serial) = gate.issue("alice", YEAR);
        let (bob, _) = gate.issue("bob", YEAR);
        gate.try_replan(LOCAL, &tables).unwrap();
        let (ours, others) = (
            config(Some(&alice), "http/1.1", version),
            config(Some(&bob), "http/1.1", version),
        );
        for client in [&ours, &others] {
            assert_eq!(resumed(&gate, client, "/required").await, (false, 200));
            assert_eq!(resumed(&gate, client, "/required").await, (true, 200));
        }
        gate.revoke(&serial);
        gate.try_replan(LOCAL, &tables).unwrap();
        assert_eq!(resumed(&gate, &ours, "/required").await, (true, 403));
        assert_eq!(resumed(&gate, &others, "/required").await, (true, 200));
    }
}

#[tokio::test]
async fn no_session_lets_a_client_send_data_before_the_handshake_has_ended() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let mut client = rustls::ClientConfig::clone(&config(None, "http/1.1", &TLS13));
    client.enable_early_data = true;
    let client = std::sync::Arc::new(client);
    assert!(!resumed(&gate, &client, "/open").await.0);
    let name = rustls_pki_types::ServerName::try_from("app.lan").unwrap();
    let mut again = rustls::ClientConnection::new(std::sync::Arc::clone(&client), name).unwrap();
    assert!(again.early_data().is_none(), "the ticket allows none");
    // The ticket that was just used up was a good one.
    assert!(resumed(&gate, &client, "/open").await.0);
}

#[tokio::test]
async fn another_authority_believes_no_session_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let upstream = service();
    let tables = routes(&upstream);
    for version in [&TLS12, &TLS13] {
        std::fs::write(&file, &old.pem).unwrap();
        let listener = believing(&file, "");
        let gate = Gate::listening(&listener, &tables);
        let (alice, bob) = (old.user("alice"), new.user("bob"));
        let client = config(Some(&alice), "http/1.1", version);
        assert_eq!(resumed(&gate, &client, "/required").await, (false, 200));
        assert_eq!(resumed(&gate, &client, "/required").await, (true, 200));
        let mut open = Client::with(gate.address, &client).await.0;
        assert_eq!(open.get("/required", "").await.status, 200);
        let mut tunnel = Client::with(gate.address, &client).await.0;
        assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);

        std::fs::write(&file, &new.pem).unwrap();
        gate.try_replan(&listener, &tables).unwrap();
        tunnel.closed().await;
        assert_eq!(open.get("/required", "").await.status, 403);
        assert_eq!(resumed(&gate, &client, "/required").await, (false, 403));
        let client = config(Some(&bob), "http/1.1", version);
        assert_eq!(resumed(&gate, &client, "/required").await, (false, 200));

        // Without any authority nobody is asked, and the certificate of before says nothing.
        let plain = "networks = { allow = [\"loopback\"] }";
        let open = route("app.lan", "/", &upstream, "\"users\"");
        gate.try_replan(plain, &open).unwrap();
        assert_eq!(resumed(&gate, &client, "/required").await, (false, 401));
    }
}

#[tokio::test]
async fn a_revocation_list_is_obeyed_and_must_not_be_stale() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, crl) = (dir.path().join("ca.pem"), dir.path().join("ca.crl"));
    let authority = Authority::new("ours");
    let alice = authority.sign("alice", |p| {
        p.serial_number = Some(SerialNumber::from(7u64))
    });
    let bob = authority.sign("bob", |p| p.serial_number = Some(SerialNumber::from(8u64)));
    let now = SystemTime::now();
    std::fs::write(&ca, &authority.pem).unwrap();
    std::fs::write(&crl, authority.list(9, now + DAY)).unwrap();
    let upstream = service();
    let tables = routes(&upstream);
    let listener = believing(&ca, &format!(", crl = \"{}\"", crl.display()));
    let gate = Gate::listening(&listener, &tables);
    let (mut one, mut two) = (h1(&gate, Some(&alice)).await, h1(&gate, Some(&bob)).await);
    assert_eq!(one.get("/required", "").await.status, 200);
    assert_eq!(two.get("/required", "").await.status, 200);
    std::fs::write(&crl, authority.list(7, now + DAY)).unwrap();
    gate.try_replan(&listener, &tables).unwrap();
    assert_eq!(one.get("/required", "").await.status, 403);
    assert_eq!(two.get("/required", "").await.status, 200);
    std::fs::write(&crl, authority.list(7, now - DAY / 2)).unwrap();
    gate.try_replan(&listener, &tables).unwrap();
    assert_eq!(two.get("/required", "").await.status, 403);
    // A list that is none is a mistake of the file, and what was in force stays.
    std::fs::write(&crl, "nothing").unwrap();
    assert!(
        gate.try_replan(&listener, &tables)
            .unwrap_err()
            .contains("revocation list")
    );
    // Nor is one of the first version, which says nothing of its authority. It is not the authority's file that is wrong.
    std::fs::write(&crl, FIRST_VERSION).unwrap();
    let why = gate.try_replan(&listener, &tables).unwrap_err();
    assert!(why.contains("ca.crl cannot be read"), "{why}");
}

const FIRST_VERSION: &str = "-----BEGIN X509 CRL-----
MIGSMDkwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EXDTI2MTEyODIzMDA1NFoX
DTI2MTIyODIzMDA1NFowCgYIKoZIzj0EAwIDSQAwRgIhAK5neV8+QTvNHv5g/xGr
K7+8U+RWJ5wvNF7dMdUMYnZDAiEA8NMl9R1kas7rxO3IFYwZfLsQadI89Pm60J3f
IVAyMuw=
-----END X509 CRL-----
";

#[tokio::test]
async fn a_user_who_is_gone_takes_the_certificate_along() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let (bob, _) = gate.issue("bob", YEAR);
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    let mut tunnel = h1(&gate, Some(&bob)).await;
    assert_eq!(tunnel.get("/required", SWITCH).await.status, 101);
    let mut client = h1(&gate, Some(&bob)).await;
    assert_eq!(client.get("/required", "").await.status, 200);
    let file = gate.path("users.htpasswd");
    let users = std::fs::read_to_string(&file).unwrap();
    let left: String = users
        .lines()
        .filter(|l| !l.starts_with("bob:"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(&file, left).unwrap();
    gate.try_replan(LOCAL, &routes(&upstream)).unwrap();
    tunnel.closed().await;
    assert_eq!(client.get("/required", "").await.status, 403);
}

#[tokio::test]
async fn a_chain_without_end_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let ca = Authority::new("ours");
    std::fs::write(&file, &ca.pem).unwrap();
    let upstream = service();
    let gate = Gate::listening(&believing(&file, ""), &routes(&upstream));
    let mut long = ca.user("alice");
    long.chain = vec![long.chain[0].clone(); 40];
    let config = config(Some(&long), "http/1.1", &TLS12);
    assert!(Client::try_with(gate.address, &config).await.is_err());
    assert_eq!(h1(&gate, None).await.get("/open", "").await.status, 200);
}

#[tokio::test]
async fn the_certificate_of_a_trusted_proxy_is_nobodys() {
    let upstream = service();
    let behind = format!("{LOCAL}\ntrusted_proxies = [\"127.0.0.1\"]");
    // The same through the decision that nobody sent.
    let test = |named: &str, expect: &str| {
        let table = asked("", "alice", "/required", expect);
        table.replace("[[test]]\n", &format!("[[test]]\n{named}"))
    };
    let tests = test("forwarded_for = \"127.0.0.1\"\n", "certificate-missing");
    let gate = Gate::listening(LOCAL, &(routes(&upstream) + &test("", "allowed")));
    let (alice, _) = gate.issue("alice", YEAR);
    gate.replan(LOCAL, &routes(&upstream));
    let line = "X-Forwarded-For: 127.0.0.1\r\n";
    let mut client = h1(&gate, Some(&alice)).await;
    assert_eq!(client.get("/required", line).await.status, 200);
    gate.replan(&behind, &(routes(&upstream) + &tests));
    for (path, line, status) in [
        ("/required", line, 403),
        ("/required", "", 403),
        ("/accepted", line, 401),
    ] {
        let got = h1(&gate, Some(&alice)).await.get(path, line).await.status;
        assert_eq!(got, status, "{path} {line}");
    }
    assert_eq!(
        client.get("/required", line).await.status,
        403,
        "the connection of before"
    );
}

/// A test table.
fn asked(user: &str, certificate: &str, path: &str, expect: &str) -> String {
    let key = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!("{name} = \"{value}\"\n"),
    };
    format!(
        "[[test]]\nfrom = \"127.0.0.1\"\nrequest = \"GET https://app.lan{path}\"\n{}{}expect = \"{expect}\"\n",
        key("user", user),
        key("certificate", certificate)
    )
}

#[tokio::test]
async fn tests_of_the_file_speak_of_certificates() {
    let upstream = service();
    let rows = [
        ("", "", "/required", "certificate-missing"),
        ("alice", "", "/required", "certificate-missing"),
        ("", "alice", "/required", "allowed"),
        ("alice", "alice", "/required", "allowed"),
        ("bob", "alice", "/required", "certificate-refused"),
        ("", "mallory", "/required", "certificate-refused"),
        ("", "alice", "/both", "credentials-missing"),
        ("alice", "alice", "/both", "allowed"),
        ("", "alice", "/accepted", "allowed"),
        ("bob", "alice", "/accepted", "allowed"),
        ("", "alice", "/", "credentials-missing"),
        ("", "alice", "/ops", "allowed"),
        ("", "bob", "/ops", "not-permitted"),
    ];
    let tests: String = rows.iter().map(|(u, c, p, e)| asked(u, c, p, e)).collect();
    let gate = Gate::listening(LOCAL, &(routes(&upstream) + &tests));
    for (user, certificate, path, expect) in rows {
        let wrong = if expect == "allowed" {
            "not-permitted"
        } else {
            "allowed"
        };
        let tables = routes(&upstream) + &asked(user, certificate, path, wrong);
        let told = gate.try_replan(LOCAL, &tables).unwrap_err();
        assert!(told.contains(&format!("`{expect}`")), "{told}");
    }
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_with_its_repair() {
    let upstream = service();
    let gate = Gate::listening(LOCAL, &routes(&upstream));
    let plain = "networks = { allow = [\"loopback\"] }";
    let required = route("app.lan", "/", &upstream, "{ certificate = \"required\" }");
    let either = "{ certificate = \"required\", networks = [\"loopback\"], require = \"any\" }";
    let either = route("app.lan", "/", &upstream, either);
    let with = |table: &str| format!("{plain}\nclient_certificates = {table}");
    let none = gate.path("none.pem");
    std::fs::write(&none, "").unwrap();
    let leaf = gate.path("leaf.pem");
    let own = KeyPair::generate().unwrap();
    let own = CertificateParams::default().self_signed(&own).unwrap();
    std::fs::write(&leaf, own.pem()).unwrap();
    let ca = |path: &Path| with(&format!("{{ ca = \"{}\" }}", path.display()));
    for (listener, tables, want) in [
        (plain.to_owned(), &required, "no listener believes"),
        (LOCAL.to_owned(), &either, "contradict each other"),
        (with("{ }"), &required, "client_certificates"),
        (
            with("{ from = \"local-ca\", ca = \"ca.pem\" }"),
            &required,
            "client_certificates",
        ),
        (
            with("{ from = \"local-ca\", user = \"san-email\" }"),
            &required,
            "client_certificates",
        ),
        (
            with("{ ca = \"ca.pem\", user = \"email\" }"),
            &required,
            "san-email",
        ),
        (
            format!("{LOCAL}\ntls = {{ from = \"none\" }}"),
            &required,
            "plain HTTP knows no",
        ),
        (ca(&gate.path("missing.pem")), &required, "missing.pem"),
        (ca(&none), &required, "no authority that is valid"),
        (ca(&leaf), &required, "is no authority"),
    ] {
        let told = gate.try_replan(&listener, tables).unwrap_err();
        assert!(told.contains(want), "{want}:\n{told}");
    }
}
