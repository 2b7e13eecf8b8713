//! What happened: facts are gathered in a [`Record`], put into a line once by the thread that serves, and written to disk by another one.

mod event;
mod json;
mod line;
mod log;
pub mod metrics;
mod out;
mod panics;
mod pen;
mod record;
mod ring;

pub use event::Event;
pub use log::{Change, Format, Log, Rotation, Sink};
pub use metrics::{Metrics, Slot, Tally};
pub use panics::{contained, guarded};
pub use pen::Pen;
pub use record::{Record, Texts};
pub use ring::Past;
