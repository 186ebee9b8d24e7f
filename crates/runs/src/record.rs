//! `run.toml`: the plan as it was resolved, and the facts that decide whether a run can be repeated. The
//! file is a configuration as well: its `[run]` table apart, it says what a person could have written.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::mem;
use std::path::{Path, PathBuf};

use panacea_config::{Length, Overrides, Plan, Spec, gone_keys};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::RunError;
use panacea_files as files;

/// A run: its plan, and the versions and files that it was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The plan.
    pub plan: Plan,
    /// The versions and the fingerprints of the files.
    pub facts: RunFacts,
}

/// Versions and fingerprints: the table `[run]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The version of this project.
    pub panacea: String,
    /// The version of the tensor library.
    pub burn: String,
    /// The fingerprint of the model's files.
    pub model_fingerprint: String,
    /// The fingerprint of the tokenizer; runs from before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_fingerprint: Option<String>,
    /// The fingerprint of the chat template, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_fingerprint: Option<String>,
    /// Records to train on, of which a number of epochs makes a number of steps; runs from before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<usize>,
    /// The folder in which the training was started, where the plan's relative paths begin; runs from before it was kept, and
    /// those in a folder whose name is no text, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_in: Option<PathBuf>,
    /// The fingerprint of each data file, by its path as the plan has it.
    #[serde(default)]
    pub data_fingerprints: BTreeMap<PathBuf, String>,
    /// Every time that more steps were asked for, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// What it says by keys that are no more ([`gone_keys`]).
    #[serde(skip)]
    pub gone: Vec<String>,
}

/// More steps than a run began with. The steps up to `at` followed the schedule of `from` steps, those behind it that of `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Finished steps from which it went on; none of a run that is several trainings, each of which says its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
    /// The steps of the run before.
    pub from: usize,
    /// The steps of the run since.
    pub to: usize,
}

/// A key, its value in one run, and its value in another; nothing where it is not set.
pub type Unlike = (String, Option<String>, Option<String>);

/// How a run differs from the plan that it is to go on with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// Keys that change what is computed, each with both values: the run cannot go on with these.
    pub conflicts: Vec<String>,
    /// What may differ, but is worth a word: rounding, or what is measured on the way.
    pub notes: Vec<String>,
    /// The steps of the run and those of the plan, where these are more.
    pub longer: Option<(usize, usize)>,
}

/// Keys that decide when something is saved or shown, and nothing about the numbers.
const FREE: [&str; 3] = ["checkpoint.every", "checkpoint.keep", "logging.mlflow"];

/// Keys that change the rounding of the numbers, what is measured on the way or where a training gives up, but not the training.
const NOTED: [&str; 11] = [
    "device",
    "optimizer.micro_batch_size",
    "optimizer.activations",
    "optimizer.max_grad_norm",
    "rlhf.max_kl",
    "rlhf.max_repetition",
    "data.eval",
    "evaluation.every",
    "evaluation.records",
    "run.burn",
    "run.panacea",
];

/// Keys that decide how many steps a run has.
const LENGTH: [&str; 2] = ["optimizer.steps", "optimizer.epochs"];

/// What decides tokens: files that count by their content.
const TOKENS: [&str; 2] = ["model.tokenizer", "model.chat_template"];

/// The day that it is for the chat template.
const DATE: &str = "model.template.date";

impl RunRecord {
    /// The text of `run.toml`.
    pub fn to_toml(&self) -> Result<String, RunError> {
        let run = BTreeMap::from([("run", &self.facts)]);
        let plan = toml::to_string(&self.plan.to_spec()).map_err(not_toml)?;
        let facts = toml::to_string(&run).map_err(not_toml)?;
        Ok(format!(
            "# The plan of this run as it was resolved. It can be used as a configuration again.\n\n{plan}\n{facts}"
        ))
    }

