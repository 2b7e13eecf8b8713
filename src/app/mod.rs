//! Start, reload, drain, stop.

mod absent;
pub mod admin;
mod certificates;
pub mod control;
mod descriptors;
mod exposure;
mod hand_over;
mod inherited;
mod listeners;
mod lockout_file;
mod manager;
mod onboard;
mod pulse;
mod reload;
mod run;
mod sandbox;
mod scrape;
mod service_certs;
mod share;
mod source;
mod start;
mod state_dir;
mod verbs;
mod worker;

pub use exposure::{Found, look};
pub use hand_over::{Estate, Rest, TakeOverError};
pub use inherited::InheritedError;
pub use listeners::BindError;
pub use reload::{EXPOSED, Rejected, reload};
pub use run::{Ending, Site, until_stopped};
pub use sandbox::Sandbox;
pub use service_certs::{ServiceCerts, Settled};
pub use source::{Lead, Source};
pub use start::{Running, StartError, start, start_after, start_alone};
pub use state_dir::state_dir;
