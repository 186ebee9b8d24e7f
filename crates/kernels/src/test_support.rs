//! Random tensors on the CPU, and how far two tensors are apart.

use std::cell::RefCell;
use std::f32::consts::TAU;

use burn_tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::host::Host;

thread_local! {
    /// A test has a thread of its own, and so the same numbers whatever runs beside it. A seed of the device would be
    /// shared by all.
    static NUMBERS: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(1));
}

/// Numbers of the standard normal distribution.
pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = NUMBERS.with_borrow_mut(|numbers| {
        // Box and Muller, 1958.
        let normal = |_| {
            let (u, v) = (numbers.random::<f32>(), numbers.random::<f32>());
            (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
        };
        (0..shape.iter().product()).map(normal).collect()
    });
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// ‖a − b‖∞ relative to 1 + ‖b‖∞ is small, and all of both is finite.
#[track_caller]
pub fn assert_close<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let is_finite = |x: &[f32]| x.iter().all(|x| x.is_finite());
    assert!(
        is_finite(&found) && is_finite(&expected),
        "{what}: not finite"
    );
    let largest = |of: &mut dyn Iterator<Item = f32>| of.fold(0.0, |most, x| x.abs().max(most));
    let mut differences = found.iter().zip(&expected).map(|(a, b)| a - b);
    let error = largest(&mut differences) / (1.0 + largest(&mut expected.iter().copied()));
    assert!(error < 2e-5, "{what}: off by {error}");
}

/// The elements, row by row.
pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.to_data().try_to_vec().expect("it is f32")
}

/// Where the elements of a contiguous tensor lie.
pub fn address<const D: usize>(x: &Tensor<D>) -> *const f32 {
    let host = Host::open(x).expect("the tensor is on the CPU");
    host.values().as_ptr()
}
