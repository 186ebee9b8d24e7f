//! The diagonal of SVD-LoRA's side path.

use burn_tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host};
use crate::shape;

/// c · p ⊙ [σ, s·λ] with the λ of each row: p `[rows, k+m]`, σ `[1, k]`, s `[1, 1]`, λ `[rows, m]` → `[rows, k+m]`, in
/// place where nobody else holds p.
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
    let ([rows, columns], [_, rank], [_, m]) = (p.dims(), sigma.dims(), preferences.dims());
    shape::axis("steer", "sigma", 0, sigma.dims()[0], 1, "for all rows");
    shape::some("steer", "axis 1 of `sigma`", rank);
    shape::check(
        "steer",
        "s",
        s.dims(),
        [(1, "for all rows"), (1, "for all objectives")],
    );
    shape::axis(
        "steer",
        "preferences",
        0,
        preferences.dims()[0],
        rows,
        "as in `p`",
    );
    let why = "as `sigma` and `preferences` have together";
    shape::axis("steer", "p", 1, columns, rank + m, why);
    if rows == 0 {
        return p;
    }
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
