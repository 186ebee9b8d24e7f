//! A configuration with every default filled in and every value checked: what the training loop sees.

mod rlhf;

use std::fmt::Display;
use std::path::PathBuf;

use crate::problems::{ConfigErrors, Problem, nearest};
use crate::reading::{Overrides, Sources};
use crate::rlhf::{Advantages, Rlhf};
use crate::schedule::{Schedule, ScheduleKind};
use crate::spec::{
    Activations, AdapterSpec, AggregationName, CheckpointSpec, DataSpec, DpoLossName,
    EvaluationSpec, FormatChoice, LossName, MethodName, MethodSpec, ModelSpec, OneOrMany,
    OptimizerSpec, PrecisionSpec, PreferenceSpec, RlhfSpec, Spec,
};
use panacea_data::{BadRecords, Example, Format, ObjectiveSpec, RecordKind, TokenLimits};
use panacea_devices::Precision;
use panacea_methods::{Method, Trainings};
use panacea_model::PROJECTIONS;
use panacea_objectives::{
    Aggregation, BradleyTerry, Dpo, DpoLoss, Loss, Preference, PreferenceSampler, Sft,
    usual_divisions,
};
use rlhf::RunScales;

/// What a run does. Only [`Plan::resolve`] makes one, so that whoever holds a plan holds a valid one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    seed: u64,
    device: String,
    model: PathBuf,
    precision: Precision,
    data: DataPlan,
    objectives: Vec<ObjectiveSpec>,
    adapter: AdapterPlan,
    method: MethodPlan,
    preference: PreferencePlan,
    optimizer: OptimizerPlan,
    evaluation: EvaluationPlan,
    checkpoint: CheckpointPlan,
    warnings: Vec<String>,
}

/// The records.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataPlan {
    /// Files to train on; empty where every objective names files of its own.
    pub train: Vec<PathBuf>,
    /// Held-out files; may be empty.
    pub eval: Vec<PathBuf>,
    /// The format of the files; without it, each file's own.
    pub format: Option<Format>,
    /// What happens to records that cannot be used.
    pub bad_records: BadRecords,
    /// How long prompts and responses may be.
    pub limits: TokenLimits,
}

/// The SVD-LoRA.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AdapterPlan {
    /// k, the number of preference-agnostic singular values.
    pub rank: usize,
    /// The update is scaled by alpha / k.
    pub alpha: f64,
    /// The matrices of each layer that are adapted, in the order of [`PROJECTIONS`].
    pub modules: Vec<String>,
    /// The standard deviation of U and V at the start.
    pub init_std: f64,
    /// The weight of the penalty ‖UᵀU − I‖² + ‖VᵀV − I‖².
    pub orthogonality: f64,
    /// s, where it is not learned.
    pub fixed_s: Option<f64>,
}

/// What is minimised.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MethodPlan {
    /// What is trained, and how a preference is served.
    pub method: Method,
    /// What it learns from.
    pub learning: Learning,
    /// How the losses become one number.
    pub aggregation: Aggregation,
}

/// What a method learns from.
#[derive(Debug, Clone, PartialEq)]
pub enum Learning {
    /// Labelled records, by the loss of each objective.
    Supervised(Loss),
    /// Rewards of the policy's own answers.
    Rlhf(Rlhf),
}

impl Learning {
    /// The kind of records that it needs.
    pub fn record_kind(&self) -> RecordKind {
        match self {
            Self::Supervised(loss) => loss.record_kind(),
            Self::Rlhf(_) => RecordKind::Prompt,
        }
    }

    /// Whether the policy is compared with a reference.
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Supervised(loss) => loss.needs_reference(),
            Self::Rlhf(_) => true,
        }
    }
}

/// How preference vectors are drawn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreferencePlan {
    /// The distribution.
    pub sampler: PreferenceSampler,
    /// Preferences per batch; the records are dealt to them.
    pub groups: usize,
    /// The preference of every step, where none is drawn.
    pub fixed: Option<Preference>,
}

/// AdamW, its schedule and its batches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OptimizerPlan {
    /// How long the run is.
    pub length: Length,
    /// Records per optimizer step.
    pub batch_size: usize,
    /// Records per forward and backward pass; the last of a batch may be smaller.
    pub micro_batch_size: usize,
    /// What a forward pass keeps for the backward pass.
    pub activations: Activations,
    /// The learning rate of the factors U and V.
    pub learning_rate: f64,
    /// The learning rate of σ and s.
    pub learning_rate_singular: f64,
    /// The decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The curve of the learning rate after the warm-up.
    pub schedule: ScheduleKind,
    /// The part of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// The end of the curve, as a part of the learning rate.
    pub min_learning_rate_ratio: f64,
    /// The gradient is scaled down to this norm, if there is one.
    pub clip_norm: Option<f64>,
    /// A gradient norm beyond this one, before clipping, stops the run as diverged.
    pub max_grad_norm: f64,
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Optimizer steps.
    Steps(usize),
    /// Passes over the training records.
    Epochs(f64),
}

