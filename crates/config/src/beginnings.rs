//! Configurations to begin with, one for each thing that is trained.

use std::path::PathBuf;

use panacea_data::{Candidate, LabelSource, ObjectiveSpec, Rule, Survey};

use crate::names::OneOrMany;
use crate::problems::ConfigErrors;
use crate::reading::Overrides;
use crate::spec::Spec;

/// What a configuration should come to at least: with fewer steps an adapter has hardly left its beginning.
const ENOUGH_STEPS: f64 = 60.0;

/// A configuration to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Its name, such as `dpo`.
    pub name: &'static str,
    /// What it trains, on which records.
    pub about: &'static str,
    /// Whether it trains on pairs of answers, which can be looked at for objectives.
    pub is_of_pairs: bool,
    /// What it says that no default says.
    says: &'static str,
}

/// What may be begun with.
pub const BEGINNINGS: [Beginning; 5] = [
    Beginning {
        name: "dpo",
        about: "preference optimisation on pairs, such as TRL's prompt, chosen and rejected",
        is_of_pairs: true,
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "preferred"
chosen = true
[[objective]]
name = "brevity"
rule = "shorter"
[method]
loss = "dpo"
"#,
    },
    Beginning {
        name: "kto",
        about: "answers that are good or bad by themselves, with a column for each objective",
        is_of_pairs: false,
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "helpful"
column = "helpful"
[[objective]]
name = "harmless"
column = "harmless"
[method]
loss = "kto"
"#,
    },
    Beginning {
        name: "sft",
        about: "supervised fine-tuning, with files of its own for each style",
        is_of_pairs: false,
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[[objective]]
name = "friendly"
train = "friendly.jsonl"
eval = "friendly-eval.jsonl"
[[objective]]
name = "brief"
train = "brief.jsonl"
eval = "brief-eval.jsonl"
[method]
loss = "sft"
"#,
    },
    Beginning {
        name: "rlhf",
        about: "reinforcement learning on prompts alone: the model answers, and scorers rate the answers",
        is_of_pairs: false,
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "prompts.jsonl"
eval = "eval-prompts.jsonl"
[[objective]]
name = "conciseness"
reward = { rule = "conciseness", tokens = 50, max = 4.0 }
[[objective]]
name = "politeness"
reward = { rule = "keywords", words = ["please", "thank you"] }
[method]
loss = "rlhf"
[rlhf]
normalise = true
"#,
    },
    Beginning {
        name: "reward-model",
        about: "a model that scores answers, learned from pairs, for RLHF",
        is_of_pairs: true,
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "preferred"
chosen = true
[method]
name = "reward-model"
"#,
    },
];

/// An objective of a configuration to begin with, with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// It.
    pub objective: ObjectiveSpec,
    /// What was found in the records, for a person to read.
    pub remark: String,
    /// Whether it is trained; else it stands there as a comment.
    pub is_taken: bool,
}

/// What a configuration is begun for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnFiles {
    /// The model, in place of the usual one.
    pub model: Option<PathBuf>,
    /// Files to train on.
    pub train: Vec<PathBuf>,
    /// Held-out files.
    pub eval: Vec<PathBuf>,
}

impl Beginning {
    /// What may be trained on records of which this is known.
    pub fn proposals(&self, survey: &Survey) -> Vec<Proposal> {
        let mut proposals = Proposal::of(survey);
        let is_rule = |one: &Proposal| matches!(one.objective.source, LabelSource::Rule(_));
        let has_labels = proposals.iter().any(|one| one.is_taken && !is_rule(one));
        if self.name == "reward-model" && has_labels {
            for rule in proposals.iter_mut().filter(|one| is_rule(one)) {
                rule.is_taken = false;
                rule.remark = "a rule scores answers without a model".to_owned();
            }
        }
        proposals
    }

    /// It as a configuration file: every key that has an effect stands there with what it does.
    pub fn file(&self) -> Result<String, ConfigErrors> {
        self.file_for(&OwnFiles::default(), None)
    }

