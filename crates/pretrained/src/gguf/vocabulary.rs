//! The tokenizer and chat template in a GGUF file's metadata, as the files that Hugging Face would have.
//!
//! Two kinds exist for the supported families: byte-level BPE with a list of merges (`gpt2`), and SentencePiece BPE with a
//! score for each piece (`llama`), from which the merges follow.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::GgufFile;
use super::keys::of_tokenizer::{
    ADD_BEGIN, ADD_END, ADD_SPACE, BEGIN, ENDS, MERGES, MODEL, PADDING, PRE, SCORES, TEMPLATE,
    TOKEN_TYPES, TOKENS, UNKNOWN, token_type,
};
use crate::PretrainedError;
use crate::beginnings::{LLAMA3_WORDS, QWEN2_WORDS};
use crate::tokenizer::TokenizerFiles;

/// `tokenizer.json` and `tokenizer_config.json`, made from the metadata.
pub(crate) fn tokenizer_files(file: &GgufFile) -> Result<TokenizerFiles, PretrainedError> {
    let Some(model) = file.text(MODEL)? else {
        return Err(PretrainedError::NoTokenizer {
            path: file.path.clone(),
            looked_for: "the metadata key tokenizer.ggml.model",
        });
    };
    let vocabulary = Vocabulary::read(file)?;
    let tokenizer = match model {
        "gpt2" => byte_level(file, &vocabulary)?,
        "llama" => sentencepiece(file, &vocabulary)?,
        _ => {
            return Err(file.wrong(
                MODEL,
                "\"gpt2\" (byte-level BPE) or \"llama\" (SentencePiece BPE)",
            ));
        }
    };
    let mut notes = Vec::new();
    if let Some(template) = file.text(TEMPLATE)? {
        notes.extend(vocabulary.mistyped(template));
    }
    Ok(TokenizerFiles {
        origin: file.path.clone(),
        tokenizer: tokenizer.to_string().into_bytes(),
        config: tokenizer_config(file, &vocabulary)?,
        template_from: None,
        notes,
    })
}

/// The tokens by their ids, and what kind each is.
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i64>,
    /// Tokens that the metadata names as beginning or ending a text: special whatever their type.
    named: BTreeSet<u32>,
}

impl Vocabulary {
    fn read(file: &GgufFile) -> Result<Self, PretrainedError> {
        let tokens = file
            .texts(TOKENS)?
            .ok_or_else(|| file.wrong(TOKENS, "an array of strings"))?;
        let types = match file.integers(TOKEN_TYPES)? {
            None => vec![token_type::NORMAL; tokens.len()],
            Some(types) if types.len() == tokens.len() => types,
            Some(_) => {
                return Err(file.wrong(
                    TOKEN_TYPES,
                    format!("one number for each of {} tokens", tokens.len()),
                ));
            }
        };
        let mut named = BTreeSet::new();
        for key in [BEGIN].into_iter().chain(ENDS) {
            if let Some(id) = file.token_id(key)? {
                if id as usize >= tokens.len() {
                    return Err(file.wrong(key, format!("an id below {}", tokens.len())));
                }
                named.insert(id);
            }
        }
        let vocabulary = Self {
            tokens,
            types,
            named,
        };
        vocabulary.refuse_duplicates(file)?;
        Ok(vocabulary)
    }

    fn refuse_duplicates(&self, file: &GgufFile) -> Result<(), PretrainedError> {
        let mut first: HashMap<&str, usize> = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(earlier) = first.insert(token, id) {
                let problem = format!("`{TOKENS}`: tokens {earlier} and {id} are both {token:?}");
                return Err(PretrainedError::tokenizer(&file.path, problem));
            }
        }
        Ok(())
    }

    /// Converters fill the vocabulary up to the embedding's rows with such tokens; no text must ever match them.
    fn is_padding(&self, id: usize) -> bool {
        self.types[id] == token_type::UNUSED && self.tokens[id].starts_with("[PAD")
    }

    fn is_special(&self, id: usize) -> bool {
        matches!(self.types[id], token_type::CONTROL | token_type::UNKNOWN)
            || self.named.contains(&(id as u32))
    }

    /// Says which tokens the chat template writes whole and the file has as ordinary text, so that they are taken apart.
    fn mistyped(&self, template: &str) -> Option<String> {
        let looks_like_control = |token: &str| {
            let brackets = [("<", ">"), ("[", "]")];
            let mut inside = brackets
                .iter()
                .filter_map(|(open, close)| token.strip_prefix(open)?.strip_suffix(close));
            inside.any(|name| name.len() > 2 && !name.contains(char::is_whitespace))
        };
        let found: Vec<String> = (0..self.tokens.len())
            .filter(|&id| self.types[id] == token_type::NORMAL && !self.is_special(id))
            .map(|id| &self.tokens[id])
            .filter(|token| looks_like_control(token) && template.contains(token.as_str()))
            .map(|token| format!("{token:?}"))
            .collect();
        (!found.is_empty()).then(|| {
            format!(
                "the chat template writes {}, which the vocabulary has as ordinary text: texts are taken apart there, as \
                 models are not trained; convert the file again, or name the original tokenizer's folder (model.tokenizer)",
                found.join(", ")
            )
        })
    }

    fn ids(&self) -> Map<String, Value> {
        (0..self.tokens.len())
            .filter(|&id| !self.is_padding(id))
            .map(|id| (self.tokens[id].clone(), json!(id)))
            .collect()
    }

    /// Tokens that are found in a text before it is split into words.
    fn added_tokens(&self) -> Vec<Value> {
        (0..self.tokens.len())
            .filter(|&id| self.is_special(id) || self.types[id] == token_type::USER_DEFINED)
            .map(|id| {
                json!({
                    "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": self.is_special(id)
                })
            })
            .collect()
    }
}

