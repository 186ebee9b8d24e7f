//! Prompts in files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use panacea_pretrained::Message;
use serde::Deserialize;

/// A prompt as a record has it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "\"prompt\" is neither a text nor a list of {role, content}"
)]
pub enum Prompt {
    Text(String),
    Messages(Vec<Message>),
}

impl Prompt {
    /// As a conversation.
    pub fn messages(self) -> Vec<Message> {
        match self {
            Self::Text(content) => vec![Message {
                role: "user".into(),
                content,
            }],
            Self::Messages(messages) => messages,
        }
    }
}

/// The prompts of a file, at least one: of a `.jsonl` file the field `prompt` of every record, whatever else it has; of any other
/// every line that is not empty.
pub fn read_prompts(path: &Path) -> Result<Vec<Vec<Message>>> {
    #[derive(Deserialize)]
    struct Record {
        prompt: Prompt,
    }
    let file = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    let is_jsonl = path.extension().is_some_and(|ending| ending == "jsonl");
    let mut prompts = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let prompt = match is_jsonl {
            false => Prompt::Text(line.to_owned()),
            true => {
                let record: Record = serde_json::from_str(line)
                    .with_context(|| format!("{file}:{}: expected {{\"prompt\": …}}", index + 1))?;
                record.prompt
            }
        };
        let messages = prompt.messages();
        if messages.iter().all(|m| m.content.trim().is_empty()) {
            bail!("{file}:{}: the prompt is empty", index + 1);
        }
        prompts.push(messages);
    }
    if prompts.is_empty() {
        bail!("{file} has no prompt: expected one on each line");
    }
    Ok(prompts)
}
