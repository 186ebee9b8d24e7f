//! What an objective is in the user's configuration.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use panacea_rewards::ScorerSpec;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::RecordKind;
use crate::error::ObjectiveError;
use crate::readers::Format;

/// One objective of a run, as it stands in the configuration:
///
/// ```toml
/// [[objective]]
/// name = "helpfulness"
/// score = "helpfulness"        # `scores.helpfulness` = [score of response 0, of response 1, …]
///
/// [[objective]]
/// name = "harmlessness"
/// column = "safer_response_id" # the index of the preferred response
///
/// [[objective]]
/// name = "overall"
/// chosen = true                # the order of `chosen` and `rejected`
/// train = ["overall.jsonl"]    # this objective has its own data set
///
/// [[objective]]
/// name = "conciseness"
/// rule = "shorter"             # the response with fewer characters
///
/// [[objective]]
/// name = "short"
/// reward = { rule = "conciseness" } # RLHF: scores what the policy writes
/// ```
///
/// Exactly one of `score`, `column`, `chosen`, `rule` and `reward` stands there; an objective with its
/// own `train` or `eval` files may leave it out and then means `chosen = true`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawObjective", into = "RawObjective")]
pub struct ObjectiveSpec {
    /// The name that metrics and plots show.
    pub name: String,
    /// Where its labels come from.
    pub source: LabelSource,
    /// Prefer what the source does not: lower scores, the rejected response.
    pub negate: bool,
    /// How the strength of a preference becomes a label.
    pub strength: Strength,
    /// Its own data set for training. Empty: the shared files.
    pub train: Vec<PathBuf>,
    /// Its own data set for evaluation. Empty: the shared files.
    pub eval: Vec<PathBuf>,
    /// The format of its own data sets. `None`: told by the columns of the first record.
    pub format: Option<Format>,
}

/// Where the labels of an objective come from.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSource {
    /// A key of the record's `scores`, which holds a score for each response; higher is better.
    Score(String),
    /// A column of the record:
    /// an integer is the index of the preferred response (0 or 1); a fraction between them is
    /// the probability that response 1 is preferred (0.5: both are equally good); `true` means response 0;
    /// a list of numbers or booleans holds a score for each response.
    /// Where there is no such column, the scores of the chosen and the rejected response may stand in two, named with `_chosen`
    /// and `_rejected` behind it, or `chosen_` and `rejected_` before it.
    /// For SFT records: `true`, a number above 0, the objective's name, or a list with it.
    /// For KTO's records of one response: `true` or 1 where it is good, `false` or 0 where it is bad.
    Column(String),
    /// The order in which the data set gives the responses: the chosen one is preferred.
    /// For SFT records: every record belongs to the objective.
    Chosen,
    /// A property of the responses themselves.
    Rule(Rule),
    /// RLHF: what scores the responses that the policy writes.
    Reward(Box<ScorerSpec>),
}

impl fmt::Display for LabelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score(key) => write!(f, "score `{key}`"),
            Self::Column(name) => write!(f, "column `{name}`"),
            Self::Chosen => write!(f, "the chosen/rejected order"),
            Self::Rule(rule) => write!(f, "rule `{}`", rule.name()),
            Self::Reward(_) => write!(f, "a reward"),
        }
    }
}

/// A preference that can be computed from the responses alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Fewer characters are better.
    Shorter,
    /// More characters are better.
    Longer,
}

impl Rule {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shorter => "shorter",
            Self::Longer => "longer",
        }
    }
}

/// How the strength of a preference becomes a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Only who is better counts: 1 or 0. A tie is no label.
    #[default]
    Hard,
    /// σ(score₀ − score₁), the Bradley–Terry model with the scores as they are, so ½ for a tie; a
    /// column that holds a probability keeps it.
    BradleyTerry,
}

impl ObjectiveSpec {
    /// An objective over shared data, with hard labels.
    pub fn new(name: impl Into<String>, source: LabelSource) -> Self {
        Self {
            name: name.into(),
            source,
            negate: false,
            strength: Strength::Hard,
            train: Vec::new(),
            eval: Vec::new(),
            format: None,
        }
    }