/// Measuring on held-out records while training goes on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EvaluationPlan {
    /// Optimizer steps between two evaluations, if there are any.
    pub every: Option<usize>,
    /// Held-out records that are measured.
    pub records: usize,
}

/// States to go on from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CheckpointPlan {
    /// Optimizer steps between two checkpoints; without it there is one at the end.
    pub every: Option<usize>,
    /// The last checkpoints that are kept.
    pub keep: usize,
}

impl Plan {
    /// Lays the command line over the configuration, fills in every default and checks every value. The
    /// error lists all mistakes, those of reading the file included.
    pub fn resolve(mut spec: Spec, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        spec.apply(overrides);
        if spec.sources.is_unreadable
            && let Some(errors) = ConfigErrors::from_problems(spec.sources.problems.clone())
        {
            return Err(errors);
        }
        let mut resolver = Resolver {
            sources: std::mem::take(&mut spec.sources),
            warnings: Vec::new(),
        };
        let plan = resolver.plan(spec);
        match ConfigErrors::from_problems(resolver.sources.problems) {
            Some(errors) => Err(errors),
            None => Ok(Self {
                warnings: resolver.warnings,
                ..plan
            }),
        }
    }

    /// The seed of every random choice.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The device to train on, by name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The model that is adapted: a folder in Hugging Face layout, or a GGUF file.
    pub fn model(&self) -> &std::path::Path {
        &self.model
    }

    /// The type of the model's frozen weights.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The records.
    pub fn data(&self) -> &DataPlan {
        &self.data
    }

    /// The objectives; at least one, each with a name of its own.
    pub fn objectives(&self) -> &[ObjectiveSpec] {
        &self.objectives
    }

    /// The names of the objectives.
    pub fn objective_names(&self) -> Vec<String> {
        self.objectives
            .iter()
            .map(|objective| objective.name.clone())
            .collect()
    }

    /// The SVD-LoRA.
    pub fn adapter(&self) -> &AdapterPlan {
        &self.adapter
    }

    /// What is minimised.
    pub fn method(&self) -> &MethodPlan {
        &self.method
    }

    /// How preference vectors are drawn.
    pub fn preference(&self) -> &PreferencePlan {
        &self.preference
    }

    /// The trainings that the method takes.
    pub fn trainings(&self) -> Trainings {
        self.method.method.trainings(self.objectives.len())
    }

    /// The plan of one of several trainings: the same work for a single preference.
    pub fn member(&self, preference: &Preference) -> Self {
        let mut plan = self.clone();
        plan.method.method = Method::Panacea;
        plan.preference.fixed = Some(preference.clone());
        plan
    }

    /// The plan that is resolved with the ideal of Tchebycheff that `train` gives, where the user gave none: no policy
    /// has a J_i above minus the mean entropy of the labels, and with hard labels that is 0.
    pub fn with_ideal_of(self, train: &[Example]) -> Result<Self, ConfigErrors> {
        match &self.method.aggregation {
            Aggregation::Tchebycheff { ideal } if ideal.is_empty() => {
                let ideal = label_ideal(&self.method.learning, train, self.objectives.len());
                let mut spec = self.to_spec();
                spec.method.ideal = Some(ideal);
                Self::resolve(spec, &Overrides::default())
            }
            Aggregation::Tchebycheff { .. } | Aggregation::Linear => Ok(self),
        }
    }

    /// AdamW, its schedule and its batches.
    pub fn optimizer(&self) -> &OptimizerPlan {
        &self.optimizer
    }

    /// Measuring on held-out records while training goes on.
    pub fn evaluation(&self) -> &EvaluationPlan {
        &self.evaluation
    }

    /// States to go on from.
    pub fn checkpoint(&self) -> &CheckpointPlan {
        &self.checkpoint
    }

