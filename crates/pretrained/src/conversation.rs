//! Conversations in tokens: one text of the template's own, cut where the answer begins.
//!
//! What is trained, scored and generated is what the template writes for the whole conversation, tokenised as a whole. A prompt
//! is the beginning that it shares with the template's generation prompt; a response is what stands behind it, up to the token
//! that ends the turn.

use std::collections::BTreeSet;

use crate::ending::{ANSWER, OTHER_ANSWER};
use crate::message::{Answer, Content, JsonObject, Message};
use crate::template::{ChatTemplate, Talk, Turn, UnreadKey};
use crate::{ChatTokenizer, PretrainedError};

/// A conversation up to an answer, in tokens.
#[derive(Debug, Clone)]
pub struct Prompt {
    ids: Vec<u32>,
    /// What the tokens say.
    text: String,
    /// A place in `text` from which tokens do not depend on what stands before it, and how many of `ids` stand before it.
    anchor: (usize, usize),
    talk: Talk,
    opening: Opening,
}

impl Prompt {
    /// Its tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Its tokens alone.
    pub fn into_ids(self) -> Vec<u32> {
        self.ids
    }

    /// What the template has not asked for, in the order of the turns, variables last: keys beside the role, `content`
    /// where it says something, and variables of this conversation. Without a template that is everything but the texts.
    pub fn unread(&self) -> Vec<UnreadKey> {
        self.talk.unread().collect()
    }
}

impl AsRef<[u32]> for Prompt {
    fn as_ref(&self) -> &[u32] {
        &self.ids
    }
}

/// A conversation with one or more answers to choose from, in tokens: `prompt ++ response` is what the template writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answered {
    /// What all responses have before them.
    pub prompt: Vec<u32>,
    /// Each response with the token that ends it.
    pub responses: Vec<Vec<u32>>,
    /// What a person should know about the boundary between them, each a sentence.
    pub notes: Vec<String>,
    /// Keys of turns and of responses, and variables beside them, that the template has not asked for where they stand.
    pub unread: BTreeSet<String>,
}

/// How a template goes on from a prompt to the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opening {
    /// The generation prompt is the beginning of the whole text, and the answer follows.
    Plain,
    /// So it is, but the template writes this before the answer.
    Written(String),
    /// The generation prompt ends with this, which the whole text does not have: it is left out of the prompt.
    Shortened(String),
    /// The template refuses an answer here, leaves it out, or writes the turns of the prompt otherwise once it follows: what
    /// stands behind the generation prompt is the answer and what the template writes after answers.
    Apart,
    /// The prompt's text is what a template would write, and is taken as it is.
    Rendered,
}

impl ChatTokenizer {
    /// A conversation up to an answer.
    pub fn prompt(&self, messages: &[Message]) -> Result<Prompt, PretrainedError> {
        self.prompt_with(messages, &JsonObject::new())
    }

    /// The same, with variables that the template sees beside it, such as `tools`.
    ///
    /// # Errors
    /// Where the template refuses it, or where a turn has no text and nothing that the template reads in its place.
    pub fn prompt_with(
        &self,
        messages: &[Message],
        variables: &JsonObject,
    ) -> Result<Prompt, PretrainedError> {
        match self.template() {
            Some(template) => {
                let turns = messages.iter().map(|message| template.turn(message));
                let talk = Talk::new(turns.collect(), variables);
                let rendered = template.render(&talk, true);
                self.check_written(messages, &talk, rendered.is_err())?;
                let mut text = rendered.map_err(|problem| self.refused(problem))?;
                let opening = opening(template, &talk, &mut text);
                self.opened(text, talk, opening)
            }
            None => {
                let talk = talk_of_texts(messages, variables);
                self.check_written(messages, &talk, false)?;
                self.opened(self.render(messages, true)?, talk, Opening::Rendered)
            }
        }
    }

    /// A prompt whose text already is what a template would write, special tokens and the answer's header included. What the
    /// message has beside it, and `variables`, are not read.
    pub fn rendered_prompt(
        &self,
        message: &Message,
        variables: &JsonObject,
    ) -> Result<Prompt, PretrainedError> {
        let talk = talk_of_texts(std::slice::from_ref(message), variables);
        self.opened(message.text().to_owned(), talk, Opening::Rendered)
    }

    fn opened(
        &self,
        text: String,
        talk: Talk,
        opening: Opening,
    ) -> Result<Prompt, PretrainedError> {
        let place = self.anchor_in(&text);
        let mut ids = self.encode(&text[..place], false)?;
        let before = ids.len();
        ids.extend(self.encode(&text[place..], false)?);
        let removed = self.begin_once(&mut ids)?;
        Ok(Prompt {
            anchor: match removed {
                0 => (place, before),
                // What was taken away may have stood behind the place.
                _ => (0, 0),
            },
            ids,
            text,
            talk,
            opening,
        })
    }

