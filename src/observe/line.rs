//! Records and events as lines, text or JSON (contract 7). Whatever a client sent is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::log::Event;
use super::record::{Record, Texts};
use crate::base::refusal::Blame;

/// RFC 3339 in UTC with milliseconds.
pub(super) fn stamp(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(t) => format!("{t:.3}"),
        Err(_) => "1970-01-01T00:00:00.000Z".into(),
    }
}

fn level(record: &Record) -> &'static str {
    match record.refusal.map(|r| r.reason.row().blame) {
        Some(Blame::Upstream | Blame::Gate) => "warn",
        Some(Blame::Client) | None => "info",
    }
}

/// One line of JSON for a request, as it is written: nothing is gathered in between.
#[derive(Serialize)]
struct Access<'r> {
    ts: String,
    level: &'static str,
    event: &'static str,
    request_id: &'r str,
    peer: SocketAddr,
    client: IpAddr,
    listener: SocketAddr,
    route: Option<&'r str>,
    host: Option<&'r str>,
    method: Option<&'r str>,
    path: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'r str>,
    status: u16,
    duration_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
    user: Option<&'r str>,
    auth: Option<&'static str>,
    decision: &'static str,
    reason: Option<&'static str>,
    rule: Option<&'static str>,
    tls: &'static str,
    http: &'static str,
    user_agent: Option<&'r str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// One line of JSON for a request.
pub(super) fn access_json(record: &Record) -> String {
    let texts = record.texts.as_ref();
    let refusal = record.refusal;
    let line = Access {
        ts: stamp(record.at),
        level: level(record),
        event: "request",
        request_id: record.id.as_str(),
        peer: record.peer,
        client: record.client,
        listener: record.listener,
        route: record.route.as_deref(),
        host: texts.map(Texts::host),
        method: texts.map(Texts::method),
        path: texts.map(Texts::path),
        query: texts.and_then(Texts::query),
        status: record.status,
        duration_ms: record.took.as_micros() as f64 / 1000.0,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        user: record.user.as_deref(),
        auth: record.auth,
        decision: match refusal {
            Some(_) => "refused",
            None => "allowed",
        },
        reason: refusal.map(|r| r.reason.word()),
        rule: refusal.map(|r| r.detail),
        tls: record.tls,
        http: record.http,
        user_agent: texts.map(Texts::user_agent),
        cut: record.cut,
    };
    // Texts and numbers only: there is nothing in it that JSON cannot say.
    serde_json::to_string(&line).unwrap_or_default()
}

/// One line of text for a request.
pub(super) fn access_text(record: &Record) -> String {
    let mut line = stamp(record.at);
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
    line
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
        return Value::Object(map).to_string();
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
        let text = access_text(&record);
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
        assert_eq!(text.split(' ').count(), 9, "{text}");
        let json = access_json(&record);
        assert!(!json.contains('\n'));
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["path"], "/\r\nlevel=error");
        assert_eq!(value["ts"], "1970-01-01T00:00:00.000Z");
    }
}
