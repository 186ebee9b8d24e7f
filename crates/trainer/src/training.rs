//! What a training works on, and what every kind of step does at its end.

use panacea_config::{Activations, Plan};
use panacea_data::Example;
use panacea_devices::memory_of;
use panacea_model::{Decoder, MemoryPolicy};
use panacea_runs::{ObjectiveMetrics, RlhfMetrics};
use panacea_svd_lora::{Adapters, FactorSet, Part};

use crate::divergence::{DivergenceGuard, Quantity};
use crate::error::TrainerError;
use crate::lanes::Lanes;
use crate::references::References;
use crate::rlhf::Judges;
use crate::state::TrainingState;

/// What a run trains, on what.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Every setting.
    pub plan: &'a Plan,
    /// The frozen network.
    pub model: &'a Decoder,
    /// The same network on further devices, which the micro-batches of a step are dealt to as well; may be empty.
    pub replicas: &'a [Decoder],
    /// Records to train on.
    pub train: &'a [Example],
    /// Held-out records; may be empty.
    pub eval: &'a [Example],
    /// Log-probabilities under the reference policy, where they are known.
    pub references: &'a References,
    /// What scores the policy's answers; RLHF only.
    pub judges: Option<&'a Judges<'a>>,
}

/// What one step came to.
pub(crate) struct Stepped {
    pub objectives: Vec<ObjectiveMetrics>,
    pub aggregate: f64,
    /// SFT only.
    pub token_loss: Option<f64>,
    pub rlhf: Option<RlhfMetrics>,
    /// Before clipping.
    pub grad_norm: f64,
    /// Rows that went through the network forward and backward.
    pub tokens: usize,
}

impl Training<'_> {
    /// One step of the optimiser, its `update`-th; the norm of the gradient before clipping.
    pub(crate) fn apply(
        &self,
        state: &mut TrainingState,
        mut gradients: FactorSet,
        step: usize,
        update: usize,
        factor: f64,
    ) -> Result<f64, TrainerError> {
        let orthogonality = self.plan.adapter().orthogonality;
        gradients.add_orthogonality_gradient(orthogonality, &state.adapters.factors);
        let norm = self.clip_norm(&mut gradients, state.optimizer.trained_parts());
        self.guard()
            .check_norm(step, Quantity::GradientNorm, norm)?;
        (state.optimizer).update(&mut state.adapters.factors, &gradients, update, factor);
        Ok(norm)
    }

    /// Scales the gradient down to the plan's norm, if there is one; its norm before, over what is `trained`.
    pub(crate) fn clip_norm(&self, gradients: &mut FactorSet, trained: &[Part]) -> f64 {
        let norm = gradients.norm(trained);
        let limit = self.plan.optimizer().clip_norm;
        if let Some(limit) = limit.filter(|&limit| norm > limit) {
            gradients.scale(limit / norm);
        }
        norm
    }

    pub(crate) fn guard(&self) -> DivergenceGuard {
        DivergenceGuard {
            max_grad_norm: self.plan.optimizer().max_grad_norm,
        }
    }

    /// Every device of the training, under `adapters`.
    pub(crate) fn lanes<'b>(&'b self, adapters: &'b Adapters) -> Lanes<'b> {
        Lanes::new(self.model, self.replicas, adapters)
    }

    /// What a forward pass over so many rows should keep. Either choice gives the same numbers, so that a run does not
    /// depend on the memory that happens to be free.
    pub(crate) fn memory_for(&self, model: &Decoder, rows: usize) -> MemoryPolicy {
        match self.plan.optimizer().activations {
            Activations::Keep => MemoryPolicy::Keep,
            Activations::Recompute => MemoryPolicy::Recompute,
            Activations::Auto => {
                let bytes = model.activation_bytes(rows);
                let memory = memory_of(model.device());
                if memory.is_some_and(|memory| bytes > memory.free / 2) {
                    MemoryPolicy::Recompute
                } else {
                    MemoryPolicy::Keep
                }
            }
        }
    }
}
