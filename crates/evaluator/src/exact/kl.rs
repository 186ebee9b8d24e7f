//! Rewards under a KL penalty on finite menus: the optimum of every preference in closed form.
//!
//! ```text
//! J_i(π) = mean over prompts of  Σ_y π(y|x) r_i(x, y) − β KL(π ‖ π_ref)
//! max_π Σ_i λ_i J_i(π)   at   π*(y|x) ∝ π_ref(y|x) exp(Σ_i λ_i r_i(x, y) / β)     (Rafailov et al. 2023, eq. 4)
//! Σ_i λ_i J_i(π*) = mean over prompts of  β log Σ_y π_ref(y|x) exp(Σ_i λ_i r_i(x, y) / β)
//! ```
//!
//! π and π_ref are distributions over the responses of the menu: both are renormalised on it. Every J_i
//! is concave in π, so that linear scalarisation reaches every point of the front.

/// The responses to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct KlMenu {
    /// log π_ref(y|x) of each response; renormalised on the menu, so that a constant does not matter.
    pub reference: Vec<f64>,
    /// Per response, the reward r_i(x, y) of each objective.
    pub rewards: Vec<Vec<f64>>,
}

/// Why a problem has no optimum to compute. Menus, responses and objectives are counted from 0 here, and
/// from 1 in the messages.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KlError {
    /// β is not positive.
    #[error("the KL coefficient is {0}; it must be a finite number > 0")]
    Beta(f64),
    /// There is no menu.
    #[error("there is no menu")]
    Empty,
    /// A menu has no response.
    #[error("menu {}: there is no response", menu + 1)]
    EmptyMenu {
        /// The menu.
        menu: usize,
    },
    /// A menu has not one row of rewards per response.
    #[error("menu {}: {found} response(s) have rewards, expected {expected}", menu + 1)]
    Responses {
        /// The menu.
        menu: usize,
        /// The number of rows of rewards.
        found: usize,
        /// The number of log-probabilities.
        expected: usize,
    },
    /// A response has not one reward per objective.
    #[error("menu {}, response {}: found {found} reward(s), expected {expected}", menu + 1, response + 1)]
    Objectives {
        /// The menu.
        menu: usize,
        /// The response.
        response: usize,
        /// The number of rewards.
        found: usize,
        /// The number of objectives.
        expected: usize,
    },
    /// The reference gives a response no probability, or one that is not a number.
    #[error("menu {}, response {}: the log-probability under the reference is {found}, expected a finite number", menu + 1, response + 1)]
    Reference {
        /// The menu.
        menu: usize,
        /// The response.
        response: usize,
        /// The log-probability.
        found: f64,
    },
    /// A reward is NaN or infinite.
    #[error("menu {}, response {}: the reward of objective {} is {found}, expected a finite number", menu + 1, response + 1, objective + 1)]
    Reward {
        /// The menu.
        menu: usize,
        /// The response.
        response: usize,
        /// The objective.
        objective: usize,
        /// The reward.
        found: f64,
    },
}

/// All menus of a problem.
#[derive(Clone, Debug)]
pub struct KlProblem {
    objectives: usize,
    beta: f64,
    /// The references are normalised.
    menus: Vec<KlMenu>,
}

/// An optimum for one preference.
#[derive(Clone, Debug, PartialEq)]
pub struct KlOptimum {
    /// J_i of each objective.
    pub values: Vec<f64>,
    /// log π*(y|x) of every response of every menu.
    pub log_policy: Vec<Vec<f64>>,
}

impl KlProblem {
    /// A problem with `objectives` objectives and β = `beta`.
    ///
    /// # Errors
    /// When β is not > 0, there is no menu, a menu is empty, a list is of the wrong length or a number is
    /// not finite.
    pub fn new(objectives: usize, beta: f64, mut menus: Vec<KlMenu>) -> Result<Self, KlError> {
        if !(beta.is_finite() && beta > 0.0) {
            return Err(KlError::Beta(beta));
        }
        if menus.is_empty() {
            return Err(KlError::Empty);
        }
        for (index, menu) in menus.iter_mut().enumerate() {
            check(index, menu, objectives)?;
            menu.reference = log_normalised(&menu.reference);
        }
        Ok(Self {
            objectives,
            beta,
            menus,
        })
    }