/// Special tokens by their names in `tokenizer_config.json` and their keys here.
pub(super) const ROLES: [(&str, &str); 4] = [
    ("bos_token", BEGIN),
    ("eos_token", ENDS[0]),
    ("unk_token", UNKNOWN),
    ("pad_token", PADDING),
];

fn tokenizer_config(
    file: &GgufFile,
    vocabulary: &Vocabulary,
) -> Result<Map<String, Value>, PretrainedError> {
    let mut config = Map::new();
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    for (role, key) in ROLES {
        if let Some(id) = file.token_id(key)?
            && let Some(token) = vocabulary.tokens.get(id as usize)
            // Named here, a filler would become a token that texts match.
            && (vocabulary.is_special(id as usize) || !vocabulary.is_padding(id as usize))
        {
            config.insert(role.to_owned(), json!(token));
        }
    }
    if let Some(template) = file.text(TEMPLATE)? {
        config.insert("chat_template".to_owned(), json!(template));
    }
    Ok(config)
}

/// Byte-level BPE, as GPT-2, Llama 3, SmolLM and Qwen have it.
fn byte_level(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Value, PretrainedError> {
    let merges = file
        .texts(MERGES)?
        .ok_or_else(|| file.wrong(MERGES, "an array of strings"))?;
    let merges = merges
        .iter()
        .map(|merge| merge.split_once(' '))
        .collect::<Option<Vec<(&str, &str)>>>()
        .ok_or_else(|| file.wrong(MERGES, "pairs of tokens with a space between"))?;
    let style = WordSplit::of(file)?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": style.normalizer(),
        "pre_tokenizer": style.pre_tokenizer(),
        "post_processor": around_text(file, vocabulary, style == WordSplit::Llama3)?,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": style.ignores_merges(), "vocab": vocabulary.ids(), "merges": merges
        }
    }))
}

/// How a text is split into words before byte pairs are merged within each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordSplit {
    Gpt2,
    SmolLm,
    Llama3,
    Qwen2,
}

impl WordSplit {
    /// Every one, with the names that it goes by; the first is the one to write.
    pub(super) const ALL: [(Self, &[&str]); 4] = [
        (Self::Gpt2, &["gpt-2", "gpt2", "default"]),
        (Self::SmolLm, &["smollm"]),
        (Self::Llama3, &["llama-bpe", "llama3", "llama-v3"]),
        (Self::Qwen2, &["qwen2", "deepseek-r1-qwen"]),
    ];

    /// Files from before `tokenizer.ggml.pre` existed are taken to split as GPT-2 does.
    fn of(file: &GgufFile) -> Result<Self, PretrainedError> {
        let Some(name) = file.text(PRE)? else {
            return Ok(Self::Gpt2);
        };
        let known = (Self::ALL.iter()).find(|(_, names)| names.contains(&name));
        known.map(|(split, _)| *split).ok_or_else(|| {
            let expected =
                "one of smollm, llama-bpe, qwen2, gpt-2; or use the model's tokenizer.json";
            file.wrong(PRE, expected)
        })
    }

