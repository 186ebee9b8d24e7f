//! Random tensors on the CPU, and how far two tensors are apart.

use burn::tensor::{Device, Distribution, Tensor};

use crate::host::Host;

pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// ‖a − b‖∞ relative to 1 + ‖b‖∞.
#[track_caller]
pub fn assert_close<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let largest = |x: Tensor<D>| -> f32 { x.abs().max().into_scalar() };
    let error = largest(found.clone() - expected.clone()) / (1.0 + largest(expected.clone()));
    assert!(error < 2e-5, "{what}: off by {error}");
}

/// Where the elements of a contiguous tensor lie.
pub fn address<const D: usize>(x: &Tensor<D>) -> *const f32 {
    let host = Host::open(x).expect("the tensor is on the CPU");
    host.values().as_ptr()
}
