//! `[rlhf]`: reinforcement learning from rewards.

use crate::names::AdvantagesName;
use crate::resolver::Resolver;
use crate::schema::{COUNT, NOT_NEGATIVE, POSITIVE, RATIO, Range};

const DISCOUNT: Range<f64> = Range {
    words: "a number above 0 and up to 1",
    schema: || serde_json::json!({"exclusiveMinimum": 0, "maximum": 1}),
    holds: |&x| x > 0.0 && x <= 1.0,
};

section! {
    /// Reinforcement learning from rewards.
    RlhfSpec at "rlhf." when RLHF {
        /// Where advantages come from. `"gae"`: a critic that sees λ (PPO). The others compare the answers to one prompt:
        /// `"rloo"` with the mean of the others (Ahmadian et al. 2024), `"grpo"` by mean and deviation of Σ λ_i r_i (Shao et
        /// al. 2024), `"gdpo"` by mean and deviation of each r_i, which λ weighs afterwards (Liu et al. 2026): scales of
        /// rewards then have no say in the trade-off. These two have the KL as β·k3 in the loss, whose slope is on average
        /// that of KL(π_ref ‖ π), token by token; the others have it in the rewards, as KL(π ‖ π_ref).
        advantages: AdvantagesName = AdvantagesName::Gae;
        /// Answers to each prompt of a batch; 2 or more with `"rloo"`, `"grpo"` and `"gdpo"`.
        samples: usize, in COUNT, default "1 with `\"gae\"`, 4 without";
        /// Tokens of an answer, at most.
        max_new_tokens: usize, in COUNT, default "`data.max_response_tokens`";
        /// Updates on the answers of a step.
        epochs: usize = 2, in COUNT;
        /// ε of the clipped loss: how far a token's ratio π/π_old may be from 1.
        clip: f64 = 0.2, in POSITIVE;
        /// How far a value may move from where it was in the epochs of a step.
        value_clip: f64 = 5.0, in POSITIVE, when GAE;
        /// The discount of later rewards.
        gamma: f64 = 1.0, in DISCOUNT, when GAE;
        /// λ of generalised advantage estimation: 1 trusts the rewards alone, 0 the critic's next value.
        gae_lambda: f64 = 0.95, in RATIO, when GAE;
        /// Whether the advantages of a batch are brought to mean 0 and deviation 1: with `"gae"` those of its tokens, with
        /// `"gdpo"` those of its answers.
        whiten: bool = true, when WHITENED;
        /// The critic's learning rate.
        critic_learning_rate: f64, in POSITIVE, default "half of `optimizer.learning_rate`", when GAE;
        /// Whether every objective's rewards are brought to mean 0 and deviation 1, those of the answers of the run so far,
        /// before λ weighs them: their scales then have no say in the trade-off.
        normalise: bool = false;
        /// Steps whose answers count for these means and deviations. Afterwards they stand still, so that what is learned
        /// stays the same; metrics, `runs show` and the report of `eval-front` say what they are.
        normalise_steps: usize = 50, in COUNT, when NORMALISED;
        /// How far from 0 a reward may be, after normalising; what is beyond is brought back to it.
        reward_clip: f64, in POSITIVE, default "any distance";
        /// The KL of an answer from the reference, in nats, that β is to lead to: after every step β changes by
        /// clip(KL / target − 1, −0.2, 0.2) / `kl_horizon` of itself, beginning at `method.beta` (Ziegler et al. 2019). The best
        /// policy is then that of the β where this settles, another one than that of `method.beta`.
        kl_target: f64, in POSITIVE, default "`method.beta` stays as it is";
        /// How slowly β follows: 10 lets it change by 2 % in a step at most.
        kl_horizon: usize = 10, in COUNT, when KL_CONTROLLED;
        /// The weight of an SFT loss on the record's own first response, the mean of −log π over its tokens, under the
        /// same λ.
        ptx_weight: f64 = 0.0, in NOT_NEGATIVE;
        /// KL of an answer from the reference, in nats, beyond which the run stops as collapsed.
        max_kl: f64 = 100.0, in POSITIVE;
        /// The share of repeated 4-grams of tokens in answers of 16 tokens or more, the mean over a step, beyond which the
        /// run stops as collapsed; 1 never stops it.
        max_repetition: f64 = 0.9, in RATIO;
    }
}

