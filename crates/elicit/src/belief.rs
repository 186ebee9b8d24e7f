//! What is known of a person after some answers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::choice::{Answer, ChoiceModel};
use crate::error::{ElicitError, check_differences, check_numbers};
use crate::history::History;
use crate::limits::MOST_OBJECTIVES;
use crate::moves::move_particles;
use crate::particles::Particles;
use crate::settings::Settings;

/// The distribution of (λ, ln τ) given a person's answers, as weighted particles: λ what the person wants, τ how noisy the
/// person's taste is, in units of the scores.
///
/// The prior is λ ~ Dirichlet(1), ln τ ~ U(ln 0.03, ln 1). That range of τ is made for scores that go about 1 from bad to
/// good: at 0.03 even texts that differ by a tenth of it are told apart 29 times out of 30, and at 1 the best and the worst are
/// told apart 3 times out of 4. Scores on another scale must be brought to this one.
///
/// An answer multiplies each weight by its probability there ([`ChoiceModel`]). With forgetting h, the belief goes to
/// (1 − h)·belief + h·prior first: a share h of the particles, chosen whatever they weigh, is drawn anew from the prior. When
/// the effective sample size 1/Σw² is below P/2, the particles are resampled and moved by Metropolis–Hastings, which keeps
/// the belief.
///
/// Everything follows from the settings, the seed and the answers. The same build on the same machine gives the same bits;
/// another machine's exponential function may round differently.
///
/// ```
/// use panacea_elicit::{Answer, Belief, Settings};
///
/// let mut belief = Belief::new(2, &Settings::default(), 7)?;
/// // Scores of two answers on two objectives; the person takes the left one.
/// belief.update(&[0.9, 0.2], &[0.3, 0.8], Answer::Left)?;
/// assert!(belief.mean().weights()[0] > 0.55);
/// # Ok::<(), panacea_elicit::ElicitError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Belief {
    objectives: usize,
    settings: Settings,
    model: ChoiceModel,
    particles: Particles,
    history: History,
    /// `[P]`: ln of the density at each particle, relative to the prior.
    log_densities: Vec<f64>,
    resamplings: usize,
    rng: ChaCha8Rng,
}

