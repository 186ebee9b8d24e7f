//! AdamW's update of one tensor.

use burn_tensor::Tensor;

#[cfg(feature = "gpu")]
use crate::gpu;
use crate::shape;

/// The numbers that one update takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// How far a parameter moves.
    pub rate: f64,
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// 1 − β₁ᵗ and 1 − β₂ᵗ at the t-th step.
    pub corrections: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2): the new parameter and moments from the
/// gradient, all `[rows, columns]`.
///
/// ```text
/// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
/// p ← p − rate · ( (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε) + decay · p )
/// ```
///
/// # Panics
/// If the shapes differ.
pub fn adamw(
    [parameter, first, second]: [Tensor<2>; 3],
    gradient: &Tensor<2>,
    step: &AdamWStep,
) -> [Tensor<2>; 3] {
    let expected = parameter.dims();
    for (name, x) in [
        ("first", &first),
        ("second", &second),
        ("gradient", gradient),
    ] {
        shape::same("adamw", name, x.dims(), expected, "as in `parameter`");
    }
    #[cfg(feature = "gpu")]
    let [parameter, first, second] = match gpu::adamw([parameter, first, second], gradient, step) {
        Ok(updated) => return updated,
        Err(elsewhere) => elsewhere,
    };
    let AdamWStep {
        rate,
        betas: [b1, b2],
        corrections: [correction1, correction2],
        eps,
        weight_decay,
    } = *step;
    let g = gradient.clone();
    let m = first * b1 + g.clone() * (1.0 - b1);
    let v = second * b2 + g.clone() * g * (1.0 - b2);
    let direction = (m.clone() / correction1) / ((v.clone() / correction2).sqrt() + eps);
    let p = parameter * (1.0 - rate * weight_decay) - direction * rate;
    [p, m, v]
}
