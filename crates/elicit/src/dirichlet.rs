//! Steps on the simplex: draws near a point, and how likely they are.

use rand::Rng;
use rand_distr::{Distribution, Gamma};

/// κ: a step from λ is drawn from Dir(κλ + 1), whose spread is about √(λ_i(1 − λ_i)/κ).
const CONCENTRATION: f64 = 200.0;
/// ε: keeps every parameter at 1 or above, so that the density of a step is bounded at the edges.
const OFFSET: f64 = 1.0;

/// Draws `step` ~ Dir(κ·`from` + ε).
pub(crate) fn draw_near<R: Rng + ?Sized>(from: &[f64], step: &mut [f64], rng: &mut R) {
    let mut sum = 0.0;
    for (to, &from) in step.iter_mut().zip(from) {
        let gamma = Gamma::new(CONCENTRATION * from + OFFSET, 1.0).expect("a shape of 1 or above");
        *to = gamma.sample(rng);
        sum += *to;
    }
    for to in step {
        *to /= sum;
    }
}

/// ln of the density of Dir(κ·`from` + ε) at `to`, but for ln Γ(κ + mε), which all points of the simplex share.
pub(crate) fn log_density_near(from: &[f64], to: &[f64]) -> f64 {
    let term = |(&from, &to): (&f64, &f64)| {
        let parameter = CONCENTRATION * from + OFFSET;
        (parameter - 1.0) * to.max(f64::MIN_POSITIVE).ln() - ln_gamma(parameter)
    };
    from.iter().zip(to).map(term).sum()
}

/// ln Γ(x) for x > 0: Stirling's series from 10 on, and Γ(x + 1) = x·Γ(x) below. Wrong by less than 1e-12.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0
        - (1.0 / 360.0
            - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square)
            / square)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gamma_function_is_the_factorial() {
        let mut factorial = 0.0; // ln (n−1)!
        for n in 1..=200 {
            let n = f64::from(n);
            let error = ln_gamma(n) - factorial;
            assert!(error.abs() < 1e-12 * (1.0 + factorial), "{n}: {error}");
            factorial += n.ln();
        }
        let half = std::f64::consts::PI.sqrt().ln();
        assert!((ln_gamma(0.5) - half).abs() < 1e-12);
    }

    /// For two objectives the density is that of a Beta distribution, whose integral is 1/Γ(κ + 2ε) without its constant.
    #[test]
    fn the_density_of_a_step_integrates_to_its_constant() {
        let from = [0.3, 0.7];
        let cells = 20_000;
        let at = |i: usize| (i as f64 + 0.5) / cells as f64;
        let density = |i: usize| log_density_near(&from, &[at(i), 1.0 - at(i)]);
        let constant = ln_gamma(CONCENTRATION + 2.0 * OFFSET);
        let integral: f64 = (0..cells).map(|i| (density(i) + constant).exp()).sum();
        assert!(
            (integral / cells as f64 - 1.0).abs() < 1e-9,
            "{}",
            integral / cells as f64
        );
    }
}
