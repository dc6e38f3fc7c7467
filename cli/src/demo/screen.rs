//! What the demo prints: plain aligned text; colours only where a terminal shows them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Standard output. A reader who has gone does not end the demo: its exit code still counts.
#[derive(Debug)]
pub(super) struct Screen {
    colours: bool,
}

/// How a piece of text is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    pub(super) fn styled(&self, style: Style, text: impl Display) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "1;32",
            Style::Bad => "1;31",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(super) fn line(&self, text: impl Display) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Begins a part.
    pub(super) fn heading(&self, title: &str, about: &str) {
        self.line(format_args!("\n{}  {}", self.styled(Style::Bold, title), self.styled(Style::Dim, about)));
    }

    /// Something that happened `at` this time after the beginning, to `who`.
    pub(super) fn happened(&self, at: Duration, who: &str, what: impl Display) {
        let at = self.styled(Style::Dim, format_args!("{:>8.3} s", at.as_secs_f64()));
        self.line(format_args!("{at}  {who:<6}{what}"));
    }

    /// A table: the first column to the left, the others to the right; the first row is the header.
    pub(super) fn table(&self, rows: &[Vec<String>]) {
        for (number, line) in align(rows).into_iter().enumerate() {
            let line = format!("  {line}");
            self.line(if number == 0 { self.styled(Style::Dim, line) } else { line });
        }
    }
}

fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let lines = align(&[row(["layer", "µs", "n"]), row(["top", "1", "1,000"])]);
        assert_eq!(lines, ["layer  µs      n", "top     1  1,000"]);
        assert!(align(&[]).is_empty());
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
