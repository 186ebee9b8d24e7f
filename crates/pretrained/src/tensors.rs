//! The tensors that a model is made of: one table for loading, checking, exporting and GGUF.

use std::ops::Range;

use crate::ModelConfig;

/// The head of a sequence classifier, `[labels, hidden]`. Transformers' has no bias.
pub(crate) const SCORE: &str = "score.weight";

/// The embedding, `[vocabulary, hidden]`.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";

/// The last norm, `[hidden]`.
pub(crate) const NORM: &str = "model.norm.weight";

/// The head of a language model, `[vocabulary, hidden]`.
pub(crate) const HEAD: &str = "lm_head.weight";

/// The modules of a layer by their names in Hugging Face's files and in GGUF's.
pub(crate) const LAYER: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Tensors outside of layers by their names in Hugging Face's files and in GGUF's.
pub(crate) const OUTSIDE: [(&str, &str); 3] = [
    (EMBEDDING, "token_embd.weight"),
    (NORM, "output_norm.weight"),
    (HEAD, "output.weight"),
];

/// Matrices that some models store as one, one below the other, and the name of the whole.
const JOINED: [(&str, &[&str]); 2] = [
    (
        "self_attn.qkv_proj",
        &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    ),
    ("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"]),
];

/// A tensor as it stands in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub name: String,
    pub shape: Vec<usize>,
    /// Name and shape of the tensors that it consists of, one below the other; mostly itself alone.
    pub parts: Vec<(String, Vec<usize>)>,
}

/// Where a tensor stands in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name of what is stored.
    pub stored: String,
    /// Its rows there.
    pub rows: Range<usize>,
    pub shape: Vec<usize>,
}

impl ModelConfig {
    /// Every tensor that the model is made of: its Hugging Face name and its shape. Matrices that the files hold as one
    /// stand here one by one.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;

        let mut tensors = vec![(EMBEDDING.to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[hidden]);
            for (projection, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                add(&format!("self_attn.{projection}.weight"), &[rows, hidden]);
                if self.attention_bias {
                    add(&format!("self_attn.{projection}.bias"), &[rows]);
                }
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("self_attn.o_proj.weight", &[hidden, queries]);
            add("post_attention_layernorm.weight", &[hidden]);
            if self.output_norms {
                add("pre_feedforward_layernorm.weight", &[hidden]);
                add("post_feedforward_layernorm.weight", &[hidden]);
            }
            add("mlp.gate_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.up_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.down_proj.weight", &[hidden, self.intermediate_size]);
        }
        tensors.push((NORM.to_owned(), vec![hidden]));
        if let Some(labels) = &self.labels {
            tensors.push((SCORE.to_owned(), vec![labels.len(), hidden]));
        } else if !self.tie_word_embeddings {
            tensors.push((HEAD.to_owned(), vec![self.vocab_size, hidden]));
        }
        tensors
    }

    /// The tensors as they stand in the files.
    pub(crate) fn stored_tensors(&self) -> Vec<Stored> {
        let mut stored: Vec<Stored> = Vec::new();
        for (name, shape) in self.tensors() {
            let joined = match self.joined_projections {
                true => joined_name(&name),
                false => None,
            };
            match (joined, stored.last_mut()) {
                (Some(joined), Some(whole)) if whole.name == joined => {
                    whole.shape[0] += shape[0];
                    whole.parts.push((name, shape));
                }
                (joined, _) => stored.push(Stored {
                    name: joined.unwrap_or_else(|| name.clone()),
                    shape: shape.clone(),
                    parts: vec![(name, shape)],
                }),
            }
        }
        stored
    }

    /// Where each tensor stands in the files, by its name.
    pub(crate) fn places(&self) -> Vec<(String, Place)> {
        let mut places = Vec::new();
        for stored in self.stored_tensors() {
            let mut start = 0;
            for (part, shape) in stored.parts {
                let rows = start..start + shape[0];
                start = rows.end;
                let place = Place {
                    stored: stored.name.clone(),
                    rows,
                    shape,
                };
                places.push((part, place));
            }
        }
        places
    }
}

/// `model.layers.3.self_attn.q_proj.weight` → `model.layers.3.self_attn.qkv_proj.weight`, of what may be joined.
fn joined_name(name: &str) -> Option<String> {
    JOINED.iter().find_map(|(whole, parts)| {
        let part = parts.iter().find(|part| name.contains(**part))?;
        Some(name.replace(part, whole))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_matrices_have_the_name_of_the_whole() {
        let name = |name: &str| joined_name(name);
        let layer = "model.layers.3";
        assert_eq!(
            name(&format!("{layer}.self_attn.k_proj.weight")),
            Some(format!("{layer}.self_attn.qkv_proj.weight"))
        );
        assert_eq!(
            name(&format!("{layer}.mlp.up_proj.weight")),
            Some(format!("{layer}.mlp.gate_up_proj.weight"))
        );
        assert_eq!(name(&format!("{layer}.mlp.down_proj.weight")), None);
    }
}