    /// The conversation with each of `responses` as its answer.
    ///
    /// A response has exactly one end-of-turn token, at its end: those that already end its text are not repeated, and one
    /// inside is an error. What a response has beside its text is given to the template.
    pub fn answered(
        &self,
        prompt: &Prompt,
        responses: &[Answer],
    ) -> Result<Answered, PretrainedError> {
        let mut unread = BTreeSet::new();
        let mut notes = Vec::new();
        let mut note = |text: String| {
            if !notes.contains(&text) {
                notes.push(text);
            }
        };
        let Some(template) = self.template() else {
            unread.extend(
                responses
                    .iter()
                    .flat_map(|answer| answer.more.keys().cloned()),
            );
            unread.extend(prompt.talk.unread().map(|unread| unread.key));
            let responses = responses.iter().map(|answer| self.bare_response(answer));
            return Ok(Answered {
                prompt: prompt.ids.clone(),
                responses: responses.collect::<Result<_, _>>()?,
                notes,
                unread,
            });
        };
        match &prompt.opening {
            Opening::Plain | Opening::Written(_) | Opening::Rendered => {}
            Opening::Shortened(text) => note(format!(
                "the template's text of a conversation has no {text:?} before the answer, as its generation prompt has: \
                 prompts end before it, also where answers are generated"
            )),
            Opening::Apart => note(
                "the template writes a conversation otherwise once an answer follows, or refuses it: the answer stands behind \
                 the generation prompt"
                    .to_owned(),
            ),
        }

        let (place, before) = prompt.anchor;
        let (head, rest) = prompt.ids.split_at(before);
        let mut wholes = Vec::with_capacity(responses.len());
        for response in responses {
            let whole = self.whole(template, prompt, response, &mut unread)?;
            let text = self.without_end_of_turn(response.text());
            if !whole.contains(text.trim()) {
                note(
                    "the template writes answers otherwise than the records have them (such as without their \
                     reasoning): what it writes is trained"
                        .to_owned(),
                );
            }
            match (&prompt.opening, whole.strip_prefix(&prompt.text)) {
                (Opening::Written(text), Some(behind)) if behind.starts_with(text) => {
                    note(format!(
                        "the template writes {text:?} before the answer: it is trained with it"
                    ))
                }
                (_, Some(_)) => {}
                (_, None) => {
                    self.check_parting(template, prompt, &whole)?;
                    note("the template ends the prompt otherwise before an answer: the boundary is where they part".to_owned());
                }
            }
            let mut ids = self.encode(&whole[place..], false)?;
            if before == 0 {
                self.begin_once(&mut ids)?;
            }
            wholes.push(ids);
        }
        // Where the last character of the prompt and the first of an answer make one token, it is the answer's.
        let shared = wholes
            .iter()
            .map(|ids| ids.iter().zip(rest).take_while(|(a, b)| a == b).count())
            .min()
            .unwrap_or(rest.len());
        if shared < rest.len() {
            note(
                "tokens reach over the end of the prompt: they are trained with the answer"
                    .to_owned(),
            );
        }
        let responses = wholes.into_iter().map(|mut ids| {
            ids.drain(..shared);
            self.ended(ids)
        });
        unread.extend(prompt.talk.unread().map(|unread| unread.key));
        Ok(Answered {
            responses: responses.collect::<Result<_, _>>()?,
            prompt: [head, &rest[..shared]].concat(),
            notes,
            unread,
        })
    }

