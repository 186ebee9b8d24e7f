//! `[evaluation]` and `[checkpoint]`: what happens between steps.

use panacea_data::ObjectiveSpec;

use crate::resolver::Resolver;
use crate::schema::COUNT;
use crate::sections::data::DataPlan;

section! {
    /// Measuring on held-out records while training goes on.
    EvaluationSpec at "evaluation." when SUPERVISED {
        /// Optimizer steps between two evaluations; 0 is never.
        every: usize = 0;
        /// Held-out records that are measured.
        records: usize = 24, in COUNT;
    }
}

section! {
    /// States to go on from.
    CheckpointSpec at "checkpoint." {
        /// Optimizer steps between two checkpoints; 0 is at the end only.
        every: usize = 50;
        /// The last checkpoints that are kept.
        keep: usize = 2, in COUNT;
    }
}

/// Measuring on held-out records while training goes on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EvaluationPlan {
    /// Optimizer steps between two evaluations, if there are any.
    pub every: Option<usize>,
    /// Held-out records that are measured.
    pub records: usize,
}

/// States to go on from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CheckpointPlan {
    /// Optimizer steps between two checkpoints; without it there is one at the end.
    pub every: Option<usize>,
    /// The last checkpoints that are kept.
    pub keep: usize,
}

impl EvaluationPlan {
    pub(crate) fn to_spec(&self) -> EvaluationSpec {
        EvaluationSpec {
            every: Some(self.every.unwrap_or(0)),
            records: Some(self.records),
        }
    }
}

impl CheckpointPlan {
    pub(crate) fn to_spec(&self) -> CheckpointSpec {
        CheckpointSpec {
            every: Some(self.every.unwrap_or(0)),
            keep: Some(self.keep),
        }
    }
}

impl Resolver {
    pub(crate) fn evaluation(
        &mut self,
        spec: &EvaluationSpec,
        data: &DataPlan,
        objectives: &[ObjectiveSpec],
    ) -> EvaluationPlan {
        let every = Some(self.take(spec.every())).filter(|&every| every > 0);
        let have_own_files = objectives
            .iter()
            .all(|objective| !objective.eval.is_empty());
        let has_records = !data.eval.is_empty() || !objectives.is_empty() && have_own_files;
        if every.is_some() && !has_records && !self.is_broken("data.eval") {
            let message = "there are no held-out records; name files with --eval or data.eval, or set it to 0";
            self.problem("evaluation.every", message.into());
        }
        EvaluationPlan {
            every,
            records: self.take(spec.records()),
        }
    }

    pub(crate) fn checkpoint(&mut self, spec: &CheckpointSpec) -> CheckpointPlan {
        CheckpointPlan {
            every: Some(self.take(spec.every())).filter(|&every| every > 0),
            keep: self.take(spec.keep()),
        }
    }
}
