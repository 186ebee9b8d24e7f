//! `[data]` and `[[objective]]`: the records, and what they are judged by.

use std::path::PathBuf;

use panacea_data::{
    BadRecords, Format, LabelSource, LabelledBy, ObjectiveSpec, OverlongPrompts, TokenLimits,
    Tolerance,
};
use panacea_rewards::ScorerSpec;

use crate::names::{FormatChoice, OneOrMany};
use crate::resolver::Resolver;
use crate::schema::{COUNT, RATIO};

section! {
    /// The records.
    DataSpec at "data." {
        /// Files to train on.
        train: OneOrMany, default "required, here or as `--train`, unless every objective names files of its own";
        /// Held-out files.
        eval: OneOrMany;
        /// The format of the files; `"auto"` finds it out from each file.
        format: FormatChoice = FormatChoice::Auto;
        /// What happens to a record that cannot be used (a line that is no JSON, no prompt, an empty response, a score that is
        /// no number, a conversation that the chat template refuses): `"error"` stops there, `"skip"` leaves it out, counts it
        /// by reason and names the first. A label that is null, empty or a word such as "N/A" is missing, which is no fault.
        bad_records: BadRecords = BadRecords::Error;
        /// With `bad_records = "skip"`, the largest share of the records read that may be skipped so, rounded up to whole records;
        /// with more the run stops and says why they were. Records with a prompt that is too long, equal responses or a missing label do not count: nothing is
        /// wrong with them.
        max_skipped: f64 = Tolerance::MAX_SKIPPED, in RATIO, when SKIPS;
        /// Which records are trained on: those that any objective labels, or those that all do which read their file. A tie is
        /// no label. Where labels are missing, a λ that is all on one objective learns nothing from a record without its label.
        labelled_by: LabelledBy = LabelledBy::Any, when SUPERVISED;
        /// Tokens of a prompt, at most.
        max_prompt_tokens: usize = 512, in COUNT;
        /// Tokens of a response, at most; longer ones are cut.
        max_response_tokens: usize = 512, in COUNT;
        /// What happens to a record whose prompt is too long.
        overlong_prompts: OverlongPrompts = OverlongPrompts::Skip;
        /// Whether prompts are texts that already are what the chat template would write, role tokens and the answer's header
        /// included: they are then taken as they are.
        rendered: bool = false;
    }
}

/// The records.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataPlan {
    /// Files to train on; empty where every objective names files of its own.
    pub train: Vec<PathBuf>,
    /// Held-out files; may be empty.
    pub eval: Vec<PathBuf>,
    /// The format of the files; without it, each file's own.
    pub format: Option<Format>,
    /// What happens to records that cannot be used, and how many may be skipped.
    pub tolerance: Tolerance,
    /// Which records are trained on, by their labels.
    pub labelled_by: LabelledBy,
    /// How long prompts and responses may be.
    pub limits: TokenLimits,
    /// Whether prompts already are what the chat template would write.
    pub rendered: bool,
}

impl DataPlan {
    pub(crate) fn to_spec(&self) -> DataSpec {
        DataSpec {
            train: Some(OneOrMany(self.train.clone())),
            eval: Some(OneOrMany(self.eval.clone())),
            format: Some(self.format.map_or(FormatChoice::Auto, FormatChoice::Named)),
            bad_records: Some(self.tolerance.bad_records),
            max_skipped: Some(self.tolerance.max_skipped),
            labelled_by: Some(self.labelled_by),
            max_prompt_tokens: Some(self.limits.max_prompt_tokens),
            max_response_tokens: Some(self.limits.max_response_tokens),
            overlong_prompts: Some(self.limits.overlong_prompts),
            rendered: Some(self.rendered),
        }
    }
}

/// How the records of a file are read, whatever is done with them.
pub(crate) struct RecordReading {
    pub format: Option<Format>,
    pub tolerance: Tolerance,
    pub rendered: bool,
}

impl Resolver {
    pub(crate) fn record_reading(&mut self, spec: &DataSpec) -> RecordReading {
        RecordReading {
            format: match self.take(spec.format()) {
                FormatChoice::Auto => None,
                FormatChoice::Named(format) => Some(format),
            },
            tolerance: Tolerance {
                bad_records: self.take(spec.bad_records()),
                max_skipped: self.take(spec.max_skipped()),
            },
            rendered: self.take(spec.rendered()),
        }
    }

    pub(crate) fn data(&mut self, spec: &DataSpec, objectives: &[ObjectiveSpec]) -> DataPlan {
        let train = self.take_or(spec.train(), OneOrMany::default()).0;
        let have_own_files = objectives
            .iter()
            .all(|objective| !objective.train.is_empty());
        if train.is_empty() && (objectives.is_empty() || !have_own_files) {
            self.missing(
                "data.train",
                "there are no records to train on; name files with --train, or here",
            );
        }
        let RecordReading {
            format,
            tolerance,
            rendered,
        } = self.record_reading(spec);
        let overlong_prompts = self.take(spec.overlong_prompts());
        if rendered && overlong_prompts == OverlongPrompts::Truncate {
            let message = "\"truncate\" cuts words before the template is applied, \
                           which data.rendered = true leaves out; use \"skip\"";
            self.problem("data.overlong_prompts", message.to_owned());
        }
        let judge = objectives
            .iter()
            .find_map(|objective| match &objective.source {
                LabelSource::Reward(spec) if matches!(**spec, ScorerSpec::Model(_)) => Some(spec),
                _ => None,
            });
        if let (true, Some(spec)) = (rendered, judge) {
            let message = format!(
                "found true beside the reward {spec}, expected false: a reward model writes conversations by its own template, \
                 and prompts that already are what a template writes would be wrapped twice; give messages as prompts"
            );
            self.problem("data.rendered", message);
        }
        DataPlan {
            train,
            eval: self.take_or(spec.eval(), OneOrMany::default()).0,
            format,
            tolerance,
            labelled_by: self.take(spec.labelled_by()),
            limits: TokenLimits {
                max_prompt_tokens: self.take(spec.max_prompt_tokens()),
                max_response_tokens: self.take(spec.max_response_tokens()),
                overlong_prompts,
            },
            rendered,
        }
    }

    pub(crate) fn objectives(&mut self, objectives: Vec<ObjectiveSpec>) -> Vec<ObjectiveSpec> {
        if self.is_broken("objective") {
            return objectives; // Some are left out, so that places and numbers would be wrong.
        }
        if objectives.is_empty() {
            self.problem(
                "objective",
                "there is none; describe at least one in a table [[objective]]".into(),
            );
        }
        for (index, objective) in objectives.iter().enumerate() {
            let key = format!("objective[{index}]");
            let name = &objective.name;
            if let Some(first) = objectives[..index]
                .iter()
                .position(|other| other.name == *name)
            {
                let message = format!(
                    "its name \"{name}\" is that of objective[{first}] too; each needs its own"
                );
                self.problem(&key, message);
            }
        }
        objectives
    }
}