impl RlhfSpec {
    /// Whether nothing is said: other methods are written down without this section.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of reinforcement learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Rlhf {
    /// β, the price of a nat of KL from the reference.
    pub beta: f64,
    /// How β changes from step to step, if it does.
    pub kl_control: Option<KlControl>,
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
    /// Where they are, the steps after which mean and deviation stand still.
    pub normalise_steps: usize,
    /// How far from 0 a reward may be, after normalising; `None` for any distance.
    pub reward_clip: Option<f64>,
    /// The weight of the SFT loss on the records' own first responses.
    pub ptx_weight: f64,
    /// KL of an answer from the reference, in nats, beyond which the run is stopped as collapsed.
    pub max_kl: f64,
    /// The mean share of repeated 4-grams beyond which the run is stopped as collapsed.
    pub max_repetition: f64,
}

/// How the price of KL follows a target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlControl {
    /// The KL of an answer from the reference that is aimed at, in nats.
    pub target: f64,
    /// One over the share of its distance from the target, at most a fifth, that β changes by in a step.
    pub horizon: usize,
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
        /// Whether the advantages of a batch's tokens are brought to mean 0 and deviation 1.
        whiten: bool,
        /// The critic's learning rate.
        learning_rate: f64,
    },
    /// From the mean of the other answers to the same prompt (Ahmadian et al., 2024).
    Rloo,
    /// From mean and deviation of what all answers to the same prompt are worth under λ (Shao et al., 2024).
    Grpo,
    /// From mean and deviation of all answers to the same prompt, objective by objective before λ weighs them (GDPO; Liu et
    /// al., 2026).
    Gdpo {
        /// Whether the advantages of a batch's answers are brought to mean 0 and deviation 1, as in the paper.
        whiten: bool,
    },
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
            normalise_steps: self.normalise.then_some(self.normalise_steps),
            reward_clip: self.reward_clip,
            kl_target: self.kl_control.map(|control| control.target),
            kl_horizon: self.kl_control.map(|control| control.horizon),
            ptx_weight: Some(self.ptx_weight),
            max_kl: Some(self.max_kl),
            max_repetition: Some(self.max_repetition),
            ..RlhfSpec::default()
        };
        match self.advantages {
            Advantages::Rloo => spec.advantages = Some(AdvantagesName::Rloo),
            Advantages::Grpo => spec.advantages = Some(AdvantagesName::Grpo),
            Advantages::Gdpo { whiten } => {
                spec.advantages = Some(AdvantagesName::Gdpo);
                spec.whiten = Some(whiten);
            }
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
    pub(crate) fn rlhf(&mut self, spec: &RlhfSpec, beta: f64, run: RunScales) -> Rlhf {
        let name = self.take(spec.advantages());
        let default_samples = if name == AdvantagesName::Gae { 1 } else { 4 };
        let samples = self.take_or(spec.samples(), default_samples);
        if name != AdvantagesName::Gae && samples < 2 {
            let message = format!(
                "found {samples}, expected 2 or more: an answer is compared with the others to its prompt"
            );
            self.problem("rlhf.samples", message);
        }
        let advantages = match name {
            AdvantagesName::Rloo => Advantages::Rloo,
            AdvantagesName::Grpo => Advantages::Grpo,
            AdvantagesName::Gdpo => Advantages::Gdpo {
                whiten: self.take(spec.whiten()),
            },
            AdvantagesName::Gae => Advantages::Gae {
                gamma: self.take(spec.gamma()),
                lambda: self.take(spec.gae_lambda()),
                value_clip: self.take(spec.value_clip()),
                whiten: self.take(spec.whiten()),
                learning_rate: self.take_or(spec.critic_learning_rate(), 0.5 * run.learning_rate),
            },
        };
        let kl_horizon = self.take(spec.kl_horizon());
        let kl_target = self.take_if_given(spec.kl_target());
        Rlhf {
            beta,
            kl_control: kl_target.map(|target| KlControl {
                target,
                horizon: kl_horizon,
            }),
            advantages,
            samples,
            max_new_tokens: self.take_or(spec.max_new_tokens(), run.max_response_tokens),
            epochs: self.take(spec.epochs()),
            clip: self.take(spec.clip()),
            normalise: self.take(spec.normalise()),
            normalise_steps: self.take(spec.normalise_steps()),
            reward_clip: self.take_if_given(spec.reward_clip()),
            ptx_weight: self.take(spec.ptx_weight()),
            max_kl: self.take(spec.max_kl()),
            max_repetition: self.take(spec.max_repetition()),
        }
    }
}
