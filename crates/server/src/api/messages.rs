//! The conversation of a request, in the form of the model's chat template.

use std::collections::HashSet;

use panacea_pretrained::{ChatTokenizer, Content, JsonObject, Message};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api_error::ApiError;

/// A turn of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `developer` (which is the same, where the chat template knows no developer), `user`, `assistant` or `tool`.
    role: String,
    /// A text, or parts of the type `text`, which are put together line by line; nothing beside calls of tools.
    #[schema(value_type = Option<ContentField>)]
    content: Option<Value>,
    /// Must be nothing, as in answers of this server.
    refusal: Option<Value>,
    /// Who speaks, where the chat template reads it.
    name: Option<String>,
    /// What the assistant called, where the chat template reads it. Arguments are given to it as an object.
    tool_calls: Option<Vec<Value>>,
    /// Which of the calls before a tool answers.
    tool_call_id: Option<String>,
    /// Must be nothing: not supported.
    function_call: Option<Value>,
    /// Must be nothing: not supported.
    audio: Option<Value>,
    /// Must be nothing: not supported.
    annotations: Option<Value>,
}

/// A text, or parts of one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it describes the field, which is read by hand to say what is wrong with it"
)]
pub enum ContentField {
    Text(String),
    Parts(Vec<TextPart>),
}

/// A part of a text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextPart {
    /// Must be `text`.
    r#type: String,
    text: Option<String>,
}

impl ChatMessage {
    fn unsupported(&self) -> [(&'static str, &Option<Value>); 4] {
        [
            ("refusal", &self.refusal),
            ("function_call", &self.function_call),
            ("audio", &self.audio),
            ("annotations", &self.annotations),
        ]
    }
}

/// A conversation of a body's field `messages`, in the template's form. What the template would leave out is refused.
pub fn messages(
    messages: &[ChatMessage],
    tokenizer: &ChatTokenizer,
) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        let message = "empty, expected at least one message".to_owned();
        return Err(ApiError::wrong("messages", message));
    }
    let mut called = HashSet::new();
    let messages = messages.iter().enumerate();
    let messages = messages.map(|(index, message)| {
        let field = |name: &str| format!("messages[{index}].{name}");
        one(message, tokenizer, &mut called, &field)
    });
    messages.collect()
}

fn one(
    message: &ChatMessage,
    tokenizer: &ChatTokenizer,
    called: &mut HashSet<String>,
    field: &dyn Fn(&str) -> String,
) -> Result<Message, ApiError> {
    let known = ["system", "developer", "user", "assistant", "tool"];
    let Some(role) = known.into_iter().find(|known| *known == message.role) else {
        let expected = format!("`{}`, expected {}", message.role, known.join(", "));
        return Err(ApiError::wrong(&field("role"), expected));
    };
    if role == "tool" && !tokenizer.reads("tool") {
        return Err(no_tools(&field("role"), "tool"));
    }
    let nothing = |value: &Value| *value == Value::Array(Vec::new());
    for (name, value) in message.unsupported() {
        if !value.as_ref().is_none_or(nothing) {
            return Err(ApiError::unsupported(&field(name), "anything in it"));
        }
    }
    let mut more = JsonObject::new();
    if let Some(name) = &message.name {
        if !tokenizer.reads("name") {
            let what = "a name, of which the model's chat template has none,";
            return Err(ApiError::unsupported(&field("name"), what));
        }
        more.insert("name".to_owned(), name.as_str().into());
    }
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if !calls.is_empty() {
        let field = field("tool_calls");
        if !tokenizer.reads("tool_calls") {
            return Err(no_tools(&field, "tool_calls"));
        }
        if role != "assistant" {
            let problem = format!("a message of `{role}` has some, expected the assistant's");
            return Err(ApiError::wrong(&field, problem));
        }
        let calls = calls.iter().enumerate();
        let calls =
            calls.map(|(index, call)| tool_call(call, called, &format!("{field}[{index}]")));
        more.insert(
            "tool_calls".to_owned(),
            calls.collect::<Result<Value, _>>()?,
        );
    }
    if let Some(id) = &message.tool_call_id {
        if role != "tool" || !called.contains(id) {
            let problem = format!("`{id}`, expected the id of a call before a message of `tool`");
            return Err(ApiError::wrong(&field("tool_call_id"), problem));
        }
        more.insert("tool_call_id".to_owned(), id.as_str().into());
    }
    let content = match &message.content {
        Some(content) => Content::Text(text(content, &field("content"))?),
        None if more.contains_key("tool_calls") => Content::Null,
        None => {
            let problem = "nothing, expected a text, or calls of tools in the message".to_owned();
            return Err(ApiError::wrong(&field("content"), problem));
        }
    };
    Ok(Message {
        role: role.to_owned(),
        content,
        more,
    })
}

/// What the chat template says nothing of.
pub fn no_tools(field: &str, name: &str) -> ApiError {
    let what = format!("the use of tools (the model's chat template has no `{name}`)");
    ApiError::unsupported(field, &what)
}

/// A call as chat templates take it: with its arguments as an object, which clients send as JSON text.
fn tool_call(call: &Value, called: &mut HashSet<String>, field: &str) -> Result<Value, ApiError> {
    let mut call = call.clone();
    let problem = |problem: &str| ApiError::wrong(field, problem.to_owned());
    let function = call.get_mut("function").and_then(Value::as_object_mut);
    let function = function
        .filter(|function| function.get("name").is_some_and(Value::is_string))
        .ok_or_else(|| problem("expected {\"id\": .., \"type\": \"function\", \"function\": {\"name\": .., \"arguments\": ..}}"))?;
    if let Some(Value::String(text)) = function.get("arguments") {
        let parsed: JsonObject = serde_json::from_str(text)
            .map_err(|error| problem(&format!("function.arguments is no JSON object: {error}")))?;
        function.insert("arguments".to_owned(), parsed.into());
    }
    if let Some(id) = call.get("id").and_then(Value::as_str) {
        called.insert(id.to_owned());
    }
    Ok(call)
}

/// The text of a message.
fn text(value: &Value, field: &str) -> Result<String, ApiError> {
    let parts = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            let message = format!("found {other}, expected a text or parts of the type text");
            return Err(ApiError::wrong(field, message));
        }
    };
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let field = format!("{field}[{index}]");
        match TextPart::deserialize(part) {
            Ok(TextPart {
                r#type,
                text: Some(text),
            }) if r#type == "text" => Ok(text),
            Ok(TextPart { r#type, .. }) if r#type != "text" => Err(ApiError::unsupported(
                &field,
                &format!("a part of the type {type}"),
            )),
            Ok(_) => Err(ApiError::wrong(&field, "it has no text".to_owned())),
            Err(error) => Err(ApiError::wrong(&field, error.to_string())),
        }
    });
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    Ok(texts.join("\n"))
}
