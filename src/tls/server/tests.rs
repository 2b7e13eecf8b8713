//! Real handshakes in memory, against clients that trust nothing but the root.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::tls::{files, upstream_client, x509};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

fn authority() -> (tempfile::TempDir, Arc<LocalCa>) {
    let dir = tempfile::tempdir().unwrap();
    let hosts = ["box".to_owned()];
    let authority = LocalCa::open(&dir.path().join("ca"), &hosts, SystemTime::now()).unwrap();
    (dir, Arc::new(authority))
}

fn server(authority: &Arc<LocalCa>, tickets: &Tickets) -> ServerTls {
    let names = Names::new(["app.lan", "*.box.lan", "*.lan", "www.example.com"]);
    let source = Source::LocalCa(Arc::clone(authority));
    ServerTls::new(source, names, "box.local", tickets.clone(), None)
}

fn client(root: &[u8], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// What the two ends agreed on.
struct Agreed {
    client: ClientConnection,
    server: ServerConnection,
}

impl Agreed {
    fn subjects(&self) -> Vec<String> {
        let chain = self.client.peer_certificates().unwrap();
        assert_eq!(chain.len(), 2, "leaf and intermediate");
        let facts = x509::facts(&chain[0]).unwrap();
        facts.subjects.iter().map(ToString::to_string).collect()
    }
}

/// Client and server exchange bytes until both have no more to say.
fn shake(
    client: &Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Agreed, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(server)?;
    let mut bytes = Vec::new();
    while client.wants_write() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        bytes.clear();
    }
    Ok(Agreed { client, server })
}

#[test]
fn each_client_gets_the_one_name_that_it_asked_for() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    let client = client(authority.root_der(), VERSIONS);
    for (local, asked, want) in [
        ("192.168.1.5", "app.lan", "app.lan"),
        ("192.168.1.5", "APP.lan", "app.lan"),
        ("192.168.1.5", "x.box.lan", "*.box.lan"),
        ("192.168.1.5", "192.168.1.5", "192.168.1.5"),
        ("::ffff:192.168.1.5", "192.168.1.5", "192.168.1.5"),
        ("fe80::1", "fe80::1", "fe80::1"),
        ("203.0.113.1", "box.local", "box.local"),
    ] {
        let config = tls.config(local.parse().unwrap());
        let agreed = shake(&client, config, asked).expect(asked);
        assert_eq!(agreed.subjects(), [want], "{asked}");
    }
}

#[test]
fn clients_refuse_what_is_not_ours_to_speak_for() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    let client = client(authority.root_der(), VERSIONS);
    for (local, asked) in [
        ("192.168.1.5", "192.168.1.6"),
        // Outside the constraints: the default leaf, which does not fit.
        ("203.0.113.1", "203.0.113.1"),
        ("192.168.1.5", "www.example.com"),
        // A star right under a suffix gets no leaf, and a name that nobody configured gets none.
        ("192.168.1.5", "y.lan"),
        ("192.168.1.5", "unknown.test"),
        ("192.168.1.5", "x.y.box.lan"),
    ] {
        let config = tls.config(local.parse().unwrap());
        assert!(shake(&client, config, asked).is_err(), "{asked}");
    }
    let signed: Vec<String> = authority
        .leaves()
        .iter()
        .map(|(s, _)| s.to_string())
        .collect();
    assert_eq!(signed.len(), 2, "default and address only: {signed:?}");
}

