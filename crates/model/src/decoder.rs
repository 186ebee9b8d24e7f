//! The decoder: log-probabilities and values of a batch, and their gradients.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_kernels::{Rotation, Visibility, linear_each};
use panacea_pretrained::ModelConfig;
use panacea_svd_lora::{Adapters, FactorSet};

use crate::ModelError;
use crate::batch::PackedBatch;
use crate::head::{self, ValueHead};
use crate::layer::{Context, Layer, RmsNorm, Saved, Sight};
use crate::linear::Mode;
use crate::matrix::Matrix;
use crate::steering::RowSteering;

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

/// A decoder-only transformer of the Llama family or a relative on one device, frozen.
#[derive(Debug)]
pub struct Decoder {
    pub(crate) config: ModelConfig,
    pub(crate) device: Device,
    /// `[vocabulary, hidden]`
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: RmsNorm,
    /// `[vocabulary, hidden]`; where there is none, it is the embedding.
    pub(crate) own_head: Option<Matrix>,
    /// The kinds of attention that its layers have, each once.
    pub(crate) attention: Vec<AttentionKind>,
    /// The embedding is multiplied by this.
    pub(crate) embedding_scale: Option<f32>,
}

/// The attention of some layers.
#[derive(Debug)]
pub(crate) struct AttentionKind {
    /// Each position sees only this many last positions, itself included.
    pub window: Option<usize>,
    pub inverse_frequencies: Vec<f32>,
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

/// What a forward pass of values kept.
#[derive(Debug)]
pub struct ValueTape {
    layers: Vec<KeptLayer>,
    /// Input of the final norm, `[rows, hidden]`.
    last: Tensor<2>,
    /// The hidden state that each value was read from, `[targets, hidden]`.
    states: Tensor<2>,
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
    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What turns the last hidden states into logits, `[vocabulary, hidden]`.
    pub(crate) fn head(&self) -> &Matrix {
        self.own_head.as_ref().unwrap_or(&self.embedding)
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
        let (x, _) = self.through_layers(batch, &context, None);
        let (log_probs, _) = self.target_log_probs(&x, batch, false);
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
        let (last, layers) = self.through_layers(batch, &context, Some(memory));
        let (log_probs, slopes) = self.target_log_probs(&last, batch, true);
        let slopes = slopes.expect("slopes were asked for");
        Ok(Forward {
            log_probs,
            tape: Tape {
                layers,
                last,
                slopes,
            },
        })
    }

    /// log p of every target from what comes out of the last layer, and ∂log p/∂h if `keep`.
    fn target_log_probs(
        &self,
        last: &Tensor<2>,
        batch: &PackedBatch,
        keep: bool,
    ) -> (Vec<f64>, Option<Tensor<2>>) {
        let (h, cap) = (self.norm.forward(last), self.config.final_logit_softcapping);
        head::log_probs(&h, self.head().weight(false), &batch.targets, cap, keep)
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
        let d_normed = head::backward(tape.slopes, &batch.targets, coefficients, batch.rows());
        self.back_through_layers(batch, adapters, &tape.last, tape.layers, d_normed)
    }

    /// v = h Wᵀ + b of every target, with h the hidden state of its row: the value of all tokens up to that row. In a
    /// batch of [`PackedBatch::new`], that is all before the response token. `[targets × outputs]`, ordered as
    /// [`Forward::log_probs`].
    pub fn values(
        &self,
        batch: &PackedBatch,
        adapters: Option<&Adapters>,
        head: &ValueHead,
    ) -> Result<Vec<f64>, ModelError> {
        let context = self.context(batch, adapters)?;
        let (x, _) = self.through_layers(batch, &context, None);
        Ok(head.apply(&self.norm.forward(&x), &batch.targets).0)
    }

    /// [`Decoder::values`], and a tape for [`Decoder::values_backward`].
    pub fn values_forward(
        &self,
        batch: &PackedBatch,
        adapters: &Adapters,
        head: &ValueHead,
        memory: MemoryPolicy,
    ) -> Result<(Vec<f64>, ValueTape), ModelError> {
        let context = self.context(batch, Some(adapters))?;
        let (last, layers) = self.through_layers(batch, &context, Some(memory));
        let (values, states) = head.apply(&self.norm.forward(&last), &batch.targets);
        let tape = ValueTape {
            layers,
            last,
            states,
        };
        Ok((values, tape))
    }

