//! RMSNorm, y = x / √(mean(x²) + ε) ⊙ w (Zhang and Sennrich, 2019), and its gradient.

use burn_tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host, dot};
use crate::shape;

/// x `[rows, width]`, weight `[1, width]` → `[rows, width]`.
///
/// # Panics
/// If the shapes are not these, or the width is 0.
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
    check("rms_norm", x, weight);
    #[cfg(feature = "flex")]
    if let (Some(x), Some(weight)) = (Host::open(x), Host::open(weight)) {
        return on_host::forward(x, weight, epsilon);
    }
    #[cfg(feature = "gpu")]
    if let Some(y) = on_gpu::forward(x, weight, epsilon) {
        return y;
    }
    portable::forward(x, weight, epsilon)
}

/// The gradient at x `[rows, width]`, from `dy` at the output, added to `onto` if there is one. With
/// r = √(mean(x²) + ε), x̂ = x / r and g = dy ⊙ w: dx = (g − x̂ · mean(g ⊙ x̂)) / r.
///
/// # Panics
/// If `dy` or `onto` has another shape than x, weight is not `[1, width]`, or the width is 0.
pub fn rms_norm_backward(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    epsilon: f64,
    dy: Tensor<2>,
    onto: Option<Tensor<2>>,
) -> Tensor<2> {
    let operation = "rms_norm_backward";
    check(operation, x, weight);
    shape::same(operation, "dy", dy.dims(), x.dims(), "as in `x`");
    if let Some(onto) = &onto {
        shape::same(operation, "onto", onto.dims(), x.dims(), "as in `x`");
    }
    #[cfg(feature = "flex")]
    if onto.as_ref().is_none_or(Host::can_open)
        && let (Some(x), Some(weight), Some(dy)) =
            (Host::open(x), Host::open(weight), Host::open(&dy))
    {
        return on_host::backward(x, weight, epsilon, dy, onto);
    }
    #[cfg(feature = "gpu")]
    if let Some(dx) = on_gpu::backward(x, weight, epsilon, &dy, onto.as_ref()) {
        return dx;
    }
    let dx = portable::backward(x, weight, epsilon, dy);
    match onto {
        Some(onto) => onto + dx,
        None => dx,
    }
}

fn check(operation: &str, x: &Tensor<2>, weight: &Tensor<2>) {
    let [_, width] = x.dims();
    let expected = [(1, "in front of the width"), (width, "as in `x`")];
    shape::check(operation, "weight", weight.dims(), expected);
    shape::some(operation, "axis 1 of `x`", width);
}

mod portable {
    use super::*;

    fn inverse_rms(x: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        (mean_square + epsilon).sqrt().recip()
    }

    pub fn forward(x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        x.clone() * inverse_rms(x, epsilon) * weight.clone()
    }

    pub fn backward(x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64, dy: Tensor<2>) -> Tensor<2> {
        let inverse = inverse_rms(x, epsilon);
        let normed = x.clone() * inverse.clone();
        let g = dy * weight.clone();
        let along = (g.clone() * normed.clone()).mean_dim(1);
        (g - normed * along) * inverse
    }
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_tensor::Tensor as BurnTensor;

    use crate::gpu::tensor;
    use crate::launch::{a_cube_each, operands, room, sum_of_cube};

    /// A cube a row.
    #[cube(launch)]
    fn forward_kernel(
        x: LinearView<'_, f32>,
        weight: LinearView<'_, f32>,
        mut y: LinearViewMut<'_, f32>,
        rows: usize,
        width: usize,
        epsilon: f32,
        #[comptime] threads: usize,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let first = CUBE_POS * width;
        let mut squares = 0.0_f32;
        let mut i = UNIT_POS as usize;
        while i < width {
            let value = x.read(first + i);
            squares += value * value;
            i += threads;
        }
        let squares = sum_of_cube(squares, threads);
        let inverse = 1.0 / (squares / f32::cast_from(width) + epsilon).sqrt();
        let mut i = UNIT_POS as usize;
        while i < width {
            y.write(first + i, x.read(first + i) * inverse * weight.read(i));
            i += threads;
        }
    }

