//! From folders to what answers.

use std::path::Path;

use panacea_config::Plan;
use panacea_methods::{NotServed, Served, Trained};
use panacea_model::{Decoder, ValueHead};
use panacea_objectives::Preference;
use panacea_pretrained::Pretrained;
use panacea_runs::{RunFolder, RunRecord};
use panacea_svd_lora::{AdapterError, Adapters};

use crate::error::ServingError;

/// Opens the model of `plan`, or `other` in its place, with the plan's tokenizer and chat template.
pub fn open_model_of(plan: &Plan, other: Option<&Path>) -> Result<Pretrained, ServingError> {
    let pretrained = Pretrained::open_language_model(other.unwrap_or(plan.model()))?;
    Ok(pretrained.with_chat(plan.chat().clone()))
}

/// What has become of the tokenizer and the chat template since the run of `record` was trained with them, each a sentence. A
/// plan names them by their paths; what those hold may be another by now. A model without a tokenizer says nothing, nor do
/// runs from before their fingerprints were kept.
pub fn changed_since(record: &RunRecord, pretrained: &Pretrained) -> Vec<String> {
    let Ok(tokenizer) = pretrained.tokenizer() else {
        return Vec::new();
    };
    let facts = &record.facts;
    let trained = [&facts.tokenizer_fingerprint, &facts.template_fingerprint];
    let names = ["tokenizer", "chat template"];
    let pairs = names
        .iter()
        .zip(trained)
        .zip(tokenizer.fingerprints())
        .filter(|((_, trained), now)| trained.as_ref().is_some_and(|trained| trained != now));
    pairs
        .map(|((name, _), _)| {
            format!(
                "{}: the {name} has changed since the run was trained: conversations become other tokens",
                pretrained.source().display()
            )
        })
        .collect()
}

/// What a run has trained, ready to be served.
#[derive(Debug)]
pub struct Policy {
    name: String,
    plan: Plan,
    trained: Trained,
    /// What a person should know of it, such as that it is not finished.
    pub notes: Vec<String>,
}

impl Policy {
    /// Opens the adapters of `run` beside `decoder`, its base model: those of the last checkpoint while it is not
    /// finished.
    pub fn open(run: &RunFolder, decoder: &Decoder) -> Result<Self, ServingError> {
        let plan = run.record()?.plan;
        let mut notes = Vec::new();
        let open = |member: Option<usize>| {
            let folder = member.map(|index| RunFolder::open(&run.member(index)));
            let folder = folder.transpose().map_err(ServingError::from)?;
            Ok(read_adapters(
                folder.as_ref().unwrap_or(run),
                decoder,
                &mut notes,
            )?)
        };
        let method = &plan.method().method;
        let trained = Trained::open(method, plan.objectives().len(), open);
        let trained = trained.map_err(|error: OpenError| match error {
            OpenError::Serving(error) => *error,
            OpenError::NotServed(reason) => ServingError::NotServed {
                run: run.name(),
                reason,
            },
        })?;
        Ok(Self {
            name: run.name(),
            plan,
            trained,
            notes,
        })
    }

    /// What it was trained for.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The run's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its adapters, beside the trainings that they come from.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// The preference that answers where `preference` is asked for ([`Trained::answering`]).
    pub fn answering<'a>(&'a self, preference: &'a Preference) -> &'a Preference {
        self.trained.answering(preference)
    }

    /// What answers under `preference`, which has a weight for each of the run's objectives.
    pub fn serve(&self, preference: &Preference) -> Result<Served, ServingError> {
        let objectives = self.plan.objective_names();
        preference
            .expect_len(objectives.len())
            .map_err(|source| ServingError::Preference {
                run: self.name.clone(),
                objectives: objectives.join(", "),
                source,
            })?;
        Ok(self.trained.serve(preference))
    }
}

/// A reward model that a run has trained.
#[derive(Debug)]
pub struct RewardModelRun {
    /// Its adapter, with the head that reads rewards.
    pub adapters: Adapters,
    /// What a person should know of it, such as that it is not finished.
    pub notes: Vec<String>,
}

impl RewardModelRun {
    /// Opens the adapter of `run` beside `decoder`, its base model.
    pub fn open(run: &RunFolder, decoder: &Decoder) -> Result<Self, ServingError> {
        let mut notes = Vec::new();
        let adapters = load(run, decoder, &mut notes)?;
        let mut without_head = adapters.clone();
        if ValueHead::take_from(&mut without_head.factors).is_none() {
            return Err(ServingError::NoHead {
                run: run.path().to_owned(),
            });
        }
        check(&without_head, run, decoder)?;
        Ok(Self { adapters, notes })
    }
}

/// An error on the way through [`Trained::open`], which has one of its own.
enum OpenError {
    Serving(Box<ServingError>),
    NotServed(NotServed),
}

impl From<ServingError> for OpenError {
    fn from(error: ServingError) -> Self {
        Self::Serving(Box::new(error))
    }
}

impl From<NotServed> for OpenError {
    fn from(reason: NotServed) -> Self {
        Self::NotServed(reason)
    }
}

fn read_adapters(
    run: &RunFolder,
    decoder: &Decoder,
    notes: &mut Vec<String>,
) -> Result<Adapters, ServingError> {
    let adapters = load(run, decoder, notes)?;
    check(&adapters, run, decoder)?;
    Ok(adapters)
}

/// Whether an adapter fits the model.
fn check(adapters: &Adapters, run: &RunFolder, decoder: &Decoder) -> Result<(), ServingError> {
    let shapes = decoder.adapted_shapes(&adapters.config.target_modules)?;
    adapters
        .check(&shapes)
        .map_err(|source| ServingError::OtherModel {
            run: run.path().to_owned(),
            base_model: adapters.config.base_model.clone(),
            source,
        })
}

/// The adapter of a finished run, or that of its last checkpoint while it is not finished.
fn load(
    run: &RunFolder,
    decoder: &Decoder,
    notes: &mut Vec<String>,
) -> Result<Adapters, ServingError> {
    let device = decoder.device();
    if run.adapter().exists() {
        return Ok(Adapters::load(&run.adapter(), device)?);
    }
    let Some(checkpoint) = run.latest_checkpoint()? else {
        return Err(ServingError::NothingTrained {
            run: run.path().to_owned(),
        });
    };
    notes.push(format!(
        "run {} is not finished: using its checkpoint of step {}",
        run.name(),
        checkpoint.step
    ));
    Adapters::load(&checkpoint.path, device).map_err(|source| match source {
        AdapterError::Malformed { .. } => match run.way_back(&checkpoint) {
            Ok(way_back) => ServingError::Checkpoint { source, way_back },
            Err(_) => source.into(),
        },
        source => source.into(),
    })
}