    /// The gradient of Σ coefficients · v with respect to the adapters and the head; `coefficients` are
    /// `[targets × outputs]`.
    pub fn values_backward(
        &self,
        batch: &PackedBatch,
        adapters: &Adapters,
        head: &ValueHead,
        tape: ValueTape,
        coefficients: &[f64],
    ) -> Result<(FactorSet, ValueHead), ModelError> {
        let (d_states, d_head) = head.backward(&tape.states, coefficients);
        let d_normed = head::scatter(d_states, &batch.targets, batch.rows());
        let factors =
            self.back_through_layers(batch, adapters, &tape.last, tape.layers, d_normed)?;
        Ok((factors, d_head))
    }

    /// What comes out of the last layer, `[rows, hidden]`, and what each layer keeps, if anything is to be kept.
    fn through_layers(
        &self,
        batch: &PackedBatch,
        context: &Context<'_>,
        memory: Option<MemoryPolicy>,
    ) -> (Tensor<2>, Vec<KeptLayer>) {
        let mut x = self.embed(&batch.tokens);
        let mut kept = Vec::new();
        for layer in &self.layers {
            let input = x.clone();
            let (y, saved) = layer.forward(x, context, memory == Some(MemoryPolicy::Keep));
            match (memory, saved) {
                (None, _) => {}
                (Some(_), Some(saved)) => kept.push(KeptLayer::Activations(Box::new(saved))),
                (Some(_), None) => kept.push(KeptLayer::Input(Box::new(input))),
            }
            x = y;
        }
        (x, kept)
    }

    /// The adapters' gradients, from that at the output of the final norm, `d_normed` `[rows, hidden]`.
    fn back_through_layers(
        &self,
        batch: &PackedBatch,
        adapters: &Adapters,
        last: &Tensor<2>,
        kept: Vec<KeptLayer>,
        d_normed: Tensor<2>,
    ) -> Result<FactorSet, ModelError> {
        let context = self.context(batch, Some(adapters))?;
        let steering = (context.mode.steering.as_ref()).expect("adapters were given");
        let mut gradients = FactorSet::default();
        let mut d = self.norm.backward(last, d_normed, None);
        for (layer, kept) in self.layers.iter().zip(kept).rev() {
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
        let (x, _) = self.through_layers(batch, &context, None);
        let x = x.select(0, head::indices(rows.iter().copied(), &self.device));
        let logits = self.logits_of(&x, &context.mode);
        let [_, vocabulary] = logits.dims();
        Ok(Logits {
            values: head::numbers(logits),
            vocabulary,
        })
    }

    /// Final norm and head: `[n, hidden]` → `[n, vocabulary]`.
    pub(crate) fn logits_of(&self, x: &Tensor<2>, mode: &Mode<'_>) -> Tensor<2> {
        let head = self.head().weight(mode.rounds);
        let logits = linear_each(&self.norm.forward(x), &[head]);
        let logits = (logits.into_iter().next()).expect("one product was asked for");
        match self.config.final_logit_softcapping {
            None => logits,
            Some(cap) => (logits / cap).tanh() * cap,
        }
    }

    /// `[tokens, hidden]`
    pub(crate) fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let rows = self.embedding.select(tokens, &self.device);
        match self.embedding_scale {
            None => rows,
            Some(scale) => rows * scale,
        }
    }

    /// λ of every row (`[rows × m]`, row by row) with the adapters that they steer.
    pub(crate) fn steering<'a>(
        &self,
        adapters: &'a Adapters,
        preferences: &[f64],
    ) -> RowSteering<'a> {
        let objectives = adapters.config.objectives.len();
        let values: Vec<f32> = preferences.iter().map(|&w| w as f32).collect();
        let rows = values.len() / objectives;
        let preferences =
            Tensor::from_data(TensorData::new(values, [rows, objectives]), &self.device);
        RowSteering {
            adapters,
            preferences,
        }
    }

    pub(crate) fn context<'a>(
        &self,
        batch: &PackedBatch,
        adapters: Option<&'a Adapters>,
    ) -> Result<Context<'a>, ModelError> {
        let objectives = adapters.map(|adapters| adapters.config.objectives.len());
        batch.check(self.config.vocab_size, objectives)?;
        let Self { device, layers, .. } = self;
        let sight = |kind: &AttentionKind| Sight {
            visibility: Visibility::behind(
                batch.given,
                batch.segments.clone(),
                layers[0].heads,
                kind.window,
                device,
            ),
            rotation: Rotation::new(&batch.positions, &kind.inverse_frequencies, device),
        };
        Ok(Context {
            sights: self.attention.iter().map(sight).collect(),
            mode: Mode {
                steering: adapters.map(|adapters| self.steering(adapters, &batch.preferences)),
                rounds: false,
            },
        })
    }
}
