//! `[preference]`: how preference vectors are drawn.

use panacea_objectives::{Preference, PreferenceSampler};

use crate::resolver::Resolver;
use crate::schema::{COUNT, Entry, POSITIVE, RATIO};

section! {
    /// How preference vectors are drawn.
    PreferenceSpec at "preference." when STEERED {
        /// The concentration of the Dirichlet distribution; 1 is uniform.
        concentration: f64 = 1.0, in POSITIVE;
        /// The probability that a vertex of the simplex is drawn instead.
        vertex_probability: f64 = 0.1, in RATIO;
        /// Preferences per batch, `optimizer.batch_size` at most; the records are dealt to them.
        groups: usize = 1, in COUNT;
        /// One preference for every step, in place of drawing: a specialist. A weight for each objective, which add to 1.
        fixed: Vec<f64>;
    }
}

/// How preference vectors are drawn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PreferencePlan {
    /// The distribution.
    pub sampler: PreferenceSampler,
    /// Preferences per batch; the records are dealt to them.
    pub groups: usize,
    /// The preference of every step, where none is drawn.
    pub fixed: Option<Preference>,
}

impl PreferencePlan {
    /// A reward model does not follow a preference: its losses are averaged, and its adapter always sees the same λ.
    pub(crate) fn every_objective_alike(objectives: usize) -> PreferencePlan {
        PreferencePlan {
            sampler: PreferenceSampler::default(),
            groups: 1,
            fixed: Some(Preference::uniform(objectives.max(1))),
        }
    }

    pub(crate) fn to_spec(&self) -> PreferenceSpec {
        PreferenceSpec {
            concentration: Some(self.sampler.concentration()),
            vertex_probability: Some(self.sampler.vertex_probability()),
            groups: Some(self.groups),
            fixed: (self.fixed.as_ref()).map(|preference| preference.weights().to_vec()),
        }
    }
}

impl Resolver {
    pub(crate) fn preference(
        &mut self,
        spec: &PreferenceSpec,
        batch_size: usize,
        objectives: usize,
    ) -> PreferencePlan {
        let concentration = self.take(spec.concentration());
        let vertex_probability = self.take(spec.vertex_probability());
        let sampler = PreferenceSampler::new(concentration, vertex_probability)
            .expect("what is refused has become the default");
        let groups = self.take(spec.groups());
        if groups > batch_size {
            let message = format!(
                "found {groups} groups, expected at most optimizer.batch_size = {batch_size}, so that each has a record"
            );
            self.problem("preference.groups", message);
        }
        PreferencePlan {
            sampler,
            groups,
            fixed: self.fixed(spec.fixed(), objectives),
        }
    }

    fn fixed(&mut self, weights: Entry<Vec<f64>>, objectives: usize) -> Option<Preference> {
        let key = weights.key;
        let preference = Preference::new(self.take_if_given(weights)?);
        let checked = match preference {
            Ok(preference) => match preference.expect_len(objectives) {
                Ok(()) => Ok(preference),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match checked {
            Ok(preference) => Some(preference),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }
}
