//! The adaptive KL controller: β, the price of leaving the reference, follows how far the policy has gone.

use panacea_config::KlControl;

/// How far from its target a KL counts, as a share of the target.
const FARTHEST: f64 = 0.2;

/// β after a step under `beta` whose answers were `kl` nats from the reference on average (Ziegler et al. 2019, section 2.2):
///
/// ```text
/// β ← β (1 + clip(KL / target − 1, −0.2, 0.2) / horizon)
/// ```
///
/// A horizon of 1 or more keeps β above 0.
pub(super) fn next_beta(control: KlControl, beta: f64, kl: f64) -> f64 {
    let excess = (kl / control.target - 1.0).clamp(-FARTHEST, FARTHEST);
    beta * (1.0 + excess / control.horizon as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: KlControl = KlControl {
        target: 4.0,
        horizon: 10,
    };

    #[test]
    fn it_rises_above_the_target_and_falls_below_it_by_a_fiftieth_at_most() {
        // 10 % above the target, twice as far as counts, as far below, and a negative estimate.
        for (kl, factor) in [
            (4.0, 1.0),
            (4.4, 1.01),
            (3.8, 0.995),
            (40.0, 1.02),
            (0.5, 0.98),
            (-1.0, 0.98),
        ] {
            let found = next_beta(CONTROL, 0.3, kl);
            assert!((found - 0.3 * factor).abs() < 1e-12, "{kl}: {found}");
        }
    }

    /// A policy that maximises its reward under a price β is r/β nats away, or something like it: β settles where that is the
    /// target.
    #[test]
    fn it_settles_where_the_target_is_met() {
        let mut beta = 0.05;
        for _ in 0..600 {
            beta = next_beta(CONTROL, beta, 2.0 / beta);
        }
        assert!((beta - 0.5).abs() < 1e-6, "{beta}");
    }
}
