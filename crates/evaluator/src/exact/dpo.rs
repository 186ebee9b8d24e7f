//! Multi-objective DPO on finite menus: a convex problem for every preference.
//!
//! A policy enters the DPO loss of a pair only through the difference of two scores
//! h_y = β (log π(y|x) − log π_ref(y|x)). On a menu of K responses every vector h is reached by some policy
//! (up to a constant per prompt, which cancels), and
//!
//! ```text
//! L_i(h) = mean over prompts, and over the pairs of each, of  p_i·softplus(h_b − h_a) + (1 − p_i)·softplus(h_a − h_b)
//! ```
//!
//! is convex in h. J_i = −L_i.

use std::fmt;

use nalgebra::{DMatrix, DVector};
use panacea_objectives::{Aggregation, Preference, log_sigmoid};

use super::newton::{Convex, minimise, solve};

/// Two responses of a menu, and what every objective says about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The index of one response.
    pub first: usize,
    /// The index of the other one.
    pub second: usize,
    /// Per objective: the probability, strictly between 0 and 1, that `first` is preferred.
    pub labels: Vec<f64>,
}

/// The responses to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Menu {
    /// How many there are.
    pub responses: usize,
    /// Which of them are compared.
    pub comparisons: Vec<Comparison>,
}

/// Why a problem has no finite optimum to compute.
#[derive(Clone, Debug, PartialEq)]
pub enum MenuError {
    /// There is nothing to compare.
    Empty,
    /// A label is 0 or 1: the optimum lies at infinity.
    Label {
        /// The menu, counted from 0.
        menu: usize,
        /// The objective, counted from 0.
        objective: usize,
        /// The label.
        found: f64,
    },
}

impl fmt::Display for MenuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "there is no comparison"),
            Self::Label {
                menu,
                objective,
                found,
            } => write!(
                f,
                "menu {}: objective {} has the label {found}, and only labels strictly between 0 and 1 have a finite optimum",
                menu + 1,
                objective + 1
            ),
        }
    }
}

impl std::error::Error for MenuError {}

/// All menus of a problem.
#[derive(Clone, Debug)]
pub struct MenuProblem {
    objectives: usize,
    menus: Vec<Menu>,
}

/// An optimum for one preference.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// J_i of each objective.
    pub values: Vec<f64>,
    /// h of every response of every menu; only differences within a menu mean anything.
    pub scores: Vec<Vec<f64>>,
    /// How far the aggregate may be from the true optimum, proved by duality; 0 for linear
    /// scalarisation, whose gradient vanishes.
    pub gap: f64,
}

impl MenuProblem {
    /// A problem with `objectives` objectives.
    ///
    /// # Errors
    /// When a menu has no comparison, or a label is not strictly between 0 and 1.
    ///
    /// # Panics
    /// When a comparison has not one label per objective or names a response that is not there.
    pub fn new(objectives: usize, menus: Vec<Menu>) -> Result<Self, MenuError> {
        if menus.is_empty() || menus.iter().any(|menu| menu.comparisons.is_empty()) {
            return Err(MenuError::Empty);
        }
        for (index, menu) in menus.iter().enumerate() {
            for comparison in &menu.comparisons {
                assert_eq!(
                    comparison.labels.len(),
                    objectives,
                    "one label per objective"
                );
                assert!(comparison.first.max(comparison.second) < menu.responses);
                let outside = |label: &&f64| !(**label > 0.0 && **label < 1.0);
                if let Some(&found) = comparison.labels.iter().find(outside) {
                    let objective = (comparison.labels.iter())
                        .position(|label| label == &found)
                        .unwrap_or(0);
                    return Err(MenuError::Label {
                        menu: index,
                        objective,
                        found,
                    });
                }
            }
        }
        Ok(Self { objectives, menus })
    }

