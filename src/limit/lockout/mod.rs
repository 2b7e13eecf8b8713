//! Failed logins, counted by client network and by user, with bans that grow. Pure: values and `now` in, values out.
//!
//! A guess counts when it starts, so a hundred at once are a hundred; a right one is given back. Where a user has
//! logged in before, neither the guesses of others against him nor those of his neighbours keep him out: that pair has
//! a count of its own, and it slows down instead of locking.

mod count;
mod guess;
mod rule;
mod snapshot;
mod table;

pub use count::{Ban, Locked, Lockout, LockoutSettings, Scope};
pub use guess::Guess;
pub use rule::ENTRY_BYTES;
pub use snapshot::Snapshot;
