//! What a person wrote: a configuration as it stands in the file, every key optional.
//!
//! [`crate::Plan::resolve`] makes a plan of it, with every default filled in and every value checked.
//! Paths are taken as they are, so that relative ones start at the working directory.

use std::path::PathBuf;

use panacea_data::{BadRecords, Format, ObjectiveSpec, OverlongPrompts};
use panacea_devices::Precision;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::reading::Sources;
use crate::schedule::ScheduleKind;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The seed of every random choice. Default: 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The device to train on. Default: `"flex"`, the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `[model]`
    pub model: ModelSpec,
    /// `[precision]`
    pub precision: PrecisionSpec,
    /// `[data]`
    pub data: DataSpec,
    /// `[[objective]]`, one table each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objective: Vec<ObjectiveSpec>,
    /// `[adapter]`
    pub adapter: AdapterSpec,
    /// `[method]`
    pub method: MethodSpec,
    /// `[rlhf]`
    #[serde(skip_serializing_if = "RlhfSpec::is_empty")]
    pub rlhf: RlhfSpec,
    /// `[preference]`
    pub preference: PreferenceSpec,
    /// `[optimizer]`
    pub optimizer: OptimizerSpec,
    /// `[evaluation]`
    pub evaluation: EvaluationSpec,
    /// `[checkpoint]`
    pub checkpoint: CheckpointSpec,
    /// Where each value came from, and the mistakes met while reading.
    #[serde(skip)]
    pub(crate) sources: Sources,
}

