//! loopgate puts a service that is bound to loopback on the network: encrypted, behind networks and people, and proven.
//! `docs/architecture.md` names the rooms and the order in which they may use each other.

pub mod base;
