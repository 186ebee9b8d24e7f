//! Kahneman–Tversky optimisation: the loss of one response that is good or bad by itself.

use super::{Term, towards_preferred};
use crate::log_sigmoid::sigmoid;
use crate::statistics::mean;

/// The KTO loss of a response (Ethayarajh et al. 2024, eq. 8).
///
/// With h = log π(y|x) − log π_ref(y|x), a label p, the probability that the response is desirable, and z₀, how far the
/// policy has moved from the reference on the whole,
///
/// ```text
/// loss = p·w_D·(1 − σ(β(h − z₀))) + (1−p)·w_U·(1 − σ(β(z₀ − h)))
/// z₀   = max(0, mean of log π(y'|x) − log π_ref(y'|x))        over prompts x with a response y' to another prompt
/// ```
///
/// z₀ is an estimate of KL(π‖π_ref) over a group of records. No gradient goes through it. A hard label (1 or 0) gives
/// the loss of the paper, a soft one its expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kto {
    beta: f64,
    desirable_weight: f64,
    undesirable_weight: f64,
}

/// z₀ of a group of records: the mean of their log-ratios log π(y'|x) − log π_ref(y'|x), y' a response to another prompt,
/// and 0 at least; 0 without a record. A log-ratio that is no number is not hidden.
#[must_use]
pub fn mismatched_kl(log_ratios: impl IntoIterator<Item = f64>) -> f64 {
    mean(log_ratios).map_or(0.0, |mean| if mean < 0.0 { 0.0 } else { mean })
}

/// Why KTO parameters cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KtoError {
    /// β is not positive.
    #[error("the KTO beta is {0}; it must be a finite number > 0 (0.1 is usual)")]
    Beta(f64),
    /// A weight is not positive.
    #[error("a weight of KTO is {0}; it must be a finite number > 0 (1 is usual)")]
    Weight(f64),
}

impl Kto {
    /// KTO with checked parameters: β, and the weights of desirable and of undesirable responses.
    ///
    /// # Errors
    /// When one of them is not > 0.
    pub fn new(
        beta: f64,
        desirable_weight: f64,
        undesirable_weight: f64,
    ) -> Result<Self, KtoError> {
        let is_positive = |x: f64| x.is_finite() && x > 0.0;
        if !is_positive(beta) {
            return Err(KtoError::Beta(beta));
        }
        for weight in [desirable_weight, undesirable_weight] {
            if !is_positive(weight) {
                return Err(KtoError::Weight(weight));
            }
        }
        Ok(Self {
            beta,
            desirable_weight,
            undesirable_weight,
        })
    }

    /// β > 0: how strongly the policy is held to the reference.
    #[must_use]
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// w_D > 0.
    #[must_use]
    pub fn desirable_weight(&self) -> f64 {
        self.desirable_weight
    }

    /// w_U > 0.
    #[must_use]
    pub fn undesirable_weight(&self) -> f64 {
        self.undesirable_weight
    }

    /// The loss of a response with this log-ratio h under `label`, the probability in [0, 1] that it is desirable.
    #[must_use]
    pub fn term(&self, log_ratio: f64, kl: f64, label: f64) -> Term {
        debug_assert!(
            (0.0..=1.0).contains(&label),
            "a label is a probability, found {label}"
        );
        let x = self.beta * (log_ratio - kl);
        let [good, bad] = self.weights(label);
        // 1 − σ(x) = σ(−x), and dσ/dx = σ(x)·σ(−x).
        let slope = self.beta * sigmoid(x) * sigmoid(-x);
        Term {
            loss: good * sigmoid(-x) + bad * sigmoid(x),
            gradient: [(bad - good) * slope, 0.0],
            margin: towards_preferred(x, label),
        }
    }

    /// What no policy's loss under `label` is below.
    pub(super) fn lowest(&self, label: f64) -> f64 {
        let [good, bad] = self.weights(label);
        good.min(bad)
    }

    fn weights(&self, label: f64) -> [f64; 2] {
        [
            label * self.desirable_weight,
            (1.0 - label) * self.undesirable_weight,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn ktos()(beta in 0.01..2.0f64, desirable in 0.1..3.0f64, undesirable in 0.1..3.0f64) -> Kto {
            Kto { beta, desirable_weight: desirable, undesirable_weight: undesirable }
        }
    }

    fn labels() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0f64]
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_the_derivative_is_that_of_finite_differences(kto in ktos(), h in -20.0..20.0f64, kl in 0.0..10.0f64, label in labels()) {
            let step = 1e-5;
            let numeric = (kto.term(h + step, kl, label).loss - kto.term(h - step, kl, label).loss) / (2.0 * step);
            prop_assert!((numeric - kto.term(h, kl, label).gradient[0]).abs() <= 1e-8);
        }

        #[test]
        fn prop_a_soft_label_is_the_expectation_over_hard_ones(kto in ktos(), h in -20.0..20.0f64, kl in 0.0..10.0f64, label in 0.0..=1.0f64) {
            let of = |label: f64| kto.term(h, kl, label);
            let expected = label * of(1.0).loss + (1.0 - label) * of(0.0).loss;
            prop_assert!((of(label).loss - expected).abs() <= 1e-12);
            prop_assert!(of(label).loss >= kto.lowest(label) - 1e-12);
        }

        #[test]
        fn prop_at_z0_every_loss_is_half_its_weight(kto in ktos(), kl in 0.0..10.0f64) {
            prop_assert_eq!(kto.term(kl, kl, 1.0).loss, 0.5 * kto.desirable_weight);
            prop_assert_eq!(kto.term(kl, kl, 0.0).loss, 0.5 * kto.undesirable_weight);
            prop_assert_eq!(kto.term(kl, kl, 1.0).is_correct(), Some(false));
        }
    }

    #[test]
    fn a_broken_log_ratio_is_not_hidden() {
        assert_eq!(mismatched_kl([3.0, -1.0]), 1.0);
        assert_eq!(mismatched_kl([-3.0, 1.0]), 0.0);
        assert_eq!(mismatched_kl([]), 0.0);
        assert!(mismatched_kl([1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn parameters_are_checked() {
        assert!(Kto::new(0.1, 1.0, 1.0).is_ok());
        assert_eq!(Kto::new(0.0, 1.0, 1.0), Err(KtoError::Beta(0.0)));
        assert_eq!(Kto::new(0.1, 0.0, 1.0), Err(KtoError::Weight(0.0)));
        assert!(Kto::new(0.1, 1.0, f64::INFINITY).is_err());
    }
}
