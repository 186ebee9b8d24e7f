//! ShareGPT preference: `conversations` up to the question, then `chosen` and `rejected`.
//!
//! LLaMA-Factory's form: turns of `from` (`system`, `human`, `gpt`) and `value`, an optional
//! `system` column. A turn of `function_call` is the assistant's with `tool_calls`, and one of `observation` is `tool`'s.

use super::fields::{Row, has, required, with_system};
use super::turns::{messages, response};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has(row, "conversations") && has_both(row, "chosen", "rejected")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let turns = messages(required(row, "conversations")?, "conversations")?;
    Ok(Reading::chosen_first(
        with_system(row, turns)?,
        response(required(row, "chosen")?, "chosen")?,
        response(required(row, "rejected")?, "rejected")?,
    ))
}
