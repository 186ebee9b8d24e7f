//! What a terminal may be given, and how wide it is.

use std::io::{self, IsTerminal};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use panacea_runs::telling;

/// The columns that tables and texts have: those that `COLUMNS` says, else those of the terminal. `None` where neither is known:
/// whatever else reads the output gets every line whole.
pub fn columns() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.trim().parse().ok());
    told.filter(|columns| *columns > 0).or_else(|| {
        let size = console::Term::stdout().size_checked();
        size.map(|(_, columns)| usize::from(columns))
    })
}

/// A terminal gets no control characters of a model; whatever else reads the output gets the text as it is.
pub fn printable(text: &str, is_terminal: bool) -> String {
    let is_shown = |c: char| !is_terminal || !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| match is_shown(c) {
            true => c,
            false => char::REPLACEMENT_CHARACTER,
        })
        .collect()
}

/// What standard output gets of a text.
pub fn shown(text: &str) -> String {
    printable(text, io::stdout().is_terminal())
}

/// How many bytes of a file have come or gone.
pub fn bytes_bar() -> Result<ProgressBar> {
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(telling().draw_target());
    let template = "{msg} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}

/// So many seconds as a person would say it: 2 digits, since no estimate has more.
pub fn span(seconds: f64) -> String {
    let digits = |value: f64| match value < 9.95 {
        true => format!("{value:.1}"),
        false => format!("{value:.0}"),
    };
    match seconds {
        _ if seconds < 0.95 => "less than a second".to_owned(),
        _ if seconds < 90.0 => format!("{} s", digits(seconds)),
        _ if seconds < 5400.0 => format!("{} min", digits(seconds / 60.0)),
        _ if seconds < 172_800.0 => format!("{} h", digits(seconds / 3600.0)),
        _ => format!("{} days", digits(seconds / 86400.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_digits() {
        let cases = [
            (0.3, "less than a second"),
            (3.12, "3.1 s"),
            (75.4, "75 s"),
            (100.0, "1.7 min"),
            (599.0, "10 min"),
            (7200.0, "2.0 h"),
            (250_000.0, "2.9 days"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn no_control_characters_of_a_model_reach_a_terminal() {
        let text = "a\u{1b}[2Jb\r\u{7}\u{9b}c\tä\n";
        assert_eq!(
            printable(text, true),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\tä\n"
        );
        assert_eq!(printable(text, false), text);
    }
}
