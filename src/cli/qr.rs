//! A QR code for a terminal: two modules a character, with the quiet zone that scanners need (ISO 18004, 9.1).

use fast_qr::{ECL, QRBuilder};
use serde_json::Value;

use super::output::{Output, plain};

/// Light modules around the code.
const QUIET: usize = 4;
/// Black on white by number, because a theme may give `black` and `white` any colour.
const INK: &str = "\u{1b}[38;5;16;48;5;231m";
const END: &str = "\u{1b}[0m";

/// The code of `text` as lines of equal width, and that width. `None` when it is too long for any code.
///
/// With colour it is black on white whatever the terminal looks like. Without, the light modules are the drawn ones: right
/// on a dark terminal, inverted on a light one, which phones read too.
pub fn lines(text: &str, color: bool) -> Option<(Vec<String>, usize)> {
    let code = QRBuilder::new(text).ecl(ECL::L).build().ok()?;
    let width = code.size + 2 * QUIET;
    let is_dark = |row: usize, column: usize| {
        let inside = |at: usize| (QUIET..QUIET + code.size).contains(&at);
        inside(row) && inside(column) && code[row - QUIET][column - QUIET].value()
    };
    let line = |row: usize| {
        let cells = (0..width).map(|column| {
            // The rows of an odd code do not come out even: half a row more of the quiet zone.
            match (
                is_dark(row, column) == color,
                is_dark(row + 1, column) == color,
            ) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            }
        });
        let cells: String = cells.collect();
        if color {
            format!("{INK}{cells}{END}")
        } else {
            cells
        }
    };
    Some(((0..width).step_by(2).map(line).collect(), width))
}

/// The addresses that a gate has told, one a line behind `label` and in a column of `width`; on a terminal the code of the first above them.
pub(super) fn links(urls: &Value, label: &str, width: usize, output: &Output) -> String {
    let urls = urls.as_array().into_iter().flatten();
    let urls: Vec<_> = urls.filter_map(|url| url.as_str().map(plain)).collect();
    let paint = output.paint();
    let mut text = String::new();
    let code = urls.first().filter(|_| output.is_terminal);
    if let Some((lines, _)) = code.and_then(|url| lines(url, paint.color)) {
        for line in lines {
            text += &format!("  {line}\n");
        }
        text.push('\n');
    }
    for (at, url) in urls.iter().enumerate() {
        let label = if at == 0 { label } else { "or" };
        text += &format!("  {label:<width$}{}\n", paint.strong(url));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules again, from what is on the screen: true is dark.
    fn modules(lines: &[String], color: bool) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in lines {
            let cells: Vec<char> = line
                .trim_start_matches(INK)
                .trim_end_matches(END)
                .chars()
                .collect();
            let row = |marks: [char; 2]| -> Vec<bool> {
                cells.iter().map(|c| marks.contains(c) == color).collect()
            };
            rows.push(row(['█', '▀']));
            rows.push(row(['█', '▄']));
        }
        rows
    }

    #[test]
    fn shows_the_code_with_its_quiet_zone_in_both_ways() {
        let url = "https://192.168.178.120:8443/";
        let Ok(code) = QRBuilder::new(url).ecl(ECL::L).build() else {
            panic!("a code")
        };
        for color in [true, false] {
            let (lines, width) = lines(url, color).unwrap_or_default();
            assert_eq!(
                width, 33,
                "an address of a LAN leaves room for text beside the code"
            );
            let seen = modules(&lines, color);
            for (y, row) in seen.iter().enumerate() {
                for (x, dark) in row.iter().enumerate() {
                    let inside = (QUIET..QUIET + code.size).contains(&x)
                        && (QUIET..QUIET + code.size).contains(&y);
                    let want = inside && code[y - QUIET][x - QUIET].value();
                    assert_eq!(*dark, want, "{x},{y} {color}");
                }
            }
            assert!(lines.iter().all(|line| line.contains("\u{1b}") == color));
        }
    }

    #[test]
    fn refuses_what_no_code_can_hold() {
        assert!(lines(&"a".repeat(4000), true).is_none());
    }
}
