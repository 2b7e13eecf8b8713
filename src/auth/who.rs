//! A person who has been identified.

use std::sync::Arc;

/// By what a person was identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// User name and password in `Authorization`.
    Basic,
    /// The session cookie.
    Session,
    /// An API token.
    Token,
    /// A client certificate.
    Certificate,
    /// A link that was given away.
    Share,
}

impl Method {
    /// Whether a browser sends it by itself, also when another site asks.
    pub fn is_ambient(self) -> bool {
        match self {
            Self::Basic | Self::Session | Self::Certificate | Self::Share => true,
            Self::Token => false,
        }
    }

    /// The word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Session => "session",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Share => "share",
        }
    }
}

/// Who it is. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user's name.
    pub user: Arc<str>,
    /// The user's groups, comma separated; may be empty.
    pub groups: Arc<str>,
    /// How this was found out.
    pub by: Method,
}
