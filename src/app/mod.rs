//! Start, reload, drain, stop.

mod exposure;
mod run;
mod source;
mod start;
mod state_dir;
mod worker;

pub use exposure::{Found, look};
pub use run::{Ending, until_stopped};
pub use source::Source;
pub use start::{Running, StartError, start};
pub use state_dir::state_dir;
