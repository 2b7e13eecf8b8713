//! Lists for people: columns that fit the terminal.

use super::output::{Paint, plain};

/// A table with a head. Cells hold foreign text without harm.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: usize = 2;
/// No column is squeezed below this while another one is wider.
const LEAST: usize = 8;

impl Table {
    /// A table with these columns. The last one takes what room is left.
    pub fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One more row. Cells that are missing are empty, cells without a column are left out.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        let mut row: Vec<String> = cells.iter().map(|cell| plain(cell).into_owned()).collect();
        row.resize(self.head.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table in `width` columns: what is too long goes on below, in its own column.
    pub fn render(&self, width: usize, paint: Paint) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let head: Vec<String> = self.head.iter().map(|&name| name.to_owned()).collect();
        for line in lay_out(&head, &widths) {
            text.push_str(&paint.soft(&line));
            text.push('\n');
        }
        for row in &self.rows {
            for line in lay_out(row, &widths) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }

    /// As wide as the content, then the widest ones give way until all fit.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.head.len())
            .map(|i| {
                let cells = self.rows.iter().map(|row| row[i].chars().count());
                cells.chain([self.head[i].len()]).max().unwrap_or(0)
            })
            .collect();
        let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().max() {
                Some(widest) if *widest > LEAST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// One row as lines.
fn lay_out(cells: &[String], widths: &[usize]) -> Vec<String> {
    let wrapped: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, &w)| wrap(cell, w))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    (0..height)
        .map(|i| {
            let mut line = String::new();
            for (column, &width) in wrapped.iter().zip(widths) {
                let part = column.get(i).map_or("", String::as_str);
                line.push_str(&format!("{part:<width$}"));
                line.push_str(&" ".repeat(GAP));
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// Breaks at spaces; a word that is longer than the line is cut where it must be.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let gap = usize::from(used > 0);
        if used > 0 && used + gap + word.len() > width {
            lines.push(String::new());
            used = 0;
        } else if gap > 0 {
            push(&mut lines, [' ']);
            used += 1;
        }
        while word.len() > width {
            push(&mut lines, word.drain(..width));
            lines.push(String::new());
        }
        used += word.len();
        push(&mut lines, word);
    }
    lines
}

fn push(lines: &mut [String], part: impl IntoIterator<Item = char>) {
    if let Some(line) = lines.last_mut() {
        line.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Table {
        let mut table = Table::new(["ADDRESS", "OPEN TO", "PROCESS", "WHAT TO DO"]);
        table.row(["127.0.0.1:3000", "this machine only", "node (4711)", ""]);
        table.row([
            "0.0.0.0:8888",
            "everyone",
            "jupyter-lab\u{1b}[0m (812)",
            "Start it with --ip=127.0.0.1, then: loopgate expose 8888",
        ]);
        table
    }

    #[test]
    fn fits_and_keeps_columns_apart() {
        for width in [80, 60, 200] {
            let text = sockets().render(width, Paint::default());
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert_eq!(line, line.trim_end());
            }
            assert!(!text.contains('\u{1b}'));
        }
        let wide = sockets().render(200, Paint::default());
        assert_eq!(wide.lines().count(), 3, "{wide}");
    }

    #[test]
    fn wraps_at_spaces_and_cuts_only_what_is_too_long() {
        for (text, width, want) in [
            ("a bc def", 4, vec!["a bc", "def"]),
            ("abcdefgh", 3, vec!["abc", "def", "gh"]),
            ("a abcdefg b", 3, vec!["a", "abc", "def", "g b"]),
            ("", 3, vec![""]),
            ("äöü ß", 3, vec!["äöü", "ß"]),
        ] {
            assert_eq!(wrap(text, width), want, "{text}");
        }
    }
}
