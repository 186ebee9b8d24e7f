//! The elementwise part of a gated MLP, y = f(gate) ⊙ up, and its gradient (Shazeer, 2020).

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn_tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host, sigmoid};
use crate::shape;

/// f, what the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// silu(x) = x · sigmoid(x): SwiGLU.
    Silu,
    /// gelu(x) ≈ x · (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 (Hendrycks and Gimpel, 2016): GeGLU.
    GeluTanh,
}

/// Both gates are x · sigmoid(u(x)), since (1 + tanh(z)) / 2 = sigmoid(2z): for silu u(x) = x, for gelu
/// u(x) = 2 √(2/π) (x + 0.044715 x³).
const GELU: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const CUBE: f32 = 0.044_715;

/// gate and up `[rows, width]` → the same shape.
///
/// # Panics
/// If the shapes differ.
pub fn gated(kind: Gate, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
    shape::same("gated", "up", up.dims(), gate.dims(), "as in `gate`");
    #[cfg(feature = "flex")]
    if let (Some(gate), Some(up)) = (Host::open(gate), Host::open(up)) {
        return match kind {
            Gate::Silu => on_host::forward::<on_host::Silu>(gate, up),
            Gate::GeluTanh => on_host::forward::<on_host::GeluTanh>(gate, up),
        };
    }
    #[cfg(feature = "gpu")]
    if let Some(y) = on_gpu::forward(kind, gate, up) {
        return y;
    }
    portable::forward(kind, gate, up)
}

/// Gradients at gate and up from `d` at the output: ∂up = d ⊙ f(gate) and ∂gate = d ⊙ up ⊙ f'(gate), with
/// f'(x) = σ + x σ (1 − σ) u'(x) and σ = sigmoid(u(x)).
///
/// # Panics
/// If the shapes differ.
pub fn gated_backward(
    kind: Gate,
    gate: Tensor<2>,
    up: Tensor<2>,
    d: Tensor<2>,
) -> (Tensor<2>, Tensor<2>) {
    for (argument, x) in [("up", &up), ("d", &d)] {
        shape::same(
            "gated_backward",
            argument,
            x.dims(),
            gate.dims(),
            "as in `gate`",
        );
    }
    #[cfg(feature = "flex")]
    if Host::can_open(&gate)
        && Host::can_open(&up)
        && let Some(d) = Host::open(&d)
    {
        return match kind {
            Gate::Silu => on_host::backward::<on_host::Silu>(gate, up, d),
            Gate::GeluTanh => on_host::backward::<on_host::GeluTanh>(gate, up, d),
        };
    }
    #[cfg(feature = "gpu")]
    if let Some(gradients) = on_gpu::backward(kind, &gate, &up, &d) {
        return gradients;
    }
    portable::backward(kind, gate, up, d)
}

mod portable {
    use burn_tensor::activation::sigmoid;

    use super::*;

    pub fn forward(kind: Gate, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        gate.clone() * share(kind, gate.clone()) * up.clone()
    }

    pub fn backward(
        kind: Gate,
        gate: Tensor<2>,
        up: Tensor<2>,
        d: Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let sigma = share(kind, gate.clone());
        let value = gate.clone() * sigma.clone();
        let bend = value.clone() - value.clone() * sigma.clone();
        let slope = match kind {
            Gate::Silu => sigma + bend,
            Gate::GeluTanh => sigma + bend * ((gate.clone() * gate) * (3.0 * CUBE * GELU) + GELU),
        };
        (d.clone() * up * slope, d * value)
    }

    /// sigmoid(u(x))
    fn share(kind: Gate, x: Tensor<2>) -> Tensor<2> {
        match kind {
            Gate::Silu => sigmoid(x),
            Gate::GeluTanh => sigmoid((x.clone() + x.clone() * x.clone() * x * CUBE) * GELU),
        }
    }
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_tensor::Tensor as BurnTensor;

    use super::{CUBE, GELU, Gate};
    use crate::gpu::tensor;
    use crate::launch::{a_thread_each, operands, room};

