//! From the losses of m objectives to the one number that a step minimises.

use crate::Preference;

/// How the objectives are aggregated under a preference λ. L_i = −J_i is the loss of objective i.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregation {
    /// Linear scalarisation: max Σ_i λ_i J_i, that is min Σ_i λ_i L_i.
    Linear,
    /// Weighted Tchebycheff: max min_i λ_i (J_i − z_i), that is min max_i λ_i (L_i + z_i).
    ///
    /// Objectives of weight 0 are left out. (Their term λ_i (L_i + z_i) is 0, which would be the largest as
    /// soon as every other objective is better than its z_i, and the gradient would be 0.)
    Tchebycheff {
        /// The ideal z_i of each objective J_i; empty means all 0, which is valid for DPO, KTO and SFT,
        /// since their J_i ≤ 0.
        ideal: Vec<f64>,
        /// μ ≥ 0 of the smooth maximum μ log Σ_i exp(λ_i (L_i + z_i) / μ) (Lin et al. 2024); at 0 the
        /// maximum itself. It lies above the maximum, by μ log m at most.
        smoothing: f64,
    },
}

/// The aggregate of a batch, and its derivative.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The aggregated loss.
    pub value: f64,
    /// ∂value/∂L_i.
    pub weights: Vec<f64>,
    /// The objective i* where the maximum is taken, the first of equals; Tchebycheff only, and none when
    /// no labelled objective has a weight.
    pub worst: Option<usize>,
}

impl Aggregation {
    /// The name used in files and on plots: `linear` or `tchebycheff`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Tchebycheff { .. } => "tchebycheff",
        }
    }

    /// Aggregates the losses L_i of a whole batch; `None` where no record of the batch is labelled on i,
    /// which contributes 0 and takes weight 0.
    ///
    /// The weights are λ_i (linear), or λ_{i*} at i* and 0 elsewhere (Tchebycheff: the gradient of
    /// λ_{i*} L_{i*} is λ_{i*} ∇L_{i*}), or λ_i times the share of exp(λ_i (L_i + z_i) / μ) in their sum
    /// (smooth Tchebycheff). A NaN loss of an objective with weight makes the value NaN.
    ///
    /// # Panics
    /// When there is not one loss per weight of the preference, a non-empty ideal of another length, or a
    /// smoothing below 0 or not a number.
    #[must_use]
    pub fn aggregate(&self, preference: &Preference, losses: &[Option<f64>]) -> Aggregate {
        let lambda = preference.weights();
        assert_eq!(
            losses.len(),
            lambda.len(),
            "one loss per objective of the preference"
        );
        match self {
            Self::Linear => linear(lambda, losses),
            Self::Tchebycheff { ideal, smoothing } => {
                assert!(
                    ideal.is_empty() || ideal.len() == lambda.len(),
                    "one ideal value per objective"
                );
                assert!(*smoothing >= 0.0, "a smoothing of 0 or more");
                tchebycheff(lambda, losses, ideal, *smoothing)
            }
        }
    }
}

fn linear(lambda: &[f64], losses: &[Option<f64>]) -> Aggregate {
    let mut value = 0.0;
    let mut weights = vec![0.0; lambda.len()];
    for (i, loss) in losses.iter().enumerate() {
        if let Some(loss) = loss {
            weights[i] = lambda[i];
            // An objective without weight does not count, even where its loss is infinite.
            if lambda[i] > 0.0 {
                value += lambda[i] * loss;
            }
        }
    }
    Aggregate {
        value,
        weights,
        worst: None,
    }
}

