//! AdamW over the factors of an adapter, with a learning rate of its own for the singular values.

use std::path::Path;

use burn_tensor::Device;
use panacea_config::Plan;
use panacea_svd_lora::{FactorSet, Part};

use crate::error::TrainerError;

const FIRST_MOMENT: &str = "first_moment.safetensors";
const SECOND_MOMENT: &str = "second_moment.safetensors";

/// Settings of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Learning rate of U and V.
    pub learning_rate: f64,
    /// Learning rate of σ and s.
    pub learning_rate_singular: f64,
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether s stays as it is.
    pub holds_s: bool,
}

impl From<&Plan> for AdamWSettings {
    fn from(plan: &Plan) -> Self {
        let holds_s = plan.adapter().fixed_s.is_some();
        let plan = plan.optimizer();
        Self {
            holds_s,
            learning_rate: plan.learning_rate,
            learning_rate_singular: plan.learning_rate_singular,
            betas: plan.betas,
            eps: plan.eps,
            weight_decay: plan.weight_decay,
        }
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2):
///
/// ```text
/// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
/// p ← p − lr · ( (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε) + decay · p )
/// ```
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    first: FactorSet,
    second: FactorSet,
}

impl AdamW {
    /// Moments of zero for `parameters`.
    pub fn new(settings: AdamWSettings, parameters: &FactorSet) -> Self {
        Self {
            settings,
            first: parameters.zeros_like(),
            second: parameters.zeros_like(),
        }
    }

    /// The `step`-th update, counted from 1; both learning rates are multiplied by `factor`, the schedule.
    /// A matrix without a gradient stays as it is.
    pub fn update(
        &mut self,
        parameters: &mut FactorSet,
        gradients: &FactorSet,
        step: usize,
        factor: f64,
    ) {
        let AdamWSettings {
            learning_rate,
            learning_rate_singular,
            betas: [b1, b2],
            eps,
            weight_decay,
            holds_s,
        } = self.settings;
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - b1.powi(step), 1.0 - b2.powi(step));
        for (name, gradient) in &gradients.0 {
            let of = "every adapted matrix has parameters and moments";
            let parameter = parameters.0.get_mut(name).expect(of);
            let first = self.first.0.get_mut(name).expect(of);
            let second = self.second.0.get_mut(name).expect(of);
            for part in Part::ALL {
                if holds_s && part == Part::S {
                    continue;
                }
                let rate = if part.is_singular() {
                    learning_rate_singular
                } else {
                    learning_rate
                } * factor;
                let g = gradient.part(part).clone();
                let m = first.part(part).clone() * b1 + g.clone() * (1.0 - b1);
                let v = second.part(part).clone() * b2 + g.clone() * g * (1.0 - b2);
                let direction =
                    (m.clone() / correction1) / ((v.clone() / correction2).sqrt() + eps);
                let p = parameter.part(part).clone();
                *parameter.part_mut(part) =
                    p.clone() * (1.0 - rate * weight_decay) - direction * rate;
                *first.part_mut(part) = m;
                *second.part_mut(part) = v;
            }
        }
    }

    /// Writes both moments into `dir`.
    pub fn save(&self, dir: &Path) -> Result<(), TrainerError> {
        self.first.save(&dir.join(FIRST_MOMENT))?;
        self.second.save(&dir.join(SECOND_MOMENT))?;
        Ok(())
    }

    /// Reads what [`AdamW::save`] wrote.
    pub fn load(
        settings: AdamWSettings,
        dir: &Path,
        device: &Device,
    ) -> Result<Self, TrainerError> {
        Ok(Self {
            settings,
            first: FactorSet::load(&dir.join(FIRST_MOMENT), device)?,
            second: FactorSet::load(&dir.join(SECOND_MOMENT), device)?,
        })
    }
}
