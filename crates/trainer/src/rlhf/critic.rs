//! The critic: the same base weights under an adapter of its own, steered by the same λ, with a head that reads one
//! number from the hidden state.

use std::path::Path;

use burn::tensor::Tensor;
use panacea_model::{Decoder, MemoryPolicy, PackedBatch, ScalarHead};
use panacea_svd_lora::{Adapters, FactorSet, Factors};

use crate::{AdamW, AdamWSettings, TrainerError};

/// The name of the head among the critic's factors: its weight is U, its bias V, and it has no singular values.
const HEAD: &str = "value_head";

/// The folder of the critic in a checkpoint.
const FOLDER: &str = "critic";

/// What estimates the return of what is still to be written.
#[derive(Debug, Clone)]
pub struct Critic {
    /// Its adapter, and its head under a name of its own.
    adapters: Adapters,
    optimizer: AdamW,
}

impl Critic {
    /// A critic that expects 0 of everything.
    pub fn new(model: &Decoder, mut adapters: Adapters, settings: AdamWSettings) -> Self {
        let hidden = model.config().hidden_size;
        let ScalarHead { weight, bias } = ScalarHead::zeros(hidden, model.device());
        let none = Tensor::zeros([1, 1], model.device());
        let head = Factors {
            u: weight,
            v: bias,
            sigma: none.clone(),
            s: none,
        };
        adapters.factors.0.insert(HEAD.to_owned(), head);
        let optimizer = AdamW::new(settings, &adapters.factors);
        Self {
            adapters,
            optimizer,
        }
    }

    fn head(&self) -> ScalarHead {
        let head = &self.adapters.factors.0[HEAD];
        ScalarHead {
            weight: head.u.clone(),
            bias: head.v.clone(),
        }
    }

    /// The value of what stands before each response token of `batch`.
    pub fn values(&self, model: &Decoder, batch: &PackedBatch) -> Result<Vec<f64>, TrainerError> {
        Ok(model.values(batch, &self.adapters, &self.head())?)
    }

    /// The gradient of a loss whose slopes at the values of `batch` are `slopes(values)`.
    pub fn gradient(
        &self,
        model: &Decoder,
        batch: &PackedBatch,
        memory: MemoryPolicy,
        slopes: impl FnOnce(&[f64]) -> Vec<f64>,
    ) -> Result<FactorSet, TrainerError> {
        let head = self.head();
        let (values, tape) = model.values_forward(batch, &self.adapters, &head, memory)?;
        let slopes = slopes(&values);
        let (mut gradients, d_head) =
            model.values_backward(batch, &self.adapters, &head, tape, &slopes)?;
        let none = Tensor::zeros([1, 1], model.device());
        let d_head = Factors {
            u: d_head.weight,
            v: d_head.bias,
            sigma: none.clone(),
            s: none,
        };
        gradients.0.insert(HEAD.to_owned(), d_head);
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
        if !adapters.factors.0.contains_key(HEAD) {
            return Err(TrainerError::BrokenRun {
                path: dir,
                message: format!("found no {HEAD}, expected a critic's adapter"),
            });
        }
        Ok(Self {
            optimizer: AdamW::load(settings, &dir, model.device())?,
            adapters,
        })
    }
}
