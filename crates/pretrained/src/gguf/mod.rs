//! Models in one GGUF file, presented as if they were Hugging Face models.

mod file;
mod quant;
mod vocabulary;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use file::{GgufFile, MAGIC};
pub(crate) use vocabulary::tokenizer_files;

use crate::config::{Activation, LayerAttention, check_layers};
use crate::tensors::{LAYER, OUTSIDE};
use crate::{ModelConfig, PretrainedError, Rope, RopeScaling, TensorF32};
use file::TensorInfo;

const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];
/// Divisors of the rotary frequencies; part of the configuration here.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// An open GGUF model: its configuration, and its tensors under Hugging Face names.
#[derive(Debug)]
pub(crate) struct GgufModel {
    pub file: GgufFile,
    pub config: ModelConfig,
    tensors: BTreeMap<String, (TensorInfo, RowOrder)>,
}

/// How the rows of a tensor are ordered in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowOrder {
    Kept,
    /// llama.cpp rotates neighbouring dimensions, Hugging Face those half a head apart; for the `llama` architecture the
    /// rows of the query and key projections were reordered within each of `heads` heads to make up for it.
    Interleaved {
        heads: usize,
    },
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
                let order = row_order(&config, name);
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

    pub fn read(&self, name: &str) -> Option<TensorF32> {
        let (info, order) = self.tensors.get(name)?;
        let data = info.format.dequantise(self.file.bytes(info));
        self.file.forget(info);
        let data = match order {
            RowOrder::Kept => data,
            RowOrder::Interleaved { heads } => {
                let row: usize = info.shape[1..].iter().product();
                rotate_half_order(&data, *heads, row)
            }
        };
        Some(TensorF32 {
            shape: info.shape.clone(),
            data,
        })
    }
}

/// Undoes llama.cpp's reordering. Within a head of *d* rows, row 2j + h of the file is row h·d/2 + j of the model.
fn rotate_half_order(data: &[f32], heads: usize, row: usize) -> Vec<f32> {
    let head_rows = data.len() / (heads * row).max(1);
    let half = head_rows / 2;
    let mut ordered = Vec::with_capacity(data.len());
    for head in data.chunks_exact((head_rows * row).max(1)) {
        for position in 0..head_rows {
            let source = 2 * (position % half) + position / half;
            ordered.extend_from_slice(&head[source * row..][..row]);
        }
    }
    ordered
}

