//! Conversations in tokens: one text of the template's own, cut where the answer begins.
//!
//! What is trained, scored and generated is what the template writes for the whole conversation, tokenised as a whole. A prompt
//! is the beginning that it shares with the template's generation prompt; a response is what stands behind it, up to the token
//! that ends the turn.

use std::collections::BTreeSet;

use crate::ending::{ANSWER, OTHER_ANSWER};
use crate::message::{Answer, Content, JsonObject, Message};
use crate::talk::{Talk, Turn, UnreadKey};
use crate::template::ChatTemplate;
use crate::tokenizer::FirstTokens;
use crate::{ChatTokenizer, PretrainedError};

/// A conversation up to an answer, in tokens.
#[derive(Debug, Clone)]
pub struct Prompt {
    ids: Vec<u32>,
    /// A place in the text from which tokens do not depend on what stands before it, and how many of `ids` stand before it.
    anchor: (usize, usize),
    written: Written,
}

/// What a template writes for a conversation up to an answer.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    talk: Talk,
    opening: Opening,
}

impl Written {
    /// A text that is taken as it is.
    fn rendered(text: String, talk: Talk) -> Self {
        Self {
            text,
            talk,
            opening: Opening::Rendered,
        }
    }
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
        self.written.talk.unread().collect()
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
        let (prompt, _) = self.opened(self.written(messages, variables)?, usize::MAX)?;
        Ok(prompt)
    }

    /// The same, if it has at most `max_tokens`; a much longer one is not tokenised to its end.
    ///
    /// # Errors
    /// As of [`prompt_with`](Self::prompt_with).
    pub fn prompt_within(
        &self,
        messages: &[Message],
        variables: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Prompt>, PretrainedError> {
        self.opened_within(self.written(messages, variables)?, max_tokens)
    }

    /// What the template writes for a conversation up to an answer.
    fn written(
        &self,
        messages: &[Message],
        variables: &JsonObject,
    ) -> Result<Written, PretrainedError> {
        let Some(template) = self.template() else {
            let talk = talk_of_texts(messages, variables);
            self.check_written(messages, &talk, false)?;
            return Ok(Written::rendered(self.render(messages, true)?, talk));
        };
        let turns = messages.iter().map(|message| template.turn(message));
        let talk = Talk::new(turns.collect(), variables);
        let rendered = template.render(&talk, true);
        self.check_written(messages, &talk, rendered.is_err())?;
        let mut text = rendered.map_err(|problem| self.refused(problem))?;
        let opening = opening(template, &talk, &mut text);
        Ok(Written {
            text,
            talk,
            opening,
        })
    }

    /// A prompt whose text already is what a template would write, special tokens and the answer's header included. What the
    /// message has beside it, and `variables`, are not read.
    pub fn rendered_prompt(
        &self,
        message: &Message,
        variables: &JsonObject,
    ) -> Result<Prompt, PretrainedError> {
        let (prompt, _) = self.opened(written_before(message, variables), usize::MAX)?;
        Ok(prompt)
    }

    /// The same, if it has at most `max_tokens`; a much longer one is not tokenised to its end.
    pub fn rendered_prompt_within(
        &self,
        message: &Message,
        variables: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Prompt>, PretrainedError> {
        self.opened_within(written_before(message, variables), max_tokens)
    }

    fn opened_within(
        &self,
        written: Written,
        max_tokens: usize,
    ) -> Result<Option<Prompt>, PretrainedError> {
        let (prompt, is_whole) = self.opened(written, max_tokens.saturating_add(1))?;
        if prompt.ids.len() > max_tokens {
            return Ok(None);
        }
        if is_whole {
            return Ok(Some(prompt));
        }
        // It began with tokens that were taken away, so that these are too few to tell.
        let (prompt, _) = self.opened(prompt.written, usize::MAX)?;
        Ok((prompt.ids.len() <= max_tokens).then_some(prompt))
    }

    /// The prompt, and whether it has all of its tokens: at least `wanted` are looked for.
    fn opened(&self, written: Written, wanted: usize) -> Result<(Prompt, bool), PretrainedError> {
        let (head, rest) = written.text.split_at(self.anchor_in(&written.text));
        let place = head.len();
        let FirstTokens { mut ids, are_all } = self.encode_first(head, wanted)?;
        let before = ids.len();
        let mut is_whole = are_all;
        if are_all {
            let rest = self.encode_first(rest, wanted.saturating_sub(before))?;
            ids.extend(rest.ids);
            is_whole = rest.are_all;
        }
        let removed = self.begin_once(&mut ids)?;
        let prompt = Prompt {
            anchor: match removed {
                0 => (place, before),
                // What was taken away may have stood behind the place.
                _ => (0, 0),
            },
            ids,
            written,
        };
        Ok((prompt, is_whole))
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
        self.answered_within(prompt, responses, usize::MAX)
    }

    /// The same for somebody who needs no more than `max_tokens` of each response: one that is much longer has only its first
    /// tokens, more than so many, and no end of turn.
    pub fn answered_within(
        &self,
        prompt: &Prompt,
        responses: &[Answer],
        max_tokens: usize,
    ) -> Result<Answered, PretrainedError> {
        let wanted = max_tokens.saturating_add(1);
        let mut unread = BTreeSet::new();
        let mut notes = Vec::new();
        let mut note = |text: String| {
            if !notes.contains(&text) {
                notes.push(text);
            }
        };
        let Written {
            text: text_before,
            talk,
            opening,
        } = &prompt.written;
        let Some(template) = self.template() else {
            let of_responses = responses.iter().flat_map(|answer| answer.more.keys());
            unread.extend(of_responses.cloned());
            unread.extend(talk.unread().map(|unread| unread.key));
            let responses = responses
                .iter()
                .map(|answer| self.bare_response(answer, wanted));
            return Ok(Answered {
                prompt: prompt.ids.clone(),
                responses: responses.collect::<Result<_, _>>()?,
                notes,
                unread,
            });
        };
        match opening {
            Opening::Plain | Opening::Written(_) | Opening::Rendered => {}
            Opening::Shortened(text) => note(format!(
                "the template's text of a conversation has no {text:?} before the answer, as its generation prompt has: \
                 prompts end before it, also where answers are generated"
            )),
            Opening::Apart => note(
                "the template writes a conversation differently once an answer follows, or refuses it: the answer stands behind \
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
                    "the template writes answers differently from how the records have them (such as without their \
                     reasoning): what it writes is trained"
                        .to_owned(),
                );
            }
            match (opening, whole.strip_prefix(text_before)) {
                (Opening::Written(text), Some(behind)) if behind.starts_with(text) => {
                    note(format!(
                        "the template writes {text:?} before the answer: it is trained with it"
                    ))
                }
                (_, Some(_)) => {}
                (_, None) => {
                    self.check_parting(template, prompt, &whole)?;
                    note("the template ends the prompt differently before an answer: the boundary is where they part".to_owned());
                }
            }
            let wanted = rest.len().saturating_add(wanted);
            let behind = shared_length(&whole, text_before);
            let mut tokens = self.encode_first(&whole[place..], wanted)?;
            if before == 0 {
                self.begin_once(&mut tokens.ids)?;
            }
            let are_enough = tokens.ids.len() >= wanted && !self.may_end_inside(&whole, behind);
            if !tokens.are_all && !are_enough {
                tokens = self.encode_first(&whole[place..], usize::MAX)?;
                if before == 0 {
                    self.begin_once(&mut tokens.ids)?;
                }
            }
            wholes.push(tokens);
        }
        // Where the last character of the prompt and the first of an answer make one token, it is the answer's.
        let shared = wholes
            .iter()
            .map(|whole| whole.ids.iter().zip(rest))
            .map(|pairs| pairs.take_while(|(a, b)| a == b).count())
            .min()
            .unwrap_or(rest.len());
        if shared < rest.len() {
            note(
                "tokens reach over the end of the prompt: they are trained with the answer"
                    .to_owned(),
            );
        }
        let responses = wholes.into_iter().map(|mut whole| {
            whole.ids.drain(..shared);
            self.ended(whole)
        });
        unread.extend(talk.unread().map(|unread| unread.key));
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
        let apart = || [&prompt.written.text, text, &self.ending().text].concat();
        let whole = match &prompt.written.opening {
            Opening::Rendered => {
                self.check_has_text(response)?;
                unread.extend(response.more.keys().cloned());
                return Ok([&prompt.written.text, text].concat());
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
                let rendered = template.render(&prompt.written.talk.with(turn.clone()), false);
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
        if length < shared_length(&whole, &prompt.written.text) {
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
        let conversation = template.render(&prompt.written.talk, false);
        let conversation = conversation.map_err(|problem| self.refused(problem))?;
        let parted = shared_length(&prompt.written.text, whole);
        if parted < prompt.anchor.0 || parted < shared_length(&prompt.written.text, &conversation) {
            let problem = "the turns before this answer are written differently without it";
            return Err(self.refused(problem.to_owned()));
        }
        Ok(())
    }

    /// A response without a template: its text, tokenised on its own.
    fn bare_response(&self, response: &Answer, wanted: usize) -> Result<Vec<u32>, PretrainedError> {
        self.check_has_text(response)?;
        let text = self.without_end_of_turn(response.text());
        let mut tokens = self.encode_first(text, wanted)?;
        if !tokens.are_all && self.may_end_inside(text, 0) {
            tokens = self.encode_first(text, usize::MAX)?;
        }
        self.ended(tokens)
    }

    /// Tokens with exactly one end of turn, at their end, if these are all.
    fn ended(&self, tokens: FirstTokens) -> Result<Vec<u32>, PretrainedError> {
        let end = self.end_of_turn();
        let FirstTokens { mut ids, are_all } = tokens;
        ids.pop_if(|last| are_all && *last == end);
        if let Some(position) = ids.iter().position(|&id| id == end) {
            let token = self.inner().id_to_token(end).unwrap_or_default();
            let problem = format!(
                "the response contains the end-of-turn token {token:?} at its token {position}, before its end"
            );
            return Err(PretrainedError::tokenizer(self.origin(), problem));
        }
        if are_all {
            ids.push(end);
        }
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

/// A text that is taken as it is.
fn written_before(message: &Message, variables: &JsonObject) -> Written {
    let talk = talk_of_texts(std::slice::from_ref(message), variables);
    Written::rendered(message.text().to_owned(), talk)
}

/// How a template goes on from the generation prompt, `text`, which is shortened where the whole text parts from it.
fn opening(template: &ChatTemplate, talk: &Talk, text: &mut String) -> Opening {
    let with =
        |content: &str| template.render_beside(&talk.with(Turn::plain("assistant", content)), text);
    // A template may refuse an answer here, as behind a turn of the assistant's: the generation prompt is then all there is.
    let Ok(whole) = with(ANSWER) else {
        return Opening::Apart;
    };
    // The text may go on as the answer begins.
    let from = text.floor_char_boundary(whole.shared.saturating_sub(ANSWER.len()));
    let end = [&text[from..whole.shared], &whole.behind].concat();
    let Some(written) = end.rfind(ANSWER).map(|place| from + place) else {
        return Opening::Apart;
    };
    if whole.shared == text.len() && written >= text.len() {
        let behind = &whole.behind[..written - text.len()];
        return match behind.trim() {
            "" => Opening::Plain,
            _ => Opening::Written(behind.to_owned()),
        };
    }
    let (Ok(other), Ok(conversation)) = (with(OTHER_ANSWER), template.render_beside(talk, text))
    else {
        return Opening::Apart;
    };
    let boundary = whole.shared.min(other.shared);
    if boundary < conversation.shared {
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
mod tests;
