//! Advantages with a critic: how much better each token was than expected.

use super::moments::Moments;

/// The advantages of the tokens of one response, and what a critic should have said of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Advantages {
    /// Â_t of each token.
    pub advantages: Vec<f64>,
    /// Â_t + V_t of each token: the target of the critic.
    pub returns: Vec<f64>,
}

/// Generalised advantage estimation (Schulman et al. 2016, eq. 16) over the tokens of one response:
///
/// ```text
/// δ_t = r_t + γ V_{t+1} − V_t                Â_t = δ_t + γ λ Â_{t+1}                V = Â = 0 after the last token
/// ```
///
/// V_t = `values[t]` is what the critic expects before token t is written. λ = 1 makes Â_t the rewards to
/// come less V_t, which is unbiased; λ = 0 trusts the critic after one token. (This λ is a number of the
/// estimate, and no preference.)
///
/// # Panics
/// When there is not one value per reward.
#[must_use]
pub fn generalised_advantages(
    rewards: &[f64],
    values: &[f64],
    gamma: f64,
    lambda: f64,
) -> Advantages {
    assert_eq!(rewards.len(), values.len(), "one value per token");
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let surprise = rewards[t] + gamma * next_value - values[t];
        next_advantage = surprise + gamma * lambda * next_advantage;
        next_value = values[t];
        advantages[t] = next_advantage;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    Advantages {
        advantages,
        returns,
    }
}

/// Brings the numbers of a batch, given response by response, to mean 0 and (sample) deviation 1 over all
/// its tokens; with `keep_mean` they keep their mean, as rewards do, whose sign says something.
///
/// Where all are equal there is no deviation to divide by: all become 0, or stay as they are with
/// `keep_mean`.
pub fn whiten(responses: &mut [&mut [f64]], keep_mean: bool) {
    let moments = Moments::of(responses.iter().flat_map(|tokens| tokens.iter().copied()));
    let shift = if keep_mean { moments.mean } else { 0.0 };
    for number in responses.iter_mut().flat_map(|tokens| tokens.iter_mut()) {
        *number = moments.standardised(*number) + shift;
    }
}

