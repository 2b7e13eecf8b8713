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

/// A new connection that may be served by: who was not there the last time is looked at first, and refused if he must be.
pub(super) async fn proven(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    let stream = dial(upstream, limit).await?;
    upstream.seen.settle().await?;
    upstream.check()?;
    Ok(stream)
}

/// A new connection to the upstream, TLS included, within `limit`.
pub(super) async fn dial(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    match timeout(limit, connect(upstream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => Err(Refusal::new(
            Reason::UpstreamBroken,
            "the TLS handshake with the upstream failed",
        )),
        Ok(Err(e)) if is_short(&e) => Err(Refusal::new(
            Reason::TooBusy,
            "no descriptor is left for a connection to the upstream",
        )),
        Ok(Err(_)) => {
            upstream.doubt();
            let detail = "nothing accepts connections at the upstream's address";
            Err(Refusal::new(Reason::UpstreamRefused, detail))
        }
        Err(_) => Err(Refusal::new(
            Reason::UpstreamTimeout,
            "the upstream did not accept the connection in time",
        )),
    }
}

/// Whether this process or machine has no descriptor left.
fn is_short(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .map(|e| Some(e.raw_os_error()))
        .contains(&code)
}

async fn connect(upstream: &Upstream) -> io::Result<Stream> {
    let address = &upstream.target.address;
    if let Some(path) = address.unix() {
        return UnixStream::connect(path).await.map(Stream::Unix);
    }
    let tcp = first(address).await?;
    tcp.set_nodelay(true)?;
    let Some(config) = &upstream.tls else {
        return Ok(Stream::Tcp(tcp));
    };
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, tcp)
        .await;
    stream
        .map(|s| Stream::TlsClient(Box::new(s)))
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
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
