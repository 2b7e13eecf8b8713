//! A mistake in the configuration: what was found, under which key, and what to write instead.

use std::fmt;

use super::origin::Place;

/// Whether the configuration can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake. Rooms that compile raw structs return as many as they find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the file.
    pub severity: Severity,
    /// A stable word for the kind of mistake, for tools and tests.
    pub code: &'static str,
    /// The key as a path, `route[1].upstream`; empty where no key is concerned. The report finds its place by it.
    pub key: String,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// Where exactly, for those who know better than the key.
    pub(super) place: Option<Place>,
}

impl Problem {
    /// A mistake that refuses the file.
    pub fn error(code: &'static str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            key: key.into(),
            message: message.into(),
            hint: None,
            place: None,
        }
    }

    /// Something unwise that is allowed.
    pub fn warning(code: &'static str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, key, message)
        }
    }

    /// Says what to write instead; nothing where there is nothing to say.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()).filter(|hint| !hint.is_empty()),
            ..self
        }
    }

    /// Says where, more exactly than the key does.
    #[must_use]
    pub(super) fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
