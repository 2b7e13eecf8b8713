//! What is said over the control socket: `{"v":1,"do":"reload"}`, and as answer a line with `done` or `failed`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of what is said. Another one is refused, so that an old command does not misread a new gate.
pub const PROTOCOL: u32 = 1;

/// What a command can ask of a running gate. One more is one variant here and one arm in `app/verbs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Verb {
    /// How it is going.
    Status,
    /// Whether every service takes a connection.
    Ready,
    /// Hand over to the process that asks (`app/hand_over`).
    TakeOver,
    /// Read the configuration again, and say what came of it.
    Reload,
    /// What was decided about one of the last requests, and what would be decided now.
    Explain {
        /// The request id.
        id: String,
    },
    /// Open the page that helps to trust the local authority for so many seconds; none closes it.
    Onboard {
        /// How long.
        seconds: u64,
    },
    /// Make a link that logs one visitor in.
    Share {
        /// How long it is good.
        seconds: u64,
        /// Only below this path.
        path: String,
        /// Only on this host.
        host: Option<String>,
    },
    /// The links that are good.
    Shares,
    /// Revoke a link, or all.
    Unshare {
        /// Which one.
        id: Option<String>,
    },
    /// End what a user, a client network or a user there has to wait after failed logins.
    Unlock {
        /// The user.
        user: Option<String>,
        /// An address of the network.
        client: Option<IpAddr>,
    },
}

/// What comes of it.
pub type Answer = Result<Value, Failed>;

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The exit code of the command (contract 3).
    pub code: u8,
    /// For the person who asked.
    pub message: String,
    /// For programs, where there is more to say: the mistakes of a configuration.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub problems: Value,
    /// A configuration was refused, but users, tokens and revocations are in force as their files say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub are_people_taken: bool,
    /// Nothing was done, as too many ask at once: it can be asked again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_busy: bool,
}

impl Failed {
    /// A failure with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            problems: Value::Null,
            are_people_taken: false,
            is_busy: false,
        }
    }

    /// Too many ask at once.
    pub(super) fn busy() -> Self {
        Self {
            is_busy: true,
            ..Self::new(
                1,
                "the gate is busy with what others ask, and nothing was done; try again in a moment",
            )
        }
    }
}

/// The line of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    v: u32,
    #[serde(flatten)]
    verb: Verb,
}

impl Question {
    pub(super) fn text(verb: &Verb) -> String {
        let question = Self {
            v: PROTOCOL,
            verb: verb.clone(),
        };
        line(&question)
    }

    pub(super) fn parse(line: &str) -> Result<Verb, Failed> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version = serde_json::from_str::<Version>(line)
            .map_err(|e| Failed::new(2, format!("the question cannot be read: {e}")))?;
        let own = env!("CARGO_PKG_VERSION");
        if version.v != PROTOCOL {
            let what = format!(
                "the running gate (loopgate {own}) speaks another protocol; use the loopgate that it was started with"
            );
            return Err(Failed::new(1, what));
        }
        let question = serde_json::from_str::<Self>(line).map_err(|e| {
            Failed::new(
                2,
                format!("the running gate (loopgate {own}) does not know what was asked: {e}"),
            )
        })?;
        Ok(question.verb)
    }
}

/// The line of the gate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    v: u32,
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
}

impl Line {
    pub(super) fn new(answer: Answer) -> Self {
        let (done, failed) = match answer {
            Ok(done) => (Some(done), None),
            Err(failed) => (None, Some(failed)),
        };
        Self {
            v: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            done,
            failed,
        }
    }

    pub(super) fn text(&self) -> String {
        line(self)
    }

    pub(super) fn answer(self) -> Option<Answer> {
        match (self.done, self.failed) {
            (Some(done), None) => Some(Ok(done)),
            (None, Some(failed)) => Some(Err(failed)),
            _ => None,
        }
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}
