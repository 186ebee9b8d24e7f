//! Models in one GGUF file, presented as if they were Hugging Face models.

mod encode;
mod file;
pub(crate) mod keys;
mod metadata;
mod names;
mod quant;
mod vocabulary;
mod vocabulary_out;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use encode::encode;
pub(crate) use file::{ALIGNMENT, GgufFile, MAGIC, TensorInfo};
pub(crate) use keys::of_tokenizer::TEMPLATE;
pub(crate) use metadata::{Metadata, for_adapter, for_model, for_replaced};
pub(crate) use names::{RowOrder, architecture, gguf_name, hugging_face_name};
pub(crate) use quant::Format;
pub(crate) use vocabulary::tokenizer_files;
pub(crate) use vocabulary_out::tokenizer_metadata;
pub(crate) use write::{Entry, Value, write};

use crate::config::{Activation, LayerAttention, check_layers};
use crate::{ModelConfig, PretrainedError, QuantisedMatrix, Rope, RopeScaling, TensorF32};
use keys::{of_model, of_tokenizer};
use names::ARCHITECTURES;

/// Divisors of the rotary frequencies; part of the configuration here.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// An open GGUF model: its configuration, and its tensors under Hugging Face names.
#[derive(Debug)]
pub(crate) struct GgufModel {
    pub file: GgufFile,
    pub config: ModelConfig,
    tensors: BTreeMap<String, (TensorInfo, RowOrder)>,
}

