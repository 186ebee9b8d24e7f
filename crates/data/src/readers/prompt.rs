//! Prompts, for answers that a policy writes: `prompt` (or `question`, `instruction`, `query`) and no response.
//!
//! TRL's prompt-only type, plain or as turns. Records of every other format have a prompt as well, and nothing but that has
//! to be right in them here: a conversation may end with the user's turn, and responses may be empty or missing.

use panacea_pretrained::{Answer, Message};
use serde_json::Value;

use super::fields::{self, Row, optional, prompt_column, required, with_system};
use super::turns::{messages, response, split_answer};
use super::{Format, Reading, alpaca, hh_rlhf, prompt_completion, sharegpt, trl_preference};
use crate::error::FieldProblem;

pub(super) fn detect(row: &Row) -> bool {
    prompt_column(row).is_some()
}

/// Refuses the row: whoever reads whole records needs a response.
pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    Err(FieldProblem {
        field: "(the record)".to_owned(),
        found: format!(
            "a record of format `prompt`, which has no response beside `{}`",
            prompt_column(row).unwrap_or("prompt")
        ),
        expected: "responses; with method.loss = \"rlhf\" the policy writes them, unless a reward reads the record's own `score` of them".to_owned(),
    })
}

/// The prompt of a row, and its first response where that can be read.
pub(super) fn of(
    format: Format,
    row: &Row,
) -> Result<(Vec<Message>, Option<Answer>), FieldProblem> {
    let own = |column: &str| optional(row, column).and_then(|value| response(value, column).ok());
    Ok(match format {
        Format::Scored => {
            let first = row.get("responses").and_then(|responses| responses.get(0));
            let first = first.and_then(|value| response(value, "responses[0]").ok());
            (fields::prompt(row)?, first)
        }
        Format::SafeRlhf => (fields::prompt(row)?, own("response_0")),
        Format::PromptCompletion => (fields::prompt(row)?, own(prompt_completion::column(row))),
        Format::Alpaca => (fields::prompt_in(row, alpaca::PROMPT)?, own("output")),
        Format::Prompt => (fields::prompt(row)?, None),
        Format::Sharegpt => {
            let column = sharegpt::column(row);
            let turns = messages(required(row, column)?, column)?;
            (with_system(row, turns)?, own("chosen"))
        }
        Format::Messages => {
            let column = super::messages::column(row);
            opened(row, messages(required(row, column)?, column)?)?
        }
        Format::ChosenMessages => either(row, ["chosen_messages", "rejected_messages"], messages)?,
        Format::HhRlhf => either(row, ["chosen", "rejected"], |value, column| {
            hh_rlhf::transcript(fields::text(value, column)?, column)
        })?,
        Format::TrlPreference => of_preference(row)?,
    })
}

/// The prompt of a preference: as [`trl_preference`] has it, but that one of the two is enough.
fn of_preference(row: &Row) -> Result<(Vec<Message>, Option<Answer>), FieldProblem> {
    let has_prompt = trl_preference::has_prompt(row);
    let turns = |column: &str| {
        row.get(column)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    let has_text = row.get("chosen").is_some_and(Value::is_string);
    let is_whole = match turns("chosen") {
        0 => !has_text && turns("rejected") > 1,
        count => count > 1,
    };
    if has_prompt && !is_whole {
        let chosen = optional(row, "chosen").and_then(|value| response(value, "chosen").ok());
        return Ok((fields::prompt(row)?, chosen));
    }
    // The prompt is what two texts begin with.
    if has_text {
        let reading = trl_preference::read(row)?;
        return Ok((reading.prompt, reading.responses.into_iter().next()));
    }
    let (prompt, answer) = either(row, ["chosen", "rejected"], messages)?;
    if has_prompt {
        trl_preference::check_repeats_question(&fields::prompt(row)?, &prompt)?;
    }
    Ok((prompt, answer))
}

/// The prompt and the answer of the first of two conversations that can be read.
fn either(
    row: &Row,
    columns: [&str; 2],
    read: impl Fn(&Value, &str) -> Result<Vec<Message>, FieldProblem>,
) -> Result<(Vec<Message>, Option<Answer>), FieldProblem> {
    let of = |column: &str| {
        let turns = required(row, column).and_then(|value| read(value, column))?;
        match turns.is_empty() {
            true => split_answer(turns, column).map(|(prompt, answer)| (prompt, Some(answer))),
            false => opened(row, turns),
        }
    };
    of(columns[0]).or_else(|problem| of(columns[1]).map_err(|_| problem))
}

/// A conversation, with the answer that it ends with, if it does.
fn opened(
    row: &Row,
    mut turns: Vec<Message>,
) -> Result<(Vec<Message>, Option<Answer>), FieldProblem> {
    let answer = turns.pop_if(|last| last.role == "assistant");
    Ok((with_system(row, turns)?, answer.map(Answer::from)))
}
