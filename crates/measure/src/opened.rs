//! A run, opened to be measured.

use std::path::{Path, PathBuf};

use panacea_config::Plan;
use panacea_data::{DataError, Example};
use panacea_evaluator::{Cost, Front, MeasuredFile, MeasuredRun, RewardScale};
use panacea_methods::{Served, Trainings};
use panacea_objectives::{Preference, simplex_grid, usual_divisions};
use panacea_reward_models::Base;
use panacea_runs::{RunFolder, training_totals};
use panacea_serving::{Policy, changed_since, open_model_of};
use panacea_svd_lora::ADAPTER_FILE;
use panacea_trainer::{Origin, Records, References, TrainingState, computed_by};

use crate::cost::{Asked, Rates};
use crate::error::MeasureError;

/// What a user may choose about a measurement.
#[derive(Clone, Copy)]
pub struct Choices<'a> {
    /// Held-out files; empty: those of the run.
    pub eval: &'a [PathBuf],
    /// What a run is measured by, in place of its own objectives, loss and held-out records.
    pub like: Option<&'a Plan>,
    /// The base model, where it has moved.
    pub model: Option<&'a Path>,
    /// The device to measure on, by name.
    pub device: &'a str,
}

/// A run with all that measuring it takes.
pub struct Opened {
    /// Its folder.
    pub run: RunFolder,
    /// What it is measured by: its own plan, or that of another run with the same objectives.
    pub yardstick: Plan,
    /// The model that was adapted.
    pub base: Base,
    /// What it serves.
    pub policy: Policy,
    /// The records that it is measured on.
    pub eval: Records,
    /// What these are to its training.
    pub origin: Origin,
    /// Steps that are finished of what it serves.
    steps: Option<usize>,
    /// The files of the records.
    files: Vec<MeasuredFile>,
    /// What the rewards of its training were like.
    reward_scales: Vec<RewardScale>,
    /// How many of them are measured, from the first on.
    pub(crate) measured: usize,
    pub(crate) references: References,
}

/// A measured run.
pub struct Measured {
    /// Its front.
    pub front: Front,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
    /// What was measured, and on what.
    pub provenance: MeasuredRun,
}

impl Opened {
    /// Opens a run, its base model and held-out records.
    pub fn open(run: RunFolder, choices: Choices<'_>) -> Result<Self, MeasureError> {
        let record = run.record()?;
        let plan = &record.plan;
        let yardstick = choices.like.unwrap_or(plan).clone();
        if yardstick.objective_names() != plan.objective_names() {
            return Err(MeasureError::OtherObjectives {
                run: run.name(),
                own: plan.objective_names().join(", "),
                others: yardstick.objective_names().join(", "),
            });
        }
        let pretrained = open_model_of(plan, choices.model)?;
        let tokenizer = pretrained.tokenizer()?;
        let eval = Records::load_held_out(&yardstick, choices.eval, tokenizer)?;
        let eval = eval.ok_or_else(|| MeasureError::NoHeldOut { run: run.name() })?;
        let files = yardstick.evaluation_files(choices.eval).into_iter();
        let files: Vec<MeasuredFile> = files
            .map(|file| {
                Ok(MeasuredFile {
                    path: file.display().to_string(),
                    sha256: panacea_data::fingerprint(file)?,
                })
            })
            .collect::<Result<_, DataError>>()?;
        let contents: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
        let origin = Origin::of(&contents, &record.trained_on());
        let device = panacea_devices::select(choices.device)?;
        let weights = plan.precision().on(&device)?;
        let base = Base::load(pretrained, &device, weights)?;
        let Base {
            pretrained,
            decoder,
        } = &base;
        let mut policy = Policy::open(&run, decoder)?;
        policy.notes.extend(changed_since(&record, pretrained));
        let steps = run.served_steps(&record)?;
        let reward_scales = reward_scales(&run, plan)?;
        // What the trainings computed; measuring leaves their folder as it is.
        let runs = run.path().parent().unwrap_or(Path::new("."));
        let references = References::read(
            runs,
            &pretrained.fingerprint()?,
            &computed_by(choices.device, weights),
        )?;
        Ok(Self {
            run,
            yardstick,
            base,
            policy,
            measured: eval.examples.len(),
            eval,
            origin,
            steps,
            files,
            reward_scales,
            references,
        })
    }

    /// How fast this machine is with the run, at the preference in the middle.
    pub fn rates(&self) -> Result<Rates, MeasureError> {
        let centre = Preference::uniform(self.policy.plan().objectives().len());
        let Served::Adapter(steering) = self.policy.serve(&centre)?;
        let learning = &self.yardstick.method().learning;
        Rates::of(&self.base.decoder, &steering, learning, &self.eval.examples)
    }

