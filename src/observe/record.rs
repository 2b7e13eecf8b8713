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
    /// The plan that judged it.
    pub generation: u64,
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
    pub texts: Option<Texts>,
}

/// What the request said of itself; for the log only. One piece of memory for all of it: it is made for every request and
/// outlives it among the last ones.
#[derive(Debug, Default)]
pub struct Texts {
    all: String,
    ends: [usize; 4],
    has_query: bool,
}

impl Texts {
    /// Keeps copies.
    pub fn of(
        method: &str,
        host: &str,
        path: &str,
        query: Option<&str>,
        user_agent: Option<&[u8]>,
    ) -> Self {
        let user_agent = user_agent.map(String::from_utf8_lossy).unwrap_or_default();
        let query_text = query.unwrap_or_default();
        let parts = [method, host, path, query_text, &user_agent];
        let mut all = String::with_capacity(parts.iter().map(|p| p.len()).sum());
        let mut ends = [0; 4];
        for (part, end) in parts.iter().zip(ends.iter_mut()) {
            all.push_str(part);
            *end = all.len();
        }
        all.push_str(&user_agent);
        Self {
            all,
            ends,
            has_query: query.is_some(),
        }
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.all.get(from..to).unwrap_or_default()
    }

    /// Method.
    pub fn method(&self) -> &str {
        self.part(0, self.ends[0])
    }

    /// Host with port, as it came.
    pub fn host(&self) -> &str {
        self.part(self.ends[0], self.ends[1])
    }

    /// Path without query.
    pub fn path(&self) -> &str {
        self.part(self.ends[1], self.ends[2])
    }

    /// Query, only when the configuration asks for it.
    pub fn query(&self) -> Option<&str> {
        self.has_query
            .then(|| self.part(self.ends[2], self.ends[3]))
    }

    /// `User-Agent`.
    pub fn user_agent(&self) -> &str {
        self.part(self.ends[3], self.all.len())
    }

    /// Bytes that it takes beside itself.
    pub fn bytes(&self) -> usize {
        self.all.capacity()
    }
}