    /// The number m of objectives.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.objectives
    }

    /// max_h Σ_i w_i J_i(h), for weights w ≥ 0, at least one of them positive.
    #[must_use]
    pub fn linear(&self, weights: &[f64]) -> Optimum {
        let scores = self.solve_menus(weights, None);
        Optimum {
            values: self.values(&scores),
            scores,
            gap: 0.0,
        }
    }

    /// The best value of each objective alone.
    #[must_use]
    pub fn ideal(&self) -> Vec<f64> {
        (0..self.objectives)
            .map(|i| {
                let mut vertex = vec![0.0; self.objectives];
                vertex[i] = 1.0;
                self.linear(&vertex).values[i]
            })
            .collect()
    }

    /// max_h min_i λ_i (J_i(h) − z_i), for an ideal z with z_i ≥ the best J_i. Objectives without weight
    /// take no part. With a `smoothing` μ > 0, min_h μ log Σ_i exp(λ_i (z_i − J_i(h)) / μ).
    ///
    /// With multipliers w on the simplex the Lagrangian Σ_i w_i λ_i (J_i − z_i) is a linear
    /// scalarisation, so that the dual is a concave function of w whose gradient and Hessian are known;
    /// the smooth maximum adds μ times the entropy of w to it. It is maximised by Newton's method behind
    /// a logarithmic barrier.
    ///
    /// # Panics
    /// When there is not one weight and one ideal value per objective, or `smoothing` is below 0 or not a
    /// number.
    #[must_use]
    pub fn tchebycheff(&self, preference: &Preference, ideal: &[f64], smoothing: f64) -> Optimum {
        let aggregation = Aggregation::Tchebycheff {
            ideal: ideal.to_vec(),
            smoothing,
        };
        let lambda = preference.weights();
        let active: Vec<usize> = (0..self.objectives).filter(|&i| lambda[i] > 0.0).collect();
        let count = active.len();
        let spread = |multipliers: &DVector<f64>| {
            let mut weights = vec![0.0; self.objectives];
            for (&i, multiplier) in active.iter().zip(multipliers.iter()) {
                weights[i] = multiplier * lambda[i];
            }
            weights
        };
        // f_i = λ_i (z_i − J_i): what Tchebycheff minimises the largest of.
        let distances = |scores: &[Vec<f64>]| -> DVector<f64> {
            let values = self.values(scores);
            DVector::from_iterator(
                count,
                active.iter().map(|&i| lambda[i] * (ideal[i] - values[i])),
            )
        };

        let mut multipliers = DVector::from_element(count, 1.0 / count as f64);
        let mut scores = self.solve_menus(&spread(&multipliers), None);
        let mut barrier = 1e-2;
        while count > 1 && barrier > 1e-12 {
            let mut last_decrement = f64::INFINITY;
            for _ in 0..50 {
                let f = distances(&scores);
                let barrier_value = |multipliers: &DVector<f64>, f: &DVector<f64>| {
                    let dual = multipliers.dot(f) + smoothing * entropy(multipliers);
                    dual + barrier * multipliers.iter().map(|w| w.ln()).sum::<f64>()
                };
                let value = barrier_value(&multipliers, &f);
                // A constant has no slope along the plane Σ w = 1; without it less cancels below.
                let gradient = &f + multipliers.map(|w| barrier / w - smoothing * w.ln());
                let gradient = gradient.add_scalar(-gradient.mean());
                let curvature =
                    self.dual_curvature(&scores, &spread(&multipliers), &active, lambda)
                        + DMatrix::from_diagonal(
                            &multipliers.map(|w| barrier / (w * w) + smoothing / w),
                        );
                // Newton's step on the plane Σ w = 1.
                let ones = DVector::from_element(count, 1.0);
                let (ascent, along) = (solve(&curvature, &gradient), solve(&curvature, &ones));
                let step = &ascent - &along * (ascent.sum() / along.sum());
                let decrement = gradient.dot(&step);
                // As in `minimise`: once rounding hides the gain, whole steps until they stop shrinking.
                let is_close = decrement <= 1e-12;
                if decrement <= 1e-9 * barrier || (is_close && decrement >= last_decrement) {
                    break;
                }
                last_decrement = decrement;
                let mut length = 1.0_f64;
                for (w, s) in multipliers.iter().zip(step.iter()) {
                    if *s < 0.0 {
                        length = length.min(-0.99 * w / s);
                    }
                }
                loop {
                    let mut candidate = &multipliers + &step * length;
                    // Rounding would let the sum drift over many steps.
                    candidate /= candidate.sum();
                    let candidate_scores = self.solve_menus(&spread(&candidate), Some(&scores));
                    let reached = barrier_value(&candidate, &distances(&candidate_scores));
                    if is_close || reached >= value + 0.1 * length * decrement || length < 1e-10 {
                        (multipliers, scores) = (candidate, candidate_scores);
                        break;
                    }
                    length *= 0.5;
                }
            }
            barrier *= 0.2;
        }
        let values = self.values(&scores);
        let losses: Vec<Option<f64>> = values.iter().map(|value| Some(-value)).collect();
        let reached = aggregation.aggregate(preference, &losses).value;
        let dual = multipliers.dot(&distances(&scores)) + smoothing * entropy(&multipliers);
        Optimum {
            values,
            gap: reached - dual,
            scores,
        }
    }

    /// J_i of any scores.
    ///
    /// # Panics
    /// When `scores` has not one list per menu and one entry per response.
    #[must_use]
    pub fn values(&self, scores: &[Vec<f64>]) -> Vec<f64> {
        assert_eq!(
            scores.len(),
            self.menus.len(),
            "one list of scores per menu"
        );
        let mut values = vec![0.0; self.objectives];
        for (menu, scores) in self.menus.iter().zip(scores) {
            let share = self.share(menu);
            for comparison in &menu.comparisons {
                let d = scores[comparison.first] - scores[comparison.second];
                for (value, label) in values.iter_mut().zip(&comparison.labels) {
                    *value -= share * (label * softplus(-d) + (1.0 - label) * softplus(d));
                }
            }
        }
        values
    }

    /// The part that one comparison of `menu` has in a mean over menus of means over comparisons.
    fn share(&self, menu: &Menu) -> f64 {
        1.0 / (self.menus.len() * menu.comparisons.len()) as f64
    }

    /// The scores that minimise Σ_i w_i L_i; menus do not meet, so each is solved alone.
    fn solve_menus(&self, weights: &[f64], start: Option<&[Vec<f64>]>) -> Vec<Vec<f64>> {
        let solve = |(index, menu): (usize, &Menu)| {
            let start = match start {
                Some(scores) => DVector::from_column_slice(&scores[index]),
                None => DVector::zeros(menu.responses),
            };
            let scalarised = Scalarised {
                menu,
                share: self.share(menu),
                weights,
            };
            minimise(&scalarised, start).as_slice().to_vec()
        };
        self.menus.iter().enumerate().map(solve).collect()
    }

    /// −∇² of the dual at the optimum `scores` of `weights`: Σ_menus Gᵀ H⁻¹ G, where column i of G is
    /// λ_i ∇L_i and H the Hessian of the Lagrangian; `[active, active]`.
    fn dual_curvature(
        &self,
        scores: &[Vec<f64>],
        weights: &[f64],
        active: &[usize],
        preference: &[f64],
    ) -> DMatrix<f64> {
        let mut curvature = DMatrix::zeros(active.len(), active.len());
        for (menu, scores) in self.menus.iter().zip(scores) {
            let scores = DVector::from_column_slice(scores);
            let share = self.share(menu);
            let scalarised = |weights: &[f64]| {
                let scalarised = Scalarised {
                    menu,
                    share,
                    weights,
                };
                scalarised.at(&scores)
            };
            let (_, _, hessian) = scalarised(weights);
            let gradients: Vec<DVector<f64>> = active
                .iter()
                .map(|&i| {
                    let mut vertex = vec![0.0; self.objectives];
                    vertex[i] = preference[i];
                    scalarised(&vertex).1
                })
                .collect();
            for (column, gradient) in gradients.iter().enumerate() {
                let moved = solve(&hessian, gradient);
                for (row, gradient) in gradients.iter().enumerate() {
                    curvature[(row, column)] += gradient.dot(&moved);
                }
            }
        }
        curvature
    }
}

