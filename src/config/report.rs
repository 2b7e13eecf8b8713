//! All mistakes of one configuration together, and how they are shown: to people with an excerpt, to tools as JSON.

use std::collections::HashMap;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::mask::mask;
use super::origin::{Origins, Place, Source};
use super::problem::{Problem, Severity};

/// All that was found in a configuration.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was found.
    pub problems: Vec<Problem>,
    /// Where the keys were written.
    pub origins: Origins,
}

impl Report {
    /// A report about a configuration, with the places of its keys.
    pub fn new(problems: Vec<Problem>, origins: Origins) -> Self {
        Self { problems, origins }
    }

    /// Whether anything refuses the file.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// For people: each mistake with its line and what to write instead, in the order of the text, and a last line that
    /// counts them. Secrets in the excerpts are masked. Empty where nothing was found.
    pub fn render(&self, color: bool, width: usize) -> String {
        if self.problems.is_empty() {
            return String::new();
        }
        let renderer = match color {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let renderer = renderer.term_width(width.max(40));
        let mut texts: HashMap<*const Source, String> = HashMap::new();
        let mut shown = String::new();
        for (problem, place) in self.in_order() {
            if let Some(place) = place {
                let text = || mask(&place.source.text);
                texts.entry(Arc::as_ptr(&place.source)).or_insert_with(text);
            }
            let text = place.map(|place| texts[&Arc::as_ptr(&place.source)].as_str());
            shown += &renderer.render(&[group(problem, place.zip(text))]);
            shown += "\n\n";
        }
        shown + &self.summary() + "\n"
    }

    /// For tools: one object a mistake. `file`, `line` and `column` are null where the mistake has no place.
    pub fn to_json(&self) -> Value {
        let object = |(problem, place): (&Problem, Option<&Place>)| {
            json!({
                "severity": problem.severity.word(),
                "code": problem.code,
                "file": place.map(|place| place.source.name.to_string_lossy()),
                "line": place.map(Place::line),
                "column": place.map(Place::column),
                "key": problem.key,
                "message": problem.message,
                "hint": problem.hint,
            })
        };
        self.in_order().into_iter().map(object).collect()
    }

    /// Mistakes without a place first, then file by file from top to bottom.
    fn in_order(&self) -> Vec<(&Problem, Option<&Place>)> {
        let mut files: Vec<*const Source> = Vec::new();
        let mut problems = Vec::with_capacity(self.problems.len());
        for problem in &self.problems {
            let place = problem
                .place
                .as_ref()
                .or_else(|| self.origins.place(&problem.key));
            let rank = place.map(|place| {
                let source = Arc::as_ptr(&place.source);
                let known = files.iter().position(|file| *file == source);
                let file = known.unwrap_or_else(|| {
                    files.push(source);
                    files.len() - 1
                });
                (file, place.span.start)
            });
            problems.push((rank, (problem, place)));
        }
        problems.sort_by_key(|(rank, _)| *rank);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    fn count(&self, severity: Severity) -> usize {
        let of = |problem: &&Problem| problem.severity == severity;
        self.problems.iter().filter(of).count()
    }

    fn summary(&self) -> String {
        let several = |severity: Severity| {
            let count = self.count(severity);
            let s = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {}{s}", severity.word()))
        };
        let counts = [several(Severity::Error), several(Severity::Warning)];
        let counts: Vec<_> = counts.into_iter().flatten().collect();
        counts.join(", ")
    }
}

fn group<'a>(problem: &'a Problem, place: Option<(&'a Place, &'a str)>) -> Group<'a> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level
        .primary_title(problem.message.as_str())
        .id(problem.code);
    let mut group = match place {
        Some((place, text)) => title.element(excerpt(place, text)),
        None => Group::with_title(title),
    };
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    group
}

/// The first line of the place: a table that reaches over many lines is named by its head.
fn excerpt<'a>(place: &'a Place, text: &'a str) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let start = place.span.start.min(text.len());
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let end = place.span.end.clamp(start, line_end);
    Snippet::source(text)
        .path(place.source.name.to_string_lossy())
        .annotation(AnnotationKind::Primary.span(start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let text = "[[route]]\npath = '/'\n  upstream = '127.0.0.1:1'\n[[listener]]\naddress = '[::]:1'\nnetworks = { allow = ['private'] }\n";
        let origins = crate::config::from_text("a.toml", text).map(|loaded| loaded.origins);
        let problems = vec![
            Problem::warning("odd", "listener[0].tls", "this is odd"),
            Problem::error("bad", "route[0].upstream", "this is bad").hint("write something else"),
            Problem::error("none", "", "there is nothing"),
        ];
        Report::new(problems, origins.unwrap_or_default())
    }

    #[test]
    fn people_read_it_in_the_order_of_the_text() {
        let text = report().render(false, 80);
        let order = [
            "there is nothing",
            "a.toml:3:14",
            "write something else",
            "a.toml:4:1",
            "2 errors, 1 warning\n",
        ];
        let at: Vec<_> = order
            .iter()
            .map(|part| text.find(part).expect(part))
            .collect();
        assert!(at.is_sorted(), "{text}");
        assert!(!text.contains('\u{1b}') && report().render(true, 80).contains('\u{1b}'));
        assert_eq!(Report::default().render(false, 80), "");
    }

    #[test]
    fn tools_read_it_as_json() {
        let json = report().to_json();
        assert_eq!(json[0]["file"], Value::Null);
        assert_eq!(
            json[1],
            json!({
                "severity": "error", "code": "bad", "file": "a.toml", "line": 3, "column": 14,
                "key": "route[0].upstream", "message": "this is bad", "hint": "write something else",
            })
        );
        assert_eq!(json[2]["severity"], "warning");
    }

    #[test]
    fn warnings_alone_refuse_nothing() {
        let odd = Problem::warning("odd", "", "this is odd");
        assert!(!Report::new(vec![odd], Origins::default()).has_errors());
        assert!(report().has_errors());
    }
}
