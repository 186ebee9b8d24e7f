//! Text to tokens and back, and conversations to the tokens that a chat model was trained on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokenizers::{AddedToken, Tokenizer};

use crate::beginnings::Beginnings;
use crate::ending::{self, Ending};
use crate::foreign;
use crate::json::{self, Fields};
use crate::talk::Talk;
use crate::template::ChatTemplate;
use crate::{ChatOptions, JsonObject, Message, ModelConfig, PretrainedError, lfs};

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// A tokenizer with its chat template.
///
/// A conversation with its answer is what the template writes for it, tokenised as a whole: [`prompt`](Self::prompt) is the
/// beginning that it has in common with the template's generation prompt, and [`answered`](Self::answered) has that and what
/// stands behind it, up to the one token that ends the turn.
///
/// Where a model has no chat template, a prompt is the contents of its messages, one line after the other, preceded by the
/// begin-of-text token if the tokenizer puts one before every text; a response is then tokenised on its own, and ends with the
/// end-of-text token.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    origin: PathBuf,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    template_from: PathBuf,
    fingerprints: [String; 2],
    notes: Vec<String>,
    ending: Ending,
    anchors: Vec<String>,
    /// How to cut long texts, once there was one; nothing where it is not known.
    beginnings: OnceLock<Option<Beginnings>>,
    /// The texts of the special tokens and of the end of turn, and the characters that they begin with.
    special: Vec<String>,
    special_beginnings: Vec<char>,
    vocab_size: usize,
    bos: Option<u32>,
    end_of_turn: u32,
    stop_ids: Vec<u32>,
}

/// A text that is no longer than this, in bytes, is always tokenised whole.
const LONG: usize = 32 << 10;

/// The tokens that a text begins with.
pub(crate) struct FirstTokens {
    pub ids: Vec<u32>,
    /// Whether it has no others.
    pub are_all: bool,
}

