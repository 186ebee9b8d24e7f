//! `[preference]`: how preference vectors are drawn.

use panacea_objectives::{Preference, PreferenceSampler};

use crate::resolver::Resolver;

section! {
    /// `[preference]`: how preference vectors are drawn.
    PreferenceSpec {
        /// The concentration of the Dirichlet distribution; 1 is uniform. Default: 1.
        concentration: f64,
        /// The probability that a vertex of the simplex is drawn instead. Default: 0.1.
        vertex_probability: f64,
        /// Preferences per batch; the records are dealt to them. Default: 1.
        groups: usize,
        /// One preference for every step, in place of drawing: a specialist. Default: none.
        fixed: Vec<f64>,
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
        spec: PreferenceSpec,
        batch_size: usize,
        objectives: usize,
    ) -> PreferencePlan {
        let concentration = self.positive("preference.concentration", spec.concentration, 1.0);
        let vertex_probability = self.ratio(
            "preference.vertex_probability",
            spec.vertex_probability,
            0.1,
        );
        let sampler = PreferenceSampler::new(concentration, vertex_probability)
            .expect("what is refused has become the default");
        let groups = self.count("preference.groups", spec.groups, 1);
        if groups > batch_size {
            let message = format!(
                "found {groups} groups, expected at most optimizer.batch_size = {batch_size}, so that each has a record"
            );
            self.problem("preference.groups", message);
        }
        PreferencePlan {
            sampler,
            groups,
            fixed: self.fixed(spec.fixed, objectives),
        }
    }

    fn fixed(&mut self, weights: Option<Vec<f64>>, objectives: usize) -> Option<Preference> {
        let preference = Preference::new(weights?);
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
                self.problem("preference.fixed", message);
                None
            }
        }
    }

    /// A reward model does not follow a preference: its losses are averaged, and its adapter always sees the same λ.
    pub(crate) fn every_objective_alike(
        &mut self,
        spec: &PreferenceSpec,
        objectives: usize,
    ) -> PreferencePlan {
        if *spec != PreferenceSpec::default() {
            let message = "[preference] has no effect with name = \"reward-model\"";
            self.warnings.push(message.to_owned());
        }
        PreferencePlan {
            sampler: PreferenceSampler::default(),
            groups: 1,
            fixed: Some(Preference::uniform(objectives.max(1))),
        }
    }
}
