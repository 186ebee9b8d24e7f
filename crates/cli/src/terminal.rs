//! What a terminal may be given, and how wide it is.

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

#[cfg(test)]
mod tests {
    use super::*;

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
