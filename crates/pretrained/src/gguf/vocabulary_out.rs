//! A Hugging Face tokenizer as a GGUF file's metadata. The inverse of `vocabulary`, whose kinds of tokenizers it writes;
//! one that is none of them is refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::keys::of_tokenizer::{
    ADD_BEGIN, ADD_END, ENDS, MERGES, MODEL, PRE, TEMPLATE, TOKEN_TYPES, TOKENS, token_type,
};
use super::vocabulary::{ROLES, WordSplit};
use super::write::Value;
use crate::ChatTokenizer;
use crate::tokenizer::TokenizerFiles;

/// The metadata of a byte-level BPE tokenizer for an embedding of `rows` rows. `tokenizer` is
/// what the files make: it knows the tokens at which generation ends, and all that are found before words are split.
///
/// # Errors
/// What cannot be said in such a file.
pub(crate) fn tokenizer_metadata(
    files: &TokenizerFiles,
    rows: usize,
    tokenizer: &ChatTokenizer,
) -> Result<Vec<(String, Value)>, String> {
    let json: Json = serde_json::from_slice(&files.tokenizer)
        .map_err(|error| format!("tokenizer.json is not valid JSON: {error}"))?;
    let model = &json["model"];
    check_model(&json)?;
    let split = word_split(&json)?;
    if model["ignore_merges"].as_bool().unwrap_or(false) != split.ignores_merges() {
        let found = &model["ignore_merges"];
        return Err(format!(
            "tokenizer.json: model.ignore_merges is {found}, which {} in a GGUF file is not",
            split.name()
        ));
    }
    let added = added_tokens(tokenizer)?;
    let (tokens, types) = vocabulary(&model["vocab"], &added, rows)?;
    let id_of = |token: &str| tokens.iter().position(|known| known == token);
    let named = files.special_tokens();
    let role_of = |role: &str| {
        let (_, token) = named.iter().find(|(name, _)| name == role)?;
        id_of(token).map(|id| id as u32)
    };

    let mut metadata = vec![
        (MODEL, Value::text("gpt2")),
        (PRE, Value::text(split.name())),
        (MERGES, Value::Texts(merges(&model["merges"])?)),
    ];
    for (role, key) in ROLES.into_iter().filter(|(_, key)| !ENDS.contains(key)) {
        metadata.extend(role_of(role).map(|id| (key, Value::U32(id))));
    }
    let mut ends: Vec<u32> = role_of("eos_token").into_iter().collect();
    ends.extend(
        tokenizer
            .stop_ids()
            .iter()
            .filter(|&&id| role_of("eos_token") != Some(id)),
    );
    if ends.len() > ENDS.len() {
        return Err(format!(
            "generation ends at the tokens {ends:?}, expected at most {}",
            ENDS.len()
        ));
    }
    metadata.extend((ENDS.into_iter().zip(&ends)).map(|(key, id)| (key, Value::U32(*id))));
    for (key, token) in around_text(&json["post_processor"])? {
        if let Some(token) = &token
            && role_of(if key == ADD_BEGIN {
                "bos_token"
            } else {
                "eos_token"
            }) != id_of(token).map(|id| id as u32)
        {
            return Err(format!(
                "tokenizer.json puts {token:?} around every text, expected the begin-of-text and end-of-text tokens alone"
            ));
        }
        metadata.push((key, Value::Bool(token.is_some())));
    }
    if let Some(template) = files.template().map_err(|error| error.to_string())? {
        metadata.push((TEMPLATE, Value::text(template)));
    }
    metadata.push((TOKENS, Value::Texts(tokens)));
    metadata.push((TOKEN_TYPES, Value::I32s(types)));
    let owned = metadata.into_iter();
    Ok(owned.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Refuses every kind of model but byte-level BPE without options.
fn check_model(json: &Json) -> Result<(), String> {
    let model = &json["model"];
    if model["byte_fallback"] == Json::Bool(true) {
        return Err(
            "tokenizer.json is a SentencePiece tokenizer, which is not written as GGUF here: write --format merged and \
             convert it with llama.cpp's convert_hf_to_gguf.py"
                .to_owned(),
        );
    }
    for (field, found, expected) in [
        ("model.type", &model["type"], "BPE"),
        ("decoder.type", &json["decoder"]["type"], "ByteLevel"),
        ("model.dropout", &model["dropout"], ""),
        (
            "model.continuing_subword_prefix",
            &model["continuing_subword_prefix"],
            "",
        ),
        ("model.end_of_word_suffix", &model["end_of_word_suffix"], ""),
    ] {
        let is_right = match found {
            Json::Null => expected.is_empty(),
            found => found.as_str() == Some(expected),
        };
        if !is_right {
            return Err(format!(
                "tokenizer.json: {field} is {found}, expected a byte-level BPE tokenizer ({expected:?})"
            ));
        }
    }
    Ok(())
}

/// The way of splitting words that the tokenizer has.
fn word_split(json: &Json) -> Result<WordSplit, String> {
    let (normalizer, stages) = (stages(&json["normalizer"]), stages(&json["pre_tokenizer"]));
    let same = |split: &WordSplit| {
        self::stages(&split.normalizer()) == normalizer
            && self::stages(&split.pre_tokenizer()) == stages
    };
    let splits = WordSplit::ALL.into_iter().map(|(split, _)| split);
    splits.into_iter().find(same).ok_or_else(|| {
        format!(
            "tokenizer.json splits words in a way that is not known here (normalizer {}, pre_tokenizer {}); known are {}",
            json["normalizer"],
            json["pre_tokenizer"],
            WordSplit::ALL.map(|(split, _)| split.name()).join(", ")
        )
    })
}

/// The stages of a normalizer or pre-tokenizer, one after the other, without what says nothing about tokens: a stage that
/// stands alone is a sequence of one, and trimmed offsets are where a token is, not which.
fn stages(json: &Json) -> Vec<Json> {
    let nested = ["pretokenizers", "normalizers"];
    if let Some(stages) = nested.iter().find_map(|key| json[*key].as_array()) {
        return stages.iter().flat_map(self::stages).collect();
    }
    let mut stage = json.clone();
    if let Some(stage) = stage.as_object_mut() {
        stage.remove("trim_offsets");
    }
    match stage {
        Json::Null => Vec::new(),
        stage => vec![stage],
    }
}

/// Tokens that are found before words are split: text and type by id.
fn added_tokens(tokenizer: &ChatTokenizer) -> Result<BTreeMap<usize, (String, i64)>, String> {
    let mut added = BTreeMap::new();
    for (id, token) in tokenizer.inner().get_added_tokens_decoder() {
        let content = token.content;
        // What is normalized could differ, where it is not plain ASCII.
        if token.lstrip
            || token.rstrip
            || token.single_word
            || token.normalized && !content.is_ascii()
        {
            return Err(format!(
                "tokenizer.json: the added token {content:?} takes space or words into account, which a GGUF file cannot say"
            ));
        }
        let kind = match token.special {
            true => token_type::CONTROL,
            false => token_type::USER_DEFINED,
        };
        added.insert(id as usize, (content, kind));
    }
    Ok(added)
}

/// Text and type of every token, with fillers up to the rows of the embedding, as converters write them.
fn vocabulary(
    vocab: &Json,
    added: &BTreeMap<usize, (String, i64)>,
    rows: usize,
) -> Result<(Vec<String>, Vec<i32>), String> {
    let empty = Map::new();
    let vocab = vocab.as_object().unwrap_or(&empty);
    let mut tokens: Vec<Option<(String, i64)>> = vec![None; rows];
    let normal = vocab.iter().filter_map(|(token, id)| {
        Some((id.as_u64()? as usize, (token.clone(), token_type::NORMAL)))
    });
    let added = added.iter().map(|(id, token)| (*id, token.clone()));
    for (id, token) in normal.chain(added) {
        let place = tokens.get_mut(id).ok_or_else(|| {
            format!(
                "tokenizer.json has the token {:?} with id {id}, but the model has embeddings for {rows} only",
                token.0
            )
        })?;
        *place = Some(token);
    }
    let filled = tokens.into_iter().enumerate().map(|(id, token)| {
        let (token, kind) = token.unwrap_or_else(|| (format!("[PAD{id}]"), token_type::UNUSED));
        (token, kind as i32)
    });
    Ok(filled.unzip())
}

/// `"a b"` for every merge.
fn merges(json: &Json) -> Result<Vec<String>, String> {
    let merge = |merge: &Json| match merge {
        Json::String(merge) => Some(merge.clone()),
        Json::Array(pair) => match &pair[..] {
            [left, right] => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    let merges = json.as_array().into_iter().flatten().map(merge).collect();
    let merges: Option<Vec<String>> = merges;
    merges
        .filter(|merges| merges.iter().all(|merge| merge.matches(' ').count() == 1))
        .ok_or_else(|| "tokenizer.json: model.merges holds what is no pair of tokens".to_owned())
}

/// The tokens that are put before and behind every text, by their keys.
fn around_text(json: &Json) -> Result<[(&'static str, Option<String>); 2], String> {
    let mut before = None;
    let mut after = None;
    let processors = match json["processors"].as_array() {
        Some(processors) => processors.iter().collect(),
        None => vec![json],
    };
    for processor in processors {
        match processor["type"].as_str() {
            // A byte-level one trims offsets.
            None | Some("ByteLevel") => {}
            Some("TemplateProcessing") => {
                let mut place = &mut before;
                for piece in processor["single"].as_array().into_iter().flatten() {
                    match piece["SpecialToken"]["id"].as_str() {
                        None => place = &mut after,
                        Some(token) if place.is_none() => *place = Some(token.to_owned()),
                        Some(token) => {
                            return Err(format!(
                                "tokenizer.json puts several tokens around every text, {token:?} among them"
                            ));
                        }
                    }
                }
            }
            Some(other) => {
                return Err(format!(
                    "tokenizer.json: a post_processor is {other:?}, expected TemplateProcessing"
                ));
            }
        }
    }
    Ok([(ADD_BEGIN, before), (ADD_END, after)])
}