    /// What there is to measure at so many preferences, by the records or by rewards.
    pub fn asked(&self, preferences: usize, by_rewards: bool) -> Asked<'_> {
        Asked {
            examples: &self.eval.examples,
            references: &self.references,
            learning: &self.yardstick.method().learning,
            preferences,
            by_rewards,
            records: None,
            answered_at: 0,
            prompts: None,
            max_new_tokens: 0,
        }
    }

    /// Measures no more than the first `records`.
    pub fn measure_first(&mut self, records: usize) {
        self.measured = records.min(self.eval.examples.len());
    }

    /// Seconds that all trainings of the run took.
    pub fn train_seconds(&self) -> Result<f64, MeasureError> {
        Ok(self.cost(0.0)?.train_seconds)
    }

    /// What the run is measured on, for the front: `records` of them, `by` what.
    pub(crate) fn provenance(&self, by: String, records: usize) -> MeasuredRun {
        MeasuredRun {
            run: self.run.name(),
            steps: self.steps,
            by,
            records,
            origin: self.origin.to_string(),
            files: self.files.clone(),
            yardstick: self.yardstick.yardstick(),
            reward_scales: self.reward_scales.clone(),
        }
    }

    /// The records that are measured.
    pub(crate) fn measured(&self) -> &[Example] {
        &self.eval.examples[..self.measured]
    }

    /// The grid of preferences with `divisions` steps along each edge of the simplex; the default is
    /// [`usual_divisions`]: 10 for up to three objectives, fewer for more. A run that was trained at one preference is measured at
    /// that one, unless `divisions` asks for others.
    pub fn grid(&self, divisions: Option<usize>) -> Vec<Preference> {
        grid(self.policy.plan(), divisions)
    }

    /// What the method took: every training, and every file that has to be kept to serve any preference.
    pub(crate) fn cost(&self, switch_seconds: f64) -> Result<Cost, MeasureError> {
        let folders = training_folders(&self.run, self.policy.plan());
        let mut cost = Cost {
            trainings: folders.len(),
            switch_seconds,
            ..Cost::default()
        };
        for folder in &folders {
            let folder = RunFolder::open(folder)?;
            let totals = training_totals(&folder.metrics())?;
            cost.train_seconds += totals.seconds;
            cost.train_tokens += totals.tokens;
            let place = match folder.latest_checkpoint()? {
                // A run that is not finished has no adapter yet; its checkpoint's is of the same size.
                Some(checkpoint) if !folder.adapter().exists() => checkpoint.path,
                _ => folder.adapter(),
            };
            let adapter = place.join(ADAPTER_FILE);
            cost.bytes += adapter.metadata().map_or(0, |file| file.len());
        }
        Ok(cost)
    }
}

/// The folder of each training of a run.
fn training_folders(run: &RunFolder, plan: &Plan) -> Vec<PathBuf> {
    match plan.trainings() {
        Trainings::One => vec![run.path().to_owned()],
        Trainings::Each(preferences) => (0..preferences.len())
            .map(|index| run.member(index))
            .collect(),
    }
}

/// What the rewards of a run's training were like, by its last checkpoint; nothing where it has several trainings, each with
/// a scale of its own, or no checkpoint any more.
fn reward_scales(run: &RunFolder, plan: &Plan) -> Result<Vec<RewardScale>, MeasureError> {
    if plan.trainings() != Trainings::One {
        return Ok(Vec::new());
    }
    let Some(checkpoint) = run.latest_checkpoint()? else {
        return Ok(Vec::new());
    };
    let memory = TrainingState::rewards_of(&checkpoint.path)?;
    let scales = plan.objective_names().into_iter().zip(memory.scales());
    let scales = scales.map(|(objective, scale)| RewardScale {
        objective,
        mean: scale.mean,
        deviation: scale.deviation,
        answers: scale.answers,
    });
    Ok(scales.collect())
}
/// The preferences at which a run of this plan is measured: see [`Opened::grid`].
#[must_use]
pub fn grid(plan: &Plan, divisions: Option<usize>) -> Vec<Preference> {
    let objectives = plan.objectives().len();
    match (divisions, plan.only_preference()) {
        (None, Some(only)) => vec![only],
        (Some(divisions), _) => simplex_grid(objectives, divisions),
        (None, None) => simplex_grid(objectives, usual_divisions(objectives)),
    }
}
