//! The adapted linear layer's side path and its gradient.

use burn_tensor::Tensor;
use panacea_kernels::{matmul, matmul_add, steer, steer_backward};

use crate::factors::Factors;

/// The side path of one adapted matrix, y = c · ((x V) ⊙ d(λ)) Uᵀ with d(λ) = [σ, s·λ].
///
/// `preferences` holds the λ of each row: `[rows, m]`.
#[derive(Debug, Clone, Copy)]
pub struct SvdLora<'a> {
    /// U, V, σ, s.
    pub factors: &'a Factors,
    /// c = alpha / k.
    pub scale: f64,
}

impl SvdLora<'_> {
    /// d(λ) of every row: `[rows, m]` → `[rows, k+m]`.
    fn diagonal(&self, preferences: &Tensor<2>) -> Tensor<2> {
        let [rows, _] = preferences.dims();
        let [_, rank] = self.factors.sigma.dims();
        let sigma = self.factors.sigma.clone().expand([rows, rank]);
        Tensor::cat(vec![sigma, preferences.clone() * self.factors.s.clone()], 1)
    }

    /// What the adapter adds to x W₀ᵀ: `x` `[rows, d_in]` → `[rows, d_out]`.
    pub fn side_path(&self, x: &Tensor<2>, preferences: &Tensor<2>) -> Tensor<2> {
        let projected = matmul(x, &self.factors.v);
        let u_transposed = self.factors.u.clone().transpose();
        matmul(&self.steered(projected, preferences), &u_transposed)
    }

    /// y `[rows, d_out]` + c · (p ⊙ d(λ)) Uᵀ, in place where nobody else holds y: what [`SvdLora::side_path`] adds,
    /// from `projected` p = x V `[rows, k+m]`, which may be computed together with x W₀ᵀ.
    pub fn add_projected(
        &self,
        y: Tensor<2>,
        projected: Tensor<2>,
        preferences: &Tensor<2>,
    ) -> Tensor<2> {
        let u_transposed = self.factors.u.clone().transpose();
        matmul_add(y, &self.steered(projected, preferences), &u_transposed)
    }

    /// c · p ⊙ d(λ) `[rows, k+m]`.
    fn steered(&self, projected: Tensor<2>, preferences: &Tensor<2>) -> Tensor<2> {
        let Factors { sigma, s, .. } = self.factors;
        steer(projected, sigma, s, preferences, self.scale)
    }

    /// Gradient of the side path, from its input `x` `[rows, d_in]` and `dy` `[rows, d_out]`, the gradient
    /// at its output: (`dx` `[rows, d_in]` plus the gradient at `x`, gradients of U, V, σ, s).
    ///
    /// With P = x V, D = d(λ), Q = P ⊙ D:
    /// ∂Q = c·∂y U, ∂U = c·∂yᵀ Q, ∂P = ∂Q ⊙ D, ∂V = xᵀ ∂P, ∂x = ∂P Vᵀ,
    /// ∂D = ∂Q ⊙ P, ∂σ = Σ_rows ∂D[:, ..k], ∂s = Σ ∂D[:, k..] ⊙ λ.
    pub fn backward(
        &self,
        x: &Tensor<2>,
        preferences: &Tensor<2>,
        dy: &Tensor<2>,
        dx: Tensor<2>,
    ) -> (Tensor<2>, Factors) {
        let Factors { u, v, sigma, s } = self.factors;
        let (projected, d_weighted) = (matmul(x, v), matmul(dy, u));
        let steered = steer_backward(projected, sigma, s, preferences, self.scale, d_weighted);
        let gradients = Factors {
            u: matmul(&dy.clone().transpose(), &steered.output),
            v: matmul(&x.clone().transpose(), &steered.d_p),
            sigma: steered.d_sigma,
            s: steered.d_s,
        };
        let dx = matmul_add(dx, &steered.d_p, &v.clone().transpose());
        (dx, gradients)
    }

    /// ΔW(λ) = c · U diag(σ, s·λ) Vᵀ for one λ (`[1, m]`): `[d_out, d_in]`.
    pub fn delta(&self, preference: &Tensor<2>) -> Tensor<2> {
        let (a, b) = self.lora(preference);
        matmul(&b, &a)
    }

    /// The plain LoRA of rank k+m that equals this adapter at one λ (`[1, m]`):
    /// A = Vᵀ `[k+m, d_in]` and B = c · U · diag(σ, s·λ) `[d_out, k+m]`, so that ΔW = B A.
    pub fn lora(&self, preference: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let b = self.factors.u.clone() * self.diagonal(preference) * self.scale;
        (self.factors.v.clone().transpose(), b)
    }
}

#[cfg(test)]
mod tests {
    use burn_tensor::{Device, Tensor};

    use super::*;
    use crate::noise::Noise;

    const D_OUT: usize = 5;
    const D_IN: usize = 4;
    const RANK: usize = 3;
    const OBJECTIVES: usize = 2;

