//! The values that are words, paths or tables at once: how they are read, written and described.

use std::borrow::Cow;
use std::num::NonZeroU16;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Expect, LogTarget, Secret, Workers};
use crate::base;
use crate::base::refusal::{Reason, TABLE};
use crate::config::unit::{ByteSize, parsed};

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Count(count) => to.serialize_u16(count.get()),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(NonZeroU16),
            Word(String),
        }
        match Written::deserialize(from)? {
            Written::Count(count) => Ok(Self::Count(count)),
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Word(word) => Err(de::Error::custom(format!(
                "`{word}` is neither `auto` nor a number"
            ))),
        }
    }
}

impl Serialize for LogTarget {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stdout => to.serialize_str("stdout"),
            Self::Off => to.serialize_str("off"),
            Self::File(path) => path.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for LogTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match String::deserialize(from)?.as_str() {
            "stdout" => Self::Stdout,
            "off" => Self::Off,
            path => Self::File(path.into()),
        })
    }
}

impl Serialize for Expect {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |word| match word {
            "allowed" => Ok(Self::Allowed),
            _ => Reason::from_word(word)
                .map(Self::Refused)
                .ok_or_else(|| format!("`{word}` is no refusal")),
        })
    }
}

impl Expect {
    /// The word as it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused(reason) => reason.word(),
        }
    }
}

/// Never the secret itself: text is written as a reminder that there was one.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(_) => to.serialize_str("[secret]"),
            Self::File(file) => to.collect_map([("file", file)]),
            Self::Env(env) => to.collect_map([("env", env)]),
            Self::Credential(name) => to.collect_map([("credential", name)]),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, deny_unknown_fields)]
        enum Written {
            Plain(String),
            File { file: PathBuf },
            Env { env: String },
            Credential { credential: String },
        }
        Ok(match Written::deserialize(from)? {
            Written::Plain(text) => Self::Plain(base::secret::Secret::new(text)),
            Written::File { file } => Self::File(file),
            Written::Env { env } => Self::Env(env),
            Written::Credential { credential } => Self::Credential(credential),
        })
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(two)) => one.expose() == two.expose(),
            (Self::File(one), Self::File(two)) => one == two,
            (Self::Env(one), Self::Env(two)) | (Self::Credential(one), Self::Credential(two)) => {
                one == two
            }
            (Self::Plain(_) | Self::File(_) | Self::Env(_) | Self::Credential(_), _) => false,
        }
    }
}

/// For editors; the check itself is stricter and says more.
const DURATION: &str = "^(none|([0-9]+(d|h|m|s|ms))+)$";
const SIZE: &str = "^(none|[0-9]+ ?([KkMmGgTt][Ii]?)?[Bb])$";

/// A type whose description is written by hand, and stands where it is used.
macro_rules! described {
    ($($type:ty = $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

described! {
    Workers = { "anyOf": [
        { "type": "string", "enum": ["auto"] },
        { "type": "integer", "minimum": 1, "maximum": 1024 },
    ] };
    LogTarget = { "type": "string", "format": "log-target" };
    Expect = {
        "type": "string",
        "enum": (std::iter::once("allowed").chain(TABLE.iter().map(|row| row.word)).collect::<Vec<_>>()),
    };
    Secret = { "writeOnly": true, "anyOf": [
        { "type": "string" },
        {
            "type": "object",
            "properties": { "file": {
                "type": "string", "format": "path",
                "description": "A file whose content is the secret, without the newline at its end.",
                "examples": ["upstream.secret"],
            } },
            "required": ["file"],
            "additionalProperties": false,
        },
        {
            "type": "object",
            "properties": { "env": {
                "type": "string",
                "description": "An environment variable whose value is the secret.",
                "examples": ["UPSTREAM_SECRET"],
            } },
            "required": ["env"],
            "additionalProperties": false,
        },
        {
            "type": "object",
            "properties": { "credential": {
                "type": "string",
                "description": "A systemd credential (LoadCredential=) whose content is the secret.",
                "examples": ["upstream-secret"],
            } },
            "required": ["credential"],
            "additionalProperties": false,
        },
    ] };
    ByteSize = { "type": "string", "format": "loopgate-size", "pattern": SIZE };
    crate::config::unit::NetworkText = { "type": "string", "format": "network" };
    crate::config::unit::PathText = { "type": "string", "format": "path" };
    crate::config::unit::SizeOrNone = { "type": "string", "format": "loopgate-size-or-none", "pattern": SIZE };
    crate::config::unit::DurationText = { "type": "string", "format": "loopgate-duration", "pattern": DURATION };
    crate::config::unit::DurationOrNone = { "type": "string", "format": "loopgate-duration-or-none", "pattern": DURATION };
}
