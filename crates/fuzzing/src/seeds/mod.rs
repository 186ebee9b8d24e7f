//! What the targets begin with: small valid inputs of every kind.

mod models;
mod records;
mod runs;
mod tokenizers;

use panacea_test_support::{Noise, TinyModel};
use serde_json::{Value, json};

/// As many tokens as the tests' tokenizer has in GGUF files.
const VOCABULARY: usize = 272;

/// The configuration of [`tiny`]'s Llama, with a vocabulary of two.
pub(crate) const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 2, "hidden_size": 2,
    "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2,
    "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true}"#;

/// A model of one layer, two dimensions wide.
pub(crate) fn tiny(model_type: &str) -> TinyModel {
    let mut config: Value = serde_json::from_str(CONFIG).expect("it is JSON");
    config["model_type"] = json!(model_type);
    config["vocab_size"] = json!(VOCABULARY);
    let mut noise = Noise(7);
    TinyModel::new(config, |_| noise.weight())
}

/// An input to begin with.
#[derive(Debug, Clone)]
pub struct Seed {
    /// What it shows, as the name of a file.
    pub name: String,
    /// Its bytes.
    pub input: Vec<u8>,
}

/// Seeds in the making.
#[derive(Default)]
struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, name: impl Into<String>, input: impl AsRef<[u8]>) {
        self.0.push(Seed {
            name: name.into(),
            input: input.as_ref().to_vec(),
        });
    }
}

/// The seeds of a target.
///
/// # Panics
/// If there is no target of this name.
pub fn seeds(target: &str) -> Vec<Seed> {
    let make = match target {
        "gguf" => models::ggufs,
        "safetensors" => models::weights,
        "config_json" => models::configs,
        "tokenizer_json" => tokenizers::tokenizers,
        "tokenizer_config" => tokenizers::tokenizer_configs,
        "chat_template" => tokenizers::templates,
        "records" => records::records,
        "parquet" => records::parquets,
        "points" => runs::points,
        "front" => runs::fronts,
        "profile" => runs::profiles,
        "configuration" => runs::configurations,
        "run" => runs::runs,
        "adapter" => runs::adapters,
        other => panic!("there is no target {other}"),
    };
    let mut seeds = Seeds::default();
    make(&mut seeds);
    seeds.0
}
