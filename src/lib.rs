//! loopgate puts a service that is bound to loopback on the network: encrypted, behind networks and people, and proven.
//! `docs/architecture.md` names the rooms and the order in which they may use each other.

pub mod access;
pub mod app;
pub mod auth;
pub mod base;
pub mod child;
pub mod cli;
pub mod config;
pub mod demo;
pub mod disk;
pub mod exposure;
pub mod flow;
pub mod gate;
pub mod http1;
pub mod limit;
pub mod net;
pub mod observe;
pub mod plan;
pub mod route;
pub mod serve;
pub mod tls;
pub mod upstream;
pub mod web;
