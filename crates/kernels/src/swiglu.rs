//! SwiGLU's elementwise part, y = silu(gate) ⊙ up with silu(x) = x · sigmoid(x) (Shazeer, 2020), and its
//! gradient.

use burn_tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host, sigmoid};
use crate::shape;

/// gate and up `[rows, width]` → the same shape.
///
/// # Panics
/// If the shapes differ.
pub fn swiglu(gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
    shape::same("swiglu", "up", up.dims(), gate.dims(), "as in `gate`");
    #[cfg(feature = "flex")]
    if let (Some(gate), Some(up)) = (Host::open(gate), Host::open(up)) {
        return on_host::forward(gate, up);
    }
    portable::forward(gate, up)
}

/// Gradients at gate and up from `d` at the output. With σ = sigmoid(gate): ∂up = d ⊙ gate σ and
/// ∂gate = d ⊙ up ⊙ σ (1 + gate (1 − σ)).
///
/// # Panics
/// If the shapes differ.
pub fn swiglu_backward(gate: Tensor<2>, up: Tensor<2>, d: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    for (argument, x) in [("up", &up), ("d", &d)] {
        shape::same(
            "swiglu_backward",
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
        return on_host::backward(gate, up, d);
    }
    portable::backward(gate, up, d)
}

mod portable {
    use burn_tensor::activation::sigmoid;

    use super::*;

    pub fn forward(gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        gate.clone() * sigmoid(gate.clone()) * up.clone()
    }

    pub fn backward(gate: Tensor<2>, up: Tensor<2>, d: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let sigma = sigmoid(gate.clone());
        let silu = gate * sigma.clone();
        let slope = sigma.clone() + silu.clone() - silu.clone() * sigma;
        (d.clone() * up * slope, d * silu)
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use rayon::prelude::*;

    use super::*;
    use crate::fresh::new_rows;

    pub fn forward(gate: Host, up: Host) -> Tensor<2> {
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
                    |i| gate[i] * sigmoid(gate[i]) * up[i],
                )
            },
        );
        host::tensor(values, shape)
    }

    /// Overwrites gate and up by their gradients.
    pub fn backward(gate: Tensor<2>, up: Tensor<2>, d: Host) -> (Tensor<2>, Tensor<2>) {
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
                                let sigma = sigmoid(*gate);
                                let silu = *gate * sigma;
                                *gate = d * *up * (sigma + silu - silu * sigma);
                                *up = d * silu;
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
    use super::*;
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree() {
        for shape in [[1, 1], [3, 7], [300, 130]] {
            // Wide enough to reach where the sigmoid saturates.
            let (gate, up, d) = (random(shape) * 20.0, random(shape), random(shape));
            assert_close(
                "forward",
                &swiglu(&gate, &up),
                &portable::forward(&gate, &up),
            );
            let expected = portable::backward(gate.clone(), up.clone(), d.clone());
            let found = swiglu_backward(gate, up, d);
            assert_close("d_gate", &found.0, &expected.0);
            assert_close("d_up", &found.1, &expected.1);
        }
    }
}
