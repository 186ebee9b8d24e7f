//! The loss of a reward model: the difference of two rewards as the odds that one response is preferred.

use super::{Term, towards_preferred};
use crate::log_sigmoid::{log_sigmoid, sigmoid};

/// The Bradley–Terry loss of a pair of rewards.
///
/// With d = r_0 − r_1 and a label p, the probability that response 0 is the preferred one,
///
/// ```text
/// loss = p·ℓ(d) + (1−p)·ℓ(−d) + centering · (r_0 + r_1)²          ℓ(d) = −log σ(d − margin)
/// ```
///
/// A hard label (1 or 0) gives the loss of Touvron et al. 2023 (Llama 2), eq. 2, with one margin for all pairs. Only
/// differences count in it; `centering` holds the rewards themselves near 0 (Eisenstein et al. 2023, eq. 7).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BradleyTerry {
    margin: f64,
    centering: f64,
}

/// Why the parameters of a reward model's loss cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BradleyTerryError {
    /// The margin is negative.
    #[error("the margin is {0}; it must be a finite number ≥ 0")]
    Margin(f64),
    /// The centering is negative.
    #[error("the centering is {0}; it must be a finite number ≥ 0")]
    Centering(f64),
}

impl BradleyTerry {
    /// The loss with checked parameters.
    ///
    /// # Errors
    /// When margin or centering is negative.
    pub fn new(margin: f64, centering: f64) -> Result<Self, BradleyTerryError> {
        if !(margin.is_finite() && margin >= 0.0) {
            return Err(BradleyTerryError::Margin(margin));
        }
        if !(centering.is_finite() && centering >= 0.0) {
            return Err(BradleyTerryError::Centering(centering));
        }
        Ok(Self { margin, centering })
    }

    /// The lead ≥ 0 that the preferred response's reward is to have.
    #[must_use]
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// The weight ≥ 0 of the squared sum of the rewards.
    #[must_use]
    pub fn centering(&self) -> f64 {
        self.centering
    }

    /// The loss of `rewards` under `label`, the probability in [0, 1] that response 0 is preferred.
    #[must_use]
    pub fn term(&self, rewards: [f64; 2], label: f64) -> Term {
        debug_assert!(
            (0.0..=1.0).contains(&label),
            "a label is a probability, found {label}"
        );
        let [first, second] = rewards;
        let (lead, sum) = (first - second, first + second);
        let side = |lead: f64| -log_sigmoid(lead - self.margin);
        let slope = |lead: f64| -sigmoid(self.margin - lead);
        let d_lead = label * slope(lead) - (1.0 - label) * slope(-lead);
        let d_sum = 2.0 * self.centering * sum;
        Term {
            loss: label * side(lead) + (1.0 - label) * side(-lead) + self.centering * sum * sum,
            gradient: [d_sum + d_lead, d_sum - d_lead],
            margin: towards_preferred(lead, label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: BradleyTerry = BradleyTerry {
        margin: 0.0,
        centering: 0.0,
    };

    #[test]
    fn hand_computed_values() {
        let term = PLAIN.term([0.0, 0.0], 1.0);
        assert!((term.loss - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(term.gradient, [-0.5, 0.5]);
        assert_eq!(term.is_correct(), Some(false));

        // log(1 + e^(−(2 − 0.5 − 1))) = log(1 + e^(−½)), and 0.1 · (2 + 0.5)².
        let both = BradleyTerry {
            margin: 1.0,
            centering: 0.1,
        };
        let term = both.term([2.0, 0.5], 1.0);
        assert!((term.loss - (0.474_076_984_180_107 + 0.625)).abs() < 1e-12);
        assert_eq!((term.margin, term.is_correct()), (Some(1.5), Some(true)));
        assert_eq!(both.term([2.0, 0.5], 0.0).margin, Some(-1.5));
        assert_eq!(both.term([2.0, 0.5], 0.5).margin, None);
        assert!(BradleyTerry::new(0.0, 0.0).is_ok());
        assert_eq!(
            BradleyTerry::new(-1.0, 0.0),
            Err(BradleyTerryError::Margin(-1.0))
        );
        assert!(BradleyTerry::new(0.0, f64::NAN).is_err());
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn the_slopes_are_those_of_the_loss(
            a in -5.0..5.0_f64, b in -5.0..5.0_f64, label in 0.0..=1.0_f64,
            margin in 0.0..2.0_f64, centering in 0.0..1.0_f64,
        ) {
            let loss = BradleyTerry { margin, centering };
            let term = loss.term([a, b], label);
            let h = 1e-5;
            let at = |a, b| loss.term([a, b], label).loss;
            let differences = [at(a + h, b) - at(a - h, b), at(a, b + h) - at(a, b - h)];
            for (slope, difference) in term.gradient.iter().zip(differences) {
                prop_assert!((slope - difference / (2.0 * h)).abs() < 1e-7);
            }
        }

        #[test]
        fn the_order_of_the_responses_does_not_matter(
            a in -5.0..5.0_f64, b in -5.0..5.0_f64, label in 0.0..=1.0_f64, margin in 0.0..2.0_f64,
        ) {
            let loss = BradleyTerry { margin, centering: 0.3 };
            let (one, other) = (loss.term([a, b], label), loss.term([b, a], 1.0 - label));
            prop_assert!((one.loss - other.loss).abs() < 1e-12);
            prop_assert!((one.gradient[0] - other.gradient[1]).abs() < 1e-12);
        }

        #[test]
        fn without_centering_a_shift_changes_nothing(
            a in -5.0..5.0_f64, b in -5.0..5.0_f64, shift in -9.0..9.0_f64,
        ) {
            let (term, shifted) = (PLAIN.term([a, b], 0.8), PLAIN.term([a + shift, b + shift], 0.8));
            prop_assert!((term.loss - shifted.loss).abs() < 1e-12);
        }
    }
}
