//! The decoder: loading, log-probabilities, their gradient.

use burn::tensor::{Device, Tensor, TensorData};
use panacea_kernels::{Heads, Rotation, Visibility, matmul};
use panacea_pretrained::{ModelConfig, Pretrained, TensorF32};
use panacea_svd_lora::{Adapters, FactorSet};

use crate::ModelError;
use crate::batch::PackedBatch;
use crate::head;
use crate::layer::{Context, Layer, RmsNorm, Saved};
use crate::linear::{Linear, Steering};

/// The projections of a layer that can be adapted, by their Hugging Face names.
pub const PROJECTIONS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// What a forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemoryPolicy {
    /// Activations of every layer: fastest.
    #[default]
    Keep,
    /// Inputs of the layers only; each layer runs forward again during backward: about a third of the
    /// memory for half as much time again.
    Recompute,
}

/// A decoder-only transformer of the Llama family on one device, frozen.
#[derive(Debug)]
pub struct Decoder {
    pub(crate) config: ModelConfig,
    pub(crate) device: Device,
    /// `[vocabulary, hidden]`
    embedding: Tensor<2>,
    pub(crate) layers: Vec<Layer>,
    norm: RmsNorm,
    /// `[vocabulary, hidden]`; the embedding itself where they are tied.
    head: Tensor<2>,
    pub(crate) inverse_frequencies: Vec<f32>,
}

/// Log-probabilities of a batch's targets, and what [`Decoder::backward`] needs.
#[derive(Debug)]
pub struct Forward {
    /// log p of every response token, in the order of [`PackedBatch::responses`].
    pub log_probs: Vec<f64>,
    /// Consumed by [`Decoder::backward`].
    pub tape: Tape,
}

/// What a forward pass kept.
#[derive(Debug)]
pub struct Tape {
    layers: Vec<KeptLayer>,
    /// Input of the final norm, `[rows, hidden]`.
    last: Tensor<2>,
    /// ∂log p/∂h of every target, `[targets, hidden]`.
    slopes: Tensor<2>,
}

#[derive(Debug)]
enum KeptLayer {
    Activations(Box<Saved>),
    Input(Box<Tensor<2>>),
}

/// Logits over the vocabulary, row by row.
#[derive(Debug, Clone)]
pub struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// One slice of the vocabulary's length a row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary)
    }

    /// The logits of one row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocabulary..(index + 1) * self.vocabulary]
    }
}

