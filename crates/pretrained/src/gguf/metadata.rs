//! What stands in the metadata of a file that is written. The reader's `config` is the inverse.

use super::file::GgufFile;
use super::keys::{self, of_adapter, of_model};
use super::quant::Format;
use super::write::Value;
use crate::{ModelConfig, RopeScaling};

/// Keys and values, in the order in which they are written.
pub(crate) type Metadata = Vec<(String, Value)>;

/// The version of block layouts that ggml has had since 2023.
const BLOCK_LAYOUTS: u32 = 2;

/// A whole model, but for its tokenizer.
pub(crate) fn for_model(
    architecture: &str,
    name: &str,
    config: &ModelConfig,
    format: Format,
) -> Metadata {
    let mut metadata = vec![
        (keys::ARCHITECTURE.to_owned(), Value::text(architecture)),
        (keys::TYPE.to_owned(), Value::text("model")),
        (keys::NAME.to_owned(), Value::text(name)),
        (keys::FILE_TYPE.to_owned(), Value::U32(file_type(format))),
        (
            keys::QUANTIZATION_VERSION.to_owned(),
            Value::U32(BLOCK_LAYOUTS),
        ),
    ];
    let mut add = |key: &str, value| metadata.push((format!("{architecture}.{key}"), value));
    // The layers of what GGUF files hold are all of one kind.
    let attention = &config.attention[0];
    for (key, size) in [
        (of_model::BLOCK_COUNT, Some(config.num_hidden_layers)),
        (
            of_model::CONTEXT_LENGTH,
            Some(config.max_position_embeddings),
        ),
        (of_model::EMBEDDING_LENGTH, Some(config.hidden_size)),
        (
            of_model::FEED_FORWARD_LENGTH,
            Some(config.intermediate_size),
        ),
        (of_model::VOCAB_SIZE, Some(config.vocab_size)),
        (of_model::HEAD_COUNT, Some(config.num_attention_heads)),
        (of_model::HEAD_COUNT_KV, Some(config.num_key_value_heads)),
        (of_model::KEY_LENGTH, Some(config.head_dim)),
        (of_model::VALUE_LENGTH, Some(config.head_dim)),
        (of_model::ROPE_DIMENSIONS, Some(config.head_dim)),
        (of_model::SLIDING_WINDOW, attention.window),
    ] {
        if let Some(size) = size {
            add(key, Value::U32(u32::try_from(size).unwrap_or(u32::MAX)));
        }
    }
    add(
        of_model::NORM_EPSILON,
        Value::F32(config.rms_norm_eps as f32),
    );
    let rope = &attention.rope;
    add(of_model::ROPE_BASE, Value::F32(rope.theta as f32));
    if let RopeScaling::Linear { factor } = rope.scaling {
        add(of_model::ROPE_SCALING_TYPE, Value::text("linear"));
        add(of_model::ROPE_SCALING_FACTOR, Value::F32(factor as f32));
    }
    metadata
}

/// The metadata of `file`, of whose weights some are written anew; all of them where there is a `format`, which is theirs.
pub(crate) fn for_replaced(file: &GgufFile, format: Option<Format>) -> Metadata {
    let stored = file.stored_metadata().map(|(key, bytes)| {
        let value = match (key, format) {
            (keys::FILE_TYPE, Some(format)) => Value::U32(file_type(format)),
            _ => Value::Stored(bytes.to_vec()),
        };
        (key.to_owned(), value)
    });
    stored.collect()
}

/// A LoRA: at scale 1 it adds alpha / rank · B A.
pub(crate) fn for_adapter(architecture: &str, task: &str, alpha: f32) -> Metadata {
    [
        (keys::ARCHITECTURE, Value::text(architecture)),
        (keys::TYPE, Value::text("adapter")),
        (keys::NAME, Value::text(task)),
        (of_adapter::TYPE, Value::text("lora")),
        (of_adapter::ALPHA, Value::F32(alpha)),
        (of_adapter::TASK, Value::text(task)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// `enum llama_ftype` of llama.cpp's `llama.h`.
fn file_type(format: Format) -> u32 {
    match format {
        Format::F16 => 1,
        Format::Q8_0 => 7,
        Format::Bf16 => 32,
        _ => 0,
    }
}