    /// What the template writes for a conversation with its answer, up to the end of the answer. `unread` gets what the answer
    /// has and the template does not ask for.
    fn whole(
        &self,
        template: &ChatTemplate,
        prompt: &Prompt,
        response: &Answer,
        unread: &mut BTreeSet<String>,
    ) -> Result<String, PretrainedError> {
        let text = self.without_end_of_turn(response.text());
        let apart = || [&prompt.text, text, &self.ending().text].concat();
        let whole = match &prompt.opening {
            Opening::Rendered => {
                self.check_has_text(response)?;
                unread.extend(response.more.keys().cloned());
                return Ok([&prompt.text, text].concat());
            }
            Opening::Apart => {
                if let Some(key) = template.key_read_of(response) {
                    let problem = format!(
                        "it takes no answer behind these turns, so that the answer's `{key}` cannot be written"
                    );
                    return Err(self.refused(problem));
                }
                self.check_has_text(response)?;
                unread.extend(response.more.keys().cloned());
                apart()
            }
            Opening::Plain | Opening::Written(_) | Opening::Shortened(_) => {
                let turn = Turn::answer(text, response);
                let rendered = template.render(&prompt.talk.with(turn.clone()), false);
                let is_blank = text.trim().is_empty() && !response.more.is_empty();
                if is_blank && is_lost(&turn, &response.more, rendered.is_err()) {
                    let keys: Vec<&str> = response.more.keys().map(String::as_str).collect();
                    let problem = format!(
                        "the answer has no text, and the template reads nothing of `{}`",
                        keys.join("`, `")
                    );
                    return Err(self.refused(problem));
                }
                unread.extend(turn.unread().map(str::to_owned));
                rendered.map_err(|problem| self.refused(problem))?
            }
        };
        // Some templates write no turn without content.
        self.up_to_its_end(whole, prompt)
            .or_else(|| match response.is_blank() {
                true => self.up_to_its_end(apart(), prompt),
                false => None,
            })
            .ok_or_else(|| {
                let more: Vec<String> =
                    response.more.keys().map(|key| format!("`{key}`")).collect();
                let more = match more.is_empty() {
                    true => String::new(),
                    false => format!(" with {}", more.join(", ")),
                };
                self.refused(format!("it writes no end of this answer{more}"))
            })
    }

    /// Every turn without a text has something else, and the template has read it.
    fn check_written(
        &self,
        messages: &[Message],
        talk: &Talk,
        is_refused: bool,
    ) -> Result<(), PretrainedError> {
        for (index, (message, turn)) in messages.iter().zip(&talk.turns).enumerate() {
            let has_text = matches!(message.content, Content::Text(_));
            if !has_text && is_lost(turn, &message.more, is_refused) {
                return Err(PretrainedError::LostTurn {
                    path: self.template_from().to_owned(),
                    turn: index,
                    role: message.role.clone(),
                    keys: message.more.keys().cloned().collect(),
                });
            }
        }
        Ok(())
    }

    /// Where no template writes the answer, its text is all there is of it.
    fn check_has_text(&self, response: &Answer) -> Result<(), PretrainedError> {
        match response.text().trim().is_empty() && !response.more.is_empty() {
            true => {
                let problem = "the answer has no text, and no template writes what it has instead";
                Err(self.refused(problem.to_owned()))
            }
            false => Ok(()),
        }
    }

    /// A whole text up to the end of its answer, if that is behind the prompt.
    fn up_to_its_end(&self, mut whole: String, prompt: &Prompt) -> Option<String> {
        let length = self.ending().cut(&whole)?.len();
        if length < shared_length(&whole, &prompt.text) {
            return None;
        }
        whole.truncate(length);
        Some(whole)
    }

    /// A whole text that does not begin with the prompt's may part from it where the answer is opened, not before.
    fn check_parting(
        &self,
        template: &ChatTemplate,
        prompt: &Prompt,
        whole: &str,
    ) -> Result<(), PretrainedError> {
        let conversation = template.render(&prompt.talk, false);
        let conversation = conversation.map_err(|problem| self.refused(problem))?;
        let parted = shared_length(&prompt.text, whole);
        if parted < prompt.anchor.0 || parted < shared_length(&prompt.text, &conversation) {
            let problem = "the turns before this answer are written otherwise than without it";
            return Err(self.refused(problem.to_owned()));
        }
        Ok(())
    }

    /// A response without a template: its text, tokenised on its own.
    fn bare_response(&self, response: &Answer) -> Result<Vec<u32>, PretrainedError> {
        self.check_has_text(response)?;
        self.ended(self.encode(self.without_end_of_turn(response.text()), false)?)
    }

    /// Tokens with exactly one end of turn, at their end.
    fn ended(&self, mut ids: Vec<u32>) -> Result<Vec<u32>, PretrainedError> {
        let end = self.end_of_turn();
        ids.pop_if(|last| *last == end);
        if let Some(position) = ids.iter().position(|&id| id == end) {
            let token = self.inner().id_to_token(end).unwrap_or_default();
            let problem = format!(
                "the response contains the end-of-turn token {token:?} at its token {position}, before its end"
            );
            return Err(PretrainedError::tokenizer(self.origin(), problem));
        }
        ids.push(end);
        Ok(ids)
    }

    /// The last place of a text from which tokens do not depend on what stands before it.
    fn anchor_in(&self, text: &str) -> usize {
        let places = self.anchors().iter().filter_map(|token| text.rfind(token));
        places.max().unwrap_or(0)
    }
}