/// What a tokenizer is made from, in the form of Hugging Face's files.
pub(crate) struct TokenizerFiles {
    /// Where it comes from, for error messages.
    pub origin: PathBuf,
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`, with the chat template in it.
    pub config: Map<String, Value>,
    /// Where the chat template comes from, if from a file of its own.
    pub template_from: Option<PathBuf>,
    /// What a person should know of them.
    pub notes: Vec<String>,
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
        lfs::refuse_pointer(&origin, &tokenizer)?;
        let mut config =
            json::read_object_if_present(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default();
        if let Some(map) = json::read_object_if_present(&folder.join(SPECIAL_TOKENS_MAP))? {
            for (name, token) in map {
                config.entry(name).or_insert(token);
            }
        }
        let jinja = folder.join("chat_template.jinja");
        let mut files = Self {
            origin,
            tokenizer,
            config,
            template_from: None,
            notes: Vec::new(),
        };
        if jinja.is_file() {
            files.take_template(&jinja)?;
        } else if let Some(mut object) =
            json::read_object_if_present(&folder.join("chat_template.json"))?
            && let Some(template) = object.remove(CHAT_TEMPLATE)
        {
            files.config.insert(CHAT_TEMPLATE.to_owned(), template);
        }
        Ok(files)
    }

    /// Makes the text of a Jinja file the chat template.
    pub fn take_template(&mut self, jinja: &Path) -> Result<(), PretrainedError> {
        let template =
            std::fs::read_to_string(jinja).map_err(PretrainedError::io(jinja, "read"))?;
        lfs::refuse_pointer(jinja, template.as_bytes())?;
        self.config
            .insert(CHAT_TEMPLATE.to_owned(), Value::String(template));
        self.template_from = Some(jinja.to_path_buf());
        Ok(())
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

    /// The tokens that the configuration names, in the order in which transformers adds those that are not among the added
    /// tokens yet: by their ids, by their roles, and others.
    fn named_tokens(&self) -> Vec<AddedToken> {
        const ROLES: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let token = |value: &Value, special: bool| {
            let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
            let flag =
                |name: &str, usual| value.get(name).and_then(Value::as_bool).unwrap_or(usual);
            let special = flag("special", special);
            let token = AddedToken::from(content, special)
                .lstrip(flag("lstrip", false))
                .rstrip(flag("rstrip", false))
                .single_word(flag("single_word", false))
                .normalized(flag("normalized", !special));
            Some(token)
        };
        let by_id = self
            .config
            .get("added_tokens_decoder")
            .and_then(Value::as_object);
        let mut by_id: Vec<(u64, &Value)> = (by_id.into_iter().flatten())
            .filter_map(|(id, value)| Some((id.parse().ok()?, value)))
            .collect();
        by_id.sort_by_key(|(id, _)| *id);
        let by_id = by_id
            .into_iter()
            .filter_map(|(_, value)| token(value, false));
        let roles = ROLES
            .iter()
            .filter_map(|role| token(self.config.get(&format!("{role}_token"))?, true));
        let others = ["additional_special_tokens", "extra_special_tokens"];
        let others = others
            .iter()
            .filter_map(|name| self.config.get(*name)?.as_array());
        let others = others.flatten().filter_map(|value| token(value, true));
        by_id.chain(roles).chain(others).collect()
    }

    /// Whether a text would be wrong without this token: it ends texts, or the chat template writes it.
    fn needs(&self, token: &str) -> Result<bool, PretrainedError> {
        let template = self.template()?.unwrap_or_default();
        let special_tokens = self.special_tokens();
        let mut roles = (special_tokens.iter()).filter(|(_, named)| named == token);
        Ok(template.contains(token)
            || roles.any(|(role, _)| role == "eos_token" || template.contains(role.as_str())))
    }

    /// The tokenizer with the tokens that the configuration names beside those of its file, which are returned too.
    ///
    /// One for which the model has no embedding (`rows` of them) stays text, unless a conversation needs it: where it is used,
    /// it is an error.
    fn tokenizer(&self, rows: usize) -> Result<(Tokenizer, Vec<AddedToken>), PretrainedError> {
        let wrong = |error| PretrainedError::tokenizer(&self.origin, error);
        foreign::check(&self.tokenizer).map_err(wrong)?;
        let mut tokenizer =
            foreign::call(|| Tokenizer::from_bytes(&self.tokenizer)).map_err(wrong)?;
        let known = tokenizer.get_added_tokens_decoder();
        let known: BTreeSet<&str> = known.values().map(|token| token.content.as_str()).collect();
        let mut named = self.named_tokens();
        named.retain(|token| !known.contains(token.content.as_str()));
        if named.is_empty() {
            return Ok((tokenizer, named));
        }
        // Which ids they have shows where they are added.
        let mut all = tokenizer.clone();
        foreign::call(|| all.add_tokens(named.clone())).map_err(wrong)?;
        let mut added = Vec::new();
        for token in named {
            let id = all.token_to_id(&token.content);
            if id.is_some_and(|id| (id as usize) < rows) || self.needs(&token.content)? {
                added.push(token);
            }
        }
        foreign::call(|| tokenizer.add_tokens(added.clone())).map_err(wrong)?;
        Ok((tokenizer, added))
    }

    /// SHA-256 of what decides tokens, and of the chat template. `added` are the tokens that the configuration adds.
    fn fingerprints(&self, added: &[AddedToken]) -> Result<[String; 2], PretrainedError> {
        let mut tokenizer = Sha256::new();
        tokenizer.update(&self.tokenizer);
        let mut special_tokens = self.special_tokens();
        special_tokens.sort();
        for (name, token) in special_tokens {
            tokenizer.update(format!("\n{name} {token}"));
        }
        for token in added {
            tokenizer.update(format!(
                "\nadded {:?} special={} lstrip={} rstrip={} single_word={} normalized={}",
                token.content,
                token.special,
                token.lstrip,
                token.rstrip,
                token.single_word,
                token.normalized
            ));
        }
        let template = Sha256::digest(self.template()?.unwrap_or_default());
        Ok([hex::encode(tokenizer.finalize()), hex::encode(template)])
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
        options: &ChatOptions,
    ) -> Result<Self, PretrainedError> {
        let origin = files.origin.clone();
        let (mut tokenizer, added) = files.tokenizer(model.vocab_size)?;
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
        let template_from = files
            .template_from
            .clone()
            .unwrap_or_else(|| origin.clone());
        let template = match files.template()? {
            None => None,
            Some(source) => Some(
                ChatTemplate::parse(source, special_tokens, options).map_err(|problem| {
                    PretrainedError::Template {
                        path: template_from.clone(),
                        problem,
                    }
                })?,
            ),
        };
        let (ending, anchors) = match &template {
            Some(template) => (
                Ending::of(&tokenizer, template),
                ending::anchors(&tokenizer, template),
            ),
            None => (Ending::default(), Vec::new()),
        };
        let end_of_turn = ending.token().or(eos);
        let Some(end_of_turn) = end_of_turn else {
            let problem = "no token ends a turn: there is no chat template that shows one, and neither tokenizer_config.json \
                           nor config.json names an eos_token";
            return Err(PretrainedError::tokenizer(&origin, problem));
        };
        if end_of_turn as usize >= model.vocab_size {
            let problem = format!(
                "the token that ends a turn, {:?}, has the id {end_of_turn}, but the model has embeddings for {} only",
                tokenizer.id_to_token(end_of_turn).unwrap_or_default(),
                model.vocab_size
            );
            return Err(PretrainedError::tokenizer(&origin, problem));
        }
        let all_added = tokenizer.get_added_tokens_decoder();
        let special = (all_added.iter()).filter(|(id, token)| token.special || **id == end_of_turn);
        let mut special: Vec<String> = special.map(|(_, token)| token.content.clone()).collect();
        special.sort();
        let beginnings: BTreeSet<char> = special
            .iter()
            .filter_map(|token| token.chars().next())
            .collect();
        stop_ids.retain(|&id| id != end_of_turn);
        stop_ids.insert(0, end_of_turn);
        Ok(Self {
            origin,
            tokenizer,
            template,
            template_from,
            fingerprints: files.fingerprints(&added)?,
            notes: files.notes.clone(),
            ending,
            anchors,
            beginnings: OnceLock::new(),
            special,
            special_beginnings: beginnings.into_iter().collect(),
            vocab_size: model.vocab_size,
            bos,
            end_of_turn,
            stop_ids,
        })
    }

    /// Where it comes from, for error messages.
    pub(crate) fn origin(&self) -> &Path {
        &self.origin
    }

    pub(crate) fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// What the template writes behind an answer.
    pub(crate) fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Tokens at which a text of the template can be taken apart.
    pub(crate) fn anchors(&self) -> &[String] {
        &self.anchors
    }

    /// The file that the chat template came from.
    pub(crate) fn template_from(&self) -> &Path {
        &self.template_from
    }

    pub(crate) fn refused(&self, problem: String) -> PretrainedError {
        PretrainedError::Template {
            path: self.template_from.clone(),
            problem,
        }
    }

    /// What a person should know of it, such as that the vocabulary is faulty.
    pub fn notes(&self) -> Vec<String> {
        let place = self.origin.display();
        (self.notes.iter())
            .map(|note| format!("{place}: {note}"))
            .collect()
    }

    /// What decides tokens: SHA-256 of the tokenizer's file with the tokens that its
    /// configuration names, and of the chat template.
    pub fn fingerprints(&self) -> [&str; 2] {
        self.fingerprints.each_ref().map(String::as_str)
    }

    /// What does the work.
    pub(crate) fn inner(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens of a text. Special tokens written in the text are recognised; `add_special` also puts those around it
    /// that the tokenizer puts around every text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, PretrainedError> {
        let encoding = foreign::call(|| self.tokenizer.encode_fast(text, add_special))
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

    /// The first tokens of a text, without special ones around it: all, or at least `wanted` of those of a long one.
    pub(crate) fn encode_first(
        &self,
        text: &str,
        wanted: usize,
    ) -> Result<FirstTokens, PretrainedError> {
        if text.len() > LONG && wanted < text.len() / 8 {
            let beginnings = self
                .beginnings
                .get_or_init(|| Beginnings::of(&self.tokenizer, self.vocab_size));
            let first = (beginnings.as_ref())
                .map(|known| known.first(text, wanted, |begin| self.encode(begin, false)));
            if let Some(ids) = first.transpose()?.flatten() {
                return Ok(FirstTokens {
                    ids,
                    are_all: false,
                });
            }
        }
        let ids = self.encode(text, false)?;
        Ok(FirstTokens { ids, are_all: true })
    }

    /// Whether the end of turn might stand in a text behind a place, but for the text's end. That it does not is known without
    /// its tokens.
    pub(crate) fn may_end_inside(&self, text: &str, place: usize) -> bool {
        let added = self.tokenizer.get_added_tokens_decoder();
        let Some(token) = added
            .get(&self.end_of_turn)
            .filter(|token| !token.normalized)
        else {
            return true;
        };
        let from = text.floor_char_boundary(place.saturating_sub(token.content.len()));
        let behind = &text[from..];
        let inside = behind.strip_suffix(&token.content).unwrap_or(behind);
        // The second is what a vocabulary with another character for spaces would read as the same.
        inside.contains(&token.content) || inside.contains(&token.content.replace('▁', " "))
    }

    /// The text of tokens; `skip_special` leaves special tokens out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, PretrainedError> {
        foreign::call(|| self.tokenizer.decode(ids, skip_special))
            .map_err(|error| PretrainedError::tokenizer(&self.origin, error))
    }

    /// The conversation as the chat template writes it; `add_generation_prompt` also begins the assistant's next turn.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, PretrainedError> {
        match &self.template {
            Some(template) => {
                let turns = messages.iter().map(|message| template.turn(message));
                let talk = Talk::new(turns.collect(), &JsonObject::new());
                let rendered = template.render(&talk, add_generation_prompt);
                rendered.map_err(|problem| self.refused(problem))
            }
            None => Ok(messages
                .iter()
                .map(Message::text)
                .collect::<Vec<_>>()
                .join("\n")),
        }
    }

    /// Whether the chat template speaks of a role.
    pub fn knows_role(&self, role: &str) -> bool {
        (self.template.as_ref()).is_some_and(|template| template.knows_role(role))
    }

    /// The tokens before a response: [`prompt`](Self::prompt)'s.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, PretrainedError> {
        Ok(self.prompt(messages)?.into_ids())
    }

    /// Sees to the begin-of-text token: a template writes it itself, if the model wants one, and without a template it is put
    /// where the tokenizer has it before every text. Repeated ones are taken away; how many is returned.
    pub(crate) fn begin_once(&self, ids: &mut Vec<u32>) -> Result<usize, PretrainedError> {
        if self.template.is_none() && self.begins_texts_with_bos()? {
            ids.splice(0..0, self.bos);
        }
        let Some(bos) = self.bos else { return Ok(0) };
        let begins = ids.iter().take_while(|&&id| id == bos).count();
        let repeated = begins.saturating_sub(1);
        ids.drain(..repeated);
        Ok(repeated)
    }

    /// The first special token that a text holds as text: it would be read as that token.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        // Most texts have no character that such a token begins with.
        if !text.contains(&self.special_beginnings[..]) {
            return None;
        }
        let found = |token: &&String| text.contains(token.as_str());
        self.special.iter().find(found).map(String::as_str)
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
        let message = |role: &str| Message::new(role, "?");
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
    pub fn without_end_of_turn<'a>(&self, text: &'a str) -> &'a str {
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
