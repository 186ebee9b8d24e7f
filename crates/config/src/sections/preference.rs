//! `[preference]`: how preference vectors are drawn.

use panacea_data::ObjectiveSpec;
use panacea_methods::Method;
use panacea_objectives::{Aggregation, Loss, Preference, PreferenceSampler, Weights};

use crate::names::GivenWeights;
use crate::resolver::Resolver;
use crate::schema::{COUNT, Entry, POSITIVE, RATIO};
use crate::sections::{Learning, MethodPlan};

section! {
    /// How preference vectors are drawn.
    PreferenceSpec at "preference." when STEERED {
        /// The concentration of the Dirichlet distribution; 1 is uniform. Where there are many objectives, all weights of a
        /// uniform λ are small, and 2 / m leaves each of them as spread out as it is with two.
        concentration: f64, in POSITIVE, default "2 / m with m objectives, 1 at most", when DRAWN;
        /// The probability that a vertex of the simplex is drawn instead.
        vertex_probability: f64 = 0.1, in RATIO, when DRAWN;
        /// Preferences per batch, `optimizer.batch_size` at most; the records are dealt to them.
        groups: usize, in COUNT, default "a λ for every record; 1 with Tchebycheff, with KTO, and where λ is not drawn", when DRAWN;
        /// One preference for every step, in place of drawing: a specialist. Weights on the objectives, in their order
        /// (`[0.2, 0.8]`) or by name (`{ brevity = 1, detail = 4 }`, where others have 0); they are divided by their sum.
        fixed: GivenWeights, when PANACEA;
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
        match &self.fixed {
            None => PreferenceSpec {
                concentration: Some(self.sampler.concentration()),
                vertex_probability: Some(self.sampler.vertex_probability()),
                groups: Some(self.groups),
                fixed: None,
            },
            Some(preference) => PreferenceSpec {
                fixed: Some(GivenWeights::InOrder(preference.weights().to_vec())),
                ..PreferenceSpec::default()
            },
        }
    }
}

impl Resolver {
    pub(crate) fn preference(
        &mut self,
        spec: &PreferenceSpec,
        method: &MethodPlan,
        batch_size: usize,
        objectives: &[ObjectiveSpec],
    ) -> PreferencePlan {
        let spread_of_two = 2.0 / objectives.len().max(2) as f64;
        let concentration = self.take_or(spec.concentration(), spread_of_two);
        let vertex_probability = self.take(spec.vertex_probability());
        let sampler = PreferenceSampler::new(concentration, vertex_probability)
            .expect("what is refused has become the default");
        let fixed = self.fixed(spec.fixed(), objectives);
        let is_drawn = method.method == Method::Panacea && fixed.is_none();
        // Of the records of one λ, Tchebycheff takes a maximum and KTO its mean KL: over a single one, both are mostly chance.
        let is_over_many = matches!(method.aggregation, Aggregation::Tchebycheff { .. })
            || matches!(method.learning, Learning::Supervised(Loss::Kto(_)));
        let usual_groups = match is_drawn && !is_over_many && objectives.len() > 1 {
            true => batch_size,
            false => 1,
        };
        let groups = self.take_or(spec.groups(), usual_groups);
        if groups > batch_size {
            let message = format!(
                "found {groups} groups, expected at most optimizer.batch_size = {batch_size}, so that each has a record"
            );
            self.problem("preference.groups", message);
        }
        PreferencePlan {
            sampler,
            groups: if is_drawn { groups } else { 1 },
            // Other methods say themselves what each of their trainings has; that it is given in vain is warned about.
            fixed: fixed.filter(|_| method.method == Method::Panacea),
        }
    }

    /// Says where the maximum of Tchebycheff, or KTO's mean KL, would be taken over hardly any record. A soup's trainings have
    /// one objective each, and no maximum.
    pub(crate) fn warn_of_few_records(
        &mut self,
        method: &MethodPlan,
        groups: usize,
        batch_size: usize,
    ) {
        let records = batch_size / groups.max(1);
        if records >= 4 {
            return;
        }
        let few = format!(
            "preference.groups = {groups} leaves {records} of a step's {batch_size} records to each λ"
        );
        let is_sharp = matches!(
            method.aggregation,
            Aggregation::Tchebycheff { smoothing: 0.0, .. }
        );
        if is_sharp && method.method != Method::RewardedSoups {
            self.warnings.push(format!(
                "method.aggregation = \"tchebycheff\": {few}, and the largest of losses over so few is mostly chance; give them \
                 more, or set method.smoothing to 0.03, say"
            ));
        }
        if matches!(method.learning, Learning::Supervised(Loss::Kto(_))) {
            self.warnings.push(format!(
                "method.loss = \"kto\": {few}, and z₀, the mean KL that KTO takes over them, is mostly chance; give them more"
            ));
        }
    }

    fn fixed(
        &mut self,
        weights: Entry<GivenWeights>,
        objectives: &[ObjectiveSpec],
    ) -> Option<Preference> {
        let key = weights.key;
        let weights = Weights::from(self.take_if_given(weights)?);
        let names: Vec<&str> = objectives.iter().map(|one| one.name.as_str()).collect();
        match weights.preference(&names) {
            Ok(preference) => {
                let division = weights.division();
                (self.warnings)
                    .extend(division.map(|told| {
                        format!("{key} = {told}: λ is {}", preference.by_name(&names))
                    }));
                Some(preference)
            }
            Err(error) => {
                self.problem(key, error.to_string());
                None
            }
        }
    }
}
