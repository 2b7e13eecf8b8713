//! Services over TLS on loopback: the certificate that was seen first is held to, because a port is whoever's who takes it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use loopgate::app::ServiceCerts;
use loopgate::tls::Fingerprint;
use loopgate::upstream::first_seen;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

/// A certificate with its key, as a service makes it for itself.
struct Made {
    config: Arc<ServerConfig>,
    print: Fingerprint,
    pem: String,
}

fn made() -> Made {
    let pair = rcgen::generate_simple_self_signed(["whatever.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key.into())
        .unwrap();
    Made {
        config: Arc::new(config),
        print: Fingerprint::of(pair.cert.der()),
        pem: pair.cert.pem(),
    }
}

/// A service that answers `ok` once on every connection, with the certificate that is its turn, and counts the bytes that it is sent.
struct Service {
    address: SocketAddr,
    turns: Arc<Mutex<Vec<Arc<ServerConfig>>>>,
    bytes: Arc<AtomicUsize>,
}

impl Service {
    async fn with(certs: &[&Made]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            turns: Arc::default(),
            bytes: Arc::default(),
        };
        service.show(certs);
        let (turns, bytes) = (Arc::clone(&service.turns), Arc::clone(&service.bytes));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let config = {
                    let mut turns = turns.lock().unwrap();
                    turns.rotate_left(1);
                    Arc::clone(turns.last().unwrap())
                };
                let bytes = Arc::clone(&bytes);
                tokio::spawn(async move {
                    let mut tls = TlsAcceptor::from(config).accept(tcp).await.ok()?;
                    let mut buffer = [0; 4096];
                    let n = tls.read(&mut buffer).await.ok()?;
                    bytes.fetch_add(n, Ordering::SeqCst);
                    if n > 0 {
                        let answer =
                            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                        tls.write_all(answer).await.ok()?;
                    }
                    tls.shutdown().await.ok()
                });
            }
        });
        service
    }

    /// From now on these, in turn.
    fn show(&self, certs: &[&Made]) {
        *self.turns.lock().unwrap() = certs.iter().map(|c| Arc::clone(&c.config)).collect();
    }

    fn name(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A route to it, with this line.
    fn route(&self, line: &str) -> String {
        let name = self.name();
        format!(
            "[[route]]\nhosts = [\"app.lan\"]\nupstream = \"{name}\"\naccess = \"users\"\n{line}\n"
        )
    }

    /// Bytes that it was sent since the last time.
    fn sent(&self) -> usize {
        self.bytes.swap(0, Ordering::SeqCst)
    }
}

fn alice() -> String {
    format!(
        "Authorization: {}\r\nAccept: text/html\r\n",
        basic("alice", "open sesame")
    )
}

async fn status(gate: &Gate) -> u16 {
    gate.h1().await.get("/", &alice()).await.status
}

#[tokio::test]
async fn another_certificate_is_refused_before_a_byte_is_sent() {
    let (own, other) = (made(), made());
    let service = Service::with(&[&own]).await;
    let (gate, mut certs) = (Gate::open(&service.route("")), ServiceCerts::default());
    assert_eq!(status(&gate).await, 200);
    assert!(gate.settle(&mut certs).await.has_written);
    assert!(!gate.settle(&mut certs).await.has_written, "once");
    service.show(&[&other]);
    service.sent();
    let answer = gate.h1().await.get("/", &alice()).await;
    assert_eq!((answer.status, service.sent()), (502, 0));
    let page = String::from_utf8_lossy(&answer.body);
    assert!(page.contains("not the one that was seen before"), "{page}");
    assert_eq!(gate.settle(&mut certs).await.strangers, 1);
    assert_eq!(status(&gate).await, 502);
    assert_eq!(gate.settle(&mut certs).await.strangers, 0, "told once");
    service.show(&[&own]);
    assert_eq!(status(&gate).await, 200, "the right one is welcome again");
    service.show(&[&other]);
    assert_eq!(status(&gate).await, 502);
    assert_eq!(gate.settle(&mut certs).await.strangers, 1, "news again");
    assert_eq!(gate.word(2).await, "upstream-broken");
}

