//! A decoder as data.

use std::path::Path;

use serde::Serialize;

use crate::{PretrainedError, Rope};

/// The architectures that can be opened, by their Hugging Face `model_type`.
pub const SUPPORTED_MODEL_TYPES: [&str; 6] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"];

/// The attention of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerAttention {
    /// Each position sees only this many last positions, itself included.
    pub window: Option<usize>,
    /// The rotary position embedding.
    pub rope: Rope,
}

/// What the gate of a gated MLP goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Activation {
    /// x · sigmoid(x): SwiGLU.
    Silu,
    /// x · Φ(x) with the usual approximation of Φ by tanh: GeGLU.
    GeluTanh,
}

/// A decoder as data, validated: what there is of the Llama family and its relatives, layer by layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// One of [`SUPPORTED_MODEL_TYPES`].
    pub model_type: String,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Dimensions of one head; even.
    pub head_dim: usize,
    /// ε of every RMS norm.
    pub rms_norm_eps: f64,
    /// What each layer's attention sees, and how it tells positions apart.
    pub attention: Vec<LayerAttention>,
    /// Softmax is over q·k / √ of this; [`head_dim`](Self::head_dim) in most models.
    pub query_pre_attn_scalar: f64,
    /// The output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// The query, key and value projections have a bias (the output projection never has).
    pub attention_bias: bool,
    /// Queries and keys are RMS-normalised per head.
    pub qk_norm: bool,
    /// An RMS norm with the stored weight w multiplies by 1 + w.
    pub norm_adds_one: bool,
    /// What attention and the MLP put out is RMS-normalised as well, before it is added to the residual stream.
    pub output_norms: bool,
    /// What the gate of the MLP goes through.
    pub activation: Activation,
    /// The embedding is multiplied by √hidden_size, rounded to the type of the weights.
    pub scaled_embedding: bool,
    /// Logits l become c · tanh(l / c).
    pub final_logit_softcapping: Option<f64>,
    /// The files hold q, k and v of a layer as one matrix, and gate and up as another.
    pub joined_projections: bool,
    /// The longest context that the model is meant for, in tokens.
    pub max_position_embeddings: usize,
    /// The tokens that end a text; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The names of the numbers that a sequence classifier (`LlamaForSequenceClassification` and its like, the form in
    /// which reward models are published) reads from the last token's hidden state, output by output; `None` for a
    /// language model. A classifier has `score.weight` `[labels, hidden]` in place of `lm_head.weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

impl ModelConfig {
    /// The most tokens that can follow a prompt of so many; 0 where there is no room for an answer.
    pub fn room_after(&self, prompt_tokens: usize) -> usize {
        self.max_position_embeddings.saturating_sub(prompt_tokens)
    }

    /// Everything that tells one network from another, as text that stays the same: fingerprints of models, which runs are
    /// held against, come of it. What was not yet known when the first fingerprints were taken stands at its end, where it
    /// is another than it was then.
    pub(crate) fn identity(&self) -> String {
        let Self {
            model_type,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps,
            attention,
            query_pre_attn_scalar,
            tie_word_embeddings,
            attention_bias,
            qk_norm,
            norm_adds_one,
            output_norms,
            activation,
            scaled_embedding,
            final_logit_softcapping,
            joined_projections: _, // How it is stored.
            max_position_embeddings,
            eos_token_ids,
            bos_token_id,
            labels,
        } = self;
        let LayerAttention { rope, window } = &attention[0];
        let mut text = format!(
            "ModelConfig {{ model_type: {model_type:?}, vocab_size: {vocab_size}, hidden_size: {hidden_size}, \
             intermediate_size: {intermediate_size}, num_hidden_layers: {num_hidden_layers}, \
             num_attention_heads: {num_attention_heads}, num_key_value_heads: {num_key_value_heads}, \
             head_dim: {head_dim}, rms_norm_eps: {rms_norm_eps:?}, rope: {rope:?}, \
             tie_word_embeddings: {tie_word_embeddings}, attention_bias: {attention_bias}, qk_norm: {qk_norm}, \
             sliding_window: {window:?}, max_position_embeddings: {max_position_embeddings}, \
             eos_token_ids: {eos_token_ids:?}, bos_token_id: {bos_token_id:?}"
        );
        if labels.is_some() {
            text += &format!(", labels: {labels:?}");
        }
        text += " }";
        let further = (
            query_pre_attn_scalar,
            norm_adds_one,
            output_norms,
            activation,
            scaled_embedding,
            final_logit_softcapping,
        );
        let usual = (
            &(*head_dim as f64),
            &false,
            &false,
            &Activation::Silu,
            &false,
            &None,
        );
        if further != usual {
            text += &format!("{further:?}");
        }
        if attention.iter().any(|layer| *layer != attention[0]) {
            text += &format!("{attention:?}");
        }
        text
    }

    /// What must hold between the fields, whatever file they came from.
    pub(crate) fn validate(&self, path: &Path) -> Result<(), PretrainedError> {
        let (heads, key_value_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % key_value_heads != 0 {
            let expected = format!("a divisor of num_attention_heads = {heads}");
            return Err(PretrainedError::field(
                path,
                "num_key_value_heads",
                key_value_heads,
                expected,
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "an even number, since dimensions are rotated in pairs";
            return Err(PretrainedError::field(
                path,
                "head_dim",
                self.head_dim,
                expected,
            ));
        }
        check_layers(path, "num_hidden_layers", self.num_hidden_layers)?;
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", heads),
            ("head_dim", self.head_dim),
        ] {
            if value > LARGEST {
                return Err(PretrainedError::field(
                    path,
                    field,
                    value,
                    format!("at most {LARGEST}"),
                ));
            }
        }
        Ok(())
    }
}

/// Far above any real model, and low enough that products of three sizes cannot overflow 64 bits.
const LARGEST: usize = 1 << 20;

/// Far above any real model, and low enough that the names of all its tensors take a few megabytes.
const MOST_LAYERS: usize = 1 << 12;

/// Refuses more layers than any model has, before there is anything for each of them.
pub(crate) fn check_layers(path: &Path, field: &str, layers: usize) -> Result<(), PretrainedError> {
    match layers > MOST_LAYERS {
        true => Err(PretrainedError::field(
            path,
            field,
            layers,
            format!("at most {MOST_LAYERS}"),
        )),
        false => Ok(()),
    }
}
