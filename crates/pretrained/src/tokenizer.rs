//! Text to tokens and back, and conversations to the tokens that a chat model was trained on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::json::{self, Fields};
use crate::template::ChatTemplate;
use crate::{Message, ModelConfig, PretrainedError};

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// A tokenizer with its chat template.
///
/// A conversation becomes tokens in two parts that meet exactly at the boundary between prompt and response:
/// [`encode_prompt`](Self::encode_prompt) ends with the template's generation prompt, and
/// [`encode_response`](Self::encode_response) is the response, tokenised on its own, with one end-of-turn token.
///
/// Where a model has no chat template, a prompt is the contents of its messages, one line after the other, preceded by the
/// begin-of-text token if the tokenizer puts one before every text; a response then ends with the end-of-text token.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    origin: PathBuf,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    vocab_size: usize,
    bos: Option<u32>,
    end_of_turn: u32,
    stop_ids: Vec<u32>,
}

/// What a tokenizer is made from, in the form of Hugging Face's files.
pub(crate) struct TokenizerFiles {
    /// Where it comes from, for error messages.
    pub origin: PathBuf,
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, with the chat template in it.
    pub config: Map<String, Value>,
}

impl TokenizerFiles {
    /// Reads a model folder. The chat template is that of `chat_template.jinja`, else `chat_template.json`, else
    /// `tokenizer_config.json`; special tokens that the latter does not name are looked up in `special_tokens_map.json`.
    pub fn from_folder(folder: &Path) -> Result<Self, PretrainedError> {
        let origin = folder.join(TOKENIZER);
        if !origin.is_file() {
            return Err(PretrainedError::NoTokenizer {
                path: folder.to_path_buf(),
                looked_for: TOKENIZER,
            });
        }
        let tokenizer = std::fs::read(&origin).map_err(PretrainedError::io(&origin, "read"))?;
        let mut config =
            json::read_object_if_present(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default();
        if let Some(map) = json::read_object_if_present(&folder.join(SPECIAL_TOKENS_MAP))? {
            for (name, token) in map {
                config.entry(name).or_insert(token);
            }
        }
        let jinja = folder.join("chat_template.jinja");
        if jinja.is_file() {
            let template =
                std::fs::read_to_string(&jinja).map_err(PretrainedError::io(&jinja, "read"))?;
            config.insert(CHAT_TEMPLATE.to_owned(), Value::String(template));
        } else if let Some(mut object) =
            json::read_object_if_present(&folder.join("chat_template.json"))?
            && let Some(template) = object.remove(CHAT_TEMPLATE)
        {
            config.insert(CHAT_TEMPLATE.to_owned(), template);
        }
        Ok(Self {
            origin,
            tokenizer,
            config,
        })
    }

    /// The template's source: a string, or the one named `default` (or the only one) of a list.
    pub fn template(&self) -> Result<Option<&str>, PretrainedError> {
        let fields = Fields::new(&self.origin, &self.config);
        let templates = match fields.get(CHAT_TEMPLATE) {
            None => return Ok(None),
            Some(Value::String(template)) => return Ok(Some(template)),
            Some(Value::Array(templates)) => templates,
            Some(_) => {
                return Err(fields.wrong(CHAT_TEMPLATE, "a string or a list of named templates"));
            }
        };
        let chosen = match templates.as_slice() {
            [only] => Some(only),
            several => several
                .iter()
                .find(|template| template["name"] == "default"),
        };
        match chosen.and_then(|template| template["template"].as_str()) {
            Some(template) => Ok(Some(template)),
            None => Err(fields.wrong(CHAT_TEMPLATE, "a list with a template named \"default\"")),
        }
    }

    /// `bos_token` and the like: a string, or an object that describes an added token.
    pub fn special_tokens(&self) -> Vec<(String, String)> {
        self.config
            .iter()
            .filter(|(name, _)| name.ends_with("_token"))
            .filter_map(|(name, value)| {
                let token = value.as_str().or_else(|| value.get("content")?.as_str())?;
                Some((name.clone(), token.to_owned()))
            })
            .collect()
    }
}

const CHAT_TEMPLATE: &str = "chat_template";

impl ChatTokenizer {
    pub(crate) fn new(
        files: &TokenizerFiles,
        model: &ModelConfig,
    ) -> Result<Self, PretrainedError> {
        let origin = files.origin.clone();
        let mut tokenizer = Tokenizer::from_bytes(&files.tokenizer)
            .map_err(|error| PretrainedError::tokenizer(&origin, error))?;
        // Lengths are the business of whoever makes batches.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| PretrainedError::tokenizer(&origin, error))?;

        let special_tokens = files.special_tokens();
        let id_of = |role: &str| {
            let (_, token) = special_tokens.iter().find(|(name, _)| name == role)?;
            tokenizer.token_to_id(token)
        };
        let bos = id_of("bos_token").or(model.bos_token_id);
        let mut stop_ids = model.eos_token_ids.clone();
        stop_ids.splice(
            0..0,
            id_of("eos_token").filter(|id| !model.eos_token_ids.contains(id)),
        );
        let eos = id_of("eos_token").or(stop_ids.first().copied());
        let template = match files.template()? {
            None => None,
            Some(source) => Some(ChatTemplate::parse(source, special_tokens).map_err(
                |problem| PretrainedError::Template {
                    path: origin.clone(),
                    problem,
                },
            )?),
        };
        let end_of_turn = template
            .as_ref()
            .and_then(|template| token_after_answer(&tokenizer, template))
            .or(eos);
        let Some(end_of_turn) = end_of_turn else {
            let problem = "no token ends a turn: there is no chat template that shows one, and neither tokenizer_config.json \
                           nor config.json names an eos_token";
            return Err(PretrainedError::tokenizer(&origin, problem));
        };
        stop_ids.retain(|&id| id != end_of_turn);
        stop_ids.insert(0, end_of_turn);
        Ok(Self {
            origin,
            tokenizer,
            template,
            vocab_size: model.vocab_size,
            bos,
            end_of_turn,
            stop_ids,
        })
    }