    fn factors(noise: &mut Noise) -> Factors {
        Factors {
            u: noise.normal([D_OUT, RANK + OBJECTIVES]),
            v: noise.normal([D_IN, RANK + OBJECTIVES]),
            sigma: noise.normal([1, RANK]),
            s: noise.normal([1, 1]),
        }
    }

    fn largest(x: Tensor<2>) -> f32 {
        x.abs().max().into_scalar()
    }

    fn preference(weights: [f32; OBJECTIVES], device: &Device) -> Tensor<2> {
        Tensor::from_floats([weights], device)
    }

    #[test]
    fn delta_is_linear_in_the_preference() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(11, &device);
        let factors = factors(&mut noise);
        let layer = SvdLora {
            factors: &factors,
            scale: 2.0,
        };
        let mixed = layer.delta(&preference([0.3, 0.7], &device));
        let sum = layer.delta(&preference([1.0, 0.0], &device)) * 0.3
            + layer.delta(&preference([0.0, 1.0], &device)) * 0.7;
        assert!(largest(mixed - sum) < 1e-5);
    }

    #[test]
    fn each_row_follows_its_own_preference() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(12, &device);
        let factors = factors(&mut noise);
        let layer = SvdLora {
            factors: &factors,
            scale: 0.5,
        };
        let x = noise.normal([2, D_IN]);
        let rows = Tensor::from_floats([[0.9, 0.1], [0.2, 0.8]], &device);
        let together = layer.side_path(&x, &rows);
        for row in 0..2 {
            let weights = rows.clone().slice([row..row + 1, 0..OBJECTIVES]);
            let alone = x
                .clone()
                .slice([row..row + 1, 0..D_IN])
                .matmul(layer.delta(&weights).transpose());
            let difference = together.clone().slice([row..row + 1, 0..D_OUT]) - alone;
            assert!(largest(difference) < 1e-5, "row {row}");
        }
    }

    #[test]
    fn at_initialisation_nothing_is_added_and_only_singular_values_move() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(13, &device);
        let mut factors = factors(&mut noise);
        factors.sigma = factors.sigma.zeros_like();
        factors.s = factors.s.zeros_like();
        let layer = SvdLora {
            factors: &factors,
            scale: 8.0,
        };
        let x = noise.normal([6, D_IN]);
        let dy = noise.normal([6, D_OUT]);
        let rows = preference([0.4, 0.6], &device).repeat_dim(0, 6);
        assert_eq!(largest(layer.side_path(&x, &rows)), 0.0);
        let (dx, gradients) = layer.backward(&x, &rows, &dy, x.zeros_like());
        assert_eq!(largest(dx), 0.0);
        assert_eq!(largest(gradients.u), 0.0);
        assert_eq!(largest(gradients.v), 0.0);
        assert!(largest(gradients.sigma) > 0.0);
        assert!(largest(gradients.s) > 0.0);
    }

    /// Every gradient against central differences of f = Σ dy ⊙ side_path(x).
    #[test]
    fn backward_matches_finite_differences() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(14, &device);
        let factors = factors(&mut noise);
        let x = noise.normal([3, D_IN]);
        let dy = noise.normal([3, D_OUT]);
        let rows = Tensor::from_floats([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], &device);
        let scale = 0.7;
        let value = |factors: &Factors, x: &Tensor<2>| -> f64 {
            let y = SvdLora { factors, scale }.side_path(x, &rows);
            let sum: f32 = (y * dy.clone()).sum().into_scalar();
            f64::from(sum)
        };
        let (dx, gradients) = SvdLora {
            factors: &factors,
            scale,
        }
        .backward(&x, &rows, &dy, x.zeros_like());

        let h = 1e-2f32;
        let nudged = |tensor: &Tensor<2>, i: usize, by: f32| -> Tensor<2> {
            let shape = tensor.dims();
            let mut values = tensor.to_data().try_to_vec::<f32>().unwrap();
            values[i] += by;
            Tensor::from_data(burn_tensor::TensorData::new(values, shape), &device)
        };
        let close = |what: &str, difference: f64, gradient: f32| {
            let error = (difference - f64::from(gradient)).abs();
            assert!(
                error < 2e-2 * (1.0 + f64::from(gradient).abs()),
                "{what}: {difference} against {gradient}"
            );
        };
        for part in crate::Part::ALL {
            let expected = gradients.part(part).to_data().try_to_vec::<f32>().unwrap();
            for (i, &gradient) in expected.iter().enumerate() {
                let shifted = |by: f32| {
                    let mut moved = factors.clone();
                    *moved.part_mut(part) = nudged(factors.part(part), i, by);
                    value(&moved, &x)
                };
                let difference = (shifted(h) - shifted(-h)) / f64::from(2.0 * h);
                close(part.name(), difference, gradient);
            }
        }
        for (i, &gradient) in dx.to_data().try_to_vec::<f32>().unwrap().iter().enumerate() {
            let shifted = |by: f32| value(&factors, &nudged(&x, i, by));
            close(
                "x",
                (shifted(h) - shifted(-h)) / f64::from(2.0 * h),
                gradient,
            );
        }
    }
}
