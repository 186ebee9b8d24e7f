//! `[method]`: what is trained, and what is minimised.

use panacea_data::{Example, RecordKind};
use panacea_methods::{Means, Method};
use panacea_objectives::{
    Aggregation, BradleyTerry, Dpo, DpoLoss, Kto, Loss, Sft, usual_divisions,
};

use crate::names::{AggregationName, DpoLossName, LossName, MethodName};
use crate::resolver::Resolver;
use crate::schema::{COUNT, Entry, NOT_NEGATIVE, POSITIVE, Range};
use crate::sections::rlhf::{Advantages, Rlhf, RlhfSpec, RunScales};

const BELOW_HALF: Range<f64> = Range {
    words: "0 or more and below 0.5",
    schema: || serde_json::json!({"minimum": 0, "exclusiveMaximum": 0.5}),
    holds: |smoothing| (0.0..0.5).contains(smoothing),
};

section! {
    /// What is trained, and what is minimised.
    MethodSpec at "method." {
        /// The method: `"panacea"` trains one adapter that a preference steers, `"rewarded_soups"` one per objective, whose
        /// weights the preference mixes, `"discrete"` one per preference of a grid, and `"reward-model"` one that scores
        /// answers in place of writing them.
        name: MethodName = MethodName::Panacea;
        /// The loss of each objective: `"dpo"` on pairs, `"kto"` on responses that are good or bad by themselves, `"sft"` on single responses, `"rlhf"` on answers of the policy and
        /// their rewards.
        loss: LossName = LossName::Dpo, when STEERED;
        /// The strength of the pull to the reference.
        beta: f64 = 0.1, in POSITIVE, when REFERENCE;
        /// The shape of the loss.
        dpo_loss: DpoLossName = DpoLossName::Sigmoid, when DPO;
        /// The probability that a label is wrong.
        label_smoothing: f64 = 0.0, in BELOW_HALF, when DPO_SIGMOID;
        /// The weight of an SFT term on the preferred response.
        sft_weight: f64 = 0.0, in NOT_NEGATIVE, when DPO;
        /// The weight of responses that are good.
        desirable_weight: f64 = 1.0, in POSITIVE, when KTO;
        /// The weight of responses that are bad.
        undesirable_weight: f64 = 1.0, in POSITIVE, when KTO;
        /// The mean over the tokens of a response in place of their sum.
        per_token: bool = false, when SFT;
        /// How the losses become one number: `"linear"` is Σ λᵢ Lᵢ, `"tchebycheff"` is max λᵢ (zᵢ + Lᵢ), z the ideal.
        aggregation: AggregationName = AggregationName::Linear, when STEERED;
        /// The best value Jᵢ = −Lᵢ known of each objective.
        ideal: Vec<f64>, default "the best that the labels of the training records allow: 0 for hard labels without smoothing", when TCHEBYCHEFF;
        /// μ of the smooth maximum μ log Σᵢ exp(λᵢ (zᵢ + Lᵢ) / μ); at 0 the largest alone counts.
        smoothing: f64 = 0.0, in NOT_NEGATIVE, when TCHEBYCHEFF;
        /// Steps of the grid of preferences along each edge of the simplex.
        divisions: usize, in COUNT, default "that of `eval-front`", when DISCRETE;
        /// The lead that the preferred response's reward is to have.
        margin: f64 = 0.0, in NOT_NEGATIVE, when REWARD_MODEL;
        /// The weight of the squared sum of a pair's rewards, which holds them near 0.
        centering: f64 = 0.0, in NOT_NEGATIVE, when REWARD_MODEL;
    }
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

    /// Whether its records have a response to another prompt behind their own.
    pub fn needs_kl(&self) -> bool {
        match self {
            Self::Supervised(loss) => loss.needs_kl(),
            Self::Rlhf(_) => false,
        }
    }

    /// RLHF: whether the records' own responses are learned from beside the answers.
    pub fn reads_own_responses(&self) -> bool {
        match self {
            Self::Supervised(_) => false,
            Self::Rlhf(rlhf) => rlhf.ptx_weight > 0.0,
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
                    Advantages::Gdpo { .. } => Means::Gdpo,
                },
                (Learning::Supervised(_), Aggregation::Linear) => Means::Linear,
                (Learning::Supervised(_), Aggregation::Tchebycheff { smoothing, .. }) => {
                    match *smoothing > 0.0 {
                        true => Means::SmoothTchebycheff,
                        false => Means::Tchebycheff,
                    }
                }
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
            Learning::Supervised(Loss::Kto(kto)) => {
                spec.loss = Some(LossName::Kto);
                spec.beta = Some(kto.beta());
                spec.desirable_weight = Some(kto.desirable_weight());
                spec.undesirable_weight = Some(kto.undesirable_weight());
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
            Aggregation::Tchebycheff { ideal, smoothing } => {
                spec.aggregation = Some(AggregationName::Tchebycheff);
                spec.smoothing = Some(*smoothing);
                spec.ideal = Some(ideal.clone()).filter(|ideal| !ideal.is_empty());
            }
        }
        spec
    }
}

