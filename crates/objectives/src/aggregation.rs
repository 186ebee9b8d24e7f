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
    /// λ_{i*} L_{i*} is λ_{i*} ∇L_{i*}). A NaN loss of an objective with weight makes the value NaN.
    ///
    /// # Panics
    /// When there is not one loss per weight of the preference, or a non-empty ideal of another length.
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
            Self::Tchebycheff { ideal } => {
                assert!(
                    ideal.is_empty() || ideal.len() == lambda.len(),
                    "one ideal value per objective"
                );
                tchebycheff(lambda, losses, ideal)
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

fn tchebycheff(lambda: &[f64], losses: &[Option<f64>], ideal: &[f64]) -> Aggregate {
    let mut worst: Option<(usize, f64)> = None;
    for (i, loss) in losses.iter().enumerate() {
        let Some(loss) = loss else { continue };
        if lambda[i] == 0.0 {
            continue;
        }
        let distance = lambda[i] * (loss + ideal.get(i).copied().unwrap_or(0.0));
        if worst.is_none_or(|(_, greatest)| distance > greatest || distance.is_nan()) {
            worst = Some((i, distance));
        }
        if distance.is_nan() {
            break;
        }
    }
    let mut weights = vec![0.0; lambda.len()];
    if let Some((i, _)) = worst {
        weights[i] = lambda[i];
    }
    Aggregate {
        value: worst.map_or(0.0, |(_, distance)| distance),
        weights,
        worst: worst.map(|(i, _)| i),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preference(weights: &[f64]) -> Preference {
        Preference::new(weights.to_vec()).expect("a preference")
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
        let zero = Aggregation::Tchebycheff { ideal: vec![] };
        let aggregate = zero.aggregate(&preference(&[0.2, 0.8]), &[Some(5.0), Some(1.0)]);
        assert_eq!((aggregate.value, aggregate.worst), (1.0, Some(0)));
        assert_eq!(aggregate.weights, [0.2, 0.0]);
    }

    #[test]
    fn the_ideal_moves_the_worst_objective() {
        let losses = [Some(0.6), Some(0.5)];
        let half = Preference::uniform(2);
        assert_eq!(
            Aggregation::Tchebycheff {
                ideal: vec![0.0, 0.0]
            }
            .aggregate(&half, &losses)
            .worst,
            Some(0)
        );
        let known = Aggregation::Tchebycheff {
            ideal: vec![-0.5, -0.3],
        }
        .aggregate(&half, &losses);
        assert_eq!(known.worst, Some(1));
        assert!((known.value - 0.1).abs() < 1e-15);
    }

    #[test]
    fn an_objective_of_weight_zero_or_without_labels_is_never_the_worst() {
        let beyond = Aggregation::Tchebycheff {
            ideal: vec![-1.0, -1.0],
        };
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

    #[test]
    fn a_loss_that_is_not_a_number_is_not_hidden() {
        let zero = Aggregation::Tchebycheff { ideal: vec![] };
        for losses in [[Some(f64::NAN), Some(1.0)], [Some(1.0), Some(f64::NAN)]] {
            assert!(
                zero.aggregate(&Preference::uniform(2), &losses)
                    .value
                    .is_nan()
            );
            assert!(
                Aggregation::Linear
                    .aggregate(&Preference::uniform(2), &losses)
                    .value
                    .is_nan()
            );
        }
    }
}
