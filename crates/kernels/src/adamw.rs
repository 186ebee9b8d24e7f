//! AdamW's update of one tensor.

use burn_tensor::Tensor;

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
    let [parameter, first, second] =
        match on_gpu::update([parameter, first, second], gradient, step) {
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

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::calculate_cube_count_elemwise;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::{DType, Tensor as BurnTensor};

    use super::AdamWStep;
    use crate::gpu::{open, tensor};

    /// The numbers of an [`AdamWStep`], in 32 bits.
    #[cube(launch)]
    fn adamw_kernel(
        gradient: LinearView<'_, f32>,
        mut parameter: LinearViewMut<'_, f32>,
        mut first: LinearViewMut<'_, f32>,
        mut second: LinearViewMut<'_, f32>,
        b1: f32,
        rest1: f32,
        correction1: f32,
        b2: f32,
        rest2: f32,
        correction2: f32,
        eps: f32,
        keep: f32,
        rate: f32,
    ) {
        if !parameter.is_in_bounds(ABSOLUTE_POS) {
            terminate!();
        }
        let g = gradient.read(ABSOLUTE_POS);
        let m = first.read(ABSOLUTE_POS) * b1 + g * rest1;
        let v = second.read(ABSOLUTE_POS) * b2 + g * g * rest2;
        let direction = (m / correction1) / ((v / correction2).sqrt() + eps);
        parameter.write(
            ABSOLUTE_POS,
            parameter.read(ABSOLUTE_POS) * keep - direction * rate,
        );
        first.write(ABSOLUTE_POS, m);
        second.write(ABSOLUTE_POS, v);
    }

    /// One launch in place of fifteen. The tensors alone where they do not lie on a GPU.
    #[expect(
        clippy::result_large_err,
        reason = "tensors that cannot be used come back"
    )]
    pub fn update(
        updated: [BurnTensor<2>; 3],
        gradient: &BurnTensor<2>,
        step: &AdamWStep,
    ) -> Result<[BurnTensor<2>; 3], [BurnTensor<2>; 3]> {
        let usable = |x: &BurnTensor<2>| x.dtype() == DType::F32 && open(x.clone()).is_some();
        let device = gradient.device();
        let together = updated.iter().all(|x| usable(x) && x.device() == device);
        let together = together && !gradient.dims().contains(&0);
        let Some(gradient) = open(gradient.clone()).filter(|_| together && usable(gradient)) else {
            return Err(updated);
        };
        let [parameter, first, second] = updated.map(|x| {
            let x = open(x).expect("it was opened above");
            // What others hold stays as it is for them, and no element is written twice.
            if x.can_mut() && x.is_nonoverlapping() {
                x
            } else {
                x.copy()
            }
        });
        let client = parameter.client.clone();
        let elements = parameter.meta.num_elements();
        let threads = CubeDim::new(&client, elements);
        let cubes = calculate_cube_count_elemwise(&client, elements, threads);
        let view = |x: &CubeTensor| x.clone().into_linear_view_like(&parameter);
        let [b1, b2] = step.betas;
        let [correction1, correction2] = step.corrections;
        adamw_kernel::launch(
            &client,
            cubes,
            threads,
            view(&gradient),
            view(&parameter),
            view(&first),
            view(&second),
            b1 as f32,
            (1.0 - b1) as f32,
            correction1 as f32,
            b2 as f32,
            (1.0 - b2) as f32,
            correction2 as f32,
            step.eps as f32,
            (1.0 - step.rate * step.weight_decay) as f32,
            step.rate as f32,
        );
        Ok([parameter, first, second].map(tensor))
    }
}
