//! Sums of squares, for norms.

use burn_tensor::Tensor;

#[cfg(feature = "gpu")]
use crate::gpu;

/// Σ x² over the elements of all tensors. Where all lie on one GPU, it is waited for once, and sums in a fixed order.
pub fn sum_of_squares(tensors: &[&Tensor<2>]) -> f64 {
    #[cfg(feature = "gpu")]
    if let Some(sums) = gpu::sums_of_squares(tensors) {
        return sums.into_iter().map(f64::from).sum();
    }
    let of_one = |&x: &&Tensor<2>| {
        let sum: f32 = (x.clone() * x.clone()).sum().into_scalar();
        f64::from(sum)
    };
    tensors.iter().map(of_one).sum()
}
