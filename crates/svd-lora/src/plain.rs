//! What other software knows: plain LoRAs, whose sum with the weights λ is the adapter at λ.
//!
//! ΔW(λ) = c · U_k diag(σ) V_k + Σ_i λ_i · (c·s) u_i v_iᵀ is linear in λ.

use burn_tensor::Tensor;

use crate::SvdLora;
use crate::file::to_host;

/// The update ΔW = B A of one matrix, as numbers on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainLora {
    /// Columns of the matrix.
    pub d_in: usize,
    /// Rows of the matrix.
    pub d_out: usize,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// A `[rank, d_in]`, row by row.
    pub a: Vec<f32>,
    /// B `[d_out, rank]`, row by row.
    pub b: Vec<f32>,
}

impl PlainLora {
    /// The part of the update that these columns of B and rows of A make.
    fn part(&self, columns: &[usize]) -> Self {
        let rows = columns
            .iter()
            .map(|&row| &self.a[row * self.d_in..][..self.d_in]);
        let of_b = self.b.chunks_exact(self.rank);
        Self {
            rank: columns.len(),
            a: rows.flatten().copied().collect(),
            b: of_b
                .flat_map(|row| columns.iter().map(|&column| row[column]))
                .collect(),
            ..*self
        }
    }
}

impl SvdLora<'_> {
    /// ΔW(λ) as one LoRA of rank k + m: A = Vᵀ, B = c · U · diag(σ, s·λ).
    pub fn at(&self, preference: &[f64]) -> PlainLora {
        let (a, b) = self.lora(&self.row(preference));
        let ([rank, d_in], [d_out, _]) = (a.dims(), b.dims());
        PlainLora {
            d_in,
            d_out,
            rank,
            a: to_host(a),
            b: to_host(b),
        }
    }

    /// ΔW(λ) itself, row by row.
    pub fn update(&self, preference: &[f64]) -> Vec<f32> {
        to_host(self.delta(&self.row(preference)))
    }

    /// The part that every λ has, c · U_k diag(σ) V_k of rank k.
    pub fn base_part(&self) -> PlainLora {
        let columns: Vec<usize> = (0..self.rank()).collect();
        self.unweighted().part(&columns)
    }

    /// The parts that the weights of λ are put on, (c·s) u_i v_iᵀ of rank 1 for each objective.
    pub fn objective_parts(&self) -> Vec<PlainLora> {
        let whole = self.unweighted();
        (self.rank()..whole.rank)
            .map(|column| whole.part(&[column]))
            .collect()
    }

    /// ΔW(e_i) for each objective, of rank k + 1. Since the weights of λ sum to 1, Σ_i λ_i ΔW(e_i) = ΔW(λ).
    pub fn specialists(&self) -> Vec<PlainLora> {
        let whole = self.unweighted();
        let specialist = |column| {
            let columns: Vec<usize> = (0..self.rank()).chain([column]).collect();
            whole.part(&columns)
        };
        (self.rank()..whole.rank).map(specialist).collect()
    }

    /// k
    fn rank(&self) -> usize {
        self.factors.sigma.dims()[1]
    }

    /// The LoRA of rank k + m with the weight 1 on every objective.
    fn unweighted(&self) -> PlainLora {
        let objectives = self.factors.u.dims()[1] - self.rank();
        self.at(&vec![1.0; objectives])
    }

    /// λ as a row on the factors' device.
    fn row(&self, preference: &[f64]) -> Tensor<2> {
        let weights: Vec<f32> = preference.iter().map(|&weight| weight as f32).collect();
        Tensor::<1>::from_floats(&weights[..], &self.factors.u.device()).unsqueeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Factors;
    use crate::noise::Noise;

    const D_OUT: usize = 5;
    const D_IN: usize = 4;
    const RANK: usize = 3;
    const OBJECTIVES: usize = 3;

    /// Adds weight · B A.
    fn add(sum: &mut [f64], lora: &PlainLora, weight: f64) {
        assert_eq!((lora.d_out, lora.d_in), (D_OUT, D_IN));
        assert_eq!(
            (lora.a.len(), lora.b.len()),
            (lora.rank * D_IN, D_OUT * lora.rank)
        );
        for row in 0..D_OUT {
            for column in 0..D_IN {
                let products = (0..lora.rank).map(|r| {
                    f64::from(lora.b[row * lora.rank + r]) * f64::from(lora.a[r * D_IN + column])
                });
                sum[row * D_IN + column] += weight * products.sum::<f64>();
            }
        }
    }

    /// One LoRA at λ, base and objectives, the base folded into the weights, specialists: the same ΔW(λ).
    #[test]
    fn every_form_is_the_same_update() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(21, &device);
        let factors = Factors {
            u: noise.normal([D_OUT, RANK + OBJECTIVES]),
            v: noise.normal([D_IN, RANK + OBJECTIVES]),
            sigma: noise.normal([1, RANK]),
            s: noise.normal([1, 1]),
        };
        let layer = SvdLora {
            factors: &factors,
            scale: 1.7,
        };
        for preference in [
            [0.2, 0.3, 0.5],
            [1.0, 0.0, 0.0],
            [0.0, 0.5, 0.5],
            [0.15, 0.8, 0.05],
        ] {
            let expected = layer.update(&preference);
            let new = || vec![0.0; D_OUT * D_IN];
            let (mut one, mut parts, mut specialists) = (new(), new(), new());
            add(&mut one, &layer.at(&preference), 1.0);
            add(&mut parts, &layer.base_part(), 1.0);
            let mut folded: Vec<f64> = layer
                .update(&[0.0; OBJECTIVES])
                .into_iter()
                .map(f64::from)
                .collect();
            for (part, weight) in layer.objective_parts().iter().zip(preference) {
                assert_eq!(part.rank, 1);
                add(&mut parts, part, weight);
                add(&mut folded, part, weight);
            }
            for (specialist, weight) in layer.specialists().iter().zip(preference) {
                assert_eq!(specialist.rank, RANK + 1);
                add(&mut specialists, specialist, weight);
            }
            for found in [one, parts, folded, specialists] {
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - f64::from(*expected)).abs() < 1e-5,
                        "{found} {expected}"
                    );
                }
            }
        }
        // Each specialist alone is the adapter of its objective.
        let mut second = vec![0.0; D_OUT * D_IN];
        add(&mut second, &layer.specialists()[1], 1.0);
        for (found, expected) in second.iter().zip(layer.update(&[0.0, 1.0, 0.0])) {
            assert!(
                (found - f64::from(expected)).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    }
}
