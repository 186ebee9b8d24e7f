//! When what a device computed is what it should be.

use burn_tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers in −1 … 1.
pub struct Noise(ChaCha8Rng);

impl Noise {
    pub fn of(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    pub fn tensor(&mut self, [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
        let values = self.values(rows * columns);
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    }
}

pub fn values(x: Tensor<2>) -> Vec<f32> {
    x.into_data().try_to_vec().expect("it is f32")
}

/// Every number is as far from what is expected as `tolerance` lets it, near 0 as it is and else relatively.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(
            apart <= tolerance * (1.0 + expected.abs()),
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}

/// What `compute` makes on the device equals what it makes on the CPU, and itself when it is done again, bit by bit.
pub fn assert_as_on_the_cpu(
    device: &Device,
    what: &str,
    compute: impl Fn(&Device, Noise) -> Vec<Tensor<2>>,
) {
    let all = |device: &Device| -> Vec<Vec<f32>> {
        let computed = compute(device, Noise::of(7));
        computed.into_iter().map(values).collect()
    };
    let (found, expected) = (all(device), all(&Device::flex()));
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let expected: Vec<f64> = expected.iter().copied().map(f64::from).collect();
        assert_close(&format!("{what}, result {i}"), found, &expected, 1e-5);
    }
    assert!(found == all(device), "{what}: not the same twice");
}

/// The same numbers, as a part of a larger tensor.
pub fn lying_wide(x: &Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let more = Tensor::cat(vec![x.clone() + 1.0, x.clone()], 1);
    more.slice([0..rows, columns..2 * columns])
}

/// The same numbers, column by column.
pub fn lying_transposed(x: &Tensor<2>) -> Tensor<2> {
    (x.clone().transpose() + 0.0).transpose()
}
