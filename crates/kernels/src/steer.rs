//! The diagonal of SVD-LoRA's side path.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host};

/// c · p ⊙ [σ, s·λ] with the λ of each row: p `[rows, k+m]`, σ `[1, k]`, s `[1, 1]`, λ `[rows, m]` → `[rows, k+m]`, in
/// place where nobody else holds p.
pub fn steer(
    p: Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if Host::can_open(&p)
        && let (Some(sigma), Some(s)) = (Host::open(sigma), Host::open(s))
        && let Some(preferences) = Host::open(preferences)
    {
        return on_host(p, sigma, s, preferences, scale as f32);
    }
    portable(p, sigma, s, preferences, scale)
}

fn portable(
    p: Tensor<2>,
    sigma: &Tensor<2>,
    s: &Tensor<2>,
    preferences: &Tensor<2>,
    scale: f64,
) -> Tensor<2> {
    let ([rows, _], [_, rank]) = (p.dims(), sigma.dims());
    let sigma = sigma.clone().expand([rows, rank]);
    let diagonal = Tensor::cat(vec![sigma, preferences.clone() * s.clone()], 1);
    p * (diagonal * scale)
}

#[cfg(feature = "flex")]
fn on_host(p: Tensor<2>, sigma: Host, s: Host, preferences: Host, scale: f32) -> Tensor<2> {
    let [_, columns] = p.dims();
    let (sigma, s, preferences) = (sigma.contiguous(), s.contiguous(), preferences.contiguous());
    let (sigma, preferences) = (sigma.values(), preferences.values());
    let s = scale * s.values()[0];
    host::update(p, |p| {
        let rows = p.chunks_exact_mut(columns);
        for (row, preference) in rows.zip(preferences.chunks_exact(columns - sigma.len())) {
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
