//! SFT Alpaca: `instruction`, `input` (may be empty) and `output`, with LLaMA-Factory's optional
//! `system` and `history` (`[[question, answer], ..]`).
//!
//! Instruction and input are joined by a line break, as LLaMA-Factory does; the paragraph of
//! the original Alpaca prompt is left to the chat template.

use panacea_pretrained::Message;
use serde_json::Value;

use super::fields::{self, Row, describe, optional, required, text, turn};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "instruction", "output")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let output = text(required(row, "output")?, "output")?.to_owned();
    Ok(Reading::single(prompt(row)?, output))
}

/// The instruction, with what was said before it.
pub(super) fn prompt(row: &Row) -> Result<Vec<Message>, FieldProblem> {
    let mut prompt = fields::prompt(row)?;
    let before_question = prompt.len().saturating_sub(1);
    prompt.splice(before_question..before_question, history(row)?);
    Ok(prompt)
}

fn history(row: &Row) -> Result<Vec<Message>, FieldProblem> {
    let Some(value) = optional(row, "history") else {
        return Ok(Vec::new());
    };
    let problem = |value: &Value| FieldProblem {
        field: "history".to_owned(),
        found: describe(value),
        expected: "a list of [question, answer]".to_owned(),
    };
    let mut turns = Vec::new();
    for exchange in value.as_array().ok_or_else(|| problem(value))? {
        let Some([question, answer]) = exchange.as_array().map(Vec::as_slice) else {
            return Err(problem(exchange));
        };
        turns.push(turn("user", text(question, "history")?));
        turns.push(turn("assistant", text(answer, "history")?));
    }
    Ok(turns)
}
