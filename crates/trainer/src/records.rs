//! The records of a plan: from files to tokens.

use std::fmt;
use std::path::PathBuf;

use panacea_config::Plan;
use panacea_data::{DataReport, Example, Loader, Part, Rendered, dealt_evenly};
use panacea_pretrained::ChatTokenizer;

use crate::error::TrainerError;

/// What evaluated records are to a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// None of their files is one that it trained on.
    HeldOut,
    /// All of them are.
    Training,
    /// Some of them are.
    Both,
}

impl Origin {
    /// Of records in files with the fingerprints `evaluated`, to a training on files with the fingerprints `trained`: files
    /// count by their content, whatever they are called.
    pub fn of(evaluated: &[impl AsRef<str>], trained: &[impl AsRef<str>]) -> Self {
        let is_trained = |one: &str| trained.iter().any(|other| other.as_ref() == one);
        let known = evaluated.iter().filter(|one| is_trained(one.as_ref()));
        match known.count() {
            0 => Self::HeldOut,
            all if all == evaluated.len() => Self::Training,
            _ => Self::Both,
        }
    }
}

/// As it stands before "records".
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeldOut => "held-out",
            Self::Training => "training",
            Self::Both => "held-out and training",
        })
    }
}

/// The records of a plan in tokens, each with its words.
pub struct Records {
    /// In tokens.
    pub examples: Vec<Example>,
    /// What was read, skipped and cut.
    pub report: DataReport,
}

impl Records {
    /// Reads `files` for training, or for evaluation, as `plan` has it; objectives bring their own beside them.
    pub fn load(
        plan: &Plan,
        part: Part,
        files: &[PathBuf],
        tokenizer: &ChatTokenizer,
    ) -> Result<Self, TrainerError> {
        let mut loader = Loader::new(plan.method().learning.record_kind());
        loader.part = part;
        loader.format = plan.data().format;
        loader.tolerance = plan.data().tolerance;
        // What is measured is measured on all the labels that there are.
        if part == Part::Train {
            loader.labelled_by = plan.data().labelled_by;
        }
        // Without a template nothing says again who speaks.
        loader.as_written = plan.data().rendered || !tokenizer.has_template();
        loader.own_responses = plan.method().learning.reads_own_responses();
        let (objectives, limits) = (plan.objectives(), &plan.data().limits);
        let (examples, report) = match plan.data().rendered {
            true => loader.examples(files, objectives, &Rendered(tokenizer), limits)?,
            false => loader.examples(files, objectives, tokenizer, limits)?,
        };
        match examples.is_empty() {
            false => Ok(Self { examples, report }),
            true => {
                let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
                Err(TrainerError::NoRecords {
                    files: files.join(", "),
                    report: Box::new(report),
                })
            }
        }
    }

    /// Reads the evaluation files of `plan`, or `files` in their place; nothing where there are neither. Of objectives with a data
    /// set each, every first part of the records has its share.
    pub fn load_held_out(
        plan: &Plan,
        files: &[PathBuf],
        tokenizer: &ChatTokenizer,
    ) -> Result<Option<Self>, TrainerError> {
        let files = match files {
            [] => &plan.data().eval,
            files => files,
        };
        let of_objectives = plan.objectives().iter().any(|o| !o.eval.is_empty());
        if files.is_empty() && !of_objectives {
            return Ok(None);
        }
        let records = Self::load(plan, Part::Eval, files, tokenizer)?;
        Ok(Some(Self {
            examples: dealt_evenly(records.examples),
            ..records
        }))
    }

    /// How many positions a pass over all of them computes, and how many it would with a prompt to each response.
    pub fn positions(&self) -> String {
        let packed: usize = self.examples.iter().map(Example::rows).sum();
        let apart = |example: &Example| -> usize {
            let responses = example.responses.iter().map(Vec::len);
            responses.map(|tokens| example.prompt.len() + tokens).sum()
        };
        let apart: usize = self.examples.iter().map(apart).sum();
        let share = 100.0 * packed as f64 / apart.max(packed) as f64;
        format!(
            "{packed}, none of them padding; {share:.0} % of what responses with a prompt each take"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_held_out_where_none_of_their_files_was_trained_on() {
        let none: [&str; 0] = [];
        for (evaluated, trained, expected) in [
            (&["a"][..], &["b", "c"][..], Origin::HeldOut),
            (&["c", "b"], &["b", "c", "d"], Origin::Training),
            (&["a", "b"], &["b"], Origin::Both),
            (&["a"], &none, Origin::HeldOut),
        ] {
            assert_eq!(Origin::of(evaluated, trained), expected);
        }
    }
}