    /// What is valid but surely not meant, such as a key that has no effect; for a person to read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration that resolves to this plan, with every default written out. Keys that have no
    /// effect under its method are left out.
    pub fn to_spec(&self) -> Spec {
        let (steps, epochs) = match self.optimizer.length {
            Length::Steps(steps) => (Some(steps), None),
            Length::Epochs(epochs) => (None, Some(epochs)),
        };
        Spec {
            seed: Some(self.seed),
            device: Some(self.device.clone()),
            model: ModelSpec {
                path: Some(self.model.clone()),
            },
            precision: PrecisionSpec {
                base: Some(self.precision),
            },
            data: DataSpec {
                train: Some(OneOrMany(self.data.train.clone())),
                eval: Some(OneOrMany(self.data.eval.clone())),
                format: Some(
                    self.data
                        .format
                        .map_or(FormatChoice::Auto, FormatChoice::Named),
                ),
                bad_records: Some(self.data.bad_records),
                max_prompt_tokens: Some(self.data.limits.max_prompt_tokens),
                max_response_tokens: Some(self.data.limits.max_response_tokens),
                overlong_prompts: Some(self.data.limits.overlong_prompts),
            },
            objective: self.objectives.clone(),
            adapter: AdapterSpec {
                rank: Some(self.adapter.rank),
                alpha: Some(self.adapter.alpha),
                modules: Some(self.adapter.modules.clone()),
                init_std: Some(self.adapter.init_std),
                orthogonality: Some(self.adapter.orthogonality),
                fixed_s: self.adapter.fixed_s,
            },
            method: self.method.to_spec(),
            rlhf: match &self.method.learning {
                Learning::Rlhf(rlhf) => rlhf.to_spec(),
                Learning::Supervised(_) => RlhfSpec::default(),
            },
            preference: match self.method.is_reward_model() {
                true => PreferenceSpec::default(),
                false => self.preference.to_spec(),
            },
            optimizer: OptimizerSpec {
                steps,
                epochs,
                batch_size: Some(self.optimizer.batch_size),
                micro_batch_size: Some(self.optimizer.micro_batch_size),
                activations: Some(self.optimizer.activations),
                learning_rate: Some(self.optimizer.learning_rate),
                learning_rate_singular: Some(self.optimizer.learning_rate_singular),
                betas: Some(self.optimizer.betas),
                eps: Some(self.optimizer.eps),
                weight_decay: Some(self.optimizer.weight_decay),
                schedule: Some(self.optimizer.schedule),
                warmup_ratio: Some(self.optimizer.warmup_ratio),
                min_learning_rate_ratio: Some(self.optimizer.min_learning_rate_ratio),
                clip_norm: Some(self.optimizer.clip_norm.unwrap_or(0.0)),
                max_grad_norm: Some(self.optimizer.max_grad_norm),
            },
            evaluation: EvaluationSpec {
                every: Some(self.evaluation.every.unwrap_or(0)),
                records: Some(self.evaluation.records),
            },
            checkpoint: CheckpointSpec {
                every: Some(self.checkpoint.every.unwrap_or(0)),
                keep: Some(self.checkpoint.keep),
            },
            ..Spec::default()
        }
    }
}

impl PreferencePlan {
    fn to_spec(&self) -> PreferenceSpec {
        PreferenceSpec {
            concentration: Some(self.sampler.concentration()),
            vertex_probability: Some(self.sampler.vertex_probability()),
            groups: Some(self.groups),
            fixed: (self.fixed.as_ref()).map(|preference| preference.weights().to_vec()),
        }
    }
}

impl MethodPlan {
    /// Whether it trains a reward model, which no preference steers.
    pub fn is_reward_model(&self) -> bool {
        self.method == Method::RewardModel
    }

    /// The method's name in fronts and tables, such as `panacea-linear`.
    pub fn label(&self) -> String {
        self.method
            .label(match (&self.learning, &self.aggregation) {
                (Learning::Rlhf(rlhf), _) => match rlhf.advantages {
                    Advantages::Gae { .. } => "ppo",
                    Advantages::Rloo => "rloo",
                    Advantages::Grpo => "grpo",
                },
                (Learning::Supervised(_), Aggregation::Linear) => "linear",
                (Learning::Supervised(_), Aggregation::Tchebycheff { .. }) => "tchebycheff",
            })
    }

