//! `[optimizer]`: AdamW, its schedule and its batches.

use crate::names::{Activations, ScheduleKind};
use crate::resolver::Resolver;
use crate::schema::{COUNT, NOT_NEGATIVE, POSITIVE, RATIO, Range};

const DECAYS: Range<[f64; 2]> = Range {
    words: "two numbers, 0 or more and below 1",
    schema: || serde_json::json!({"items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1}}),
    holds: |betas| betas.iter().all(|beta| (0.0..1.0).contains(beta)),
};

section! {
    /// AdamW, its schedule and its batches.
    OptimizerSpec at "optimizer." {
        /// Optimizer steps of the run. Not together with `epochs`.
        steps: usize, in COUNT, default "as many as `epochs` take";
        /// Passes over the training records.
        epochs: f64 = 1.0, in POSITIVE, default "1 where `steps` is not given";
        /// Records per optimizer step.
        batch_size: usize = 8, in COUNT;
        /// Records per forward and backward pass, `batch_size` at most; the last of a batch may be smaller.
        micro_batch_size: usize, in COUNT, default "`batch_size`, divided by the number of devices and rounded up";
        /// What a forward pass keeps for the backward pass: `"keep"` all activations, `"recompute"` them layer by layer (a
        /// third of the memory, half as much time again), or `"auto"`: keep them where they take no more than half of the
        /// memory that is free. The numbers are the same.
        activations: Activations = Activations::Auto;
        /// The learning rate of the factors U and V.
        learning_rate: f64 = 1e-3, in POSITIVE;
        /// The learning rate of σ and s.
        learning_rate_singular: f64, in POSITIVE, default "`learning_rate`";
        /// The decays of the two moments.
        betas: [f64; 2] = [0.9, 0.999], in DECAYS;
        /// Added to the root of the second moment.
        eps: f64 = 1e-8, in POSITIVE;
        /// Decoupled weight decay.
        weight_decay: f64 = 0.0, in NOT_NEGATIVE;
        /// The curve of the learning rate after the warm-up.
        schedule: ScheduleKind = ScheduleKind::Linear;
        /// The part of the steps in which the learning rate rises.
        warmup_ratio: f64 = 0.03, in RATIO;
        /// The end of the curve, as a part of the learning rate.
        min_learning_rate_ratio: f64 = 0.0, in RATIO;
        /// The gradient is scaled down to this norm; 0 leaves it alone.
        clip_norm: f64 = 1.0, in NOT_NEGATIVE;
        /// A gradient norm beyond this one, before clipping, stops the run as diverged.
        max_grad_norm: f64 = 1e4, in POSITIVE;
    }
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
    pub(crate) fn optimizer(&mut self, spec: &OptimizerSpec, devices: usize) -> OptimizerPlan {
        let length = self.length(spec);
        let batch_size = self.take(spec.batch_size());
        let micro_batch_size = self.take_or(spec.micro_batch_size(), batch_size.div_ceil(devices));
        if micro_batch_size > batch_size {
            let message = format!(
                "found {micro_batch_size}, expected at most optimizer.batch_size = {batch_size}"
            );
            self.problem("optimizer.micro_batch_size", message);
        }
        let learning_rate = self.take(spec.learning_rate());
        OptimizerPlan {
            length,
            batch_size,
            micro_batch_size,
            activations: self.take(spec.activations()),
            learning_rate,
            learning_rate_singular: self.take_or(spec.learning_rate_singular(), learning_rate),
            betas: self.take(spec.betas()),
            eps: self.take(spec.eps()),
            weight_decay: self.take(spec.weight_decay()),
            schedule: self.take(spec.schedule()),
            warmup_ratio: self.take(spec.warmup_ratio()),
            min_learning_rate_ratio: self.take(spec.min_learning_rate_ratio()),
            clip_norm: Some(self.take(spec.clip_norm())).filter(|&norm| norm > 0.0),
            max_grad_norm: self.take(spec.max_grad_norm()),
        }
    }

    fn length(&mut self, spec: &OptimizerSpec) -> Length {
        if spec.steps.is_some() && spec.epochs.is_some() {
            let message = "found optimizer.steps as well; give one of the two".to_owned();
            self.problem("optimizer.epochs", message);
        }
        match self.take_if_given(spec.steps()) {
            Some(steps) => Length::Steps(steps),
            None => Length::Epochs(self.take(spec.epochs())),
        }
    }
}
