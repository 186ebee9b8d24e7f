//! Weighted guesses at what a person wants.

use std::ops::Range;

use panacea_objectives::PreferenceSampler;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// ln τ lies between the logarithms of these: below, an answer is all but sure; above, scores between 0 and 1 say little.
pub(crate) const TEMPERATURES: Range<f64> = 0.03..1.0;

/// P guesses (λ, ln τ), each with a weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Particles {
    objectives: usize,
    /// `[P × m]`, row by row: λ of each.
    preferences: Vec<f64>,
    /// `[P]`: ln τ of each.
    log_temperatures: Vec<f64>,
    /// `[P]`: ln of the weights, which sum to 1.
    log_weights: Vec<f64>,
    /// `[P]`: the weights.
    weights: Vec<f64>,
}

impl Particles {
    /// Draws from the prior, λ ~ Dirichlet(1) and ln τ uniform, with equal weights.
    pub(crate) fn prior(objectives: usize, count: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut particles = Self {
            objectives,
            preferences: vec![0.0; count * objectives],
            log_temperatures: vec![0.0; count],
            log_weights: vec![0.0; count],
            weights: vec![0.0; count],
        };
        for j in 0..count {
            particles.draw(j, rng);
        }
        particles.weigh_alike();
        particles
    }

    /// Puts particle `j` where the prior says.
    pub(crate) fn draw(&mut self, j: usize, rng: &mut ChaCha8Rng) {
        let flat = PreferenceSampler::new(1.0, 0.0).expect("a flat Dirichlet distribution");
        let preference = flat.sample(self.objectives, rng);
        let (low, high) = (TEMPERATURES.start.ln(), TEMPERATURES.end.ln());
        let log_temperature = rng.random_range(low..high);
        self.place(j, preference.weights(), log_temperature);
    }

    /// Puts particle `j` somewhere.
    pub(crate) fn place(&mut self, j: usize, preference: &[f64], log_temperature: f64) {
        self.preferences[j * self.objectives..][..self.objectives].copy_from_slice(preference);
        self.log_temperatures[j] = log_temperature;
    }

    pub(crate) fn count(&self) -> usize {
        self.weights.len()
    }

    /// λ of particle `j`.
    pub(crate) fn preference(&self, j: usize) -> &[f64] {
        &self.preferences[j * self.objectives..][..self.objectives]
    }

    /// λ of each.
    pub(crate) fn preferences(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.preferences.chunks_exact(self.objectives)
    }

    /// ln τ of each.
    pub(crate) fn log_temperatures(&self) -> &[f64] {
        &self.log_temperatures
    }

    /// The weights; they sum to 1.
    pub(crate) fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// λ·r/τ of each, for scores r ∈ R^m.
    pub(crate) fn utilities(&self, scores: &[f64]) -> Vec<f64> {
        let each = self.preferences().zip(&self.log_temperatures);
        each.map(|(preference, log_temperature)| dot(preference, scores) * (-log_temperature).exp())
            .collect()
    }

    /// Multiplies the weights by exp(`log_factors`) and brings their sum to 1. Returns the logarithm of the sum before: of
    /// the mean factor.
    pub(crate) fn reweigh(&mut self, log_factors: &[f64]) -> f64 {
        for (weight, factor) in self.log_weights.iter_mut().zip(log_factors) {
            *weight += factor;
        }
        let largest = self.log_weights.iter().copied().fold(f64::MIN, f64::max);
        let exponentials = self.log_weights.iter().map(|&log| (log - largest).exp());
        let log_sum = largest + exponentials.sum::<f64>().ln();
        for (log, weight) in self.log_weights.iter_mut().zip(&mut self.weights) {
            *log -= log_sum;
            *weight = log.exp();
        }
        log_sum
    }

    /// Gives all the weight 1/P.
    fn weigh_alike(&mut self) {
        let count = self.count() as f64;
        self.log_weights.fill(-count.ln());
        self.weights.fill(1.0 / count);
    }

