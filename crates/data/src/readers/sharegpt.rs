//! ShareGPT preference: `conversations` up to the question, then `chosen` and `rejected`, one turn each.
//!
//! LLaMA-Factory's form, and Axolotl's, which calls the turns before the answers `messages`: turns of `from` (`system`, `human`, `gpt`) and `value`, an optional
//! `system` column. A turn of `function_call` is the assistant's with `tool_calls`, and one of `observation` is `tool`'s.

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
    has(row, "messages") && row["chosen"].is_object() && row["rejected"].is_object()
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let column = match has(row, "conversations") {
        true => "conversations",
        false if is_of_single_turns(row) => "messages",
        false => "conversations",
    };
    let turns = messages(required(row, column)?, column)?;
    Ok(Reading::chosen_first(
        with_system(row, turns)?,
        response(required(row, "chosen")?, "chosen")?,
        response(required(row, "rejected")?, "rejected")?,
    ))
}
