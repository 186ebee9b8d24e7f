//! Supervised fine-tuning on finite menus: the optimum of every preference in closed form.
//!
//! ```text
//! J_i(π) = Σ_x Σ_y a_i(x, y) log π(y|x)         a_i(x, y) ≥ 0: the share of objective i's records that are y to x
//! max_π Σ_i λ_i J_i(π)   at   π*(y|x) = Σ_i λ_i a_i(x, y) / Σ_y' Σ_i λ_i a_i(x, y')
//! ```
//!
//! For each prompt this is the cross-entropy to the mixture of the objectives' answers, which is smallest at the mixture itself
//! (Gibbs' inequality). Every J_i is concave in π, so that linear scalarisation reaches every point of the front. Where an
//! objective lacks an answer that another one has, the optimum at its own vertex gives that answer no probability, and the
//! other one's J_i is −∞: such a problem has no front to draw, and is refused.

/// The answers to one prompt: per answer, a_i(x, y) of each objective.
pub type SftMenu = Vec<Vec<f64>>;

/// Why a problem has no optimum to compute. Menus, responses and objectives are counted from 0 here, and from 1 in the messages.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SftError {
    /// There is no menu.
    #[error("there is no menu")]
    Empty,
    /// A menu has no response.
    #[error("menu {}: there is no response", menu + 1)]
    EmptyMenu {
        /// The menu.
        menu: usize,
    },
    /// A response has not one share per objective.
    #[error("menu {}, response {}: found {found} share(s), expected {expected}", menu + 1, response + 1)]
    Objectives {
        /// The menu.
        menu: usize,
        /// The response.
        response: usize,
        /// The number of shares.
        found: usize,
        /// The number of objectives.
        expected: usize,
    },
    /// An objective has no record of a response.
    #[error("menu {}, response {}: the share of objective {} is {found}, expected a finite number > 0", menu + 1, response + 1, objective + 1)]
    Share {
        /// The menu.
        menu: usize,
        /// The response.
        response: usize,
        /// The objective.
        objective: usize,
        /// The share.
        found: f64,
    },
}

/// All menus of a problem.
#[derive(Clone, Debug)]
pub struct SftProblem {
    objectives: usize,
    menus: Vec<SftMenu>,
}

/// An optimum for one preference.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOptimum {
    /// J_i of each objective.
    pub values: Vec<f64>,
    /// log π*(y|x) of every response of every menu.
    pub log_policy: Vec<Vec<f64>>,
}

impl SftProblem {
    /// A problem with `objectives` objectives.
    ///
    /// # Errors
    /// When there is no menu, a menu is empty, a list is of the wrong length or a share is not > 0.
    pub fn new(objectives: usize, menus: Vec<SftMenu>) -> Result<Self, SftError> {
        if menus.is_empty() {
            return Err(SftError::Empty);
        }
        for (menu, responses) in menus.iter().enumerate() {
            if responses.is_empty() {
                return Err(SftError::EmptyMenu { menu });
            }
            for (response, shares) in responses.iter().enumerate() {
                if shares.len() != objectives {
                    return Err(SftError::Objectives {
                        menu,
                        response,
                        found: shares.len(),
                        expected: objectives,
                    });
                }
                let is_positive = |share: &f64| share.is_finite() && *share > 0.0;
                if let Some(objective) = shares.iter().position(|share| !is_positive(share)) {
                    return Err(SftError::Share {
                        menu,
                        response,
                        objective,
                        found: shares[objective],
                    });
                }
            }
        }
        Ok(Self { objectives, menus })
    }

    /// max_π Σ_i w_i J_i(π), for weights w ≥ 0, at least one of them positive.
    ///
    /// # Panics
    /// When there is not one weight per objective.
    #[must_use]
    pub fn optimum(&self, weights: &[f64]) -> SftOptimum {
        assert_eq!(weights.len(), self.objectives, "one weight per objective");
        let mixture = |menu: &SftMenu| -> Vec<f64> {
            let weighted =
                |shares: &Vec<f64>| -> f64 { shares.iter().zip(weights).map(|(a, w)| a * w).sum() };
            let unnormalised: Vec<f64> = menu.iter().map(weighted).collect();
            let total: f64 = unnormalised.iter().sum();
            unnormalised.iter().map(|of| (of / total).ln()).collect()
        };
        let log_policy: Vec<Vec<f64>> = self.menus.iter().map(mixture).collect();
        SftOptimum {
            values: self.values(&log_policy),
            log_policy,
        }
    }

