//! A connection behind its handshake, on a stream that somebody brings, for fuzzing and tests; not part of the program.

use std::rc::Rc;

use crate::flow::{Conn, Worker};
use crate::net::{Stream, Wire};

/// Serves HTTP/1.1 to the end of the connection.
pub async fn http1(conn: Conn, stream: Stream, worker: Rc<Worker>) {
    super::http1::serve(conn, Wire::new(stream), worker).await;
}

/// Serves HTTP/2 to the end of the connection.
pub async fn http2(conn: Conn, stream: Stream, worker: Rc<Worker>) {
    super::http2::serve(conn, Box::new(stream), worker).await;
}
