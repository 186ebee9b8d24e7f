//! Metropolis–Hastings: particles that were copied by resampling get places of their own.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::choice::ChoiceModel;
use crate::dirichlet::{draw_near, log_density_near};
use crate::history::History;
use crate::particles::{Particles, TEMPERATURES};

/// Standard deviation of a step of ln τ.
const LOG_TEMPERATURE_STEP: f64 = 0.1;
/// Moves of each particle after a resampling, so that few copies stay where they were.
const ROUNDS: usize = 3;

/// Moves every particle so that the belief is kept: g_n times the prior, with g_n as in [`History`].
///
/// A step goes to λ' ~ Dir(200λ + 1), ln τ' ~ N(ln τ, 0.1). The prior is flat in (λ, ln τ) where it is not 0, so that it
/// decides only whether τ' is allowed; the step of ln τ is as likely as the way back. What is left of the ratio of Hastings is
///
/// ```text
/// g_n(λ', τ') / g_n(λ, τ) · Dir(λ | 200λ' + 1) / Dir(λ' | 200λ + 1)
/// ```
///
/// `log_densities` has ln g_n of each particle, and is kept so.
pub(crate) fn move_particles(
    particles: &mut Particles,
    log_densities: &mut [f64],
    history: &History,
    model: &ChoiceModel,
    rng: &mut ChaCha8Rng,
) {
    let allowed = TEMPERATURES.start.ln()..TEMPERATURES.end.ln();
    let mut step = particles.preference(0).to_vec();
    for _ in 0..ROUNDS {
        for (j, log_density) in log_densities.iter_mut().enumerate() {
            let from = particles.preference(j);
            draw_near(from, &mut step, rng);
            let normal: f64 = StandardNormal.sample(rng);
            let log_temperature = particles.log_temperatures()[j] + LOG_TEMPERATURE_STEP * normal;
            let threshold: f64 = rng.random();
            if !allowed.contains(&log_temperature) {
                continue;
            }
            let there = history.log_density(model, &step, log_temperature);
            let back = log_density_near(&step, from) - log_density_near(from, &step);
            if threshold.ln() < there - *log_density + back {
                particles.place(j, &step, log_temperature);
                *log_density = there;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    /// Without an answer the belief is the prior, and moves must not wear it: for two objectives λ_1 and ln τ are uniform.
    /// Steps are shorter near the ends, so that without their correction particles would gather there.
    #[test]
    fn moves_keep_the_prior() {
        const BINS: usize = 20;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut particles = Particles::prior(2, 20_000, &mut rng);
        let mut densities = vec![0.0; particles.count()];
        let model = ChoiceModel::new(0.1, None);
        let start = particles.clone();
        for _ in 0..20 {
            let history = History::new(0.0);
            move_particles(&mut particles, &mut densities, &history, &model, &mut rng);
        }
        let moved =
            (0..particles.count()).filter(|&j| start.preference(j) != particles.preference(j));
        assert!(moved.count() > 19_900);
        let (low, high) = (TEMPERATURES.start.ln(), TEMPERATURES.end.ln());
        let temperatures = particles.log_temperatures().iter();
        let temperatures: Vec<f64> = temperatures.map(|t| (t - low) / (high - low)).collect();
        let firsts: Vec<f64> = particles.preferences().map(|p| p[0]).collect();
        for values in [firsts, temperatures] {
            let mut counts = [0_usize; BINS];
            for value in values {
                counts[((value * BINS as f64) as usize).min(BINS - 1)] += 1;
            }
            // 1000 in each, √1000 ≈ 32 by chance.
            assert!(
                counts.iter().all(|count| count.abs_diff(1000) < 150),
                "{counts:?}"
            );
        }
    }
}
