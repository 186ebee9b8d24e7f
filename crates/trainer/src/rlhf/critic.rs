//! The critic: the same base weights under an adapter of its own, steered by the same λ, with a head that reads one
//! number from the hidden state.

use std::path::Path;

use panacea_model::{Decoder, MemoryPolicy, PackedBatch, ValueHead};
use panacea_runs::RunError;
use panacea_svd_lora::{Adapters, FactorSet, Part};

use crate::error::TrainerError;
use crate::lanes::Lane;
use crate::optimizer::{AdamW, AdamWSettings};

/// The folder of the critic in a checkpoint.
const FOLDER: &str = "critic";

/// What estimates the return of what is still to be written.
#[derive(Debug, Clone)]
pub struct Critic {
    /// Its adapter, with its head.
    adapters: Adapters,
    optimizer: AdamW,
}

impl Critic {
    /// A critic that expects 0 of everything.
    pub fn new(model: &Decoder, mut adapters: Adapters, settings: AdamWSettings) -> Self {
        let head = ValueHead::zeros(1, model.config().hidden_size, model.device());
        let name = ValueHead::NAME.to_owned();
        adapters.factors.0.insert(name, head.into_factors());
        let optimizer = AdamW::new(settings, &adapters.factors);
        Self {
            adapters,
            optimizer,
        }
    }

    /// Its adapter.
    pub fn adapters(&self) -> &Adapters {
        &self.adapters
    }

    /// What its optimiser changes.
    pub fn trained_parts(&self) -> &'static [Part] {
        self.optimizer.trained_parts()
    }

    /// The gradient of a loss whose slopes at the values of `batch` are `slopes(values)`, by a critic's adapter.
    pub fn gradient(
        Lane { model, adapters }: &Lane<'_>,
        batch: &PackedBatch,
        memory: MemoryPolicy,
        slopes: impl FnOnce(&[f64]) -> Vec<f64>,
    ) -> Result<FactorSet, TrainerError> {
        let head = ValueHead::among(&adapters.factors).expect("a critic has a head");
        let (values, tape) = model.values_forward(batch, adapters, &head, memory)?;
        let slopes = slopes(&values);
        let (mut gradients, d_head) =
            model.values_backward(batch, adapters, &head, tape, &slopes)?;
        let name = ValueHead::NAME.to_owned();
        gradients.0.insert(name, d_head.into_factors());
        Ok(gradients)
    }

    /// The `update`-th step of its optimiser, counted from 1.
    pub fn update(&mut self, gradients: &FactorSet, update: usize, factor: f64) {
        self.optimizer
            .update(&mut self.adapters.factors, gradients, update, factor);
    }

    /// Writes it into the checkpoint `dir`.
    pub fn save(&self, dir: &Path) -> Result<(), TrainerError> {
        let dir = dir.join(FOLDER);
        std::fs::create_dir_all(&dir).map_err(TrainerError::io("create the folder", &dir))?;
        self.adapters.save(&dir)?;
        self.optimizer.save(&dir)
    }

    /// Reads what [`Critic::save`] wrote.
    pub fn load(
        model: &Decoder,
        settings: AdamWSettings,
        dir: &Path,
    ) -> Result<Self, TrainerError> {
        let dir = dir.join(FOLDER);
        let adapters = Adapters::load(&dir, model.device())?;
        if ValueHead::among(&adapters.factors).is_none() {
            return Err(RunError::BrokenRun {
                path: dir,
                message: format!("found no {}, expected a critic's adapter", ValueHead::NAME),
            }
            .into());
        }
        Ok(Self {
            optimizer: AdamW::load(settings, &dir, model.device())?,
            adapters,
        })
    }
}
