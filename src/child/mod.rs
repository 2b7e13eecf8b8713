//! A service that we start ourselves (`loopgate run`): its environment, its processes, the terminal that it uses, the ports that it
//! really opens, and its end. Nothing of it may stay behind when we go.

mod environment;
mod family;
mod follow;
mod offer;
mod ports;
mod signals;
mod terminal;
mod tree;

pub use environment::{Given, HOST, command};
pub use family::{Family, StartError};
pub use follow::{Follower, News, Wish};
pub use signals::Signals;
