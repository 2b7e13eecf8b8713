//! Sockets and bytes. No policy.

pub mod bind;
mod buffer;
pub mod changes;
mod cork;
mod frames;
pub mod interfaces;
pub mod machine;
#[cfg(target_os = "linux")]
pub mod netlink;
pub mod proxy_protocol;
#[cfg(target_os = "linux")]
mod routes;
mod stream;
mod timer;
mod wire;

pub use buffer::Buffer;
pub use cork::Cork;
pub use frames::{FrameHead, Frames};
pub use machine::Machine;
pub use stream::Stream;
pub use timer::Timer;
pub use wire::{Gone, Wire};
