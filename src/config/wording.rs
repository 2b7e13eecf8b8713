//! What is said about a key or value that is not as it should be: one sentence for what is wrong, one for what to write.

use serde_json::Value as Json;
use toml::de::DeValue;

use super::problem::Problem;
use super::shape::{Field, Shape, Text, or};

/// A value of another type than the key takes.
pub(super) fn wrong_type(
    key: &str,
    field: &Field,
    shape: &Shape,
    value: &DeValue<'_>,
    written: &str,
) -> Problem {
    let name = last(key);
    let found = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = format!("`{name}` takes {}, not {found}", shape.noun());
    let written = if field.secret { "…" } else { written };
    let hint = instead(&field.name, field, shape, value, written);
    Problem::error("wrong-type", key, message).hint(hint)
}

fn instead(name: &str, field: &Field, shape: &Shape, value: &DeValue<'_>, written: &str) -> String {
    let such_as = || match field.sample().map(inline) {
        Some(sample) if !field.secret => {
            format!("write {}, such as `{name} = {sample}`", shape.noun())
        }
        _ => format!("write {}", shape.noun()),
    };
    let short_enough = !written.contains('\n') && written.len() <= 60;
    match (shape, value) {
        (Shape::Text(Text::Duration { .. }), DeValue::Integer(number)) => {
            format!("say the unit, in quotes: `\"{number}s\"`, or `m`, `h`, `ms`")
        }
        (Shape::Text(Text::Size { .. }), DeValue::Integer(number)) => {
            format!("say the unit, in quotes: `\"{number}B\"`, or `KiB`, `MiB`, `kB`, `MB`")
        }
        (
            Shape::Text(Text::Any | Text::Path | Text::Address | Text::LogTarget | Text::Network),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_),
        ) if !field.secret => format!("write it in quotes: `\"{written}\"`"),
        (Shape::Text(_), DeValue::Array(list)) if list.len() == 1 && !field.secret => {
            "write it without the brackets".into()
        }
        (Shape::Integer { .. }, DeValue::String(text)) if text.parse::<i64>().is_ok() => {
            format!("write it without quotes: `{text}`")
        }
        (Shape::Boolean, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
            format!("write it without quotes: `{text}`")
        }
        (Shape::List { of, .. }, DeValue::Table(_)) if matches!(**of, Shape::Table(_)) => {
            format!("there may be several, so write `[[{name}]]` with double brackets")
        }
        (Shape::Table(_), DeValue::Array(list))
            if list.iter().any(|node| node.get_ref().is_table()) =>
        {
            format!("there is only one, so write `[{name}]` with single brackets")
        }
        (Shape::List { of, .. }, DeValue::String(_))
            if matches!(**of, Shape::Text(_)) && short_enough =>
        {
            format!("write a list: `[{written}]`")
        }
        // `networks = ["this-lan"]`, `access = ["alice"]`: the list is what the first key of the table takes.
        (_, DeValue::Array(_)) if short_enough && first_list(shape).is_some() => {
            let first = first_list(shape).unwrap_or_default();
            format!("write a table: `{name} = {{ {first} = {written} }}`")
        }
        _ => such_as(),
    }
}

/// The first key of the table that a key takes, if a list of words stands behind it.
fn first_list(shape: &Shape) -> Option<&str> {
    match shape {
        Shape::Table(fields) => fields.first().filter(|first| {
            matches!(&first.shape, Shape::List { of, .. } if matches!(**of, Shape::Text(_)))
        }).map(|first| first.name.as_str()),
        Shape::Either(shapes) => shapes.iter().find_map(first_list),
        Shape::Text(_) | Shape::Integer { .. } | Shape::Boolean | Shape::List { .. } => None,
    }
}

/// A table without a key that it needs.
pub(super) fn missing(key: &str, field: &Field) -> Problem {
    let name = &field.name;
    let sample = field.sample().map_or("…".into(), inline);
    let message = format!("{} has no `{name}`", table_name(key));
    Problem::error("missing-key", key, message).hint(format!("add `{name} = {sample}`"))
}

/// A list that would match nothing.
pub(super) fn empty(key: &str, field: &Field) -> Problem {
    let message = format!("`{}` is an empty list, which nothing can match", last(key));
    let sample = field.sample().map_or("[…]".into(), inline);
    let hint = match field.required {
        true => format!("write at least one, such as `{sample}`"),
        false => format!("take the key out if all are meant, or write some: `{sample}`"),
    };
    Problem::error("empty-list", key, message).hint(hint)
}

/// A number that makes no sense here.
pub(super) fn out_of_range(key: &str, written: &str, least: i64, most: i64) -> Problem {
    let message = format!("{} is not possible for `{}`", short(written), last(key));
    Problem::error("out-of-range", key, message)
        .hint(format!("write a number from {least} to {most}"))
}

/// Keys of two forms of a table in one.
pub(super) fn mixed(key: &str, word: &str, fields: &[Field], forms: &[&[Field]]) -> Problem {
    let ours: Vec<_> = fields
        .iter()
        .map(|field| format!("`{}`", field.name))
        .collect();
    let message = format!("`{word}` does not go together with {}", ours.join(" and "));
    Problem::error("mixed-forms", key, message).hint(format!("write {}", or(&written_forms(forms))))
}

/// A table that takes one of several forms, and has none of them.
pub(super) fn no_form(key: &str, forms: &[&[Field]]) -> Problem {
    let message = format!("`{}` is empty", last(key));
    Problem::error("missing-key", key, message).hint(format!("write {}", or(&written_forms(forms))))
}

fn written_forms(forms: &[&[Field]]) -> Vec<String> {
    let form = |fields: &[Field]| {
        let keys: Vec<_> = fields
            .iter()
            .map(|field| format!("{} = …", field.name))
            .collect();
        format!("`{{ {} }}`", keys.join(", "))
    };
    forms.iter().copied().map(form).collect()
}

/// How a message calls the table at `key`.
pub(super) fn table_name(key: &str) -> String {
    let plain: String = key
        .split('[')
        .map(|part| part.split_once(']').map_or(part, |(_, rest)| rest))
        .collect();
    match (plain.as_str(), key.ends_with(']')) {
        ("", _) => "the file".into(),
        (name, true) => format!("this `[[{name}]]`"),
        (name, false) if key.contains('[') => format!("`{name}`"),
        (name, false) => format!("`[{name}]`"),
    }
}

/// The key without the tables above it: `upstream` of `route[1].upstream`, `allow[0]` of `networks.allow[0]`.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Words of a stranger, cut to a length that a message can hold, control characters made visible.
pub(super) fn short(word: &str) -> String {
    let mut text: String = word.chars().take(40).flat_map(char::escape_debug).collect();
    if word.chars().count() > 40 {
        text.push('…');
    }
    text
}

/// A value as one writes it behind a key.
pub(super) fn inline(value: &Json) -> String {
    match value {
        Json::Array(list) => format!(
            "[{}]",
            list.iter().map(inline).collect::<Vec<_>>().join(", ")
        ),
        Json::Object(table) => {
            let pairs: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", inline(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // A JSON string without control characters is a TOML string.
        Json::String(_) | Json::Number(_) | Json::Bool(_) | Json::Null => value.to_string(),
    }
}
