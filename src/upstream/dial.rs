//! Connects to a loopback address, and to nothing else: the address comes from a [`LoopbackAddr`] alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Upstream;
use crate::base::loopback::LoopbackAddr;
use crate::base::refusal::{Reason, Refusal};
use crate::net::Stream;
use crate::tls::Fingerprint;

/// A new connection that may be served by: who was not there the last time is looked at first, and refused if he must be.
pub(super) async fn proven(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    let stream = dial(upstream, limit).await?;
    upstream.seen.settle().await?;
    upstream.check()?;
    Ok(stream)
}

/// What is said of a service with another certificate; `flow` tells people more.
pub const STRANGER: &str = "the certificate of the upstream is not the one that is held to";

/// Why there is no connection.
enum Failed {
    Connect(io::Error),
    Tls,
    /// Somebody with another certificate answers.
    Stranger,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

/// A new connection to the upstream, TLS included, within `limit`. Not a byte is sent to a service before its certificate is judged.
pub(super) async fn dial(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    let (reason, detail) = match timeout(limit, connect(upstream)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(Failed::Tls)) => (
            Reason::UpstreamBroken,
            "the TLS handshake with the upstream failed",
        ),
        Ok(Err(Failed::Stranger)) => (Reason::UpstreamBroken, STRANGER),
        Ok(Err(Failed::Connect(e))) if is_short(&e) => (
            Reason::TooBusy,
            "no descriptor is left for a connection to the upstream",
        ),
        Ok(Err(Failed::Connect(_))) => {
            upstream.doubt();
            let detail = "nothing accepts connections at the upstream's address";
            (Reason::UpstreamRefused, detail)
        }
        Err(_) => (
            Reason::UpstreamTimeout,
            "the upstream did not accept the connection in time",
        ),
    };
    Err(Refusal::new(reason, detail))
}

/// Whether this process or machine has no descriptor left.
fn is_short(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .map(|e| Some(e.raw_os_error()))
        .contains(&code)
}

async fn connect(upstream: &Upstream) -> Result<Stream, Failed> {
    let address = &upstream.target.address;
    if let Some(path) = address.unix() {
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let tcp = first(address).await?;
    tcp.set_nodelay(true)?;
    let Some(config) = &upstream.tls else {
        return Ok(Stream::Tcp(tcp));
    };
    let name = ServerName::try_from("localhost").map_err(|_| Failed::Tls)?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, tcp)
        .await
        .map_err(|_| Failed::Tls)?;
    // Here and not in the handshake: a resumed session is judged too, and nobody becomes the first one with a certificate whose key
    // he does not have.
    let certificates = stream.get_ref().1.peer_certificates();
    let own = certificates.and_then(|list| list.first());
    match own.is_some_and(|own| upstream.pin.admits(Fingerprint::of(own))) {
        true => Ok(Stream::TlsClient(Box::new(stream))),
        false => Err(Failed::Stranger),
    }
}

/// The first of the addresses that answers.
async fn first(address: &LoopbackAddr) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for socket in address.sockets() {
        match TcpStream::connect(socket).await {
            Ok(tcp) => return Ok(tcp),
            Err(e) => last = e,
        }
    }
    Err(last)
}