#[test]
fn negotiates_the_post_quantum_group_and_http_2() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    let config = tls.config([127, 0, 0, 1].into());
    assert_eq!(config.max_early_data_size, 0);
    let client = client(authority.root_der(), VERSIONS);
    let agreed = shake(&client, config, "app.lan").unwrap();
    let group = agreed.server.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    let version = agreed.server.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(agreed.client.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_client_resumes_on_another_configuration() {
    let (_dir, authority) = authority();
    for versions in [&[&TLS13][..], &[&TLS12][..]] {
        let tickets = Tickets::new();
        // Two cores, two listeners, or the plans before and after a reload.
        let (one, two) = (server(&authority, &tickets), server(&authority, &tickets));
        let client = client(authority.root_der(), versions);
        let first = shake(&client, one.config([10, 0, 0, 1].into()), "app.lan").unwrap();
        let second = shake(&client, two.config([10, 0, 0, 2].into()), "app.lan").unwrap();
        let kinds = [first, second].map(|agreed| agreed.server.handshake_kind().unwrap());
        assert_ne!(kinds[0], HandshakeKind::Resumed);
        assert_eq!(kinds[1], HandshakeKind::Resumed, "{versions:?}");

        let stranger = server(&authority, &Tickets::new());
        let third = shake(&client, stranger.config([10, 0, 0, 1].into()), "app.lan").unwrap();
        assert_ne!(third.server.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn configurations_are_shared_and_bounded() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    let at = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
    assert!(Arc::ptr_eq(&tls.config(at(1)), &tls.config(at(1))));
    for n in 0..1000 {
        tls.config(at(n));
    }
    assert!(tls.by_address.load().len() <= MOST_ADDRESSES);
    let outside = tls.config([203, 0, 113, 1].into());
    assert!(Arc::ptr_eq(&outside, &tls.common));
}

#[test]
fn a_default_outside_the_authority_becomes_localhost() {
    let (_dir, authority) = authority();
    let source = Source::LocalCa(Arc::clone(&authority));
    let tls = ServerTls::new(
        source,
        Names::default(),
        "www.example.com",
        Tickets::new(),
        None,
    );
    let client = client(authority.root_der(), VERSIONS);
    let agreed = shake(&client, tls.config([10, 0, 0, 1].into()), "localhost").unwrap();
    assert_eq!(agreed.subjects(), ["localhost"]);
}

#[test]
fn warmth_leaves_nothing_to_sign_in_a_handshake() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    tls.warm(
        &[[10, 0, 0, 1].into(), [8, 8, 8, 8].into()],
        SystemTime::now(),
    )
    .unwrap();
    let warm = authority.leaves().len();
    assert_eq!(warm, 4, "default, two names, one address");
    let client = client(authority.root_der(), VERSIONS);
    shake(&client, tls.config([10, 0, 0, 1].into()), "app.lan").unwrap();
    shake(&client, tls.config([10, 0, 0, 1].into()), "10.0.0.1").unwrap();
    assert_eq!(authority.leaves().len(), warm);
}

fn upstream(
    certified: CertifiedKey,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Arc::new(config)
}

#[test]
fn upstreams_may_have_any_certificate_but_must_own_its_key() {
    let own = rcgen::generate_simple_self_signed(["whatever.example".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["whatever.example".to_owned()]).unwrap();
    let key = |pair: &rcgen::KeyPair| {
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(pair.serialize_der());
        provider()
            .key_provider
            .load_private_key(der.into())
            .unwrap()
    };
    let cases = [
        (key(&own.signing_key), true),
        // The certificate of another, as anybody can copy it.
        (key(&other.signing_key), false),
    ];
    for (key, want) in cases {
        for version in VERSIONS {
            let certified = CertifiedKey::new(vec![own.cert.der().clone()], Arc::clone(&key));
            let first = shake(
                &upstream_client(),
                upstream(certified, version),
                "127.0.0.1",
            );
            assert_eq!(first.is_ok(), want, "{version:?}");
        }
    }
}

/// `openssl x509 -req` without extensions makes version 1, which webpki does not read and old appliances have.
#[test]
fn upstreams_may_have_a_certificate_of_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        command.current_dir(&dir).args(arguments.split(' '));
        command.output().is_ok_and(|output| output.status.success())
    };
    if !openssl("version") {
        return;
    }
    for kind in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384"] {
        let request = format!("req -new -newkey {kind} -nodes -keyout k -out r -subj /CN=old");
        assert!(openssl(&request), "{kind}");
        assert!(openssl("x509 -req -in r -signkey k -out c"), "{kind}");
        let chain = CertificateDer::from_pem_file(dir.path().join("c")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.path().join("k")).unwrap();
        let key = provider().key_provider.load_private_key(key).unwrap();
        for version in VERSIONS {
            let certified = CertifiedKey::new(vec![chain.clone()], Arc::clone(&key));
            let server = upstream(certified, version);
            shake(&upstream_client(), server, "127.0.0.1").expect(kind);
        }
    }
}

#[test]
fn files_are_served_whatever_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let (chain, key) = (dir.path().join("c.pem"), dir.path().join("c.key"));
    std::fs::write(&chain, pair.cert.pem()).unwrap();
    crate::tls::files::tests::private_file(&key, &pair.signing_key.serialize_pem());
    let loaded = files::load(&chain, &key, SystemTime::now()).unwrap();
    let source = Source::Files(Arc::new(loaded));
    let tls = ServerTls::new(source, Names::default(), "x", Tickets::new(), None);
    let client = client(pair.cert.der(), VERSIONS);
    let at = [10, 0, 0, 1].into();
    assert!(Arc::ptr_eq(&tls.config(at), &tls.common));
    assert!(shake(&client, tls.config(at), "a.example").is_ok());
    assert!(shake(&client, tls.config(at), "b.example").is_err());
}

/// `cargo test --lib --profile … -- --ignored --nocapture cost_of` prints what a first use costs.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "a measurement")]
fn cost_of_signing_in_a_handshake() {
    let (_dir, authority) = authority();
    let tls = server(&authority, &Tickets::new());
    let now = SystemTime::now();
    let mean = |n: u32, mut act: Box<dyn FnMut(u32) + '_>| -> Duration {
        let since = Instant::now();
        (0..n).for_each(&mut act);
        since.elapsed() / n
    };
    let name = |i: u32| Subject::Name(format!("n{i}.lan"));
    let sign = mean(
        500,
        Box::new(|i| drop(authority.leaf(&name(i), now).unwrap())),
    );
    let held = mean(
        500,
        Box::new(|_| drop(authority.leaf(&name(1), now).unwrap())),
    );
    let config = mean(5000, Box::new(|_| drop(tls.config([10, 0, 0, 1].into()))));
    let full = mean(
        200,
        Box::new(|_| {
            let client = client(authority.root_der(), VERSIONS);
            drop(shake(&client, tls.config([10, 0, 0, 1].into()), "app.lan").unwrap());
        }),
    );
    eprintln!("sign {sign:?}, held {held:?}, config {config:?}, handshake (both ends) {full:?}");
}
