//! One line of JSON for a request (contract 7), written straight into the buffer of its file. The keys are constants and most values
//! need no escape, so this is done by hand: it is a third of what a serializer costs. Texts that do are left to one.

use super::line::level;
use super::record::{Record, Texts};
use crate::base::text;

/// Appends the line, without its end.
pub(super) fn access(record: &Record, at: &str, out: &mut Vec<u8>) {
    let texts = record.texts.as_ref();
    let refusal = record.refusal;
    word(out, "{\"ts\":\"", at);
    word(out, "\",\"level\":\"", level(record));
    word(
        out,
        "\",\"event\":\"request\",\"request_id\":\"",
        record.id.as_str(),
    );
    out.extend_from_slice(b"\",\"peer\":\"");
    text::socket(out, record.peer);
    out.extend_from_slice(b"\",\"client\":\"");
    text::address(out, record.client);
    out.extend_from_slice(b"\",\"listener\":\"");
    text::socket(out, record.listener);
    put(out, "\",\"route\":", record.route.as_deref());
    put(out, ",\"host\":", texts.map(Texts::host));
    put(out, ",\"method\":", texts.map(Texts::method));
    put(out, ",\"path\":", texts.map(Texts::path));
    if let Some(query) = texts.and_then(Texts::query) {
        put(out, ",\"query\":", Some(query));
    }
    count(out, ",\"status\":", u64::from(record.status));
    let took = u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX);
    count(out, ",\"duration_ms\":", took / 1000);
    let part = took % 1000;
    out.push(b'.');
    out.extend([part / 100, part / 10 % 10, part % 10].map(|digit| b'0' + digit as u8));
    count(out, ",\"bytes_in\":", record.bytes_in);
    count(out, ",\"bytes_out\":", record.bytes_out);
    put(out, ",\"user\":", record.user.as_deref());
    put(out, ",\"auth\":", record.auth);
    let decision = match refusal {
        Some(_) => "refused",
        None => "allowed",
    };
    word(out, ",\"decision\":\"", decision);
    put(out, "\",\"reason\":", refusal.map(|r| r.reason.word()));
    put(out, ",\"rule\":", refusal.map(|r| r.detail));
    word(out, ",\"tls\":\"", record.tls);
    word(out, "\",\"http\":\"", record.http);
    put(out, "\",\"user_agent\":", texts.map(Texts::user_agent));
    if record.cut {
        out.extend_from_slice(b",\"cut\":true");
    }
    out.push(b'}');
}

fn count(out: &mut Vec<u8>, before: &str, n: u64) {
    out.extend_from_slice(before.as_bytes());
    text::number(out, n);
}

/// A word of ours, which needs no escape.
fn word(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A text, or `null`. What a client sent may be anything.
fn put(out: &mut Vec<u8>, before: &str, value: Option<&str>) {
    out.extend_from_slice(before.as_bytes());
    let Some(value) = value else {
        return out.extend_from_slice(b"null");
    };
    // All bytes are looked at, many at a time; an iterator that stops at the first would take them one by one.
    let is_plain = |c: u8| (0x20..0x7f).contains(&c) & (c != b'"') & (c != b'\\');
    if value.bytes().fold(true, |all, c| all & is_plain(c)) {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    } else {
        hide(&serde_json::Value::from(value).to_string(), out);
    }
}

/// Appends text that is JSON already, with an escape for what a terminal obeys or a reader takes for the end of a line: the controls
/// that JSON lets pass (DEL, C1), U+2028 and U+2029, and the marks that turn the direction of writing. They can only stand in strings.
pub(super) fn hide(json: &str, out: &mut Vec<u8>) {
    for c in json.chars() {
        let is_mark = matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        );
        if c.is_control() || is_mark {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::refusal::{Reason, Refusal};
    use crate::observe::line::tests::record;
    use serde_json::Value;

    /// What no line may contain as it is.
    pub(in crate::observe) fn is_hostile(c: char) -> bool {
        c.is_control() || ['\u{2028}', '\u{2029}', '\u{202e}', '\u{feff}'].contains(&c)
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        for text in [
            "",
            "plain",
            "a\"b",
            "back\\slash",
            "tab\t",
            "\u{7f}",
            "\u{2028}",
            "\u{9b}2J\u{85}\u{202e}\u{2029}\u{feff}",
            "käse",
            "\0\r\n",
            "\u{1f600}",
        ] {
            let mut record = record();
            record.user = Some(text.into());
            record.texts = Some(Texts::of(
                "GET",
                text,
                text,
                Some(text),
                Some(text.as_bytes()),
            ));
            record.refusal = Some(Refusal::new(Reason::NoRoute, "why"));
            record.took = std::time::Duration::from_micros(12_034);
            record.cut = true;
            let mut line = Vec::new();
            access(&record, "now", &mut line);
            assert!(!line.contains(&b'\n'));
            let shown = std::str::from_utf8(&line).unwrap();
            assert!(!shown.contains(is_hostile), "{text:?} is raw in the line");
            let value: Value = serde_json::from_slice(&line).unwrap();
            for key in ["user", "host", "path", "query", "user_agent"] {
                assert_eq!(value[key], text, "{key}");
            }
            assert_eq!(value["duration_ms"], 12.034);
            assert_eq!(value["decision"], "refused");
            assert_eq!(value["rule"], "why");
            assert_eq!(value["peer"], "127.0.0.1:1");
            assert_eq!(value["route"], Value::Null);
            assert_eq!(value["cut"], true);
            assert_eq!(value.as_object().unwrap().len(), 25);
        }
    }
}