    /// Checks a list of objectives as far as that needs no data.
    pub fn check_all(objectives: &[Self]) -> Result<(), ObjectiveError> {
        if objectives.is_empty() {
            return Err(ObjectiveError::None);
        }
        let mut names = HashSet::new();
        for objective in objectives {
            objective.check()?;
            if !names.insert(objective.name.as_str()) {
                return Err(ObjectiveError::Duplicate(objective.name.clone()));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ObjectiveError> {
        if self.name.trim().is_empty() {
            return Err(ObjectiveError::EmptyName);
        }
        if self.negate && matches!(self.source, LabelSource::Reward(_)) {
            return Err(ObjectiveError::NegatedReward {
                name: self.name.clone(),
            });
        }
        let has_strength = matches!(self.source, LabelSource::Score(_) | LabelSource::Column(_));
        if self.strength == Strength::BradleyTerry && !has_strength {
            return Err(ObjectiveError::Strength {
                name: self.name.clone(),
                found: self.source.to_string(),
            });
        }
        Ok(())
    }

    /// Refuses objectives that say nothing about records of `kind`: what the policy writes has no labels, and what
    /// scores it labels no record.
    pub(crate) fn check_kind(&self, kind: RecordKind) -> Result<(), ObjectiveError> {
        let is_reward = matches!(self.source, LabelSource::Reward(_));
        match (kind == RecordKind::Prompt, is_reward) {
            (true, false) => Err(ObjectiveError::NeedsReward {
                name: self.name.clone(),
                found: self.source.to_string(),
            }),
            (false, true) => Err(ObjectiveError::RewardOnly {
                name: self.name.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether labels or scores are looked up in a column of the records.
    pub(crate) fn reads(&self, column: &str) -> bool {
        match &self.source {
            LabelSource::Column(name) => {
                let mut sides = self.sides().flatten();
                name == column || sides.any(|side| side == column)
            }
            LabelSource::Score(_) => column == "scores",
            LabelSource::Reward(_) => column == "scores" && self.asks_for_own_scores(),
            LabelSource::Chosen | LabelSource::Rule(_) => false,
        }
    }

    /// Whether the reward is a score of the record itself.
    #[must_use]
    pub fn asks_for_own_scores(&self) -> bool {
        matches!(&self.source, LabelSource::Reward(reward) if reward.record_score().is_some())
    }

    /// The column of the reference answer that the reward compares with, if it names one.
    pub(crate) fn reference_column(&self) -> Option<&str> {
        match &self.source {
            LabelSource::Reward(reward) => reward.reference_column(),
            _ => None,
        }
    }

    /// Whether the reward compares answers with the record's own response.
    pub(crate) fn compares_with_own_response(&self) -> bool {
        matches!(&self.source, LabelSource::Reward(reward) if reward.needs_own_response())
    }

    /// Refuses what cannot say whether a response is desirable by itself.
    pub(crate) fn check_unpaired(&self) -> Result<(), ObjectiveError> {
        match self.source {
            LabelSource::Column(_) => Ok(()),
            LabelSource::Chosen
            | LabelSource::Score(_)
            | LabelSource::Rule(_)
            | LabelSource::Reward(_) => Err(ObjectiveError::NotForUnpaired {
                name: self.name.clone(),
                found: self.source.to_string(),
            }),
        }
    }

    /// Refuses what cannot label records with one response.
    pub(crate) fn check_sft(&self) -> Result<(), ObjectiveError> {
        match self.source {
            LabelSource::Chosen | LabelSource::Column(_) => Ok(()),
            LabelSource::Score(_) | LabelSource::Rule(_) | LabelSource::Reward(_) => {
                Err(ObjectiveError::NotForSft {
                    name: self.name.clone(),
                    found: self.source.to_string(),
                })
            }
        }
    }

    /// The objective's own files for `kind` of use.
    pub(crate) fn own_files(&self, part: Part) -> &[PathBuf] {
        match part {
            Part::Train => &self.train,
            Part::Eval => &self.eval,
        }
    }
}

/// Declares a struct, and a list of its fields with their documentation.
macro_rules! documented {
    (
        $(#[$about:meta])*
        struct $name:ident {
            $($(#[doc = $doc:literal])+ $(#[serde($($serde:tt)*)])? $field:ident: $kind:ty,)+
        }
    ) => {
        $(#[$about])*
        struct $name {
            $($(#[doc = $doc])+ $(#[serde($($serde)*)])? $field: $kind,)+
        }

        impl ObjectiveSpec {
            /// The keys of a table `[[objective]]`, each with what it does, in Markdown.
            pub const KEYS: &[(&str, &str)] = &[$((stringify!($field), concat!($($doc),+))),+];
        }
    };
}

documented! {
    /// The objective as the user writes it.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct RawObjective {
        /// The name that metrics and plots show; each objective has its own. Required.
        name: String,
        /// A key of the record's `scores`, which holds a score for each response; higher is better.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        score: Option<String>,
        /// A column of the record. An integer in it is the index of the preferred response (0 or 1), a fraction between
        /// them the probability that response 1 is preferred, `true` means response 0, and a list holds a score for each
        /// response. Scores may also stand in two columns, `NAME_chosen` and `NAME_rejected` or `chosen_NAME` and `rejected_NAME`: the objective then names `NAME`. For KTO and a single response: `true` or 1 says that it is good, `false` or 0 that it is bad. For SFT: `true`, a number above 0, the objective's name, or a list with it, says that the record
        /// belongs to the objective.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
        /// `true`: the order in which the data set gives the responses, the chosen one being preferred. For SFT: every
        /// record belongs to the objective.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chosen: Option<bool>,
        /// `"shorter"` or `"longer"`: the response with fewer or with more characters is preferred.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<Rule>,
        /// RLHF: what scores the answers that the policy writes, such as `{ rule = "conciseness" }`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reward: Option<Box<ScorerSpec>>,
        /// Prefer what the source does not: lower scores, the rejected response. Default: `false`.
        #[serde(default)]
        negate: bool,
        /// How far apart two scores are, or how sure a column is, becomes a label: `"hard"` looks only at who is better, and
        /// a tie is no label; `"bradley-terry"` takes σ(score₀ − score₁), and a probability as it is. Default: `"hard"`.
        #[serde(default)]
        strength: Strength,
        /// Files to train this objective on, in place of `data.train`: a path or a list of paths.
        #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
        train: Vec<PathBuf>,
        /// Held-out files of this objective, in place of `data.eval`: a path or a list of paths.
        #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
        eval: Vec<PathBuf>,
        /// The format of its own files, one of those of `data.format`. Default: found out from each file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<Format>,
    }
}

impl TryFrom<RawObjective> for ObjectiveSpec {
    type Error = ObjectiveError;

    fn try_from(raw: RawObjective) -> Result<Self, ObjectiveError> {
        let mut sources = Vec::new();
        sources.extend(raw.score.map(LabelSource::Score));
        sources.extend(raw.column.map(LabelSource::Column));
        sources.extend(
            raw.chosen
                .filter(|&chosen| chosen)
                .map(|_| LabelSource::Chosen),
        );
        sources.extend(raw.rule.map(LabelSource::Rule));
        sources.extend(raw.reward.map(LabelSource::Reward));
        let has_own_files = !(raw.train.is_empty() && raw.eval.is_empty());
        if sources.is_empty() && has_own_files && raw.chosen.is_none() {
            sources.push(LabelSource::Chosen);
        }
        let source = match <[LabelSource; 1]>::try_from(sources) {
            Ok([source]) => source,
            Err(sources) => {
                let names: Vec<String> = sources.iter().map(ToString::to_string).collect();
                let found = if names.is_empty() {
                    "none of them".to_owned()
                } else {
                    names.join(" and ")
                };
                return Err(ObjectiveError::LabelSource {
                    name: raw.name,
                    found,
                });
            }
        };
        let objective = Self {
            name: raw.name,
            source,
            negate: raw.negate,
            strength: raw.strength,
            train: raw.train,
            eval: raw.eval,
            format: raw.format,
        };
        objective.check()?;
        Ok(objective)
    }
}

impl From<ObjectiveSpec> for RawObjective {
    fn from(objective: ObjectiveSpec) -> Self {
        let mut raw = Self {
            name: objective.name,
            score: None,
            column: None,
            chosen: None,
            rule: None,
            reward: None,
            negate: objective.negate,
            strength: objective.strength,
            train: objective.train,
            eval: objective.eval,
            format: objective.format,
        };
        match objective.source {
            LabelSource::Score(key) => raw.score = Some(key),
            LabelSource::Column(name) => raw.column = Some(name),
            LabelSource::Chosen => raw.chosen = Some(true),
            LabelSource::Rule(rule) => raw.rule = Some(rule),
            LabelSource::Reward(reward) => raw.reward = Some(reward),
        }
        raw
    }
}

/// A path or a list of paths. A visitor, since an untagged enum would lose the message.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    struct Paths;

    impl<'de> Visitor<'de> for Paths {
        type Value = Vec<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path or a list of paths")
        }

        fn visit_str<E: de::Error>(self, path: &str) -> Result<Self::Value, E> {
            Ok(vec![PathBuf::from(path)])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut paths: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(path) = paths.next_element()? {
                all.push(path);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Paths)
}

/// Which of an objective's own data sets is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Its `train` files.
    #[default]
    Train,
    /// Its `eval` files.
    Eval,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }
}
