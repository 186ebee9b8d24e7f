//! `[data]` and `[[objective]]`: the records, and what they are judged by.

use std::path::PathBuf;

use panacea_data::{BadRecords, Format, ObjectiveSpec, OverlongPrompts, TokenLimits};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::resolver::Resolver;

section! {
    /// `[data]`: the records.
    DataSpec {
        /// Files to train on: a string or a list. Required, here or as `--train`, unless every objective
        /// names files of its own.
        train: OneOrMany,
        /// Held-out files: a string or a list. Default: none.
        eval: OneOrMany,
        /// The format of the files. Default: `"auto"`, found out from each file.
        format: FormatChoice,
        /// What happens to a record that cannot be used (no prompt, an empty response, another shape):
        /// `"error"`, or `"skip"`, counted and named. Default: `"error"`.
        bad_records: BadRecords,
        /// Tokens of a prompt, at most. Default: 512.
        max_prompt_tokens: usize,
        /// Tokens of a response, at most; longer ones are cut. Default: 512.
        max_response_tokens: usize,
        /// What happens to a record whose prompt is too long. Default: `"skip"`.
        overlong_prompts: OverlongPrompts,
    }
}

/// A list that may be written as a single string.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OneOrMany(pub Vec<PathBuf>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a string or a list of strings")]
        enum Form {
            One(PathBuf),
            Many(Vec<PathBuf>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(path) => vec![path],
            Form::Many(paths) => paths,
        }))
    }
}

/// A format by its name, or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FormatChoice {
    /// Each file's own, told by the columns of its first record.
    #[default]
    Auto,
    /// This one, whatever the columns look like.
    Named(Format),
}

impl Serialize for FormatChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Named(format) => format.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FormatChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let named: Result<Format, serde::de::value::Error> =
            Format::deserialize(name.into_deserializer());
        named
            .map(Self::Named)
            .map_err(|error| serde::de::Error::custom(format!("{error}, or `auto`")))
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
    /// What happens to records that cannot be used.
    pub bad_records: BadRecords,
    /// How long prompts and responses may be.
    pub limits: TokenLimits,
}

impl DataPlan {
    pub(crate) fn to_spec(&self) -> DataSpec {
        DataSpec {
            train: Some(OneOrMany(self.train.clone())),
            eval: Some(OneOrMany(self.eval.clone())),
            format: Some(self.format.map_or(FormatChoice::Auto, FormatChoice::Named)),
            bad_records: Some(self.bad_records),
            max_prompt_tokens: Some(self.limits.max_prompt_tokens),
            max_response_tokens: Some(self.limits.max_response_tokens),
            overlong_prompts: Some(self.limits.overlong_prompts),
        }
    }
}

impl Resolver {
    pub(crate) fn data(&mut self, spec: DataSpec, objectives: &[ObjectiveSpec]) -> DataPlan {
        let train = spec.train.unwrap_or_default().0;
        let have_own_files = objectives
            .iter()
            .all(|objective| !objective.train.is_empty());
        if train.is_empty() && (objectives.is_empty() || !have_own_files) {
            self.missing(
                "data.train",
                "there are no records to train on; name files with --train, or here",
            );
        }
        DataPlan {
            train,
            eval: spec.eval.unwrap_or_default().0,
            format: match spec.format.unwrap_or_default() {
                FormatChoice::Auto => None,
                FormatChoice::Named(format) => Some(format),
            },
            bad_records: spec.bad_records.unwrap_or_default(),
            limits: TokenLimits {
                max_prompt_tokens: self.count(
                    "data.max_prompt_tokens",
                    spec.max_prompt_tokens,
                    512,
                ),
                max_response_tokens: self.count(
                    "data.max_response_tokens",
                    spec.max_response_tokens,
                    512,
                ),
                overlong_prompts: spec.overlong_prompts.unwrap_or_default(),
            },
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
