//! Direct preference optimisation: the loss of one pair under one label.

use super::{Term, towards_preferred};
use crate::log_sigmoid::{log_sigmoid, sigmoid};

/// Log-probabilities of the two responses of a pair, each summed over the tokens of the response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLogProbs {
    /// log π(y_j|x) under the policy.
    pub policy: [f64; 2],
    /// log π_ref(y_j|x) under the reference.
    pub reference: [f64; 2],
    /// Number of response tokens, the end-of-turn token included.
    pub tokens: [usize; 2],
}

/// The DPO loss of a pair.
///
/// With h = (log π(y_0) − log π_ref(y_0)) − (log π(y_1) − log π_ref(y_1)) and a label p, the probability
/// that response 0 is the preferred one,
///
/// ```text
/// loss = p·ℓ(h) + (1−p)·ℓ(−h) + sft_weight · [ p·(−log π(y_0))/|y_0| + (1−p)·(−log π(y_1))/|y_1| ]
/// ```
///
/// so that a hard label (1 or 0) gives the loss of the papers with the preferred response first, and a
/// soft one its expectation under the label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dpo {
    beta: f64,
    loss: DpoLoss,
    sft_weight: f64,
}

/// ℓ(h), the loss of a pair whose preferred response is the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DpoLoss {
    /// ℓ(h) = −(1−ε)·log σ(βh) − ε·log σ(−βh). With ε = 0 the loss of Rafailov et al. 2023, eq. 7;
    /// ε > 0 is its conservative form, which assumes that a share ε of the labels is flipped.
    Sigmoid {
        /// ε in [0, ½).
        label_smoothing: f64,
    },
    /// ℓ(h) = (h − 1/(2β))²: IPO (Azar et al. 2023, eq. 17, with τ = β). h is the difference of the
    /// *sums* over tokens, as in the paper; some trainers use means per token instead, and their β is
    /// then of another scale.
    Ipo,
}

/// Why DPO parameters cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DpoError {
    /// β is not positive.
    #[error("the DPO beta is {0}; it must be a finite number > 0 (0.1 is usual)")]
    Beta(f64),
    /// ε is outside [0, ½).
    #[error("the label smoothing is {0}; it must lie in [0, 0.5)")]
    LabelSmoothing(f64),
    /// The SFT weight is negative.
    #[error("the SFT weight is {0}; it must be a finite number ≥ 0")]
    SftWeight(f64),
}

impl Dpo {
    /// DPO with checked parameters: β, ℓ and the weight of the negative log-likelihood.
    ///
    /// # Errors
    /// When β is not > 0, the label smoothing is outside [0, ½), or the SFT weight is negative.
    pub fn new(beta: f64, loss: DpoLoss, sft_weight: f64) -> Result<Self, DpoError> {
        if !(beta.is_finite() && beta > 0.0) {
            return Err(DpoError::Beta(beta));
        }
        if let DpoLoss::Sigmoid { label_smoothing } = loss
            && !(0.0..0.5).contains(&label_smoothing)
        {
            return Err(DpoError::LabelSmoothing(label_smoothing));
        }
        if !(sft_weight.is_finite() && sft_weight >= 0.0) {
            return Err(DpoError::SftWeight(sft_weight));
        }
        Ok(Self {
            beta,
            loss,
            sft_weight,
        })
    }

    /// β > 0: how strongly the policy is held to the reference.
    #[must_use]
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// ℓ.
    #[must_use]
    pub fn loss(&self) -> DpoLoss {
        self.loss
    }

    /// Weight ≥ 0 of the negative log-likelihood, per token, of the preferred response; it keeps its
    /// probability from falling along with that of the other one.
    #[must_use]
    pub fn sft_weight(&self) -> f64 {
        self.sft_weight
    }

    /// The loss of `pair` under `label`, the probability in [0, 1] that response 0 is preferred.
    #[must_use]
    pub fn term(&self, pair: &PairLogProbs, label: f64) -> Term {
        debug_assert!(
            (0.0..=1.0).contains(&label),
            "a label is a probability, found {label}"
        );
        let h = (pair.policy[0] - pair.reference[0]) - (pair.policy[1] - pair.reference[1]);
        let [p, q] = [label, 1.0 - label];

        // An outcome of probability 0 is left out, not multiplied by 0: a loss that overflows under it
        // must not turn the other one into NaN.
        let (mut loss, mut d_h) = (0.0, 0.0);
        if p > 0.0 {
            let (l, d) = self.preferred_first(h);
            loss += p * l;
            d_h += p * d;
        }
        if q > 0.0 {
            let (l, d) = self.preferred_first(-h);
            loss += q * l;
            d_h -= q * d;
        }
        let mut gradient = [d_h, -d_h];

        if self.sft_weight > 0.0 {
            for (j, share) in [p, q].into_iter().enumerate() {
                // A response without tokens has a log-probability of 0 whatever the policy does.
                if share > 0.0 && pair.tokens[j] > 0 {
                    let per_token = self.sft_weight * share / pair.tokens[j] as f64;
                    loss -= per_token * pair.policy[j];
                    gradient[j] -= per_token;
                }
            }
        }

        Term {
            loss,
            gradient,
            margin: towards_preferred(self.beta * h, label),
        }
    }

