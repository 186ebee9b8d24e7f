//! `[method]`: what is trained, and what is minimised.

use panacea_data::{Example, RecordKind};
use panacea_methods::{Means, Method};
use panacea_objectives::{Aggregation, BradleyTerry, Dpo, DpoLoss, Loss, Sft, usual_divisions};
use serde::{Deserialize, Serialize};

use crate::resolver::Resolver;
use crate::sections::rlhf::{Advantages, Rlhf, RlhfSpec, RunScales};

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
                    Advantages::Gae { .. } => Means::Ppo,
                    Advantages::Rloo => Means::Rloo,
                    Advantages::Grpo => Means::Grpo,
                },
                (Learning::Supervised(_), Aggregation::Linear) => Means::Linear,
                (Learning::Supervised(_), Aggregation::Tchebycheff { .. }) => Means::Tchebycheff,
            })
    }

    pub(crate) fn to_spec(&self) -> MethodSpec {
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
pub(crate) fn label_ideal(learning: &Learning, train: &[Example], objectives: usize) -> Vec<f64> {
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

impl Resolver {
    pub(crate) fn method(
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
}
