//! Connects to a loopback address, and to nothing else: the address comes from a [`LoopbackAddr`] alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::Upstream;
use super::turns::Missed;
use crate::base::loopback::LoopbackAddr;
use crate::base::refusal::{NOT_ACCEPTED, Reason, Refusal};
use crate::net::Stream;
use crate::tls::Fingerprint;

/// A new connection that may be served by: who was not there the last time is looked at first, and refused if he must be.
pub(super) async fn proven(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    let stream = dial(upstream, limit).await?;
    upstream.seen.settle().await?;
    upstream.check()?;
    Ok(stream)
}

/// No dial takes longer, whatever is configured: a time that can be added to now.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is said of a service with another certificate; `flow` tells people more.
pub const STRANGER: &str = "the certificate of the upstream is not the one that is held to";

/// Why there is no connection.
enum Failed {
    Missed(Missed),
    Tls,
    /// Somebody with another certificate answers.
    Stranger,
}

impl From<Missed> for Failed {
    fn from(missed: Missed) -> Self {
        Self::Missed(missed)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Missed(Missed::Failed(error))
    }
}

/// A new connection to the upstream, TLS included, within `limit`. Not a byte is sent to a service before its certificate is judged.
pub(super) async fn dial(upstream: &Upstream, limit: Duration) -> Result<Stream, Refusal> {
    let (reason, detail) = match connect(upstream, limit).await {
        Ok(stream) => return Ok(stream),
        Err(Failed::Tls) => (
            Reason::UpstreamBroken,
            "the TLS handshake with the upstream failed",
        ),
        Err(Failed::Stranger) => (Reason::UpstreamBroken, STRANGER),
        Err(Failed::Missed(Missed::Failed(e))) if is_short(&e) => (
            Reason::TooBusy,
            "no descriptor is left for a connection to the upstream",
        ),
        Err(Failed::Missed(Missed::Failed(_))) => {
            upstream.doubt();
            let detail = "nothing accepts connections at the upstream's address";
            (Reason::UpstreamRefused, detail)
        }
        Err(Failed::Missed(Missed::Late)) => (
            Reason::UpstreamTimeout,
            "the upstream did not accept the connection in time",
        ),
        Err(Failed::Missed(Missed::Full)) => (Reason::TooBusy, NOT_ACCEPTED),
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

async fn connect(upstream: &Upstream, limit: Duration) -> Result<Stream, Failed> {
    let limit = limit.min(LONGEST);
    let end = Instant::now() + limit;
    let address = &upstream.target.address;
    let mut turn = upstream.turns.turn(end).await?;
    if let Some(path) = address.unix() {
        let unix = turn.connect((end, limit), || UnixStream::connect(path));
        let unix = unix.await?;
        turn.taken();
        return Ok(Stream::Unix(unix));
    }
    let tcp = turn.connect((end, limit), || first(address));
    let tcp = tcp.await?;
    tcp.set_nodelay(true)?;
    let Some(config) = &upstream.tls else {
        turn.taken();
        return Ok(Stream::Tcp(tcp));
    };
    let name = ServerName::try_from("localhost").map_err(|_| Failed::Tls)?;
    let shake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
    let shaken = turn.hear(end, shake).await?;
    turn.taken();
    let stream = shaken.map_err(|_| Failed::Tls)?;
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
