//! Prompts and responses against what transformers makes of them.

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
        config: object(json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": template})),
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
