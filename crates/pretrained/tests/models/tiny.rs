//! A tiny model of every family, and GGUF files of those that have them.

use std::fs;
use std::path::{Path, PathBuf};

use panacea_test_support::{CHAT_TEMPLATE, MERGES, Noise, SPECIAL_TOKENS, TinyModel, tokens};
use serde_json::{Value, json};

pub const VOCAB: usize = 272;
const HIDDEN: usize = 32;
pub const HEADS: usize = 4;
pub const KEY_VALUE_HEADS: usize = 2;

/// Two layers with random weights that are exactly representable in 16 bits.
pub fn tiny_model(model_type: &str) -> TinyModel {
    let head_dim = if model_type == "qwen3" {
        16
    } else {
        HIDDEN / HEADS
    };
    let config = json!({
        "architectures": ["ForCausalLM"], "model_type": model_type, "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS, "head_dim": head_dim, "hidden_act": "silu",
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e5, "tie_word_embeddings": false,
        "sliding_window": if ["mistral", "gemma3_text"].contains(&model_type) { json!(16) } else { Value::Null },
        "bos_token_id": 0, "eos_token_id": 1
    });
    let mut noise = Noise(7);
    TinyModel::new(config, |_| noise.weight())
}

/// A GGUF file in the making.
#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub metadata: Vec<(String, Meta)>,
    /// Name, axes (fastest first), number of the format, bytes.
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

/// A metadata value.
#[derive(Clone)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

