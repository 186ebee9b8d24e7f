//! Small models that are valid.

use panacea_test_support::{Noise, TinyModel};
use serde_json::{Value, json};

/// As many tokens as the tests' tokenizer has in GGUF files.
pub const VOCABULARY: usize = 272;

/// The configuration of [`tiny`]'s Llama, with a vocabulary of two.
pub const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 2, "hidden_size": 2,
    "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2,
    "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true}"#;

/// A model of one layer, two dimensions wide.
pub fn tiny(model_type: &str) -> TinyModel {
    let mut config: Value = serde_json::from_str(CONFIG).expect("it is JSON");
    config["model_type"] = json!(model_type);
    config["vocab_size"] = json!(VOCABULARY);
    let mut noise = Noise(7);
    TinyModel::new(config, |_| noise.weight())
}
