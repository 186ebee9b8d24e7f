//! The diagonal of SVD-LoRA's side path, and its gradient.

use burn_tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host};
use crate::shape;

/// c · p ⊙ [σ, s·λ] with the λ of each row: p `[rows, k+m]`, σ `[1, k]`, s `[1, 1]`, λ `[rows, m]` → `[rows, k+m]`, in
/// place where nobody else holds p and it is the CPU's.
///
/// # Panics
/// If the shapes are not these, or k is 0.
pub fn steer(
    p: Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    check("steer", &p, sigma, s, preferences);
    if p.dims()[0] == 0 {
        return p;
    }
    #[cfg(feature = "flex")]
    if Host::can_open(&p)
        && let (Some(sigma), Some(s)) = (Host::open(sigma), Host::open(s))
        && let Some(preferences) = Host::open(preferences)
    {
        return on_host(p, sigma, s, preferences, scale as f32);
    }
    #[cfg(feature = "gpu")]
    if let Some(steered) = on_gpu::forward(&p, sigma, s, preferences, scale) {
        return steered;
    }
    portable(p, sigma, s, preferences, scale)
}

/// What [`steer`] gives, and gradients at what it was given.
#[derive(Debug, Clone)]
pub struct Steered {
    /// c · p ⊙ d, with d = [σ, s·λ] of each row.
    pub output: Tensor<2>,
    /// At p, `[rows, k+m]`.
    pub d_p: Tensor<2>,
    /// At σ, `[1, k]`.
    pub d_sigma: Tensor<2>,
    /// At s, `[1, 1]`.
    pub d_s: Tensor<2>,
}

/// [`steer`] with its gradient, from `d_output` `[rows, k+m]`: ∂p = c · ∂o ⊙ d, and with ∂d = c · ∂o ⊙ p,
/// ∂σ = Σ_rows ∂d[:, ..k], ∂s = Σ ∂d[:, k..] ⊙ λ.
///
/// # Panics
/// As [`steer`], or if `d_output` has another shape than p.
pub fn steer_backward(
    p: Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
    scale: f64,
    d_output: Tensor<2>,
) -> Steered {
    let operation = "steer_backward";
    check(operation, &p, sigma, s, preferences);
    shape::same(
        operation,
        "d_output",
        d_output.dims(),
        p.dims(),
        "as in `p`",
    );
    #[cfg(feature = "gpu")]
    if let Some(steered) = on_gpu::backward([&p, sigma, s, preferences, &d_output], scale) {
        return steered;
    }
    let ([rows, columns], [_, rank]) = (p.dims(), sigma.dims());
    let output = steer(p.clone(), sigma, s, preferences, scale);
    let d_output = d_output * scale;
    let d_diagonal = d_output.clone() * p;
    let d_sigma = d_diagonal.clone().slice([0..rows, 0..rank]).sum_dim(0);
    let steered = d_diagonal.slice([0..rows, rank..columns]) * preferences.clone();
    Steered {
        output,
        d_p: d_output * diagonal(sigma, s, preferences),
        d_sigma,
        d_s: steered.sum().reshape([1, 1]),
    }
}

fn check(
    operation: &str,
    p: &Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
) {
    let ([rows, columns], [ones, rank], [of, m]) = (p.dims(), sigma.dims(), preferences.dims());
    shape::axis(operation, "sigma", 0, ones, 1, "for all rows");
    shape::some(operation, "axis 1 of `sigma`", rank);
    let single = [(1, "for all rows"), (1, "for all objectives")];
    shape::check(operation, "s", s.dims(), single);
    shape::axis(operation, "preferences", 0, of, rows, "as in `p`");
    let why = "as `sigma` and `preferences` have together";
    shape::axis(operation, "p", 1, columns, rank + m, why);
}

/// [σ, s·λ] of each row: `[rows, k+m]`.
fn diagonal(sigma: &Tensor<2>, s: &Tensor<2>, preferences: &Tensor<2>) -> Tensor<2> {
    let ([rows, _], [_, rank]) = (preferences.dims(), sigma.dims());
    let sigma = sigma.clone().expand([rows, rank]);
    Tensor::cat(vec![sigma, preferences.clone() * s.clone()], 1)
}

