//! What can go wrong, in words a person can act on.

use crate::scorer::Sample;

/// A mistake in the table of a scorer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: found {found}, expected {expected}")]
pub struct SpecError {
    /// The field, or `reward` for the table as a whole.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What could be used, and what to do.
    pub expected: String,
}

impl SpecError {
    pub(crate) fn new(field: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// Why responses could not be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{scorer}{}: {problem}", origin.as_ref().map_or(String::new(), |origin| format!(", {origin}")))]
pub struct ScoreError {
    /// The name of the scorer.
    pub scorer: String,
    /// The record that was being scored, where one is to blame.
    pub origin: Option<String>,
    /// What was found, what was expected, and what to do.
    pub problem: String,
}

impl ScoreError {
    /// The error of a scorer, about one sample or about all of them.
    pub fn new(scorer: &str, sample: Option<&Sample<'_>>, problem: impl Into<String>) -> Self {
        Self {
            scorer: scorer.to_owned(),
            origin: sample.map(|sample| sample.origin.to_owned()),
            problem: problem.into(),
        }
    }
}

/// The beginning of a text that comes from outside, in quotes and on one line.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