/// Σ_i w_i L_i of one menu, as a function of its scores.
struct Scalarised<'a> {
    menu: &'a Menu,
    share: f64,
    weights: &'a [f64],
}

impl Convex for Scalarised<'_> {
    fn at(&self, h: &DVector<f64>) -> (f64, DVector<f64>, DMatrix<f64>) {
        let n = self.menu.responses;
        let (mut value, mut gradient, mut hessian) = (0.0, DVector::zeros(n), DMatrix::zeros(n, n));
        for comparison in &self.menu.comparisons {
            let (a, b) = (comparison.first, comparison.second);
            let mix = |of: &dyn Fn(f64) -> f64| -> f64 {
                let labels = comparison.labels.iter().zip(self.weights);
                self.share
                    * labels
                        .map(|(label, weight)| weight * of(*label))
                        .sum::<f64>()
            };
            let (for_a, for_b) = (mix(&|label| label), mix(&|label| 1.0 - label));
            let d = h[a] - h[b];
            let sigma = 1.0 / (1.0 + (-d).exp());
            value += for_a * softplus(-d) + for_b * softplus(d);
            let slope = for_b * sigma - for_a * (1.0 - sigma);
            gradient[a] += slope;
            gradient[b] -= slope;
            let curvature = (for_a + for_b) * sigma * (1.0 - sigma);
            hessian[(a, a)] += curvature;
            hessian[(b, b)] += curvature;
            hessian[(a, b)] -= curvature;
            hessian[(b, a)] -= curvature;
        }
        (value, gradient, hessian)
    }
}

