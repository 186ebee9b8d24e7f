//! The adapters of a whole model: initialisation, their file, and the LoRA export of one preference.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{
    ADAPTER_CONFIG_FILE, ADAPTER_FILE, AdapterError, FactorSet, Factors, SvdLora, SvdLoraConfig,
    file,
};

/// The adapters of a model with their configuration.
#[derive(Debug, Clone)]
pub struct Adapters {
    /// Rank, objectives, alpha, modules.
    pub config: SvdLoraConfig,
    /// U, V, σ, s by the adapted matrix's name (`layers.0.q_proj`).
    pub factors: FactorSet,
}

impl Adapters {
    /// New adapters for matrices of the given names and shapes `[d_out, d_in]`: U, V ~ N(0, std²), σ = 0,
    /// s = 0, so that ΔW = 0 for every preference. The same seed gives the same numbers on every device.
    pub fn init(
        config: SvdLoraConfig,
        shapes: &[(String, [usize; 2])],
        std: f32,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let normal =
            Normal::new(0.0f32, std).expect("the standard deviation is finite and not negative");
        let columns = config.columns();
        let mut random = |rows: usize| {
            let values: Vec<f32> = (0..rows * columns)
                .map(|_| normal.sample(&mut rng))
                .collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), device)
        };
        let factors = shapes
            .iter()
            .map(|(name, [d_out, d_in])| {
                let factors = Factors {
                    u: random(*d_out),
                    v: random(*d_in),
                    sigma: Tensor::zeros([1, config.rank], device),
                    s: Tensor::zeros([1, 1], device),
                };
                (name.clone(), factors)
            })
            .collect();
        Self {
            config,
            factors: FactorSet(factors),
        }
    }

    /// The adapter of a matrix, if it has one.
    pub fn get(&self, name: &str) -> Option<SvdLora<'_>> {
        let factors = self.factors.0.get(name)?;
        Some(SvdLora {
            factors,
            scale: self.config.scale(),
        })
    }

    /// Writes `adapter.safetensors` and `svd_lora_config.json` into `dir`, which must exist.
    pub fn save(&self, dir: &Path) -> Result<(), AdapterError> {
        self.factors.save(&dir.join(ADAPTER_FILE))?;
        let json =
            serde_json::to_vec_pretty(&self.config).expect("the configuration is plain data");
        file::write_atomically(&dir.join(ADAPTER_CONFIG_FILE), &json)
    }

    /// Reads what [`Adapters::save`] wrote.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, AdapterError> {
        let path = dir.join(ADAPTER_CONFIG_FILE);
        let text = std::fs::read(&path).map_err(|source| AdapterError::Io {
            path: path.clone(),
            source,
        })?;
        let config: SvdLoraConfig =
            serde_json::from_slice(&text).map_err(|error| AdapterError::Malformed {
                path,
                problem: error.to_string(),
            })?;
        let factors = FactorSet::load(&dir.join(ADAPTER_FILE), device)?;
        Ok(Self { config, factors })
    }

    /// Checks that there is exactly one adapter of the right shape for each of `shapes`
    /// (names and `[d_out, d_in]` of the model's adapted matrices); every difference is listed.
    pub fn check(&self, shapes: &[(String, [usize; 2])]) -> Result<(), AdapterError> {
        let columns = self.config.columns();
        let mut problems = Vec::new();
        for (name, [d_out, d_in]) in shapes {
            let Some(factors) = self.factors.0.get(name) else {
                problems.push(format!("{name}: missing"));
                continue;
            };
            let expected = [
                ("u", factors.u.dims(), [*d_out, columns]),
                ("v", factors.v.dims(), [*d_in, columns]),
                ("sigma", factors.sigma.dims(), [1, self.config.rank]),
                ("s", factors.s.dims(), [1, 1]),
            ];
            for (part, found, expected) in expected {
                if found != expected {
                    problems.push(format!(
                        "{name}.{part}: shape {found:?}, expected {expected:?}"
                    ));
                }
            }
        }
        for name in self.factors.0.keys() {
            if !shapes.iter().any(|(known, _)| known == name) {
                problems.push(format!("{name}: the model has no such adapted matrix"));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(AdapterError::Mismatch(problems))
        }
    }

    /// λ as the `[1, m]` tensor that the kernel takes.
    pub fn preference_row(&self, weights: &[f64], device: &Device) -> Tensor<2> {
        let row: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        Tensor::from_data(TensorData::new(row, [1, weights.len()]), device)
    }
}

/// The rows of A and B of the plain LoRA that equals `layer` at one preference, as numbers on the host:
/// ((`[k+m, d_in]`, values), (`[d_out, k+m]`, values)).
#[allow(clippy::type_complexity)]
pub fn lora_pair(
    layer: SvdLora<'_>,
    preference: &Tensor<2>,
) -> (([usize; 2], Vec<f32>), ([usize; 2], Vec<f32>)) {
    let (a, b) = layer.lora(preference);
    let host = |x: Tensor<2>| (x.dims(), file::to_host(x));
    (host(a), host(b))
}