pub fn text(value: &str) -> Meta {
    Meta::Text(value.to_owned())
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Meta {
    fn put(&self, bytes: &mut Vec<u8>) {
        let mut array = |kind: u32, count: usize| {
            bytes.extend(9_u32.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::Texts(values) => array(8, values.len()),
            Self::I32s(values) => array(5, values.len()),
            Self::F32s(values) => array(6, values.len()),
            Self::U32(_) => bytes.extend(4_u32.to_le_bytes()),
            Self::F32(_) => bytes.extend(6_u32.to_le_bytes()),
            Self::Bool(_) => bytes.extend(7_u32.to_le_bytes()),
            Self::Text(_) => bytes.extend(8_u32.to_le_bytes()),
        }
        match self {
            Self::U32(value) => bytes.extend(value.to_le_bytes()),
            Self::F32(value) => bytes.extend(value.to_le_bytes()),
            Self::Bool(value) => bytes.push(u8::from(*value)),
            Self::Text(value) => put_text(bytes, value),
            Self::Texts(values) => values.iter().for_each(|value| put_text(bytes, value)),
            Self::I32s(values) => values
                .iter()
                .for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::F32s(values) => values
                .iter()
                .for_each(|value| bytes.extend(value.to_le_bytes())),
        }
    }
}

impl Gguf {
    /// The model as llama.cpp's converter would write it, with the byte-level tokenizer.
    pub fn of(model: &TinyModel) -> Self {
        let number = |name: &str| model.config[name].as_u64().unwrap() as u32;
        let model_type = model.config["model_type"].as_str().unwrap();
        let architecture = if model_type == "mistral" {
            "llama"
        } else {
            model_type
        };
        let mut gguf = Self {
            version: 3,
            metadata: Vec::new(),
            tensors: Vec::new(),
        };
        gguf.set("general.architecture", text(architecture));
        for (key, name) in [
            ("block_count", "num_hidden_layers"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("attention.key_length", "head_dim"),
            ("rope.dimension_count", "head_dim"),
        ] {
            gguf.set(&format!("{architecture}.{key}"), Meta::U32(number(name)));
        }
        if let Some(window) = model.config["sliding_window"].as_u64() {
            gguf.set(
                &format!("{architecture}.attention.sliding_window"),
                Meta::U32(window as u32),
            );
        }
        gguf.set(
            &format!("{architecture}.attention.layer_norm_rms_epsilon"),
            Meta::F32(1e-5),
        );
        gguf.set(&format!("{architecture}.rope.freq_base"), Meta::F32(1e5));
        gguf.set_byte_level_tokenizer();
        for (name, (shape, data)) in &model.tensors {
            let data = match (
                architecture,
                name.contains("q_proj"),
                name.contains("k_proj"),
            ) {
                ("llama", true, _) => interleaved(data, HEADS),
                ("llama", _, true) => interleaved(data, KEY_VALUE_HEADS),
                _ => data.clone(),
            };
            let axes = shape.iter().rev().map(|&axis| axis as u64).collect();
            let bytes = data.iter().flat_map(|value| value.to_le_bytes()).collect();
            gguf.tensors.push((gguf_name(name), axes, 0, bytes));
        }
        gguf
    }

    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
    }

    pub fn remove(&mut self, key: &str) {
        self.metadata.retain(|(other, _)| other != key);
    }

    fn set_byte_level_tokenizer(&mut self) {
        let mut tokens = tokens();
        // Types: normal 1, control 3, unused 5; the vocabulary is filled up to the rows of the embedding.
        let mut types = vec![1; tokens.len()];
        types[..SPECIAL_TOKENS.len()].fill(3);
        for id in tokens.len()..VOCAB {
            tokens.push(format!("[PAD{id}]"));
            types.push(5);
        }
        self.set("tokenizer.ggml.model", text("gpt2"));
        self.set("tokenizer.ggml.pre", text("gpt-2"));
        self.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
        self.set("tokenizer.ggml.token_type", Meta::I32s(types));
        let merges = MERGES
            .iter()
            .map(|(left, right)| format!("{left} {right}"))
            .collect();
        self.set("tokenizer.ggml.merges", Meta::Texts(merges));
        self.set("tokenizer.ggml.bos_token_id", Meta::U32(0));
        self.set("tokenizer.ggml.eos_token_id", Meta::U32(1));
        self.set("tokenizer.chat_template", text(CHAT_TEMPLATE));
    }

    pub fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, u32, Vec<u8>) {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.0 == name)
            .unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        const ALIGNMENT: usize = 32;
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut bytes, key);
            value.put(&mut bytes);
        }
        let mut data = Vec::new();
        for (name, axes, format, contents) in &self.tensors {
            put_text(&mut bytes, name);
            bytes.extend((axes.len() as u32).to_le_bytes());
            axes.iter()
                .for_each(|axis| bytes.extend(axis.to_le_bytes()));
            bytes.extend(format.to_le_bytes());
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend(contents);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(data);
        bytes
    }

    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("tiny.gguf");
        fs::write(&path, self.bytes()).unwrap();
        path
    }
}

/// llama.cpp's order of query and key rows: `reshape(heads, 2, d/2, ..).swapaxes(1, 2)`.
fn interleaved(data: &[f32], heads: usize) -> Vec<f32> {
    let head = data.len() / heads;
    let row = if head > HIDDEN { HIDDEN } else { 1 };
    let rows = head / row;
    let mut stored = Vec::new();
    for head in data.chunks(head) {
        for j in 0..rows / 2 {
            for h in 0..2 {
                let from = (h * rows / 2 + j) * row;
                stored.extend_from_slice(&head[from..from + row]);
            }
        }
    }
    stored
}

fn gguf_name(name: &str) -> String {
    name.replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("lm_head", "output")
        .replace("model.layers.", "blk.")
        .replace("input_layernorm", "attn_norm")
        .replace("post_attention_layernorm", "ffn_norm")
        .replace("self_attn.q_proj", "attn_q")
        .replace("self_attn.k_proj", "attn_k")
        .replace("self_attn.v_proj", "attn_v")
        .replace("self_attn.o_proj", "attn_output")
        .replace("self_attn.q_norm", "attn_q_norm")
        .replace("self_attn.k_norm", "attn_k_norm")
        .replace("mlp.gate_proj", "ffn_gate")
        .replace("mlp.up_proj", "ffn_up")
        .replace("mlp.down_proj", "ffn_down")
}
