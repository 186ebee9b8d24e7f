//! A decoder from a model's files, or with random weights.

use std::collections::BTreeMap;

use burn_tensor::{DType, Device, Distribution, FloatDType, Tensor, TensorData};
use panacea_kernels::{Gate, Heads};
use panacea_pretrained::{Activation, LayerAttention, ModelConfig, Pretrained, TensorF32};

use crate::decoder::{AttentionKind, Decoder};
use crate::error::ModelError;
use crate::layer::{Layer, RmsNorm};
use crate::linear::Linear;
use crate::matrix::Matrix;

impl Decoder {
    /// Builds the network from a model's files, all of it in 32 bits; every missing or misshapen tensor is reported at
    /// once.
    pub fn load(pretrained: &Pretrained, device: &Device) -> Result<Self, ModelError> {
        Self::load_in(pretrained, device, FloatDType::F32)
    }

    /// [`Decoder::load`] with weight matrices of another type, `F16` or `BF16`. Products with them are computed in that
    /// type; norms, softmax, adapters, gradients and what passes from layer to layer have 32 bits.
    pub fn load_in(
        pretrained: &Pretrained,
        device: &Device,
        weights: FloatDType,
    ) -> Result<Self, ModelError> {
        Self::load_with(pretrained, device, |name| {
            let matrix = dense(pretrained, name, (device, DType::from(weights)))?;
            Ok(Matrix::Dense(matrix))
        })
    }

    /// The network of a model's files, with the matrices that `matrix` makes of their names.
    pub(crate) fn load_with(
        pretrained: &Pretrained,
        device: &Device,
        matrix: impl Fn(&str) -> Result<Matrix, ModelError>,
    ) -> Result<Self, ModelError> {
        pretrained.check()?;
        let vector = |name: &str| -> Result<_, ModelError> {
            // It becomes one row, which broadcasts over a batch.
            let data = pretrained.tensor(name)?.data;
            let shape = [1, data.len()];
            Ok(Tensor::from_data(TensorData::new(data, shape), device))
        };
        Self::assemble(pretrained.config().clone(), device, vector, matrix)
    }

    /// A network with the shapes of `config` and random weights, drawn on the device: to measure the time and memory of
    /// a model without its files.
    pub fn random(
        config: ModelConfig,
        device: &Device,
        weights: FloatDType,
        seed: u64,
    ) -> Result<Self, ModelError> {
        device.seed(seed);
        let has_centred_norms = config.norm_adds_one;
        let shapes: BTreeMap<_, _> = config.tensors().into_iter().collect();
        let vector = |name: &str| {
            let shape = [1, shapes[name][0]];
            Ok(match has_centred_norms {
                true => Tensor::zeros(shape, device),
                false => Tensor::ones(shape, device),
            })
        };
        let matrix = |name: &str| {
            let (shape, spread) = (&shapes[name], Distribution::Normal(0.0, 0.02));
            let shape = [shape[0], shape[1]];
            let matrix = Tensor::random(shape, spread, (device, DType::from(weights)));
            Ok(Matrix::Dense(matrix))
        };
        Self::assemble(config, device, vector, matrix)
    }

