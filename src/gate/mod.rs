//! Who may connect, judged on the socket's address before a byte is read; behind a trusted proxy also on whom its PROXY header
//! names. The only maker of [`Admitted`].

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::base::cidr::{NetSet, fold};
use crate::base::refusal::{Reason, Refusal};
use crate::net::proxy_protocol::{self, Header, HeaderError};

mod client;
mod compile;
mod forwarded;

pub use client::{Client, Told};
pub use compile::{compile, network_set};

/// What is found where NAT hides the visitor.
pub const BEHIND_NAT: &str =
    "our own default gateway or container bridge, so the visitor is hidden behind NAT";

/// The networks of one listener: deny wins, and what nobody allowed is denied.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    allow: NetSet,
    deny: NetSet,
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
    /// Our default gateways, and our ends of container bridges: behind NAT every visitor has such an address, so it counts for
    /// no `allow` (unless told to).
    gateways: NetSet,
    /// The proxies that are believed.
    proxies: NetSet,
    trusted: Vec<IpNet>,
    /// A trusted proxy begins every connection with a PROXY header.
    wants_header: bool,
}

/// A connection whose peer was judged; nothing of it was read. Neither `Clone` nor `Default`.
#[derive(Debug)]
pub struct Arrived {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    is_proxy: bool,
}

/// Proof that both ends of a connection were judged and let in. Neither `Clone` nor `Default`.
#[derive(Debug)]
pub struct Admitted {
    stream: TcpStream,
    peer: SocketAddr,
    source: SocketAddr,
    local: SocketAddr,
}

impl Gate {
    /// The networks that are allowed, named sets resolved.
    pub fn allowed(&self) -> &[IpNet] {
        &self.allowed
    }

    /// The networks that are denied.
    pub fn denied(&self) -> &[IpNet] {
        &self.denied
    }

    /// The proxies that are believed, named sets resolved.
    pub fn trusted(&self) -> &[IpNet] {
        &self.trusted
    }

    /// Whether any proxy is believed.
    pub fn has_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// Whether a trusted proxy must send a PROXY header.
    pub fn wants_header(&self) -> bool {
        self.wants_header
    }

    /// Judges a client's address. Loopback has no privilege that is not written down.
    pub fn judge(&self, peer: IpAddr) -> Result<(), Refusal> {
        let refuse = |detail| Err(Refusal::new(Reason::NetworkDenied, detail));
        if self.deny.contains(peer) {
            return refuse("in a denied network");
        }
        if !self.allow.contains(peer) {
            return refuse("in no allowed network");
        }
        if self.gateways.contains(peer) {
            return refuse(BEHIND_NAT);
        }
        Ok(())
    }

    /// Judges the peer of an accepted connection. On refusal the socket is closed and nothing was sent.
    pub fn arrive(&self, stream: TcpStream, peer: SocketAddr) -> Result<Arrived, Refusal> {
        let peer = SocketAddr::new(fold(peer.ip()), peer.port());
        self.judge_connection(peer.ip(), peer.ip())?;
        let local = stream.local_addr().map_err(|_| {
            Refusal::new(
                Reason::NetworkDenied,
                "the socket has no local address any more",
            )
        })?;
        Ok(Arrived {
            stream,
            peer,
            local: SocketAddr::new(fold(local.ip()), local.port()),
            is_proxy: self.trusts(peer.ip()),
        })
    }

    /// Admits an arrived connection, at once or after the PROXY header that a trusted proxy owes us; the deadline is the
    /// caller's. A refusal comes with the address that it is about.
    pub async fn admit(&self, arrived: Arrived) -> Result<Admitted, (SocketAddr, Refusal)> {
        let source = arrived.peer;
        let admitted = Admitted {
            stream: arrived.stream,
            peer: arrived.peer,
            source,
            local: arrived.local,
        };
        if !(arrived.is_proxy && self.wants_header) {
            return Ok(admitted);
        }
        Box::pin(self.introduce(admitted)).await
    }

    async fn introduce(&self, admitted: Admitted) -> Result<Admitted, (SocketAddr, Refusal)> {
        let peer = admitted.peer;
        let mut admitted = admitted;
        match proxy_protocol::read(&mut admitted.stream).await {
            Ok(Header::Local) => {}
            Ok(Header::Client { source, .. }) => admitted.source = source,
            Err(HeaderError::Bad(detail)) => return Err((peer, Refusal::bad(detail))),
            Err(HeaderError::Io(_)) => {
                return Err((
                    peer,
                    Refusal::bad("the connection ended before its PROXY header"),
                ));
            }
        }
        let source = admitted.source;
        match self.judge_connection(peer.ip(), source.ip()) {
            Ok(()) => Ok(admitted),
            Err(refusal) => Err((source, refusal)),
        }
    }
}

impl Arrived {
    /// Whether the peer is a proxy that is believed: then it stands for many clients.
    pub fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// The address of the socket's other end, IPv4-mapped folded.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address that the peer connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

impl Admitted {
    /// The address of the socket's other end, IPv4-mapped folded.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whom the PROXY header names; the peer where there is none.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The address that the peer connected to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Looks at the first bytes without taking them.
    pub async fn peek(&self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.peek(into).await
    }

    /// Gives the stream to the step that follows.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(allow: &[&str], deny: &[&str], gateways: &[&str]) -> Gate {
        let set = |list: &[&str]| {
            NetSet::new(&list.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        };
        Gate {
            allow: set(allow),
            deny: set(deny),
            gateways: set(gateways),
            ..Gate::default()
        }
    }

    #[test]
    fn deny_wins_and_nothing_is_open_by_omission() {
        let lan = gate(
            &["10.0.0.0/8", "2001:db8::/32"],
            &["10.6.6.0/24"],
            &["10.0.0.1/32"],
        );
        for (peer, want) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::5", true),
            ("10.6.6.6", false),
            ("::ffff:10.6.6.6", false),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(lan.judge(peer.parse().unwrap()).is_ok(), want, "{peer}");
        }
        assert!(Gate::default().judge("127.0.0.1".parse().unwrap()).is_err());
    }
}
