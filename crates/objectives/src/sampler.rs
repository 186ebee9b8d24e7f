//! Random preferences for training.

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma};

use crate::Preference;

/// Draws a preference: with probability `vertex_probability` one of the m vertices (each as likely as
/// another), else a point of the symmetric Dirichlet distribution, density ∝ Π λ_i^(α−1).
///
/// α = `concentration`: 1 is uniform on the simplex, below 1 leans to the edges, above 1 to the middle.
/// Vertices are drawn on purpose because a continuous density never hits them, while the ends of the
/// front are what users ask for most (the Panacea paper samples vertices with higher probability; it
/// does not say with which).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreferenceSampler {
    concentration: f64,
    vertex_probability: f64,
}

/// Why a sampler cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// α is not a positive number.
    #[error("the Dirichlet concentration is {0}; it must be a finite number > 0 (1 is uniform)")]
    Concentration(f64),
    /// The vertex probability is not a probability.
    #[error("the vertex probability is {0}; it must lie in [0, 1]")]
    VertexProbability(f64),
}

impl PreferenceSampler {
    /// A sampler with checked parameters.
    ///
    /// # Errors
    /// When α is not > 0 or the vertex probability is outside [0, 1].
    pub fn new(concentration: f64, vertex_probability: f64) -> Result<Self, SamplerError> {
        if !(concentration.is_finite() && concentration > 0.0) {
            return Err(SamplerError::Concentration(concentration));
        }
        if !(0.0..=1.0).contains(&vertex_probability) {
            return Err(SamplerError::VertexProbability(vertex_probability));
        }
        Ok(Self {
            concentration,
            vertex_probability,
        })
    }

    /// The Dirichlet parameter α > 0.
    #[must_use]
    pub fn concentration(&self) -> f64 {
        self.concentration
    }

    /// Probability, in [0, 1], that the drawn preference is a vertex; shared evenly by all vertices.
    #[must_use]
    pub fn vertex_probability(&self) -> f64 {
        self.vertex_probability
    }

    /// Draws a preference over `objectives` objectives.
    ///
    /// # Panics
    /// When `objectives` is 0.
    #[must_use]
    pub fn sample<R: Rng + ?Sized>(&self, objectives: usize, rng: &mut R) -> Preference {
        if rng.random::<f64>() < self.vertex_probability {
            return Preference::vertex(objectives, rng.random_range(0..objectives));
        }
        // A Dirichlet point is a vector of Gamma(α, 1) draws over its sum.
        let gamma = Gamma::new(self.concentration, 1.0).expect("a sampler's concentration is > 0");
        let draws: Vec<f64> = (0..objectives).map(|_| gamma.sample(rng)).collect();
        let sum: f64 = draws.iter().sum();
        if sum == 0.0 {
            // All draws underflow only for a tiny α, where the distribution is all but on the vertices.
            return Preference::vertex(objectives, rng.random_range(0..objectives));
        }
        Preference::from_simplex(draws.iter().map(|draw| draw / sum).collect())
    }
}

impl Default for PreferenceSampler {
    /// Uniform on the simplex, with a vertex in one draw of ten.
    fn default() -> Self {
        Self {
            concentration: 1.0,
            vertex_probability: 0.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    const DRAWS: usize = 40_000;

    fn draws(sampler: PreferenceSampler, objectives: usize) -> Vec<Preference> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        (0..DRAWS)
            .map(|_| sampler.sample(objectives, &mut rng))
            .collect()
    }

    /// Moments of a symmetric Dirichlet: mean 1/m, variance (m−1) / (m² (mα + 1)).
    #[test]
    fn moments_are_those_of_the_dirichlet_distribution() {
        for (objectives, concentration) in [(2, 1.0), (3, 0.5), (4, 3.0)] {
            let sampler = PreferenceSampler::new(concentration, 0.0).expect("valid");
            let sample = draws(sampler, objectives);
            let m = objectives as f64;
            let expected = (m - 1.0) / (m * m * (m * concentration + 1.0));
            for i in 0..objectives {
                let mean = sample.iter().map(|p| p.weights()[i]).sum::<f64>() / DRAWS as f64;
                let variance = sample
                    .iter()
                    .map(|p| (p.weights()[i] - mean).powi(2))
                    .sum::<f64>()
                    / DRAWS as f64;
                assert!(
                    (mean - 1.0 / m).abs() < 5.0 * (expected / DRAWS as f64).sqrt(),
                    "mean {mean}"
                );
                assert!(
                    (variance / expected - 1.0).abs() < 0.05,
                    "variance {variance}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn the_share_of_vertices_is_their_total_probability_spread_evenly() {
        let sampler = PreferenceSampler::new(1.0, 0.3).expect("valid");
        let sample = draws(sampler, 3);
        for i in 0..3 {
            let share =
                sample.iter().filter(|p| p.weights()[i] == 1.0).count() as f64 / DRAWS as f64;
            assert!((share - 0.1).abs() < 0.01, "vertex {i}: {share}");
        }
        assert!(
            draws(PreferenceSampler::new(1.0, 1.0).expect("valid"), 2)
                .iter()
                .all(|p| p.weights().contains(&1.0))
        );
        assert!(
            draws(PreferenceSampler::new(1.0, 0.0).expect("valid"), 2)
                .iter()
                .all(|p| !p.weights().contains(&1.0))
        );
    }

    #[test]
    fn every_draw_is_a_preference_even_for_tiny_concentrations() {
        for concentration in [1e-6, 1e-2, 1.0, 1e4] {
            let sampler = PreferenceSampler::new(concentration, 0.1).expect("valid");
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for _ in 0..1000 {
                let preference = sampler.sample(3, &mut rng);
                assert!(
                    Preference::new(preference.weights().to_vec()).is_ok(),
                    "{preference}"
                );
            }
        }
    }

    #[test]
    fn one_objective_has_one_preference() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(
            PreferenceSampler::default().sample(1, &mut rng),
            Preference::vertex(1, 0)
        );
    }

    #[test]
    fn parameters_are_checked() {
        assert!(
            PreferenceSampler::new(0.0, 0.1)
                .unwrap_err()
                .to_string()
                .contains("concentration is 0")
        );
        assert!(PreferenceSampler::new(f64::NAN, 0.1).is_err());
        assert!(
            PreferenceSampler::new(1.0, 1.5)
                .unwrap_err()
                .to_string()
                .contains("probability is 1.5")
        );
    }
}