/// How much of the variance of `returns` the critic's `values` explain: 1 − Var(returns − values) /
/// Var(returns). 1 is a perfect critic, 0 one that says the same of everything, and below 0 one that is
/// worse than that. `None` where the returns do not vary.
///
/// # Panics
/// When there is not one value per return.
#[must_use]
pub fn explained_variance(values: &[f64], returns: &[f64]) -> Option<f64> {
    assert_eq!(values.len(), returns.len(), "one value per return");
    let all = Moments::of(returns.iter().copied()).deviation;
    let residuals = returns.iter().zip(values).map(|(r, v)| r - v);
    let left = Moments::of(residuals).deviation;
    (all != 0.0).then(|| 1.0 - (left / all).powi(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-12,
                "{found} against {expected}"
            );
        }
    }

    #[test]
    fn two_tokens_by_hand() {
        // δ_1 = 1 − ½ = ½;  δ_0 = 0 + ½·½ − 1 = −¾;  Â_0 = −¾ + ½·½·½ = −⅝.
        let found = generalised_advantages(&[0.0, 1.0], &[1.0, 0.5], 0.5, 0.5);
        assert_eq!(found.advantages, [-0.625, 0.5]);
        assert_eq!(found.returns, [0.375, 1.0]);
    }

    /// ```python
    /// r = torch.tensor([0.1, -0.2, 0.05, 1.3]); v = torch.tensor([0.4, 0.7, -0.1, 0.6]); g, l = 0.97, 0.9
    /// delta = r + g * torch.cat([v[1:], torch.zeros(1)]) - v
    /// i = torch.arange(4)
    /// a = torch.triu((g * l) ** (i - i[:, None]).clamp(min=0)) @ delta; a, a + v
    /// ```
    #[test]
    fn estimates_are_those_of_pytorch() {
        let (rewards, values) = ([0.1, -0.2, 0.05, 1.3], [0.4, 0.7, -0.1, 0.6]);
        let found = generalised_advantages(&rewards, &values, 0.97, 0.9);
        assert_close(
            &found.advantages,
            &[
                0.5322344599,
                0.1755262999999999,
                1.3431000000000002,
                0.7000000000000001,
            ],
        );
        assert_close(
            &found.returns,
            &[0.9322344599, 0.8755262999999999, 1.2431, 1.3],
        );
    }

    #[test]
    fn its_ends_are_the_rewards_to_come_and_one_step() {
        let (rewards, values) = ([0.1, -0.2, 0.05, 1.3], [0.4, 0.7, -0.1, 0.6]);
        let far = generalised_advantages(&rewards, &values, 1.0, 1.0);
        assert_close(&far.returns, &[1.25, 1.15, 1.35, 1.3]);
        let near = generalised_advantages(&rewards, &values, 1.0, 0.0);
        assert_close(&near.returns, &[0.8, -0.3, 0.65, 1.3]);
        let nothing = generalised_advantages(&[], &[], 1.0, 1.0);
        assert!(nothing.advantages.is_empty() && nothing.returns.is_empty());
    }

    /// ```python
    /// x = torch.tensor([1.0, -0.5, 2.5, 0.25, -3.0])
    /// (x - x.mean()) / x.std()
    /// ```
    #[test]
    fn whitening_is_over_the_tokens_of_all_responses() {
        let expected = [
            0.46704056378169406,
            -0.2703919053472966,
            1.204473032910685,
            0.09832432921719876,
            -1.499446020562281,
        ];
        let (mut long, mut short) = ([1.0, -0.5, 2.5], [0.25, -3.0]);
        whiten(&mut [&mut long, &mut [], &mut short], false);
        assert_close(&long, &expected[..3]);
        assert_close(&short, &expected[3..]);

        let (mut long, mut short) = ([1.0, -0.5, 2.5], [0.25, -3.0]);
        whiten(&mut [&mut long, &mut short], true);
        // The mean is 0.05.
        assert_close(&long, &[0, 1, 2].map(|t| expected[t] + 0.05));
        assert_close(&short, &[3, 4].map(|t| expected[t] + 0.05));
    }

    #[test]
    fn what_is_all_alike_becomes_zero_or_stays() {
        let mut alike = [0.1; 7];
        whiten(&mut [&mut alike], true);
        assert_close(&alike, &[0.1; 7]);
        whiten(&mut [&mut alike], false);
        assert_eq!(alike, [0.0; 7]);
        whiten(&mut [], false);
    }

    /// ```python
    /// r = torch.tensor([1.0, 2.0, -0.5, 0.75]); v = torch.tensor([0.8, 1.5, 0.1, 0.4])
    /// 1 - (r - v).var() / r.var()
    /// ```
    #[test]
    fn the_explained_variance_is_that_of_pytorch() {
        let returns = [1.0, 2.0, -0.5, 0.75];
        let found = explained_variance(&[0.8, 1.5, 0.1, 0.4], &returns).expect("they vary");
        assert!((found - 0.7724137931034483).abs() < 1e-12, "{found}");
        assert_eq!(explained_variance(&returns, &returns), Some(1.0));
        assert_eq!(explained_variance(&[3.0; 4], &returns), Some(0.0));
        assert_eq!(explained_variance(&returns, &[0.1; 4]), None);
        assert_eq!(explained_variance(&[], &[]), None);
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        /// What whitening is for: neither the scale nor the level of the numbers matters.
        #[test]
        fn prop_scale_and_level_do_not_matter(
            numbers in prop::collection::vec(-5.0..5.0f64, 2..20),
            scale in 1e-6..1e6f64,
            level in -3.0..3.0f64,
        ) {
            let mut plain = numbers.clone();
            let mut moved: Vec<f64> = numbers.iter().map(|x| scale * (x + level)).collect();
            whiten(&mut [&mut plain], false);
            whiten(&mut [&mut moved], false);
            let squares: f64 = plain.iter().map(|x| x * x).sum();
            prop_assert!((squares - (numbers.len() - 1) as f64).abs() < 1e-9);
            for (plain, moved) in plain.iter().zip(&moved) {
                prop_assert!((plain - moved).abs() < 1e-6, "{plain} against {moved}");
            }
        }
    }
}
