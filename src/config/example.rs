//! `config/example.toml`: every key with what it means, made from the schema. What is not needed is commented out and
//! shows its default, so that the file can be used as it is.

use super::schema::schema;
use super::shape::{Field, fields, one_line};
use super::wording::inline;

const WIDTH: usize = 110;

const INTRO: &str = "A line `#key = value` shows a key that is not needed, with its default or an example: take the `#` away and \
change it. Look at the result with `loopgate check`.";

/// A configuration file that shows every key.
pub fn example() -> String {
    let root = schema();
    let mut text = String::new();
    let paragraphs = root["description"]
        .as_str()
        .unwrap_or_default()
        .split("\n\n");
    for paragraph in paragraphs.chain([INTRO]) {
        comment(&mut text, "# ", &one_line(paragraph));
        text += "#\n";
    }
    text.truncate(text.len() - 2);
    for field in fields() {
        section(&mut text, field);
    }
    text
}

fn section(text: &mut String, table: &Field) {
    let head = match table.is_list_of_tables() {
        true => format!("[[{}]]", table.name),
        false => format!("[{}]", table.name),
    };
    let keys = table.fields();
    let live =
        matches!(table.name.as_str(), "listener" | "route") || keys.iter().any(|key| key.usual);
    let has_defaults_only = !keys.iter().any(|key| key.required);
    *text += "\n";
    comment(text, "# ", &table.about);
    *text += if live || has_defaults_only { "" } else { "#" };
    *text += &format!("{head}\n");
    for key in keys {
        *text += "\n";
        comment(text, "# ", &key.about);
        for below in key.fields() {
            comment(text, "#   ", &format!("{}: {}", below.name, below.about));
        }
        for (i, value) in values(key).iter().enumerate() {
            let shown = i == 0 && live && (key.required || key.usual);
            let mark = if shown { "" } else { "#" };
            *text += &format!("{mark}{} = {value}\n", key.name);
        }
    }
}

/// What can be written behind a key: the sample, then each form of a table.
fn values(key: &Field) -> Vec<String> {
    let whole = |fields: &[Field]| {
        let pairs = fields.iter().map(|field| {
            let sample = field.sample().map_or("…".into(), inline);
            format!("{} = {sample}", field.name)
        });
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    };
    let mut values: Vec<_> = key.default.iter().chain(&key.example).map(inline).collect();
    values.truncate(1);
    let forms = key.shape.forms();
    if let ([only], Some(sample)) = (forms.as_slice(), key.sample())
        && sample.is_object()
    {
        return vec![whole(only)];
    }
    values.extend(forms.into_iter().map(whole));
    values.dedup();
    values
}

fn comment(text: &mut String, mark: &str, words: &str) {
    let mut line = mark.to_owned();
    for word in words.split(' ') {
        if line.len() > mark.len() && line.len() + word.len() > WIDTH {
            *text += line.trim_end();
            *text += "\n";
            line = format!("#{}", " ".repeat(mark.len() - 1));
        }
        line += word;
        line += " ";
    }
    *text += line.trim_end();
    *text += "\n";
}
