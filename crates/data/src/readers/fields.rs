//! What readers share: looking up fields, turns of a conversation, and prompts.

use panacea_pretrained::Message;
use serde_json::{Map, Value};

use crate::error::{FieldProblem, list};

/// One row of a file, whatever the file is.
pub(crate) type Row = Map<String, Value>;

/// Columns that hold a prompt, the usual one first.
const PROMPT_COLUMNS: [&str; 4] = ["prompt", "question", "instruction", "query"];

/// Columns that hold a system message beside the prompt.
const SYSTEM_COLUMNS: [&str; 2] = ["system", "system_prompt"];

/// Whether the row has a column, be it null: that is what tells a shape.
pub(crate) fn has(row: &Row, field: &str) -> bool {
    row.contains_key(field)
}

/// The value of a field; null is the same as nothing, as Parquet files write it.
pub(crate) fn optional<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    row.get(field).filter(|value| !value.is_null())
}

/// The value of a field that must be there.
pub(crate) fn required<'a>(row: &'a Row, field: &str) -> Result<&'a Value, FieldProblem> {
    optional(row, field).ok_or_else(|| {
        let columns: Vec<String> = row.keys().cloned().collect();
        FieldProblem {
            field: field.to_owned(),
            found: match row.get(field) {
                Some(_) => "null".to_owned(),
                None => format!("no such field among {}", list(&columns)),
            },
            expected: "a value".to_owned(),
        }
    })
}

/// What stands in place of a value that JSON cannot hold, such as bytes that are no text: readers refuse it, as it is neither
/// a text nor a list nor a number, and say what it is.
pub(crate) fn unreadable(found: &str) -> Value {
    Value::Object(Map::from_iter([(UNREADABLE.to_owned(), found.into())]))
}

/// No file has a key of this name.
const UNREADABLE: &str = "\0unreadable";

/// A value in a few words, for messages.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.trim().is_empty() => "an empty text".to_owned(),
        Value::String(text) if text.chars().count() <= SHOWN => format!("the text {text:?}"),
        Value::String(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("a text that begins with {start:?}")
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) if fields.contains_key(UNREADABLE) => {
            fields[UNREADABLE].as_str().unwrap_or_default().to_owned()
        }
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            format!("an object with {}", list(&keys))
        }
    }
}

/// The reference answer in a column that a reward names: a text, or a number or truth value as it is written.
pub(crate) fn reference(row: &Row, column: &str) -> Result<String, FieldProblem> {
    match required(row, column)? {
        Value::String(text) => {
            non_blank(text, column)?;
            Ok(text.clone())
        }
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        other => Err(FieldProblem {
            field: column.to_owned(),
            found: describe(other),
            expected: "the reference answer that a reward compares with, as a text".to_owned(),
        }),
    }
}

/// Refuses a text of nothing but blanks.
pub(crate) fn non_blank(text: &str, field: &str) -> Result<(), FieldProblem> {
    if text.trim().is_empty() {
        return Err(FieldProblem {
            field: field.to_owned(),
            found: "an empty text".to_owned(),
            expected: "a text with at least one character that is not blank".to_owned(),
        });
    }
    Ok(())
}

/// The text of a value that must be one.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, FieldProblem> {
    value.as_str().ok_or_else(|| FieldProblem {
        field: field.to_owned(),
        found: describe(value),
        expected: "a text".to_owned(),
    })
}

/// The conversation before the answer: a prompt column (a text is one user turn; a list is
/// turns), after the system column where there is one.
pub(crate) fn prompt(row: &Row) -> Result<Vec<Message>, FieldProblem> {
    let column = prompt_column(row).unwrap_or("prompt");
    let mut turns = match required(row, column)? {
        Value::String(text) => vec![turn("user", text)],
        Value::Array(_) => messages(&row[column], column)?,
        other => {
            return Err(FieldProblem {
                field: column.to_owned(),
                found: describe(other),
                expected: "a text or a list of turns".to_owned(),
            });
        }
    };
    if column == "instruction"
        && let Some(input) = optional(row, "input")
    {
        let input = text(input, "input")?;
        if let (Some(last), false) = (turns.last_mut(), input.trim().is_empty()) {
            last.content = format!("{}\n{input}", last.content);
        }
    }
    with_system(row, turns)
}

/// The column in which the prompt stands.
pub(crate) fn prompt_column(row: &Row) -> Option<&'static str> {
    PROMPT_COLUMNS.into_iter().find(|column| has(row, column))
}

/// Puts the system column, where there is a filled one, before the turns.
pub(crate) fn with_system(
    row: &Row,
    mut turns: Vec<Message>,
) -> Result<Vec<Message>, FieldProblem> {
    for column in SYSTEM_COLUMNS {
        let Some(value) = optional(row, column) else {
            continue;
        };
        let system = text(value, column)?;
        let is_told_already = turns.first().is_some_and(|first| first.role == "system");
        if !system.trim().is_empty() && !is_told_already {
            turns.insert(0, turn("system", system));
        }
    }
    Ok(turns)
}

