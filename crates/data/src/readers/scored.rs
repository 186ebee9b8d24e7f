//! Scored responses: `{"prompt": .., "responses": [a, b], "scores": {"helpfulness": [3.0, 2.0]}}`.
//!
//! The form for several objectives in one file: each key of `scores` holds a score for each of the
//! two or more responses, and a record may lack a key. Every two responses are compared. Attribute-rated
//! sets (HelpSteer2, UltraFeedback) have this form once the responses to a prompt are put into one record.

use super::fields::{self, Row, describe, required};
use super::turns::response;
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "prompt", "responses")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let prompt = fields::prompt(row)?;
    let responses = required(row, "responses")?;
    let Some(items) = responses.as_array().filter(|items| items.len() > 1) else {
        return Err(FieldProblem {
            field: "responses".to_owned(),
            found: describe(responses),
            expected: "a list of two or more responses".to_owned(),
        });
    };
    let responses = (items.iter().enumerate())
        .map(|(index, item)| response(item, &format!("responses[{index}]")))
        .collect::<Result<_, _>>()?;
    Ok(Reading::unordered(prompt, responses))
}
