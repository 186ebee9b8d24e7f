//! The trainings that a method takes, each in its folder.

use std::path::{Path, PathBuf};

use panacea_config::Plan;
use panacea_data::Example;
use panacea_methods::Trainings;
use panacea_model::Decoder;
use panacea_runs::{Interrupt, ProgressMode, RunFolder, RunRecord, TrainingRun};

use crate::error::TrainerError;
use crate::references::References;
use crate::rlhf::Judges;
use crate::run::Outcome;
use crate::state::TrainingState;
use crate::training::Training;

/// What every training of a run shares.
pub struct Work<'a> {
    /// The frozen network.
    pub model: &'a Decoder,
    /// The same network on further devices; may be empty.
    pub replicas: &'a [Decoder],
    /// Records to train on.
    pub train: &'a [Example],
    /// Held-out records; may be empty.
    pub eval: &'a [Example],
    /// Log-probabilities under the reference policy, where they are known.
    pub references: References,
    /// What scores the policy's answers; RLHF only.
    pub judges: Option<&'a Judges<'a>>,
    /// What asks it to stop.
    pub interrupt: Interrupt,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// Told what a person should know.
    pub note: &'a dyn Fn(&str),
}

impl Work<'_> {
    /// One training, or, for methods that take several, each of them in a folder of its own below the run's. What is
    /// finished is not repeated, and what has a checkpoint goes on from there.
    pub fn carry_out(
        &self,
        record: &RunRecord,
        run: &TrainingRun,
    ) -> Result<Outcome, TrainerError> {
        let Trainings::Each(preferences) = record.plan.trainings() else {
            return self.train(record, run);
        };
        let count = preferences.len();
        let members = preferences.iter().enumerate().map(|(index, preference)| {
            let member = RunRecord {
                plan: record.plan.member(preference),
                facts: record.facts.clone(),
            };
            (run.folder().member(index), member)
        });
        let members: Vec<(PathBuf, RunRecord)> = members.collect();
        // One that cannot go on leaves the whole run as it was.
        for (path, record) in members.iter().filter(|(path, _)| has_begun(path)) {
            TrainingRun::create_or_resume(path, record, true)?;
        }
        run.begin(record)?;
        for (index, (preference, (path, record))) in preferences.iter().zip(&members).enumerate() {
            (self.note)(&format!(
                "training {} of {count}: λ = {preference:.3}",
                index + 1
            ));
            let (member, notes) = TrainingRun::create_or_resume(path, record, has_begun(path))?;
            for note in notes {
                (self.note)(&format!("note: {note}"));
            }
            if member.folder().adapter().exists() && member.extension().is_none() {
                continue;
            }
            let outcome = self.train(record, &member)?;
            if outcome != Outcome::Finished {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Trains from the last checkpoint, or from the start where there is none.
    fn train(&self, record: &RunRecord, run: &TrainingRun) -> Result<Outcome, TrainerError> {
        let RunRecord { plan, facts } = record;
        let state = match run.folder().latest_checkpoint()? {
            Some(checkpoint) => {
                let state = TrainingState::load(plan, self.model, &checkpoint.path);
                state.map_err(|source| TrainerError::Checkpoint {
                    way_back: match source.is_of_damaged_files() {
                        true => run.folder().way_back(&checkpoint).unwrap_or_default(),
                        false => String::new(),
                    },
                    path: checkpoint.path,
                    source: Box::new(source),
                })?
            }
            // Its checkpoints were taken away, and with them the way to more steps.
            None if run.folder().adapter().exists() => return Ok(Outcome::Finished),
            None => TrainingState::new(plan, self.model, &facts.model_fingerprint)?,
        };
        run.begin(record)?;
        (self.training(plan)).run(state, run, &self.interrupt, self.progress)
    }

    pub(crate) fn training<'a>(&'a self, plan: &'a Plan) -> Training<'a> {
        Training {
            plan,
            model: self.model,
            replicas: self.replicas,
            train: self.train,
            eval: self.eval,
            references: &self.references,
            judges: self.judges,
        }
    }
}

fn has_begun(member: &Path) -> bool {
    RunFolder::open(member).is_ok()
}
