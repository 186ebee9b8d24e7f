//! What a person wrote: a configuration as it stands in the file, every key optional.
//!
//! [`crate::Plan::resolve`] makes a plan of it, with every default filled in and every value checked.
//! Paths are taken as they are, so that relative ones start at the working directory.

use panacea_data::ObjectiveSpec;
use serde::{Deserialize, Serialize};

use crate::sections::{
    AdapterSpec, CheckpointSpec, DataSpec, EvaluationSpec, MethodSpec, ModelSpec, OptimizerSpec,
    PrecisionSpec, PreferenceSpec, RlhfSpec,
};
use crate::sources::Sources;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The seed of every random choice. Default: 17.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The device to train on. Default: `"flex"`, the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `[model]`
    pub model: ModelSpec,
    /// `[precision]`
    pub precision: PrecisionSpec,
    /// `[data]`
    pub data: DataSpec,
    /// `[[objective]]`, one table each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objective: Vec<ObjectiveSpec>,
    /// `[adapter]`
    pub adapter: AdapterSpec,
    /// `[method]`
    pub method: MethodSpec,
    /// `[rlhf]`
    #[serde(skip_serializing_if = "RlhfSpec::is_empty")]
    pub rlhf: RlhfSpec,
    /// `[preference]`
    pub preference: PreferenceSpec,
    /// `[optimizer]`
    pub optimizer: OptimizerSpec,
    /// `[evaluation]`
    pub evaluation: EvaluationSpec,
    /// `[checkpoint]`
    pub checkpoint: CheckpointSpec,
    /// Where each value came from, and the mistakes met while reading.
    #[serde(skip)]
    pub(crate) sources: Sources,
}
