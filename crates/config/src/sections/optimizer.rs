//! `[optimizer]`: AdamW, its schedule and its batches.

use serde::{Deserialize, Serialize};

use crate::resolver::Resolver;

section! {
    /// `[optimizer]`: AdamW, its schedule and its batches.
    OptimizerSpec {
        /// Optimizer steps of the run. Not together with `epochs`.
        steps: usize,
        /// Passes over the training records. Default where `steps` is not given: 1.
        epochs: f64,
        /// Records per optimizer step. Default: 8.
        batch_size: usize,
        /// Records per forward and backward pass; the last of a batch may be smaller. Default: `batch_size`, divided by
        /// the number of devices and rounded up.
        micro_batch_size: usize,
        /// What a forward pass keeps for the backward pass: `"keep"` all activations, `"recompute"` them
        /// layer by layer (a third of the memory, half as much time again), or `"auto"`: keep them where
        /// they take no more than half of the memory that is free. The numbers are the same. Default:
        /// `"auto"`.
        activations: Activations,
        /// The learning rate of the factors U and V. Default: 2e-3.
        learning_rate: f64,
        /// The learning rate of σ and s. Default: `learning_rate`.
        learning_rate_singular: f64,
        /// The decays of the two moments. Default: [0.9, 0.999].
        betas: [f64; 2],
        /// Added to the root of the second moment. Default: 1e-8.
        eps: f64,
        /// Decoupled weight decay. Default: 0.
        weight_decay: f64,
        /// The curve of the learning rate after the warm-up. Default: `"cosine"`.
        schedule: ScheduleKind,
        /// The part of the steps in which the learning rate rises, 0 to 1. Default: 0.03.
        warmup_ratio: f64,
        /// The end of the curve, as a part of the learning rate, 0 to 1. Default: 0.
        min_learning_rate_ratio: f64,
        /// The gradient is scaled down to this norm; 0 leaves it alone. Default: 1.
        clip_norm: f64,
        /// A gradient norm beyond this one, before clipping, stops the run as diverged. Default: 1e4.
        max_grad_norm: f64,
    }
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

/// AdamW, its schedule and its batches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OptimizerPlan {
    /// How long the run is.
    pub length: Length,
    /// Records per optimizer step.
    pub batch_size: usize,
    /// Records per forward and backward pass; the last of a batch may be smaller.
    pub micro_batch_size: usize,
    /// What a forward pass keeps for the backward pass.
    pub activations: Activations,
    /// The learning rate of the factors U and V.
    pub learning_rate: f64,
    /// The learning rate of σ and s.
    pub learning_rate_singular: f64,
    /// The decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The curve of the learning rate after the warm-up.
    pub schedule: ScheduleKind,
    /// The part of the steps in which the learning rate rises.
    pub warmup_ratio: f64,
    /// The end of the curve, as a part of the learning rate.
    pub min_learning_rate_ratio: f64,
    /// The gradient is scaled down to this norm, if there is one.
    pub clip_norm: Option<f64>,
    /// A gradient norm beyond this one, before clipping, stops the run as diverged.
    pub max_grad_norm: f64,
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Optimizer steps.
    Steps(usize),
    /// Passes over the training records.
    Epochs(f64),
}

impl OptimizerPlan {
    /// Optimizer steps of the run on this many training records. The last batch of a pass over them
    /// may be smaller, so that no record is left out.
    pub fn total_steps(&self, records: usize) -> usize {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => {
                let steps = (epochs * records as f64 / self.batch_size as f64).ceil();
                (steps as usize).max(1)
            }
        }
    }

    pub(crate) fn to_spec(&self) -> OptimizerSpec {
        let (steps, epochs) = match self.length {
            Length::Steps(steps) => (Some(steps), None),
            Length::Epochs(epochs) => (None, Some(epochs)),
        };
        OptimizerSpec {
            steps,
            epochs,
            batch_size: Some(self.batch_size),
            micro_batch_size: Some(self.micro_batch_size),
            activations: Some(self.activations),
            learning_rate: Some(self.learning_rate),
            learning_rate_singular: Some(self.learning_rate_singular),
            betas: Some(self.betas),
            eps: Some(self.eps),
            weight_decay: Some(self.weight_decay),
            schedule: Some(self.schedule),
            warmup_ratio: Some(self.warmup_ratio),
            min_learning_rate_ratio: Some(self.min_learning_rate_ratio),
            clip_norm: Some(self.clip_norm.unwrap_or(0.0)),
            max_grad_norm: Some(self.max_grad_norm),
        }
    }
}

impl Resolver {
    pub(crate) fn optimizer(&mut self, spec: OptimizerSpec, devices: usize) -> OptimizerPlan {
        let length = self.length(&spec);
        let batch_size = self.count("optimizer.batch_size", spec.batch_size, 8);
        let micro_batch_size = self.count(
            "optimizer.micro_batch_size",
            spec.micro_batch_size,
            batch_size.div_ceil(devices),
        );
        if micro_batch_size > batch_size {
            let message = format!(
                "found {micro_batch_size}, expected at most optimizer.batch_size = {batch_size}"
            );
            self.problem("optimizer.micro_batch_size", message);
        }
        let learning_rate = self.positive("optimizer.learning_rate", spec.learning_rate, 2e-3);
        let betas = spec.betas.unwrap_or([0.9, 0.999]);
        if !betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            let message = format!("found {betas:?}, expected two numbers, 0 or more and below 1");
            self.problem("optimizer.betas", message);
        }
        let clip_norm = self.not_negative("optimizer.clip_norm", spec.clip_norm, 1.0);
        OptimizerPlan {
            length,
            batch_size,
            micro_batch_size,
            activations: spec.activations.unwrap_or_default(),
            learning_rate,
            learning_rate_singular: self.positive(
                "optimizer.learning_rate_singular",
                spec.learning_rate_singular,
                learning_rate,
            ),
            betas,
            eps: self.positive("optimizer.eps", spec.eps, 1e-8),
            weight_decay: self.not_negative("optimizer.weight_decay", spec.weight_decay, 0.0),
            schedule: spec.schedule.unwrap_or_default(),
            warmup_ratio: self.ratio("optimizer.warmup_ratio", spec.warmup_ratio, 0.03),
            min_learning_rate_ratio: self.ratio(
                "optimizer.min_learning_rate_ratio",
                spec.min_learning_rate_ratio,
                0.0,
            ),
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
            max_grad_norm: self.positive("optimizer.max_grad_norm", spec.max_grad_norm, 1e4),
        }
    }

    fn length(&mut self, spec: &OptimizerSpec) -> Length {
        if spec.steps.is_some() && spec.epochs.is_some() {
            let message = "found optimizer.steps as well; give one of the two".to_owned();
            self.problem("optimizer.epochs", message);
        }
        match spec.steps {
            Some(_) => Length::Steps(self.count("optimizer.steps", spec.steps, 1)),
            None => Length::Epochs(self.positive("optimizer.epochs", spec.epochs, 1.0)),
        }
    }
}