    fn to_spec(&self) -> MethodSpec {
        let (name, divisions) = match self.method {
            Method::Panacea => (MethodName::Panacea, None),
            Method::RewardedSoups => (MethodName::RewardedSoups, None),
            Method::Discrete { divisions } => (MethodName::Discrete, Some(divisions)),
            Method::RewardModel => (MethodName::RewardModel, None),
        };
        let mut spec = MethodSpec {
            name: Some(name),
            divisions,
            ..MethodSpec::default()
        };
        match &self.learning {
            Learning::Supervised(Loss::Dpo(dpo)) => {
                spec.loss = Some(LossName::Dpo);
                spec.beta = Some(dpo.beta());
                spec.sft_weight = Some(dpo.sft_weight());
                match dpo.loss() {
                    DpoLoss::Sigmoid { label_smoothing } => {
                        spec.dpo_loss = Some(DpoLossName::Sigmoid);
                        spec.label_smoothing = Some(label_smoothing);
                    }
                    DpoLoss::Ipo => spec.dpo_loss = Some(DpoLossName::Ipo),
                }
            }
            Learning::Supervised(Loss::Sft(sft)) => {
                spec.loss = Some(LossName::Sft);
                spec.per_token = Some(sft.per_token);
            }
            Learning::Supervised(Loss::BradleyTerry(pairs)) => {
                spec.margin = Some(pairs.margin());
                spec.centering = Some(pairs.centering());
                return spec;
            }
            Learning::Rlhf(rlhf) => {
                spec.loss = Some(LossName::Rlhf);
                spec.beta = Some(rlhf.beta);
            }
        }
        match &self.aggregation {
            Aggregation::Linear => spec.aggregation = Some(AggregationName::Linear),
            Aggregation::Tchebycheff { ideal } => {
                spec.aggregation = Some(AggregationName::Tchebycheff);
                spec.ideal = Some(ideal.clone()).filter(|ideal| !ideal.is_empty());
            }
        }
        spec
    }
}

/// The best J_i that any policy can have on the training records: minus the mean entropy of the labels under
/// DPO's sigmoid (the cross-entropy of a label is never below its entropy), 0 for every other loss.
fn label_ideal(learning: &Learning, train: &[Example], objectives: usize) -> Vec<f64> {
    let smoothing = match learning {
        Learning::Supervised(Loss::Dpo(dpo)) => match dpo.loss() {
            DpoLoss::Sigmoid { label_smoothing } => Some(label_smoothing),
            DpoLoss::Ipo => None,
        },
        Learning::Supervised(Loss::Sft(_) | Loss::BradleyTerry(_)) | Learning::Rlhf(_) => None,
    };
    let Some(label_smoothing) = smoothing else {
        return vec![0.0; objectives];
    };
    let entropy = |label: f64| {
        let p = label * (1.0 - label_smoothing) + (1.0 - label) * label_smoothing;
        let part = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        part(p) + part(1.0 - p)
    };
    let best = |i: usize| {
        let judgements = train.iter().flat_map(|example| &example.judgements);
        let entropies: Vec<f64> = judgements
            .filter_map(|judgement| judgement.labels[i].map(entropy))
            .collect();
        // 0 and not −0 where every label is hard.
        0.0 - entropies.iter().sum::<f64>() / entropies.len().max(1) as f64
    };
    (0..objectives).map(best).collect()
}

impl OptimizerPlan {
    /// Optimizer steps of the run on this many training records. The last batch of a pass over them
    /// may be smaller, so that no record is left out.
    pub fn total_steps(&self, records: usize) -> usize {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => {
                let steps = (epochs * records as f64 / self.batch_size as f64).ceil();
                (steps as usize).max(1)
            }
        }
    }

    /// The schedule of a run of this many optimizer steps.
    pub fn schedule(&self, total_steps: usize) -> Schedule {
        Schedule::new(
            self.schedule,
            total_steps,
            self.warmup_ratio,
            self.min_learning_rate_ratio,
        )
    }
}

/// Fills in and checks; gathers what is wrong.
struct Resolver {
    sources: Sources,
    warnings: Vec<String>,
}

impl Resolver {
    fn plan(&mut self, spec: Spec) -> Plan {
        let seed = self.number(
            "seed",
            spec.seed,
            17,
            "at most 9223372036854775807, TOML's largest",
            |seed| i64::try_from(seed).is_ok(),
        );
        let device = spec.device.unwrap_or_else(|| "flex".to_owned());
        let model = self.model(spec.model);
        let objectives = self.objectives(spec.objective);
        let data = self.data(spec.data, &objectives);
        let every = spec.evaluation.every;
        let mut evaluation = self.evaluation(spec.evaluation, &data, &objectives);
        let mut adapter = self.adapter(spec.adapter);
        let optimizer = self.optimizer(spec.optimizer, device.split(',').count());
        let run = RunScales {
            learning_rate: optimizer.learning_rate,
            max_response_tokens: data.limits.max_response_tokens,
        };
        let method = self.method(spec.method, spec.rlhf, objectives.len(), run);
        if method.is_reward_model() {
            let why = "with name = \"reward-model\"";
            let penalty = adapter.orthogonality;
            self.no_effect("adapter.orthogonality", Some(penalty), 0.0, why);
            adapter.orthogonality = 0.0;
        }
        if let Learning::Rlhf(_) = method.learning {
            let why = "with loss = \"rlhf\": eval-front measures";
            self.no_effect("evaluation.every", every, 0, why);
            evaluation.every = None;
        }
        let preference = match method.is_reward_model() {
            true => self.every_objective_alike(&spec.preference, objectives.len()),
            false => self.preference(spec.preference, optimizer.batch_size, objectives.len()),
        };
        let checkpoint = self.checkpoint(spec.checkpoint);
        Plan {
            seed,
            device,
            model,
            precision: spec.precision.base.unwrap_or_default(),
            data,
            objectives,
            adapter,
            method,
            preference,
            optimizer,
            evaluation,
            checkpoint,
            warnings: Vec::new(),
        }
    }

