//! TRL preference: `chosen` and `rejected`, with the prompt in a column or in both of them.
//!
//! TRL's preference type, four ways: explicit or implicit prompt, each plain or conversational
//! (lists of `role` and `content`). Also read: a prompt column of another name (`question`,
//! `instruction` with `input`) and a `system` column, as Orca and Alpaca pairs have them; and
//! whole conversations beside a prompt column that repeats their question (UltraFeedback
//! binarized).
//!
//! Plain texts with an implicit prompt are split after the last blank of their common beginning, so
//! that no word is cut. Words that both answers begin with become part of the prompt, which is why
//! an explicit prompt is better.

use panacea_pretrained::Message;
use serde_json::Value;

use super::fields::{self, Row, describe, prompt_column, required, with_system};
use super::turns::{messages, response, split_pair, turn};
use super::{Reading, has_both};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    has_both(row, "chosen", "rejected")
}

/// Whether the prompt has its own column.
pub(super) fn has_prompt(row: &Row) -> bool {
    prompt_column(row).is_some()
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let chosen = required(row, "chosen")?;
    let rejected = required(row, "rejected")?;
    let (prompt, chosen, rejected) = match (chosen, rejected) {
        (Value::Array(turns), Value::Array(_)) if turns.len() > 1 || !has_prompt(row) => {
            return whole_conversations(row, chosen, rejected);
        }
        (Value::String(chosen), Value::String(rejected)) if !has_prompt(row) => {
            let (prompt, chosen, rejected) = part_texts(chosen, rejected)?;
            (
                with_system(row, vec![turn("user", prompt)])?,
                chosen.into(),
                rejected.into(),
            )
        }
        _ if has_prompt(row) => (
            fields::prompt(row)?,
            response(chosen, "chosen")?,
            response(rejected, "rejected")?,
        ),
        (Value::Array(_) | Value::String(_), other) => {
            return Err(FieldProblem {
                field: "rejected".to_owned(),
                found: describe(other),
                expected: "the same form as `chosen`".to_owned(),
            });
        }
        (other, _) => {
            return Err(FieldProblem {
                field: "chosen".to_owned(),
                found: describe(other),
                expected: "a text or a list of turns".to_owned(),
            });
        }
    };
    Ok(Reading::chosen_first(prompt, chosen, rejected))
}

/// The prompt is what both conversations have before the answer.
fn whole_conversations(
    row: &Row,
    chosen: &Value,
    rejected: &Value,
) -> Result<Reading, FieldProblem> {
    let chosen = messages(chosen, "chosen")?;
    let rejected = messages(rejected, "rejected")?;
    let pair = split_pair(chosen, rejected, ["chosen", "rejected"])?;
    if has_prompt(row) {
        check_repeats_question(&fields::prompt(row)?, &pair.prompt)?;
    }
    Reading::of_conversations(row, pair)
}

/// A prompt column beside whole conversations may only repeat what they hold; anything else
/// would be lost.
pub(super) fn check_repeats_question(
    column: &[Message],
    prompt: &[Message],
) -> Result<(), FieldProblem> {
    let is_there = |turn: &Message| {
        let mut contents = prompt.iter().map(|other| other.text().trim());
        contents.any(|content| content == turn.text().trim())
    };
    match column.last() {
        Some(question) if !is_there(question) => Err(FieldProblem {
            field: "chosen".to_owned(),
            found: "several turns that do not repeat the question of the prompt column".to_owned(),
            expected: "one turn of `assistant`, or the whole conversation".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Splits two texts after the last blank of their common beginning.
fn part_texts<'a>(
    chosen: &'a str,
    rejected: &str,
) -> Result<(&'a str, String, String), FieldProblem> {
    let shared: usize = chosen
        .chars()
        .zip(rejected.chars())
        .take_while(|(a, b)| a == b)
        .map(|(character, _)| character.len_utf8())
        .sum();
    let blank = chosen[..shared]
        .char_indices()
        .rev()
        .find(|(_, character)| character.is_whitespace());
    let end = blank.map_or(0, |(index, character)| index + character.len_utf8());
    let prompt = chosen[..end].trim_end();
    if prompt.trim_start().is_empty() {
        return Err(FieldProblem {
            field: "chosen".to_owned(),
            found: "a record without prompt: no column for it, and `chosen` and `rejected` begin differently".to_owned(),
            expected: "a `prompt` column, or texts that both begin with the prompt".to_owned(),
        });
    }
    Ok((prompt, chosen[end..].to_owned(), rejected[end..].to_owned()))
}
