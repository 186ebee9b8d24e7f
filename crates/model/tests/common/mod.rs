//! Tiny models with random weights, and the golden values.
#![allow(dead_code)] // Every test file uses a part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_svd_lora::{Adapters, Part, SvdLoraConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

pub const OBJECTIVES: usize = 2;

/// The folder of golden values: the project's own, or the one that `PANACEA_GOLDEN` names.
pub fn golden() -> PathBuf {
    std::env::var_os("PANACEA_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/golden"),
        PathBuf::from,
    )
}

pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// A configuration of two small layers; `extra` is merged in.
pub fn config(model_type: &str, extra: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
        "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Writes a model folder with random weights of `config`, and loads it.
pub fn tiny_model(config: &Value, device: &Device) -> Decoder {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
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
    let model_type = config["model_type"].as_str().unwrap();

    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    shapes.insert("model.embed_tokens.weight".into(), vec![vocabulary, hidden]);
    shapes.insert("model.norm.weight".into(), vec![hidden]);
    if config["tie_word_embeddings"] == json!(false) {
        shapes.insert("lm_head.weight".into(), vec![vocabulary, hidden]);
    }
    for layer in 0..size("num_hidden_layers") {
        let mut put = |name: &str, shape: &[usize]| {
            shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec());
        };
        put("input_layernorm.weight", &[hidden]);
        put("post_attention_layernorm.weight", &[hidden]);
        put("self_attn.q_proj.weight", &[q, hidden]);
        put("self_attn.k_proj.weight", &[kv, hidden]);
        put("self_attn.v_proj.weight", &[kv, hidden]);
        put("self_attn.o_proj.weight", &[hidden, q]);
        put("mlp.gate_proj.weight", &[middle, hidden]);
        put("mlp.up_proj.weight", &[middle, hidden]);
        put("mlp.down_proj.weight", &[hidden, middle]);
        if model_type == "qwen2" {
            put("self_attn.q_proj.bias", &[q]);
            put("self_attn.k_proj.bias", &[kv]);
            put("self_attn.v_proj.bias", &[kv]);
        }
        if model_type == "qwen3" {
            put("self_attn.q_norm.weight", &[head_dim]);
            put("self_attn.k_norm.weight", &[head_dim]);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let buffers: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let offset = if name.contains("norm") { 1.0f32 } else { 0.0 };
            let count: usize = shape.iter().product();
            let values = (0..count).map(|_| offset + (rng.random::<f32>() - 0.5) * 0.8);
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = buffers.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    std::fs::write(
        dir.path().join("model.safetensors"),
        safetensors::serialize(views, None).unwrap(),
    )
    .unwrap();
    Decoder::load(&Pretrained::open(dir.path()).unwrap(), device).unwrap()
}

/// Adapters on every projection of `model`, with random values in all four kinds of tensors.
pub fn random_adapters(model: &Decoder, device: &Device) -> Adapters {
    let modules = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ];
    let config = SvdLoraConfig {
        base_model: "tiny".into(),
        base_fingerprint: String::new(),
        rank: 3,
        objectives: (0..OBJECTIVES).map(|i| format!("objective {i}")).collect(),
        alpha: 3.0,
        target_modules: modules.map(str::to_owned).to_vec(),
    };
    let shapes = model.adapted_shapes(&config.target_modules).unwrap();
    let mut adapters = Adapters::init(config, &shapes, 0.3, 9, device);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for factors in adapters.factors.0.values_mut() {
        for part in [Part::Sigma, Part::S] {
            let tensor = factors.part_mut(part);
            let [rows, columns] = tensor.dims();
            let values: Vec<f32> = (0..rows * columns)
                .map(|_| rng.random::<f32>() - 0.5)
                .collect();
            *tensor = Tensor::from_data(TensorData::new(values, [rows, columns]), device);
        }
    }
    adapters
}

pub fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().try_to_vec::<f32>().unwrap()
}
