//! One turn of a conversation, and lists of them.

use std::borrow::Cow;

use panacea_pretrained::{Answer, Content, JsonObject, Message, ROLES, are_spelt_alike, role};
use serde_json::{Value, json};

use super::values::{describe, optional, text};
use crate::error::FieldProblem;

/// The speaker of a turn that is a call: its text is the call, or a list of them, as JSON.
const CALL: &str = "function_call";

/// A turn from its parts.
pub(crate) fn turn(role: &str, content: &str) -> Message {
    Message::new(role, content)
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

/// One turn: `role` and `content`, or `from` and `value`, and whatever else it has. What is null beside these is the same as
/// nothing, as tables write it where another row has something there. A turn with the keys of both forms must say the same
/// with both.
pub(crate) fn message(value: &Value, field: &str) -> Result<Message, FieldProblem> {
    let problem = || FieldProblem {
        field: field.to_owned(),
        found: describe(value),
        expected: "a turn: an object with `role` and `content`, or with `from` and `value`"
            .to_owned(),
    };
    let object = of_one_form(value.as_object().ok_or_else(problem)?, field)?;
    let object = object.as_ref();
    let (role_key, content_key) = match (optional(object, "role"), optional(object, "from")) {
        (Some(_), _) => ("role", "content"),
        (None, Some(_)) => ("from", "value"),
        (None, None) => return Err(problem()),
    };
    let role_field = format!("{field}.{role_key}");
    let speaker = text(&object[role_key], &role_field)?;
    let mut more = JsonObject::new();
    if object.len() > 2 || !object.contains_key(content_key) {
        let others = object
            .iter()
            .filter(|(key, value)| !(value.is_null() || *key == role_key || *key == content_key));
        more.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    }
    let content_field = format!("{field}.{content_key}");
    if is_call(&object[role_key]) {
        let call = optional(object, content_key).ok_or_else(problem)?;
        more.insert("tool_calls".to_owned(), calls(call, &content_field)?);
        return Ok(Message {
            role: "assistant".to_owned(),
            content: Content::Null,
            more,
        });
    }
    let role = role(speaker).ok_or_else(|| FieldProblem {
        field: role_field,
        found: format!("the speaker {speaker:?}"),
        expected: format!("{ROLES}, or `{CALL}`"),
    })?;
    let content = match object.get(content_key) {
        Some(Value::Null) => Content::Null,
        Some(content) => Content::Text(content_text(content, &content_field)?.into()),
        None => Content::Absent,
    };
    if more.is_empty() && !matches!(content, Content::Text(_)) {
        return Err(problem());
    }
    Ok(Message {
        role: role.to_owned(),
        content,
        more,
    })
}

/// A turn that has keys of both forms, with those of ShareGPT's alone.
fn of_one_form<'a>(
    object: &'a JsonObject,
    field: &str,
) -> Result<Cow<'a, JsonObject>, FieldProblem> {
    let is_of_both = ["role", "content"]
        .iter()
        .any(|key| optional(object, key).is_some());
    if optional(object, "from").is_none() || !is_of_both {
        return Ok(Cow::Borrowed(object));
    }
    let is_call = is_call(&object["from"]);
    let says_the_same = |key: &str, one: &Value, other: &Value| match key {
        "from" => is_same_speaker(one, other),
        _ => is_same_text(one, other, is_call),
    };
    for [key, other] in [["from", "role"], ["value", "content"]] {
        if let (Some(one), Some(two)) = (optional(object, key), optional(object, other))
            && !says_the_same(key, one, two)
        {
            return Err(FieldProblem {
                field: format!("{field}.{other}"),
                found: format!("{}, and {} in `{key}`", describe(two), describe(one)),
                expected: "the same in both, or one of them".to_owned(),
            });
        }
    }
    let mut one = object.clone();
    one.shift_remove("role");
    if let Some(content) = one.shift_remove("content")
        && optional(&one, "value").is_none()
    {
        one.insert("value".to_owned(), content);
    }
    Ok(Cow::Owned(one))
}

