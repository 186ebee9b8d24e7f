//! `[rlhf]`: from what was written to what is done, and back.

use super::Resolver;
use crate::rlhf::{Advantages, Rlhf};
use crate::spec::{AdvantagesName, RlhfSpec};

/// What other sections say that defaults of `[rlhf]` follow.
#[derive(Clone, Copy)]
pub(super) struct RunScales {
    pub learning_rate: f64,
    pub max_response_tokens: usize,
}

impl Rlhf {
    pub(super) fn to_spec(&self) -> RlhfSpec {
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
    pub(super) fn rlhf(&mut self, spec: RlhfSpec, beta: f64, run: RunScales) -> Rlhf {
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
