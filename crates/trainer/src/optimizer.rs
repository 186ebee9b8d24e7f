//! AdamW over the factors of an adapter, with a learning rate of its own for the singular values.

use std::path::Path;

use burn_tensor::Device;
use panacea_config::Plan;
use panacea_kernels::{AdamWStep, AdamWUpdate, adamw};
use panacea_svd_lora::{FactorSet, Factors, Part};

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

/// [`adamw`] for each factor of every adapted matrix, with its moments.
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

    /// What it changes.
    pub fn trained_parts(&self) -> &'static [Part] {
        let [without_s @ .., _] = &Part::ALL;
        match self.settings.holds_s {
            true => without_s,
            false => &Part::ALL,
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
            betas,
            eps,
            weight_decay,
            ..
        } = self.settings;
        let trained = self.trained_parts();
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let corrections = betas.map(|beta| 1.0 - beta.powi(step));
        let step = AdamWStep {
            betas,
            corrections,
            eps,
            weight_decay,
        };
        for (name, gradient) in &gradients.0 {
            // Taken out, so that nobody else holds them and they can be overwritten.
            let sets = [&mut *parameters, &mut self.first, &mut self.second];
            let [parameter, first, second] = sets.map(|set| {
                let factors = set.0.remove(name);
                let Factors { u, v, sigma, s } =
                    factors.expect("every adapted matrix has parameters and moments");
                [u, v, sigma, s]
            });
            let (mut updates, mut held) = (Vec::new(), None);
            let moments = first.into_iter().zip(second);
            let parts = Part::ALL.into_iter().zip(parameter).zip(moments);
            for ((part, parameter), (first, second)) in parts {
                if !trained.contains(&part) {
                    held = Some([parameter, first, second]);
                    continue;
                }
                let rate = if part.is_singular() {
                    learning_rate_singular
                } else {
                    learning_rate
                };
                updates.push(AdamWUpdate {
                    parameter,
                    moments: [first, second],
                    gradient: gradient.part(part),
                    rate: rate * factor,
                });
            }
            let mut updated = adamw(updates, &step);
            // The last of the parts.
            updated.extend(held);
            let [parameter, first, second] = [0, 1, 2].map(|i| Factors {
                u: updated[0][i].clone(),
                v: updated[1][i].clone(),
                sigma: updated[2][i].clone(),
                s: updated[3][i].clone(),
            });
            parameters.0.insert(name.clone(), parameter);
            self.first.0.insert(name.clone(), first);
            self.second.0.insert(name.clone(), second);
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
