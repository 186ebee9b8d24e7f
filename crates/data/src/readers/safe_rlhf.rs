//! PKU-SafeRLHF: `prompt`, `response_0`, `response_1`.
//!
//! The Beaver / PKU-Alignment data sets keep two judgements of one pair in columns of their
//! own, `better_response_id` (helpfulness) and `safer_response_id` (harmlessness); an objective
//! names the one that it reads. An id of −1 in them says that nobody has judged.

use serde_json::Value;

use super::fields::{self, Row, required};
use super::turns::response;
use super::{Reading, has_both};
use crate::error::FieldProblem;

/// Whether a column says that nobody has judged.
pub(super) fn is_unrated(column: &str, value: &Value) -> bool {
    ["better_response_id", "safer_response_id"].contains(&column) && value.as_f64() == Some(-1.0)
}

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "response_0", "response_1")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let responses = [
        response(required(row, "response_0")?, "response_0")?,
        response(required(row, "response_1")?, "response_1")?,
    ];
    Ok(Reading::unordered(fields::prompt(row)?, responses.into()))
}
