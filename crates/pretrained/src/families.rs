//! What differs between the architectures, as their `config.json` says it.

use serde_json::Value;

use crate::config::{Activation, LayerAttention, SUPPORTED_MODEL_TYPES};
use crate::json::Fields;
use crate::{PretrainedError, Rope, RopeScaling};

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
    Phi3,
}

impl Family {
    pub fn of(fields: &Fields) -> Result<Self, PretrainedError> {
        match fields.text("model_type")? {
            Some("llama") => Ok(Self::Llama),
            Some("mistral") => Ok(Self::Mistral),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("qwen3") => Ok(Self::Qwen3),
            Some("gemma3_text") => Ok(Self::Gemma3),
            Some("phi3") => Ok(Self::Phi3),
            Some(other) => Err(PretrainedError::UnknownModelType {
                path: fields.path.to_path_buf(),
                field: "model_type",
                found: other.to_owned(),
                supported: SUPPORTED_MODEL_TYPES.join(", "),
            }),
            None => Err(fields.wrong(
                "model_type",
                format!("one of {}", SUPPORTED_MODEL_TYPES.join(", ")),
            )),
        }
    }

    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3_text",
            Self::Phi3 => "phi3",
        }
    }

    /// The default of transformers' configuration classes.
    pub fn default_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Phi3 => 4096,
            Self::Mistral | Self::Gemma3 => 4096 * 32,
            Self::Qwen2 | Self::Qwen3 => 32768,
        }
    }

    /// ε where the file has none, as in transformers' configuration classes.
    pub fn default_epsilon(self) -> f64 {
        match self {
            Self::Phi3 => 1e-5,
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 | Self::Gemma3 => 1e-6,
        }
    }

    /// The width of a head where it is not the hidden size over the number of heads.
    pub fn default_head_dim(self) -> Option<usize> {
        match self {
            Self::Qwen3 => Some(128),
            Self::Gemma3 => Some(256),
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Phi3 => None,
        }
    }

    /// The number of key and value heads. `null`, and for Llama and Phi-3 absence, means one for each query head;
    /// transformers' other defaults are constants of one model size, so that here the field must be written out.
    pub fn key_value_heads(self, fields: &Fields, heads: usize) -> Result<usize, PretrainedError> {
        const FIELD: &str = "num_key_value_heads";
        let may_be_absent = matches!(self, Self::Llama | Self::Phi3);
        match fields.count(FIELD)? {
            Some(count) => Ok(count),
            None if may_be_absent || fields.object.contains_key(FIELD) => Ok(heads),
            None => Err(fields.wrong(FIELD, "a whole number above 0")),
        }
    }

    /// Qwen2 always has biases on q, k and v, whatever its configuration says. Where another configuration asks for
    /// biases, the output projection has one too, and no published model does.
    pub fn attention_bias(self, fields: &Fields) -> Result<bool, PretrainedError> {
        if self == Self::Qwen2 {
            return Ok(true);
        }
        match fields.flag("attention_bias", false)? {
            false => Ok(false),
            true => Err(fields.wrong(
                "attention_bias",
                format!("false for a {} model", self.model_type()),
            )),
        }
    }

    pub fn activation(self, fields: &Fields) -> Result<Activation, PretrainedError> {
        let (field, known, activation) = match self {
            Self::Gemma3 => (
                "hidden_activation",
                &["gelu_pytorch_tanh"][..],
                Activation::GeluTanh,
            ),
            _ => ("hidden_act", &["silu", "swish"][..], Activation::Silu),
        };
        match fields.text(field)? {
            Some(found) if !known.contains(&found) => {
                Err(fields.wrong(field, format!("\"{}\"", known[0])))
            }
            _ => Ok(activation),
        }
    }

    /// What every layer sees, and how it tells positions apart.
    pub fn attention(
        self,
        fields: &Fields,
        layers: usize,
        context: usize,
    ) -> Result<Vec<LayerAttention>, PretrainedError> {
        if self == Self::Gemma3 {
            return gemma_attention(fields, layers, context);
        }
        let windows = match self {
            // transformers: 4096 where the field is absent, none where it is null.
            Self::Mistral if !fields.object.contains_key("sliding_window") => {
                vec![Some(4096); layers]
            }
            Self::Mistral | Self::Phi3 => vec![fields.count("sliding_window")?; layers],
            Self::Qwen2 | Self::Qwen3 => qwen_windows(fields, layers)?,
            Self::Llama | Self::Gemma3 => vec![None; layers],
        };
        let rope = rope(fields, context)?;
        let layer = |window| LayerAttention {
            window,
            rope: rope.clone(),
        };
        Ok(windows.into_iter().map(layer).collect())
    }
}

/// Qwen's layers from `max_window_layers` on have the window, or those that `layer_types` names.
fn qwen_windows(fields: &Fields, layers: usize) -> Result<Vec<Option<usize>>, PretrainedError> {
    let window = match fields.flag("use_sliding_window", false)? {
        true => fields.count("sliding_window")?,
        false => None,
    };
    if window.is_none() {
        return Ok(vec![None; layers]);
    }
    let is_local = match layer_types(fields, layers)? {
        Some(is_local) => is_local,
        None => {
            let first = fields
                .get("max_window_layers")
                .map_or(Some(28), Value::as_u64);
            let first = first.ok_or_else(|| fields.wrong("max_window_layers", "a whole number"))?;
            (0..layers as u64).map(|layer| layer >= first).collect()
        }
    };
    Ok(is_local
        .into_iter()
        .map(|is| window.filter(|_| is))
        .collect())
}

