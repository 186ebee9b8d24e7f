//! What a belief comes to: λ̂, and how sure it is.

use panacea_objectives::Preference;

use crate::belief::Belief;

impl Belief {
    /// λ̂: the posterior mean, all that a choice by expected utility needs, since that is λ̂·J. On a measured front the choice,
    /// and the λ to serve, is [`Front::preference_for`](crate::Front::preference_for).
    #[must_use]
    pub fn mean(&self) -> Preference {
        Preference::normalised(self.mean_weights()).expect("weights of guesses are on the simplex")
    }

    /// The mean before it is rounded onto the simplex, `[m]`.
    pub(crate) fn mean_weights(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.objectives()];
        for (preference, _, weight) in self.guesses() {
            for (mean, &lambda) in mean.iter_mut().zip(preference) {
                *mean += weight * lambda;
            }
        }
        mean
    }

    /// The posterior mean of τ.
    #[must_use]
    pub fn mean_temperature(&self) -> f64 {
        self.guesses().map(|(_, tau, weight)| weight * tau).sum()
    }

    /// Σ: the posterior covariance of λ, `[m × m]` row by row.
    #[must_use]
    pub fn covariance(&self) -> Vec<f64> {
        let m = self.objectives();
        let mean = self.mean_weights();
        let mut covariance = vec![0.0; m * m];
        for (preference, _, weight) in self.guesses() {
            for i in 0..m {
                let deviation = weight * (preference[i] - mean[i]);
                for k in 0..m {
                    covariance[i * m + k] += deviation * (preference[k] - mean[k]);
                }
            }
        }
        covariance
    }

    /// The interval of λ_i, for i = `objective`, that holds `share` of the belief with as much below it as above it.
    ///
    /// # Panics
    /// When there is no such objective or `share` is not in (0, 1).
    #[must_use]
    pub fn interval(&self, objective: usize, share: f64) -> (f64, f64) {
        assert!(share > 0.0 && share < 1.0, "a share of {share}");
        let guesses = self.guesses();
        let mut values: Vec<(f64, f64)> = guesses
            .map(|(preference, _, weight)| (preference[objective], weight))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let quantile = |of: f64| {
            let mut below = 0.0;
            let reached = values.iter().find(|(_, weight)| {
                below += weight;
                below >= of
            });
            reached.unwrap_or(&values[values.len() - 1]).0
        };
        (quantile((1.0 - share) / 2.0), quantile((1.0 + share) / 2.0))
    }

    /// The λ of the guesses with the highest posterior density that hold `share` of the belief together, densest first: a
    /// region to draw. The density is that of λ and τ together.
    ///
    /// # Panics
    /// When `share` is not in (0, 1).
    #[must_use]
    pub fn credible_region(&self, share: f64) -> Vec<Preference> {
        assert!(share > 0.0 && share < 1.0, "a share of {share}");
        let densities = self.log_densities();
        let mut order: Vec<usize> = (0..densities.len()).collect();
        order.sort_by(|&a, &b| densities[b].total_cmp(&densities[a]));
        let mut region = Vec::new();
        let mut held = 0.0;
        for j in order {
            if held >= share {
                break;
            }
            held += self.particles().weights()[j];
            let weights = self.particles().preference(j).to_vec();
            region.push(Preference::normalised(weights).expect("a guess is on the simplex"));
        }
        region
    }
}