/// The best J_i that any policy can have on the training records: minus the mean of what a loss is never below under
/// their labels ([`Loss::lowest`]).
pub(crate) fn label_ideal(learning: &Learning, train: &[Example], objectives: usize) -> Vec<f64> {
    let Learning::Supervised(loss) = learning else {
        return vec![0.0; objectives];
    };
    let best = |i: usize| {
        let judgements = train.iter().flat_map(|example| &example.judgements);
        let labels = judgements.filter_map(|judgement| judgement.labels[i]);
        let lowest: Vec<f64> = labels.map(|label| loss.lowest(label)).collect();
        // 0 and not −0 where every label is hard.
        0.0 - lowest.iter().sum::<f64>() / lowest.len().max(1) as f64
    };
    (0..objectives).map(best).collect()
}

impl Resolver {
    pub(crate) fn method(
        &mut self,
        spec: &MethodSpec,
        rlhf: &RlhfSpec,
        objectives: usize,
        run: RunScales,
    ) -> MethodPlan {
        let divisions = self.take_or(spec.divisions(), usual_divisions(objectives));
        let method = match self.take(spec.name()) {
            MethodName::Panacea => Method::Panacea,
            MethodName::RewardedSoups => Method::RewardedSoups,
            MethodName::Discrete => Method::Discrete { divisions },
            MethodName::RewardModel => return self.reward_model(spec),
        };
        let learning = match self.take(spec.loss()) {
            LossName::Dpo => Learning::Supervised(Loss::Dpo(self.dpo(spec))),
            LossName::Kto => Learning::Supervised(Loss::Kto(self.kto(spec))),
            LossName::Sft => Learning::Supervised(Loss::Sft(Sft {
                per_token: self.take(spec.per_token()),
            })),
            LossName::Rlhf => {
                let beta = self.take(spec.beta());
                Learning::Rlhf(self.rlhf(rlhf, beta, run))
            }
        };
        let aggregation = match (self.take(spec.aggregation()), &learning) {
            (AggregationName::Linear, _) => Aggregation::Linear,
            (AggregationName::Tchebycheff, Learning::Supervised(_)) => Aggregation::Tchebycheff {
                ideal: self.ideal(spec.ideal(), objectives),
                smoothing: self.take(spec.smoothing()),
            },
            (AggregationName::Tchebycheff, Learning::Rlhf(_)) => {
                let message =
                    "found \"tchebycheff\", expected \"linear\": rewards have no known ideal";
                self.problem("method.aggregation", message.to_owned());
                Aggregation::Linear
            }
        };
        MethodPlan {
            method,
            learning,
            aggregation,
        }
    }

    fn reward_model(&mut self, spec: &MethodSpec) -> MethodPlan {
        if spec.loss.is_some() {
            let message =
                "found one, expected none: a reward model's loss is that of Bradley and Terry";
            self.problem("method.loss", message.to_owned());
        }
        let loss = BradleyTerry::new(self.take(spec.margin()), self.take(spec.centering()));
        let loss = loss.expect("what is refused has become the default");
        MethodPlan {
            method: Method::RewardModel,
            learning: Learning::Supervised(Loss::BradleyTerry(loss)),
            aggregation: Aggregation::Linear,
        }
    }

    fn dpo(&mut self, spec: &MethodSpec) -> Dpo {
        let loss = match self.take(spec.dpo_loss()) {
            DpoLossName::Sigmoid => DpoLoss::Sigmoid {
                label_smoothing: self.take(spec.label_smoothing()),
            },
            DpoLossName::Ipo => DpoLoss::Ipo,
        };
        let (beta, sft_weight) = (self.take(spec.beta()), self.take(spec.sft_weight()));
        Dpo::new(beta, loss, sft_weight).expect("what is refused has become the default")
    }

    fn kto(&mut self, spec: &MethodSpec) -> Kto {
        let beta = self.take(spec.beta());
        let weights = [spec.desirable_weight(), spec.undesirable_weight()].map(|w| self.take(w));
        Kto::new(beta, weights[0], weights[1]).expect("what is refused has become the default")
    }

    fn ideal(&mut self, ideal: Entry<Vec<f64>>, objectives: usize) -> Vec<f64> {
        let key = ideal.key;
        // Without one, `Plan::with_ideal_of` finds it when the records are there.
        let ideal = self.take_or(ideal, Vec::new());
        if !ideal.is_empty() && ideal.len() != objectives && !self.is_broken("objective") {
            let message = format!(
                "found {} values, expected one for each of the {objectives} objectives",
                ideal.len()
            );
            self.problem(key, message);
        }
        if let Some(value) = ideal.iter().find(|value| !value.is_finite()) {
            self.problem(key, format!("found {value}, expected finite numbers"));
        }
        ideal
    }
}
