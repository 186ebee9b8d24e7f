//! Models with made-up weights, as Hugging Face folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::tokenizer::{tokenizer_config, tokenizer_json};

/// A model in memory: what its files say.
#[derive(Clone)]
pub struct TinyModel {
    /// `config.json`.
    pub config: Value,
    /// Shape and elements of every tensor, by Hugging Face's names.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// A configuration of two small layers; `extra` is merged in.
pub fn tiny_config(model_type: &str, extra: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2
    });
    for (key, value) in extra.as_object().expect("keys with values") {
        config[key] = value.clone();
    }
    config
}

/// Numbers that look random and are the same everywhere.
pub struct Noise(pub u64);

impl Noise {
    /// 31 bits.
    #[allow(clippy::should_implement_trait)] // It never ends.
    pub fn next(&mut self) -> u32 {
        // Constants of Knuth's MMIX generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// In −1..1, exactly representable in 16 bits.
    pub fn weight(&mut self) -> f32 {
        (self.next() % 255) as f32 / 128.0 - 127.0 / 128.0
    }
}

impl TinyModel {
    /// The tensors that a model of `config` has, with `weight(name)` for every element.
    pub fn new(config: Value, mut weight: impl FnMut(&str) -> f32) -> Self {
        let size = |key: &str| config[key].as_u64().expect("a size") as usize;
        let (hidden, middle, vocabulary) = (
            size("hidden_size"),
            size("intermediate_size"),
            size("vocab_size"),
        );
        let head_dim = size("head_dim");
        let (q, kv) = (
            size("num_attention_heads") * head_dim,
            size("num_key_value_heads") * head_dim,
        );
        let model_type = config["model_type"].as_str().expect("a model type");
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, shape: &[usize]| {
            let count = shape.iter().product();
            let data: Vec<f32> = (0..count).map(|_| weight(&name)).collect();
            tensors.insert(name, (shape.to_vec(), data));
        };
        add("model.embed_tokens.weight".into(), &[vocabulary, hidden]);
        add("model.norm.weight".into(), &[hidden]);
        if config["tie_word_embeddings"] == json!(false) {
            add("lm_head.weight".into(), &[vocabulary, hidden]);
        }
        for layer in 0..size("num_hidden_layers") {
            let mut add =
                |name: &str, shape: &[usize]| add(format!("model.layers.{layer}.{name}"), shape);
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            if model_type == "gemma3_text" {
                add("pre_feedforward_layernorm.weight", &[hidden]);
                add("post_feedforward_layernorm.weight", &[hidden]);
            }
            if model_type == "phi3" {
                add("self_attn.qkv_proj.weight", &[q + 2 * kv, hidden]);
                add("self_attn.o_proj.weight", &[hidden, q]);
                add("mlp.gate_up_proj.weight", &[2 * middle, hidden]);
                add("mlp.down_proj.weight", &[hidden, middle]);
                continue;
            }
            for (name, rows) in [("q", q), ("k", kv), ("v", kv)] {
                add(&format!("self_attn.{name}_proj.weight"), &[rows, hidden]);
                if model_type == "qwen2" {
                    add(&format!("self_attn.{name}_proj.bias"), &[rows]);
                }
                if ["qwen3", "gemma3_text"].contains(&model_type) && name != "v" {
                    add(&format!("self_attn.{name}_norm.weight"), &[head_dim]);
                }
            }
            add("self_attn.o_proj.weight", &[hidden, q]);
            add("mlp.gate_proj.weight", &[middle, hidden]);
            add("mlp.up_proj.weight", &[middle, hidden]);
            add("mlp.down_proj.weight", &[hidden, middle]);
        }
        Self { config, tensors }
    }

    /// A model whose activations stay in the range that trained ones have: norms near 1, other weights
    /// within `spread` of 0.
    pub fn well_behaved(config: Value, spread: f32) -> Self {
        let mut noise = Noise(5);
        // Gemma's norms multiply by 1 + w.
        let norm = if config["model_type"] == json!("gemma3_text") {
            0.0
        } else {
            1.0
        };
        Self::new(config, |name| {
            let centre = if name.contains("norm") { norm } else { 0.0 };
            centre + noise.weight() * spread
        })
    }

    /// The same model with the embedding for its head.
    pub fn tied(mut self) -> Self {
        self.config["tie_word_embeddings"] = json!(true);
        self.tensors.remove("lm_head.weight");
        self
    }

    /// Writes a Hugging Face folder with the byte-level tokenizer.
    pub fn write(&self, folder: &Path) {
        self.write_without_tokenizer(folder);
        write_json(&folder.join("tokenizer.json"), &tokenizer_json());
        write_json(&folder.join("tokenizer_config.json"), &tokenizer_config());
    }

    /// Writes configuration and weights.
    pub fn write_without_tokenizer(&self, folder: &Path) {
        write_json(&folder.join("config.json"), &self.config);
        write_safetensors(&folder.join("model.safetensors"), self.tensors.iter());
    }
}

/// Writes a JSON file.
pub fn write_json(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).expect("the folder is writable");
}

/// Writes 32-bit tensors with the format's reference implementation.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a String, &'a (Vec<usize>, Vec<f32>))>,
) {
    let bytes = |data: &Vec<f32>| data.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, (shape, data))| (name.clone(), shape.clone(), bytes(data)))
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let dtype = safetensors::Dtype::F32;
        let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes);
        (name.clone(), view.expect("shape and bytes belong together"))
    });
    safetensors::serialize_to_file(views, None, path).expect("the folder is writable");
}