    /// What no policy's loss under `label` is below.
    pub(super) fn lowest(&self, label: f64) -> f64 {
        match self.loss {
            DpoLoss::Sigmoid { label_smoothing } => {
                let p = label * (1.0 - label_smoothing) + (1.0 - label) * label_smoothing;
                let part = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
                part(p) + part(1.0 - p)
            }
            DpoLoss::Ipo => 0.0,
        }
    }

    /// ℓ(h) and dℓ/dh.
    fn preferred_first(&self, h: f64) -> (f64, f64) {
        let beta = self.beta;
        match self.loss {
            DpoLoss::Sigmoid {
                label_smoothing: 0.0,
            } => (-log_sigmoid(beta * h), -beta * sigmoid(-beta * h)),
            DpoLoss::Sigmoid {
                label_smoothing: flipped,
            } => (
                -(1.0 - flipped) * log_sigmoid(beta * h) - flipped * log_sigmoid(-beta * h),
                // d/dx [−(1−ε) log σ(x) − ε log σ(−x)] = −(1−ε) σ(−x) + ε σ(x)
                beta * (flipped * sigmoid(beta * h) - (1.0 - flipped) * sigmoid(-beta * h)),
            ),
            DpoLoss::Ipo => {
                let residual = h - 1.0 / (2.0 * beta);
                (residual * residual, 2.0 * residual)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn losses() -> impl Strategy<Value = DpoLoss> {
        prop_oneof![
            Just(DpoLoss::Sigmoid {
                label_smoothing: 0.0
            }),
            (0.0..0.49f64).prop_map(|label_smoothing| DpoLoss::Sigmoid { label_smoothing }),
            Just(DpoLoss::Ipo),
        ]
    }

    prop_compose! {
        fn dpos()(beta in 0.01..2.0f64, loss in losses(), sft_weight in prop_oneof![Just(0.0), 0.0..3.0f64]) -> Dpo {
            Dpo { beta, loss, sft_weight }
        }
    }

    prop_compose! {
        fn pairs()(
            policy in prop::array::uniform2(-60.0..0.0f64),
            reference in prop::array::uniform2(-60.0..0.0f64),
            tokens in prop::array::uniform2(1usize..80),
        ) -> PairLogProbs {
            PairLogProbs { policy, reference, tokens }
        }
    }

    fn labels() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0f64]
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_the_derivative_is_that_of_finite_differences(dpo in dpos(), pair in pairs(), label in labels()) {
            let term = dpo.term(&pair, label);
            let step = 1e-5;
            for j in 0..2 {
                let at = |shift: f64| {
                    let mut moved = pair;
                    moved.policy[j] += shift;
                    dpo.term(&moved, label).loss
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                prop_assert!(
                    (numeric - term.gradient[j]).abs() <= 1e-6 * (1.0 + numeric.abs() + term.loss.abs()),
                    "{numeric} against {}", term.gradient[j]
                );
            }
        }

        #[test]
        fn prop_swapping_responses_and_label_changes_nothing(dpo in dpos(), pair in pairs(), label in labels()) {
            let swap = |[a, b]: [f64; 2]| [b, a];
            let swapped = PairLogProbs {
                policy: swap(pair.policy),
                reference: swap(pair.reference),
                tokens: [pair.tokens[1], pair.tokens[0]],
            };
            let (one, other) = (dpo.term(&pair, label), dpo.term(&swapped, 1.0 - label));
            prop_assert!((one.loss - other.loss).abs() <= 1e-9 * (1.0 + one.loss.abs()));
            prop_assert!((one.gradient[0] - other.gradient[1]).abs() <= 1e-9 * (1.0 + one.gradient[0].abs()));
            match (one.margin, other.margin) {
                (Some(one), Some(other)) => prop_assert!((one - other).abs() <= 1e-9 * (1.0 + one.abs())),
                margins => prop_assert_eq!(margins, (None, None)),
            }
        }

        #[test]
        fn prop_a_soft_label_is_the_expectation_over_hard_ones(dpo in dpos(), pair in pairs(), label in 0.0..=1.0f64) {
            let expected = label * dpo.term(&pair, 1.0).loss + (1.0 - label) * dpo.term(&pair, 0.0).loss;
            prop_assert!((dpo.term(&pair, label).loss - expected).abs() <= 1e-9 * (1.0 + expected.abs()));
        }

        #[test]
        fn prop_at_the_reference_the_sigmoid_loss_is_log_two(beta in 0.01..2.0f64, label in labels(), log_probs in prop::array::uniform2(-60.0..0.0f64)) {
            let dpo = Dpo { beta, loss: DpoLoss::Sigmoid { label_smoothing: 0.0 }, sft_weight: 0.0 };
            let term = dpo.term(&PairLogProbs { policy: log_probs, reference: log_probs, tokens: [1, 1] }, label);
            prop_assert!((term.loss - std::f64::consts::LN_2).abs() < 1e-12);
            prop_assert!((term.gradient[0] + beta * (label - 0.5)).abs() < 1e-12);
            prop_assert!(term.margin.is_none_or(|margin| margin == 0.0) && term.is_correct() != Some(true));
        }
    }

    #[test]
    fn an_extreme_pair_stays_finite() {
        let dpo = Dpo {
            beta: 1.0,
            loss: DpoLoss::Sigmoid {
                label_smoothing: 0.0,
            },
            sft_weight: 0.0,
        };
        let pair = PairLogProbs {
            policy: [-5000.0, 0.0],
            reference: [0.0, -5000.0],
            tokens: [9, 9],
        };
        let wrong = dpo.term(&pair, 1.0);
        assert_eq!(
            (wrong.loss, wrong.gradient, wrong.is_correct()),
            (10_000.0, [-1.0, 1.0], Some(false))
        );
        let right = dpo.term(&pair, 0.0);
        assert_eq!(
            (right.loss, right.margin, right.is_correct()),
            (0.0, Some(10_000.0), Some(true))
        );
        assert!(right.gradient.iter().all(|d| *d == 0.0));
    }

    #[test]
    fn ipo_is_zero_at_its_target_margin() {
        let dpo = Dpo {
            beta: 0.1,
            loss: DpoLoss::Ipo,
            sft_weight: 0.0,
        };
        let pair = PairLogProbs {
            policy: [-5.0, -10.0],
            reference: [-10.0, -10.0],
            tokens: [4, 4],
        };
        let term = dpo.term(&pair, 1.0);
        assert!(term.loss.abs() < 1e-20 && term.gradient[0].abs() < 1e-10);
        assert!((dpo.term(&pair, 0.0).loss - 100.0).abs() < 1e-9);
    }

    #[test]
    fn the_sft_term_is_per_token_of_the_preferred_response() {
        let plain = Dpo {
            beta: 0.1,
            loss: DpoLoss::Sigmoid {
                label_smoothing: 0.1,
            },
            sft_weight: 0.0,
        };
        let with = Dpo {
            sft_weight: 0.5,
            ..plain
        };
        let pair = PairLogProbs {
            policy: [-8.0, -30.0],
            reference: [-9.0, -29.0],
            tokens: [4, 10],
        };
        assert!(
            (with.term(&pair, 1.0).loss - plain.term(&pair, 1.0).loss - 0.5 * 8.0 / 4.0).abs()
                < 1e-12
        );
        assert!(
            (with.term(&pair, 0.0).loss - plain.term(&pair, 0.0).loss - 0.5 * 30.0 / 10.0).abs()
                < 1e-12
        );
        assert_eq!(
            with.term(&pair, 1.0).gradient[1],
            plain.term(&pair, 1.0).gradient[1]
        );
    }

    #[test]
    fn parameters_are_checked() {
        let sigmoid = DpoLoss::Sigmoid {
            label_smoothing: 0.0,
        };
        assert!(Dpo::new(0.1, sigmoid, 0.0).is_ok());
        assert_eq!(Dpo::new(0.0, sigmoid, 0.0), Err(DpoError::Beta(0.0)));
        assert!(Dpo::new(f64::NAN, sigmoid, 0.0).is_err());
        assert!(
            Dpo::new(
                0.1,
                DpoLoss::Sigmoid {
                    label_smoothing: 0.5
                },
                0.0
            )
            .is_err()
        );
        assert_eq!(
            Dpo::new(0.1, DpoLoss::Ipo, -1.0),
            Err(DpoError::SftWeight(-1.0))
        );
    }
}
