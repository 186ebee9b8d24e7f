//! What GGUF files call architectures and tensors, and how they order rows.

use crate::ModelConfig;
use crate::tensors::{LAYER, OUTSIDE};

/// The architectures whose layout is known here.
pub(crate) const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// The architecture that a model's GGUF file has; none where its layout is not known here.
pub(crate) fn architecture(config: &ModelConfig) -> Option<&'static str> {
    // Mistral's files are of the `llama` architecture.
    let name = match config.model_type.as_str() {
        "mistral" => "llama",
        model_type => model_type,
    };
    (ARCHITECTURES.into_iter()).find(|known| *known == name)
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`.
pub(crate) fn hugging_face_name(name: &str) -> Option<String> {
    if let Some((ours, _)) = OUTSIDE.iter().find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, kind) = rest.split_once('.')?;
    let (module, _) = LAYER.iter().find(|(_, theirs)| *theirs == module)?;
    Some(format!("model.layers.{layer}.{module}.{kind}"))
}

/// `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`.
pub(crate) fn gguf_name(name: &str) -> Option<String> {
    if let Some((_, theirs)) = OUTSIDE.iter().find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (_, module) = LAYER.iter().find(|(ours, _)| *ours == module)?;
    Some(format!("blk.{layer}.{module}.{kind}"))
}

/// How the rows of a tensor are ordered in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    Kept,
    /// llama.cpp rotates neighbouring dimensions, Hugging Face those half a head apart; for the `llama` architecture the
    /// rows of the query and key projections were reordered within each of `heads` heads to make up for it.
    Interleaved {
        heads: usize,
    },
}

impl RowOrder {
    /// The order of the tensor of this GGUF name; what is multiplied onto its rows (a bias, B of a LoRA) has the same.
    pub(crate) fn of(config: &ModelConfig, name: &str) -> Self {
        let module = name.split('.').nth(2);
        let heads = match module {
            _ if architecture(config) != Some("llama") => return Self::Kept,
            Some("attn_q") => config.num_attention_heads,
            Some("attn_k") => config.num_key_value_heads,
            _ => return Self::Kept,
        };
        Self::Interleaved { heads }
    }

    /// From the file's order to Hugging Face's. `row` is the number of values in a row, or of bytes
    /// where these are the data.
    pub(crate) fn undo<T: Copy>(self, data: Vec<T>, row: usize) -> Vec<T> {
        // Row 2j + h of a head of d rows of the file is row h·d/2 + j of the model.
        self.reordered(data, row, |position, half| {
            2 * (position % half) + position / half
        })
    }

    /// From Hugging Face's order to the file's.
    pub(crate) fn apply(self, data: Vec<f32>, row: usize) -> Vec<f32> {
        self.reordered(data, row, |position, half| {
            half * (position % 2) + position / 2
        })
    }

    /// Rows in another order within each head: `source` says from where each comes, given its place and half the rows of a
    /// head.
    fn reordered<T: Copy>(
        self,
        data: Vec<T>,
        row: usize,
        source: impl Fn(usize, usize) -> usize,
    ) -> Vec<T> {
        let Self::Interleaved { heads } = self else {
            return data;
        };
        let head_rows = data.len() / (heads * row).max(1);
        let mut ordered = Vec::with_capacity(data.len());
        for head in data.chunks_exact((head_rows * row).max(1)) {
            for position in 0..head_rows {
                let source = source(position, head_rows / 2);
                ordered.extend_from_slice(&head[source * row..][..row]);
            }
        }
        ordered
    }
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
    fn rows_are_ordered_as_the_converter_does_and_back() {
        let (heads, head_rows) = (3, 8);
        for row in [1, 5] {
            let data: Vec<f32> = (0..heads * head_rows * row).map(|i| i as f32).collect();
            let stored = interleave(&data, heads, head_rows, row);
            assert_ne!(stored, data);
            let order = RowOrder::Interleaved { heads };
            assert_eq!(order.apply(data.clone(), row), stored);
            assert_eq!(order.undo(stored, row), data);
            assert_eq!(RowOrder::Kept.apply(data.clone(), row), data);
        }
    }

    #[test]
    fn names_have_one_counterpart_each() {
        for (gguf, hugging_face) in [
            (
                "blk.12.attn_q.bias",
                "model.layers.12.self_attn.q_proj.bias",
            ),
            (
                "blk.0.ffn_norm.weight",
                "model.layers.0.post_attention_layernorm.weight",
            ),
            ("output.weight", "lm_head.weight"),
        ] {
            assert_eq!(hugging_face_name(gguf).as_deref(), Some(hugging_face));
            assert_eq!(gguf_name(hugging_face).as_deref(), Some(gguf));
        }
        assert_eq!(hugging_face_name("blk.0.ffn_gate_inp.weight"), None);
        assert_eq!(hugging_face_name("blk.x.attn_q.weight"), None);
        assert_eq!(
            gguf_name("model.layers.0.pre_feedforward_layernorm.weight"),
            None
        );
        assert_eq!(gguf_name("score.weight"), None);
    }
}
