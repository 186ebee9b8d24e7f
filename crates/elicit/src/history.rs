//! All that a person answered, and how likely it makes a guess at what the person wants.

use crate::choice::{Answer, ChoiceModel};
use crate::particles::dot;

/// Answers that say something, in their order, with what is needed to weigh any (λ, τ) by them.
///
/// The belief after n answers is a density relative to the prior, g_n(λ, τ). With L_n the likelihood of answer n, h the share
/// that is forgotten before each answer, and z_n = P(answer n | answers before), which makes ∫ g_n dprior = 1:
///
/// ```text
/// g_0 = 1        g_n = ((1 − h)·g_{n−1} + h)·L_n / z_n
/// ```
///
/// Without forgetting this is Π L_n but for a constant. With it there is no such product: what an answer still counts
/// depends on the place. z_n is then no common factor, since it says what g_{n−1} is worth beside h. It is estimated by the
/// particles when the answer comes, and kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    forgetting: f64,
    answers: Vec<Answered>,
}

#[derive(Clone, Debug, PartialEq)]
struct Answered {
    /// r(left) − r(right), `[m]`.
    difference: Vec<f64>,
    answer: Answer,
    /// ln z_n
    log_predicted: f64,
}

impl History {
    pub(crate) fn new(forgetting: f64) -> Self {
        Self {
            forgetting,
            answers: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Adds an answer, with ln z_n.
    pub(crate) fn push(&mut self, difference: Vec<f64>, answer: Answer, log_predicted: f64) {
        self.answers.push(Answered {
            difference,
            answer,
            log_predicted,
        });
    }

    /// ln g_n at a point.
    pub(crate) fn log_density(
        &self,
        model: &ChoiceModel,
        preference: &[f64],
        log_temperature: f64,
    ) -> f64 {
        let inverse = (-log_temperature).exp();
        self.answers.iter().fold(0.0, |before, answered| {
            let x = dot(preference, &answered.difference) * inverse;
            let likelihood = model.probability(answered.answer, x).ln();
            self.forget(before) + likelihood - answered.log_predicted
        })
    }

    /// ln((1 − h)·e^`log` + h)
    pub(crate) fn forget(&self, log: f64) -> f64 {
        if self.forgetting == 0.0 {
            return log;
        }
        let kept = (-self.forgetting).ln_1p() + log;
        let prior = self.forgetting.ln();
        kept.max(prior) + (-(kept - prior).abs()).exp().ln_1p()
    }
}
