//! What a belief is made with. It is written into every profile, since a belief is replayed with it.

use serde::{Deserialize, Serialize};

use crate::choice::ChoiceModel;
use crate::error::ElicitError;
use crate::limits::MOST_WEIGHTS;

/// How answers are read, and when there are enough.
///
/// ```
/// use panacea_elicit::Settings;
///
/// let sitting = Settings::default();
/// assert_eq!((sitting.slip, sitting.tie, sitting.forgetting), (0.1, None, 0.0));
/// assert_eq!(Settings::lasting().forgetting, 0.02);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Number of particles: 3,000 to 1,000,000, and with m objectives at most 4,000,000/m. Fewer make estimates noisy, more make
    /// questions slow.
    pub particles: usize,
    /// γ: probability that a person says another answer than the one meant, 1e-6 to 0.45. People do slip: too small a
    /// value makes the belief sure of what is wrong.
    pub slip: f64,
    /// δ: how close two answers are called about equal, in units of the taste noise, above 0 up to 10; `None` where that
    /// answer is not offered.
    #[serde(deserialize_with = "crate::candidates::present")]
    pub tie: Option<f64>,
    /// h: how much of the belief goes back to the prior before each answer, 0 to 0.5. 0 for one sitting; above it for a
    /// person who may come to want something else.
    pub forgetting: f64,
    /// The expected regret, relative to the front's range, below which nothing more is asked; 0 to 1.
    pub enough_regret: f64,
    /// The number of answers in one sitting at which nothing more is asked, at least 1.
    pub enough_answers: usize,
}

impl Settings {
    /// For a profile that lives longer than one sitting: h = 0.02.
    #[must_use]
    pub fn lasting() -> Self {
        Self {
            forgetting: 0.02,
            ..Self::default()
        }
    }

    /// The same with "about equal" offered, at δ = 0.1 (Bıyık et al.).
    #[must_use]
    pub fn with_ties(self) -> Self {
        Self {
            tie: Some(0.1),
            ..self
        }
    }

    /// How answers are read.
    ///
    /// # Errors
    /// When a setting is outside of its range.
    pub fn choice_model(&self) -> Result<ChoiceModel, ElicitError> {
        self.check()?;
        Ok(ChoiceModel::new(self.slip, self.tie))
    }

    /// Whether all are in their ranges.
    pub(crate) fn check(&self) -> Result<(), ElicitError> {
        let refuse = |setting, value, range| {
            Err(ElicitError::Setting {
                setting,
                value,
                range,
            })
        };
        if !(3_000..=1_000_000).contains(&self.particles) {
            let value = self.particles as f64;
            return refuse("particles", value, "between 3000 and 1000000");
        }
        if !(1e-6..=0.45).contains(&self.slip) {
            return refuse("slip", self.slip, "between 1e-6 and 0.45");
        }
        if let Some(tie) = self.tie
            && !(tie > 0.0 && tie <= 10.0)
        {
            return refuse("tie", tie, "above 0 and up to 10");
        }
        if !(0.0..=0.5).contains(&self.forgetting) {
            return refuse("forgetting", self.forgetting, "between 0 and 0.5");
        }
        if !(0.0..=1.0).contains(&self.enough_regret) {
            return refuse("enough_regret", self.enough_regret, "between 0 and 1");
        }
        if self.enough_answers == 0 {
            return refuse("enough_answers", 0.0, "at 1 or above");
        }
        Ok(())
    }

    /// Whether particles of m = `objectives` weights each fit into the memory that a belief may take.
    pub(crate) fn check_memory(&self, objectives: usize) -> Result<(), ElicitError> {
        if self.particles.saturating_mul(objectives) > MOST_WEIGHTS {
            return Err(ElicitError::Setting {
                setting: "particles",
                value: self.particles as f64,
                range: "between 3000 and 4000000 divided by the number of objectives",
            });
        }
        Ok(())
    }
}

impl Default for Settings {
    /// One sitting without ties: 4,000 particles, γ = 0.1, h = 0, enough at an expected regret of 0.02 or 20 answers.
    fn default() -> Self {
        Self {
            particles: 4000,
            slip: 0.1,
            tie: None,
            forgetting: 0.0,
            enough_regret: 0.02,
            enough_answers: 20,
        }
    }
}
