//! A configuration with every default filled in and every value checked: what the training loop sees.

use std::path::{Path, PathBuf};

use panacea_data::{Example, LabelSource, ObjectiveSpec};
use panacea_devices::Precision;
use panacea_methods::{Method, Trainings};
use panacea_objectives::{Aggregation, Preference};
use panacea_pretrained::ChatOptions;
use panacea_rewards::ScorerSpec;
use toml::Table;

use crate::problems::ConfigErrors;
use crate::reading::Overrides;
use crate::resolver::Resolver;
use crate::sections::general::General;
use crate::sections::rlhf::RunScales;
use crate::sections::{
    AdapterPlan, CheckpointPlan, DataPlan, DataSpec, EvaluationPlan, EvaluationSpec, GeneralSpec,
    Learning, LoggingPlan, MethodPlan, MethodSpec, ModelSpec, OptimizerPlan, PrecisionSpec,
    PreferencePlan, PreferenceSpec, RlhfSpec, label_ideal,
};
use crate::spec::Spec;

/// What a run does. Only [`Plan::resolve`] makes one, so that whoever holds a plan holds a valid one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    seed: u64,
    device: String,
    model: PathBuf,
    chat: ChatOptions,
    precision: Precision,
    data: DataPlan,
    objectives: Vec<ObjectiveSpec>,
    adapter: AdapterPlan,
    method: MethodPlan,
    preference: PreferencePlan,
    optimizer: OptimizerPlan,
    evaluation: EvaluationPlan,
    checkpoint: CheckpointPlan,
    logging: LoggingPlan,
    warnings: Vec<String>,
}

impl Plan {
    /// Lays the command line over the configuration, fills in every default and checks every value. The
    /// error lists all mistakes, those of reading the file included.
    pub fn resolve(mut spec: Spec, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        spec.apply(overrides);
        if spec.sources.is_unreadable
            && let Some(errors) = ConfigErrors::from_problems(spec.sources.problems.clone())
        {
            return Err(errors);
        }
        let mut resolver = Resolver {
            sources: std::mem::take(&mut spec.sources),
            warnings: Vec::new(),
        };
        let plan = resolver.plan(spec);
        match ConfigErrors::from_problems(resolver.sources.problems) {
            Some(errors) => Err(errors),
            None => Ok(Self {
                warnings: resolver.warnings,
                ..plan
            }),
        }
    }

    /// The seed of every random choice.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The device to train on, by name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The model that is adapted: a folder in Hugging Face layout, or a GGUF file.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// How its conversations are written, where that is not left to its own files.
    pub fn chat(&self) -> &ChatOptions {
        &self.chat
    }

    /// The same plan on the day `date` (2026-11-27), for chat templates that tell it, unless the plan says which day it is.
    #[must_use]
    pub fn on_day(mut self, date: impl FnOnce() -> String) -> Self {
        self.chat.date.get_or_insert_with(date);
        self
    }

    /// The same plan with `found` of each path in it. Programs keep the words of their command, and are started in what is found
    /// of the folder `.`.
    #[must_use]
    pub fn with_paths(mut self, found: impl Fn(&Path) -> PathBuf) -> Self {
        let chat = &mut self.chat;
        let one = [&mut self.model].into_iter();
        let of_chat = chat.tokenizer.iter_mut().chain(&mut chat.template);
        let of_data = self.data.train.iter_mut().chain(&mut self.data.eval);
        let of_logging = self.logging.mlflow.iter_mut();
        for path in one.chain(of_chat).chain(of_data).chain(of_logging) {
            *path = found(path);
        }
        for objective in &mut self.objectives {
            for path in objective.train.iter_mut().chain(&mut objective.eval) {
                *path = found(path);
            }
            if let LabelSource::Reward(scorer) = &mut objective.source {
                match &mut **scorer {
                    ScorerSpec::Model(spec) => spec.model = found(&spec.model),
                    ScorerSpec::Program { folder, .. } => *folder = found(folder),
                    _ => {}
                }
            }
        }
        self
    }

    /// The type of the model's frozen weights.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The records.
    pub fn data(&self) -> &DataPlan {
        &self.data
    }

