//! Gemma 3 and Phi-3 against transformers: logits, greedy tokens, and prompts through their chat templates.
//! `datasets/golden/make_families.py` makes the models and the values.

use std::fs;

use panacea_model::{Decoder, Generation, PackedBatch, Request, Sequence};
use panacea_pretrained::{Message, Pretrained};
use panacea_test_support::{floats, golden, golden_path};
use serde_json::Value;

const FAMILIES: [&str; 3] = ["tiny_gemma3", "tiny_gemma3_caps", "tiny_phi3"];

/// The model of a folder with one of its configurations: transformers 5 writes it in another form than published models
/// have it.
fn open(folder: &str, config: &str) -> Pretrained {
    let source = golden_path(folder);
    let copy = tempfile::tempdir().unwrap();
    for file in [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        fs::copy(source.join(file), copy.path().join(file)).unwrap();
    }
    fs::copy(source.join(config), copy.path().join("config.json")).unwrap();
    // The files are mapped: they stay readable when the folder is gone.
    let model = Pretrained::open(copy.path()).unwrap();
    model.tokenizer().unwrap();
    model
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn golden_families_logits() {
    for folder in FAMILIES {
        let expected: Value = golden(&format!("{folder}/expected.json"));
        for config in ["config.json", "config_published.json"] {
            let device = panacea_devices::of_environment();
            let model = Decoder::load(&open(folder, config), &device).unwrap();
            for case in expected["cases"].as_array().unwrap() {
                let ids = ids(&case["ids"]);
                // A response's last token is never read, so that one more is given.
                let response = [&ids[1..], &[0]].concat();
                let sequence = Sequence {
                    prompt: &ids[..1],
                    responses: vec![&response],
                    preference: &[],
                };
                let batch = PackedBatch::new(&[sequence]).unwrap();
                let rows: Vec<usize> = (0..ids.len()).collect();
                let found = model.logits(&batch, None, &rows).unwrap();
                let expected = case["logits"].as_array().unwrap();
                assert_eq!(expected.len(), ids.len());
                for (position, (found, expected)) in found.rows().zip(expected).enumerate() {
                    for (found, expected) in found.iter().zip(floats(expected)) {
                        assert!(
                            (f64::from(*found) - expected).abs() <= 1e-4,
                            "{folder}, {config}, {} tokens, position {position}: {found} against {expected}",
                            ids.len()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn longrope_is_refused_by_name() {
    let message = Pretrained::open(&golden_path("tiny_phi3_longrope"))
        .unwrap_err()
        .to_string();
    for part in ["config.json", "rope_parameters.rope_type", "longrope"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn golden_families_greedy() {
    for folder in FAMILIES {
        let expected: Value = golden(&format!("{folder}/expected.json"));
        let (prompt, tokens) = (
            ids(&expected["greedy"]["prompt"]),
            ids(&expected["greedy"]["tokens"]),
        );
        let device = panacea_devices::of_environment();
        let model = Decoder::load(&open(folder, "config.json"), &device).unwrap();
        let mut generation = Generation::new(&model, 1);
        generation
            .push(Request::greedy(prompt, tokens.len()))
            .unwrap();
        let mut found = Vec::new();
        while found.len() < tokens.len() {
            found.extend(generation.step().unwrap().iter().map(|new| new.token));
        }
        assert_eq!(found, tokens, "{folder}");
    }
}

#[test]
fn golden_families_prompts() {
    for folder in FAMILIES {
        let expected: Value = golden(&format!("{folder}/expected.json"));
        let model = open(folder, "config.json");
        let tokenizer = model.tokenizer().unwrap();
        let messages =
            |value: &Value| -> Vec<Message> { serde_json::from_value(value.clone()).unwrap() };
        let rendered = expected["rendered"].as_array().unwrap();
        let prompts = rendered
            .iter()
            .filter(|case| case["add_generation_prompt"] == true);
        let mut count = 0;
        for case in prompts {
            let found = tokenizer
                .encode_prompt(&messages(&case["messages"]))
                .unwrap();
            assert_eq!(found, ids(&case["ids"]), "{folder}: {}", case["text"]);
            count += 1;
        }
        assert!(count >= 3, "{folder}: {count}");
        for refused in expected["refused"].as_array().unwrap() {
            assert!(
                tokenizer.encode_prompt(&messages(refused)).is_err(),
                "{refused}"
            );
        }
    }
}
