//! How often: who has failed too many times to be listened to; and how many connections at a time.

mod counts;
pub mod lockout;

pub use counts::{Counted, Counts, Exchange};