fn row_order(config: &ModelConfig, name: &str) -> RowOrder {
    let heads = match name.rsplit('.').nth(1) {
        // Mistral's files are of the `llama` architecture.
        _ if !["llama", "mistral"].contains(&config.model_type.as_str()) => return RowOrder::Kept,
        Some("attn_q") => config.num_attention_heads,
        Some("attn_k") => config.num_key_value_heads,
        _ => return RowOrder::Kept,
    };
    RowOrder::Interleaved { heads }
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`.
fn hugging_face_name(name: &str) -> Option<String> {
    if let Some((ours, _)) = OUTSIDE.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, kind) = rest.split_once('.')?;
    let (module, _) = LAYER.iter().find(|(_, theirs)| *theirs == module)?;
    Some(format!("model.layers.{layer}.{module}.{kind}"))
}

/// The configuration that the metadata and the shapes of the tensors imply.
fn config(file: &GgufFile) -> Result<ModelConfig, PretrainedError> {
    const ARCHITECTURE: &str = "general.architecture";
    let supported = ARCHITECTURES.join(", ");
    let architecture = match file.text(ARCHITECTURE)? {
        Some(name) if ARCHITECTURES.contains(&name) => name,
        Some(other) => {
            return Err(PretrainedError::UnknownModelType {
                path: file.path.clone(),
                field: ARCHITECTURE,
                found: other.to_owned(),
                supported,
            });
        }
        None => return Err(file.wrong(ARCHITECTURE, format!("one of {supported}"))),
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

    let hidden_size = required("embedding_length")?;
    let heads_key = key("attention.head_count");
    let num_attention_heads = required("attention.head_count")?;
    let head_dim = match file.count(&key("attention.key_length"))? {
        Some(length) => length,
        None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
        None => {
            return Err(file.wrong(
                &heads_key,
                format!("a divisor of the embedding length {hidden_size}"),
            ));
        }
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        let key = key(name);
        if file.count(&key)?.is_some_and(|length| length != head_dim) {
            return Err(file.wrong(&key, format!("the size of a head, {head_dim}")));
        }
    }
    let epsilon = key("attention.layer_norm_rms_epsilon");
    let embedding =
        file.tensors
            .get("token_embd.weight")
            .ok_or_else(|| PretrainedError::MissingTensor {
                path: file.path.clone(),
                tensor: "token_embd.weight".to_owned(),
            })?;

    let sliding_window = file.count(&key("attention.sliding_window"))?;
    // Mistral is stored as `llama`; what tells them apart, where a converter kept it, is the window.
    let model_type = if architecture == "llama" && sliding_window.is_some() {
        "mistral"
    } else {
        architecture
    };
    let num_hidden_layers = required("block_count")?;
    check_layers(&file.path, &key("block_count"), num_hidden_layers)?;
    let attention = LayerAttention {
        window: sliding_window,
        rope: rope(file, architecture, head_dim)?,
    };
    let config = ModelConfig {
        model_type: model_type.to_owned(),
        vocab_size: embedding.shape.first().copied().unwrap_or(0),
        hidden_size,
        intermediate_size: required("feed_forward_length")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: file
            .count(&key("attention.head_count_kv"))?
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
        max_position_embeddings: required("context_length")?,
        eos_token_ids: end_tokens(file)?,
        bos_token_id: file.token_id("tokenizer.ggml.bos_token_id")?,
        labels: None,
    };
    config.validate(&file.path)?;
    Ok(config)
}

fn rope(file: &GgufFile, architecture: &str, head_dim: usize) -> Result<Rope, PretrainedError> {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    let theta = file.positive(&key("freq_base"))?.unwrap_or(10_000.0);
    let kind = key("scaling.type");
    let factor = match file.positive(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        // The name that this had in early files.
        None => file.positive(&key("scale_linear"))?,
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
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        if let Some(id) = file.token_id(&format!("tokenizer.ggml.{name}"))?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reordering of llama.cpp's converter, `reshape(heads, 2, d/2, row).swapaxes(1, 2)`, written as loops.
    fn interleave(data: &[f32], heads: usize, head_rows: usize, row: usize) -> Vec<f32> {
        let mut stored = Vec::new();
        for head in 0..heads {
            for j in 0..head_rows / 2 {
                for h in 0..2 {
                    let from = (head * head_rows + h * head_rows / 2 + j) * row;
                    stored.extend_from_slice(&data[from..from + row]);
                }
            }
        }
        stored
    }

    #[test]
    fn row_order_is_restored() {
        let (heads, head_rows, row) = (3, 8, 5);
        let data: Vec<f32> = (0..heads * head_rows * row).map(|i| i as f32).collect();
        let stored = interleave(&data, heads, head_rows, row);
        assert_ne!(stored, data);
        assert_eq!(rotate_half_order(&stored, heads, row), data);
    }

    #[test]
    fn names_are_those_of_hugging_face() {
        let name = |gguf| hugging_face_name(gguf);
        assert_eq!(
            name("blk.12.attn_q.bias").as_deref(),
            Some("model.layers.12.self_attn.q_proj.bias")
        );
        assert_eq!(
            name("blk.0.ffn_norm.weight").as_deref(),
            Some("model.layers.0.post_attention_layernorm.weight")
        );
        assert_eq!(name("output.weight").as_deref(), Some("lm_head.weight"));
        assert_eq!(name("blk.0.ffn_gate_inp.weight"), None);
        assert_eq!(name("blk.x.attn_q.weight"), None);
    }
}