/// −Σ_i w_i log w_i, of weights above 0.
fn entropy(weights: &DVector<f64>) -> f64 {
    -weights.iter().map(|w| w * w.ln()).sum::<f64>()
}

/// log(1 + exp x).
fn softplus(x: f64) -> f64 {
    -log_sigmoid(-x)
}

#[cfg(test)]
mod tests {
    use panacea_objectives::sigmoid;
    use proptest::prelude::*;

    use super::*;

    /// A menu whose labels follow from one score per response and objective (Bradley–Terry).
    fn menu(rewards: &[Vec<f64>]) -> Menu {
        let responses = rewards[0].len();
        let pairs = (0..responses).flat_map(|a| (a + 1..responses).map(move |b| (a, b)));
        let comparison = |(first, second): (usize, usize)| Comparison {
            first,
            second,
            labels: (rewards.iter())
                .map(|reward| sigmoid(reward[first] - reward[second]))
                .collect(),
        };
        Menu {
            responses,
            comparisons: pairs.map(comparison).collect(),
        }
    }

    fn two_menus() -> MenuProblem {
        let menus = vec![
            menu(&[vec![1.0, -0.5, 0.2], vec![-1.2, 0.9, 0.4]]),
            menu(&[vec![0.3, -1.5, 0.8], vec![-0.4, 1.1, 0.0]]),
        ];
        MenuProblem::new(2, menus).unwrap()
    }

    #[test]
    fn on_a_tree_the_optimum_is_the_logit_of_the_mixed_label() {
        let labels = [[0.8, 0.3], [0.6, 0.1]];
        let comparison = |pair: usize| Comparison {
            first: pair,
            second: pair + 1,
            labels: labels[pair].to_vec(),
        };
        let comparisons = vec![comparison(0), comparison(1)];
        let menu = Menu {
            responses: 3,
            comparisons,
        };
        let problem = MenuProblem::new(2, vec![menu]).unwrap();
        for weight in [0.0, 0.25, 1.0] {
            let h = &problem.linear(&[weight, 1.0 - weight]).scores[0];
            for pair in 0..2 {
                let mixed = weight * labels[pair][0] + (1.0 - weight) * labels[pair][1];
                let logit = (mixed / (1.0 - mixed)).ln();
                assert!((h[pair] - h[pair + 1] - logit).abs() < 1e-10);
            }
        }
    }

    #[test]
    fn each_objective_alone_reaches_the_entropy_of_its_labels() {
        let problem = two_menus();
        let ideal = problem.ideal();
        for (i, ideal) in ideal.iter().enumerate() {
            let entropies = problem.menus.iter().flat_map(|menu| &menu.comparisons);
            let entropies: Vec<f64> = entropies
                .map(|comparison| comparison.labels[i])
                .map(|p| -p * p.ln() - (1.0 - p) * (1.0 - p).ln())
                .collect();
            let mean = entropies.iter().sum::<f64>() / entropies.len() as f64;
            assert!((ideal + mean).abs() < 1e-12, "{ideal} against {mean}");
        }
    }