/// Whether a speaker's turns are calls.
fn is_call(speaker: &Value) -> bool {
    speaker
        .as_str()
        .is_some_and(|name| name.eq_ignore_ascii_case(CALL))
}

/// Whether `from` and `role` name one speaker. Whose turns are calls is the assistant.
fn is_same_speaker(from: &Value, named: &Value) -> bool {
    let known = |speaker: &Value| match is_call(speaker) {
        true => Some("assistant"),
        false => role(speaker.as_str()?),
    };
    // A role that is a call makes something else of the text.
    let are_calls = is_call(from) || !is_call(named);
    from == named || (are_calls && known(from).is_some() && known(from) == known(named))
}

/// Whether `value` and `content` are one text. Beside calls an empty text is none.
fn is_same_text(value: &Value, content: &Value, is_call: bool) -> bool {
    let text = |value: &Value| content_text(value, "").ok();
    let is_empty = |text: &String| text.trim().is_empty();
    value == content
        || (is_call && text(content).is_some_and(|text| is_empty(&text)))
        || (text(value).is_some() && text(value) == text(content))
}

/// Calls of functions in the form that chat templates take them.
fn calls(value: &Value, field: &str) -> Result<Value, FieldProblem> {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    };
    let calls = match parsed {
        Some(Value::Array(calls)) => calls,
        Some(call) => vec![call],
        None => Vec::new(),
    };
    let is_call = |call: &Value| call.get("name").is_some_and(Value::is_string);
    if calls.is_empty() || !calls.iter().all(is_call) {
        return Err(FieldProblem {
            field: field.to_owned(),
            found: describe(value),
            expected: "a call as JSON, {\"name\": .., \"arguments\": {..}}, or a list of them"
                .to_owned(),
        });
    }
    let calls = calls
        .into_iter()
        .map(|call| json!({"type": "function", "function": call}));
    Ok(calls.collect())
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
pub(crate) fn response(value: &Value, field: &str) -> Result<Answer, FieldProblem> {
    let turns = match value {
        Value::String(text) => return Ok(text.clone().into()),
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
        Ok([turn]) if turn.role == "assistant" => Ok(turn.into()),
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
) -> Result<(Vec<Message>, Answer), FieldProblem> {
    match turns.pop() {
        Some(last) if last.role == "assistant" => Ok((turns, last.into())),
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
pub(crate) struct Pair {
    /// What both have before the answer, as the chosen one has it.
    pub(crate) prompt: Vec<Message>,
    /// The same as the rejected one has it, where objects have their keys in another order. Such objects are equal, but what a
    /// template writes of them need not be.
    pub(crate) respelt: Option<Vec<Message>>,
    pub(crate) chosen: Answer,
    pub(crate) rejected: Answer,
}

/// Takes two whole conversations apart before their answers.
pub(crate) fn split_pair(
    chosen: Vec<Message>,
    rejected: Vec<Message>,
    [chosen_field, rejected_field]: [&str; 2],
) -> Result<Pair, FieldProblem> {
    let (prompt, chosen) = split_answer(chosen, chosen_field)?;
    let (other_prompt, rejected) = split_answer(rejected, rejected_field)?;
    if prompt == other_prompt {
        return Ok(Pair {
            respelt: Some(other_prompt).filter(|other| !are_spelt_alike(&prompt, other)),
            prompt,
            chosen,
            rejected,
        });
    }
    let parting = prompt
        .iter()
        .zip(&other_prompt)
        .take_while(|(a, b)| a == b)
        .count();
    // Something beside the texts may be all that differs.
    let key = match (prompt.get(parting), other_prompt.get(parting)) {
        (Some(one), Some(other)) if one.role == other.role && one.content == other.content => {
            let mut keys = one.more.keys().chain(other.more.keys());
            keys.find(|key| one.more.get(*key) != other.more.get(*key))
        }
        _ => None,
    };
    Err(FieldProblem {
        field: rejected_field.to_owned(),
        found: format!(
            "a conversation that leaves the one of `{chosen_field}` at turn {}{}",
            parting + 1,
            key.map_or_else(String::new, |key| format!(", in `{key}`"))
        ),
        expected: "the same turns before the last answer".to_owned(),
    })
}
