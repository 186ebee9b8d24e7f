//! Turns that are kept as a text: as JSON, as Parquet files often have them, or as a transcript
//! `"Human: .. \n\nAssistant:"` that asks for the answer.

use serde_json::{Value, json};

use super::fields::{Row, prompt_column};
use super::hh_rlhf;
use super::turns::message;
use crate::error::FieldProblem;

/// Columns that may hold turns.
const COLUMNS: [&str; 15] = [
    "prompt",
    "question",
    "instruction",
    "query",
    "messages",
    "conversations",
    "chosen",
    "rejected",
    "chosen_messages",
    "rejected_messages",
    "responses",
    "response",
    "response_0",
    "response_1",
    "completion",
];

/// What a column may hold as turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Any turns.
    Conversation,
    /// An answer, or a conversation that ends with it.
    Either,
    /// An answer alone. One about programs may well be a list of somebody's turns, and is a text.
    Answer,
}

impl Holds {
    fn of(row: &Row, column: &str) -> Self {
        let has_question = || prompt_column(row).is_some() || row.contains_key("conversations");
        match column {
            "responses" | "response" | "response_0" | "response_1" | "completion" => Self::Answer,
            "chosen" | "rejected" if has_question() => Self::Either,
            _ => Self::Conversation,
        }
    }

    /// Whether these turns may stand here, each given by whether it is the assistant's.
    fn takes(self, turns: &[bool]) -> bool {
        match self {
            Self::Conversation => true,
            Self::Either => turns.last() == Some(&true),
            Self::Answer => turns.iter().all(|is_answer| *is_answer),
        }
    }

    /// Whether a text is such turns as Python's `str(turns)` prints them.
    fn are_printed(self, text: &str) -> bool {
        let begins = |with: &[&str]| with.iter().any(|begin| text.starts_with(begin));
        let is_list = begins(&["[{'role':", "[{'content':", "[{'from':", "[{'value':"]);
        let answers = ["'role': 'assistant'", "'from': 'gpt'"];
        match self {
            Self::Conversation => is_list,
            Self::Either => {
                is_list && text.ends_with("}]") && answers.iter().any(|key| text.contains(key))
            }
            Self::Answer => begins(&["[{'role': 'assistant'", "[{'from': 'gpt'"]),
        }
    }
}

/// What the report says of turns that stood in JSON.
const JSON: &str = "turns that are kept as JSON text are read as turns";

/// What the report says of transcripts.
const TRANSCRIPT: &str = "a prompt \"Human: … Assistant:\" is read as the turns that it tells of";

/// A row whose turns are turns, and what became of them.
pub(crate) struct Unpacked {
    /// The row.
    pub(crate) row: Row,
    /// What is to be said of it.
    pub(crate) notes: Vec<&'static str>,
}

/// The row with turns in place of the texts that stand for them; nothing where it has none, as most.
pub(crate) fn unpacked(row: &Row) -> Result<Option<Unpacked>, FieldProblem> {
    let mut found = Vec::new();
    for (column, value) in row.iter() {
        let is_text = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.trim_start().starts_with(['[', '{']))
        };
        let may_be = match value {
            Value::Array(items) if column == "responses" => items.iter().any(is_text),
            value => is_text(value),
        };
        if may_be && COLUMNS.contains(&column.as_str()) {
            let holds = Holds::of(row, column);
            let unpacked = match value {
                Value::Array(items) => {
                    let items = items.iter().map(|item| {
                        Ok(turns(item, column, holds)?.unwrap_or_else(|| item.clone()))
                    });
                    Some(items.collect::<Result<Value, FieldProblem>>()?)
                }
                value => turns(value, column, holds)?,
            };
            found.extend(
                unpacked
                    .filter(|new| new != value)
                    .map(|turns| (column.clone(), turns)),
            );
        }
    }
    let mut notes: Vec<&str> = found.first().map(|_| JSON).into_iter().collect();
    let transcript = match prompt_column(row) {
        Some(column) => transcript(&row[column], column)?.map(|turns| (column, turns)),
        None => None,
    };
    if found.is_empty() && transcript.is_none() {
        return Ok(None);
    }
    let mut row = row.clone();
    row.extend(found);
    if let Some((column, turns)) = transcript {
        row.insert(column.to_owned(), turns);
        for column in COLUMNS.into_iter().chain(["output"]) {
            row.get_mut(column).into_iter().for_each(trim);
        }
        notes.push(TRANSCRIPT);
    }
    Ok(Some(Unpacked { row, notes }))
}

/// The turns that a text has as JSON, if it has: a list of objects that each tell the speaker, or an answer as one of them.
fn turns(value: &Value, column: &str, holds: Holds) -> Result<Option<Value>, FieldProblem> {
    let Some(text) = value.as_str().map(str::trim) else {
        return Ok(None);
    };
    match serde_json::from_str(text) {
        Ok(Value::Array(turns)) if !turns.is_empty() => {
            let speakers: Option<Vec<bool>> = turns.iter().map(is_of_assistant).collect();
            if speakers.is_some_and(|speakers| holds.takes(&speakers)) {
                return Ok(Some(Value::Array(turns)));
            }
        }
        Ok(turn @ Value::Object(_))
            if holds != Holds::Conversation && is_of_assistant(&turn) == Some(true) =>
        {
            return Ok(Some(turn));
        }
        _ => {}
    }
    match holds.are_printed(text) {
        true => Err(FieldProblem {
            field: column.to_owned(),
            found: "turns as Python prints them".to_owned(),
            expected: "a list of turns, or one as JSON: write it with `json.dumps`".to_owned(),
        }),
        false => Ok(None),
    }
}

/// Whether a turn is the assistant's; nothing where the value is no turn. One whose speaker nobody knows is a turn, too, so
/// that it is refused by its name.
fn is_of_assistant(value: &Value) -> Option<bool> {
    let has = |key| value.get(key).is_some();
    match message(value, "") {
        Ok(turn) => Some(turn.role == "assistant"),
        Err(_) if (has("role") && has("content")) || (has("from") && has("value")) => Some(false),
        Err(_) => None,
    }
}

/// The turns of a transcript that ends where the assistant is to speak.
fn transcript(value: &Value, column: &str) -> Result<Option<Value>, FieldProblem> {
    let Some(text) = value.as_str().map(str::trim) else {
        return Ok(None);
    };
    let open = text
        .strip_suffix("Assistant:")
        .filter(|open| open.ends_with('\n'));
    let Some(open) = open.filter(|open| open.starts_with("Human:")) else {
        return Ok(None);
    };
    // Some have one line break between the turns.
    let text = match open.ends_with("\n\n") {
        true => open.to_owned(),
        false => open
            .replace("\nHuman:", "\n\nHuman:")
            .replace("\nAssistant:", "\n\nAssistant:"),
    };
    let turns = hh_rlhf::transcript(&text, column)?;
    let turns = turns
        .iter()
        .map(|turn| json!({"role": turn.role, "content": turn.text()}));
    Ok(Some(turns.collect()))
}

/// Takes away the space around an answer, which parts it from the speaker's name.
fn trim(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.trim().to_owned(),
        Value::Array(items) => items
            .iter_mut()
            .filter(|item| item.is_string())
            .for_each(trim),
        _ => {}
    }
}
