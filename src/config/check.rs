//! The strict check of one text: every unknown key, wrong type and unreadable value at once, each with its place.
//! What passes is handed on as plain TOML; what does not is left out, so that one mistake is reported once.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::nearest;
use super::origin::{Origins, Place, Source};
use super::problem::Problem;
use super::shape::{self, Field, Shape};
use super::syntax;
use super::value::read_text;
use super::wording;

/// One layer of the configuration.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub table: Table,
    pub origins: Origins,
    pub problems: Vec<Problem>,
}

/// Checks a file. Relative paths in it are taken from `base`.
pub(super) fn check_file(source: &Arc<Source>, base: &Path) -> Layer {
    let (tree, mistakes) = DeTable::parse_recoverable(&source.text);
    let mut check = Check::new(source, base);
    let known = shape::fields().iter().collect();
    let table = check.table("", known, tree.get_ref(), &tree.span());
    let mut layer = check.layer;
    layer.table = table;
    syntax::add(&mistakes, source, tree.get_ref(), &mut layer.problems);
    layer
}

/// Checks the value of an environment variable, which stands at `span` of the source, against one field.
pub(super) fn check_variable(
    source: &Arc<Source>,
    base: &Path,
    key: &str,
    field: &Field,
    span: Range<usize>,
) -> (Option<Value>, Layer) {
    let text = &source.text[span.clone()];
    let literal = DeValue::parse(text).ok().map(Spanned::into_inner);
    // Nobody writes quotes in a variable: what is neither a number nor a truth value is text.
    let value = literal
        .filter(|value| value.is_integer() || value.is_bool())
        .filter(|_| !matches!(field.shape, Shape::Text(_)))
        .unwrap_or_else(|| DeValue::String(Cow::Borrowed(text)));
    let mut check = Check::new(source, base);
    let value = check.value(key, field, &Spanned::new(span, value));
    (value, check.layer)
}

struct Check<'a> {
    source: &'a Arc<Source>,
    base: &'a Path,
    layer: Layer,
}

type Node<'a> = Spanned<DeValue<'a>>;

