//! The text format of Prometheus, version 0.0.4: families together, label values escaped, no name that is not in the list.

use std::fmt::Write as _;

use super::families::FAMILIES;

/// What the answer to a scrape says it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A scrape that is being written.
#[derive(Debug, Default)]
pub struct Text {
    /// Samples by family; the order is that of [`FAMILIES`], whatever the order they come in.
    samples: Vec<(usize, String)>,
}

impl Text {
    /// One sample. A name that is not in the list is a mistake of ours and is left out; a test looks for it.
    pub fn one(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let line = sample(name, labels, &value.to_string());
        self.push(name, line);
    }

    /// A histogram: how many fell below each edge and above the one before, how many above all, and the sum.
    pub fn histogram(&mut self, name: &str, edges: &[(&str, u64)], above: u64, micros: u64) {
        let bucket = format!("{name}_bucket");
        let (mut lines, mut all) = (String::new(), 0);
        for (edge, count) in edges.iter().copied().chain([("+Inf", above)]) {
            all += count;
            lines += &sample(&bucket, &[("le", edge)], &all.to_string());
        }
        let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        lines += &sample(&format!("{name}_sum"), &[], &seconds);
        lines += &sample(&format!("{name}_count"), &[], &all.to_string());
        self.push(name, lines);
    }

    fn push(&mut self, name: &str, lines: String) {
        let family = FAMILIES.iter().position(|family| family.name == name);
        debug_assert!(family.is_some(), "{name} is not in the list of metrics");
        if let Some(family) = family {
            self.samples.push((family, lines));
        }
    }

    /// The whole text.
    pub fn into_string(mut self) -> String {
        self.samples.sort_by_key(|(family, _)| *family);
        let (mut text, mut last) = (String::new(), None);
        for (family, lines) in self.samples {
            if last != Some(family) {
                last = Some(family);
                let family = &FAMILIES[family];
                let _ = writeln!(text, "# HELP {} {}", family.name, family.help);
                let _ = writeln!(text, "# TYPE {} {}", family.name, family.kind.word());
            }
            text += &lines;
        }
        text
    }
}

fn sample(name: &str, labels: &[(&str, &str)], value: &str) -> String {
    let mut line = name.to_owned();
    for (i, (key, text)) in labels.iter().enumerate() {
        let _ = write!(line, "{}{key}=\"", if i == 0 { '{' } else { ',' });
        for c in text.chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                '"' => line.push_str("\\\""),
                '\n' => line.push_str("\\n"),
                c => line.push(c),
            }
        }
        line.push('"');
    }
    if !labels.is_empty() {
        line.push('}');
    }
    line + " " + value + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_together_and_label_values_escaped() {
        let mut text = Text::default();
        text.one("loopgate_connections", &[("listener", "[::]:1")], 3);
        text.one("loopgate_build_info", &[("version", "a\"b\\c\nd")], 1);
        text.one("loopgate_connections", &[("listener", "b")], 4);
        text.histogram(
            "loopgate_request_duration_seconds",
            &[("0.1", 2), ("1", 3)],
            1,
            4_500_001,
        );
        let text = text.into_string();
        let lines: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "loopgate_build_info{version=\"a\\\"b\\\\c\\nd\"} 1",
                "loopgate_request_duration_seconds_bucket{le=\"0.1\"} 2",
                "loopgate_request_duration_seconds_bucket{le=\"1\"} 5",
                "loopgate_request_duration_seconds_bucket{le=\"+Inf\"} 6",
                "loopgate_request_duration_seconds_sum 4.500001",
                "loopgate_request_duration_seconds_count 6",
                "loopgate_connections{listener=\"[::]:1\"} 3",
                "loopgate_connections{listener=\"b\"} 4",
            ]
        );
        assert_eq!(text.matches("# TYPE loopgate_connections gauge").count(), 1);
    }
}