    /// A cube a row; dx = g / r − x · mean(g ⊙ x) / r³.
    #[cube(launch)]
    fn backward_kernel(
        x: LinearView<'_, f32>,
        weight: LinearView<'_, f32>,
        dy: LinearView<'_, f32>,
        onto: LinearView<'_, f32>,
        mut dx: LinearViewMut<'_, f32>,
        rows: usize,
        width: usize,
        epsilon: f32,
        #[comptime] is_onto: bool,
        #[comptime] threads: usize,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let first = CUBE_POS * width;
        let mut squares = 0.0_f32;
        let mut along = 0.0_f32;
        let mut i = UNIT_POS as usize;
        while i < width {
            let value = x.read(first + i);
            squares += value * value;
            along += dy.read(first + i) * weight.read(i) * value;
            i += threads;
        }
        let squares = sum_of_cube(squares, threads);
        let along = sum_of_cube(along, threads) / f32::cast_from(width);
        let inverse = 1.0 / (squares / f32::cast_from(width) + epsilon).sqrt();
        let along = along * inverse * inverse * inverse;
        let mut i = UNIT_POS as usize;
        while i < width {
            let at = first + i;
            let mut sum = dy.read(at) * weight.read(i) * inverse - x.read(at) * along;
            if is_onto {
                sum += onto.read(at);
            }
            dx.write(at, sum);
            i += threads;
        }
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn forward(
        x: &BurnTensor<2>,
        weight: &BurnTensor<2>,
        epsilon: f64,
    ) -> Option<BurnTensor<2>> {
        let [rows, width] = x.dims();
        let [x, weight] = operands([x, weight])?;
        let y = room(&x, [rows, width]);
        let (cubes, threads) = a_cube_each(&x, rows, width);
        forward_kernel::launch(
            &y.client,
            cubes,
            threads,
            x.into_linear_view(),
            weight.into_linear_view(),
            y.clone().into_linear_view(),
            rows,
            width,
            epsilon as f32,
            threads.num_elems() as usize,
        );
        Some(tensor(y))
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn backward(
        x: &BurnTensor<2>,
        weight: &BurnTensor<2>,
        epsilon: f64,
        dy: &BurnTensor<2>,
        onto: Option<&BurnTensor<2>>,
    ) -> Option<BurnTensor<2>> {
        let [rows, width] = x.dims();
        // What is not read may be anything.
        let [x, weight, dy, added] = operands([x, weight, dy, onto.unwrap_or(dy)])?;
        let dx = room(&x, [rows, width]);
        let (cubes, threads) = a_cube_each(&x, rows, width);
        backward_kernel::launch(
            &dx.client,
            cubes,
            threads,
            x.into_linear_view(),
            weight.into_linear_view(),
            dy.into_linear_view(),
            added.into_linear_view(),
            dx.clone().into_linear_view(),
            rows,
            width,
            epsilon as f32,
            onto.is_some(),
            threads.num_elems() as usize,
        );
        Some(tensor(dx))
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use super::*;
    use crate::fresh::new_rows;

    #[inline(always)]
    fn inverse_rms(row: &[f32], epsilon: f32) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
    }

    pub fn forward(x: Host, weight: Host, epsilon: f64) -> Tensor<2> {
        let (x, weight) = (x.contiguous(), weight.contiguous());
        let (x, weight) = (x.values(), weight.values());
        let (width, epsilon) = (weight.len(), epsilon as f32);
        let rows = x.len() / width;
        let values = new_rows(
            rows,
            width,
            #[inline(always)]
            |first, chunk| {
                let x = &x[first * width..];
                chunk.fill_runs(
                    width,
                    #[inline(always)]
                    |row, out| {
                        let x = &x[row * width..][..width];
                        let inverse = inverse_rms(x, epsilon);
                        let (x, w) = (&x[..out.len()], &weight[..out.len()]);
                        out.fill(
                            #[inline(always)]
                            |i| x[i] * inverse * w[i],
                        )
                    },
                )
            },
        );
        host::tensor(values, [rows, width])
    }

    pub fn backward(
        x: Host,
        weight: Host,
        epsilon: f64,
        dy: Host,
        onto: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let (x, weight, dy) = (x.contiguous(), weight.contiguous(), dy.contiguous());
        let (x, weight, dy) = (x.values(), weight.values(), dy.values());
        let (width, epsilon) = (weight.len(), epsilon as f32);
        let rows = x.len() / width;
        // (1/r, mean(g ⊙ x̂) / r²) of a row, so that dx = g / r − x · second / r.
        #[inline(always)]
        fn factors(x: &[f32], weight: &[f32], dy: &[f32], epsilon: f32) -> (f32, f32) {
            let inverse = inverse_rms(x, epsilon);
            let along = host::sum(x.len(), |i| dy[i] * weight[i] * x[i]) / x.len() as f32;
            (inverse, along * inverse * inverse * inverse)
        }
        // Row `row` of x and dy.
        let at = |row: usize| {
            let range = row * width..(row + 1) * width;
            (&x[range.clone()], &dy[range])
        };
        match onto {
            None => {
                let values = new_rows(
                    rows,
                    width,
                    #[inline(always)]
                    |first, chunk| {
                        chunk.fill_runs(
                            width,
                            #[inline(always)]
                            |row, out| {
                                let (x, dy) = at(first + row);
                                let (inverse, along) = factors(x, weight, dy, epsilon);
                                let n = out.len();
                                let (x, w, dy) = (&x[..n], &weight[..n], &dy[..n]);
                                out.fill(
                                    #[inline(always)]
                                    |i| dy[i] * w[i] * inverse - x[i] * along,
                                )
                            },
                        )
                    },
                );
                host::tensor(values, [rows, width])
            }
            Some(onto) => host::update(onto, |onto| {
                host::for_rows(
                    onto,
                    width,
                    #[inline(always)]
                    |first, chunk| {
                        for (row, out) in chunk.chunks_exact_mut(width).enumerate() {
                            let (x, dy) = at(first + row);
                            let (inverse, along) = factors(x, weight, dy, epsilon);
                            for (((out, x), w), dy) in out.iter_mut().zip(x).zip(weight).zip(dy) {
                                *out += dy * w * inverse - x * along;
                            }
                        }
                    },
                );
            }),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree() {
        let epsilon = 1e-5;
        for [rows, width] in [[1, 3], [5, 64], [700, 48]] {
            let (x, dy, onto) = (
                random([rows, width]),
                random([rows, width]),
                random([rows, width]),
            );
            let weight = random([1, width]);
            assert_close(
                "forward",
                &rms_norm(&x, &weight, epsilon),
                &portable::forward(&x, &weight, epsilon),
            );
            let expected = portable::backward(&x, &weight, epsilon, dy.clone());
            let found = rms_norm_backward(&x, &weight, epsilon, dy.clone(), None);
            assert_close("backward", &found, &expected);
            let found = rms_norm_backward(&x, &weight, epsilon, dy, Some(onto.clone()));
            assert_close("backward onto", &found, &(expected + onto));
        }
    }
}
