//! Reads a string as what it should be, and says what to write where that fails.

use std::path::Path;

use super::nearest::nearest;
use super::problem::Problem;
use super::shape::{Text, or};
use super::unit::{ByteSize, parse_duration};
use super::wording::short;
use crate::base::cidr::{Network, NetworkError};

/// A value that cannot be read, before it is known which key it belongs to.
pub(super) struct Wrong {
    code: &'static str,
    message: String,
    hint: String,
}

impl Wrong {
    fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// As a mistake of this key.
    pub fn about(self, key: &str) -> Problem {
        Problem::error(self.code, key, self.message).hint(self.hint)
    }
}

/// Reads a text as what it should be. Relative paths come back absolute where `base` is.
pub(super) fn read_text(text: &Text, written: &str, base: &Path) -> Result<String, Wrong> {
    let same = || written.to_owned();
    let is_none = |or_none: bool| or_none && written == "none";
    match text {
        Text::Any => Ok(same()),
        Text::Words(words) if words.iter().any(|word| word == written) => Ok(same()),
        Text::Words(words) => Err(bad_word(written, words)),
        Text::Duration { or_none } if is_none(*or_none) => Ok(same()),
        Text::Duration { or_none } => match parse_duration(written) {
            Ok(_) => Ok(same()),
            Err(message) => Err(Wrong::new(
                "bad-duration",
                message,
                duration_hint(written, *or_none),
            )),
        },
        Text::Size { or_none } if is_none(*or_none) => Ok(same()),
        Text::Size { or_none } => match written.parse::<ByteSize>() {
            Ok(_) => Ok(same()),
            Err(message) => Err(Wrong::new(
                "bad-size",
                message,
                size_hint(written, *or_none),
            )),
        },
        Text::Network => match written.parse::<Network>() {
            Ok(_) => Ok(same()),
            Err(error) => Err(Wrong::new(
                "bad-network",
                error.to_string(),
                network_hint(written, &error),
            )),
        },
        Text::Address => match written.parse::<std::net::IpAddr>() {
            Ok(_) => Ok(same()),
            Err(_) => Err(Wrong::new(
                "bad-address",
                format!("`{}` is not an IP address", short(written)),
                "write one address without port or prefix: `192.168.1.7`, `fd00::7`",
            )),
        },
        Text::LogTarget if matches!(written, "stdout" | "off") => Ok(same()),
        Text::Path | Text::LogTarget if written.is_empty() => Err(Wrong::new(
            "bad-path",
            "the path is empty",
            "write the name of a file, or take the key out",
        )),
        Text::Path | Text::LogTarget => {
            let path = base.join(written).into_os_string().into_string();
            path.map_err(|path| {
                let message = format!("`{}` is not UTF-8", path.display());
                Wrong::new("bad-path", message, "write an absolute path")
            })
        }
    }
}

fn bad_word(written: &str, words: &[String]) -> Wrong {
    let ticked = || {
        words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
    };
    let hint = match nearest(written, words.iter().map(String::as_str)) {
        Some(near) if words.len() > 8 => format!("write `{near}`"),
        Some(near) => format!("write `{near}`; allowed: {}", ticked().join(", ")),
        None => format!("write {}", or(&ticked())),
    };
    Wrong::new(
        "bad-word",
        format!("`{}` is not allowed here", short(written)),
        hint,
    )
}

fn duration_hint(written: &str, or_none: bool) -> String {
    let tight: String = written.to_ascii_lowercase().split_whitespace().collect();
    if parse_duration(&tight).is_ok() {
        return format!("write `{tight}`");
    }
    if is_plain_number(written) {
        return format!("say the unit: `{written}s`, or `m`, `h`, `ms`");
    }
    match (written, or_none) {
        ("none" | "0" | "0s", false) => {
            "there must be a limit; write a long one if you need it: `1h`".into()
        }
        ("0" | "0s", true) => "write `none` for no limit".into(),
        (_, false) => "write a number and a unit: `500ms`, `30s`, `5m`, `2h`, `1h30m`".into(),
        (_, true) => "write `none`, or a number and a unit: `30s`, `5m`, `2h`, `1h30m`".into(),
    }
}

fn size_hint(written: &str, or_none: bool) -> String {
    let whole = format!("{}iB", written.to_ascii_uppercase());
    if whole.parse::<ByteSize>().is_ok() {
        return format!("write `{whole}`");
    }
    if is_plain_number(written) {
        return format!("say the unit: `{written}B`, or `KiB`, `MiB`, `kB`, `MB`");
    }
    match (written, or_none) {
        ("none" | "0" | "0B", false) => {
            "there must be a limit; write a large one if you need it: `1MiB`".into()
        }
        ("0" | "0B", true) => "write `none` for no limit".into(),
        (_, false) => "write a number and a unit: `64KiB`, `10MB`, `1GiB`".into(),
        (_, true) => "write `none`, or a number and a unit: `64KiB`, `10MB`, `1GiB`".into(),
    }
}

fn is_plain_number(written: &str) -> bool {
    written.parse::<u64>().is_ok_and(|number| number > 0)
}

fn network_hint(written: &str, error: &NetworkError) -> String {
    if let Some(network) = error.repair() {
        return format!("write `{network}`");
    }
    if let NetworkError::Prefix { most, .. } = error {
        return format!("write a prefix length from 0 to {most}; {most} is a single address");
    }
    let meant = match written {
        "lan" | "local" | "home" => Some("this-lan"),
        "localhost" | "self" => Some("loopback"),
        "*" | "any" | "all" | "everyone" | "anyone" => {
            return "everybody is `0.0.0.0/0` and `::/0`; think twice, and write both".into();
        }
        _ => nearest(written, ["loopback", "private", "this-lan"]),
    };
    match meant {
        Some(word) => format!("write `{word}`"),
        None => "write a CIDR (`192.168.1.0/24`, `fd00::/8`), an address, or `loopback`, `private`, `this-lan`".into(),
    }
}
