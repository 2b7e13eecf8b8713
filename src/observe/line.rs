//! Records and events as lines, text or JSON (contract 7). Whatever a client sent is escaped.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::log::Event;
use super::record::Record;
use crate::base::refusal::Blame;

/// RFC 3339 in UTC with milliseconds.
fn stamp(at: SystemTime) -> String {
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

/// One line of JSON for a request.
pub(super) fn access_json(record: &Record) -> String {
    let mut map = Map::new();
    let texts = record.texts.as_deref();
    let refusal = record.refusal;
    let mut put = |key: &str, value: Value| {
        map.insert(key.into(), value);
    };
    put("ts", stamp(record.at).into());
    put("level", level(record).into());
    put("event", "request".into());
    put("request_id", record.id.as_str().into());
    put("peer", record.peer.to_string().into());
    put("client", record.client.to_string().into());
    put("listener", record.listener.to_string().into());
    put("route", record.route.as_deref().into());
    put("host", texts.map(|t| t.host.as_str()).into());
    put("method", texts.map(|t| t.method.as_str()).into());
    put("path", texts.map(|t| t.path.as_str()).into());
    if let Some(query) = texts.and_then(|t| t.query.as_deref()) {
        put("query", query.into());
    }
    put("status", record.status.into());
    put(
        "duration_ms",
        (record.took.as_micros() as f64 / 1000.0).into(),
    );
    put("bytes_in", record.bytes_in.into());
    put("bytes_out", record.bytes_out.into());
    put("user", record.user.as_deref().into());
    put("auth", record.auth.into());
    put(
        "decision",
        if refusal.is_some() {
            "refused"
        } else {
            "allowed"
        }
        .into(),
    );
    put("reason", refusal.map(|r| r.reason.word()).into());
    put("rule", refusal.map(|r| r.detail).into());
    put("tls", record.tls.into());
    put("http", record.http.into());
    put("user_agent", texts.map(|t| t.user_agent.as_str()).into());
    if record.cut {
        put("cut", true.into());
    }
    Value::Object(map).to_string()
}

/// One line of text for a request.
pub(super) fn access_text(record: &Record) -> String {
    let mut line = stamp(record.at);
    let (method, host, path) = record
        .texts
        .as_deref()
        .map_or(("", "", ""), |t| (&t.method, &t.host, &t.path));
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

/// Control bytes and everything above ASCII escaped, so that no client writes to a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_graphic() {
                c.to_string()
            } else {
                c.escape_default().to_string()
            }
        })
        .collect()
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
mod tests {
    use super::*;

    #[test]
    fn nothing_a_client_says_breaks_a_line() {
        let texts = super::super::Texts {
            method: "GET".into(),
            host: "a\u{1b}[31m".into(),
            path: "/\r\nlevel=error".into(),
            query: None,
            user_agent: "\"quote\"\n".into(),
        };
        let record = Record {
            id: crate::base::id::RequestId::fresh(),
            at: SystemTime::UNIX_EPOCH,
            started: std::time::Instant::now(),
            took: std::time::Duration::from_millis(1),
            slot: crate::observe::metrics::Slot::NONE,
            method: crate::observe::metrics::Method::Get,
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
            texts: Some(Box::new(texts)),
        };
        let text = access_text(&record);
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
        let json = access_json(&record);
        assert!(!json.contains('\n'));
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["path"], "/\r\nlevel=error");
        assert_eq!(value["ts"], "1970-01-01T00:00:00.000Z");
    }
}
