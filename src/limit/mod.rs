//! How often: who has failed too many times to be listened to.

pub mod lockout;
