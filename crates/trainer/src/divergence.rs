//! When a training has left the range in which it makes sense: NaN, infinity, an exploding norm.

use std::fmt;

/// The number that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quantity {
    /// The loss of one objective, by its name.
    Loss(String),
    /// The aggregated loss.
    Aggregate,
    /// The global norm of the gradient, before clipping.
    GradientNorm,
    /// The same of the critic's gradient.
    CriticGradientNorm,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(objective) => write!(f, "the loss of objective \"{objective}\""),
            Self::Aggregate => f.write_str("the aggregated loss"),
            Self::GradientNorm => f.write_str("the gradient norm"),
            Self::CriticGradientNorm => f.write_str("the norm of the critic's gradient"),
        }
    }
}

/// Why a run was stopped: which number left its range, when, and what to try.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("training diverged at step {step}: {quantity} is {value}{}; {}", limit_text(.limit), self.hint())]
pub struct Divergence {
    /// The optimizer step, counted from 1.
    pub step: usize,
    /// What was looked at.
    pub quantity: Quantity,
    /// What it was.
    pub value: f64,
    /// The limit that a finite value exceeded; nothing for NaN and infinity.
    pub limit: Option<f64>,
}

fn limit_text(limit: &Option<f64>) -> String {
    limit.map_or_else(String::new, |limit| {
        format!(", above optimizer.max_grad_norm = {limit}")
    })
}

impl Divergence {
    /// What to try next.
    pub fn hint(&self) -> &'static str {
        match (&self.quantity, self.limit) {
            (Quantity::CriticGradientNorm, _) => {
                "set rlhf.normalise = true or rlhf.reward_clip if rewards are large, lower rlhf.critic_learning_rate, \
                 or raise optimizer.max_grad_norm if norms of this size are usual for this critic; \
                 metrics.jsonl shows how critic_grad_norm grew"
            }
            (Quantity::GradientNorm, Some(_)) => {
                "lower optimizer.learning_rate or optimizer.learning_rate_singular, lengthen optimizer.warmup_ratio, \
                 or raise optimizer.max_grad_norm if norms of this size are usual for this model; \
                 metrics.jsonl shows how the norm grew"
            }
            _ => {
                "lower optimizer.learning_rate or optimizer.learning_rate_singular, set optimizer.clip_norm, \
                 or lower adapter.alpha; metrics.jsonl shows the steps before"
            }
        }
    }
}

/// Why a run of reinforcement learning was stopped: there is nothing left to be learned from the policy's answers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the policy collapsed at step {step}: {reason}; metrics.jsonl shows how it came")]
pub struct Collapse {
    /// The optimizer step, counted from 1.
    pub step: usize,
    /// What its answers have come to.
    pub reason: CollapseReason,
}

/// What the answers of a collapsed policy have come to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CollapseReason {
    /// They are too far from what the reference would say.
    #[error(
        "an answer is {kl:.1} nats from the reference on average, above rlhf.max_kl = {limit}; raise method.beta, lower optimizer.learning_rate, or raise rlhf.max_kl if so far is meant"
    )]
    Kl {
        /// The mean of log π − log π_ref over answers.
        kl: f64,
        /// The limit.
        limit: f64,
    },
    /// All of them are worth the same, on every objective, and have been for a while.
    #[error(
        "all answers of the last {steps} steps have the same rewards, {}; look at what the scorers make of the answers, raise method.beta or lower optimizer.learning_rate if the policy always says the same, or end the run earlier if this is the best there is",
        named(.rewards)
    )]
    EqualRewards {
        /// How many steps.
        steps: usize,
        /// Every objective with the reward of all answers.
        rewards: Vec<(String, f64)>,
    },
    /// They say the same again and again.
    #[error(
        "{:.0} % of the 4-grams of an answer of {REPETITION_TOKENS} tokens or more have stood in it before, above rlhf.max_repetition = {limit}; raise method.beta, lower optimizer.learning_rate, lower rlhf.max_new_tokens, or set rlhf.max_repetition = 1 if answers are meant to repeat themselves",
        100.0 * .share
    )]
    Repetition {
        /// The mean share of repeated 4-grams.
        share: f64,
        /// The limit.
        limit: f64,
    },
}