    /// The same for somebody's own files, with the objectives that were found in the records.
    pub fn file_for(
        &self,
        own: &OwnFiles,
        found: Option<(&Survey, &[Proposal])>,
    ) -> Result<String, ConfigErrors> {
        let mut spec = Spec::from_toml(self.says, self.name);
        if let Some(model) = &own.model {
            spec.model.path = Some(model.clone());
        }
        if !own.train.is_empty() {
            spec.data.train = Some(OneOrMany(own.train.clone()));
        }
        if !own.eval.is_empty() {
            spec.data.eval = Some(OneOrMany(own.eval.clone()));
        }
        if let Some((survey, _)) = found {
            spec.optimizer.epochs = Some(spec.enough_epochs(survey.records));
        }
        let proposals = found.map_or(&[][..], |(_, proposals)| proposals);
        let keys = spec.with_keys_of_its_method(&Overrides::default(), proposals)?;
        Ok(format!("# To begin with: {}.\n{keys}", self.about))
    }
}

impl Spec {
    /// So many passes over the records that there are enough steps; one where that is enough.
    fn enough_epochs(&self, records: usize) -> f64 {
        let batch_size = self.optimizer.batch_size();
        let of_a_pass = records as f64 / (batch_size.default)() as f64;
        (ENOUGH_STEPS / of_a_pass).ceil().max(1.0)
    }
}

impl Proposal {
    /// What may be trained on records of which this is known. An objective is taken if somewhere it wants another answer than those
    /// before it do: those that always agree have one front, a point. Where one alone is left of what the records say, the length
    /// of answers is the other.
    fn of(survey: &Survey) -> Vec<Self> {
        let mut taken: Vec<&Candidate> = Vec::new();
        let mut proposals = Vec::new();
        for candidate in &survey.candidates {
            let is_rule = matches!(candidate.objective.source, LabelSource::Rule(_));
            let twin = (taken.iter()).find(|before| candidate.differs(before) == 0);
            let remark = match twin {
                Some(twin) if is_rule && taken.len() == 1 => {
                    proposals.push(Self::longer(&twin.objective.name));
                    continue;
                }
                Some(twin) => format!(
                    "it never wants another answer than `{}`, so that there is nothing to choose between the two",
                    twin.objective.name
                ),
                None if is_rule && taken.len() > 1 => {
                    "the shorter answer; there are objectives enough without it".to_owned()
                }
                None if is_rule => {
                    "the shorter answer; of length the records say nothing".to_owned()
                }
                None if candidate.is_of_fractions => {
                    "numbers from 0 to 1 are read as the probability that the second answer is preferred; take the # away if \
                     they are that"
                        .to_owned()
                }
                None => what_is_read(candidate, survey),
            };
            let is_enough = is_rule && taken.len() > 1;
            let is_taken = twin.is_none() && !is_enough && !candidate.is_of_fractions;
            if is_taken {
                taken.push(candidate);
            }
            proposals.push(Self {
                objective: candidate.objective.clone(),
                remark,
                is_taken,
            });
        }
        proposals
    }
}

impl Proposal {
    /// The other objective where the preferred answers are the shorter ones.
    fn longer(preferred: &str) -> Self {
        Self {
            objective: ObjectiveSpec::new("length", LabelSource::Rule(Rule::Longer)),
            remark: format!(
                "the longer answer, since `{preferred}` never wants that one; of length the records say nothing"
            ),
            is_taken: true,
        }
    }
}

/// What an objective makes of the records, in words.
fn what_is_read(candidate: &Candidate, survey: &Survey) -> String {
    let pairs = format!(
        "labels {} of {} pairs",
        candidate.labelled(),
        candidate.pairs()
    );
    let first = survey.candidates.first();
    let chosen = first.filter(|first| first.objective.source == LabelSource::Chosen);
    match chosen.filter(|chosen| chosen.objective != candidate.objective) {
        Some(chosen) => format!(
            "{pairs}, and wants the rejected answer in {}",
            candidate.differs(chosen)
        ),
        None => pairs,
    }
}