    /// What does the work.
    pub(crate) fn inner(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of a text. Special tokens written in the text are recognised; `add_special` also puts those around it
    /// that the tokenizer puts around every text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, PretrainedError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special)
            .map_err(|error| PretrainedError::tokenizer(&self.origin, error))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            None => Ok(ids.to_vec()),
            Some(&id) => {
                let token = self.tokenizer.id_to_token(id).unwrap_or_default();
                let problem = format!(
                    "token {token:?} has the id {id}, but the model has embeddings for {} only",
                    self.vocab_size
                );
                Err(PretrainedError::tokenizer(&self.origin, problem))
            }
        }
    }

    /// The text of tokens; `skip_special` leaves special tokens out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, PretrainedError> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| PretrainedError::tokenizer(&self.origin, error))
    }

    /// The conversation as the chat template writes it; `add_generation_prompt` also begins the assistant's next turn.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, PretrainedError> {
        match &self.template {
            Some(template) => template
                .render(messages, add_generation_prompt)
                .map_err(|problem| PretrainedError::Template {
                    path: self.origin.clone(),
                    problem,
                }),
            None => Ok(messages
                .iter()
                .map(|message| message.content.as_str())
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    /// The tokens before a response: the rendered conversation, ending where the assistant is to speak.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, PretrainedError> {
        let text = self.render(messages, true)?;
        // A template writes the begin-of-text token itself, if the model wants one.
        let mut ids = self.encode(&text, false)?;
        if self.template.is_none() && self.begins_texts_with_bos()? {
            ids.splice(0..0, self.bos);
        }
        if let Some(bos) = self.bos {
            let repeated = ids
                .iter()
                .take_while(|&&id| id == bos)
                .count()
                .saturating_sub(1);
            ids.drain(..repeated);
        }
        Ok(ids)
    }

    /// The tokens of a response: its text, tokenised on its own, and exactly one end-of-turn token.
    ///
    /// End-of-turn tokens that already end the text are not repeated; one inside the text is an error.
    pub fn encode_response(&self, text: &str) -> Result<Vec<u32>, PretrainedError> {
        let mut ids = self.encode(self.without_end_of_turn(text), false)?;
        if let Some(position) = ids.iter().position(|&id| id == self.end_of_turn) {
            let token = self
                .tokenizer
                .id_to_token(self.end_of_turn)
                .unwrap_or_default();
            let problem = format!(
                "the response contains the end-of-turn token {token:?} at its token {position}, before its end"
            );
            return Err(PretrainedError::tokenizer(&self.origin, problem));
        }
        ids.push(self.end_of_turn);
        Ok(ids)
    }

    /// The token that ends an assistant's turn.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// The tokens at which generation ends: the end of turn and every end-of-text token.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Whether the model has a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// A token, with its text, that can fill up the shorter texts of a batch since no conversation has it: the one that
    /// `files` name for that, if it is such, else any other special token. The begin-of-text token is the last choice:
    /// it ends no text.
    pub(crate) fn padding(
        &self,
        files: &TokenizerFiles,
    ) -> Result<Option<(u32, String)>, PretrainedError> {
        let message = |role: &str| Message {
            role: role.to_owned(),
            content: "?".to_owned(),
        };
        let conversation = [message("user"), message("assistant"), message("user")];
        let mut used = self.encode(&self.render(&conversation, true)?, true)?;
        used.extend([self.end_of_turn].into_iter().chain(self.bos));

        let named = files.special_tokens();
        let role = |role: &str| {
            let (_, token) = named.iter().find(|(name, _)| name == role)?;
            self.tokenizer.token_to_id(token)
        };
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        let special: BTreeSet<u32> = special.map(|(&id, _)| id).collect();
        let unused = (role("pad_token").into_iter())
            .chain(role("unk_token"))
            .chain(special)
            .find(|id| !used.contains(id) && (*id as usize) < self.vocab_size);
        let bos = self.bos.filter(|&bos| bos != self.end_of_turn);
        let found = unused
            .or(bos)
            .and_then(|id| Some((id, self.tokenizer.id_to_token(id)?)));
        Ok(found)
    }

    /// The text without end-of-turn tokens (and space after them) at its end.
    fn without_end_of_turn<'a>(&self, text: &'a str) -> &'a str {
        let Some(token) = self
            .tokenizer
            .id_to_token(self.end_of_turn)
            .filter(|token| !token.is_empty())
        else {
            return text;
        };
        let mut text = text;
        while let Some(shorter) = text.trim_end().strip_suffix(&token) {
            text = shorter;
        }
        text
    }

    fn begins_texts_with_bos(&self) -> Result<bool, PretrainedError> {
        Ok(self.bos.is_some() && self.encode("", true)?.first().copied() == self.bos)
    }
}

/// The first special token that a template writes after an assistant's answer.
///
/// None where it writes none, or where it refuses the conversation that is tried.
fn token_after_answer(tokenizer: &Tokenizer, template: &ChatTemplate) -> Option<u32> {
    const ANSWER: &str = "panacea-answer-sentinel";
    let message = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let rendered = template
        .render(&[message("user", "?"), message("assistant", ANSWER)], false)
        .ok()?;
    let (_, after) = rendered.rsplit_once(ANSWER)?;
    let encoding = tokenizer.encode_fast(after, false).ok()?;
    let added = tokenizer.get_added_tokens_decoder();
    let first = |special: bool| {
        let is_candidate = |id: &&u32| added.get(id).is_some_and(|token| token.special || !special);
        encoding.get_ids().iter().find(is_candidate).copied()
    };
    // Some models forget to mark their end of turn as special; it is an added token nevertheless.
    first(true).or_else(|| first(false))
}
