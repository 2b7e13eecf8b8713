//! The only file that prints. It knows the terminal; what it is given is text.
//!
//! Results go to standard output, everything else to standard error. A reader who has left (`loopgate audit | head`) is
//! no error.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

/// How to speak, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether standard output takes colours.
    pub color: bool,
    /// Whether standard output is a terminal: without one there is nobody to scan a QR code.
    pub is_terminal: bool,
    /// Whether only results and errors are wanted.
    pub quiet: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// Where there is no terminal, and where it does not tell.
const WIDTH: usize = 80;

impl Output {
    /// Looks at the terminal and the environment. `no_color` is the option; `NO_COLOR` and `TERM=dumb` do the same.
    pub fn detect(no_color: bool, quiet: bool) -> Self {
        Self::on(io::stdout().is_terminal(), no_color, quiet)
    }

    /// The same for a command whose standard output belongs to somebody else: all that it says goes to standard error.
    pub fn beside(no_color: bool, quiet: bool) -> Self {
        Self::on(io::stderr().is_terminal(), no_color, quiet)
    }

    fn on(is_terminal: bool, no_color: bool, quiet: bool) -> Self {
        let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            color: is_terminal && !no_color && !asked_not_to && !is_dumb,
            is_terminal,
            quiet,
            width: columns().unwrap_or(WIDTH),
        }
    }

    /// How text for standard output is painted.
    pub fn paint(&self) -> Paint {
        Paint { color: self.color }
    }

    /// A result: standard output, always. The line end is added.
    ///
    /// # Errors
    /// When it could not be written although somebody was there to read: a full disk must not look like success.
    pub fn print(&self, text: &str) -> io::Result<()> {
        self.print_on(text).map(drop)
    }

    /// The same for who goes on printing: false when nobody reads it any more.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn print_on(&self, text: &str) -> io::Result<bool> {
        write(&mut io::stdout().lock(), text)
    }

    /// What goes on: standard error, unless quiet is wanted. If even that fails there is nobody left to tell.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = write(&mut io::stderr().lock(), text);
        }
    }

    /// A warning or an error: standard error, always.
    pub fn warn(&self, text: &str) {
        let _ = write(&mut io::stderr().lock(), text);
    }
}

fn write(to: &mut impl Write, text: &str) -> io::Result<bool> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let result = to
        .write_all(text.as_bytes())
        .and_then(|()| to.write_all(end.as_bytes()))
        .and_then(|()| to.flush());
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()))
        .ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Adds colour, or leaves the text alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    /// Whether to.
    pub color: bool,
}

impl Paint {
    /// What must be seen first.
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// What is good to know.
    pub fn soft(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// What is as it should be.
    pub fn good(self, text: &str) -> String {
        self.with(Style::new().fg_color(Some(AnsiColor::Green.into())), text)
    }

    /// What somebody should look at.
    pub fn warning(self, text: &str) -> String {
        self.with(Style::new().fg_color(Some(AnsiColor::Yellow.into())), text)
    }

    /// What is wrong.
    pub fn bad(self, text: &str) -> String {
        let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        self.with(style, text)
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// Text that came from elsewhere (a process name, a user name), made harmless for a terminal: control characters, and
/// those that turn the direction of writing, become `�`.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(is_harmful) {
        Cow::Owned(text.replace(is_harmful, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn forgives_a_reader_who_left_but_not_a_full_disk() {
        assert!(!write(&mut Failing(ErrorKind::BrokenPipe), "a").unwrap());
        assert!(write(&mut Failing(ErrorKind::StorageFull), "a").is_err());
        let mut got = Vec::new();
        assert!(write(&mut got, "a").and(write(&mut got, "b\n")).is_ok());
        assert_eq!(got, b"a\nb\n");
    }

    #[test]
    fn paints_only_when_asked() {
        assert_eq!(Paint { color: false }.bad("x"), "x");
        assert!(Paint { color: true }.bad("x").contains("\u{1b}["));
    }

    #[test]
    fn makes_foreign_text_harmless() {
        for (text, want) in [
            ("node", "node"),
            ("Müller 雪", "Müller 雪"),
            ("a\u{1b}[2Jb", "a\u{fffd}[2Jb"),
            ("a\nb\r\u{9b}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("\u{202e}txt", "\u{fffd}txt"),
        ] {
            assert_eq!(plain(text), want);
        }
    }
}