    /// max_π Σ_i w_i J_i(π), for weights w ≥ 0, at least one of them positive. They need not sum to 1;
    /// each J_i has its own penalty, so that β counts Σ_i w_i times.
    ///
    /// # Panics
    /// When there is not one weight per objective.
    #[must_use]
    pub fn optimum(&self, weights: &[f64]) -> KlOptimum {
        assert_eq!(weights.len(), self.objectives, "one weight per objective");
        let temperature = self.beta * weights.iter().sum::<f64>();
        let tilted = |menu: &KlMenu| {
            let responses = menu.reference.iter().zip(&menu.rewards);
            let scores: Vec<f64> = responses
                .map(|(reference, rewards)| {
                    let weighted = rewards.iter().zip(weights).map(|(r, w)| w * r);
                    reference + weighted.sum::<f64>() / temperature
                })
                .collect();
            log_normalised(&scores)
        };
        let log_policy: Vec<Vec<f64>> = self.menus.iter().map(tilted).collect();
        KlOptimum {
            values: self.values(&log_policy),
            log_policy,
        }
    }

    /// J_i of any policy, given as log π(y|x) of every response of every menu. It is renormalised on each
    /// menu: how much of its probability lies outside is for the caller to say. A policy that gives a
    /// menu no probability at all has no values, and they are NaN.
    ///
    /// # Panics
    /// When `log_policy` has not one list per menu and one entry per response.
    #[must_use]
    pub fn values(&self, log_policy: &[Vec<f64>]) -> Vec<f64> {
        assert_eq!(
            log_policy.len(),
            self.menus.len(),
            "one list of log-probabilities per menu"
        );
        let mut values = vec![0.0; self.objectives];
        let share = 1.0 / self.menus.len() as f64;
        for (menu, log_policy) in self.menus.iter().zip(log_policy) {
            assert_eq!(
                log_policy.len(),
                menu.reference.len(),
                "one log-probability per response"
            );
            for (y, log_prob) in log_normalised(log_policy).into_iter().enumerate() {
                let probability = log_prob.exp();
                // p log p vanishes with p; its logarithm may be −∞.
                if probability == 0.0 {
                    continue;
                }
                let penalty = self.beta * (log_prob - menu.reference[y]);
                for (value, reward) in values.iter_mut().zip(&menu.rewards[y]) {
                    *value += share * probability * (reward - penalty);
                }
            }
        }
        values
    }
}

fn check(index: usize, menu: &KlMenu, objectives: usize) -> Result<(), KlError> {
    let responses = menu.reference.len();
    if responses == 0 {
        return Err(KlError::EmptyMenu { menu: index });
    }
    if menu.rewards.len() != responses {
        return Err(KlError::Responses {
            menu: index,
            found: menu.rewards.len(),
            expected: responses,
        });
    }
    for (response, (&reference, rewards)) in menu.reference.iter().zip(&menu.rewards).enumerate() {
        if rewards.len() != objectives {
            return Err(KlError::Objectives {
                menu: index,
                response,
                found: rewards.len(),
                expected: objectives,
            });
        }
        if !reference.is_finite() {
            return Err(KlError::Reference {
                menu: index,
                response,
                found: reference,
            });
        }
        if let Some(objective) = rewards.iter().position(|reward| !reward.is_finite()) {
            return Err(KlError::Reward {
                menu: index,
                response,
                objective,
                found: rewards[objective],
            });
        }
    }
    Ok(())
}

