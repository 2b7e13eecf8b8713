//! The JSON Schema as a closed set of shapes, which the check, the example and the reference match on.

use std::sync::LazyLock;

use serde_json::Value;

use super::schema::schema;

/// What may stand behind a key.
#[derive(Debug)]
pub(super) enum Shape {
    Text(Text),
    Integer { least: i64, most: i64 },
    Boolean,
    List { of: Box<Shape>, may_be_empty: bool },
    Table(Vec<Field>),
    Either(Vec<Shape>),
}

/// What a string may be.
#[derive(Debug)]
pub(super) enum Text {
    Any,
    Words(Vec<String>),
    Duration { or_none: bool },
    Size { or_none: bool },
    Network,
    Address,
    Path,
    LogTarget,
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    /// What the user reads about it, in one line.
    pub about: String,
    pub shape: Shape,
    pub required: bool,
    pub default: Option<Value>,
    /// Something to write, where the default is nothing to show.
    pub example: Option<Value>,
    /// Whether nearly every file has it, though it is not required.
    pub usual: bool,
    /// Whether the value must not be repeated in a message.
    pub secret: bool,
}

/// The keys of the top of the file.
pub(super) fn fields() -> &'static [Field] {
    static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
        let root = schema();
        read_fields(&root, &root)
    });
    &FIELDS
}

impl Field {
    /// Whether it is written as `[[name]]`.
    pub fn is_list_of_tables(&self) -> bool {
        matches!(&self.shape, Shape::List { of, .. } if matches!(**of, Shape::Table(_)))
    }

    /// The fields of the table, or of the tables, behind this key; of all alternatives where there are several.
    pub fn fields(&self) -> Vec<&Field> {
        self.shape.fields()
    }

    /// A value to show: the example, or else the default.
    pub fn sample(&self) -> Option<&Value> {
        self.example.as_ref().or(self.default.as_ref())
    }
}

impl Shape {
    fn fields(&self) -> Vec<&Field> {
        match self {
            Self::Table(fields) => fields.iter().collect(),
            Self::List { of, .. } => of.fields(),
            Self::Either(shapes) => shapes.iter().flat_map(Shape::fields).collect(),
            Self::Text(_) | Self::Integer { .. } | Self::Boolean => Vec::new(),
        }
    }

    /// The alternatives that are tables.
    pub fn forms(&self) -> Vec<&[Field]> {
        match self {
            Self::Table(fields) => vec![fields.as_slice()],
            Self::Either(shapes) => shapes.iter().flat_map(Shape::forms).collect(),
            Self::Text(_) | Self::Integer { .. } | Self::Boolean | Self::List { .. } => Vec::new(),
        }
    }

    /// What to write, with its article.
    pub fn noun(&self) -> String {
        match self {
            Self::Text(text) => text.noun(),
            Self::Integer { .. } => "a whole number".into(),
            Self::Boolean => "`true` or `false`".into(),
            Self::List { of, .. } if matches!(**of, Shape::Table(_)) => "a list of tables".into(),
            Self::List { .. } => "a list".into(),
            Self::Table(_) => "a table".into(),
            Self::Either(shapes) => {
                let mut nouns: Vec<_> = shapes.iter().map(Shape::noun).collect();
                nouns.dedup();
                or(&nouns)
            }
        }
    }
}

impl Text {
    fn noun(&self) -> String {
        match self {
            Self::Any => "text".into(),
            Self::Words(words) if words.len() > 8 => "a word".into(),
            Self::Words(words) => or(&words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>()),
            Self::Duration { or_none } => with_none("a duration", *or_none),
            Self::Size { or_none } => with_none("a size", *or_none),
            Self::Network => "a network".into(),
            Self::Address => "an IP address".into(),
            Self::Path => "a path".into(),
            Self::LogTarget => "`stdout`, `off` or a path".into(),
        }
    }
}

fn with_none(noun: &str, or_none: bool) -> String {
    format!("{noun}{}", if or_none { " or `none`" } else { "" })
}

/// `a, b or c`.
pub(super) fn or(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn read_fields(root: &Value, table: &Value) -> Vec<Field> {
    let required = strings(&table["required"]);
    let properties = table["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let target = resolve(root, schema);
            let about = schema["description"]
                .as_str()
                .or(target["description"].as_str());
            Field {
                name: name.clone(),
                about: one_line(about.unwrap_or_default()),
                shape: read(root, schema),
                required: required.contains(name),
                default: schema.get("default").cloned(),
                example: schema["examples"].get(0).cloned(),
                usual: schema["x-usual"] == true,
                secret: target["writeOnly"] == true || schema["writeOnly"] == true,
            }
        })
        .collect()
}

/// Doc comments are wrapped where the source is; the documents wrap again.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read(root: &Value, schema: &Value) -> Shape {
    let schema = resolve(root, schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        return Shape::Either(branches.iter().map(|branch| read(root, branch)).collect());
    }
    match schema["type"].as_str() {
        Some("object") => Shape::Table(read_fields(root, schema)),
        Some("array") => Shape::List {
            of: Box::new(read(root, &schema["items"])),
            may_be_empty: schema["minItems"].as_u64().unwrap_or(0) == 0,
        },
        Some("boolean") => Shape::Boolean,
        Some("integer") => Shape::Integer {
            least: schema["minimum"].as_i64().unwrap_or(0),
            most: schema["maximum"].as_i64().unwrap_or(i64::from(u32::MAX)),
        },
        Some("string") => Shape::Text(read_text(schema)),
        other => unreachable!("the raw structs hold no {other:?}; a test reads all of them"),
    }
}

fn read_text(schema: &Value) -> Text {
    if schema["enum"].is_array() {
        return Text::Words(strings(&schema["enum"]));
    }
    match schema["format"].as_str() {
        None => Text::Any,
        Some("loopgate-duration") => Text::Duration { or_none: false },
        Some("loopgate-duration-or-none") => Text::Duration { or_none: true },
        Some("loopgate-size") => Text::Size { or_none: false },
        Some("loopgate-size-or-none") => Text::Size { or_none: true },
        Some("network") => Text::Network,
        Some("ip") => Text::Address,
        Some("path") => Text::Path,
        Some("log-target") => Text::LogTarget,
        Some(other) => unreachable!("the raw structs hold no {other}; a test reads all of them"),
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    name.map_or(schema, |name| &root["$defs"][name])
}

fn strings(list: &Value) -> Vec<String> {
    let words = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(at: &str, fields: &[&Field], seen: &mut usize) {
        for field in fields {
            let at = format!("{at}.{}", field.name);
            *seen += 1;
            assert!(!field.about.is_empty(), "{at} has no description");
            let nested = field.fields();
            assert!(
                !nested.is_empty() || field.sample().is_some(),
                "{at} has neither default nor example"
            );
            walk(&at, &nested, seen);
        }
    }

    #[test]
    fn every_key_has_a_shape_a_description_and_something_to_show() {
        let mut seen = 0;
        walk("", &fields().iter().collect::<Vec<_>>(), &mut seen);
        assert!(seen > 60, "{seen}");
    }
}
