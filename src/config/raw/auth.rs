//! Who people are: the users file, sessions, lockout, groups.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::unit;

/// Who people are, and what happens to those who guess.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Users and their password hashes, one `name:hash` a line, as `loopgate user add` writes them. Accepted: argon2id
    /// (`$argon2id$`), bcrypt (`$2a$`, `$2b$`, `$2y$`), sha-crypt (`$5$`, `$6$`); nothing weaker. Needed as soon as a
    /// route asks for users.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "unit::PathText", extend("examples" = ["users.htpasswd"], "x-usual" = true))]
    pub users_file: Option<PathBuf>,
    /// The API tokens, as `loopgate token add` writes them: hashes, never the tokens. Absent: no tokens are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "unit::PathText", extend("examples" = ["tokens.toml"]))]
    pub tokens_file: Option<PathBuf>,
    /// The name that a browser shows when it asks for a password.
    pub realm: String,
    /// How long a login lasts.
    pub session: Session,
    /// When somebody who guesses has to wait.
    pub lockout: Lockout,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            users_file: None,
            tokens_file: None,
            realm: "loopgate".into(),
            session: Session::default(),
            lockout: Lockout::default(),
        }
    }
}

/// How long a login lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// From the login on, however busy. A working day.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub lifetime: Duration,
    /// Without a request, or bytes of one that goes on. Ends a session that was left open on somebody's screen.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub idle: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(12 * 3600),
            idle: Duration::from_secs(2 * 3600),
        }
    }
}

/// When somebody who guesses has to wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lockout {
    /// Wrong credentials within `window`, by client network (IPv6: by /64) and by user.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// The time in which failures are counted.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub window: Duration,
    /// How long to wait. Long enough to make guessing hopeless, short enough to survive one's own mistake.
    #[serde(with = "unit::duration")]
    #[schemars(with = "unit::DurationText")]
    pub ban: Duration,
}

impl Default for Lockout {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(5 * 60),
            ban: Duration::from_secs(15 * 60),
        }
    }
}

/// A name for several users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The name that routes use.
    #[schemars(extend("examples" = ["ops"]))]
    pub name: String,
    /// Users of the users file.
    #[schemars(extend("examples" = [["alice"]]))]
    pub users: Vec<String>,
}
