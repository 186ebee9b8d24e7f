//! SFT prompt and completion: TRL's form, plain texts or turns; `response` is taken for
//! `completion`.

use super::Reading;
use super::fields::{self, Row, has, prompt_column, required};
use super::turns::response;
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    prompt_column(row).is_some() && has(row, column(row))
}

/// The column that holds the answer.
pub(super) fn column(row: &Row) -> &'static str {
    if !has(row, "completion") && has(row, "response") {
        "response"
    } else {
        "completion"
    }
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let column = column(row);
    let answer = response(required(row, column)?, column)?;
    Ok(Reading::single(fields::prompt(row)?, answer))
}