    /// The objectives; at least one, each with a name of its own.
    pub fn objectives(&self) -> &[ObjectiveSpec] {
        &self.objectives
    }

    /// The names of the objectives.
    pub fn objective_names(&self) -> Vec<String> {
        self.objectives
            .iter()
            .map(|objective| objective.name.clone())
            .collect()
    }

    /// The SVD-LoRA.
    pub fn adapter(&self) -> &AdapterPlan {
        &self.adapter
    }

    /// What is minimised.
    pub fn method(&self) -> &MethodPlan {
        &self.method
    }

    /// How preference vectors are drawn.
    pub fn preference(&self) -> &PreferencePlan {
        &self.preference
    }

    /// The preference of every step, where there is but one: `preference.fixed`, or that of a single objective.
    #[must_use]
    pub fn only_preference(&self) -> Option<Preference> {
        let of_one = || (self.objectives.len() == 1).then(|| Preference::uniform(1));
        self.preference.fixed.clone().or_else(of_one)
    }

    /// Where a run stands while nobody says a preference: at the only one that it was trained at, else all objectives alike.
    #[must_use]
    pub fn usual_preference(&self) -> Preference {
        let alike = || Preference::uniform(self.objectives.len());
        self.only_preference().unwrap_or_else(alike)
    }

    /// Whether only answers that the run writes can be measured: with rewards, unless all are the records' own scores.
    #[must_use]
    pub fn needs_answers(&self) -> bool {
        let is_own = |objective: &ObjectiveSpec| objective.asks_for_own_scores();
        matches!(self.method.learning, Learning::Rlhf(_)) && !self.objectives.iter().all(is_own)
    }

    /// The trainings that the method takes.
    pub fn trainings(&self) -> Trainings {
        self.method.method.trainings(self.objectives.len())
    }

    /// How many trainings these are.
    pub fn training_count(&self) -> usize {
        match self.trainings() {
            Trainings::One => 1,
            Trainings::Each(preferences) => preferences.len(),
        }
    }

    /// Every file of records to train on: those that objectives share, then each objective's own.
    pub fn training_files(&self) -> Vec<&Path> {
        let own = self
            .objectives
            .iter()
            .flat_map(|objective| &objective.train);
        self.data
            .train
            .iter()
            .chain(own)
            .map(PathBuf::as_path)
            .collect()
    }

    /// Every file of records to evaluate on, likewise, with `shared` in place of those of the plan if there are any.
    pub fn evaluation_files<'a>(&'a self, shared: &'a [PathBuf]) -> Vec<&'a Path> {
        let shared = match shared {
            [] => &self.data.eval,
            shared => shared,
        };
        let own = self.objectives.iter().flat_map(|objective| &objective.eval);
        shared.iter().chain(own).map(PathBuf::as_path).collect()
    }

    /// What decides the value of a record: the keys of the objectives, of the loss and of reading records, without the files,
    /// as TOML. Plans with the same text judge the same records alike.
    pub fn yardstick(&self) -> String {
        let spec = self.to_spec();
        let yardstick = Spec {
            data: DataSpec {
                train: None,
                eval: None,
                labelled_by: None,
                ..spec.data
            },
            objective: (spec.objective.into_iter())
                .map(|objective| ObjectiveSpec {
                    train: Vec::new(),
                    eval: Vec::new(),
                    ..objective
                })
                .collect(),
            method: MethodSpec {
                name: None,
                aggregation: None,
                ideal: None,
                smoothing: None,
                divisions: None,
                ..spec.method
            },
            ..Spec::default()
        };
        let mut keys = Table::try_from(yardstick).expect("the keys of a plan are plain data");
        keys.retain(|_, section| !section.as_table().is_some_and(Table::is_empty));
        keys.to_string()
    }

    /// The plan of one of several trainings: the same work for a single preference.
    pub fn member(&self, preference: &Preference) -> Self {
        let mut plan = self.clone();
        plan.method.method = Method::Panacea;
        plan.preference.fixed = Some(preference.clone());
        plan
    }

