//! `docs/configuration.md`: the keys as tables, made from the schema, below what is said about all of them.

use super::schema::schema;
use super::shape::{Field, Shape, Text, fields, one_line, or};
use super::wording::inline;

const INTRO: &str = r#"# Configuration

This page is made from the doc comments of `src/config/raw`; `config/example.toml` shows the same keys as a file.

"#;

const MANNERS: &str = r#"## Where it is found

The file is the one named by `-c`; else by `$LOOPGATE_CONFIG`; else the first of `./loopgate.toml`,
`$XDG_CONFIG_HOME/loopgate/loopgate.toml` (`~/.config` when that variable is not set) and `/etc/loopgate/loopgate.toml`.
No file is an error, never "start with defaults".

## How layers are put together

| layer | what it does |
| --- | --- |
| defaults | the ones below |
| the file | overrides them |
| `conf.d/*.toml` beside it, in name order | keys override; tables of a list (`[[listener]]`, `[[route]]`, `[[group]]`, `[[test]]`) are added. Hidden files and other endings are left alone |
| environment `LOOPGATE__SECTION__KEY` | overrides a single value of `[server]`, `[limits]`, `[log]`, `[admin]`, `[auth]`: `LOOPGATE__AUTH__SESSION__IDLE=1h`. What stands in a list of tables, or is a list, can be written in a file only |

Each layer is checked by itself, as strictly as the next: an unknown key, a name that fits nothing and a value of another
type are errors, wherever they come from. A variable that fits no key is an error too. The order of tables never changes
what is allowed.

## How values are written

| what | how |
| --- | --- |
| duration | number and unit, in quotes: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`, `"1h30m"`; at most a year, never zero |
| size | number and unit, in quotes: `"64KiB"`, `"10MB"`, `"1GiB"`; `KiB` is 1024 bytes, `kB` is 1000 |
| network | a CIDR (`"192.168.1.0/24"`, `"fd00::/8"`) without host bits, an address, or `"loopback"`, `"private"`, `"this-lan"` |
| path | a relative one is taken from the directory of the main file, also in `conf.d` and in the environment |
| secret | text, or `{ file = "…" }`, `{ env = "…" }`, or `{ credential = "…" }` (systemd). Messages never repeat it |

## How mistakes are shown

`loopgate check` shows all of them at once, each with file, line, column, the line itself, and what to write instead:

```text
"#;

/// The reference of all keys, as Markdown.
pub fn reference() -> String {
    let root = schema();
    let mut text = INTRO.to_owned();
    let about = root["description"].as_str().unwrap_or_default();
    for paragraph in about.split("\n\n") {
        text += &format!("{}\n\n", one_line(paragraph));
    }
    text += MANNERS;
    text += &sample();
    text += "```\n";
    for table in fields() {
        let (open, close) = if table.is_list_of_tables() {
            ("[[", "]]")
        } else {
            ("[", "]")
        };
        text += &format!("\n## `{open}{}{close}`\n\n{}\n\n", table.name, table.about);
        text += "| key | takes | default | meaning |\n| --- | --- | --- | --- |\n";
        rows(&mut text, "", &table.fields(), false);
    }
    text
}

/// Made by the program itself, so that it cannot grow old.
fn sample() -> String {
    let wrong =
        "[[listener]]\nadress = \"0.0.0.0:8443\"\nnetworks = { allow = [\"10.1.2.3/8\"] }\n";
    super::from_text("loopgate.toml", wrong)
        .err()
        .map_or(String::new(), |report| report.render(false, 110))
}

/// Where a table is written in one of several forms, its keys are needed in theirs only.
fn rows(text: &mut String, above: &str, keys: &[&Field], is_one_form: bool) {
    for key in keys {
        let name = format!("{above}{}", key.name);
        let default = match &key.default {
            Some(value) if !value.is_object() => format!("`{}`", inline(value)),
            Some(_) => String::new(),
            None if key.required && is_one_form => "must be written in this form".into(),
            None if key.required => "must be written".into(),
            None => "absent".into(),
        };
        let takes = takes(&key.shape);
        *text += &format!("| `{name}` | {takes} | {default} | {} |\n", key.about);
        let is_one_form = matches!(key.shape, Shape::Either(_));
        rows(text, &format!("{name}."), &key.fields(), is_one_form);
    }
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Text(Text::Words(words)) => or(&words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()),
        Shape::Integer { least, most } => format!("a number from {least} to {most}"),
        Shape::List { of, .. } if matches!(**of, Shape::Text(Text::Network)) => {
            "a list of networks".into()
        }
        Shape::Either(shapes) => {
            let mut all: Vec<_> = shapes.iter().map(takes).collect();
            all.dedup();
            or(&all)
        }
        Shape::Text(_) | Shape::Boolean | Shape::List { .. } | Shape::Table(_) => shape.noun(),
    }
}