/// A turn from its parts.
pub(crate) fn turn(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

/// A list of turns.
pub(crate) fn messages(value: &Value, field: &str) -> Result<Vec<Message>, FieldProblem> {
    let items = value.as_array().ok_or_else(|| FieldProblem {
        field: field.to_owned(),
        found: describe(value),
        expected: "a list of turns".to_owned(),
    })?;
    items
        .iter()
        .enumerate()
        .map(|(index, item)| message(item, &format!("{field}[{index}]")))
        .collect()
}

/// One turn: `role` and `content`, or `from` and `value`.
pub(crate) fn message(value: &Value, field: &str) -> Result<Message, FieldProblem> {
    let problem = || FieldProblem {
        field: field.to_owned(),
        found: describe(value),
        expected: "a turn: an object with `role` and `content`, or with `from` and `value`"
            .to_owned(),
    };
    let object = value.as_object().ok_or_else(problem)?;
    let (role_key, content_key) = match (optional(object, "role"), optional(object, "from")) {
        (Some(_), _) => ("role", "content"),
        (None, Some(_)) => ("from", "value"),
        (None, None) => return Err(problem()),
    };
    let role_field = format!("{field}.{role_key}");
    let role = role(text(&object[role_key], &role_field)?, &role_field)?;
    let content = optional(object, content_key).ok_or_else(problem)?;
    let content = content_text(content, &format!("{field}.{content_key}"))?;
    Ok(turn(role, &content))
}

/// The speaker by the name that chat templates know.
fn role(name: &str, field: &str) -> Result<&'static str, FieldProblem> {
    match name.to_ascii_lowercase().as_str() {
        "system" => Ok("system"),
        "developer" => Ok("developer"),
        "user" | "human" => Ok("user"),
        "assistant" | "gpt" | "model" | "chatgpt" | "bing" | "bard" => Ok("assistant"),
        "tool" => Ok("tool"),
        _ => Err(FieldProblem {
            field: field.to_owned(),
            found: format!("the speaker {name:?}"),
            expected: "`system`, `user` (`human`), `assistant` (`gpt`) or `tool`".to_owned(),
        }),
    }
}

/// The text of a turn: a text, or a list of parts `{"type": "text", "text" or "value": ..}`
/// whose texts are joined.
fn content_text(value: &Value, field: &str) -> Result<String, FieldProblem> {
    let Value::Array(parts) = value else {
        return text(value, field).map(str::to_owned);
    };
    let mut content = String::new();
    for (index, part) in parts.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let is_text = part.get("type").is_none_or(|kind| kind == "text");
        let part_text = part
            .get("text")
            .or_else(|| part.get("value"))
            .filter(|_| is_text);
        let Some(part_text) = part_text else {
            return Err(FieldProblem {
                field,
                found: describe(part),
                expected: "a part of `type` \"text\" with `text` or `value`".to_owned(),
            });
        };
        content.push_str(text(part_text, &field)?);
    }
    Ok(content)
}

/// A response: a text, a turn of the assistant, or a list with exactly that turn.
pub(crate) fn response(value: &Value, field: &str) -> Result<String, FieldProblem> {
    let turns = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Object(_) => vec![message(value, field)?],
        Value::Array(_) => messages(value, field)?,
        other => {
            return Err(FieldProblem {
                field: field.to_owned(),
                found: describe(other),
                expected: "a text or a turn of `assistant`".to_owned(),
            });
        }
    };
    match <[Message; 1]>::try_from(turns) {
        Ok([turn]) if turn.role == "assistant" => Ok(turn.content),
        Ok([turn]) => Err(FieldProblem {
            field: field.to_owned(),
            found: format!("a turn of `{}`", turn.role),
            expected: "a turn of `assistant`".to_owned(),
        }),
        Err(turns) => Err(FieldProblem {
            field: field.to_owned(),
            found: format!("{} turns", turns.len()),
            expected: "one turn of `assistant`".to_owned(),
        }),
    }
}

/// A conversation that ends with the answer, taken apart before it.
pub(crate) fn split_answer(
    mut turns: Vec<Message>,
    field: &str,
) -> Result<(Vec<Message>, String), FieldProblem> {
    match turns.pop() {
        Some(last) if last.role == "assistant" => Ok((turns, last.content)),
        Some(last) => Err(FieldProblem {
            field: field.to_owned(),
            found: format!("a conversation that ends with a turn of `{}`", last.role),
            expected: "a last turn of `assistant`".to_owned(),
        }),
        None => Err(FieldProblem {
            field: field.to_owned(),
            found: "an empty list".to_owned(),
            expected: "turns that end with one of `assistant`".to_owned(),
        }),
    }
}

/// Two whole conversations that differ in nothing but the answer.
pub(crate) fn split_pair(
    chosen: Vec<Message>,
    rejected: Vec<Message>,
    [chosen_field, rejected_field]: [&str; 2],
) -> Result<(Vec<Message>, String, String), FieldProblem> {
    let (prompt, chosen) = split_answer(chosen, chosen_field)?;
    let (other_prompt, rejected) = split_answer(rejected, rejected_field)?;
    if prompt == other_prompt {
        return Ok((prompt, chosen, rejected));
    }
    let parting = prompt
        .iter()
        .zip(&other_prompt)
        .take_while(|(a, b)| a == b)
        .count();
    Err(FieldProblem {
        field: rejected_field.to_owned(),
        found: format!(
            "a conversation that leaves the one of `{chosen_field}` at turn {}",
            parting + 1
        ),
        expected: "the same turns before the last answer".to_owned(),
    })
}