impl Decoder {
    /// Builds the network from a model's files; every missing or misshapen tensor is reported at once.
    pub fn load(pretrained: &Pretrained, device: &Device) -> Result<Self, ModelError> {
        pretrained.check()?;
        let config = pretrained.config().clone();
        let tensor = |name: &str| -> Result<Tensor<2>, ModelError> {
            let TensorF32 { shape, data } = pretrained.tensor(name)?;
            // A vector becomes one row, which broadcasts over a batch.
            let shape = match shape[..] {
                [rows, columns] => [rows, columns],
                _ => [1, data.len()],
            };
            Ok(Tensor::from_data(TensorData::new(data, shape), device))
        };
        let norm = |name: &str| -> Result<RmsNorm, ModelError> {
            Ok(RmsNorm {
                weight: tensor(name)?,
                epsilon: config.rms_norm_eps,
            })
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
                        bias,
                    })
                };
            let qk_norm = if config.qk_norm {
                let q = norm(&format!("{prefix}.self_attn.q_norm.weight"))?;
                Some((q, norm(&format!("{prefix}.self_attn.k_norm.weight"))?))
            } else {
                None
            };
            Ok(Layer {
                heads,
                attention_norm: norm(&format!("{prefix}.input_layernorm.weight"))?,
                q: linear("self_attn", "q_proj", config.attention_bias)?,
                k: linear("self_attn", "k_proj", config.attention_bias)?,
                v: linear("self_attn", "v_proj", config.attention_bias)?,
                o: linear("self_attn", "o_proj", false)?,
                qk_norm,
                mlp_norm: norm(&format!("{prefix}.post_attention_layernorm.weight"))?,
                gate: linear("mlp", "gate_proj", false)?,
                up: linear("mlp", "up_proj", false)?,
                down: linear("mlp", "down_proj", false)?,
            })
        });
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let embedding = tensor("model.embed_tokens.weight")?;
        let head = if config.tie_word_embeddings {
            embedding.clone()
        } else {
            tensor("lm_head.weight")?
        };
        Ok(Self {
            device: device.clone(),
            embedding,
            layers,
            norm: norm("model.norm.weight")?,
            head,
            inverse_frequencies: config.rope.inverse_frequencies(config.head_dim),
            config,
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Names and shapes `[d_out, d_in]` of the matrices that adapters on `modules` stand beside.
    pub fn adapted_shapes(
        &self,
        modules: &[String],
    ) -> Result<Vec<(String, [usize; 2])>, ModelError> {
        if let Some(found) = modules.iter().find(|m| !PROJECTIONS.contains(&m.as_str())) {
            return Err(ModelError::UnknownModule {
                found: found.clone(),
                known: PROJECTIONS.map(str::to_owned).to_vec(),
            });
        }
        let shapes = self.layers.iter().flat_map(|layer| {
            let named = layer.projections().into_iter().zip(PROJECTIONS);
            named
                .filter(|(_, name)| modules.iter().any(|m| m == name))
                .map(|(linear, _)| (linear.name.clone(), linear.shape()))
        });
        Ok(shapes.collect())
    }

    /// Bytes that [`MemoryPolicy::Keep`] keeps of a batch of so many rows, weights and gradients aside.
    pub fn activation_bytes(&self, rows: usize) -> u64 {
        let per_row: usize = self.layers.iter().map(Layer::kept_per_row).sum();
        (rows * per_row * size_of::<f32>()) as u64
    }

    /// log p of every response token of `batch`, `None` for the base model; nothing is kept.
    pub fn log_probs(
        &self,
        batch: &PackedBatch,
        adapters: Option<&Adapters>,
    ) -> Result<Vec<f64>, ModelError> {
        let context = self.context(batch, adapters)?;
        let mut x = self.embed(&batch.tokens);
        for layer in &self.layers {
            (x, _) = layer.forward(x, &context, false);
        }
        let (log_probs, _) =
            head::log_probs(&self.norm.forward(&x), &self.head, &batch.targets, false);
        Ok(log_probs)
    }

    /// log p of every response token of `batch`, and a tape for [`Decoder::backward`].
    pub fn forward(
        &self,
        batch: &PackedBatch,
        adapters: &Adapters,
        memory: MemoryPolicy,
    ) -> Result<Forward, ModelError> {
        let context = self.context(batch, Some(adapters))?;
        let mut x = self.embed(&batch.tokens);
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let keep = memory == MemoryPolicy::Keep;
            let input = x.clone();
            let (y, saved) = layer.forward(x, &context, keep);
            layers.push(match saved {
                Some(saved) => KeptLayer::Activations(Box::new(saved)),
                None => KeptLayer::Input(Box::new(input)),
            });
            x = y;
        }
        let (log_probs, slopes) =
            head::log_probs(&self.norm.forward(&x), &self.head, &batch.targets, true);
        let slopes = slopes.expect("slopes were asked for");
        Ok(Forward {
            log_probs,
            tape: Tape {
                layers,
                last: x,
                slopes,
            },
        })
    }

    /// The gradient of Σ coefficients · log p with respect to U, V, σ and s of every adapter.
    ///
    /// `coefficients` has one number per response token, in the order of [`Forward::log_probs`].
    pub fn backward(
        &self,
        batch: &PackedBatch,
        adapters: &Adapters,
        tape: Tape,
        coefficients: &[f64],
    ) -> Result<FactorSet, ModelError> {
        let context = self.context(batch, Some(adapters))?;
        let steering = context.steering.as_ref().expect("adapters were given");
        let mut gradients = FactorSet::default();
        let d_normed = head::backward(tape.slopes, &batch.targets, coefficients, batch.rows());
        let mut d = self.norm.backward(&tape.last, d_normed, None);
        for (layer, kept) in self.layers.iter().zip(tape.layers).rev() {
            let saved = match kept {
                KeptLayer::Activations(saved) => *saved,
                KeptLayer::Input(x) => layer
                    .forward(*x, &context, true)
                    .1
                    .expect("activations were asked for"),
            };
            d = layer.backward(saved, d, &context, steering, &mut gradients);
        }
        Ok(gradients)
    }

    /// Logits after each of `rows` of the packed batch, in their order: for tests and for short prompts.
    pub fn logits(
        &self,
        batch: &PackedBatch,
        adapters: Option<&Adapters>,
        rows: &[usize],
    ) -> Result<Logits, ModelError> {
        let context = self.context(batch, adapters)?;
        let mut x = self.embed(&batch.tokens);
        for layer in &self.layers {
            (x, _) = layer.forward(x, &context, false);
        }
        let x = x.select(0, head::indices(rows.iter().copied(), &self.device));
        Ok(self.next_logits(x))
    }

    /// Final norm and head: `[n, hidden]` → `[n, vocabulary]`.
    pub(crate) fn logits_of(&self, x: Tensor<2>) -> Tensor<2> {
        matmul(&self.norm.forward(&x), &self.head.clone().transpose())
    }

    /// [`Decoder::logits_of`], on the host.
    pub(crate) fn next_logits(&self, x: Tensor<2>) -> Logits {
        let logits = self.logits_of(x);
        let [_, vocabulary] = logits.dims();
        let values = logits.into_data().try_into_vec_as::<f32>();
        Logits {
            values: values.expect("any float can be an f32"),
            vocabulary,
        }
    }

    /// `[tokens, hidden]`
    pub(crate) fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let indices = head::indices(tokens.iter().map(|&t| t as usize), &self.device);
        self.embedding.clone().select(0, indices)
    }

    /// λ of every row (`[rows × m]`, row by row) with the adapters that they steer.
    pub(crate) fn steering<'a>(&self, adapters: &'a Adapters, preferences: &[f64]) -> Steering<'a> {
        let objectives = adapters.config.objectives.len();
        let values: Vec<f32> = preferences.iter().map(|&w| w as f32).collect();
        let rows = values.len() / objectives;
        let preferences =
            Tensor::from_data(TensorData::new(values, [rows, objectives]), &self.device);
        Steering {
            adapters,
            preferences,
        }
    }

    pub(crate) fn context<'a>(
        &self,
        batch: &PackedBatch,
        adapters: Option<&'a Adapters>,
    ) -> Result<Context<'a>, ModelError> {
        self.check_tokens(batch.tokens.iter().copied())?;
        self.check_tokens(batch.targets.iter().map(|t| t.token))?;
        if let Some(adapters) = adapters {
            let expected = adapters.config.objectives.len();
            if batch.preferences.len() != batch.rows() * expected {
                let found = batch.preferences.len() / batch.rows().max(1);
                return Err(ModelError::PreferenceLength {
                    row: 0,
                    found,
                    expected,
                });
            }
        }
        let Self {
            config,
            device,
            layers,
            ..
        } = self;
        Ok(Context {
            visibility: Visibility::new(
                batch.segments.clone(),
                layers[0].heads,
                config.sliding_window,
                device,
            ),
            rotation: Rotation::new(&batch.positions, &self.inverse_frequencies, device),
            steering: adapters.map(|adapters| self.steering(adapters, &batch.preferences)),
        })
    }

    pub(crate) fn check_tokens(
        &self,
        mut tokens: impl Iterator<Item = u32>,
    ) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        match tokens.find(|&id| id as usize >= vocab_size) {
            Some(id) => Err(ModelError::TokenOutOfRange { id, vocab_size }),
            None => Ok(()),
        }
    }
}