    /// Effective sample size 1/Σw²: how many equally weighted particles say as much.
    pub(crate) fn effective_size(&self) -> f64 {
        1.0 / self
            .weights
            .iter()
            .map(|weight| weight * weight)
            .sum::<f64>()
    }

    /// Draws P particles by their weights, with evenly spaced points from one random start (systematic resampling), and
    /// weighs them alike. Returns which particle each was.
    pub(crate) fn resample(&mut self, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let count = self.count();
        let start: f64 = rng.random();
        let (mut ancestor, mut reached) = (0, self.weights[0]);
        let mut ancestors = Vec::with_capacity(count);
        for k in 0..count {
            let point = (k as f64 + start) / count as f64;
            while reached <= point && ancestor + 1 < count {
                ancestor += 1;
                reached += self.weights[ancestor];
            }
            ancestors.push(ancestor);
        }
        let old = self.clone();
        for (j, &ancestor) in ancestors.iter().enumerate() {
            let log_temperature = old.log_temperatures[ancestor];
            self.place(j, old.preference(ancestor), log_temperature);
        }
        self.weigh_alike();
        ancestors
    }

    /// Turns the weights w into (1 − h)·w + h·prior: a share of the particles, whichever they are, makes room for draws from
    /// the prior, which weigh h together. Returns which particles are new.
    pub(crate) fn mix_with_prior(&mut self, share: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let count = self.count();
        let new = ((share * count as f64).ceil() as usize).min(count);
        let places = rand::seq::index::sample(rng, count, new).into_vec();
        let mut is_new = vec![false; count];
        for &j in &places {
            is_new[j] = true;
            self.draw(j, rng);
        }
        let old = self.weights.iter().zip(&is_new).filter(|(_, new)| !**new);
        let kept: f64 = old.map(|(weight, _)| weight).sum();
        let log_factors = (0..count).map(|j| match is_new[j] {
            true => (share / new as f64).ln() - self.log_weights[j],
            false => ((1.0 - share) / kept).ln(),
        });
        let log_factors: Vec<f64> = log_factors.collect();
        self.reweigh(&log_factors);
        places
    }
}

/// Σ a_i b_i
#[inline]
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn prior() -> (Particles, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (Particles::prior(3, 5000, &mut rng), rng)
    }

    /// Weights that grow with λ_1.
    fn tilt(particles: &mut Particles) {
        let factors: Vec<f64> = particles.preferences().map(|p| 4.0 * p[0]).collect();
        particles.reweigh(&factors);
    }

    fn mean(particles: &Particles) -> f64 {
        let each = particles.preferences().zip(particles.weights());
        each.map(|(preference, weight)| preference[0] * weight)
            .sum()
    }

    #[test]
    fn weights_sum_to_one_and_resampling_keeps_what_they_say() {
        let (mut particles, mut rng) = prior();
        assert!((particles.effective_size() - 5000.0).abs() < 1e-6);
        tilt(&mut particles);
        assert!((particles.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(particles.effective_size() < 4000.0);
        let before = mean(&particles);
        let ancestors = particles.resample(&mut rng);
        assert!(ancestors.is_sorted());
        assert!((particles.effective_size() - 5000.0).abs() < 1e-6);
        assert!((mean(&particles) - before).abs() < 0.01);
    }

    #[test]
    fn huge_factors_neither_overflow_nor_vanish() {
        let (mut particles, _) = prior();
        for sign in [1.0, -1.0] {
            let factors = vec![sign * 5000.0; particles.count()];
            let log_mean = particles.reweigh(&factors);
            assert!((log_mean - sign * 5000.0).abs() < 1e-9);
            assert!((particles.weights().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_prior_gets_its_share_back() {
        let (mut particles, mut rng) = prior();
        tilt(&mut particles);
        let before = mean(&particles);
        let new = particles.mix_with_prior(0.2, &mut rng);
        assert_eq!(new.len(), 1000);
        let weight: f64 = new.iter().map(|&j| particles.weights()[j]).sum();
        assert!((weight - 0.2).abs() < 1e-12);
        let expected = 0.8 * before + 0.2 / 3.0;
        assert!((mean(&particles) - expected).abs() < 0.01);
    }
}
