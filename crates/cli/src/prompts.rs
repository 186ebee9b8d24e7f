//! Prompts in files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use panacea_data::{Conversation, Conversations, Responses, Source};
use panacea_pretrained::{ChatTokenizer, JsonObject, Message};

use crate::session::say_aside;

/// The prompts of a file, at least one: of records in any format that `train` reads, the prompt of each; of any other file every
/// line that is not empty. What a run says of its own files in `[data]` is not used.
pub fn read_prompts(path: &Path, tokenizer: &ChatTokenizer) -> Result<Vec<Conversation>> {
    if Conversations::are_in(path) {
        let Conversations { all, notes } =
            Conversations::read(path, Responses::Optional, !tokenizer.has_template())?;
        say_aside(&notes);
        return Ok(all);
    }
    let file = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    let lines = text.lines().enumerate();
    let prompts = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| Conversation {
            source: Source::new(path, index + 1),
            prompt: vec![Message::new("user", line)],
            variables: JsonObject::new(),
            responses: Vec::new(),
        });
    let prompts: Vec<Conversation> = prompts.collect();
    if prompts.is_empty() {
        bail!("{file} has no prompt: expected one on each line");
    }
    Ok(prompts)
}
