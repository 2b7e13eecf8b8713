//! Who may connect, judged on the socket's address before a byte is read. The only maker of [`Admitted`].

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::base::cidr::{NetSet, fold};
use crate::base::refusal::{Reason, Refusal};

mod compile;

pub use compile::{compile, network_set};

/// What is found where NAT hides the visitor.
pub const BEHIND_NAT: &str = "our own default gateway, so the visitor is hidden behind NAT";

/// The networks of one listener: deny wins, and what nobody allowed is denied.
#[derive(Debug, Default)]
pub struct Gate {
    allow: NetSet,
    deny: NetSet,
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
    /// Our default gateways: behind NAT every visitor has this address, so it counts for no `allow` (unless told to).
    gateways: NetSet,
}

/// Proof that the peer of a connection was judged and let in. Neither `Clone` nor `Default`.
#[derive(Debug)]
pub struct Admitted {
    stream: TcpStream,
    peer: SocketAddr,
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

    /// Judges an address. Loopback has no privilege that is not written down.
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
    pub fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Result<Admitted, Refusal> {
        let peer = SocketAddr::new(fold(peer.ip()), peer.port());
        self.judge(peer.ip())?;
        let local = stream.local_addr().map_err(|_| {
            Refusal::new(
                Reason::NetworkDenied,
                "the socket has no local address any more",
            )
        })?;
        Ok(Admitted {
            stream,
            peer,
            local: SocketAddr::new(fold(local.ip()), local.port()),
        })
    }
}

impl Admitted {
    /// The address of the socket's other end, IPv4-mapped folded.
    pub fn peer(&self) -> SocketAddr {
        self.peer
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
