//! From an admitted socket to a stream that speaks HTTP: TLS with a deadline; plain HTTP on a TLS port gets a redirect.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustls::ProtocolVersion;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::flow::{ClientCertificate, Conn, Worker};
use crate::gate::Admitted;
use crate::limit::Counted;
use crate::net::{Stream, Wire};
use crate::observe::Event;
use crate::observe::metrics::AuthResult;
use crate::tls::ServerTls;

/// A connection that can be served.
#[allow(
    clippy::large_enum_variant,
    reason = "made once a connection and taken apart at once"
)]
pub(super) enum Ready {
    Http1(Conn, Wire),
    Http2(Conn, Box<Stream>),
}

/// The first byte of every TLS record that opens a connection (RFC 8446, 5.1: handshake).
const HANDSHAKE: u8 = 0x16;

/// Shakes hands within the deadline; `None` when there is nothing to serve.
pub(super) async fn shake(
    admitted: Admitted,
    address: SocketAddr,
    counted: Option<Rc<Counted>>,
    worker: &Rc<Worker>,
) -> Option<Ready> {
    let plan = worker.plan();
    let (peer, local) = (admitted.peer(), admitted.local());
    let conn = Conn {
        peer,
        source: admitted.source().ip(),
        local,
        sni: None,
        tls: "",
        certificate: None,
        listener: address,
        bell: worker.bell(),
        busy: Rc::default(),
        known: Default::default(),
        is_surplus: counted.is_none(),
        counted,
    };
    let tls = plan.rules(address, local)?.tls.clone();
    let due = Instant::now() + plan.limits.handshake;
    let Some(tls) = tls else {
        let stream = admitted.into_stream();
        stream.set_nodelay(true).ok()?;
        return Some(Ready::Http1(conn, Wire::new(Stream::Tcp(stream))));
    };
    let stream = tokio::select! {
        biased;
        stream = hands(admitted, &tls, due, worker) => stream?,
        () = left_alone(&conn, worker) => return None,
    };
    Some(ready(stream, conn, worker))
}

/// From the first byte to the end of the handshake.
async fn hands(
    admitted: Admitted,
    tls: &Arc<ServerTls>,
    due: Instant,
    worker: &Rc<Worker>,
) -> Option<TlsStream<TcpStream>> {
    let mut first = [0];
    match timeout_at(due, admitted.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        Ok(Ok(_) | Err(_)) | Err(_) => return None,
    }
    if first[0] != HANDSHAKE {
        if first[0].is_ascii_alphabetic() {
            super::redirect::answer(admitted, worker).await;
        }
        return None;
    }
    let config = tls.config(admitted.local().ip());
    let stream = admitted.into_stream();
    stream.set_nodelay(true).ok()?;
    let shaken = timeout_at(due, TlsAcceptor::from(config).accept(stream));
    shaken.await.ok()?.ok()
}

/// Until the gate has been leaving for as long as whoever has just connected may take: who does not begin holds up no end.
async fn left_alone(conn: &Conn, worker: &Worker) {
    poll_fn(|cx| {
        conn.bell.listen(cx);
        match conn.is_leaving(worker) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    tokio::time::sleep(super::http1::FIRST).await;
}

fn ready(stream: TlsStream<TcpStream>, conn: Conn, worker: &Worker) -> Ready {
    let session = stream.get_ref().1;
    let sni = session.server_name().map(|name| {
        name.strip_suffix('.')
            .unwrap_or(name)
            .to_ascii_lowercase()
            .into()
    });
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let h2 = session.alpn_protocol() == Some(b"h2");
    let chain = session.peer_certificates().unwrap_or_default();
    let certificate = (!chain.is_empty()).then(|| Rc::new(ClientCertificate::new(chain.to_vec())));
    let conn = Conn {
        sni,
        tls: version,
        certificate,
        ..conn
    };
    introduced(worker, &conn);
    let stream = Stream::TlsServer(Box::new(stream));
    if h2 {
        Ready::Http2(conn, Box::new(stream))
    } else {
        Ready::Http1(conn, Wire::new(stream))
    }
}

/// Said once a connection, so that a certificate which is not good is never silent, whatever the requests ask for.
fn introduced(worker: &Worker, conn: &Conn) {
    match conn.certified(worker) {
        Ok(None) => {}
        Ok(Some(_)) => worker.tally.login("certificate", AuthResult::Success),
        Err(fault) => {
            worker.tally.login("certificate", AuthResult::Failure);
            let event = Event::info("auth_failed")
                .with("client", conn.source)
                .with("method", "certificate")
                .with("why", fault.detail());
            worker.shared.log.event(event);
        }
    }
}
