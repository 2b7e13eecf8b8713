//! HTTP/1.1 as bytes, for both sides: the strict reading of heads and bodies, and their framing. No policy, no sockets.

pub mod chunked;
pub mod field;
pub mod framing;
pub mod head;
