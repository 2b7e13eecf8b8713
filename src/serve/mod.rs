//! Sockets to requests: accept and gate, handshake, then HTTP/1.1 (our own) or HTTP/2 (hyper).

mod flood;
mod front;
mod handshake;
mod http1;
mod http2;
mod redirect;
mod surplus;
#[cfg(any(test, fuzzing))]
pub mod trial;

pub use front::accept;
