//! A decoder from a model's files, or with random weights.

use std::collections::BTreeMap;

use burn_tensor::{DType, Device, Distribution, FloatDType, Tensor, TensorData};
use panacea_kernels::{Gate, Heads};
use panacea_pretrained::{Activation, LayerAttention, ModelConfig, Pretrained, TensorF32};

use crate::decoder::{AttentionKind, Decoder};
use crate::error::ModelError;
use crate::layer::{Layer, RmsNorm};
use crate::linear::Linear;

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
        pretrained.check()?;
        Self::assemble(pretrained.config().clone(), device, |name| {
            let TensorF32 { shape, data } = pretrained.tensor(name)?;
            // A vector becomes one row, which broadcasts over a batch.
            Ok(match shape[..] {
                [rows, columns] => {
                    let data = TensorData::new(data, [rows, columns]);
                    Tensor::from_data(data, (device, DType::from(weights)))
                }
                _ => {
                    let shape = [1, data.len()];
                    Tensor::from_data(TensorData::new(data, shape), device)
                }
            })
        })
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
        Self::assemble(config, device, |name| {
            Ok(match shapes[name][..] {
                [rows, columns] => {
                    let spread = Distribution::Normal(0.0, 0.02);
                    Tensor::random([rows, columns], spread, (device, DType::from(weights)))
                }
                _ if has_centred_norms => Tensor::zeros([1, shapes[name][0]], device),
                _ => Tensor::ones([1, shapes[name][0]], device),
            })
        })
    }

    /// The network of tensors that are asked for by name, `[1, n]` where the file has `[n]`.
    fn assemble(
        config: ModelConfig,
        device: &Device,
        tensor: impl Fn(&str) -> Result<Tensor<2>, ModelError>,
    ) -> Result<Self, ModelError> {
        let norm = |name: &str| -> Result<RmsNorm, ModelError> {
            let weight = tensor(name)?;
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
                        Some(tensor(&format!("{name}.bias"))?)
                    } else {
                        None
                    };
                    let weight = tensor(&format!("{name}.weight"))?;
                    Ok(Linear {
                        name: format!("layers.{index}.{projection}"),
                        weight,
                        packed: None,
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
        let embedding = tensor("model.embed_tokens.weight")?;
        // A classifier has no such head; its own, `score.weight`, is a `ValueHead`.
        let head = if config.tie_word_embeddings || config.labels.is_some() {
            embedding.clone()
        } else {
            tensor("lm_head.weight")?
        };
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
            head,
            packed_head: None,
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
