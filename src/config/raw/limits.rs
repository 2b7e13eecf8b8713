//! How long and how much.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit::{self, ByteSize};

/// What a peer may take before the connection ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The TLS handshake, from accept to its end. A phone on a bad network needs two seconds; silence needs none.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub handshake: Duration,
    /// From the first to the last byte of a request head. Ends clients that send one byte at a time.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub head: Duration,
    /// Between two reads or writes of a body. A slow transfer may last for days; a stalled one may not.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub body_idle: Duration,
    /// A kept-alive connection with nothing to do. Longer than what browsers wait, so that they close first.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub idle: Duration,
    /// Connecting to the upstream. It is on this machine; more than this means that it hangs. Only a few wait so long for a service
    /// that accepts nobody (one for each second, at least eight); the others are told within about a second (503, `too-busy`).
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub connect: Duration,
    /// Until the first byte of the upstream's answer. Long, because model servers and reports think for minutes;
    /// `none` waits for ever.
    #[serde(with = "unit::duration_or_none")]
    #[schemars(with = "unit::DurationOrNone")]
    pub answer: Option<Duration>,
    /// The whole request head, in bytes. Room for large cookies; more is answered with 431.
    pub head_size: ByteSize,
    /// Header fields in a request. Browsers send about thirty; more is answered with 431.
    #[schemars(range(min = 1, max = 256))]
    pub fields: u16,
    /// A request body. More is answered with 413. `none` leaves it to the application, so that uploads simply work.
    #[serde(with = "unit::size_or_none")]
    #[schemars(with = "unit::SizeOrNone")]
    pub body_size: Option<ByteSize>,
    /// Open client connections in all, and as many to services (to one of several services three quarters of that), as far as the
    /// limit of open files is good for both: clients have up to two thirds of it, services the rest. Bounds memory and
    /// descriptors; what is too many is told so (503, `too-busy`).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// Open connections of one client (IPv6: of one /64). So that one device cannot take all of them. An HTTP/2 stream that runs
    /// to a service beside another one of its connection counts as a connection, because it has one of its own to the service.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_client: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            answer: Some(Duration::from_secs(600)),
            head_size: ByteSize(64 << 10),
            fields: 128,
            body_size: None,
            connections: 10_000,
            connections_per_client: 512,
        }
    }
}
