//! The models of a server: the base model, and runs on it.

use std::fmt;
use std::sync::Arc;

use panacea_objectives::{Preference, Weights, rounded_weight};
use panacea_serving::Policy;

use crate::ServerError;
use crate::api_error::ApiError;
use crate::front::MeasuredFront;
use crate::interviews::Interviews;

/// What a client can ask for.
#[derive(Debug)]
pub struct Catalogue {
    models: Vec<Listed>,
}

/// A run as it is to be served.
#[derive(Debug)]
pub struct ServedRun {
    /// What answers.
    pub policy: Policy,
    /// Where it stands when nobody says a preference; where nobody says that either, where the training was, or all objectives alike.
    pub default: Option<Preference>,
    /// What was measured of it, where that is known.
    pub front: Option<MeasuredFront>,
    /// The profiles of people, or why there are none.
    pub interviews: Result<Interviews, String>,
}

/// A model of the catalogue.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What it is asked for by.
    pub id: String,
    /// What steers it, where it is a run.
    pub steered: Option<SteeredModel>,
}

/// A run, and where it stands when nobody says a preference.
#[derive(Debug, Clone)]
pub struct SteeredModel {
    pub policy: Arc<Policy>,
    pub objectives: Vec<String>,
    pub default: Preference,
    /// What was measured of it, where that is known.
    pub front: Option<Arc<MeasuredFront>>,
    /// The profiles of people, or why there are none.
    pub interviews: Result<Arc<Interviews>, String>,
}

/// Who answers a request, at which preference.
#[derive(Debug, Clone)]
pub struct Choice {
    pub id: String,
    /// The run and its preference; none for the base model.
    pub steering: Option<(SteeredModel, Preference)>,
}

impl Catalogue {
    /// A server of the base model `base` alone.
    pub fn new(base: &str) -> Self {
        let base = Listed {
            id: base.to_owned(),
            steered: None,
        };
        Self { models: vec![base] }
    }

    /// Adds a run. The first one answers requests that name no model.
    ///
    /// # Errors
    /// Where there is one of that name.
    pub fn add(&mut self, run: ServedRun) -> Result<(), ServerError> {
        let ServedRun {
            policy,
            default,
            front,
            interviews,
        } = run;
        let id = policy.name().to_owned();
        if self.models.iter().any(|model| model.id == id) {
            return Err(ServerError::SameName { name: id });
        }
        let objectives = policy.plan().objective_names();
        let default = default.unwrap_or_else(|| policy.plan().usual_preference());
        let default = policy.answering(&default).clone();
        let steered = Some(SteeredModel {
            policy: Arc::new(policy),
            objectives,
            default,
            front: front.map(Arc::new),
            interviews: interviews.map(Arc::new),
        });
        // In front of the base model.
        let place = self.models.len() - 1;
        self.models.insert(place, Listed { id, steered });
        Ok(())
    }

    /// The models, the one that answers where none is named first.
    pub fn models(&self) -> &[Listed] {
        &self.models
    }

    /// The model that a request names, and what its name says of the preference: `NAME` or `NAME@0.3,0.7`.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<(&Listed, Option<Weights>), ApiError> {
        let Some(name) = name else {
            return Ok((&self.models[0], None));
        };
        let named = |name: &str| self.models.iter().find(|model| model.id == name);
        if let Some(model) = named(name) {
            return Ok((model, None));
        }
        if let Some((name, weights)) = name.rsplit_once('@')
            && let Some(model) = named(name)
        {
            let weights = weights.parse();
            let weights = weights
                .map_err(|error| ApiError::wrong("model", format!("behind `{name}@`: {error}")))?;
            return Ok((model, Some(weights)));
        }
        let known: Vec<&str> = self.models.iter().map(|model| model.id.as_str()).collect();
        Err(ApiError::no_model(format!(
            "there is no model `{name}`; there are {}",
            known.join(", ")
        )))
    }
}

impl Listed {
    /// This model at the first of `asked` that is there, else at its default. Each of them comes with the field that says it.
    pub(crate) fn at(
        &self,
        asked: impl IntoIterator<Item = (&'static str, Option<Weights>)>,
    ) -> Result<Choice, ApiError> {
        let asked = asked
            .into_iter()
            .find_map(|(field, weights)| Some((field, weights?)));
        let steering = match (&self.steered, asked) {
            (None, None) => None,
            (None, Some((field, _))) => {
                let message = format!("no preference steers `{}`, the base model", self.id);
                return Err(ApiError::wrong(field, message));
            }
            (Some(steered), None) => Some((steered.clone(), steered.default.clone())),
            (Some(steered), Some((field, weights))) => {
                let preference = weights.preference(&steered.objectives);
                let preference =
                    preference.map_err(|error| ApiError::wrong(field, error.to_string()))?;
                let answering = steered.policy.answering(&preference).clone();
                Some((steered.clone(), answering))
            }
        };
        Ok(Choice {
            id: self.id.clone(),
            steering,
        })
    }
}

/// `first (helpfulness 0.5, conciseness 0.5)`
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        let Some(steered) = &self.steered else {
            return Ok(());
        };
        let weights = steered.default.weights().iter();
        let named = (steered.objectives.iter().zip(weights))
            .map(|(name, &weight)| format!("{name} {}", rounded_weight(weight, 3)));
        write!(f, " ({})", named.collect::<Vec<_>>().join(", "))
    }
}
