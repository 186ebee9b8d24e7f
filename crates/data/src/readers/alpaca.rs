//! SFT Alpaca: `instruction`, `input` (may be empty) and `output`, with LLaMA-Factory's optional
//! `system` and `history` (`[[question, answer], ..]`).
//!
//! Instruction and input are joined by a line break, as LLaMA-Factory does; the paragraph of
//! the original Alpaca prompt is left to the chat template.

use super::fields::{self, Row, required, text};
use super::{Reading, has_both};
use crate::error::FieldProblem;

/// The column with the question. Another one that could be a prompt often holds the whole text that somebody's template made of
/// the record, with its answer.
pub(super) const PROMPT: &str = "instruction";

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, PROMPT, "output")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let output = text(required(row, "output")?, "output")?;
    Ok(Reading::single(
        fields::prompt_in(row, PROMPT)?,
        output.into(),
    ))
}
