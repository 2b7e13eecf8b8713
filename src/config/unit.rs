//! Durations and sizes as people write them. A plain number is refused everywhere: nobody can tell what its unit was.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `30s`, `5m`, `1h30m`, `500ms`, `7d`. Zero is refused: a limit of no time would end everything.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration");
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let scale = TIMES.iter().find(|(name, _)| *name == unit);
        let (Ok(number), Some((_, scale))) = (number.parse::<u64>(), scale) else {
            return Err(bad());
        };
        if *scale >= last {
            return Err(bad());
        }
        last = *scale;
        total = number
            .checked_mul(*scale)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= 366 * 86_400_000)
            .ok_or_else(|| format!("`{text}` is more than a year"))?;
        rest = tail;
    }
    if last == u64::MAX {
        return Err(bad());
    }
    if total == 0 {
        return Err(format!("`{text}` is no time at all"));
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that needs no fraction.
pub fn write_duration(time: Duration) -> String {
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // A minute and a half is `90s` and one minute `60s`: next to other seconds that compares at a glance.
    let fits = |(unit, scale): &&(&str, u64)| {
        time.is_multiple_of(*scale) && time >= if *unit == "m" { 2 * scale } else { *scale }
    };
    let (unit, scale) = TIMES.iter().find(fits).copied().unwrap_or(("ms", 1));
    format!("{}{unit}", time / scale)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number, for places that count memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = SIZES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()));
        let (Ok(number), Some((_, scale))) = (number.parse::<u64>(), scale) else {
            return Err(format!("`{text}` is not a size"));
        };
        match number.checked_mul(*scale) {
            Some(0) => Err(format!("`{text}` leaves room for nothing")),
            Some(bytes) => Ok(Self(bytes)),
            None => Err(format!("`{text}` is too large")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZES
            .iter()
            .find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        let (unit, scale) = fits.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, str::parse)
    }
}

/// A string that `parse` understands.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(de::Error::custom)
}

/// `none`, or what `parse` understands.
fn unless_none<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == "none" {
        return Ok(None);
    }
    parse(text).map(Some)
}

/// For `#[serde(with)]` on a `Duration`.
pub mod duration {
    use super::*;

    /// As [`write_duration`].
    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&write_duration(*time))
    }

    /// As [`parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parsed(from, parse_duration)
    }
}

/// For `#[serde(with)]` on an `Option<Duration>` whose `None` is written `none`.
pub mod duration_or_none {
    use super::*;

    /// As [`write_duration`], or `none`.
    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time.map_or("none".into(), write_duration))
    }

    /// As [`parse_duration`], or `none`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        parsed(from, |text| unless_none(text, parse_duration))
    }
}

/// For `#[serde(with)]` on an `Option<ByteSize>` whose `None` is written `none`.
pub mod size_or_none {
    use super::*;

    /// The size, or `none`.
    pub fn serialize<S: Serializer>(size: &Option<ByteSize>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&size.map_or("none".into(), |size| size.to_string()))
    }

    /// The size, or `none`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteSize>, D::Error> {
        parsed(from, |text| unless_none(text, str::parse))
    }
}

/// For `#[serde(deserialize_with)]` on a list that may be written as its only member.
pub mod one_or_many {
    use super::*;

    /// A string or a list of strings.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(match OneOrMany::deserialize(from)? {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(list) => list,
        })
    }
}

/// A string, or a list of strings.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany {
    /// The only one.
    One(String),
    /// Several.
    Many(#[schemars(length(min = 1))] Vec<String>),
}

/// Stands for a `Duration` in the schema.
pub struct DurationText;

/// Stands for an `Option<Duration>` in the schema.
pub struct DurationOrNone;

/// Stands for an `Option<ByteSize>` in the schema.
pub struct SizeOrNone;

/// Stands for a network in the schema; `base::cidr` reads it.
pub struct NetworkText;

/// Stands for a path in the schema.
pub struct PathText;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_and_writes_them_back() {
        for (text, seconds, written) in [
            ("30s", 30, "30s"),
            ("60s", 60, "60s"),
            ("1h30m", 5400, "90m"),
            ("7d", 604_800, "7d"),
            ("1000ms", 1, "1s"),
            ("12h", 43_200, "12h"),
        ] {
            let time = parse_duration(text).unwrap();
            assert_eq!(time, Duration::from_secs(seconds), "{text}");
            assert_eq!(write_duration(time), written);
        }
        for text in [
            "",
            "30",
            "s",
            "30 s",
            "-5s",
            "1.5h",
            "5s1m",
            "5s5s",
            "0s",
            "none",
            "9999999999999999999s",
            "400d",
            "30S",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_sizes_and_writes_them_back() {
        for (text, bytes, written) in [
            ("64KiB", 65_536, "64KiB"),
            ("10MB", 10_000_000, "10MB"),
            ("10 mb", 10_000_000, "10MB"),
            ("1024B", 1024, "1KiB"),
            ("5B", 5, "5B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, written),
                "{text}"
            );
        }
        for text in [
            "",
            "64",
            "KiB",
            "0B",
            "-1KiB",
            "1.5MB",
            "64K",
            "99999999999TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
