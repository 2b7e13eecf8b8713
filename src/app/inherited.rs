//! Sockets that a service manager has opened for us (`LISTEN_FDS`): taken by the listeners of the plan that have their address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;
use thiserror::Error;

use crate::net::bind;
use crate::plan::Plan;

/// Why a socket that was handed to us cannot be served.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message says it")]
pub enum InheritedError {
    #[error(
        "the service manager has handed over a socket that is not a listening TCP socket (number {index}: {why}); write `ListenStream=ADDR:PORT` in the socket unit"
    )]
    NotListening { index: usize, why: String },
    #[error(
        "the service manager has handed over a socket on {address}, and no listener of the configuration has that address; write `address = \"{address}\"` in a [[listener]], or take it out of the socket unit"
    )]
    Unnamed { address: SocketAddr },
    #[error(
        "the service manager has handed over two sockets on {address}; take one out of the socket unit"
    )]
    Twice { address: SocketAddr },
    #[error(
        "the socket on {address} takes IPv4 connections as well; write `BindIPv6Only=ipv6-only` in the socket unit, and a second ListenStream= where you want IPv4"
    )]
    BothFamilies { address: SocketAddr },
}

/// What was handed to us. Kept as long as we live: the manager keeps its own, so nobody else could bind these addresses.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes what the environment says was handed to this process. Once: the second call would take what is in use.
    pub fn take() -> Result<Self, InheritedError> {
        let mut handed = ListenFd::from_env();
        let mut all = Vec::with_capacity(handed.len());
        for index in 0..handed.len() {
            let wrong = |error: io::Error| InheritedError::NotListening {
                index,
                why: error.to_string(),
            };
            if let Some(socket) = handed.take_tcp_listener(index).map_err(wrong)? {
                all.push((index, socket));
            }
        }
        Self::new(all)
    }

    fn new(sockets: Vec<(usize, TcpListener)>) -> Result<Self, InheritedError> {
        let mut all: Vec<(SocketAddr, TcpListener)> = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets {
            let wrong = |why: String| InheritedError::NotListening { index, why };
            let address = socket.local_addr().map_err(|e| wrong(e.to_string()))?;
            let about = SockRef::from(&socket);
            if !about.is_listener().map_err(|e| wrong(e.to_string()))? {
                return Err(wrong("it does not listen".into()));
            }
            if address.is_ipv6() && !about.only_v6().map_err(|e| wrong(e.to_string()))? {
                return Err(InheritedError::BothFamilies { address });
            }
            if all.iter().any(|(other, _)| *other == address) {
                return Err(InheritedError::Twice { address });
            }
            bind::prepare(&about).map_err(|e| wrong(e.to_string()))?;
            all.push((address, socket));
        }
        Ok(Self(all))
    }

    /// Whether every one of them is named by a listener of the plan, open or not.
    pub fn fit(&self, plan: &Plan) -> Result<(), InheritedError> {
        let named = |at: &SocketAddr| plan.listeners.iter().any(|l| l.addresses.contains(at));
        match self.0.iter().find(|(address, _)| !named(address)) {
            Some((address, _)) => Err(InheritedError::Unnamed { address: *address }),
            None => Ok(()),
        }
    }

    /// Whether this address was handed to us.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|(at, _)| *at == address)
    }

    /// The socket on this address for so many threads: they share one queue. `None` when there is no such socket.
    pub fn listen(
        &self,
        address: SocketAddr,
        count: usize,
    ) -> Option<io::Result<Vec<TcpListener>>> {
        let (_, socket) = self.0.iter().find(|(at, _)| *at == address)?;
        Some((0..count.max(1)).map(|_| socket.try_clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shared_by_the_threads_and_known_by_its_address() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let inherited = Inherited::new(vec![(0, socket)]).unwrap();
        let threads = inherited.listen(address, 3).unwrap().unwrap();
        assert_eq!(threads.len(), 3);
        let _client = std::net::TcpStream::connect(address).unwrap();
        // One queue: whoever looks first has it, and nobody blocks.
        let accepted = threads.iter().filter(|t| t.accept().is_ok()).count();
        assert_eq!(accepted, 1);
        assert!(
            inherited
                .listen("127.0.0.1:1".parse().unwrap(), 1)
                .is_none()
        );
    }

    #[test]
    fn what_is_no_listener_of_one_family_is_told_so() {
        let both = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
        let both = both.unwrap();
        both.set_only_v6(false).unwrap();
        both.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        let deaf = Inherited::new(vec![(0, both.try_clone().unwrap().into())]);
        assert!(matches!(deaf, Err(InheritedError::NotListening { .. })));
        both.listen(1).unwrap();
        let both = Inherited::new(vec![(0, both.into())]);
        assert!(matches!(both, Err(InheritedError::BothFamilies { .. })));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let twice = vec![(0, socket.try_clone().unwrap()), (1, socket)];
        assert!(matches!(
            Inherited::new(twice),
            Err(InheritedError::Twice { .. })
        ));
    }
}