/// Whether a turn without a text has nothing else that the template has asked for. A template that has refused the
/// conversation may not have come to it: then only where it has looked for the text.
fn is_lost(turn: &Turn, more: &JsonObject, is_refused: bool) -> bool {
    let is_reached = !is_refused || turn.has_read_content();
    is_reached && !more.keys().any(|key| turn.has_read(key))
}

/// A conversation of which no template is asked: its texts alone are read.
fn talk_of_texts(messages: &[Message], variables: &JsonObject) -> Talk {
    let without_text =
        |message: &Message| Turn::new(&message.role, &Content::Absent, &message.more);
    Talk::new(messages.iter().map(without_text).collect(), variables)
}

/// How a template goes on from the generation prompt, `text`, which is shortened where the whole text parts from it.
fn opening(template: &ChatTemplate, talk: &Talk, text: &mut String) -> Opening {
    let with =
        |content: &str| template.render(&talk.with(Turn::plain("assistant", content)), false);
    // A template may refuse an answer here, as behind a turn of the assistant's: the generation prompt is then all there is.
    let Ok(whole) = with(ANSWER) else {
        return Opening::Apart;
    };
    let Some(written) = whole.rfind(ANSWER) else {
        return Opening::Apart;
    };
    if let Some(behind) = whole[..written].strip_prefix(text.as_str()) {
        return match behind.trim() {
            "" => Opening::Plain,
            _ => Opening::Written(behind.to_owned()),
        };
    }
    let (Ok(other), Ok(conversation)) = (with(OTHER_ANSWER), template.render(talk, false)) else {
        return Opening::Apart;
    };
    let boundary = shared_length(text, &whole).min(shared_length(text, &other));
    if boundary < shared_length(text, &conversation) {
        return Opening::Apart;
    }
    Opening::Shortened(text.split_off(boundary))
}

/// How many bytes two texts have in common at their beginning, in whole characters.
fn shared_length(one: &str, two: &str) -> usize {
    let pairs = one.char_indices().zip(two.chars());
    let parted = pairs.clone().find(|((_, a), b)| a != b);
    match parted {
        Some(((place, _), _)) => place,
        None => one.len().min(two.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use panacea_test_support::golden;
    use serde::Deserialize;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::tokenizer::TokenizerFiles;
    use crate::{ChatOptions, ModelConfig};

    #[derive(Deserialize)]
    struct Golden {
        tokenizer: Json,
        conversations: Vec<Vec<Message>>,
        families: Vec<Family>,
    }

    #[derive(Deserialize)]
    struct Family {
        name: String,
        template: String,
        conversations: Vec<usize>,
        ids: Vec<Vec<u32>>,
    }

    fn tokenizer(golden: &Golden, template: &str) -> ChatTokenizer {
        let object = |value: Json| value.as_object().cloned().expect("an object");
        let config = object(json!({
            "model_type": "llama", "vocab_size": 400, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5
        }));
        let files = TokenizerFiles {
            origin: PathBuf::from("tokenizer.json"),
            tokenizer: golden.tokenizer.to_string().into_bytes(),
            config: object(
                json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}),
            ),
            template_from: None,
            notes: Vec::new(),
        };
        let model = ModelConfig::from_json(Path::new("config.json"), &config).unwrap();
        ChatTokenizer::new(&files, &model, &ChatOptions::default()).unwrap()
    }

    /// Values of transformers' `apply_chat_template`, by benches/peers/chat_templates.py.
    #[test]
    fn prompt_and_response_are_the_tokens_of_transformers() {
        let golden: Golden = golden("templates.json");
        assert_eq!(golden.families.len(), 5);
        for family in &golden.families {
            let tokenizer = tokenizer(&golden, &family.template);
            assert_eq!(family.ids.len(), 20);
            for (&number, expected) in family.conversations.iter().zip(&family.ids) {
                let (last, before) = golden.conversations[number].split_last().unwrap();
                let prompt = tokenizer.prompt(before).unwrap();
                let found = tokenizer.answered(&prompt, &[last.clone().into()]).unwrap();
                let ours = [&found.prompt[..], &found.responses[0]].concat();
                assert!(
                    expected.starts_with(&ours) && ours.last() == Some(&tokenizer.end_of_turn()),
                    "{}, {number}: {} against {}",
                    family.name,
                    tokenizer.decode(&ours, false).unwrap(),
                    tokenizer.decode(expected, false).unwrap()
                );
                let behind = tokenizer.decode(&expected[ours.len()..], false).unwrap();
                assert_eq!(behind.trim(), "", "{}, {number}", family.name);
            }
        }
    }
}