    /// The network of vectors and matrices that are asked for by name; a vector is `[1, n]`.
    fn assemble(
        config: ModelConfig,
        device: &Device,
        vector: impl Fn(&str) -> Result<Tensor<2>, ModelError>,
        matrix: impl Fn(&str) -> Result<Matrix, ModelError>,
    ) -> Result<Self, ModelError> {
        let norm = |name: &str| -> Result<RmsNorm, ModelError> {
            let weight = vector(name)?;
            Ok(RmsNorm {
                weight: match config.norm_adds_one {
                    true => weight + 1.0,
                    false => weight,
                },
                epsilon: config.rms_norm_eps,
            })
        };
        // Attention divides by √head_dim. Where a model divides by another root, its norm of the queries makes up for it.
        let query_scale = (config.head_dim as f64 / config.query_pre_attn_scalar).sqrt();
        let mut kinds: Vec<&LayerAttention> = Vec::new();
        for kind in &config.attention {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let gate_kind = match config.activation {
            Activation::Silu => Gate::Silu,
            Activation::GeluTanh => Gate::GeluTanh,
        };
        let heads = Heads {
            kv: config.num_key_value_heads,
            group: config.num_attention_heads / config.num_key_value_heads,
            dim: config.head_dim,
        };
        let layers = (0..config.num_hidden_layers).map(|index| -> Result<Layer, ModelError> {
            let prefix = format!("model.layers.{index}");
            let linear =
                |block: &str, projection: &str, biased: bool| -> Result<Linear, ModelError> {
                    let name = format!("{prefix}.{block}.{projection}");
                    let bias = if biased {
                        Some(vector(&format!("{name}.bias"))?)
                    } else {
                        None
                    };
                    Ok(Linear {
                        name: format!("layers.{index}.{projection}"),
                        weight: matrix(&format!("{name}.weight"))?,
                        bias,
                    })
                };
            let qk_norm = if config.qk_norm {
                let mut q = norm(&format!("{prefix}.self_attn.q_norm.weight"))?;
                if query_scale != 1.0 {
                    q.weight = q.weight * query_scale;
                }
                Some((q, norm(&format!("{prefix}.self_attn.k_norm.weight"))?))
            } else {
                None
            };
            let mlp_norm = match config.output_norms {
                true => "pre_feedforward_layernorm",
                false => "post_attention_layernorm",
            };
            let output_norms = if config.output_norms {
                let attention = norm(&format!("{prefix}.post_attention_layernorm.weight"))?;
                let mlp = norm(&format!("{prefix}.post_feedforward_layernorm.weight"))?;
                Some((attention, mlp))
            } else {
                None
            };
            let attention = &config.attention[index];
            Ok(Layer {
                heads,
                sight: (kinds.iter().position(|kind| *kind == attention))
                    .expect("every kind is there"),
                attention_norm: norm(&format!("{prefix}.input_layernorm.weight"))?,
                q: linear("self_attn", "q_proj", config.attention_bias)?,
                k: linear("self_attn", "k_proj", config.attention_bias)?,
                v: linear("self_attn", "v_proj", config.attention_bias)?,
                o: linear("self_attn", "o_proj", false)?,
                qk_norm,
                output_norms,
                mlp_norm: norm(&format!("{prefix}.{mlp_norm}.weight"))?,
                gate_kind,
                gate: linear("mlp", "gate_proj", false)?,
                up: linear("mlp", "up_proj", false)?,
                down: linear("mlp", "down_proj", false)?,
            })
        });
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let embedding = matrix("model.embed_tokens.weight")?;
        // A classifier has no such head; its own, `score.weight`, is a `ValueHead`.
        let has_own_head = !config.tie_word_embeddings && config.labels.is_none();
        let own_head = has_own_head.then(|| matrix("lm_head.weight")).transpose()?;
        let embedding_scale = config.scaled_embedding.then(|| {
            // Rounded to the type of the weights, as in transformers.
            let scale = TensorData::new(vec![(config.hidden_size as f32).sqrt()], [1]);
            let scale = Tensor::<1>::from_data(scale, (device, embedding.dtype()));
            scale.cast(FloatDType::F32).into_scalar::<f32>()
        });
        Ok(Self {
            device: device.clone(),
            embedding,
            layers,
            norm: norm("model.norm.weight")?,
            own_head,
            attention: (kinds.iter())
                .map(|kind| AttentionKind {
                    window: kind.window,
                    inverse_frequencies: kind.rope.inverse_frequencies(config.head_dim),
                })
                .collect(),
            embedding_scale,
            config,
        })
    }
}

/// A matrix of the model's files as floats, of a type and on a device.
pub(crate) fn dense(
    pretrained: &Pretrained,
    name: &str,
    place: (&Device, DType),
) -> Result<Tensor<2>, ModelError> {
    let TensorF32 { shape, data } = pretrained.tensor(name)?;
    let data = TensorData::new(data, [shape[0], shape[1]]);
    Ok(Tensor::from_data(data, place))
}
