//! Scored pairs: `{"prompt": .., "responses": [a, b], "scores": {"helpfulness": [3.0, 2.0]}}`.
//!
//! The form for several objectives in one file: each key of `scores` holds the scores of both
//! responses, and a record may lack a key. It is how attribute-rated sets (HelpSteer2,
//! UltraFeedback) look once two responses to a prompt are put side by side.

use super::fields::{self, Row, describe, required, response};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "prompt", "responses")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let prompt = fields::prompt(row)?;
    let responses = required(row, "responses")?;
    let Some([first, second]) = responses.as_array().map(Vec::as_slice) else {
        return Err(FieldProblem {
            field: "responses".to_owned(),
            found: describe(responses),
            expected: "a list of two responses".to_owned(),
        });
    };
    let responses = [
        response(first, "responses[0]")?,
        response(second, "responses[1]")?,
    ];
    Ok(Reading::unordered(prompt, responses))
}