fn tchebycheff(lambda: &[f64], losses: &[Option<f64>], ideal: &[f64], smoothing: f64) -> Aggregate {
    let distance = |i: usize| {
        let loss = losses[i].filter(|_| lambda[i] > 0.0)?;
        Some(lambda[i] * (loss + ideal.get(i).copied().unwrap_or(0.0)))
    };
    let distances: Vec<Option<f64>> = (0..lambda.len()).map(distance).collect();
    let mut worst: Option<(usize, f64)> = None;
    for (i, distance) in distances.iter().enumerate() {
        let Some(distance) = *distance else { continue };
        if worst.is_none_or(|(_, greatest)| distance > greatest || distance.is_nan()) {
            worst = Some((i, distance));
        }
        if distance.is_nan() {
            break;
        }
    }
    let mut weights = vec![0.0; lambda.len()];
    let Some((worst, greatest)) = worst else {
        return Aggregate {
            value: 0.0,
            weights,
            worst: None,
        };
    };
    let mut value = greatest;
    if smoothing == 0.0 || !greatest.is_finite() {
        weights[worst] = lambda[worst];
    } else {
        // Against the greatest, so that no exponential overflows.
        let share = |distance: &Option<f64>| {
            distance.map_or(0.0, |distance| ((distance - greatest) / smoothing).exp())
        };
        let shares: Vec<f64> = distances.iter().map(share).collect();
        let sum: f64 = shares.iter().sum();
        value += smoothing * sum.ln();
        for (weight, (lambda, share)) in weights.iter_mut().zip(lambda.iter().zip(shares)) {
            *weight = lambda * share / sum;
        }
    }
    Aggregate {
        value,
        weights,
        worst: Some(worst),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preference(weights: &[f64]) -> Preference {
        Preference::new(weights.to_vec()).expect("a preference")
    }

    fn tchebycheff(ideal: &[f64]) -> Aggregation {
        smooth(ideal, 0.0)
    }

    fn smooth(ideal: &[f64], smoothing: f64) -> Aggregation {
        Aggregation::Tchebycheff {
            ideal: ideal.to_vec(),
            smoothing,
        }
    }

    #[test]
    fn linear_weighs_what_is_labelled() {
        let aggregate = Aggregation::Linear
            .aggregate(&preference(&[0.2, 0.5, 0.3]), &[Some(1.0), None, Some(2.0)]);
        assert!((aggregate.value - 0.8).abs() < 1e-15);
        assert_eq!(aggregate.weights, [0.2, 0.0, 0.3]);
        assert_eq!(aggregate.worst, None);
    }

    #[test]
    fn tchebycheff_keeps_the_weight_of_the_worst_objective() {
        let zero = tchebycheff(&[]);
        let aggregate = zero.aggregate(&preference(&[0.2, 0.8]), &[Some(5.0), Some(1.0)]);
        assert_eq!((aggregate.value, aggregate.worst), (1.0, Some(0)));
        assert_eq!(aggregate.weights, [0.2, 0.0]);
    }

    #[test]
    fn the_ideal_moves_the_worst_objective() {
        let losses = [Some(0.6), Some(0.5)];
        let half = Preference::uniform(2);
        assert_eq!(
            tchebycheff(&[0.0, 0.0]).aggregate(&half, &losses).worst,
            Some(0)
        );
        let known = tchebycheff(&[-0.5, -0.3]).aggregate(&half, &losses);
        assert_eq!(known.worst, Some(1));
        assert!((known.value - 0.1).abs() < 1e-15);
    }

    #[test]
    fn an_objective_of_weight_zero_or_without_labels_is_never_the_worst() {
        for beyond in [tchebycheff(&[-1.0, -1.0]), smooth(&[-1.0, -1.0], 0.3)] {
            let aggregate = beyond.aggregate(&Preference::vertex(2, 0), &[Some(0.4), Some(9.0)]);
            assert_eq!(
                (aggregate.worst, aggregate.weights),
                (Some(0), vec![1.0, 0.0])
            );
            let none = beyond.aggregate(&Preference::vertex(2, 0), &[None, Some(9.0)]);
            assert_eq!(
                (none.value, none.worst, none.weights),
                (0.0, None, vec![0.0, 0.0])
            );
        }
    }

    #[test]
    fn the_smooth_maximum_is_weighed_by_shares() {
        // Distances of 0.2 and 0.3 at a smoothing of 0.1: exp 2 and exp 3.
        let aggregate =
            smooth(&[], 0.1).aggregate(&Preference::uniform(2), &[Some(0.4), Some(0.6)]);
        let (two, three) = (2.0_f64.exp(), 3.0_f64.exp());
        assert!((aggregate.value - 0.1 * (two + three).ln()).abs() < 1e-15);
        let expected = [0.5 * two / (two + three), 0.5 * three / (two + three)];
        for (found, expected) in aggregate.weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(aggregate.worst, Some(1));
    }

    #[test]
    fn little_smoothing_is_the_maximum_and_nothing_overflows() {
        let losses = [Some(4000.0), Some(1.0)];
        let half = Preference::uniform(2);
        assert_eq!(
            smooth(&[], 1e-3).aggregate(&half, &losses),
            tchebycheff(&[]).aggregate(&half, &losses)
        );
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_not_hidden() {
        for losses in [[Some(f64::NAN), Some(1.0)], [Some(1.0), Some(f64::NAN)]] {
            for aggregation in [Aggregation::Linear, tchebycheff(&[]), smooth(&[], 0.1)] {
                let aggregate = aggregation.aggregate(&Preference::uniform(2), &losses);
                assert!(aggregate.value.is_nan());
            }
        }
    }
}
