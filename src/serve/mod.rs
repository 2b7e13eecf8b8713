//! Sockets to requests: accept and gate, handshake, then HTTP/1.1 (our own) or HTTP/2 (hyper).

mod flood;
mod front;
mod handshake;
mod http1;
mod http2;
mod redirect;
mod streams;
mod surplus;
#[cfg(any(test, fuzzing))]
pub mod trial;
mod unseen;

pub use front::accept;

#[cfg(test)]
mod tests {
    fn three<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle connection holds its own as long as it lives.
    #[test]
    fn the_future_of_an_idle_connection_is_small() {
        let h1 = three(super::http1::serve);
        assert!(h1 <= 2048, "{h1}");
    }
}
