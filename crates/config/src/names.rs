//! The values that a configuration chooses from by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use panacea_data::Format;
use panacea_objectives::Weights;
use panacea_pretrained::TemplateValue;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Variables of a chat template, by their names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateVariables(pub BTreeMap<String, TemplateValue>);

/// The method of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// One adapter, steered by the preference.
    #[default]
    Panacea,
    /// One adapter per objective; their weights are interpolated by the preference (Ramé et al. 2023).
    RewardedSoups,
    /// One adapter per preference of a grid.
    Discrete,
    /// One adapter with a reward a response and objective, learned from pairs: what scores answers in RLHF.
    #[serde(rename = "reward-model", alias = "reward_model")]
    RewardModel,
}

/// The loss of each objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Direct preference optimisation, on pairs.
    #[default]
    Dpo,
    /// Kahneman–Tversky optimisation, on responses that are good or bad by themselves.
    Kto,
    /// Supervised fine-tuning, on single responses.
    Sft,
    /// Reinforcement learning from rewards, on answers of the policy.
    Rlhf,
}

/// The shape of the DPO loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpoLossName {
    /// −log sigmoid of the margin.
    #[default]
    Sigmoid,
    /// Identity preference optimisation: a square around a target margin.
    Ipo,
}

/// How the losses of the objectives become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregationName {
    /// Σ λ_i L_i.
    #[default]
    Linear,
    /// max λ_i (z_i + L_i), z the ideal.
    Tchebycheff,
}

/// Where the advantages of reinforcement learning come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantagesName {
    /// Generalised advantage estimation with a critic.
    #[default]
    Gae,
    /// Leave-one-out mean of the answers to a prompt.
    Rloo,
    /// Mean and deviation of what the answers to a prompt are worth under λ.
    Grpo,
    /// Mean and deviation of the answers to a prompt, objective by objective before λ.
    Gdpo,
}

/// What a forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// All activations where they take no more than half of the free memory, layer inputs otherwise.
    #[default]
    Auto,
    /// All activations.
    Keep,
    /// Layer inputs.
    Recompute,
}

/// The curve of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from 1 down to the minimum.
    #[default]
    Cosine,
    /// A straight line from 1 down to the minimum.
    Linear,
    /// 1 to the end.
    Constant,
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

/// Weights on objectives: a list in their order, or a table by their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of numbers, such as [0.2, 0.8], or a table by name, such as { brevity = 2, detail = 1 }"
)]
pub enum GivenWeights {
    /// One for each objective.
    InOrder(Vec<f64>),
    /// By name; the others have 0.
    ByName(BTreeMap<String, f64>),
}

impl From<GivenWeights> for Weights {
    fn from(given: GivenWeights) -> Self {
        match given {
            GivenWeights::InOrder(weights) => Self::InOrder(weights),
            GivenWeights::ByName(weights) => Self::ByName(weights.into_iter().collect()),
        }
    }
}

/// s, by which λ is scaled in every adapted matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SteeringScale {
    /// It stays at this number.
    Held(f64),
    /// It is learned, from 0.
    Learned,
}

impl Serialize for SteeringScale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Held(s) => serializer.serialize_f64(*s),
            Self::Learned => serializer.serialize_str("learned"),
        }
    }
}

impl<'de> Deserialize<'de> for SteeringScale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number or \"learned\"")]
        enum Form {
            Number(f64),
            Name(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(s) => Ok(Self::Held(s)),
            Form::Name(name) if name == "learned" => Ok(Self::Learned),
            Form::Name(name) => Err(serde::de::Error::custom(format!(
                "found \"{name}\", expected a number or \"learned\""
            ))),
        }
    }
}

/// A format by its name, or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// Each file's own, told by the columns of its first record.
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
