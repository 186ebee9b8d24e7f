//! A conversation as a chat template is given it, and what the template has asked for.

use std::sync::Arc;

use minijinja::value::{Serde, Value};

use crate::message::{Answer, Content, JsonObject};
use crate::watched::Watched;

/// What a template is given: turns, and the variables of this conversation alone, before which those of all others go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Talk {
    pub turns: Vec<Turn>,
    pub variables: Arc<Watched>,
}

/// A turn as templates see it.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub fields: Arc<Watched>,
    /// Whether it says something under `content`, and in how many bytes.
    has_text: bool,
    text_bytes: usize,
}

/// Something of a conversation that the template has not asked for, so that it stands nowhere in what the template writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadKey {
    /// The turn that has it, from 0; nothing where it is a variable beside the turns.
    pub turn: Option<usize>,
    /// Its key or name.
    pub key: String,
}

impl Talk {
    pub fn new(turns: Vec<Turn>, variables: &JsonObject) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))));
        Self {
            turns,
            variables: Watched::new(variables),
        }
    }

    /// Bytes of the texts of its turns.
    pub fn text_bytes(&self) -> usize {
        self.turns.iter().map(|turn| turn.text_bytes).sum()
    }

    /// The same with one more turn.
    pub fn with(&self, turn: Turn) -> Self {
        Self {
            turns: [&self.turns[..], &[turn]].concat(),
            variables: Arc::clone(&self.variables),
        }
    }

    /// What no rendering has asked for.
    pub fn unread(&self) -> impl Iterator<Item = UnreadKey> {
        let of_turns = self.turns.iter().enumerate().flat_map(|(index, turn)| {
            let keys = turn.unread();
            keys.map(move |key| (Some(index), key))
        });
        let variables = self.variables.unread().map(|key| (None, key));
        let all = of_turns.chain(variables);
        all.map(|(turn, key)| UnreadKey {
            turn,
            key: key.to_owned(),
        })
    }
}

impl Turn {
    /// A turn with a text and nothing else.
    pub fn plain(role: &str, text: &str) -> Self {
        Self::with_text(role, text.into(), &JsonObject::new())
    }

    /// What it has beside role and content is given as it is.
    pub fn new(role: &str, content: &Content, more: &JsonObject) -> Self {
        match content {
            Content::Text(text) => Self::with_text(role, Arc::clone(text), more),
            Content::Null => Self::with(role, "", Some(Value::from(())), more),
            Content::Absent => Self::with(role, "", None, more),
        }
    }

    fn with_text(role: &str, text: Arc<str>, more: &JsonObject) -> Self {
        let content = Value::from(Arc::clone(&text));
        Self::with(role, &text, Some(content), more)
    }

    fn with(role: &str, text: &str, content: Option<Value>, more: &JsonObject) -> Self {
        let known = [(ROLE, Some(Value::from(role))), (CONTENT, content)];
        let known = known
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let more = (more.iter()).map(|(key, value)| (key.clone(), Value::from(Serde(value))));
        Self {
            fields: Watched::new(known.chain(more)),
            has_text: !text.trim().is_empty(),
            text_bytes: text.len(),
        }
    }

    /// The assistant's turn with an answer, whose text is `text`.
    pub fn answer(text: &str, answer: &Answer) -> Self {
        match &answer.content {
            Content::Text(own) if **own == *text => {
                Self::with_text("assistant", Arc::clone(own), &answer.more)
            }
            Content::Text(_) => Self::with_text("assistant", text.into(), &answer.more),
            other => Self::new("assistant", other, &answer.more),
        }
    }

    pub fn has_read(&self, key: &str) -> bool {
        self.fields.has_read(key)
    }

    /// Whether the template has asked what stands under `content`.
    pub fn has_read_content(&self) -> bool {
        self.has_read(CONTENT)
    }

    /// The keys that no rendering has asked for: those beside the role, and `content` where it says something.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let says = move |key: &&str| *key != ROLE && (*key != CONTENT || self.has_text);
        self.fields.unread().filter(says)
    }
}

const ROLE: &str = "role";
const CONTENT: &str = "content";