/// x − log Σ exp(x).
fn log_normalised(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = top + x.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    x.iter().map(|x| x - total).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weighted(weights: &[f64], values: &[f64]) -> f64 {
        weights.iter().zip(values).map(|(w, v)| w * v).sum()
    }

    fn menu(reference: &[f64], rewards: &[[f64; 2]]) -> KlMenu {
        KlMenu {
            reference: reference.to_vec(),
            rewards: rewards.iter().map(|row| row.to_vec()).collect(),
        }
    }

    /// Three responses, given with an arbitrary constant in the reference.
    fn three_responses(beta: f64) -> KlProblem {
        let reference = [0.5_f64, 0.3, 0.2].map(|p| p.ln() - 7.0);
        let rewards = [[1.0, -1.0], [-0.5, 0.8], [0.2, 0.3]];
        KlProblem::new(2, beta, vec![menu(&reference, &rewards)]).expect("valid")
    }

    fn two_menus(beta: f64) -> KlProblem {
        let menus = vec![
            menu(&[-1.0, -2.0, -0.5], &[[1.0, -1.0], [-0.5, 0.8], [0.2, 0.3]]),
            menu(&[-3.0, -2.5], &[[0.4, 0.9], [1.5, -0.6]]),
        ];
        KlProblem::new(2, beta, menus).expect("valid")
    }

    #[test]
    fn two_responses_by_hand() {
        // β = 1 and a reward of ln 2 against 0: π* ∝ (2/3 · 2, 1/3 · 1).
        let reference = [(2.0_f64 / 3.0).ln(), (1.0_f64 / 3.0).ln()];
        let rewards = vec![vec![2.0_f64.ln()], vec![0.0]];
        let menu = KlMenu {
            reference: reference.to_vec(),
            rewards,
        };
        let problem = KlProblem::new(1, 1.0, vec![menu]).expect("valid");
        let optimum = problem.optimum(&[1.0]);
        assert!((optimum.log_policy[0][0].exp() - 0.8).abs() < 1e-15);
        // β log Σ π_ref e^r = log(4/3 + 1/3).
        assert!((optimum.values[0] - (5.0_f64 / 3.0).ln()).abs() < 1e-15);
    }

    #[test]
    fn the_mean_over_menus_is_that_of_the_menus_alone() {
        let both = two_menus(0.7);
        let weights = [0.35, 0.65];
        let alone = both.menus.iter().map(|menu| {
            let problem = KlProblem::new(2, 0.7, vec![menu.clone()]).expect("valid");
            problem.optimum(&weights).values
        });
        let alone: Vec<Vec<f64>> = alone.collect();
        for (i, value) in both.optimum(&weights).values.iter().enumerate() {
            assert!((value - 0.5 * (alone[0][i] + alone[1][i])).abs() < 1e-15);
        }
    }

    /// Every policy on a fine grid over three responses does worse, and the best of them comes close.
    #[test]
    fn no_policy_of_a_grid_does_better() {
        let problem = three_responses(0.7);
        let weights = [0.35, 0.65];
        let best = weighted(&weights, &problem.optimum(&weights).values);
        let n = 400;
        let mut best_of_grid = f64::NEG_INFINITY;
        for i in 0..=n {
            for j in 0..=n - i {
                let policy = [i, j, n - i - j].map(|count| (f64::from(count) / f64::from(n)).ln());
                let reached = weighted(&weights, &problem.values(&[policy.to_vec()]));
                best_of_grid = best_of_grid.max(reached);
            }
        }
        assert!(
            best_of_grid <= best + 1e-12,
            "{best_of_grid} against {best}"
        );
        assert!(best - best_of_grid < 1e-4, "{best_of_grid} against {best}");
    }

    #[test]
    fn gradient_ascent_ends_at_the_optimum() {
        let problem = two_menus(0.5);
        let weights = [0.6, 0.4];
        let aggregate = |logits: &[Vec<f64>]| weighted(&weights, &problem.values(logits));
        let mut logits = vec![vec![0.0; 3], vec![0.0; 2]];
        let step = 1e-5;
        for _ in 0..4000 {
            let mut slopes = logits.clone();
            for (menu, slopes) in slopes.iter_mut().enumerate() {
                for (y, slope) in slopes.iter_mut().enumerate() {
                    let shifted = |shift: f64| {
                        let mut moved = logits.clone();
                        moved[menu][y] += shift;
                        aggregate(&moved)
                    };
                    *slope = (shifted(step) - shifted(-step)) / (2.0 * step);
                }
            }
            for (logit, slope) in logits.iter_mut().flatten().zip(slopes.iter().flatten()) {
                *logit += 4.0 * slope;
            }
        }
        let optimum = problem.optimum(&weights);
        for (logits, expected) in logits.iter().zip(&optimum.log_policy) {
            for (found, expected) in log_normalised(logits).iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{found} against {expected}"
                );
            }
        }
    }

    #[test]
    fn a_large_penalty_holds_the_policy_at_the_reference() {
        let problem = two_menus(1e6);
        let optimum = problem.optimum(&[0.2, 0.8]);
        for (menu, log_policy) in problem.menus.iter().zip(&optimum.log_policy) {
            for (reference, found) in menu.reference.iter().zip(log_policy) {
                assert!((reference - found).abs() < 1e-5);
            }
        }
        // What is left are the mean rewards of the reference.
        let held: Vec<Vec<f64>> = problem.menus.iter().map(|m| m.reference.clone()).collect();
        let expected = problem.values(&held);
        for (found, expected) in optimum.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn a_small_penalty_leaves_the_best_response_alone() {
        let problem = three_responses(1e-3);
        for (objective, best) in [(0, 0), (1, 1)] {
            let mut vertex = [0.0; 2];
            vertex[objective] = 1.0;
            let optimum = problem.optimum(&vertex);
            assert!((optimum.log_policy[0][best].exp() - 1.0).abs() < 1e-12);
            // The reward less β times the divergence, −log π_ref of the response.
            let menu = &problem.menus[0];
            let expected = menu.rewards[best][objective] + 1e-3 * menu.reference[best];
            assert!((optimum.values[objective] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn at_a_vertex_no_other_preference_does_better_at_its_objective() {
        let problem = two_menus(0.3);
        for objective in 0..2 {
            let mut vertex = [0.0; 2];
            vertex[objective] = 1.0;
            let best = problem.optimum(&vertex).values[objective];
            for weight in [0.0, 0.25, 0.5, 0.75, 1.0] {
                let other = problem.optimum(&[weight, 1.0 - weight]).values[objective];
                assert!(other <= best + 1e-12, "{other} against {best}");
            }
        }
    }

    #[test]
    fn probability_outside_the_menu_does_not_count() {
        let problem = two_menus(0.4);
        let policy = vec![vec![-0.3, -1.2, -4.0], vec![-0.1, -2.0]];
        let less: Vec<Vec<f64>> = policy
            .iter()
            .map(|menu| menu.iter().map(|log| log - 5.0).collect())
            .collect();
        for (one, other) in problem.values(&policy).iter().zip(problem.values(&less)) {
            assert!((one - other).abs() < 1e-12);
        }
        let certain = vec![
            vec![0.0, f64::NEG_INFINITY, f64::NEG_INFINITY],
            vec![0.0; 2],
        ];
        assert!(problem.values(&certain).iter().all(|v| v.is_finite()));
        let elsewhere = vec![vec![f64::NEG_INFINITY; 3], vec![0.0; 2]];
        assert!(problem.values(&elsewhere).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn what_is_no_problem_is_refused_with_its_place() {
        let valid = || menu(&[-1.0, -2.0], &[[0.0, 1.0], [1.0, 0.0]]);
        let message = |beta: f64, menus: Vec<KlMenu>| {
            let error = KlProblem::new(2, beta, menus).expect_err("not a problem");
            error.to_string()
        };
        for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(message(beta, vec![valid()]).contains("KL coefficient"));
        }
        assert_eq!(
            KlProblem::new(2, 1.0, vec![]).expect_err("no menu"),
            KlError::Empty
        );
        let changed = |change: fn(&mut KlMenu)| {
            let mut second = valid();
            change(&mut second);
            message(1.0, vec![valid(), second])
        };
        let empty = changed(|menu| (menu.reference, menu.rewards) = (vec![], vec![]));
        assert!(empty.contains("menu 2: there is no response"), "{empty}");
        let short = changed(|menu| menu.rewards.truncate(1));
        assert!(short.contains("menu 2: 1 response(s)"), "{short}");
        let narrow = changed(|menu| menu.rewards[1].truncate(1));
        assert!(
            narrow.contains("menu 2, response 2: found 1 reward(s), expected 2"),
            "{narrow}"
        );
        let impossible = changed(|menu| menu.reference[0] = f64::NEG_INFINITY);
        assert!(
            impossible.contains("menu 2, response 1: the log-probability"),
            "{impossible}"
        );
        let nan = changed(|menu| menu.rewards[0][1] = f64::NAN);
        assert!(nan.contains("the reward of objective 2 is NaN"), "{nan}");
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        /// No policy does better than the optimum, its aggregate is the closed form, and the scale of the
        /// weights does not matter.
        #[test]
        fn prop_the_optimum_is_one(
            menus in prop::collection::vec(prop::collection::vec(
                (-6.0..0.0f64, prop::array::uniform3(-2.0..2.0f64), -6.0..0.0f64), 1..5), 1..4),
            raw in prop::array::uniform3(0.0..1.0f64),
            beta in 0.02..5.0f64,
        ) {
            let total: f64 = raw.iter().sum();
            prop_assume!(total > 0.01);
            let weights = raw.map(|weight| weight / total);
            let policy: Vec<Vec<f64>> = menus
                .iter()
                .map(|menu| menu.iter().map(|(_, _, log)| *log).collect())
                .collect();
            let menus: Vec<KlMenu> = menus
                .iter()
                .map(|menu| KlMenu {
                    reference: menu.iter().map(|(log, _, _)| *log).collect(),
                    rewards: menu.iter().map(|(_, rewards, _)| rewards.to_vec()).collect(),
                })
                .collect();
            let problem = KlProblem::new(3, beta, menus).expect("valid");
            let optimum = problem.optimum(&weights);
            let best = weighted(&weights, &optimum.values);
            prop_assert!(weighted(&weights, &problem.values(&policy)) <= best + 1e-12);

            let closed = problem.menus.iter().map(|menu| {
                let sum: f64 = menu.reference.iter().zip(&menu.rewards)
                    .map(|(log, rewards)| (log + weighted(&weights, rewards) / beta).exp())
                    .sum();
                beta * sum.ln()
            });
            let closed = closed.sum::<f64>() / problem.menus.len() as f64;
            prop_assert!((closed - best).abs() < 1e-10, "{closed} against {best}");

            let scaled = problem.optimum(&weights.map(|weight| 3.0 * weight));
            for (one, other) in optimum.values.iter().zip(&scaled.values) {
                prop_assert!((one - other).abs() < 1e-10);
            }
        }
    }
}
