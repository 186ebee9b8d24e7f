//! `[rlhf]`: reinforcement learning from rewards.

use serde::{Deserialize, Serialize};

use crate::resolver::Resolver;

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
        /// ε of the clipped loss: how far a token's ratio π/π_old may be from 1. Default: 0.2.
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

impl RlhfSpec {
    /// Whether nothing is said: other methods are written down without this section.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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

/// Settings of reinforcement learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Rlhf {
    /// β, the price of a nat of KL from the reference.
    pub beta: f64,
    /// How the advantages of an answer's tokens are computed from its reward.
    pub advantages: Advantages,
    /// Answers to each prompt of a batch.
    pub samples: usize,
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// Updates on the answers of a step.
    pub epochs: usize,
    /// How far a probability may move from where it was when the answers were written, as a ratio.
    pub clip: f64,
    /// Whether rewards are normalised over the run, objective by objective, before λ weighs them.
    pub normalise: bool,
    /// How far from 0 a reward may be, after normalising; `None` for any distance.
    pub reward_clip: Option<f64>,
    /// The weight of the SFT loss on the records' own first responses.
    pub ptx_weight: f64,
    /// KL of an answer from the reference, in nats, beyond which the run is stopped as collapsed.
    pub max_kl: f64,
    /// The mean share of repeated 4-grams beyond which the run is stopped as collapsed.
    pub max_repetition: f64,
}

/// Where advantages come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantages {
    /// From a critic, by generalised advantage estimation.
    Gae {
        /// The discount of later rewards.
        gamma: f64,
        /// λ of GAE: 1 trusts the rewards alone, 0 the critic's next value.
        lambda: f64,
        /// How far a value may move from where it was.
        value_clip: f64,
        /// Whether the advantages of a batch are brought to mean 0 and deviation 1.
        whiten: bool,
        /// The critic's learning rate.
        learning_rate: f64,
    },
    /// From the mean of the other answers to the same prompt (Ahmadian et al., 2024).
    Rloo,
    /// From mean and deviation of all answers to the same prompt (Shao et al., 2024).
    Grpo,
}

/// Values of other sections that defaults of `[rlhf]` depend on.
#[derive(Clone, Copy)]
pub(crate) struct RunScales {
    pub learning_rate: f64,
    pub max_response_tokens: usize,
}

impl Rlhf {
    pub(crate) fn to_spec(&self) -> RlhfSpec {
        let mut spec = RlhfSpec {
            samples: Some(self.samples),
            max_new_tokens: Some(self.max_new_tokens),
            epochs: Some(self.epochs),
            clip: Some(self.clip),
            normalise: Some(self.normalise),
            reward_clip: self.reward_clip,
            ptx_weight: Some(self.ptx_weight),
            max_kl: Some(self.max_kl),
            max_repetition: Some(self.max_repetition),
            ..RlhfSpec::default()
        };
        match self.advantages {
            Advantages::Rloo => spec.advantages = Some(AdvantagesName::Rloo),
            Advantages::Grpo => spec.advantages = Some(AdvantagesName::Grpo),
            Advantages::Gae {
                gamma,
                lambda,
                value_clip,
                whiten,
                learning_rate,
            } => {
                spec.advantages = Some(AdvantagesName::Gae);
                spec.gamma = Some(gamma);
                spec.gae_lambda = Some(lambda);
                spec.value_clip = Some(value_clip);
                spec.whiten = Some(whiten);
                spec.critic_learning_rate = Some(learning_rate);
            }
        }
        spec
    }
}

impl Resolver {
    pub(crate) fn rlhf(&mut self, spec: RlhfSpec, beta: f64, run: RunScales) -> Rlhf {
        let name = spec.advantages.unwrap_or_default();
        let default_samples = if name == AdvantagesName::Gae { 1 } else { 4 };
        let samples = self.count("rlhf.samples", spec.samples, default_samples);
        if name != AdvantagesName::Gae {
            let why = "without advantages = \"gae\"";
            self.no_effect("rlhf.value_clip", spec.value_clip, 5.0, why);
            self.no_effect("rlhf.gamma", spec.gamma, 1.0, why);
            self.no_effect("rlhf.gae_lambda", spec.gae_lambda, 0.95, why);
            self.no_effect("rlhf.whiten", spec.whiten, true, why);
            let usual = 0.5 * run.learning_rate;
            self.no_effect(
                "rlhf.critic_learning_rate",
                spec.critic_learning_rate,
                usual,
                why,
            );
            if samples < 2 {
                let message = format!(
                    "found {samples}, expected 2 or more: an answer is compared with the others to its prompt"
                );
                self.problem("rlhf.samples", message);
            }
        }
        let unit = |x: f64| x > 0.0 && x <= 1.0;
        let advantages = match name {
            AdvantagesName::Rloo => Advantages::Rloo,
            AdvantagesName::Grpo => Advantages::Grpo,
            AdvantagesName::Gae => Advantages::Gae {
                gamma: self.number("rlhf.gamma", spec.gamma, 1.0, "above 0 and up to 1", unit),
                lambda: self.ratio("rlhf.gae_lambda", spec.gae_lambda, 0.95),
                value_clip: self.positive("rlhf.value_clip", spec.value_clip, 5.0),
                whiten: spec.whiten.unwrap_or(true),
                learning_rate: self.positive(
                    "rlhf.critic_learning_rate",
                    spec.critic_learning_rate,
                    0.5 * run.learning_rate,
                ),
            },
        };
        Rlhf {
            beta,
            advantages,
            samples,
            max_new_tokens: self.count(
                "rlhf.max_new_tokens",
                spec.max_new_tokens,
                run.max_response_tokens,
            ),
            epochs: self.count("rlhf.epochs", spec.epochs, 2),
            clip: self.positive("rlhf.clip", spec.clip, 0.2),
            normalise: spec.normalise.unwrap_or(false),
            reward_clip: (spec.reward_clip)
                .map(|clip| self.positive("rlhf.reward_clip", Some(clip), clip)),
            ptx_weight: self.not_negative("rlhf.ptx_weight", spec.ptx_weight, 0.0),
            max_kl: self.positive("rlhf.max_kl", spec.max_kl, 100.0),
            max_repetition: self.ratio("rlhf.max_repetition", spec.max_repetition, 0.9),
        }
    }
}