    /// Scores of a grid around the optimum, two free ones for three responses: none does better, and the
    /// nearest does hardly worse.
    #[test]
    fn no_scores_of_a_grid_do_better() {
        let menu = menu(&[vec![1.0, -0.5, 0.2], vec![-1.2, 0.9, 0.4]]);
        let problem = MenuProblem::new(2, vec![menu]).unwrap();
        let ideal = problem.ideal();
        for weight in [0.0, 0.2, 0.5, 0.7, 1.0] {
            let preference = [weight, 1.0 - weight];
            let under = Preference::new(preference.to_vec()).unwrap();
            let linear = |values: &[f64]| -(preference[0] * values[0] + preference[1] * values[1]);
            let distance = |values: &[f64], i: usize| preference[i] * (ideal[i] - values[i]);
            let tchebycheff = |values: &[f64]| distance(values, 0).max(distance(values, 1));
            // By the sum itself, over the objectives with weight.
            let smooth = |values: &[f64]| {
                let shares = (0..2).filter(|&i| preference[i] > 0.0);
                let sum: f64 = shares.map(|i| (distance(values, i) / 0.1).exp()).sum();
                0.1 * sum.ln()
            };
            let found = [
                linear(&problem.linear(&preference).values),
                tchebycheff(&problem.tchebycheff(&under, &ideal, 0.0).values),
                smooth(&problem.tchebycheff(&under, &ideal, 0.1).values),
            ];
            let mut best = [f64::INFINITY; 3];
            for a in -300..=300 {
                for b in -300..=300 {
                    let scores = vec![vec![f64::from(a) * 0.01, f64::from(b) * 0.01, 0.0]];
                    let values = problem.values(&scores);
                    best[0] = best[0].min(linear(&values));
                    best[1] = best[1].min(tchebycheff(&values));
                    best[2] = best[2].min(smooth(&values));
                }
            }
            // The maximum has a kink: a point of the grid misses it by a first-order amount.
            for ((found, best), near) in found.into_iter().zip(best).zip([1e-4, 2e-3, 1e-4]) {
                assert!(found <= best + 1e-10, "λ {weight}: {found} against {best}");
                assert!(best - found < near, "λ {weight}: {found} against {best}");
            }
        }
    }

    #[test]
    fn labels_of_certainty_have_no_finite_optimum() {
        let comparison = Comparison {
            first: 0,
            second: 1,
            labels: vec![0.5, 1.0],
        };
        let menu = Menu {
            responses: 2,
            comparisons: vec![comparison],
        };
        let error = MenuProblem::new(2, vec![menu]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("menu 1: objective 2 has the label 1"),
            "{error}"
        );
        assert_eq!(MenuProblem::new(2, vec![]).unwrap_err(), MenuError::Empty);
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        /// Optimality for up to five objectives: the gradient of the linear aggregate vanishes, duality
        /// closes the gap of Tchebycheff, and no objective with weight is further away than the rest
        /// unless all of them are equally far.
        #[test]
        fn optima_satisfy_their_conditions(
            rewards in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(-1.5..1.5_f64, 6), 5), 3),
            raw in proptest::collection::vec(0.02..1.0_f64, 5),
            smoothing in 1e-3..1.0_f64,
        ) {
            let total: f64 = raw.iter().sum();
            let preference: Vec<f64> = raw.iter().map(|w| w / total).collect();
            let menus = rewards.iter().map(|rewards| menu(rewards)).collect();
            let problem = MenuProblem::new(5, menus).unwrap();

            let linear = problem.linear(&preference);
            for (menu, scores) in problem.menus.iter().zip(&linear.scores) {
                let share = problem.share(menu);
                let scalarised = Scalarised { menu, share, weights: &preference };
                let (_, gradient, _) = scalarised.at(&DVector::from_column_slice(scores));
                prop_assert!(gradient.norm() < 1e-10, "{}", gradient.norm());
            }

            let ideal = problem.ideal();
            let under = Preference::new(preference.clone()).unwrap();
            let smooth = problem.tchebycheff(&under, &ideal, smoothing);
            prop_assert!(smooth.gap.abs() < 1e-9, "{}", smooth.gap);
            let optimum = problem.tchebycheff(&under, &ideal, 0.0);
            prop_assert!(optimum.gap.abs() < 1e-9, "{}", optimum.gap);
            let distance = |values: &[f64]| -> f64 {
                (0..5).map(|i| preference[i] * (ideal[i] - values[i])).fold(0.0, f64::max)
            };
            prop_assert!(distance(&optimum.values) <= distance(&linear.values) + 1e-9);
        }
    }
}
