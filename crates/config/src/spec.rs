//! What a person wrote: a configuration as it stands in the file, every key optional.
//!
//! [`crate::Plan::resolve`] makes a plan of it, with every default filled in and every value checked.
//! Paths are taken as they are, so that relative ones start at the working directory.

use panacea_data::ObjectiveSpec;
use serde::{Deserialize, Serialize};

use crate::names::{LossName, MethodName};
use crate::resolver::Resolver;
use crate::sections::{
    AdapterSpec, CheckpointSpec, DataSpec, EvaluationSpec, GeneralSpec, LoggingSpec, MethodSpec,
    ModelSpec, OptimizerSpec, PrecisionSpec, PreferenceSpec, RlhfSpec,
};
use crate::sources::Sources;
use crate::when::Choices;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// What stands above all sections.
    #[serde(flatten)]
    pub general: GeneralSpec,
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
    /// `[logging]`
    #[serde(skip_serializing_if = "LoggingSpec::is_empty")]
    pub logging: LoggingSpec,
    /// Where each value came from, and the mistakes met while reading.
    #[serde(skip)]
    pub(crate) sources: Sources,
}

impl Spec {
    /// The choices that decide which of its keys have an effect.
    pub(crate) fn choices(&self) -> Choices {
        let method = self.method.name.unwrap_or_default();
        let is_steered = method != MethodName::RewardModel;
        let loss = is_steered.then(|| self.method.loss.unwrap_or_default());
        let learns_by = |name: LossName| loss == Some(name);
        Choices {
            method,
            fixes: self.preference.fixed.is_some(),
            loss,
            dpo_loss: learns_by(LossName::Dpo).then(|| self.method.dpo_loss.unwrap_or_default()),
            aggregation: is_steered.then(|| self.method.aggregation.unwrap_or_default()),
            advantages: learns_by(LossName::Rlhf).then(|| self.rlhf.advantages.unwrap_or_default()),
            normalises: learns_by(LossName::Rlhf) && self.rlhf.normalise == Some(true),
            controls_kl: learns_by(LossName::Rlhf) && self.rlhf.kl_target.is_some(),
            bad_records: self.data.bad_records.unwrap_or_default(),
        }
    }

    /// Reports every value that is out of its range.
    pub(crate) fn check_ranges(&self, resolver: &mut Resolver) {
        self.general.check_ranges(resolver);
        self.model.check_ranges(resolver);
        self.precision.check_ranges(resolver);
        self.data.check_ranges(resolver);
        self.adapter.check_ranges(resolver);
        self.method.check_ranges(resolver);
        self.rlhf.check_ranges(resolver);
        self.preference.check_ranges(resolver);
        self.optimizer.check_ranges(resolver);
        self.evaluation.check_ranges(resolver);
        self.checkpoint.check_ranges(resolver);
        self.logging.check_ranges(resolver);
    }

    /// Warns about every key that says something but has no effect.
    pub(crate) fn warn_of_idle_keys(&self, resolver: &mut Resolver) {
        let choices = &self.choices();
        self.general.warn_of_idle_keys(resolver, choices);
        self.model.warn_of_idle_keys(resolver, choices);
        self.precision.warn_of_idle_keys(resolver, choices);
        self.data.warn_of_idle_keys(resolver, choices);
        self.adapter.warn_of_idle_keys(resolver, choices);
        self.method.warn_of_idle_keys(resolver, choices);
        self.rlhf.warn_of_idle_keys(resolver, choices);
        self.preference.warn_of_idle_keys(resolver, choices);
        self.optimizer.warn_of_idle_keys(resolver, choices);
        self.evaluation.warn_of_idle_keys(resolver, choices);
        self.checkpoint.warn_of_idle_keys(resolver, choices);
        self.logging.warn_of_idle_keys(resolver, choices);
    }
}
