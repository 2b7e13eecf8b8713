//! Environment variables `LOOPGATE__SECTION__KEY`. They override single values of the plain sections, read as strictly as
//! in a file; what stands in a list of tables has no name to call it by. Read by ourselves, because the `config` crate
//! would lower-case names and turn types into each other.

use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};

use super::check::{Layer, check_variable};
use super::nearest::nearest;
use super::origin::{Place, Source};
use super::problem::Problem;
use super::shape::{Field, Shape, fields};

const PREFIX: &str = "LOOPGATE__";

/// One layer for each of our variables, in the order of their names; all others are left alone.
pub(super) fn layers(
    env: impl IntoIterator<Item = (String, String)>,
    base: &Path,
) -> impl Iterator<Item = Layer> {
    let mut ours: Vec<_> = env
        .into_iter()
        .filter(|(name, _)| name.to_ascii_uppercase().starts_with(PREFIX))
        .collect();
    ours.sort();
    ours.into_iter()
        .map(move |(name, value)| layer(&name, &value, base))
}

fn layer(name: &str, value: &str, base: &Path) -> Layer {
    let source = Arc::new(Source {
        name: "environment".into(),
        text: format!("{name}={value}"),
    });
    let names = all();
    let Some((_, key, field)) = names.iter().find(|(known, ..)| known == name) else {
        let place = Place {
            source,
            span: 0..name.len(),
        };
        let known = names.iter().map(|(known, ..)| known.as_str());
        return Layer {
            problems: vec![unknown(name, known).at(Some(place))],
            ..Layer::default()
        };
    };
    let span = name.len() + 1..source.text.len();
    let (value, mut layer) = check_variable(&source, base, key, field, span);
    if let Some(value) = value {
        layer.table = nest(key, value);
    }
    layer
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let message = format!("the environment variable `{name}` fits no key");
    let problem = Problem::error("unknown-variable", "", message);
    let section = name[PREFIX.len()..].split("__").next().unwrap_or_default();
    let listed = fields()
        .iter()
        .find(|field| field.is_list_of_tables() && field.name.eq_ignore_ascii_case(section));
    if let Some(list) = listed {
        let name = &list.name;
        return problem.hint(format!(
            "unset it; there may be several `[[{name}]]`, so they can be written in a file only"
        ));
    }
    match nearest(name, known) {
        Some(near) => problem.hint(format!("write `{near}`")),
        None => problem.hint("unset it; `loopgate schema` knows all keys"),
    }
}

/// Every variable there can be: its name, its key, and what it takes.
fn all() -> Vec<(String, String, &'static Field)> {
    fn descend(
        above: &str,
        fields: impl IntoIterator<Item = &'static Field>,
        all: &mut Vec<(String, String, &'static Field)>,
    ) {
        for field in fields {
            let key = match above {
                "" => field.name.clone(),
                _ => format!("{above}.{}", field.name),
            };
            match &field.shape {
                Shape::Table(fields) => descend(&key, fields, all),
                Shape::List { .. } => {}
                Shape::Text(_) | Shape::Integer { .. } | Shape::Boolean | Shape::Either(_) => {
                    let name = format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase());
                    all.push((name, key, field));
                }
            }
        }
    }
    let mut names = Vec::new();
    descend("", fields(), &mut names);
    names
}

fn nest(key: &str, value: Value) -> Table {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = match rest {
        Some(rest) => Value::Table(nest(rest, value)),
        None => value,
    };
    Table::from_iter([(first.to_owned(), value)])
}