    fn model(&mut self, spec: ModelSpec) -> PathBuf {
        match spec.path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => {
                self.missing(
                    "model.path",
                    "there is no model; name one with --model, or here",
                );
                PathBuf::new()
            }
        }
    }

    fn objectives(&mut self, objectives: Vec<ObjectiveSpec>) -> Vec<ObjectiveSpec> {
        if self.is_broken("objective") {
            return objectives; // Some are left out, so that places and numbers would be wrong.
        }
        if objectives.is_empty() {
            self.problem(
                "objective",
                "there is none; describe at least one in a table [[objective]]".into(),
            );
        }
        for (index, objective) in objectives.iter().enumerate() {
            let key = format!("objective[{index}]");
            let name = &objective.name;
            if let Some(first) = objectives[..index]
                .iter()
                .position(|other| other.name == *name)
            {
                let message = format!(
                    "its name \"{name}\" is that of objective[{first}] too; each needs its own"
                );
                self.problem(&key, message);
            }
        }
        objectives
    }

    fn data(&mut self, spec: DataSpec, objectives: &[ObjectiveSpec]) -> DataPlan {
        let train = spec.train.unwrap_or_default().0;
        let have_own_files = objectives
            .iter()
            .all(|objective| !objective.train.is_empty());
        if train.is_empty() && (objectives.is_empty() || !have_own_files) {
            self.missing(
                "data.train",
                "there are no records to train on; name files with --train, or here",
            );
        }
        DataPlan {
            train,
            eval: spec.eval.unwrap_or_default().0,
            format: match spec.format.unwrap_or_default() {
                FormatChoice::Auto => None,
                FormatChoice::Named(format) => Some(format),
            },
            bad_records: spec.bad_records.unwrap_or_default(),
            limits: TokenLimits {
                max_prompt_tokens: self.count(
                    "data.max_prompt_tokens",
                    spec.max_prompt_tokens,
                    512,
                ),
                max_response_tokens: self.count(
                    "data.max_response_tokens",
                    spec.max_response_tokens,
                    512,
                ),
                overlong_prompts: spec.overlong_prompts.unwrap_or_default(),
            },
        }
    }

    fn adapter(&mut self, spec: AdapterSpec) -> AdapterPlan {
        AdapterPlan {
            rank: self.count("adapter.rank", spec.rank, 8),
            alpha: self.positive("adapter.alpha", spec.alpha, 64.0),
            modules: self.modules(spec.modules),
            init_std: self.positive("adapter.init_std", spec.init_std, 0.02),
            orthogonality: self.not_negative("adapter.orthogonality", spec.orthogonality, 0.0),
            fixed_s: (spec.fixed_s).map(|s| self.positive("adapter.fixed_s", Some(s), s)),
        }
    }

    /// The modules in the order of [`PROJECTIONS`], so that the order in the file changes no number.
    fn modules(&mut self, modules: Option<Vec<String>>) -> Vec<String> {
        const KEY: &str = "adapter.modules";
        let Some(asked) = modules else {
            return PROJECTIONS.map(str::to_owned).to_vec();
        };
        if asked.is_empty() {
            self.problem(
                KEY,
                format!(
                    "found an empty list, expected some of {}",
                    PROJECTIONS.join(", ")
                ),
            );
        }
        for (index, module) in asked.iter().enumerate() {
            if asked[..index].contains(module) {
                self.problem(KEY, format!("\"{module}\" is listed twice"));
            } else if !PROJECTIONS.contains(&module.as_str()) {
                let advice = match nearest(module, PROJECTIONS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known are {}", PROJECTIONS.join(", ")),
                };
                self.problem(KEY, format!("unknown module \"{module}\"; {advice}"));
            }
        }
        let is_asked = |module: &&str| asked.iter().any(|asked| asked == module);
        PROJECTIONS
            .into_iter()
            .filter(is_asked)
            .map(str::to_owned)
            .collect()
    }

    fn method(
        &mut self,
        spec: MethodSpec,
        rlhf: RlhfSpec,
        objectives: usize,
        run: RunScales,
    ) -> MethodPlan {
        let name = spec.name.unwrap_or_default();
        if name == MethodName::RewardModel {
            return self.reward_model(&spec, &rlhf);
        }
        let why = "without name = \"reward-model\"";
        self.no_effect("method.margin", spec.margin, 0.0, why);
        self.no_effect("method.centering", spec.centering, 0.0, why);
        let loss = spec.loss.unwrap_or_default();
        if loss != LossName::Rlhf && rlhf != RlhfSpec::default() {
            let message = "[rlhf] has no effect without method.loss = \"rlhf\"";
            self.warnings.push(message.to_owned());
        }
        let learning = match loss {
            LossName::Dpo => {
                self.no_effect(
                    "method.per_token",
                    spec.per_token,
                    false,
                    "with loss = \"dpo\"",
                );
                Learning::Supervised(Loss::Dpo(self.dpo(&spec)))
            }
            LossName::Rlhf => {
                let why = "with loss = \"rlhf\"";
                self.no_effect("method.label_smoothing", spec.label_smoothing, 0.0, why);
                self.no_effect("method.sft_weight", spec.sft_weight, 0.0, why);
                self.no_effect("method.dpo_loss", spec.dpo_loss, DpoLossName::Sigmoid, why);
                self.no_effect("method.per_token", spec.per_token, false, why);
                if spec.aggregation == Some(AggregationName::Tchebycheff) {
                    let message =
                        "found \"tchebycheff\", expected \"linear\": rewards have no known ideal";
                    self.problem("method.aggregation", message.to_owned());
                }
                let beta = self.positive("method.beta", spec.beta, 0.1);
                Learning::Rlhf(self.rlhf(rlhf, beta, run))
            }
            LossName::Sft => {
                let why = "with loss = \"sft\"";
                self.no_effect("method.beta", spec.beta, 0.1, why);
                self.no_effect("method.label_smoothing", spec.label_smoothing, 0.0, why);
                self.no_effect("method.sft_weight", spec.sft_weight, 0.0, why);
                self.no_effect("method.dpo_loss", spec.dpo_loss, DpoLossName::Sigmoid, why);
                Learning::Supervised(Loss::Sft(Sft {
                    per_token: spec.per_token.unwrap_or(false),
                }))
            }
        };
        let aggregation = match spec.aggregation.unwrap_or_default() {
            AggregationName::Linear => {
                let zeros = vec![0.0; objectives];
                self.no_effect(
                    "method.ideal",
                    spec.ideal,
                    zeros,
                    "with aggregation = \"linear\"",
                );
                Aggregation::Linear
            }
            AggregationName::Tchebycheff => Aggregation::Tchebycheff {
                ideal: self.ideal(spec.ideal, objectives),
            },
        };
        let usual = usual_divisions(objectives);
        let divisions = self.count("method.divisions", spec.divisions, usual);
        let method = match name {
            MethodName::Panacea => Method::Panacea,
            MethodName::RewardedSoups => Method::RewardedSoups,
            MethodName::Discrete => Method::Discrete { divisions },
            MethodName::RewardModel => Method::RewardModel,
        };
        if !matches!(method, Method::Discrete { .. }) {
            let why = "without name = \"discrete\"";
            self.no_effect("method.divisions", spec.divisions, usual, why);
        }
        MethodPlan {
            method,
            learning,
            aggregation,
        }
    }

    fn reward_model(&mut self, spec: &MethodSpec, rlhf: &RlhfSpec) -> MethodPlan {
        let why = "with name = \"reward-model\"";
        if spec.loss.is_some() {
            let message =
                "found one, expected none: a reward model's loss is that of Bradley and Terry";
            self.problem("method.loss", message.to_owned());
        }
        if *rlhf != RlhfSpec::default() {
            let message = format!("[rlhf] has no effect {why}");
            self.warnings.push(message);
        }
        self.no_effect("method.beta", spec.beta, 0.1, why);
        self.no_effect("method.label_smoothing", spec.label_smoothing, 0.0, why);
        self.no_effect("method.sft_weight", spec.sft_weight, 0.0, why);
        self.no_effect("method.dpo_loss", spec.dpo_loss, DpoLossName::Sigmoid, why);
        self.no_effect("method.per_token", spec.per_token, false, why);
        let linear = AggregationName::Linear;
        self.no_effect("method.aggregation", spec.aggregation, linear, why);
        self.no_effect("method.ideal", spec.ideal.clone(), Vec::new(), why);
        self.no_effect("method.divisions", spec.divisions, 0, why);
        let loss = BradleyTerry::new(
            self.not_negative("method.margin", spec.margin, 0.0),
            self.not_negative("method.centering", spec.centering, 0.0),
        );
        let loss = loss.expect("what is refused has become the default");
        MethodPlan {
            method: Method::RewardModel,
            learning: Learning::Supervised(Loss::BradleyTerry(loss)),
            aggregation: Aggregation::Linear,
        }
    }

    /// A reward model does not follow a preference: its losses are averaged, and its adapter always sees the same λ.
    fn every_objective_alike(
        &mut self,
        spec: &PreferenceSpec,
        objectives: usize,
    ) -> PreferencePlan {
        if *spec != PreferenceSpec::default() {
            let message = "[preference] has no effect with name = \"reward-model\"";
            self.warnings.push(message.to_owned());
        }
        PreferencePlan {
            sampler: PreferenceSampler::default(),
            groups: 1,
            fixed: Some(Preference::uniform(objectives.max(1))),
        }
    }

    fn dpo(&mut self, spec: &MethodSpec) -> Dpo {
        let loss = match spec.dpo_loss.unwrap_or_default() {
            DpoLossName::Sigmoid => DpoLoss::Sigmoid {
                label_smoothing: self.number(
                    "method.label_smoothing",
                    spec.label_smoothing,
                    0.0,
                    "0 or more and below 0.5",
                    |smoothing| (0.0..0.5).contains(&smoothing),
                ),
            },
            DpoLossName::Ipo => {
                self.no_effect(
                    "method.label_smoothing",
                    spec.label_smoothing,
                    0.0,
                    "with dpo_loss = \"ipo\"",
                );
                DpoLoss::Ipo
            }
        };
        let beta = self.positive("method.beta", spec.beta, 0.1);
        let sft_weight = self.not_negative("method.sft_weight", spec.sft_weight, 0.0);
        Dpo::new(beta, loss, sft_weight).expect("what is refused has become the default")
    }

    fn ideal(&mut self, ideal: Option<Vec<f64>>, objectives: usize) -> Vec<f64> {
        // Without one, `Plan::with_ideal_of` finds it when the records are there.
        let ideal = ideal.unwrap_or_default();
        if !ideal.is_empty() && ideal.len() != objectives && !self.is_broken("objective") {
            let message = format!(
                "found {} values, expected one for each of the {objectives} objectives",
                ideal.len()
            );
            self.problem("method.ideal", message);
        }
        if let Some(value) = ideal.iter().find(|value| !value.is_finite()) {
            self.problem(
                "method.ideal",
                format!("found {value}, expected finite numbers"),
            );
        }
        ideal
    }

    fn preference(
        &mut self,
        spec: PreferenceSpec,
        batch_size: usize,
        objectives: usize,
    ) -> PreferencePlan {
        let concentration = self.positive("preference.concentration", spec.concentration, 1.0);
        let vertex_probability = self.ratio(
            "preference.vertex_probability",
            spec.vertex_probability,
            0.1,
        );
        let sampler = PreferenceSampler::new(concentration, vertex_probability)
            .expect("what is refused has become the default");
        let groups = self.count("preference.groups", spec.groups, 1);
        if groups > batch_size {
            let message = format!(
                "found {groups} groups, expected at most optimizer.batch_size = {batch_size}, so that each has a record"
            );
            self.problem("preference.groups", message);
        }
        PreferencePlan {
            sampler,
            groups,
            fixed: self.fixed(spec.fixed, objectives),
        }
    }

    fn fixed(&mut self, weights: Option<Vec<f64>>, objectives: usize) -> Option<Preference> {
        let preference = Preference::new(weights?);
        let checked = match preference {
            Ok(preference) => match preference.expect_len(objectives) {
                Ok(()) => Ok(preference),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match checked {
            Ok(preference) => Some(preference),
            Err(message) => {
                self.problem("preference.fixed", message);
                None
            }
        }
    }

    fn optimizer(&mut self, spec: OptimizerSpec, devices: usize) -> OptimizerPlan {
        let length = self.length(&spec);
        let batch_size = self.count("optimizer.batch_size", spec.batch_size, 8);
        let micro_batch_size = self.count(
            "optimizer.micro_batch_size",
            spec.micro_batch_size,
            batch_size.div_ceil(devices),
        );
        if micro_batch_size > batch_size {
            let message = format!(
                "found {micro_batch_size}, expected at most optimizer.batch_size = {batch_size}"
            );
            self.problem("optimizer.micro_batch_size", message);
        }
        let learning_rate = self.positive("optimizer.learning_rate", spec.learning_rate, 2e-3);
        let betas = spec.betas.unwrap_or([0.9, 0.999]);
        if !betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            let message = format!("found {betas:?}, expected two numbers, 0 or more and below 1");
            self.problem("optimizer.betas", message);
        }
        let clip_norm = self.not_negative("optimizer.clip_norm", spec.clip_norm, 1.0);
        OptimizerPlan {
            length,
            batch_size,
            micro_batch_size,
            activations: spec.activations.unwrap_or_default(),
            learning_rate,
            learning_rate_singular: self.positive(
                "optimizer.learning_rate_singular",
                spec.learning_rate_singular,
                learning_rate,
            ),
            betas,
            eps: self.positive("optimizer.eps", spec.eps, 1e-8),
            weight_decay: self.not_negative("optimizer.weight_decay", spec.weight_decay, 0.0),
            schedule: spec.schedule.unwrap_or_default(),
            warmup_ratio: self.ratio("optimizer.warmup_ratio", spec.warmup_ratio, 0.03),
            min_learning_rate_ratio: self.ratio(
                "optimizer.min_learning_rate_ratio",
                spec.min_learning_rate_ratio,
                0.0,
            ),
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
            max_grad_norm: self.positive("optimizer.max_grad_norm", spec.max_grad_norm, 1e4),
        }
    }

    fn length(&mut self, spec: &OptimizerSpec) -> Length {
        if spec.steps.is_some() && spec.epochs.is_some() {
            let message = "found optimizer.steps as well; give one of the two".to_owned();
            self.problem("optimizer.epochs", message);
        }
        match spec.steps {
            Some(_) => Length::Steps(self.count("optimizer.steps", spec.steps, 1)),
            None => Length::Epochs(self.positive("optimizer.epochs", spec.epochs, 1.0)),
        }
    }

    fn evaluation(
        &mut self,
        spec: EvaluationSpec,
        data: &DataPlan,
        objectives: &[ObjectiveSpec],
    ) -> EvaluationPlan {
        let every = spec.every.filter(|&every| every > 0);
        let have_own_files = objectives
            .iter()
            .all(|objective| !objective.eval.is_empty());
        let has_records = !data.eval.is_empty() || !objectives.is_empty() && have_own_files;
        if every.is_some() && !has_records && !self.is_broken("data.eval") {
            let message = "there are no held-out records; name files with --eval or data.eval, or set it to 0";
            self.problem("evaluation.every", message.into());
        }
        EvaluationPlan {
            every,
            records: self.count("evaluation.records", spec.records, 24),
        }
    }

    fn checkpoint(&mut self, spec: CheckpointSpec) -> CheckpointPlan {
        CheckpointPlan {
            every: Some(spec.every.unwrap_or(50)).filter(|&every| every > 0),
            keep: self.count("checkpoint.keep", spec.keep, 2),
        }
    }

    fn count(&mut self, key: &str, value: Option<usize>, default: usize) -> usize {
        self.number(key, value, default, "1 or more", |count| count >= 1)
    }

    fn positive(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a finite number above 0", |x| {
            x > 0.0 && x.is_finite()
        })
    }

    fn not_negative(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a finite number, 0 or more", |x| {
            x >= 0.0 && x.is_finite()
        })
    }

    fn ratio(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a number from 0 to 1", |x| {
            (0.0..=1.0).contains(&x)
        })
    }

    /// The value, or its default where it is missing or (which is a problem) out of range.
    fn number<T: Copy + Display>(
        &mut self,
        key: &str,
        value: Option<T>,
        default: T,
        expected: &str,
        is_valid: impl Fn(T) -> bool,
    ) -> T {
        match value {
            Some(value) if !is_valid(value) => {
                self.problem(key, format!("found {value}, expected {expected}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    /// A key that something else puts out of force is worth a word, unless it says nothing new.
    fn no_effect<T: PartialEq>(&mut self, key: &str, value: Option<T>, default: T, why: &str) {
        if value.is_some_and(|value| value != default) {
            let place = self
                .sources
                .origins
                .get(key)
                .map(|origin| format!("{origin}: "));
            self.warnings.push(format!(
                "{}{key} has no effect {why}",
                place.unwrap_or_default()
            ));
        }
    }

    fn problem(&mut self, key: &str, message: String) {
        self.sources.problems.push(Problem {
            origin: self.sources.origins.get(key).cloned(),
            key: key.to_owned(),
            message,
        });
    }

    /// A value that is not there. If it is there but could not be read, that was said already.
    fn missing(&mut self, key: &str, message: &str) {
        if !self.is_broken(key) {
            self.problem(key, message.to_owned());
        }
    }

    /// Whether the key, or an element of it, has been reported.
    fn is_broken(&self, key: &str) -> bool {
        self.sources
            .problems
            .iter()
            .any(|problem| problem.key.split('[').next() == Some(key))
    }
}