/// Declares a section: a struct of optional keys, the list of their names, and how one section is laid
/// over another.
macro_rules! section {
    ($(#[$doc:meta])* $section:ident { $($(#[$key_doc:meta])* $key:ident: $value:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $section {
            $($(#[$key_doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $key: Option<$value>,)+
        }

        impl $section {
            pub(crate) const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];

            /// Takes every key that `over` has.
            pub(crate) fn overlay(&mut self, over: Self) {
                $(if over.$key.is_some() {
                    self.$key = over.$key;
                })+
            }
        }
    };
}

section! {
    /// `[model]`: the language model that is adapted.
    ModelSpec {
        /// A folder in Hugging Face layout, or a GGUF file. Required, here or as `--model`.
        path: PathBuf,
    }
}

section! {
    /// `[precision]`: the types of numbers.
    PrecisionSpec {
        /// The type of the model's frozen weights, in which products with them are computed: `"f32"`, `"bf16"`, `"f16"`, or
        /// `"auto"`: `"bf16"` where the device computes in it, `"f32"` elsewhere. Adapters, gradients, norms and softmax
        /// have 32 bits. Default: `"auto"`.
        base: Precision,
    }
}

section! {
    /// `[data]`: the records.
    DataSpec {
        /// Files to train on: a string or a list. Required, here or as `--train`, unless every objective
        /// names files of its own.
        train: OneOrMany,
        /// Held-out files: a string or a list. Default: none.
        eval: OneOrMany,
        /// The format of the files. Default: `"auto"`, found out from each file.
        format: FormatChoice,
        /// What happens to a record that cannot be used (no prompt, an empty response, another shape):
        /// `"error"`, or `"skip"`, counted and named. Default: `"error"`.
        bad_records: BadRecords,
        /// Tokens of a prompt, at most. Default: 512.
        max_prompt_tokens: usize,
        /// Tokens of a response, at most; longer ones are cut. Default: 512.
        max_response_tokens: usize,
        /// What happens to a record whose prompt is too long. Default: `"skip"`.
        overlong_prompts: OverlongPrompts,
    }
}

section! {
    /// `[adapter]`: the SVD-LoRA on every adapted matrix.
    AdapterSpec {
        /// k, the number of preference-agnostic singular values. Default: 8.
        rank: usize,
        /// The update is scaled by alpha / k. Default: 64.
        alpha: f64,
        /// The matrices of each layer that are adapted. Default: all seven.
        modules: Vec<String>,
        /// The standard deviation of U and V at the start. Default: 0.02.
        init_std: f64,
        /// The weight of the penalty ‖UᵀU − I‖² + ‖VᵀV − I‖². Default: 0.
        orthogonality: f64,
        /// s of every matrix, held at this value in place of being learned. Default: learned, from 0.
        fixed_s: f64,
    }
}

section! {
    /// `[method]`: what is minimised.
    MethodSpec {
        /// The method. Default: `"panacea"`.
        name: MethodName,
        /// The loss of each objective. Default: `"dpo"`.
        loss: LossName,
        /// DPO and RLHF: the strength of the pull to the reference. Default: 0.1.
        beta: f64,
        /// DPO: the shape of the loss. Default: `"sigmoid"`.
        dpo_loss: DpoLossName,
        /// DPO with the sigmoid: the probability that a label is wrong, below 0.5. Default: 0.
        label_smoothing: f64,
        /// DPO: the weight of an SFT term on the preferred response. Default: 0.
        sft_weight: f64,
        /// SFT: the mean over the tokens of a response in place of their sum. Default: false.
        per_token: bool,
        /// How the losses become one number. Default: `"linear"`.
        aggregation: AggregationName,
        /// Tchebycheff: the best value J_i known of each objective. Default: the best that the labels of the
        /// training records allow, which for hard labels is 0.
        ideal: Vec<f64>,
        /// Discrete: steps of the grid of preferences along each edge of the simplex. Default: that of
        /// `eval-front`.
        divisions: usize,
        /// Reward models: the lead that the preferred response's reward is to have. Default: 0.
        margin: f64,
        /// Reward models: the weight of the squared sum of a pair's rewards, which holds them near 0. Default: 0.
        centering: f64,
    }
}

section! {
    /// `[rlhf]`: reinforcement learning from rewards, with `method.loss = "rlhf"`.
    RlhfSpec {
        /// Where advantages come from: `"gae"`, a critic that sees λ (PPO); `"rloo"` or `"grpo"`, the other answers to
        /// the same prompt. Default: `"gae"`.
        advantages: AdvantagesName,
        /// Answers to each prompt of a batch. Default: 1 with `"gae"`, 4 without.
        samples: usize,
        /// Tokens of an answer, at most. Default: `data.max_response_tokens`.
        max_new_tokens: usize,
        /// Updates on the answers of a step. Default: 2.
        epochs: usize,
        /// How far the ratio of a token's probability to what it was may leave 1. Default: 0.2.
        clip: f64,
        /// GAE: how far a value may move from where it was in the epochs of a step. Default: 5.
        value_clip: f64,
        /// GAE: the discount of later rewards, above 0 and up to 1. Default: 1.
        gamma: f64,
        /// GAE: 1 trusts the rewards alone, 0 the critic's next value. Default: 0.95.
        gae_lambda: f64,
        /// GAE: whether the advantages of a batch are brought to mean 0 and deviation 1. Default: true.
        whiten: bool,
        /// GAE: the critic's learning rate. Default: half of `optimizer.learning_rate`.
        critic_learning_rate: f64,
        /// Whether every objective's rewards are brought to mean 0 and deviation 1, over all answers of the run so far,
        /// before λ weighs them: their scales then have no say in the trade-off. Default: false.
        normalise: bool,
        /// How far from 0 a reward may be, after normalising; what is beyond is brought back to it. Default: none.
        reward_clip: f64,
        /// The weight of an SFT loss on the record's own first response, the mean of −log π over its tokens, under the
        /// same λ. Default: 0.
        ptx_weight: f64,
        /// KL of an answer from the reference, in nats, beyond which the run stops as collapsed. Default: 100.
        max_kl: f64,
        /// The share of repeated 4-grams of tokens in answers of 16 tokens or more, the mean over a step, beyond which the
        /// run stops as collapsed; 1 never stops it. Default: 0.9.
        max_repetition: f64,
    }
}

section! {
    /// `[preference]`: how preference vectors are drawn.
    PreferenceSpec {
        /// The concentration of the Dirichlet distribution; 1 is uniform. Default: 1.
        concentration: f64,
        /// The probability that a vertex of the simplex is drawn instead. Default: 0.1.
        vertex_probability: f64,
        /// Preferences per batch; the records are dealt to them. Default: 1.
        groups: usize,
        /// One preference for every step, in place of drawing: a specialist. Default: none.
        fixed: Vec<f64>,
    }
}

section! {
    /// `[optimizer]`: AdamW, its schedule and its batches.
    OptimizerSpec {
        /// Optimizer steps of the run. Not together with `epochs`.
        steps: usize,
        /// Passes over the training records. Default where `steps` is not given: 1.
        epochs: f64,
        /// Records per optimizer step. Default: 8.
        batch_size: usize,
        /// Records per forward and backward pass; the last of a batch may be smaller. Default:
        /// `batch_size`.
        micro_batch_size: usize,
        /// What a forward pass keeps for the backward pass: `"keep"` all activations, `"recompute"` them
        /// layer by layer (a third of the memory, half as much time again), or `"auto"`: keep them where
        /// they take no more than half of the memory that is free. The numbers are the same. Default:
        /// `"auto"`.
        activations: Activations,
        /// The learning rate of the factors U and V. Default: 2e-3.
        learning_rate: f64,
        /// The learning rate of σ and s. Default: `learning_rate`.
        learning_rate_singular: f64,
        /// The decays of the two moments. Default: [0.9, 0.999].
        betas: [f64; 2],
        /// Added to the root of the second moment. Default: 1e-8.
        eps: f64,
        /// Decoupled weight decay. Default: 0.
        weight_decay: f64,
        /// The curve of the learning rate after the warm-up. Default: `"cosine"`.
        schedule: ScheduleKind,
        /// The part of the steps in which the learning rate rises, 0 to 1. Default: 0.03.
        warmup_ratio: f64,
        /// The end of the curve, as a part of the learning rate, 0 to 1. Default: 0.
        min_learning_rate_ratio: f64,
        /// The gradient is scaled down to this norm; 0 leaves it alone. Default: 1.
        clip_norm: f64,
        /// A gradient norm beyond this one, before clipping, stops the run as diverged. Default: 1e4.
        max_grad_norm: f64,
    }
}

section! {
    /// `[evaluation]`: measuring on held-out records while training goes on.
    EvaluationSpec {
        /// Optimizer steps between two evaluations; 0 is never. Default: 0.
        every: usize,
        /// Held-out records that are measured. Default: 24.
        records: usize,
    }
}

section! {
    /// `[checkpoint]`: states to go on from.
    CheckpointSpec {
        /// Optimizer steps between two checkpoints; 0 is at the end only. Default: 50.
        every: usize,
        /// The last checkpoints that are kept. Default: 2.
        keep: usize,
    }
}

impl RlhfSpec {
    /// Whether nothing is said: other methods are written down without this section.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A list that may be written as a single string.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OneOrMany(pub Vec<PathBuf>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a string or a list of strings")]
        enum Form {
            One(PathBuf),
            Many(Vec<PathBuf>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(path) => vec![path],
            Form::Many(paths) => paths,
        }))
    }
}