    /// 1 / (1 + e⁻ˣ), without an exponential that has no number of 32 bits.
    #[cube]
    fn sigmoid(x: f32) -> f32 {
        let mut x = x;
        if x < -87.0_f32 {
            x = -87.0_f32;
        }
        1.0 / (1.0 + (-x).exp())
    }

    /// sigmoid(u(x))
    #[cube]
    fn share(x: f32, #[comptime] is_gelu: bool) -> f32 {
        if is_gelu {
            sigmoid(GELU * (x + CUBE * x * x * x))
        } else {
            sigmoid(x)
        }
    }

    /// A thread an element.
    #[cube(launch)]
    fn forward_kernel(
        gate: LinearView<'_, f32>,
        up: LinearView<'_, f32>,
        mut y: LinearViewMut<'_, f32>,
        #[comptime] is_gelu: bool,
    ) {
        if !y.is_in_bounds(ABSOLUTE_POS) {
            terminate!();
        }
        let x = gate.read(ABSOLUTE_POS);
        y.write(ABSOLUTE_POS, x * share(x, is_gelu) * up.read(ABSOLUTE_POS));
    }

    /// A thread an element.
    #[cube(launch)]
    fn backward_kernel(
        gate: LinearView<'_, f32>,
        up: LinearView<'_, f32>,
        d: LinearView<'_, f32>,
        mut d_gate: LinearViewMut<'_, f32>,
        mut d_up: LinearViewMut<'_, f32>,
        #[comptime] is_gelu: bool,
    ) {
        if !d_gate.is_in_bounds(ABSOLUTE_POS) {
            terminate!();
        }
        let x = gate.read(ABSOLUTE_POS);
        let d = d.read(ABSOLUTE_POS);
        let sigma = share(x, is_gelu);
        let value = x * sigma;
        let mut bend = value - value * sigma;
        if is_gelu {
            bend *= GELU * (1.0 + 3.0 * CUBE * x * x);
        }
        d_gate.write(ABSOLUTE_POS, d * up.read(ABSOLUTE_POS) * (sigma + bend));
        d_up.write(ABSOLUTE_POS, d * value);
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn forward(kind: Gate, gate: &BurnTensor<2>, up: &BurnTensor<2>) -> Option<BurnTensor<2>> {
        let shape = gate.dims();
        let [gate, up] = operands([gate, up])?;
        let y = room(&gate, shape);
        let (cubes, threads) = a_thread_each(&gate, gate.meta.num_elements());
        forward_kernel::launch(
            &y.client,
            cubes,
            threads,
            gate.into_linear_view(),
            up.into_linear_view(),
            y.clone().into_linear_view(),
            kind == Gate::GeluTanh,
        );
        Some(tensor(y))
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn backward(
        kind: Gate,
        gate: &BurnTensor<2>,
        up: &BurnTensor<2>,
        d: &BurnTensor<2>,
    ) -> Option<(BurnTensor<2>, BurnTensor<2>)> {
        let shape = gate.dims();
        let [gate, up, d] = operands([gate, up, d])?;
        let (d_gate, d_up) = (room(&gate, shape), room(&gate, shape));
        let (cubes, threads) = a_thread_each(&gate, gate.meta.num_elements());
        backward_kernel::launch(
            &d_gate.client,
            cubes,
            threads,
            gate.into_linear_view(),
            up.into_linear_view(),
            d.into_linear_view(),
            d_gate.clone().into_linear_view(),
            d_up.clone().into_linear_view(),
            kind == Gate::GeluTanh,
        );
        Some((tensor(d_gate), tensor(d_up)))
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use rayon::prelude::*;

    use super::*;
    use crate::fresh::new_rows;

    /// f and f' of one number.
    pub trait Curve {
        fn value(x: f32) -> f32;
        fn value_and_slope(x: f32) -> [f32; 2];
    }

    pub struct Silu;

    impl Curve for Silu {
        #[inline(always)]
        fn value(x: f32) -> f32 {
            x * sigmoid(x)
        }

        #[inline(always)]
        fn value_and_slope(x: f32) -> [f32; 2] {
            let sigma = sigmoid(x);
            let silu = x * sigma;
            [silu, sigma + silu - silu * sigma]
        }
    }

    pub struct GeluTanh;

    impl Curve for GeluTanh {
        #[inline(always)]
        fn value(x: f32) -> f32 {
            x * sigmoid(GELU * (x + CUBE * x * x * x))
        }

        #[inline(always)]
        fn value_and_slope(x: f32) -> [f32; 2] {
            let sigma = sigmoid(GELU * (x + CUBE * x * x * x));
            let gelu = x * sigma;
            let slope_of_u = GELU * (1.0 + 3.0 * CUBE * x * x);
            [gelu, sigma + (gelu - gelu * sigma) * slope_of_u]
        }
    }

    pub fn forward<C: Curve>(gate: Host, up: Host) -> Tensor<2> {
        let (gate, up) = (gate.contiguous(), up.contiguous());
        let shape = gate.shape();
        let (gate, up) = (gate.values(), up.values());
        // Every element is computed on its own, so chunks need not follow the rows: each element counts as a row.
        let values = new_rows(
            gate.len(),
            1,
            #[inline(always)]
            |first, out| {
                let n = out.len();
                let (gate, up) = (&gate[first..][..n], &up[first..][..n]);
                out.fill(
                    #[inline(always)]
                    |i| C::value(gate[i]) * up[i],
                )
            },
        );
        host::tensor(values, shape)
    }

    /// Overwrites gate and up by their gradients.
    pub fn backward<C: Curve>(gate: Tensor<2>, up: Tensor<2>, d: Host) -> (Tensor<2>, Tensor<2>) {
        let d = d.contiguous();
        let d = d.values();
        let mut d_up = None;
        let d_gate = host::update(gate, |gate| {
            d_up = Some(host::update(up, |up| {
                let chunks = gate
                    .par_chunks_mut(host::ELEMENTS_PER_TASK)
                    .zip(up.par_chunks_mut(host::ELEMENTS_PER_TASK))
                    .zip(d.par_chunks(host::ELEMENTS_PER_TASK));
                chunks.for_each(|((gate, up), d)| {
                    pulp::Arch::new().dispatch(
                        #[inline(always)]
                        || {
                            for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
                                let [value, slope] = C::value_and_slope(*gate);
                                *gate = d * *up * slope;
                                *up = d * value;
                            }
                        },
                    );
                });
            }));
        });
        (d_gate, d_up.expect("the inner update has run"))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn_tensor::TensorData;

    use super::*;
    use crate::test_support::{assert_close, random, values};

    #[test]
    fn both_forms_agree() {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            for shape in [[1, 1], [3, 7], [300, 130]] {
                // Wide enough to reach where the sigmoid saturates.
                let (gate, up, d) = (random(shape) * 20.0, random(shape), random(shape));
                assert_close(
                    "forward",
                    &gated(kind, &gate, &up),
                    &portable::forward(kind, &gate, &up),
                );
                let expected = portable::backward(kind, gate.clone(), up.clone(), d.clone());
                let found = gated_backward(kind, gate, up, d);
                assert_close("d_gate", &found.0, &expected.0);
                assert_close("d_up", &found.1, &expected.1);
            }
        }
    }

    #[test]
    fn gelu_is_its_formula_and_its_slope_that_of_differences() {
        let gelu = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        let xs: Vec<f32> = (-40..=40).map(|i| i as f32 / 8.0).collect();
        let row = |values: Vec<f32>| {
            let shape = [1, values.len()];
            Tensor::<2>::from_data(TensorData::new(values, shape), &Default::default())
        };
        let (gate, ones) = (row(xs.clone()), row(vec![1.0; xs.len()]));
        let found = values(&gated(Gate::GeluTanh, &gate, &ones));
        let slopes = values(&gated_backward(Gate::GeluTanh, gate, ones.clone(), ones).0);
        for ((x, found), slope) in xs.iter().map(|&x| f64::from(x)).zip(found).zip(slopes) {
            assert!((f64::from(found) - gelu(x)).abs() < 1e-5, "{x}: {found}");
            let expected = (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
            assert!((f64::from(slope) - expected).abs() < 1e-5, "{x}: {slope}");
        }
    }
}
