//! Start, reload, drain, stop.

pub mod control;
mod exposure;
mod lockout_file;
mod run;
mod scrape;
mod source;
mod start;
mod state_dir;
mod verbs;
mod worker;

pub use exposure::{Found, look};
pub use run::{Ending, Site, until_stopped};
pub use source::{Lead, Source};
pub use start::{Running, StartError, start};
pub use state_dir::state_dir;