/// A format by its name, or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormatChoice {
    /// Each file's own, told by the columns of its first record.
    #[default]
    Auto,
    /// This one, whatever the columns look like.
    Named(Format),
}

impl Serialize for FormatChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Named(format) => format.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FormatChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let named: Result<Format, serde::de::value::Error> =
            Format::deserialize(name.into_deserializer());
        named
            .map(Self::Named)
            .map_err(|error| serde::de::Error::custom(format!("{error}, or `auto`")))
    }
}

/// The method of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// One adapter, steered by the preference.
    #[default]
    Panacea,
    /// One adapter per objective; their weights are interpolated by the preference (Ramé et al. 2023).
    RewardedSoups,
    /// One adapter per preference of a grid.
    Discrete,
    /// One adapter with a reward a response and objective, learned from pairs: what scores answers in RLHF.
    #[serde(rename = "reward-model", alias = "reward_model")]
    RewardModel,
}

/// The loss of each objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Direct preference optimisation, on pairs.
    #[default]
    Dpo,
    /// Supervised fine-tuning, on single responses.
    Sft,
    /// Reinforcement learning from rewards, on answers of the policy.
    Rlhf,
}

/// Where the advantages of reinforcement learning come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantagesName {
    /// Generalised advantage estimation with a critic.
    #[default]
    Gae,
    /// Leave-one-out mean of the answers to a prompt.
    Rloo,
    /// Mean and deviation of the answers to a prompt.
    Grpo,
}

/// The shape of the DPO loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpoLossName {
    /// −log sigmoid of the margin.
    #[default]
    Sigmoid,
    /// Identity preference optimisation: a square around a target margin.
    Ipo,
}

/// What a forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// All activations where they take no more than half of the free memory, layer inputs otherwise.
    #[default]
    Auto,
    /// All activations.
    Keep,
    /// Layer inputs.
    Recompute,
}

/// How the losses of the objectives become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregationName {
    /// Σ λ_i L_i.
    #[default]
    Linear,
    /// max λ_i (z_i + L_i), z the ideal.
    Tchebycheff,
}