impl GgufModel {
    pub fn open(path: &Path) -> Result<Self, PretrainedError> {
        let file = GgufFile::open(path)?;
        let config = config(&file)?;
        let tensors = file
            .tensors
            .iter()
            .filter(|(name, _)| *name != ROPE_FACTORS)
            .map(|(name, info)| {
                let order = RowOrder::of(&config, name);
                // A name without a counterpart stays as it is, and is reported when the model is checked.
                let name = hugging_face_name(name).unwrap_or_else(|| name.clone());
                (name, (info.clone(), order))
            })
            .collect();
        Ok(Self {
            file,
            config,
            tensors,
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors
            .get(name)
            .map(|(info, _)| info.shape.as_slice())
    }

    /// The stored bytes and the name of their format.
    pub fn stored(&self, name: &str) -> Option<(&str, &[u8])> {
        let (info, _) = self.tensors.get(name)?;
        Some((info.format.name(), self.file.bytes(info)))
    }

    /// A matrix of whole blocks a row as the file has it, with its rows in the model's order.
    pub fn blocks(&self, name: &str) -> Option<QuantisedMatrix> {
        let (info, order) = self.tensors.get(name)?;
        let &[rows, columns] = info.shape.as_slice() else {
            return None;
        };
        let format = info.format;
        if format.block_weights() == 1 || !columns.is_multiple_of(format.block_weights()) {
            return None;
        }
        let bytes = self.file.bytes(info).to_vec();
        self.file.forget(info);
        Some(QuantisedMatrix {
            format: format.name(),
            shape: [rows, columns],
            bytes: order.undo(
                bytes,
                columns / format.block_weights() * format.block_bytes(),
            ),
        })
    }

    pub fn read(&self, name: &str) -> Option<TensorF32> {
        let (info, order) = self.tensors.get(name)?;
        let data = info.format.dequantise(self.file.bytes(info));
        self.file.forget(info);
        let row = info.shape.iter().skip(1).product();
        Some(TensorF32 {
            shape: info.shape.clone(),
            data: order.undo(data, row),
        })
    }
}

/// The configuration that the metadata and the shapes of the tensors imply.
fn config(file: &GgufFile) -> Result<ModelConfig, PretrainedError> {
    let supported = ARCHITECTURES.join(", ");
    let architecture = match file.text(keys::ARCHITECTURE)? {
        Some(name) if ARCHITECTURES.contains(&name) => name,
        Some(other) => {
            return Err(PretrainedError::UnknownModelType {
                path: file.path.clone(),
                field: keys::ARCHITECTURE,
                found: other.to_owned(),
                supported,
            });
        }
        None => return Err(file.wrong(keys::ARCHITECTURE, format!("one of {supported}"))),
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let required = |name: &str| {
        let key = key(name);
        file.count(&key)?
            .ok_or_else(|| file.wrong(&key, "a whole number above 0"))
    };
    let experts = key("expert_count");
    if file.count(&experts).is_ok_and(|count| count.is_some()) {
        return Err(file.wrong(&experts, "a model without experts"));
    }

    let hidden_size = required(of_model::EMBEDDING_LENGTH)?;
    let heads_key = key(of_model::HEAD_COUNT);
    let num_attention_heads = required(of_model::HEAD_COUNT)?;
    let head_dim = match file.count(&key(of_model::KEY_LENGTH))? {
        Some(length) => length,
        None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
        None => {
            return Err(file.wrong(
                &heads_key,
                format!("a divisor of the embedding length {hidden_size}"),
            ));
        }
    };
    for name in [of_model::VALUE_LENGTH, of_model::ROPE_DIMENSIONS] {
        let key = key(name);
        if file.count(&key)?.is_some_and(|length| length != head_dim) {
            return Err(file.wrong(&key, format!("the size of a head, {head_dim}")));
        }
    }
    let epsilon = key(of_model::NORM_EPSILON);
    let embedding =
        file.tensors
            .get("token_embd.weight")
            .ok_or_else(|| PretrainedError::MissingTensor {
                path: file.path.clone(),
                tensor: "token_embd.weight".to_owned(),
            })?;

    let sliding_window = file.count(&key(of_model::SLIDING_WINDOW))?;
    // Mistral is stored as `llama`; what tells them apart, where a converter kept it, is the window.
    let model_type = if architecture == "llama" && sliding_window.is_some() {
        "mistral"
    } else {
        architecture
    };
    let num_hidden_layers = required(of_model::BLOCK_COUNT)?;
    check_layers(&file.path, &key(of_model::BLOCK_COUNT), num_hidden_layers)?;
    let attention = LayerAttention {
        window: sliding_window,
        rope: rope(file, architecture, head_dim)?,
    };
    let config = ModelConfig {
        model_type: model_type.to_owned(),
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        hidden_size,
        intermediate_size: required(of_model::FEED_FORWARD_LENGTH)?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: file
            .count(&key(of_model::HEAD_COUNT_KV))?
            .unwrap_or(num_attention_heads),
        head_dim,
        rms_norm_eps: file
            .positive(&epsilon)?
            .ok_or_else(|| file.wrong(&epsilon, "a number above 0"))?,
        attention: vec![attention; num_hidden_layers],
        query_pre_attn_scalar: head_dim as f64,
        tie_word_embeddings: !file.tensors.contains_key("output.weight"),
        attention_bias: architecture == "qwen2",
        qk_norm: architecture == "qwen3",
        norm_adds_one: false,
        output_norms: false,
        activation: Activation::Silu,
        scaled_embedding: false,
        final_logit_softcapping: None,
        joined_projections: false,
        max_position_embeddings: required(of_model::CONTEXT_LENGTH)?,
        eos_token_ids: end_tokens(file)?,
        bos_token_id: file.token_id(of_tokenizer::BEGIN)?,
        labels: None,
    };
    config.validate(&file.path)?;
    Ok(config)
}

fn rope(file: &GgufFile, architecture: &str, head_dim: usize) -> Result<Rope, PretrainedError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let theta = file
        .positive(&key(of_model::ROPE_BASE))?
        .unwrap_or(10_000.0);
    let kind = key(of_model::ROPE_SCALING_TYPE);
    let factor = match file.positive(&key(of_model::ROPE_SCALING_FACTOR))? {
        Some(factor) => Some(factor),
        // The name that this had in early files.
        None => file.positive(&key("rope.scale_linear"))?,
    };
    let scaling = match (rope_factors(file, head_dim)?, file.text(&kind)?, factor) {
        (Some(factors), None | Some("none"), _) => RopeScaling::Factors(factors),
        (None, None | Some("linear"), Some(factor)) if factor != 1.0 => {
            RopeScaling::Linear { factor }
        }
        (None, None | Some("none" | "linear"), _) => RopeScaling::None,
        (Some(_), Some(_), _) => {
            return Err(file.wrong(
                &kind,
                format!("\"none\" beside the tensor `{ROPE_FACTORS}`"),
            ));
        }
        (None, Some(_), _) => return Err(file.wrong(&kind, "\"none\" or \"linear\"")),
    };
    Ok(Rope { theta, scaling })
}

/// The divisors of the frequencies, if the file has any that are not 1.
fn rope_factors(file: &GgufFile, head_dim: usize) -> Result<Option<Vec<f32>>, PretrainedError> {
    let Some(info) = file.tensors.get(ROPE_FACTORS) else {
        return Ok(None);
    };
    if info.shape != [head_dim / 2] {
        return Err(PretrainedError::Shape {
            path: file.path.clone(),
            tensor: ROPE_FACTORS.to_owned(),
            found: info.shape.clone(),
            expected: vec![head_dim / 2],
        });
    }
    let factors = info.format.dequantise(file.bytes(info));
    if !factors
        .iter()
        .all(|factor| factor.is_finite() && *factor > 0.0)
    {
        return Err(PretrainedError::damaged(
            &file.path,
            format!("tensor `{ROPE_FACTORS}`: expected numbers above 0"),
        ));
    }
    Ok(factors
        .iter()
        .any(|&factor| factor != 1.0)
        .then_some(factors))
}

/// End of text, of turn, of message: whichever the file names.
fn end_tokens(file: &GgufFile) -> Result<Vec<u32>, PretrainedError> {
    let mut ids = Vec::new();
    for key in of_tokenizer::ENDS {
        if let Some(id) = file.token_id(key)?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}
