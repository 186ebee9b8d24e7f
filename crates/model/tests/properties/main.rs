//! What must hold for every family of models.

#[path = "../common/mod.rs"]
mod common;
mod generation;
mod passes;
mod prefixes;

use common::config;
use panacea_model::{PackedBatch, Sequence};
use serde_json::{Value, json};

const FIRST: [f64; 2] = [0.8, 0.2];
const SECOND: [f64; 2] = [0.1, 0.9];

fn families() -> Vec<Value> {
    let llama3 = json!({ "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16 } });
    vec![
        config("llama", json!({})),
        config("llama", json!({ "tie_word_embeddings": false })),
        config("llama", llama3),
        config("mistral", json!({ "sliding_window": 4 })),
        config("qwen2", json!({})),
        config("qwen3", json!({})),
        config(
            "gemma3_text",
            json!({
                "hidden_act": null, "sliding_window": 3, "sliding_window_pattern": 2,
                "query_pre_attn_scalar": 9, "rope_scaling": {"rope_type": "linear", "factor": 8.0}
            }),
        ),
        config(
            "gemma3_text",
            json!({ "hidden_act": null, "sliding_window": 4, "final_logit_softcapping": 2.0 }),
        ),
        config("phi3", json!({ "sliding_window": 4 })),
    ]
}

/// Wide enough for the products that decoding has of its own.
fn wide() -> Value {
    config(
        "llama",
        json!({ "hidden_size": 64, "intermediate_size": 128, "head_dim": 16 }),
    )
}

fn two_prompts() -> PackedBatch {
    PackedBatch::new(&[
        Sequence {
            prompt: &[3, 4, 5],
            responses: vec![&[6, 7, 8, 2], &[9, 2]],
            preference: &FIRST,
        },
        Sequence {
            prompt: &[10, 11],
            responses: vec![&[12], &[13, 14, 15]],
            preference: &SECOND,
        },
    ])
    .unwrap()
}