    /// J_i of any policy, given as log π(y|x) of every response of every menu; it is taken as it is, and what it gives to other
    /// responses is lost to it.
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
        for (menu, log_policy) in self.menus.iter().zip(log_policy) {
            assert_eq!(
                log_policy.len(),
                menu.len(),
                "one log-probability per response"
            );
            for (shares, log) in menu.iter().zip(log_policy) {
                for (value, share) in values.iter_mut().zip(shares) {
                    *value += share * log;
                }
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One prompt of two answers, three of four records of the first objective being the first and one of four of the second's.
    fn problem() -> SftProblem {
        SftProblem::new(2, vec![vec![vec![0.75, 0.25], vec![0.25, 0.75]]]).expect("valid")
    }

    #[test]
    fn a_vertex_learns_its_own_answers_and_the_middle_their_mixture() {
        let close = |found: &[f64], expected: [f64; 2]| {
            let differ = |(a, b): (&f64, f64)| (a - b).abs() > 1e-12;
            assert!(
                !found.iter().zip(expected).any(differ),
                "{found:?} {expected:?}"
            );
        };
        let entropy = 0.75 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln();
        let cross = 0.25 * 0.75_f64.ln() + 0.75 * 0.25_f64.ln();
        close(&problem().optimum(&[1.0, 0.0]).values, [entropy, cross]);
        close(&problem().optimum(&[0.0, 2.0]).values, [cross, entropy]);
        let middle = problem().optimum(&[0.5, 0.5]);
        close(&middle.log_policy[0], [0.5_f64.ln(); 2]);
        close(&middle.values, [0.5_f64.ln(); 2]);
    }

    #[test]
    fn what_has_no_front_is_refused() {
        let refused = |menus: Vec<SftMenu>, words: &str| {
            let error = SftProblem::new(2, menus).expect_err(words).to_string();
            assert_eq!(error, words);
        };
        refused(vec![], "there is no menu");
        refused(vec![vec![]], "menu 1: there is no response");
        refused(
            vec![vec![vec![0.5]]],
            "menu 1, response 1: found 1 share(s), expected 2",
        );
        refused(
            vec![vec![vec![0.5, 0.1], vec![0.5, 0.0]]],
            "menu 1, response 2: the share of objective 2 is 0, expected a finite number > 0",
        );
    }

    proptest! {
        /// No policy is better at its weights, and the gradient in the logits of each prompt is 0 there:
        /// Σ_i w_i (a_i(x, y) − π(y|x) Σ_y' a_i(x, y')).
        #[test]
        fn nothing_is_better(
            menus in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(0.01..1.0_f64, 3), 2..5), 1..4),
            weights in prop::collection::vec(0.01..1.0_f64, 3),
            logits in prop::collection::vec(-3.0..3.0_f64, 12),
        ) {
            let problem = SftProblem::new(3, menus.clone()).expect("valid");
            let optimum = problem.optimum(&weights);
            let value = |values: &[f64]| -> f64 { values.iter().zip(&weights).map(|(v, w)| v * w).sum() };
            let mut other = logits.iter().copied().cycle();
            let policy: Vec<Vec<f64>> = menus.iter().map(|menu| {
                let logits: Vec<f64> = menu.iter().map(|_| other.next().expect("endless")).collect();
                let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                logits.iter().map(|logit| logit - total).collect()
            }).collect();
            prop_assert!(value(&optimum.values) >= value(&problem.values(&policy)) - 1e-12);
            for (menu, policy) in menus.iter().zip(&optimum.log_policy) {
                let weighted: Vec<f64> = menu.iter().map(|shares| value(shares)).collect();
                let total: f64 = weighted.iter().sum();
                for (of, log) in weighted.iter().zip(policy) {
                    prop_assert!((of - log.exp() * total).abs() < 1e-12);
                }
            }
        }
    }
}