impl<'a> Check<'a> {
    fn new(source: &'a Arc<Source>, base: &'a Path) -> Self {
        Self {
            source,
            base,
            layer: Layer::default(),
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place {
            source: Arc::clone(self.source),
            span: span.clone(),
        }
    }

    fn report(&mut self, problem: Problem, span: &Range<usize>) {
        let place = self.place(span);
        self.layer.problems.push(problem.at(Some(place)));
    }

    fn table(
        &mut self,
        key: &str,
        known: Vec<&Field>,
        table: &DeTable<'_>,
        span: &Range<usize>,
    ) -> Table {
        let mut checked = Table::new();
        let mut misspelt = Vec::new();
        for (name, value) in table {
            let word: &str = name.get_ref();
            let below = below(key, word);
            match known.iter().find(|field| field.name == word) {
                Some(field) => {
                    if let Some(value) = self.value(&below, field, value) {
                        checked.insert(word.to_owned(), value);
                    }
                }
                None => {
                    let what = wording::table_name(key);
                    let (hint, meant) = nearest::meant(word, &what, &known);
                    misspelt.extend(meant.map(|field| field.name.as_str()));
                    let message = format!("{what} has no key `{}`", wording::short(word));
                    let problem = Problem::error("unknown-key", below, message).hint(hint);
                    self.report(problem, &name.span());
                }
            }
        }
        for field in known.iter().filter(|field| field.required) {
            let name = field.name.as_str();
            if !table.contains_key(name) && !misspelt.contains(&name) {
                self.report(wording::missing(key, field), span);
            }
        }
        checked
    }

    fn value(&mut self, key: &str, field: &Field, node: &Node<'_>) -> Option<Value> {
        let place = self.place(&node.span());
        self.layer.origins.insert(key.to_owned(), place);
        self.shaped(key, field, &field.shape, node)
    }

    fn shaped(
        &mut self,
        key: &str,
        field: &Field,
        shape: &Shape,
        node: &Node<'_>,
    ) -> Option<Value> {
        let span = node.span();
        match (shape, node.get_ref()) {
            (Shape::Either(shapes), value) => match choose(shapes, value) {
                Some(Shape::Table(fields)) => self.one_of_tables(key, &shape.forms(), fields, node),
                Some(shape) => self.shaped(key, field, shape, node),
                None => self.wrong_type(key, field, shape, node),
            },
            (Shape::Table(fields), DeValue::Table(table)) => Some(Value::Table(self.table(
                key,
                fields.iter().collect(),
                table,
                &span,
            ))),
            (Shape::List { of, may_be_empty }, DeValue::Array(list)) => {
                if list.is_empty() && !may_be_empty {
                    self.report(wording::empty(key, field), &span);
                    return None;
                }
                let mut checked = Vec::with_capacity(list.len());
                for (i, node) in list.iter().enumerate() {
                    let key = format!("{key}[{i}]");
                    let place = self.place(&node.span());
                    self.layer.origins.insert(key.clone(), place);
                    checked.extend(self.shaped(&key, field, of, node));
                }
                Some(Value::Array(checked))
            }
            (Shape::Text(text), DeValue::String(written)) => {
                match read_text(text, written, self.base) {
                    Ok(text) => Some(Value::String(text)),
                    Err(wrong) => {
                        self.report(wrong.about(key), &span);
                        None
                    }
                }
            }
            (Shape::Integer { least, most }, DeValue::Integer(number)) => {
                let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
                match read.filter(|number| (least..=most).contains(&number)) {
                    Some(number) => Some(Value::Integer(number)),
                    None => {
                        self.report(
                            wording::out_of_range(key, number.as_str(), *least, *most),
                            &span,
                        );
                        None
                    }
                }
            }
            (Shape::Boolean, DeValue::Boolean(yes)) => Some(Value::Boolean(*yes)),
            (
                Shape::Text(_)
                | Shape::Integer { .. }
                | Shape::Boolean
                | Shape::List { .. }
                | Shape::Table(_),
                _,
            ) => self.wrong_type(key, field, shape, node),
        }
    }

    /// A table of one form among several: a key of another form does not go together with this one's.
    fn one_of_tables(
        &mut self,
        key: &str,
        forms: &[&[Field]],
        fields: &[Field],
        node: &Node<'_>,
    ) -> Option<Value> {
        let DeValue::Table(table) = node.get_ref() else {
            return None;
        };
        let has = |form: &[Field], word: &str| form.iter().any(|field| field.name == word);
        if table.is_empty() && fields.iter().any(|field| field.required) {
            self.report(wording::no_form(key, forms), &node.span());
            return None;
        }
        let before = self.layer.problems.len();
        for (name, _) in table {
            let word: &str = name.get_ref();
            if !has(fields, word) && forms.iter().any(|form| has(form, word)) {
                let problem = wording::mixed(&below(key, word), word, fields, forms);
                self.report(problem, &name.span());
            }
        }
        if self.layer.problems.len() > before {
            return None;
        }
        if table.iter().any(|(name, _)| has(fields, name.get_ref())) || forms.len() == 1 {
            let known = fields.iter().collect();
            return Some(Value::Table(self.table(key, known, table, &node.span())));
        }
        // All keys are unknown, so any form may have been meant: what is missing would be a guess.
        let known = forms.iter().copied().flatten().collect();
        self.table(key, known, table, &node.span());
        let mut at = 0;
        self.layer.problems.retain(|problem| {
            at += 1;
            at <= before || problem.code != "missing-key"
        });
        None
    }

    fn wrong_type(
        &mut self,
        key: &str,
        field: &Field,
        shape: &Shape,
        node: &Node<'_>,
    ) -> Option<Value> {
        let span = node.span();
        let written = self.source.text.get(span.clone()).unwrap_or_default();
        let problem = wording::wrong_type(key, field, shape, node.get_ref(), written);
        self.report(problem, &span);
        // What is inside a single table, where there should be a list of them, can be checked all the same.
        if let (Shape::List { of, .. }, DeValue::Table(table)) = (shape, node.get_ref())
            && let Shape::Table(fields) = &**of
        {
            self.table(key, fields.iter().collect(), table, &span);
        }
        if let (Shape::Table(fields), DeValue::Array(list)) = (shape, node.get_ref()) {
            for node in list.iter() {
                if let DeValue::Table(table) = node.get_ref() {
                    self.table(key, fields.iter().collect(), table, &node.span());
                }
            }
        }
        None
    }
}

/// The shape that such a value was meant for: among tables the one with the most keys in common.
fn choose<'s>(shapes: &'s [Shape], value: &DeValue<'_>) -> Option<&'s Shape> {
    let fits = |shape: &&Shape| {
        matches!(
            (shape, value),
            (Shape::Text(_), DeValue::String(_))
                | (Shape::Integer { .. }, DeValue::Integer(_))
                | (Shape::Boolean, DeValue::Boolean(_))
                | (Shape::List { .. }, DeValue::Array(_))
                | (Shape::Table(_), DeValue::Table(_))
        )
    };
    let common = |shape: &&Shape| match (shape, value) {
        (Shape::Table(fields), DeValue::Table(table)) => {
            let written = |field: &&Field| table.contains_key(field.name.as_str());
            fields.iter().filter(written).count()
        }
        _ => 0,
    };
    shapes.iter().filter(fits).rev().max_by_key(common)
}

/// The path of a key of a table.
fn below(key: &str, name: &str) -> String {
    let bare = name
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    let name = if bare && !name.is_empty() {
        Cow::Borrowed(name)
    } else {
        format!("{name:?}").into()
    };
    if key.is_empty() {
        name.into_owned()
    } else {
        format!("{key}.{name}")
    }
}
