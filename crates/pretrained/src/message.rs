//! Turns of a conversation, in the form chat templates take.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// JSON by name, in the order given.
pub type JsonObject = Map<String, Value>;

/// A message of a conversation: who speaks, what, and whatever else a template may read of the turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …, as chat templates name them.
    pub role: String,
    /// What is said.
    #[serde(default, skip_serializing_if = "Content::is_absent")]
    pub content: Content,
    /// What else the turn has: `tool_calls`, `reasoning_content`, `name`, …
    #[serde(flatten)]
    pub more: JsonObject,
}

/// An answer: the assistant's turn at the end of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What is said.
    #[serde(skip_serializing_if = "Content::is_absent")]
    pub content: Content,
    /// What else the turn has.
    #[serde(flatten)]
    pub more: JsonObject,
}

/// What stands under `content` in a turn. Templates can tell none from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text, which is shared with the templates that it is given to.
    Text(#[serde(serialize_with = "as_text", deserialize_with = "from_text")] Arc<str>),
    /// `null`, as beside calls of tools.
    Null,
    /// There is no such key.
    #[default]
    #[serde(skip)]
    Absent,
}

impl Message {
    /// A turn with a text and nothing else.
    pub fn new(role: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(text.into()),
            more: JsonObject::new(),
        }
    }

    /// What is said; nothing where the turn has no text.
    pub fn text(&self) -> &str {
        self.content.text()
    }
}

impl Answer {
    /// What is said; nothing where the turn has no text.
    pub fn text(&self) -> &str {
        self.content.text()
    }

    /// Whether there is nothing to say, or space alone, and nothing else either.
    pub fn is_blank(&self) -> bool {
        self.more.is_empty() && self.text().trim().is_empty()
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self {
            content: Content::Text(text.into()),
            more: JsonObject::new(),
        }
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self {
            content: Content::Text(text.into()),
            more: JsonObject::new(),
        }
    }
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        Self {
            content: message.content,
            more: message.more,
        }
    }
}

impl Content {
    /// The text; nothing where it is none.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Null | Self::Absent => "",
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(deserializer).map(Arc::from)
}

/// Whether things that are equal are spelt alike, too. JSON's objects are equal whatever the order of their keys, but a
/// template that writes them as JSON shows it: turns that say the same may then be two texts.
pub fn are_spelt_alike<T: Serialize + ?Sized>(one: &T, other: &T) -> bool {
    let text = |it: &T| serde_json::to_string(it).ok();
    text(one) == text(other)
}

/// The names of speakers that [`role`] knows, for messages.
pub const ROLES: &str = "`system`, `developer`, `user` (`human`, `prompter`), `assistant` (`gpt`, `bot`, `chatbot`, `ai`, `model`, \
                         `chatgpt`, `bing`, `bard`) or `tool` (`observation`, `function`, `function_response`, `tool_response`, \
                         `ipython`)";

/// The name by which chat templates know a speaker, in whatever case it is written.
pub fn role(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "system" => "system",
        "developer" => "developer",
        "user" | "human" | "prompter" => "user",
        "assistant" | "gpt" | "bot" | "chatbot" | "ai" | "model" | "chatgpt" | "bing" | "bard" => {
            "assistant"
        }
        "tool" | "observation" | "function" | "function_response" | "tool_response" | "ipython" => {
            "tool"
        }
        _ => return None,
    })
}

/// Whether the answer is this text and nothing else.
impl PartialEq<&str> for Answer {
    fn eq(&self, text: &&str) -> bool {
        self.more.is_empty() && matches!(&self.content, Content::Text(own) if **own == **text)
    }
}
