//! Rewards of tokens and of whole responses, and how far the policy is from the reference.

use crate::Preference;

/// Σ_i λ_i r_i, the reward of a response under a preference. An objective without weight does not count,
/// even where its reward is not finite.
///
/// # Panics
/// When there is not one reward per objective of the preference.
#[must_use]
pub fn scalarise(preference: &Preference, rewards: &[f64]) -> f64 {
    let weights = preference.weights();
    assert_eq!(weights.len(), rewards.len(), "one reward per objective");
    let counted = weights.iter().zip(rewards).filter(|(w, _)| **w > 0.0);
    counted.map(|(weight, reward)| weight * reward).sum()
}

/// The reward of each token of a response: the penalty −β (log π − log π_ref) at every token, and at the
/// last one the `reward` of the whole response, [`scalarise`]d, as well (Ouyang et al. 2022, eq. 2, token
/// by token; Panacea, eq. 16, has one such penalty for all objectives).
///
/// Summed over the response they are its [`sequence_return`], whose expectation is
/// E(reward) − β KL(π ‖ π_ref). A response without tokens has no rewards.
///
/// # Panics
/// When policy and reference do not have the same number of tokens.
#[must_use]
pub fn token_rewards(
    policy: &[f64],
    reference: &[f64],
    kl_coefficient: f64,
    reward: f64,
) -> Vec<f64> {
    let mut rewards: Vec<f64> = log_ratios(policy, reference)
        .map(|log_ratio| -kl_coefficient * log_ratio)
        .collect();
    if let Some(last) = rewards.last_mut() {
        *last += reward;
    }
    rewards
}

/// The return of a whole response: its `reward`, [`scalarise`]d, − β Σ_t (log π − log π_ref).
///
/// # Panics
/// When policy and reference do not have the same number of tokens.
#[must_use]
pub fn sequence_return(policy: &[f64], reference: &[f64], kl_coefficient: f64, reward: f64) -> f64 {
    reward - kl_coefficient * log_ratios(policy, reference).sum::<f64>()
}

fn log_ratios(policy: &[f64], reference: &[f64]) -> impl Iterator<Item = f64> {
    assert_eq!(
        policy.len(),
        reference.len(),
        "one log-probability per token under the policy and under the reference"
    );
    policy.iter().zip(reference).map(|(p, r)| p - r)
}

/// What one token, drawn from the policy, says about KL(π ‖ π_ref). Both estimates are unbiased
/// (Schulman 2020, "Approximating KL divergence").
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlEstimate {
    /// k1 = log π − log π_ref; of either sign.
    pub k1: f64,
    /// k3 = exp(log π_ref − log π) − 1 − (log π_ref − log π), which is never negative and varies less as
    /// long as the two are close.
    pub k3: f64,
    /// ∂k3/∂log π = 1 − exp(log π_ref − log π), where β·k3 is a part of the loss (GRPO; Shao et al. 2024,
    /// eq. 4). k1 is for the rewards: its derivative, 1 at every token, says nothing.
    pub d_k3: f64,
}