fn portable(
    p: Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    p * (diagonal(sigma, s, preferences) * scale)
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_tensor::Tensor as BurnTensor;

    use super::Steered;
    use crate::gpu::tensor;
    use crate::launch::{a_cube_each, a_thread_each, binds, operands, room, sum_of_cube};

    /// Element `at` of c · [σ, s·λ], which has `columns` columns, `rank` of them learned.
    #[cube]
    fn factor(
        sigma: &LinearView<'_, f32>,
        s: &LinearView<'_, f32>,
        preferences: &LinearView<'_, f32>,
        at: usize,
        columns: usize,
        rank: usize,
        scale: f32,
    ) -> f32 {
        let (row, column) = (at / columns, at % columns);
        let mut factor = scale;
        if column < rank {
            factor *= sigma.read(column);
        } else {
            let weight = preferences.read(row * (columns - rank) + column - rank);
            factor *= s.read(0) * weight;
        }
        factor
    }

    /// A thread an element.
    #[cube(launch)]
    fn forward_kernel(
        p: LinearView<'_, f32>,
        sigma: LinearView<'_, f32>,
        s: LinearView<'_, f32>,
        preferences: LinearView<'_, f32>,
        mut output: LinearViewMut<'_, f32>,
        columns: usize,
        rank: usize,
        scale: f32,
    ) {
        if !output.is_in_bounds(ABSOLUTE_POS) {
            terminate!();
        }
        let at = ABSOLUTE_POS;
        let factor = factor(&sigma, &s, &preferences, at, columns, rank, scale);
        output.write(at, p.read(at) * factor);
    }

    /// A cube for each of σ, one for s, and those behind them for what has an element for each of p.
    #[cube(launch)]
    fn backward_kernel(
        p: LinearView<'_, f32>,
        sigma: LinearView<'_, f32>,
        s: LinearView<'_, f32>,
        preferences: LinearView<'_, f32>,
        d_output: LinearView<'_, f32>,
        mut output: LinearViewMut<'_, f32>,
        mut d_p: LinearViewMut<'_, f32>,
        mut d_sigma: LinearViewMut<'_, f32>,
        mut d_s: LinearViewMut<'_, f32>,
        rows: usize,
        columns: usize,
        rank: usize,
        scale: f32,
        #[comptime] threads: usize,
    ) {
        let mut sum = 0.0_f32;
        if CUBE_POS < rank {
            let mut row = UNIT_POS as usize;
            while row < rows {
                let at = row * columns + CUBE_POS;
                sum += d_output.read(at) * p.read(at);
                row += threads;
            }
        } else if CUBE_POS == rank {
            let m = columns - rank;
            let mut i = UNIT_POS as usize;
            while i < rows * m {
                let at = i / m * columns + rank + i % m;
                sum += d_output.read(at) * p.read(at) * preferences.read(i);
                i += threads;
            }
        }
        let sum = sum_of_cube(sum, threads) * scale;
        if CUBE_POS <= rank {
            if UNIT_POS == 0 {
                if CUBE_POS < rank {
                    d_sigma.write(CUBE_POS, sum);
                } else {
                    d_s.write(0, sum);
                }
            }
        } else {
            let at = (CUBE_POS - rank - 1) * threads + UNIT_POS as usize;
            if at < rows * columns {
                let factor = factor(&sigma, &s, &preferences, at, columns, rank, scale);
                output.write(at, p.read(at) * factor);
                d_p.write(at, d_output.read(at) * factor);
            }
        }
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn forward(
        p: &BurnTensor<2>,
        sigma: &BurnTensor<2>,
        s: &BurnTensor<2>,
        preferences: &BurnTensor<2>,
        scale: f64,
    ) -> Option<BurnTensor<2>> {
        let ([rows, columns], [_, rank]) = (p.dims(), sigma.dims());
        let [p, sigma, s, preferences] = operands([p, sigma, s, preferences])?;
        let output = room(&p, [rows, columns]);
        let (cubes, threads) = a_thread_each(&p, rows * columns);
        forward_kernel::launch(
            &output.client,
            cubes,
            threads,
            p.into_linear_view(),
            sigma.into_linear_view(),
            s.into_linear_view(),
            preferences.into_linear_view(),
            output.clone().into_linear_view(),
            columns,
            rank,
            scale as f32,
        );
        Some(tensor(output))
    }

    /// One launch, from p, σ, s, λ and the gradient at the output. `None` where they do not lie on one GPU.
    pub fn backward(given: [&BurnTensor<2>; 5], scale: f64) -> Option<Steered> {
        let ([rows, columns], [_, rank]) = (given[0].dims(), given[1].dims());
        let [p, sigma, s, preferences, d_output] = operands(given)?;
        if !binds(&p, 9) {
            return None;
        }
        let (output, d_p) = (room(&p, [rows, columns]), room(&p, [rows, columns]));
        let (d_sigma, d_s) = (room(&p, [1, rank]), room(&p, [1, 1]));
        let (_, threads) = a_cube_each(&p, 1, rows);
        let per_cube = threads.num_elems() as usize;
        let (cubes, threads) =
            a_cube_each(&p, rank + 1 + (rows * columns).div_ceil(per_cube), per_cube);
        backward_kernel::launch(
            &output.client,
            cubes,
            threads,
            p.into_linear_view(),
            sigma.into_linear_view(),
            s.into_linear_view(),
            preferences.into_linear_view(),
            d_output.into_linear_view(),
            output.clone().into_linear_view(),
            d_p.clone().into_linear_view(),
            d_sigma.clone().into_linear_view(),
            d_s.clone().into_linear_view(),
            rows,
            columns,
            rank,
            scale as f32,
            per_cube,
        );
        Some(Steered {
            output: tensor(output),
            d_p: tensor(d_p),
            d_sigma: tensor(d_sigma),
            d_s: tensor(d_s),
        })
    }
}

#[cfg(feature = "flex")]
fn on_host(p: Tensor<2>, sigma: Host, s: Host, preferences: Host, scale: f32) -> Tensor<2> {
    let [_, columns] = p.dims();
    let (sigma, s, preferences) = (sigma.contiguous(), s.contiguous(), preferences.contiguous());
    let (sigma, preferences) = (sigma.values(), preferences.values());
    let s = scale * s.values()[0];
    host::update(p, |p| {
        let m = columns - sigma.len();
        for (i, row) in p.chunks_exact_mut(columns).enumerate() {
            let preference = &preferences[i * m..(i + 1) * m];
            let (learned, steered) = row.split_at_mut(sigma.len());
            for (x, sigma) in learned.iter_mut().zip(sigma) {
                *x *= scale * sigma;
            }
            for (x, weight) in steered.iter_mut().zip(preference) {
                *x *= s * weight;
            }
        }
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree() {
        let (sigma, s) = (random([1, 8]), random([1, 1]));
        for rows in [1, 9] {
            let (p, preferences) = (random([rows, 11]), random([rows, 3]));
            let found = steer(p.clone(), &sigma, &s, &preferences, 8.0);
            assert_close("steer", &found, &portable(p, &sigma, &s, &preferences, 8.0));
        }
    }
}
