//! The conversation of a request, in the form of the model's chat template.

use std::collections::{HashSet, VecDeque};

use panacea_pretrained::{ChatTokenizer, Content, JsonObject, Message, UnreadKey};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api_error::{ApiError, shortened};

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
    /// Which of the calls before a tool answers: one whose id the chat template does not read must be the next.
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

/// A conversation of a body's field `messages`, in the template's form.
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// Messages of `tool` that answer the calls before them in another order than these stand in.
    out_of_order: Vec<usize>,
}

/// The calls of a conversation so far.
#[derive(Default)]
struct Calls {
    ids: HashSet<String>,
    /// Those of the last message with calls that no tool has answered yet, in their order.
    waiting: VecDeque<String>,
}

impl Conversation {
    /// What a body says.
    pub fn of(messages: &[ChatMessage], tokenizer: &ChatTokenizer) -> Result<Self, ApiError> {
        if messages.is_empty() {
            let message = "empty, expected at least one message".to_owned();
            return Err(ApiError::wrong("messages", message));
        }
        let mut calls = Calls::default();
        let mut conversation = Self {
            messages: Vec::with_capacity(messages.len()),
            out_of_order: Vec::new(),
        };
        for (index, message) in messages.iter().enumerate() {
            let field = |name: &str| format!("messages[{index}].{name}");
            let next = calls.waiting.front().cloned();
            let turn = one(message, tokenizer, &mut calls, &field)?;
            if message.tool_call_id.is_some() && message.tool_call_id != next {
                conversation.out_of_order.push(index);
            }
            conversation.messages.push(turn);
        }
        Ok(conversation)
    }

    /// What the model reads: all that the conversation has, or it is refused by its field.
    pub fn tokens(
        &self,
        tokenizer: &ChatTokenizer,
        variables: &JsonObject,
    ) -> Result<Vec<u32>, ApiError> {
        let prompt = tokenizer.prompt_with(&self.messages, variables);
        let prompt = prompt.map_err(|error| {
            // What is taken without tools is refused for their sake.
            let is_of_tools = !variables.is_empty() && tokenizer.prompt(&self.messages).is_ok();
            ApiError::from(error).or_about(if is_of_tools { "tools" } else { "messages" })
        })?;
        self.check_read(&prompt.unread())?;
        Ok(prompt.into_ids())
    }

    /// Refuses what the template has not read: it would not be part of what the model is told. An id that a tool's answer has
    /// says nothing more than its place does, where answers stand in the order of the calls.
    fn check_read(&self, unread: &[UnreadKey]) -> Result<(), ApiError> {
        let is_told = |unread: &&UnreadKey| {
            let is_id = unread.key == "tool_call_id";
            is_id && (unread.turn).is_some_and(|turn| !self.out_of_order.contains(&turn))
        };
        let Some(UnreadKey { turn, key }) = unread.iter().find(|unread| !is_told(unread)) else {
            return Ok(());
        };
        let field = match turn {
            Some(turn) => format!("messages[{turn}].{key}"),
            None => key.clone(),
        };
        let what = match key.as_str() {
            "tool_call_id" => {
                "an answer to a call that is not the next one, where the model's chat template does not read the id,"
            }
            _ => "what the model's chat template does not read here",
        };
        Err(ApiError::unsupported(&field, what))
    }
}

fn one(
    message: &ChatMessage,
    tokenizer: &ChatTokenizer,
    known_calls: &mut Calls,
    field: &dyn Fn(&str) -> String,
) -> Result<Message, ApiError> {
    let known = ["system", "developer", "user", "assistant", "tool"];
    let Some(role) = known.into_iter().find(|known| *known == message.role) else {
        let expected = format!("`{}`, expected {}", message.role, known.join(", "));
        return Err(ApiError::wrong(&field("role"), expected));
    };
    if role == "tool" && !tokenizer.knows_role("tool") {
        let what = "the use of tools (the model's chat template has no `tool`)";
        return Err(ApiError::unsupported(&field("role"), what));
    }
    let nothing = |value: &Value| *value == Value::Array(Vec::new());
    for (name, value) in message.unsupported() {
        if !value.as_ref().is_none_or(nothing) {
            return Err(ApiError::unsupported(&field(name), "anything in it"));
        }
    }
    let mut more = JsonObject::new();
    more.extend((message.name.as_ref()).map(|name| ("name".to_owned(), name.as_str().into())));
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if !calls.is_empty() {
        let field = field("tool_calls");
        if role != "assistant" {
            let problem = format!("a message of `{role}` has some, expected the assistant's");
            return Err(ApiError::wrong(&field, problem));
        }
        known_calls.waiting.clear();
        let calls = calls.iter().enumerate();
        let calls =
            calls.map(|(index, call)| tool_call(call, known_calls, &format!("{field}[{index}]")));
        more.insert(
            "tool_calls".to_owned(),
            calls.collect::<Result<Value, _>>()?,
        );
    }
    match &message.tool_call_id {
        Some(id) if role == "tool" && known_calls.ids.contains(id) => {
            known_calls.waiting.retain(|waiting| waiting != id);
            more.insert("tool_call_id".to_owned(), id.as_str().into());
        }
        None if role != "tool" => {}
        found => {
            let found = found
                .as_ref()
                .map_or("nothing".to_owned(), |id| format!("`{id}`"));
            let problem =
                format!("{found}, expected the id of a call before, in a message of `tool`");
            return Err(ApiError::wrong(&field("tool_call_id"), problem));
        }
    }
    let content = match &message.content {
        Some(content) => Content::Text(text(content, &field("content"))?.into()),
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

/// Tools that a template is told of: each a function with a name.
pub fn check_tools(tools: &[Value]) -> Result<(), ApiError> {
    let is_tool = |tool: &Value| {
        let name = tool.pointer("/function/name").and_then(Value::as_str);
        tool.get("type").is_some_and(|kind| kind == "function")
            && name.is_some_and(|name| !name.is_empty())
    };
    match tools.iter().position(|tool| !is_tool(tool)) {
        None => Ok(()),
        Some(index) => {
            let message = format!(
                "found {}, expected {{\"type\": \"function\", \"function\": {{\"name\": .., \"parameters\": {{..}}}}}}",
                shortened(&tools[index].to_string())
            );
            Err(ApiError::wrong(&format!("tools[{index}]"), message))
        }
    }
}

/// A call as chat templates take it: with its arguments as an object, which clients send as JSON text.
fn tool_call(call: &Value, known: &mut Calls, field: &str) -> Result<Value, ApiError> {
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
        known.ids.insert(id.to_owned());
        known.waiting.push_back(id.to_owned());
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
