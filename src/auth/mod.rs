//! Who is it: passwords, tokens, sessions and client certificates, and how a client presents them. Whether they may is another room's word.

pub mod cache;
pub mod certificate;
pub mod certificate_file;
pub mod client_net;
pub mod cookie;
pub mod file;
pub mod login;
pub mod passed;
pub mod password;
pub mod presented;
pub mod queue;
pub mod session;
pub mod session_id;
pub mod share;
pub mod stored;
pub mod token;
pub mod token_file;
pub mod users;
pub mod users_edit;
pub mod verify;
mod who;

pub use who::{Method, Who};
