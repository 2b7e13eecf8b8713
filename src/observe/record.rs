//! The facts of one request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::metrics::{Method, Slot};
use crate::base::id::RequestId;
use crate::base::refusal::Refusal;

/// What is known of one request. The texts are kept only when somebody will read them.
#[derive(Debug)]
pub struct Record {
    /// Names the request.
    pub id: RequestId,
    /// When its head was there, wall clock.
    pub at: SystemTime,
    /// The same on the monotonic clock.
    pub started: Instant,
    /// From the head to the end of the answer; known at the end.
    pub took: Duration,
    /// The socket's other end.
    pub peer: SocketAddr,
    /// The client behind trusted proxies, else the peer.
    pub client: IpAddr,
    /// The address that the client connected to.
    pub listener: SocketAddr,
    /// `TLSv1.3`, `TLSv1.2`, or empty for none.
    pub tls: &'static str,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub http: &'static str,
    /// The route's label.
    pub route: Option<Arc<str>>,
    /// The route's place among the counters.
    pub slot: Slot,
    /// The method, as counters name it.
    pub method: Method,
    /// Status that the client saw; 0 for none.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Who it was.
    pub user: Option<Arc<str>>,
    /// How that was found out.
    pub auth: Option<&'static str>,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
    /// The answer was cut before its end.
    pub cut: bool,
    /// Texts of the request.
    pub texts: Option<Box<Texts>>,
}

/// What the request said of itself; for the log only.
#[derive(Debug, Default)]
pub struct Texts {
    /// Method.
    pub method: String,
    /// Host with port, as it came.
    pub host: String,
    /// Path without query.
    pub path: String,
    /// Query, only when the configuration asks for it.
    pub query: Option<String>,
    /// `User-Agent`.
    pub user_agent: String,
}
