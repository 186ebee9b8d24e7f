//! Prompts in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use panacea_data::{Conversation, Conversations, Responses, Source};
use panacea_pretrained::{ChatTokenizer, JsonObject, Message, Prompt, UnreadKey};

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

/// What is said where a conversation has a key or variable that its chat template has not asked for.
pub fn unread_note(key: &str) -> String {
    format!("the chat template does not read `{key}` here, so that nothing is made of it")
}

/// Says what the template leaves out of prompts, each key once.
pub fn say_unread(prompts: &[(String, Prompt)]) {
    let mut said = BTreeSet::new();
    for (place, prompt) in prompts {
        for UnreadKey { key, .. } in prompt.unread() {
            let note = format!("{place}: {}", unread_note(&key));
            if said.insert(key) {
                eprintln!("{note}");
            }
        }
    }
}