impl Belief {
    /// The prior, for m = `objectives`.
    ///
    /// # Errors
    /// With fewer than two objectives or more than [`MOST_OBJECTIVES`](crate::MOST_OBJECTIVES), or when a setting is outside of
    /// its range.
    pub fn new(objectives: usize, settings: &Settings, seed: u64) -> Result<Self, ElicitError> {
        if objectives < 2 {
            return Err(ElicitError::TooFewObjectives(objectives));
        }
        if objectives > MOST_OBJECTIVES {
            return Err(ElicitError::TooManyObjectives(objectives));
        }
        // All that is checked comes before all that is allocated.
        let model = settings.choice_model()?;
        settings.check_memory(objectives)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self {
            objectives,
            settings: *settings,
            model,
            particles: Particles::prior(objectives, settings.particles, &mut rng),
            history: History::new(settings.forgetting),
            log_densities: vec![0.0; settings.particles],
            resamplings: 0,
            rng,
        })
    }

    /// Learns from one answer about two texts with scores `left` and `right`, `[m]` each.
    ///
    /// # Errors
    /// When the scores are not m finite numbers or further apart than [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE), or ties
    /// are not offered and the answer is one. The belief is then as before.
    pub fn update(
        &mut self,
        left: &[f64],
        right: &[f64],
        answer: Answer,
    ) -> Result<(), ElicitError> {
        let difference = self.difference(left, right)?;
        match answer {
            Answer::Skip => return Ok(()),
            Answer::AboutEqual if !self.model.offers_ties() => {
                return Err(ElicitError::TieNotOffered);
            }
            _ => {}
        }
        self.forget();
        let utilities = self.particles.utilities(&difference);
        let log_likelihoods: Vec<f64> = utilities
            .iter()
            .map(|&x| self.model.probability(answer, x).ln())
            .collect();
        let log_predicted = self.particles.reweigh(&log_likelihoods);
        for (density, likelihood) in self.log_densities.iter_mut().zip(&log_likelihoods) {
            *density = self.history.forget(*density) + likelihood - log_predicted;
        }
        self.history.push(difference, answer, log_predicted);
        if self.particles.effective_size() < self.particles.count() as f64 / 2.0 {
            self.resample_and_move();
        }
        Ok(())
    }

    /// The belief goes a step back to the prior.
    fn forget(&mut self) {
        if self.settings.forgetting == 0.0 {
            return;
        }
        let forgetting = self.settings.forgetting;
        for j in self.particles.mix_with_prior(forgetting, &mut self.rng) {
            self.log_densities[j] = self.history.log_density(
                &self.model,
                self.particles.preference(j),
                self.particles.log_temperatures()[j],
            );
        }
    }

    fn resample_and_move(&mut self) {
        let ancestors = self.particles.resample(&mut self.rng);
        self.log_densities = ancestors.iter().map(|&j| self.log_densities[j]).collect();
        move_particles(
            &mut self.particles,
            &mut self.log_densities,
            &self.history,
            &self.model,
            &mut self.rng,
        );
        self.resamplings += 1;
    }

    /// r(left) − r(right), checked.
    pub(crate) fn difference(&self, left: &[f64], right: &[f64]) -> Result<Vec<f64>, ElicitError> {
        check_numbers("the scores of left", left, self.objectives)?;
        check_numbers("the scores of right", right, self.objectives)?;
        let difference: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
        check_differences(difference.iter().copied())?;
        Ok(difference)
    }

    /// The number m of objectives.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.objectives
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How it reads answers.
    #[must_use]
    pub fn choice_model(&self) -> &ChoiceModel {
        &self.model
    }

    /// The number of answers that it learnt from, skips aside.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.history.len()
    }

    /// How often the particles were resampled.
    #[must_use]
    pub fn resamplings(&self) -> usize {
        self.resamplings
    }

    /// Effective sample size 1/Σw², at most P.
    #[must_use]
    pub fn effective_size(&self) -> f64 {
        self.particles.effective_size()
    }

    /// The guesses: λ, τ and weight of each. The weights sum to 1.
    pub fn guesses(&self) -> impl ExactSizeIterator<Item = (&[f64], f64, f64)> {
        let temperatures = self.particles.log_temperatures().iter();
        let each = self
            .particles
            .preferences()
            .zip(temperatures.zip(self.particles.weights()));
        each.map(|(preference, (temperature, &weight))| (preference, temperature.exp(), weight))
    }

    pub(crate) fn particles(&self) -> &Particles {
        &self.particles
    }

    pub(crate) fn log_densities(&self) -> &[f64] {
        &self.log_densities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The densities that are kept with the particles are those of the answers, through resampling, moves and forgetting; and
    /// each step has its right size: the mean of g_n under the prior is 1.
    #[test]
    fn densities_are_kept_and_integrate_to_one() {
        for forgetting in [0.0, 0.02, 0.2] {
            let settings = Settings {
                forgetting,
                ..Settings::default()
            };
            let mut belief = Belief::new(2, &settings, 3).expect("a belief");
            let prior = belief.particles.clone();
            let density = |belief: &Belief, particles: &Particles, j: usize| {
                let temperature = particles.log_temperatures()[j];
                let preference = particles.preference(j);
                belief
                    .history
                    .log_density(&belief.model, preference, temperature)
            };
            for n in 0..12 {
                let (left, right) = ([0.8, 0.3 + 0.05 * f64::from(n)], [0.2, 0.7]);
                belief
                    .update(&left, &right, Answer::Left)
                    .expect("an answer");
                for j in 0..belief.particles.count() {
                    let exact = density(&belief, &belief.particles, j);
                    assert!((belief.log_densities[j] - exact).abs() < 1e-9);
                }
                let count = prior.count();
                let sum: f64 = (0..count).map(|j| density(&belief, &prior, j).exp()).sum();
                let mean = sum / count as f64;
                assert!((mean - 1.0).abs() < 0.1, "{mean} after {} answers", n + 1);
            }
            assert!(belief.resamplings() > 0);
        }
    }
}
