//! What readers share: fields, prompts, and what stands beside a conversation.

use panacea_pretrained::{ChatOptions, Content, JsonObject, Message};
use serde_json::Value;

use super::turns::{messages, turn};
pub(crate) use super::values::{
    Row, describe, has, is_unreadable, non_blank, optional, required, text, unreadable,
};
use crate::error::FieldProblem;

/// Columns that hold a prompt, the usual one first.
const PROMPT_COLUMNS: [&str; 4] = ["prompt", "question", "instruction", "query"];

/// Columns that hold a system message beside the prompt.
const SYSTEM_COLUMNS: [&str; 2] = ["system", "system_prompt"];

/// Earlier questions and answers.
const HISTORY: &str = "history";

/// TRL's variables of the template, beside the conversation.
const KWARGS: &str = "chat_template_kwargs";

/// Up to here a whole number is the only one that a floating-point number stands for: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The reference answer in a column that a reward names: a text, or a number or truth value as it is written, a whole one
/// without a decimal point.
pub(crate) fn reference(row: &Row, column: &str) -> Result<String, FieldProblem> {
    match required(row, column)? {
        Value::String(text) => {
            non_blank(text, column)?;
            Ok(text.clone())
        }
        // A column of whole numbers that lacks one is often kept as floating point.
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => {
                Ok(format!("{float:.0}"))
            }
            _ => Ok(number.to_string()),
        },
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(FieldProblem {
            field: column.to_owned(),
            found: describe(other),
            expected: "the reference answer that a reward compares with, as a text".to_owned(),
        }),
    }
}

/// The conversation before the answer: a prompt column (a text is one user turn; a list is
/// turns), after the system column where there is one.
pub(crate) fn prompt(row: &Row) -> Result<Vec<Message>, FieldProblem> {
    prompt_in(row, prompt_column(row).unwrap_or("prompt"))
}

/// The same, with the question in `column`.
pub(crate) fn prompt_in(row: &Row, column: &str) -> Result<Vec<Message>, FieldProblem> {
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
            last.content = Content::Text(format!("{}\n{input}", last.text()).into());
        }
    }
    let before_question = turns.len().saturating_sub(1);
    turns.splice(before_question..before_question, history(row)?);
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
        let is_told_already = turns.first().is_some_and(is_of_system);
        if !system.trim().is_empty() && !is_told_already {
            turns.insert(0, turn("system", system));
        }
    }
    Ok(turns)
}

/// Whether a turn says how to answer: some call who does so the developer.
pub(crate) fn is_of_system(turn: &Message) -> bool {
    matches!(turn.role.as_str(), "system" | "developer")
}

/// What was said before the question, as LLaMA-Factory has it.
fn history(row: &Row) -> Result<Vec<Message>, FieldProblem> {
    let Some(value) = optional(row, HISTORY) else {
        return Ok(Vec::new());
    };
    let problem = |value: &Value| FieldProblem {
        field: HISTORY.to_owned(),
        found: describe(value),
        expected: "a list of [question, answer]".to_owned(),
    };
    let mut turns = Vec::new();
    for exchange in value.as_array().ok_or_else(|| problem(value))? {
        let Some([question, answer]) = exchange.as_array().map(Vec::as_slice) else {
            return Err(problem(exchange));
        };
        turns.push(turn("user", text(question, HISTORY)?));
        turns.push(turn("assistant", text(answer, HISTORY)?));
    }
    Ok(turns)
}

/// The columns from which a prompt is put together, `column` first.
pub(crate) fn prompt_columns(column: &'static str) -> Vec<&'static str> {
    let mut columns = vec![column, HISTORY];
    columns.extend((column == "instruction").then_some("input"));
    columns
}

/// Columns that are read beside every conversation, whatever the format.
pub(crate) fn is_beside(row: &Row, column: &str) -> bool {
    let is_list = || {
        row.get(column)
            .is_none_or(|value| value.is_array() || value.is_null())
    };
    SYSTEM_COLUMNS.contains(&column)
        || ["tools", KWARGS].contains(&column)
        || (column == "documents" && is_list())
}

/// Says where a system column is not taken, since the conversation has another system turn.
pub(crate) fn unused_system(row: &Row, prompt: &[Message]) -> Option<String> {
    let is_lost = |column: &&str| {
        let system = row.get(*column).and_then(Value::as_str).unwrap_or_default();
        let is_there = |turn: &Message| turn.text().trim() == system.trim();
        !system.trim().is_empty() && !prompt.iter().any(is_there)
    };
    let column = SYSTEM_COLUMNS.into_iter().find(is_lost)?;
    Some(format!(
        "the column `{column}` says something else than the system turn, which is taken"
    ))
}

/// Refuses what cannot be trained on: a conversation about pictures or sounds says little without them.
pub(crate) fn check_text_alone(row: &Row) -> Result<(), FieldProblem> {
    for column in ["images", "image", "videos", "audios"] {
        let Some(value) = optional(row, column) else {
            continue;
        };
        if value.as_array().is_none_or(|items| !items.is_empty()) {
            return Err(FieldProblem {
                field: column.to_owned(),
                found: describe(value),
                expected: "nothing: only text is read; remove the column, if the text stands alone"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// What the template sees beside the turns of a row: `tools`, as a list or as JSON text of one, `documents`, and what stands in
/// `chat_template_kwargs`, all of it as TRL has it.
pub(crate) fn variables(row: &Row) -> Result<JsonObject, FieldProblem> {
    let mut variables = JsonObject::new();
    if let Some(value) = optional(row, KWARGS) {
        let given = parsed(value).filter(|given| !is_unreadable(given));
        let Some(Value::Object(mut given)) = given else {
            return Err(FieldProblem {
                field: KWARGS.to_owned(),
                found: describe(value),
                expected: "an object with variables of the chat template".to_owned(),
            });
        };
        // A table has the keys of all of its rows: a null must not hide what the run gives the template.
        given.retain(|_, value| !value.is_null());
        let reserved = |name: &String| Some((name.clone(), ChatOptions::reserved(name)?));
        if let Some((name, whose)) = given.keys().find_map(reserved) {
            return Err(FieldProblem {
                field: format!("{KWARGS}.{name}"),
                found: describe(&given[&name]),
                expected: format!("nothing: `{name}` {whose}, and is not to be set"),
            });
        }
        variables = given;
    }
    if let Some(value) = optional(row, "tools").filter(|value| *value != "") {
        let Some(Value::Array(mut tools)) = parsed(value) else {
            return Err(FieldProblem {
                field: "tools".to_owned(),
                found: describe(value),
                expected: "a list of tools, each an object as in transformers, or JSON text of it; give the column another name if it is not about tools".to_owned(),
            });
        };
        if let Some(index) = tools.iter().position(|tool| !is_object(tool)) {
            return Err(FieldProblem {
                field: format!("tools[{index}]"),
                found: describe(&tools[index]),
                expected: "a tool: an object such as {\"type\": \"function\", \"function\": {\"name\": ..}}".to_owned(),
            });
        }
        tools.iter_mut().for_each(drop_nulls);
        variables.insert("tools".to_owned(), Value::Array(tools));
    }
    if let Some(Value::Array(documents)) = row.get("documents") {
        let mut documents = documents.clone();
        documents.iter_mut().for_each(drop_nulls);
        variables.insert("documents".to_owned(), Value::Array(documents));
    }
    Ok(variables)
}

fn is_object(value: &Value) -> bool {
    value.is_object() && !is_unreadable(value)
}

/// A table has the keys of all objects in a list: a null says no more than that another one has something there.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
    }
}

/// A value, or what its text says as JSON.
fn parsed(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    }
}