/// Which layers see a window only, where the configuration names the kind of each.
fn layer_types(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>, PretrainedError> {
    const FIELD: &str = "layer_types";
    let Some(types) = fields.get(FIELD) else {
        return Ok(None);
    };
    let kind = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    let kinds: Option<Vec<bool>> =
        (types.as_array()).and_then(|types| types.iter().map(kind).collect());
    match kinds.filter(|kinds| kinds.len() == layers) {
        Some(kinds) => Ok(Some(kinds)),
        None => Err(fields.wrong(
            FIELD,
            format!("\"sliding_attention\" or \"full_attention\" for each of {layers} layers"),
        )),
    }
}

/// Gemma 3's layers see a window and tell positions apart by a rotation of their own, but for one in a few, which sees
/// everything (Gemma Team 2025, section 2). Only the rotation of the latter is stretched.
fn gemma_attention(
    fields: &Fields,
    layers: usize,
    context: usize,
) -> Result<Vec<LayerAttention>, PretrainedError> {
    let window = match fields.count("sliding_window")? {
        Some(window) => window,
        None if fields.object.contains_key("sliding_window") => {
            return Err(fields.wrong("sliding_window", "a whole number above 0"));
        }
        None => 4096,
    };
    let is_local = match layer_types(fields, layers)? {
        Some(is_local) => is_local,
        None => {
            let pattern = match fields.count("sliding_window_pattern")? {
                Some(pattern) => pattern,
                None => fields.count("_sliding_window_pattern")?.unwrap_or(6),
            };
            (1..=layers).map(|layer| layer % pattern != 0).collect()
        }
    };
    let theta = |field: &str, default: f64| Ok(fields.positive(field)?.unwrap_or(default));
    let parameters = fields.nested("rope_parameters", "rope_parameters.")?;
    let by_kind = match &parameters {
        // transformers 5: one for each kind of layer.
        Some(parameters) => {
            for name in ["rope_type", "rope_theta", "factor"] {
                if parameters.get(name).is_some() {
                    return Err(parameters.wrong(name, "one for each kind of layer"));
                }
            }
            let full = parameters.nested("full_attention", "rope_parameters.full_attention.")?;
            [
                full,
                parameters.nested("sliding_attention", "rope_parameters.sliding_attention.")?,
            ]
        }
        None => [fields.nested("rope_scaling", "rope_scaling.")?, None],
    };
    let global = scaled(by_kind[0].as_ref(), theta("rope_theta", 1e6)?, context)?;
    let local = scaled(
        by_kind[1].as_ref(),
        theta("rope_local_base_freq", 1e4)?,
        context,
    )?;
    let layer = |is_local: bool| LayerAttention {
        window: is_local.then_some(window),
        rope: if is_local {
            local.clone()
        } else {
            global.clone()
        },
    };
    Ok(is_local.into_iter().map(layer).collect())
}

/// `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before).
fn rope(fields: &Fields, max_position_embeddings: usize) -> Result<Rope, PretrainedError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let top_level_theta = fields.positive("rope_theta")?;
    let nested = match fields.nested("rope_parameters", "rope_parameters.")? {
        Some(nested) => Some(nested),
        None => fields.nested("rope_scaling", "rope_scaling.")?,
    };
    scaled(
        nested.as_ref(),
        top_level_theta.unwrap_or(DEFAULT_THETA),
        max_position_embeddings,
    )
}

/// A rotary embedding as an object describes it; `theta` is its base where the object names none.
fn scaled(
    nested: Option<&Fields>,
    theta: f64,
    max_position_embeddings: usize,
) -> Result<Rope, PretrainedError> {
    let Some(nested) = nested else {
        return Ok(Rope {
            theta,
            scaling: RopeScaling::None,
        });
    };
    refuse_partial_rotation(nested)?;
    let theta = nested.positive("rope_theta")?.unwrap_or(theta);
    // `type` is the older name of `rope_type`.
    let name = if nested.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    let scaling = match nested.text(name)? {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: nested.required_positive("factor")?,
        },
        Some("llama3") => {
            let low_freq_factor = nested.required_positive("low_freq_factor")?;
            let high_freq_factor = nested.required_positive("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                return Err(nested.wrong(
                    "high_freq_factor",
                    format!("more than low_freq_factor = {low_freq_factor}"),
                ));
            }
            RopeScaling::Llama3 {
                factor: nested.required_positive("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: nested
                    .count("original_max_position_embeddings")?
                    .unwrap_or(max_position_embeddings),
            }
        }
        Some(_) => return Err(nested.wrong(name, "one of default, linear, llama3")),
    };
    Ok(Rope { theta, scaling })
}

pub(crate) fn refuse_partial_rotation(fields: &Fields) -> Result<(), PretrainedError> {
    match fields.positive("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(fields.wrong("partial_rotary_factor", "1")),
    }
}
