//! Files of our own that are there whole or not at all: readers, a second writer and `kill -9` at any moment see the old bytes or
//! the new ones. What a function here has returned from is on the disk.

mod format;
mod in_use;
mod owner;
mod regular;
mod rewrite;

pub use format::{Format, ReadError};
pub use in_use::{InUse, InUseError};
pub use owner::is_trusted;
pub use regular::{NONBLOCK, pipe, read, regular};
pub use rewrite::{put, rewrite};