#[tokio::test]
async fn what_was_seen_first_outlives_a_restart_until_another_is_accepted() {
    let (own, other) = (made(), made());
    let service = Service::with(&[&own]).await;
    let mut gate = Gate::open(&service.route(""));
    let mut certs = ServiceCerts::default();
    // Nobody has come yet: it is asked for.
    gate.settle(&mut certs).await;
    let file = gate.path("state").join(first_seen::FILE);
    let written = async {
        while !gate.settle(&mut certs).await.has_written {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("what was seen to be written", written).await;
    assert_eq!(first_seen::load(&file).unwrap()[&service.name()], own.print);
    gate.restart();
    service.show(&[&other]);
    assert_eq!(
        status(&gate).await,
        502,
        "the port was taken while it was down"
    );
    first_seen::accept(&file, &service.name(), other.print).unwrap();
    gate.retable(&service.route(""));
    assert_eq!(status(&gate).await, 200);
    service.show(&[&own]);
    assert_eq!(
        status(&gate).await,
        502,
        "and the one before is the stranger now"
    );
    first_seen::forget(&file, &service.name()).unwrap();
    gate.retable(&service.route(""));
    assert_eq!(status(&gate).await, 200);
}

#[tokio::test]
async fn a_reload_does_not_forget_what_is_not_written_yet() {
    let (own, other) = (made(), made());
    let service = Service::with(&[&own]).await;
    let gate = Gate::open(&service.route(""));
    assert_eq!(status(&gate).await, 200);
    gate.retable(&service.route(""));
    service.show(&[&other]);
    assert_eq!(status(&gate).await, 502);
    // Another gate of this state directory was faster, with the other one.
    let file = gate.path("state").join(first_seen::FILE);
    first_seen::accept(&file, &service.name(), other.print).unwrap();
    let mut certs = ServiceCerts::default();
    assert!(gate.settle(&mut certs).await.is_overtaken);
    gate.retable(&service.route(""));
    assert_eq!(status(&gate).await, 200);
}

#[tokio::test]
async fn of_first_visitors_who_meet_different_certificates_only_those_of_one_come_in() {
    let all: Vec<Made> = (0..4).map(|_| made()).collect();
    let service = Service::with(&all.iter().collect::<Vec<_>>()).await;
    let gate = Gate::open(&service.route(""));
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(gate.h1().await);
    }
    let lines = alice();
    let asked = clients.iter_mut().map(|client| client.get("/", &lines));
    let mut statuses: Vec<u16> = Vec::new();
    for answer in join(asked).await {
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(
        statuses,
        [200, 200, 502, 502, 502, 502, 502, 502],
        "four in turn, eight come"
    );
}

/// All of them at once.
async fn join<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_over = true;
        for (one, done) in &mut all {
            if done.is_none() {
                match one.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => is_over = false,
                }
            }
        }
        if is_over {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn a_certificate_can_be_written_down_in_the_configuration() {
    let (own, other) = (made(), made());
    let service = Service::with(&[&own]).await;
    let gate = Gate::open(&service.route(""));
    std::fs::write(gate.path("own.pem"), &own.pem).unwrap();
    std::fs::write(gate.path("other.pem"), &other.pem).unwrap();
    std::fs::write(gate.path("both.pem"), format!("{}{}", other.pem, own.pem)).unwrap();
    for (line, want) in [
        (format!("upstream_cert = \"{}\"", own.print), 200),
        (format!("upstream_cert = \"{}\"", other.print), 502),
        ("upstream_cert = { file = \"own.pem\" }".to_owned(), 200),
        ("upstream_cert = { file = \"other.pem\" }".to_owned(), 502),
        ("upstream_cert = { file = \"both.pem\" }".to_owned(), 200),
        ("upstream_cert = \"any\"".to_owned(), 200),
    ] {
        gate.retable(&service.route(&line));
        service.sent();
        assert_eq!(status(&gate).await, want, "{line}");
        assert_eq!(service.sent() > 0, want == 200, "{line}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_a_mistake() {
    let service = Service::with(&[&made()]).await;
    let networks = "networks = { allow = [\"loopback\"] }";
    let gate = Gate::listening(networks, &service.route(""));
    let clear = String::from(
        "[[route]]\nhosts = [\"b.lan\"]\nupstream = \"127.0.0.1:1\"\naccess = \"users\"\nupstream_cert = \"any\"\n",
    );
    let again = service
        .route("upstream_cert = \"any\"")
        .replace("app.lan", "c.lan");
    for (tables, want) in [
        (
            service.route("upstream_cert = \"first\""),
            "none of the words",
        ),
        (
            service.route("upstream_cert = \"sha256:abc\""),
            "64 hexadecimal digits",
        ),
        (
            service.route("upstream_cert = { file = \"nowhere.pem\" }"),
            "nowhere.pem",
        ),
        (
            service.route("upstream_cert = { file = \"users.htpasswd\" }"),
            "no PEM certificate",
        ),
        (clear, "has no certificate"),
        (
            service.route("") + &again,
            "something else about the certificate",
        ),
    ] {
        let report = gate.try_replan(networks, &tables).unwrap_err();
        assert!(report.contains(want), "{want} is missing in {report}");
    }
    let file = gate.path("state").join(first_seen::FILE);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "nonsense\n").unwrap();
    let report = gate.try_replan(networks, &service.route("")).unwrap_err();
    assert!(report.contains("line 1 of"), "{report}");
}
