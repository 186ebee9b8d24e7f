//! Random numbers for tests. The backend's own generator will not do: it is one for the whole process, so that tests on other
//! threads take numbers out of its sequence, and seed it anew.

use burn_tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub(crate) struct Noise {
    rng: ChaCha8Rng,
    device: Device,
}

impl Noise {
    pub(crate) fn new(seed: u64, device: &Device) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            device: device.clone(),
        }
    }

    /// Numbers of mean 0 and deviation 1.
    pub(crate) fn normal(&mut self, [rows, columns]: [usize; 2]) -> Tensor<2> {
        let numbers = (0..rows * columns).map(|_| StandardNormal.sample(&mut self.rng));
        let data = TensorData::new(numbers.collect::<Vec<f32>>(), [rows, columns]);
        Tensor::from_data(data, &self.device)
    }
}
