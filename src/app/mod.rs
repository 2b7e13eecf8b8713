//! Start, reload, drain, stop.

pub mod admin;
mod certificates;
pub mod control;
mod exposure;
mod listeners;
mod lockout_file;
mod pulse;
mod reload;
mod run;
mod scrape;
mod source;
mod start;
mod state_dir;
mod verbs;
mod worker;

pub use exposure::{Found, look};
pub use listeners::BindError;
pub use reload::reload;
pub use run::{Ending, Site, until_stopped};
pub use source::{Lead, Source};
pub use start::{Running, StartError, start};
pub use state_dir::state_dir;
