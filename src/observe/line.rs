//! Records and events as lines, text or JSON (contract 7). Whatever a client sent is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::event::Event;
use super::record::Record;
use crate::base::refusal::Blame;

/// RFC 3339 in UTC with milliseconds.
pub(super) fn stamp(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(t) => format!("{t:.3}"),
        Err(_) => "1970-01-01T00:00:00.000Z".into(),
    }
}

pub(super) fn level(record: &Record) -> &'static str {
    match record.refusal.map(|r| r.reason.row().blame) {
        Some(Blame::Upstream | Blame::Gate) => "warn",
        Some(Blame::Client) | None => "info",
    }
}

/// The time stamp of lines that come one after the other: most are of the same second.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    text: String,
}

impl Clock {
    /// As [`stamp`].
    pub fn stamp(&mut self, at: SystemTime) -> &str {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).ok();
        if self.second.is_none() || self.second != since.map(|s| s.as_secs()) {
            self.text = stamp(at);
            self.second = since.map(|s| s.as_secs());
        } else if let Some(since) = since {
            let ms = since.subsec_millis();
            self.text.truncate(self.text.len() - "000Z".len());
            for digit in [ms / 100, ms / 10 % 10, ms % 10] {
                self.text.push(char::from(b'0' + digit as u8));
            }
            self.text.push('Z');
        }
        &self.text
    }
}

/// One line of text for a request.
pub(super) fn access_text(record: &Record, at: &str, out: &mut Vec<u8>) {
    let mut line = at.to_owned();
    let (method, host, path) = record
        .texts
        .as_ref()
        .map_or(("", "", ""), |t| (t.method(), t.host(), t.path()));
    let user = record.user.as_deref().unwrap_or("-");
    let ms = record.took.as_secs_f64() * 1000.0;
    let _ = write!(
        line,
        " {} {} {} ",
        record.client,
        plain(user),
        plain(method)
    );
    let _ = write!(
        line,
        "{}{} {} {ms:.1}ms {}B",
        plain(host),
        plain(path),
        record.status,
        record.bytes_out
    );
    if let Some(refusal) = record.refusal {
        let _ = write!(line, " {}", refusal.reason.word());
        if !refusal.detail.is_empty() {
            let _ = write!(line, " ({})", refusal.detail);
        }
    }
    if record.cut {
        line.push_str(" cut");
    }
    let _ = write!(line, " {}", record.id);
    out.extend_from_slice(line.as_bytes());
}

/// One line for an event.
pub(super) fn event(event: &Event, json: bool) -> String {
    let at = stamp(event.at);
    if json {
        let mut map = Map::new();
        map.insert("ts".into(), at.into());
        map.insert("level".into(), event.level.into());
        map.insert("event".into(), event.name.into());
        map.extend(
            event
                .fields
                .iter()
                .map(|(key, value)| ((*key).into(), json!(value))),
        );
        let mut line = Vec::new();
        super::json::hide(&Value::Object(map).to_string(), &mut line);
        return String::from_utf8(line).unwrap_or_default();
    }
    let mut line = format!("{at} {} {}", event.level, event.name);
    for (key, value) in &event.fields {
        let _ = write!(line, " {key}={}", quoted(value));
    }
    line
}

/// Spaces, control bytes and everything above ASCII escaped, so that no client writes to a terminal or into the next column.
fn plain(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|c| c.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_ascii_graphic() {
            safe.push(c);
        } else if c == ' ' {
            safe.push_str("\\u{20}");
        } else {
            safe.extend(c.escape_default());
        }
    }
    Cow::Owned(safe)
}

fn quoted(text: &str) -> String {
    let simple = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
    if simple {
        text.to_owned()
    } else {
        format!("\"{}\"", text.escape_default())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::observe::Texts;

    /// A record that says hostile things.
    pub(in crate::observe) fn record() -> Record {
        let texts = Texts::of(
            "GET",
            "a\u{1b}[31m",
            "/\r\nlevel=error",
            None,
            Some(b"\"quote\"\n"),
        );
        Record {
            id: crate::base::id::RequestId::fresh(),
            at: SystemTime::UNIX_EPOCH,
            started: std::time::Instant::now(),
            took: std::time::Duration::from_millis(1),
            slot: crate::observe::metrics::Slot::NONE,
            method: crate::observe::metrics::Method::Get,
            generation: 7,
            peer: "127.0.0.1:1".parse().unwrap(),
            client: "127.0.0.1".parse().unwrap(),
            listener: "127.0.0.1:2".parse().unwrap(),
            tls: "TLSv1.3",
            http: "HTTP/2",
            route: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 1,
            user: None,
            auth: None,
            refusal: None,
            cut: false,
            texts: Some(texts),
        }
    }

    #[test]
    fn nothing_a_client_says_breaks_a_line() {
        let mut record = record();
        record.user = Some("a b".into());
        let (mut text, mut json) = (Vec::new(), Vec::new());
        let mut clock = Clock::default();
        access_text(&record, clock.stamp(record.at), &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
        assert_eq!(text.split(' ').count(), 9, "{text}");
        super::super::json::access(&record, clock.stamp(record.at), &mut json);
        assert!(!json.contains(&b'\n'));
        let value: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["path"], "/\r\nlevel=error");
        assert_eq!(value["ts"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["duration_ms"], 1.0);
    }

    #[test]
    fn a_clock_says_what_a_stamp_says() {
        let mut clock = Clock::default();
        for ms in [
            0u64,
            1,
            999,
            1000,
            1010,
            1999,
            500,
            1_790_000_000_123,
            1_790_000_000_999,
            1_790_000_001_000,
        ] {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(ms * 1000 + 999);
            assert_eq!(clock.stamp(at), stamp(at));
        }
        let before = SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
        assert_eq!(clock.stamp(before), stamp(before));
        assert_eq!(clock.stamp(before), stamp(before));
    }
}
