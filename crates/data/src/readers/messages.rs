//! SFT conversations: `messages` (TRL, LLaMA-Factory's messages form) or `conversations`
//! (ShareGPT).
//!
//! The last turn, which must be the assistant's, is the response; all before it is the prompt,
//! earlier answers included. LLaMA-Factory's `loss_weight`
//! marks the same turn.

use super::Reading;
use super::fields::{Row, has, required, with_system};
use super::turns::{messages, split_answer};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has(row, column(row))
}

/// The column that holds the conversation.
pub(super) fn column(row: &Row) -> &'static str {
    if !has(row, "messages") && has(row, "conversations") {
        "conversations"
    } else {
        "messages"
    }
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let column = column(row);
    let turns = messages(required(row, column)?, column)?;
    let (prompt, response) = split_answer(turns, column)?;
    Ok(Reading::single(with_system(row, prompt)?, response))
}
