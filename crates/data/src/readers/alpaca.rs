//! SFT Alpaca: `instruction`, `input` (may be empty) and `output`, with LLaMA-Factory's optional
//! `system` and `history` (`[[question, answer], ..]`).
//!
//! Instruction and input are joined by a line break, as LLaMA-Factory does; the paragraph of
//! the original Alpaca prompt is left to the chat template.

use super::fields::{self, Row, required, text};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "instruction", "output")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let output = text(required(row, "output")?, "output")?;
    Ok(Reading::single(fields::prompt(row)?, output.into()))
}