    /// The name to write.
    pub(super) fn name(self) -> &'static str {
        let own = Self::ALL.iter().find(|(split, _)| *split == self);
        own.map_or("", |(_, names)| names[0])
    }

    /// Whether a word that is a token is taken as it is, whatever the merges say.
    pub(super) fn ignores_merges(self) -> bool {
        self == Self::Llama3
    }

    pub(super) fn normalizer(self) -> Value {
        if self == Self::Qwen2 {
            json!({"type": "NFC"})
        } else {
            Value::Null
        }
    }

    pub(super) fn pre_tokenizer(self) -> Value {
        let bytes = |split_words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": split_words});
        let words = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let stages = match self {
            Self::Gpt2 => vec![bytes(true)],
            Self::SmolLm => vec![
                json!({"type": "Digits", "individual_digits": true}),
                bytes(true),
            ],
            Self::Llama3 => vec![words(LLAMA3_WORDS), bytes(false)],
            Self::Qwen2 => vec![words(QWEN2_WORDS), bytes(false)],
        };
        json!({"type": "Sequence", "pretokenizers": stages})
    }
}

/// SentencePiece BPE, as Llama 1, 2 and Mistral have it, in the form that transformers converts it to.
fn sentencepiece(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Value, PretrainedError> {
    const SPACE: &str = "▁";
    let scores = file
        .floats(SCORES)?
        .ok_or_else(|| file.wrong(SCORES, "an array of numbers"))?;
    if scores.len() != vocabulary.tokens.len() {
        let expected = format!("one score for each of {} tokens", vocabulary.tokens.len());
        return Err(file.wrong(SCORES, expected));
    }
    let unknown = file.token_id(UNKNOWN)?.unwrap_or(0);
    let unknown = vocabulary.tokens.get(unknown as usize);
    let prefix_space = file.flag(ADD_SPACE)?.unwrap_or(true);

    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix_space {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": around_text(file, vocabulary, true)?,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary.ids(), "merges": merges_from_scores(vocabulary, &scores)
        }
    }))
}

/// The merges that lead to the pieces of a SentencePiece BPE model, best first.
///
/// SentencePiece merges the neighbours whose joint piece has the highest score. As a list of merges: every way to split a
/// piece into two others, by falling score of the piece; splits of one piece by the ids of the parts.
fn merges_from_scores<'a>(vocabulary: &'a Vocabulary, scores: &[f64]) -> Vec<(&'a str, &'a str)> {
    // Control and byte pieces are not made from text.
    let pieces: HashMap<&str, usize> = (0..vocabulary.tokens.len())
        .filter(|&id| {
            !vocabulary.is_special(id)
                && vocabulary.types[id] != token_type::BYTE
                && !vocabulary.is_padding(id)
        })
        .map(|id| (vocabulary.tokens[id].as_str(), id))
        .collect();
    // Long pieces have many places to cut at, and few that leave parts as long as pieces are.
    let lengths: HashSet<usize> = pieces.keys().map(|piece| piece.len()).collect();
    let mut merges: Vec<(f64, usize, usize)> = Vec::new();
    for (piece, &id) in &pieces {
        for (cut, _) in piece.char_indices().skip(1) {
            if !(lengths.contains(&cut) && lengths.contains(&(piece.len() - cut))) {
                continue;
            }
            let (left, right) = piece.split_at(cut);
            if let (Some(&left), Some(&right)) = (pieces.get(left), pieces.get(right)) {
                merges.push((scores[id], left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    merges
        .into_iter()
        .map(|(_, left, right)| {
            (
                vocabulary.tokens[left].as_str(),
                vocabulary.tokens[right].as_str(),
            )
        })
        .collect()
}

/// The special tokens that are put around a whole text.
fn around_text(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    bos_by_default: bool,
) -> Result<Value, PretrainedError> {
    let mut before = Vec::new();
    let mut after = Vec::new();
    let mut special_tokens = Map::new();
    for (add, key, default, place) in [
        (ADD_BEGIN, BEGIN, bos_by_default, &mut before),
        (ADD_END, ENDS[0], false, &mut after),
    ] {
        if !file.flag(add)?.unwrap_or(default) {
            continue;
        }
        let id = file
            .token_id(key)?
            .ok_or_else(|| file.wrong(key, "a token id, since it is added to every text"))?;
        // `Vocabulary::read` has checked the id.
        let token = &vocabulary.tokens[id as usize];
        place.push(json!({"SpecialToken": {"id": token, "type_id": 0}}));
        special_tokens.insert(
            token.clone(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        );
    }
    if special_tokens.is_empty() {
        return Ok(Value::Null);
    }
    let around = |sequence: &str| {
        let text = json!({"Sequence": {"id": sequence, "type_id": 0}});
        [before.clone(), vec![text], after.clone()].concat()
    };
    let pair = [around("A"), around("B")].concat();
    Ok(json!({
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": pair,
        "special_tokens": special_tokens
    }))
}
