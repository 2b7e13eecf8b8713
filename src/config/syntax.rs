//! Text that is no TOML: what the parser says, in words that tell what to do. After one such mistake the parser stumbles
//! over what follows from it; only the first one of a line is worth reading.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use toml::de::{DeTable, DeValue, Error};

use super::mask::mask;
use super::origin::{Place, Source};
use super::problem::Problem;
use super::wording::short;

/// Adds the mistakes of the parser, and takes those away that are only their echo.
pub(super) fn add(
    mistakes: &[Error],
    source: &Arc<Source>,
    tree: &DeTable<'_>,
    problems: &mut Vec<Problem>,
) {
    if mistakes.is_empty() {
        return;
    }
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut found = Vec::new();
    let end = source.text.len();
    let place_of = |mistake: &Error| mistake.span().unwrap_or(end..end);
    let mut mistakes: Vec<_> = mistakes.iter().map(|m| (place_of(m), m)).collect();
    mistakes.sort_by_key(|(span, _)| span.start);
    for (mut span, mistake) in mistakes {
        let line = Line::around(&source.text, span.start);
        let is_known = |other: &Line<'_>| {
            other.start == line.start
                || other.is_whole_head() && other.reach().contains(&line.start)
        };
        if lines.iter().any(is_known) {
            continue;
        }
        let problem = if mistake.message().starts_with("duplicate key") {
            twice(&line, tree, &span, &source.text)
        } else {
            let problem = describe(mistake.message(), &line, &mut span);
            lines.push(line);
            problem
        };
        let place = Place {
            source: Arc::clone(source),
            span,
        };
        found.push(problem.at(Some(place)));
    }
    if !lines.is_empty() {
        problems.retain(|problem| !is_echo(problem, &lines));
    }
    problems.extend(found);
}

/// Half of a file lacks what the whole one has, a broken line says nothing about its keys, and below a broken head the
/// keys seem to be in another table.
fn is_echo(problem: &Problem, lines: &[Line<'_>]) -> bool {
    if problem.code == "missing-key" {
        return true;
    }
    let at = problem.place.as_ref().map_or(0, |place| place.span.start);
    lines.iter().any(|line| line.reach().contains(&at))
}

struct Line<'a> {
    start: usize,
    text: &'a str,
    /// Where the next table begins.
    next_head: usize,
}

impl<'a> Line<'a> {
    fn around(text: &'a str, at: usize) -> Self {
        let at = at.min(text.len());
        let before = text.get(..at).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        let rest = &text[start..];
        Self {
            start,
            text: rest.lines().next().unwrap_or_default(),
            next_head: rest.find("\n[").map_or(text.len(), |n| start + n),
        }
    }

    fn is_head(&self) -> bool {
        self.text.trim_start().starts_with('[')
    }

    /// The head of a table as it was meant.
    fn head(&self) -> String {
        let written = head(self.text);
        let name = written.trim_matches(['[', ']', ' ']);
        if written.starts_with("[[") || written.ends_with("]]") {
            return format!("[[{name}]]");
        }
        format!("[{name}]")
    }

    /// Whether nothing is wrong with it, but that the parser is still in the middle of something.
    fn is_whole_head(&self) -> bool {
        self.is_head() && head(self.text) == self.head()
    }

    /// What a mistake in this line makes unreadable.
    fn reach(&self) -> RangeInclusive<usize> {
        let end = match self.is_head() {
            true => self.next_head,
            false => self.start + self.text.len(),
        };
        self.start..=end
    }

    /// The word around a byte of the text, with its place.
    fn word(&self, at: usize) -> Option<Range<usize>> {
        let is_word = |c: char| !c.is_whitespace() && !"[]{}=,\"'#".contains(c);
        let at = at.saturating_sub(self.start).min(self.text.len());
        let before = self.text.get(..at)?;
        let head = before.trim_end_matches(is_word).len();
        let rest = &self.text[head..];
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        (length > 0).then(|| self.start + head..self.start + head + length)
    }

    fn slice(&self, span: &Range<usize>) -> &'a str {
        let (start, end) = (
            span.start.saturating_sub(self.start),
            span.end.saturating_sub(self.start),
        );
        self.text.get(start..end).unwrap_or_default()
    }
}

