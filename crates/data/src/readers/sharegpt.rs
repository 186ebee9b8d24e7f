//! ShareGPT preference: `conversations` up to the question, then `chosen` and `rejected`, one turn each.
//!
//! LLaMA-Factory's form, and Axolotl's, which calls the turns before the answers `messages`: turns of `from` (`system`, `human`,
//! `gpt`) and `value`, an optional `system` column. A turn of `function_call` is the assistant's with `tool_calls`, and one of `observation` is `tool`'s.

use serde_json::Value;

use super::fields::{Row, has, required, with_system};
use super::turns::{messages, response};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "chosen", "rejected") && (has(row, "conversations") || is_of_single_turns(row))
}

/// Whether the turns before the answers are in `messages`. Where `chosen` is a whole conversation, `messages` is often the same one
/// again, which says nothing.
fn is_of_single_turns(row: &Row) -> bool {
    let is_turn = |column: &str| row.get(column).is_some_and(Value::is_object);
    has(row, "messages") && is_turn("chosen") && is_turn("rejected")
}

/// The column with the turns before the answers.
pub(super) fn column(row: &Row) -> &'static str {
    if !has(row, "conversations") && has(row, "messages") {
        "messages"
    } else {
        "conversations"
    }
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let column = column(row);
    let turns = messages(required(row, column)?, column)?;
    Ok(Reading::chosen_first(
        with_system(row, turns)?,
        response(required(row, "chosen")?, "chosen")?,
        response(required(row, "rejected")?, "rejected")?,
    ))
}
