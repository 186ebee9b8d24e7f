//! Tiny models with random weights, and adapters on them.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_model::{Decoder, PROJECTIONS};
use panacea_pretrained::Pretrained;
use panacea_svd_lora::{Adapters, Part, SvdLoraConfig};
use panacea_test_support::TinyModel;
pub use panacea_test_support::tiny_config as config;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

pub const OBJECTIVES: usize = 2;

/// Writes a model folder with random weights of `config`, and loads it.
pub fn tiny_model(config: &Value, device: &Device) -> Decoder {
    let dir = tempfile::tempdir().unwrap();
    TinyModel::well_behaved(config.clone(), 0.4).write_without_tokenizer(dir.path());
    Decoder::load(&Pretrained::open(dir.path()).unwrap(), device).unwrap()
}

/// Adapters on every projection of `model`, with random values in all four kinds of tensors.
pub fn random_adapters(model: &Decoder, device: &Device) -> Adapters {
    let config = SvdLoraConfig {
        base_model: "tiny".into(),
        base_fingerprint: String::new(),
        rank: 3,
        objectives: (0..OBJECTIVES).map(|i| format!("objective {i}")).collect(),
        alpha: 3.0,
        target_modules: PROJECTIONS.map(str::to_owned).to_vec(),
    };
    let shapes = model.adapted_shapes(&config.target_modules).unwrap();
    let mut adapters = Adapters::init(config, &shapes, 0.3, 9, device);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for factors in adapters.factors.0.values_mut() {
        for part in [Part::Sigma, Part::S] {
            let tensor = factors.part_mut(part);
            let [rows, columns] = tensor.dims();
            let values: Vec<f32> = (0..rows * columns)
                .map(|_| rng.random::<f32>() - 0.5)
                .collect();
            *tensor = Tensor::from_data(TensorData::new(values, [rows, columns]), device);
        }
    }
    adapters
}

pub fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().try_to_vec::<f32>().unwrap()
}
