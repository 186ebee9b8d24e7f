//! What training needs before its first step: a plan, a model's files and records, all of them checked.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panacea_config::{Learning, Plan};
use panacea_data::Part;
use panacea_devices::{Device, FloatDType};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_reward_models::Base;
use panacea_runs::{Interrupt, Level, ProgressMode, RunFacts, RunFolder, RunRecord, tell};

use crate::error::TrainerError;
use crate::records::{Origin, Records};
use crate::references::References;
use crate::rlhf::Judges;
use crate::trainings::Work;

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

/// What is there before any weights are read. What was found, and what is surely not meant, is told ([`tell`]).
pub struct Preparation {
    /// With the day and the ideal that it may have left open.
    pub plan: Plan,
    /// The devices that it names.
    pub devices: Vec<Device>,
    /// The type of the frozen weights.
    pub weights: FloatDType,
    /// The model's files.
    pub pretrained: Arc<Pretrained>,
    /// Records to train on.
    pub train: Records,
    /// Records to evaluate on, where the plan names any.
    pub eval: Option<Records>,
    /// The fingerprints of their files.
    pub fingerprints: BTreeMap<PathBuf, String>,
}

impl Preparation {
    /// Opens and reads what the plan names. `resumed` is the folder of a run that goes on.
    pub fn of(plan: Plan, resumed: Option<&Path>) -> Result<Self, TrainerError> {
        for warning in plan.warnings() {
            tell(Level::Warning, warning);
        }
        let devices = panacea_devices::select_all(plan.device())?;
        let weights = plan.precision().on(&devices[0])?;
        let pretrained =
            Pretrained::open_language_model(plan.model())?.with_chat(plan.chat().clone());
        let plan = match pretrained.template_asks_for_the_date()? {
            true => on_its_day(plan, resumed)?,
            false => plan,
        };
        let pretrained = Arc::new(pretrained.with_chat(plan.chat().clone()));
        let tokenizer = pretrained.tokenizer()?;
        for note in tokenizer.notes() {
            tell(Level::Note, &note);
        }
        if !tokenizer.has_template() && !plan.data().rendered {
            let model = plan.model().display();
            let warning = format!(
                "{model} has no chat template: of a conversation, the turns are written one line after the other, and nothing says \
                 who speaks; model.chat_template = FILE gives it one"
            );
            tell(Level::Warning, &warning);
        }
        let train = Records::load(&plan, Part::Train, &plan.data().train, tokenizer)?;
        let found = format!("training records\n{}", train.report);
        tell(
            Level::Note,
            &format!("{found}\npositions   {}", train.positions()),
        );
        let plan = plan.with_ideal_of(&train.examples)?;
        let eval = Records::load_held_out(&plan, &[], tokenizer)?;
        let fingerprints = fingerprints(&plan)?;
        if let Some(eval) = &eval {
            let held_out = format!("{} records\n{}", origin(&plan, &fingerprints), eval.report);
            match held_out == found {
                true => tell(Level::Note, "evaluated on the training records"),
                false => tell(Level::Note, &held_out),
            }
        }
        Ok(Self {
            plan,
            devices,
            weights,
            pretrained,
            train,
            eval,
            fingerprints,
        })
    }

    /// The plan, and what a run has to know of the files that it was trained on.
    pub fn record(&self) -> Result<RunRecord, TrainerError> {
        let [tokenizer, template] = self.pretrained.tokenizer()?.fingerprints();
        let facts = RunFacts {
            panacea: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN_VERSION.to_owned(),
            model_fingerprint: self.pretrained.fingerprint()?,
            tokenizer_fingerprint: Some(tokenizer.to_owned()),
            template_fingerprint: Some(template.to_owned()),
            records: Some(self.train.examples.len()),
            started_in: env::current_dir()
                .ok()
                .filter(|folder| folder.to_str().is_some()),
            data_fingerprints: self.fingerprints.clone(),
            extensions: Vec::new(),
            gone: Vec::new(),
        };
        Ok(RunRecord {
            plan: self.plan.clone(),
            facts,
        })
    }

    /// The model with its weights.
    pub fn base(&self) -> Result<Base, TrainerError> {
        let decoder = Decoder::load_in(&self.pretrained, &self.devices[0], self.weights)?;
        Ok(Base {
            decoder: Arc::new(decoder),
            pretrained: Arc::clone(&self.pretrained),
        })
    }

    /// The weights on every device, and what scores answers: all that is left to be opened. `then` gets them as work to be
    /// carried out, which nothing interrupts yet.
    pub fn with_work<T, E: From<TrainerError>>(
        &self,
        references: References,
        then: impl FnOnce(Work<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let base = self.base()?;
        let replicas = (self.devices[1..].iter())
            .map(|device| Decoder::load_in(&base.pretrained, device, self.weights))
            .collect::<Result<Vec<_>, _>>()
            .map_err(TrainerError::from)?;
        let tokenizer = self.pretrained.tokenizer().map_err(TrainerError::from)?;
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let judges = match self.plan.method().learning {
            Learning::Rlhf(_) => {
                let stop = tokenizer.stop_ids();
                let (judges, apart) = Judges::open(&self.plan, &base, &decode, stop)?;
                for path in apart {
                    let model = path.display();
                    tell(
                        Level::Note,
                        &format!("reward model {model}: weights of its own, beside the policy's"),
                    );
                }
                Some(judges)
            }
            Learning::Supervised(_) => None,
        };
        then(Work {
            judges: judges.as_ref(),
            model: &base.decoder,
            replicas: &replicas,
            train: &self.train.examples,
            eval: (self.eval.as_ref()).map_or(&[], |loaded| &loaded.examples[..]),
            references,
            interrupt: Interrupt::manual(),
            progress: ProgressMode::Auto,
            note: &|note| tell(Level::Note, note),
        })
    }
}

/// The fingerprint of each file of records.
fn fingerprints(plan: &Plan) -> Result<BTreeMap<PathBuf, String>, TrainerError> {
    let mut fingerprints = BTreeMap::new();
    for file in plan
        .training_files()
        .into_iter()
        .chain(plan.evaluation_files(&[]))
    {
        if !fingerprints.contains_key(file) {
            fingerprints.insert(file.to_owned(), panacea_data::fingerprint(file)?);
        }
    }
    Ok(fingerprints)
}

/// What the records of a plan's evaluation are to its training.
fn origin(plan: &Plan, fingerprints: &BTreeMap<PathBuf, String>) -> Origin {
    let of = |files: Vec<&Path>| -> Vec<&String> {
        let files = files.into_iter();
        files.filter_map(|file| fingerprints.get(file)).collect()
    };
    Origin::of(&of(plan.evaluation_files(&[])), &of(plan.training_files()))
}

/// The plan on the day on which its run began, for the chat template: today, unless `resumed` goes on.
fn on_its_day(plan: Plan, resumed: Option<&Path>) -> Result<Plan, TrainerError> {
    let began = match resumed {
        Some(run) => RunFolder::open(run)?.record()?.plan.chat().date.clone(),
        None => None,
    };
    Ok(plan.on_day(|| began.unwrap_or_else(|| chrono::Local::now().format("%F").to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_the_workspace_pins() {
        let workspace = include_str!("../../../Cargo.toml");
        assert!(workspace.contains(&format!("\"={BURN_VERSION}\"")));
    }
}
