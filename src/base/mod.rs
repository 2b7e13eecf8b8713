//! Words that every room speaks. No IO, no policy.

pub mod apart;
pub mod cidr;
pub mod drain;
pub mod fold;
pub mod host;
pub mod id;
pub mod loopback;
pub mod path;
pub mod refusal;
pub mod secret;
pub mod text;