    /// Writes `run.toml`.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        Ok(files::write_file(path, self.to_toml()?.as_bytes())?)
    }

    /// Reads `run.toml`. Where it is read in another folder than the training was started in, relative paths become those that
    /// were meant there, as far as there still is something.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        Ok(Self::read_as_written(path)?.seen_from_here())
    }

    fn read_as_written(path: &Path) -> Result<Self, RunError> {
        #[derive(Deserialize)]
        struct Facts {
            run: RunFacts,
        }
        let text = files::read_text(path)?;
        let spec = Spec::from_toml(&text, &path.display().to_string());
        let plan = Plan::resolve(spec, &Overrides::default())?;
        let mut facts: Facts = toml::from_str(&text).map_err(|error| RunError::BrokenRun {
            path: path.to_path_buf(),
            message: format!("the table [run] cannot be read: {}", error.message()),
        })?;
        facts.run.gone = gone_keys(&text);
        Ok(Self {
            plan,
            facts: facts.run,
        })
    }

    /// The record with its paths as they are found from the present folder.
    fn seen_from_here(mut self) -> Self {
        let Some(folder) = &self.facts.started_in else {
            return self;
        };
        let is_here = env::current_dir().is_ok_and(|here| here == *folder);
        let found = |path: &Path| {
            let meant = folder.join(path);
            // Of a project that was moved as a whole, nothing is left there.
            match !is_here && path.is_relative() && meant.exists() {
                true => meant,
                false => path.to_owned(),
            }
        };
        self.plan = self.plan.with_paths(found);
        let fingerprints = mem::take(&mut self.facts.data_fingerprints).into_iter();
        self.facts.data_fingerprints = fingerprints
            .map(|(path, fingerprint)| (found(&path), fingerprint))
            .collect();
        self
    }

    /// Writes into `run.toml` that the run has more steps from here on.
    pub(crate) fn extend(path: &Path, extension: Extension) -> Result<(), RunError> {
        let mut record = Self::read_as_written(path)?;
        let steps = Overrides {
            steps: Some(extension.to),
            ..Overrides::default()
        };
        record.plan = Plan::resolve(record.plan.to_spec(), &steps)?;
        record.facts.extensions.push(extension);
        record.write(path)
    }

    /// Steps of a training of this plan; nothing where they follow from a number of records that is not known.
    pub fn total_steps(&self) -> Option<usize> {
        self.steps_on(self.facts.records)
    }

    fn steps_on(&self, records: Option<usize>) -> Option<usize> {
        let optimizer = self.plan.optimizer();
        match (optimizer.length, records) {
            (Length::Steps(steps), _) => Some(steps),
            (Length::Epochs(_), records) => Some(optimizer.total_steps(records?)),
        }
    }

    /// The fingerprints of the files that it trains on.
    pub fn trained_on(&self) -> Vec<&str> {
        let files = self.plan.training_files().into_iter();
        let known = files.filter_map(|file| self.facts.data_fingerprints.get(file));
        known.map(String::as_str).collect()
    }

    /// What differs between this run, as it was started, and the plan to go on with. Files count by
    /// content: the same file under another path is no difference.
    pub fn differences(&self, next: &Self) -> Result<Differences, RunError> {
        let (mut before, mut after) = (self.flat()?, next.flat()?);
        for key in TOKENS {
            // What an older run had is not known.
            if !(before.contains_key(key) && after.contains_key(key)) {
                before.remove(key);
                after.remove(key);
            }
        }
        let mut differences = Differences::default();
        if self.facts.template_fingerprint.is_none() && !before.contains_key(DATE) {
            // Runs have kept their day as long as they have kept the template's fingerprint.
            let today = after.remove(DATE);
            differences.notes.extend(today.map(|today| {
                format!(
                    "{DATE}: the day on which the run began is not known; a template that tells the date now writes {}",
                    today.shown
                )
            }));
        }
        let keys = before
            .keys()
            .chain(after.keys().filter(|key| !before.contains_key(*key)));
        let gone = self.facts.gone.iter();
        differences
            .conflicts
            .extend(gone.map(|gone| format!("the run has {gone}, which is no more")));
        let records = next.facts.records.or(self.facts.records);
        let lengths = self.steps_on(records).zip(next.steps_on(records));
        match lengths {
            Some((old, new)) if new < old => differences.conflicts.push(format!(
                "optimizer.steps: the run has {old}, now it is {new}; they can be raised, to go on with it, and not lowered"
            )),
            Some((old, new)) if new > old => differences.longer = Some((old, new)),
            _ => {}
        }
        for key in keys {
            if lengths.is_some() && LENGTH.contains(&key.as_str()) {
                continue;
            }
            let (old, new) = (before.get(key), after.get(key));
            let identity = |told: Option<&Told>| told.map(|told| told.identity.clone());
            if identity(old) == identity(new) || FREE.contains(&key.as_str()) {
                continue;
            }
            let show = |told: Option<&Told>| told.map_or("not set", |told| &told.shown).to_owned();
            let text = format!("{key}: the run has {}, now it is {}", show(old), show(new));
            // An objective may bring held-out records of its own.
            let is_held_out = key.starts_with("objective[") && key.ends_with("].eval");
            if is_held_out || NOTED.contains(&key.as_str()) {
                differences.notes.push(text);
            } else {
                differences.conflicts.push(text);
            }
        }
        Ok(differences)
    }

    /// Fails where [`RunRecord::differences`] finds a conflict; else what else differs.
    pub fn check_resume(&self, next: &Self, run: &Path) -> Result<Differences, RunError> {
        let differences = self.differences(next)?;
        if differences.conflicts.is_empty() {
            return Ok(differences);
        }
        Err(RunError::ResumeConflict {
            path: run.to_path_buf(),
            differences: differences.conflicts,
        })
    }

    /// Every key that is not the same in both, files by their content, with the values of this run and of the other one.
    pub fn unlike(&self, other: &Self) -> Result<Vec<Unlike>, RunError> {
        let (mut one, mut two) = (self.flat()?, other.flat()?);
        let keys: BTreeSet<String> = one.keys().chain(two.keys()).cloned().collect();
        let pairs = keys.into_iter().map(|key| {
            let (one, two) = (one.remove(&key), two.remove(&key));
            (key, one, two)
        });
        let same = |told: &Option<Told>| told.as_ref().map(|told| told.identity.clone());
        let shown = |told: Option<Told>| told.map(|told| told.shown);
        Ok(pairs
            .filter(|(_, one, two)| same(one) != same(two))
            .map(|(key, one, two)| (key, shown(one), shown(two)))
            .collect())
    }

    /// Every value by its dotted key.
    fn flat(&self) -> Result<BTreeMap<String, Told>, RunError> {
        let mut flat = BTreeMap::new();
        for (key, value) in Table::try_from(self.plan.to_spec()).map_err(not_toml)? {
            self.flatten(&key, &value, &mut flat);
        }
        let model = self.plan.model().display().to_string();
        flat.insert(
            "model.path".to_owned(),
            Told::file(&model, &self.facts.model_fingerprint),
        );
        let chat = self.plan.chat();
        let paths = [&chat.tokenizer, &chat.template];
        let fingerprints = [
            &self.facts.tokenizer_fingerprint,
            &self.facts.template_fingerprint,
        ];
        for ((key, path), fingerprint) in TOKENS.into_iter().zip(paths).zip(fingerprints) {
            let path = path
                .as_ref()
                .map_or_else(|| model.clone(), |path| path.display().to_string());
            let told = fingerprint
                .as_ref()
                .map(|fingerprint| Told::file(&path, fingerprint));
            flat.remove(key);
            flat.extend(told.map(|told| (key.to_owned(), told)));
        }
        flat.insert(
            "run.panacea".to_owned(),
            Told::plain(self.facts.panacea.clone()),
        );
        flat.insert("run.burn".to_owned(), Told::plain(self.facts.burn.clone()));
        Ok(flat)
    }

    fn flatten(&self, key: &str, value: &Value, flat: &mut BTreeMap<String, Told>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    self.flatten(&format!("{key}.{name}"), value, flat);
                }
            }
            Value::Array(elements) if elements.iter().any(Value::is_table) => {
                for (index, element) in elements.iter().enumerate() {
                    self.flatten(&format!("{key}[{index}]"), element, flat);
                }
            }
            Value::Array(elements) => {
                let told = elements.iter().map(|element| self.tell(element)).collect();
                flat.insert(key.to_owned(), Told::list(told));
            }
            _ => {
                flat.insert(key.to_owned(), self.tell(value));
            }
        }
    }

    fn tell(&self, value: &Value) -> Told {
        let file = value
            .as_str()
            .and_then(|path| Some((path, self.facts.data_fingerprints.get(Path::new(path))?)));
        match file {
            Some((path, fingerprint)) => Told::file(path, fingerprint),
            None => Told::plain(value.to_string()),
        }
    }
}

/// A value: what counts when it is compared, and what a person is shown.
struct Told {
    identity: String,
    shown: String,
}

impl Told {
    fn plain(text: String) -> Self {
        Self {
            identity: text.clone(),
            shown: text,
        }
    }

    fn file(path: &str, fingerprint: &str) -> Self {
        // As much of it as one sees at a glance.
        let beginning: String = fingerprint.chars().take(12).collect();
        Self {
            identity: fingerprint.to_owned(),
            shown: format!("\"{path}\" (fingerprint {beginning})"),
        }
    }

    fn list(elements: Vec<Self>) -> Self {
        let (identities, shown): (Vec<String>, Vec<String>) = elements
            .into_iter()
            .map(|told| (told.identity, told.shown))
            .unzip();
        Self {
            identity: identities.join("\n"),
            shown: format!("[{}]", shown.join(", ")),
        }
    }
}

pub(crate) fn not_toml(error: toml::ser::Error) -> RunError {
    RunError::BrokenRun {
        path: PathBuf::from("run.toml"),
        message: format!("the plan cannot be written: {error}"),
    }
}