/// A line without its comment.
fn head(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

fn problem(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem::error("syntax", "", message).hint(hint)
}

fn describe(message: &str, line: &Line<'_>, span: &mut Range<usize>) -> Problem {
    let (what, _) = message.split_once(", expected").unwrap_or((message, ""));
    let next = line
        .text
        .get(span.start.saturating_sub(line.start)..)
        .unwrap_or_default();
    match what {
        _ if line.is_head() => {
            if line.is_whole_head() {
                let hint = "put the `]` or `}` that is missing before this line";
                return problem("what was begun above has no end", hint);
            }
            problem(
                "this is no head of a table",
                format!("write `{}`", short(&line.head())),
            )
        }
        "invalid basic string" | "invalid literal string" if next.is_empty() => problem(
            "this text has no end",
            "put the closing quote where it ends",
        ),
        "key with no value"
        | "invalid unquoted key"
        | "missing assignment between key-value pairs" => {
            *span = line.start + (line.text.len() - line.text.trim_start().len())
                ..line.start + line.text.trim_end().len();
            problem("this is no `key = value`", key_and_value(line.text))
        }
        "missing comma between array elements" if next.starts_with('}') => {
            problem("the list has no end", "put a `]` before this")
        }
        "missing comma between array elements" | "missing comma between key-value pairs" => {
            problem(
                "something is missing between two values",
                "put a `,` before this",
            )
        }
        "unclosed array" => problem("the list has no end", "put a `]` where it ends"),
        "unclosed inline table" => problem("the table has no end", "put a `}` where it ends"),
        "string values must be quoted" | "missing value for key" | "missing value"
            if next.trim().is_empty() =>
        {
            problem("there is no value", "write one, or take the key out")
        }
        // The sentence below would repeat what the excerpt hides.
        _ if mask(line.text) != line.text => {
            problem("this value cannot be read", "write text in quotes")
        }
        _ => match line.word(span.start) {
            Some(word) if line.text[..word.start - line.start].contains('=') => {
                let written = short(line.slice(&word));
                *span = word;
                problem(
                    format!("`{written}` is neither a number nor `true` or `false`"),
                    format!("write text in quotes: `\"{written}\"`"),
                )
            }
            _ => problem(
                message.to_owned(),
                "a line is `key = value`; a value is text in quotes, a number, `true` or `false`, a list `[…]`, a table `{ … }`",
            ),
        },
    }
}

/// `workers: 4` is `workers = 4`.
fn key_and_value(line: &str) -> String {
    let line = line.trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (key, rest) = line.split_at(line.find(|c| !is_key(c)).unwrap_or(line.len()));
    let value = rest.trim_start_matches([':', '=', ' ', '\t']);
    // Not the value, which may be a secret.
    match (key, value) {
        ("", _) => "write a key, `=` and a value".into(),
        (key, "") => format!("write `{} = ` and a value", short(key)),
        (key, _) => format!("write `{} = ` before the value", short(key)),
    }
}

/// A key or a table that was written before. Says where, if only one place can be meant.
fn twice(line: &Line<'_>, tree: &DeTable<'_>, span: &Range<usize>, text: &str) -> Problem {
    let (what, earlier, hint) = if line.is_head() {
        let what = head(line.text).to_owned();
        let same = |before: &&str| head(before) == what;
        let earlier = text[..line.start].lines().position(|line| same(&line));
        (what, earlier, "put all its keys under one head")
    } else {
        let name = text.get(span.clone()).unwrap_or_default();
        let mut starts = Vec::new();
        collect(name, tree, span.start, &mut starts);
        let lines = |start: &usize| text[..*start].matches('\n').count();
        // Of several keys of this name, any may be the first one of this table.
        let earlier = (starts.len() == 1)
            .then(|| starts.first().map(lines))
            .flatten();
        (name.to_owned(), earlier, "keep one of the two")
    };
    let message = match earlier {
        Some(line) => format!("`{}` is already written in line {}", short(&what), line + 1),
        None => format!("`{}` is written twice", short(&what)),
    };
    Problem::error("duplicate-key", "", message).hint(hint)
}

fn collect(name: &str, table: &DeTable<'_>, before: usize, found: &mut Vec<usize>) {
    for (key, value) in table {
        if key.get_ref() == name && key.span().start < before {
            found.push(key.span().start);
        }
        collect_below(name, value.get_ref(), before, found);
    }
}

fn collect_below(name: &str, value: &DeValue<'_>, before: usize, found: &mut Vec<usize>) {
    match value {
        DeValue::Table(table) => collect(name, table, before, found),
        DeValue::Array(list) => list
            .iter()
            .for_each(|node| collect_below(name, node.get_ref(), before, found)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}