/// The estimates of one token from its log-probability under the policy and under the reference.
#[must_use]
pub fn kl_estimate(policy: f64, reference: f64) -> KlEstimate {
    let log_ratio = reference - policy;
    // exp(x) − 1 without the cancellation near x = 0, where policies mostly are.
    let excess = log_ratio.exp_m1();
    KlEstimate {
        k1: -log_ratio,
        k3: excess - log_ratio,
        d_k3: -excess,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reward_stands_at_the_last_token_and_the_penalty_at_all() {
        let (policy, reference) = ([-1.0, -2.0, -0.5], [-1.5, -1.0, -0.5]);
        assert_eq!(
            token_rewards(&policy, &reference, 0.5, 2.0),
            [-0.25, 0.5, 2.0]
        );
        assert_eq!(sequence_return(&policy, &reference, 0.5, 2.0), 2.25);
        assert!(token_rewards(&[], &[], 0.5, 2.0).is_empty());
        assert_eq!(sequence_return(&[], &[], 0.5, 2.0), 2.0);
    }

    #[test]
    fn rewards_are_weighed_by_the_preference() {
        let preference = Preference::new(vec![0.25, 0.75]).expect("a preference");
        assert_eq!(scalarise(&preference, &[4.0, -2.0]), -0.5);
        assert_eq!(scalarise(&Preference::vertex(2, 1), &[f64::NAN, 3.0]), 3.0);
        assert!(scalarise(&preference, &[f64::NAN, 3.0]).is_nan());
    }

    #[test]
    fn near_the_reference_the_estimate_keeps_its_digits() {
        // k3 = x²/2 + x³/6 + … for x = log π_ref − log π.
        let x = 1e-5;
        let k3 = kl_estimate(-x, 0.0).k3;
        assert!((k3 / (x * x / 2.0 + x * x * x / 6.0) - 1.0).abs() < 1e-5);
        assert_eq!(kl_estimate(-3.0, -3.0).k3, 0.0);
    }

    /// Both estimates average to the divergence of two distributions over three tokens.
    #[test]
    fn the_estimates_are_unbiased() {
        let policy = [0.5_f64, 0.3, 0.2];
        let reference = [0.2_f64, 0.3, 0.5];
        let divergence: f64 = (0..3)
            .map(|y| policy[y] * (policy[y] / reference[y]).ln())
            .sum();
        let expected = |of: fn(KlEstimate) -> f64| -> f64 {
            (0..3)
                .map(|y| policy[y] * of(kl_estimate(policy[y].ln(), reference[y].ln())))
                .sum()
        };
        assert!((expected(|estimate| estimate.k1) - divergence).abs() < 1e-15);
        assert!((expected(|estimate| estimate.k3) - divergence).abs() < 1e-15);
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_the_derivative_is_that_of_finite_differences(policy in -8.0..0.0f64, reference in -8.0..0.0f64) {
            let step = 1e-5;
            let k3 = |policy: f64| kl_estimate(policy, reference).k3;
            let numeric = (k3(policy + step) - k3(policy - step)) / (2.0 * step);
            let estimate = kl_estimate(policy, reference);
            prop_assert!((numeric - estimate.d_k3).abs() <= 1e-6 * (1.0 + numeric.abs()));
            prop_assert!(estimate.k3 >= 0.0);
        }

        #[test]
        fn prop_the_tokens_add_up_to_the_response(
            log_probs in prop::collection::vec((-8.0..0.0f64, -8.0..0.0f64), 1..12),
            kl_coefficient in 0.0..1.0f64,
            reward in -5.0..5.0f64,
        ) {
            let (policy, reference): (Vec<f64>, Vec<f64>) = log_probs.into_iter().unzip();
            let tokens: f64 = token_rewards(&policy, &reference, kl_coefficient, reward).iter().sum();
            let whole = sequence_return(&policy, &reference, kl_coefficient, reward);
            prop_assert!((tokens - whole).abs() < 1e-12 * (1.0 + whole.abs() + 100.0 * kl_coefficient));
        }

        #[test]
        fn prop_the_order_of_the_objectives_does_not_matter(
            raw in prop::collection::vec((0.01..1.0f64, -5.0..5.0f64), 1..6),
            turn in 0..6usize,
        ) {
            let of = |raw: &[(f64, f64)]| {
                let total: f64 = raw.iter().map(|(weight, _)| weight).sum();
                let weights = raw.iter().map(|(weight, _)| weight / total).collect();
                let rewards: Vec<f64> = raw.iter().map(|(_, reward)| *reward).collect();
                scalarise(&Preference::new(weights).expect("on the simplex"), &rewards)
            };
            let mut turned = raw.clone();
            turned.rotate_left(turn % raw.len());
            prop_assert!((of(&raw) - of(&turned)).abs() < 1e-12);
        }
    }
}