    /// The same plan with Tchebycheff's ideal z taken from the labels of `train`, where the user gave none: the upper bound of
    /// each J_i under them ([`Loss::lowest`](panacea_objectives::Loss::lowest)).
    pub fn with_ideal_of(self, train: &[Example]) -> Result<Self, ConfigErrors> {
        match &self.method.aggregation {
            Aggregation::Tchebycheff { ideal, .. } if ideal.is_empty() => {
                let ideal = label_ideal(&self.method.learning, train, self.objectives.len());
                let mut spec = self.to_spec();
                spec.method.ideal = Some(ideal);
                Self::resolve(spec, &Overrides::default())
            }
            Aggregation::Tchebycheff { .. } | Aggregation::Linear => Ok(self),
        }
    }

    /// AdamW, its schedule and its batches.
    pub fn optimizer(&self) -> &OptimizerPlan {
        &self.optimizer
    }

    /// Measuring on held-out records while training goes on.
    pub fn evaluation(&self) -> &EvaluationPlan {
        &self.evaluation
    }

    /// States to go on from.
    pub fn checkpoint(&self) -> &CheckpointPlan {
        &self.checkpoint
    }

    /// Where metrics are written beside the run's folder.
    pub fn logging(&self) -> &LoggingPlan {
        &self.logging
    }

    /// What is valid but surely not meant, such as a key that has no effect; for a person to read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The configuration that resolves to this plan, with every default written out. Keys that have no
    /// effect under its method are left out.
    pub fn to_spec(&self) -> Spec {
        Spec {
            general: GeneralSpec {
                seed: Some(self.seed),
                device: Some(self.device.clone()),
            },
            model: ModelSpec::of(self.model.clone(), &self.chat),
            precision: PrecisionSpec {
                base: Some(self.precision),
            },
            data: self.data.to_spec(),
            objective: self.objectives.clone(),
            adapter: self.adapter.to_spec(),
            method: self.method.to_spec(),
            rlhf: match &self.method.learning {
                Learning::Rlhf(rlhf) => rlhf.to_spec(),
                Learning::Supervised(_) => RlhfSpec::default(),
            },
            preference: match self.method.method {
                Method::Panacea => self.preference.to_spec(),
                _ => PreferenceSpec::default(),
            },
            optimizer: self.optimizer.to_spec(),
            evaluation: match &self.method.learning {
                Learning::Supervised(_) => self.evaluation.to_spec(),
                Learning::Rlhf(_) => EvaluationSpec::default(),
            },
            checkpoint: self.checkpoint.to_spec(),
            logging: self.logging.to_spec(),
            ..Spec::default()
        }
    }
}

impl Resolver {
    fn plan(&mut self, spec: Spec) -> Plan {
        spec.warn_of_idle_keys(self);
        let General { seed, device } = self.general(&spec.general);
        let model = self.model(&spec.model);
        let chat = self.chat(&spec.model);
        let precision = self.take(spec.precision.base());
        let objectives = self.objectives(spec.objective);
        let data = self.data(&spec.data, &objectives);
        let mut evaluation = self.evaluation(&spec.evaluation, &data, &objectives);
        let mut adapter = self.adapter(&spec.adapter);
        let optimizer = self.optimizer(&spec.optimizer, device.split(',').count());
        let run = RunScales {
            learning_rate: optimizer.learning_rate,
            max_response_tokens: data.limits.max_response_tokens,
        };
        let method = self.method(&spec.method, &spec.rlhf, objectives.len(), run);
        let mut preference =
            self.preference(&spec.preference, &method, optimizer.batch_size, &objectives);
        self.warn_of_few_records(&method, preference.groups, optimizer.batch_size);
        if method.is_reward_model() {
            adapter.orthogonality = 0.0;
            preference = PreferencePlan::every_objective_alike(objectives.len());
        }
        if let Learning::Rlhf(_) = method.learning {
            evaluation.every = None;
        }
        Plan {
            seed,
            device,
            model,
            chat,
            precision,
            data,
            objectives,
            adapter,
            method,
            preference,
            optimizer,
            evaluation,
            checkpoint: self.checkpoint(&spec.checkpoint),
            logging: self.logging(&spec.logging),
            warnings: Vec::new(),
        }
    }
}
