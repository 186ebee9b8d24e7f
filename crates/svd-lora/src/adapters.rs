//! The adapters of a whole model: initialisation, their file, and soups of them.

use std::path::Path;

use burn_tensor::{Device, Tensor, TensorData};
use panacea_files::{read, write_file};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::{
    ADAPTER_CONFIG_FILE, ADAPTER_FILE, AdapterError, FactorSet, Factors, SvdLora, SvdLoraConfig,
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

    /// The same adapters on another device.
    pub fn on(&self, device: &Device) -> Self {
        Self {
            config: self.config.clone(),
            factors: self.factors.clone().on(device),
        }
    }

    /// The same adapters with the columns of every V and U in one run each, the order in which products of few rows
    /// read them.
    pub fn laid_out_by_columns(&self) -> Self {
        // Adding 0 writes the elements out in the order of the transposed axes.
        let by_columns = |x: &Tensor<2>| (x.clone().transpose() + 0.0).transpose();
        let mut adapters = self.clone();
        for factors in adapters.factors.0.values_mut() {
            factors.v = by_columns(&factors.v);
            factors.u = by_columns(&factors.u);
        }
        adapters
    }

    /// Writes `adapter.safetensors` and `svd_lora_config.json` into `dir`, which must exist.
    pub fn save(&self, dir: &Path) -> Result<(), AdapterError> {
        self.factors.save(&dir.join(ADAPTER_FILE))?;
        let json =
            serde_json::to_vec_pretty(&self.config).expect("the configuration is plain data");
        Ok(write_file(&dir.join(ADAPTER_CONFIG_FILE), &json)?)
    }

    /// Reads what [`Adapters::save`] wrote.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, AdapterError> {
        let path = dir.join(ADAPTER_CONFIG_FILE);
        let text = read(&path)?;
        let config: SvdLoraConfig =
            serde_json::from_slice(&text).map_err(|error| AdapterError::Malformed {
                path: path.clone(),
                problem: error.to_string(),
            })?;
        if config.rank == 0 {
            let problem = "rank: found 0, expected a number above 0".to_owned();
            return Err(AdapterError::Malformed { path, problem });
        }
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

    /// The weights of several adapters interpolated, as Rewarded Soups does (Ramé et al. 2023): one adapter
    /// with ΔW = Σ_j w_j ΔW_j(λ_j), whatever the preference it is asked for. ΔW and not the factors are
    /// added, so its rank is the sum of theirs.
    ///
    /// # Panics
    /// When there is no member, or they adapt different matrices.
    pub fn soup(members: &[(&Adapters, &[f64])], weights: &[f64]) -> Adapters {
        let first = members.first().expect("a soup has members").0;
        let m = first.config.objectives.len();
        let rank = members
            .iter()
            .map(|(member, _)| member.config.columns())
            .sum();
        let config = SvdLoraConfig {
            rank,
            // The scales of the members go into σ.
            alpha: rank as f64,
            ..first.config.clone()
        };
        let mixed = |name: &String| {
            let of_members = || members.iter().map(|(member, _)| &member.factors.0[name]);
            let device = first.factors.0[name].u.device();
            // Columns of zeros stand where λ acts: with s = 0 it changes nothing.
            let wide = |part: fn(&Factors) -> &Tensor<2>| {
                let mut columns: Vec<_> = of_members().map(|f| part(f).clone()).collect();
                let [rows, _] = columns[0].dims();
                columns.push(Tensor::zeros([rows, m], &device));
                Tensor::cat(columns, 1)
            };
            let sigma = (members.iter().zip(weights))
                .map(|((member, preference), &weight)| {
                    let factors = &member.factors.0[name];
                    let row = member.preference_row(preference, &device) * factors.s.clone();
                    let diagonal = Tensor::cat(vec![factors.sigma.clone(), row], 1);
                    diagonal * (weight * member.config.scale())
                })
                .collect();
            Factors {
                u: wide(|factors| &factors.u),
                v: wide(|factors| &factors.v),
                sigma: Tensor::cat(sigma, 1),
                s: Tensor::zeros([1, 1], &device),
            }
        };
        let names = first.factors.0.keys();
        let factors = names.map(|name| (name.clone(), mixed(name))).collect();
        Adapters {
            config,
            factors: FactorSet(factors),
        }
    }

    /// λ as the `[1, m]` tensor that the kernel takes.
    pub fn preference_row(&self, weights: &[f64], device: &Device) -> Tensor<2> {
        let row: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
        Tensor::from_data(TensorData::new(row, [1, weights.len()]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn a_soup_adds_the_updates_of_its_members() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(3, &device);
        let mut member = |seed: u64, rank: usize, alpha: f64| {
            let config = SvdLoraConfig {
                base_model: "m".into(),
                base_fingerprint: String::new(),
                rank,
                objectives: vec!["a".into(), "b".into()],
                alpha,
                target_modules: vec!["q_proj".into()],
            };
            let shapes = [("layers.0.q_proj".to_owned(), [5, 4])];
            let mut adapters = Adapters::init(config, &shapes, 0.7, seed, &device);
            for factors in adapters.factors.0.values_mut() {
                factors.sigma = noise.normal(factors.sigma.dims());
                factors.s = noise.normal(factors.s.dims());
            }
            adapters
        };
        let (one, two) = (member(1, 2, 8.0), member(2, 3, 3.0));
        let soup = Adapters::soup(&[(&one, &[1.0, 0.0]), (&two, &[0.2, 0.8])], &[0.3, 0.7]);
        let delta = |adapters: &Adapters, preference: [f64; 2]| {
            let row = adapters.preference_row(&preference, &device);
            adapters.get("layers.0.q_proj").unwrap().delta(&row)
        };
        let expected = delta(&one, [1.0, 0.0]) * 0.3 + delta(&two, [0.2, 0.8]) * 0.7;
        for preference in [[1.0, 0.0], [0.4, 0.6]] {
            let difference = delta(&soup, preference) - expected.clone();
            assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
        }
        let shapes = [("layers.0.q_proj".to_owned(), [5, 4])];
        soup.check(&shapes).unwrap();
    }
}