/// Answers with fewer tokens than this do not count towards the share of repeated 4-grams.
pub const REPETITION_TOKENS: usize = 16;

fn named(rewards: &[(String, f64)]) -> String {
    let named = rewards
        .iter()
        .map(|(name, reward)| format!("{name} {reward}"));
    named.collect::<Vec<_>>().join(" and ")
}

/// Looks for NaN, infinity and a gradient norm beyond its limit.
#[derive(Debug, Clone, Copy)]
pub struct DivergenceGuard {
    /// The largest gradient norm before clipping that is still believed.
    pub max_grad_norm: f64,
}

impl DivergenceGuard {
    /// Checks the losses of a step when its gradient is computed, before the optimizer uses it. An objective without
    /// a label in the batch has no loss.
    pub fn check_losses<'a>(
        &self,
        step: usize,
        losses: impl IntoIterator<Item = (&'a str, Option<f64>)>,
        aggregate: f64,
    ) -> Result<(), Divergence> {
        let labelled = losses
            .into_iter()
            .filter_map(|(name, loss)| Some((Quantity::Loss(name.to_owned()), loss?)));
        for (quantity, value) in labelled.chain([(Quantity::Aggregate, aggregate)]) {
            if !value.is_finite() {
                return Err(Divergence {
                    step,
                    quantity,
                    value,
                    limit: None,
                });
            }
        }
        Ok(())
    }

    /// Checks a gradient's global norm before clipping, and before the optimizer uses it.
    pub fn check_norm(
        &self,
        step: usize,
        quantity: Quantity,
        grad_norm: f64,
    ) -> Result<(), Divergence> {
        let limit = if !grad_norm.is_finite() {
            None
        } else if grad_norm > self.max_grad_norm {
            Some(self.max_grad_norm)
        } else {
            return Ok(());
        };
        Err(Divergence {
            step,
            quantity,
            value: grad_norm,
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: DivergenceGuard = DivergenceGuard { max_grad_norm: 1e4 };

    fn norm(step: usize, norm: f64) -> Result<(), Divergence> {
        GUARD.check_norm(step, Quantity::GradientNorm, norm)
    }

    #[test]
    fn ordinary_numbers_pass_and_a_missing_loss_is_no_divergence() {
        let losses = [("helpfulness", Some(0.69)), ("conciseness", None)];
        assert_eq!(GUARD.check_losses(1, losses, 0.69), Ok(()));
        assert_eq!(norm(1, 1e4), Ok(()));
        assert_eq!(norm(1, 0.0), Ok(()));
    }

    #[test]
    fn a_nan_loss_names_step_objective_and_what_to_try() {
        let losses = [("helpfulness", Some(0.69)), ("conciseness", Some(f64::NAN))];
        let message = GUARD.check_losses(7, losses, 0.3).unwrap_err().to_string();
        assert!(message.contains("step 7"), "{message}");
        assert!(message.contains("\"conciseness\" is NaN"), "{message}");
        assert!(message.contains("optimizer.learning_rate"), "{message}");
    }

    #[test]
    fn an_infinite_aggregate_of_finite_losses_is_caught() {
        let found = GUARD
            .check_losses(3, [("a", Some(1.0))], f64::INFINITY)
            .unwrap_err();
        assert_eq!(found.quantity, Quantity::Aggregate);
        assert_eq!(found.value, f64::INFINITY);
    }

    #[test]
    fn the_norm_is_caught_when_nan_infinite_or_above_its_limit() {
        assert!(norm(1, f64::NAN).is_err());
        assert_eq!(norm(1, f64::INFINITY).unwrap_err().limit, None);
        let message = norm(12, 20000.0).unwrap_err().to_string();
        assert!(
            message.contains(
                "step 12: the gradient norm is 20000, above optimizer.max_grad_norm = 10000"
            ),
            "{message}"
        );
    }
}
