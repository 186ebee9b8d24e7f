//! Advantages without a critic: how much better each answer was than the other answers to its prompt.

use super::moments::Moments;
use super::rewards::scalarise;
use crate::Preference;

/// Leave-one-out advantages (RLOO; Kool et al. 2019, Ahmadian et al. 2024) of the K samples of one prompt,
/// drawn independently from the policy:
///
/// ```text
/// A_k = R_k − 1/(K−1) Σ_{j≠k} R_j
/// ```
///
/// R_k is the [`sequence_return`](crate::sequence_return) of sample k, KL penalty included; A_k is the
/// advantage of each of its tokens. What is subtracted does not depend on sample k, so that the
/// policy gradient stays unbiased. K = 1 leaves nothing to subtract, and A_1 = R_1: unbiased still, but as
/// noisy as it gets.
#[must_use]
pub fn leave_one_out_advantages(returns: &[f64]) -> Vec<f64> {
    let total: f64 = returns.iter().sum();
    let others = returns.len().saturating_sub(1).max(1) as f64;
    returns
        .iter()
        .map(|own| own - (total - own) / others)
        .collect()
}

/// [`leave_one_out_advantages`] token by token, of samples as `tokens[sample][t]` with what each token earned,
/// `rewards[sample][t]` ([`token_rewards`](crate::token_rewards)):
///
/// ```text
/// A_{k,t} = G_{k,t} − b_{k,t}            G_{k,t} = Σ_{s≥t} r_{k,s}
///
/// b_{k,0} = mean of G_{j,0} over j ≠ k
/// b_{k,t} = b_{k,t−1} − r_{k,t−1}                                     the expectation, less the reward of token t−1
///         = (Σ G_{j,t} + b_{k,t−1} − r_{k,t−1}) / (n + 1)             if some, but not all, of the samples that were equal to
///                                                                     sample k before token t−1 differ from it there
/// ```
///
/// The sum is over the n other samples that equal sample k before t; they show best what is still to come. Since
/// they may be few, the old expectation counts as one more of them. A sample whose first token no other sample has gets
/// R_k − mean_{j≠k} R_j at every token, as in [`leave_one_out_advantages`].
///
/// The policy gradient stays unbiased: b_{k,t} depends on the other samples, and on sample k before t, and on nothing
/// that comes from t on. K = 1 has R_1 everywhere.
///
/// # Panics
/// When a sample has not one reward per token.
#[must_use]
pub fn leave_one_out_by_token(tokens: &[&[u32]], rewards: &[Vec<f64>]) -> Vec<Vec<f64>> {
    assert_eq!(tokens.len(), rewards.len(), "rewards for every sample");
    let to_come: Vec<Vec<f64>> = rewards.iter().map(|rewards| suffix_sums(rewards)).collect();
    // A sample that has ended has nothing to come.
    let sum = |company: &[usize], t: usize| -> f64 {
        let of = |&j: &usize| to_come[j].get(t).copied().unwrap_or(0.0);
        company.iter().map(of).sum()
    };
    let of_sample = |k: usize| {
        let (own, earned) = (tokens[k], &rewards[k]);
        assert_eq!(own.len(), earned.len(), "sample {k}: one reward per token");
        let mut company: Vec<usize> = (0..tokens.len()).filter(|&j| j != k).collect();
        let mut expected = sum(&company, 0) / company.len().max(1) as f64;
        let mut advantages = Vec::with_capacity(own.len());
        for t in 0..own.len() {
            if t > 0 {
                expected -= earned[t - 1];
                let before = company.len();
                company.retain(|&j| tokens[j].get(t - 1) == Some(&own[t - 1]));
                if !company.is_empty() && company.len() < before {
                    expected = (sum(&company, t) + expected) / (company.len() + 1) as f64;
                }
            }
            advantages.push(to_come[k][t] - expected);
        }
        advantages
    };
    (0..tokens.len()).map(of_sample).collect()
}

/// Σ_{s≥t} of the numbers, for every t.
fn suffix_sums(numbers: &[f64]) -> Vec<f64> {
    let mut sums = numbers.to_vec();
    for t in (1..sums.len()).rev() {
        sums[t - 1] += sums[t];
    }
    sums
}

/// Group-relative advantages (GRPO; Shao et al. 2024, section 4.1) of the K samples of one prompt from their rewards,
/// `rewards[sample][objective]`: weighed first, then compared.
///
/// ```text
/// R_k = Σ_i λ_i r_{k,i}                  A_k = (R_k − mean_j R_j) / deviation_j R_j
/// ```
///
/// A_k is the advantage of each token of sample k. It does not change with the scale and level of R, but with those of a
/// single objective: the one with the largest scale decides. For K = 1, and where the samples are worth the same, all
/// are 0 and nothing is learned from the rewards. The KL penalty is not in here; GRPO adds β·k3 to the loss
/// ([`kl_estimate`](crate::kl_estimate)).
///
/// # Panics
/// When a sample has not one reward per objective of the preference.
#[must_use]
pub fn group_relative_advantages(preference: &Preference, rewards: &[Vec<f64>]) -> Vec<f64> {
    let returns = rewards.iter().map(|rewards| scalarise(preference, rewards));
    let mut advantages: Vec<f64> = returns.collect();
    let moments = Moments::of(advantages.iter().copied());
    for advantage in &mut advantages {
        *advantage = moments.standardised(*advantage);
    }
    advantages
}

/// What GDPO adds to a deviation, so that differences without a meaning stay small.
const SOFTENING: f64 = 1e-4;

/// Group advantages with every objective normalised on its own (GDPO; Liu et al. 2026, arXiv 2601.05242) of the K
/// samples of one prompt from their rewards, `rewards[sample][objective]`: compared first, then weighed.
///
/// ```text
/// A_{k,i} = (r_{k,i} − mean_j r_{j,i}) / (deviation_j r_{j,i} + 1e-4)                  A_k = Σ_i λ_i A_{k,i}
/// ```
///
/// So the scale of an objective has no say in the trade-off, as long as its deviation is far above 1e-4. An objective
/// whose rewards are all equal, as they are for K = 1, cannot tell the samples apart, and adds 0.
/// The method then [`whiten`](crate::whiten)s the A_k of all answers of a batch, one number an answer and not one a token,
/// which is the caller's. The KL penalty is as in [`group_relative_advantages`].
///
/// # Panics
/// When a sample has not one reward per objective of the preference.
#[must_use]
pub fn decoupled_group_advantages(preference: &Preference, rewards: &[Vec<f64>]) -> Vec<f64> {
    let objectives = preference.weights().len();
    for (sample, row) in rewards.iter().enumerate() {
        assert_eq!(
            row.len(),
            objectives,
            "sample {sample}: one reward per objective"
        );
    }
    let moments: Vec<Moments> = (0..objectives)
        .map(|i| Moments::of(rewards.iter().map(|row| row[i])))
        .collect();
    let normalised = |row: &Vec<f64>| -> Vec<f64> {
        let columns = moments.iter().zip(row);
        columns
            .map(|(moments, reward)| moments.softly_standardised(*reward, SOFTENING))
            .collect()
    };
    rewards
        .iter()
        .map(|row| scalarise(preference, &normalised(row)))
        .collect()
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
    fn each_sample_is_compared_with_the_others() {
        // The others' means are 4, 3 and 2.
        assert_eq!(leave_one_out_advantages(&[1.0, 3.0, 5.0]), [-3.0, 0.0, 3.0]);
        assert_eq!(leave_one_out_advantages(&[1.0, 3.0]), [-2.0, 2.0]);
    }

    #[test]
    fn a_token_is_compared_where_others_began_in_the_same_way() {
        // Samples 0 and 1 begin with 7, and samples 0 and 1 part at their second token.
        let tokens: [&[u32]; 3] = [&[7, 1, 2], &[7, 4], &[5, 1]];
        let rewards = [vec![0.5, 0.25, 2.0], vec![0.5, -1.0], vec![-0.25, 1.0]];
        let found = leave_one_out_by_token(&tokens, &rewards);
        // To come: 2.75, 2.25, 2; −0.5, −1; 0.75, 1. Expected: 0.125, (−1 + 0.125 − 0.5) / 2, 0.25 less; …
        assert_close(&found[0], &[2.75 - 0.125, 2.25 + 0.6875, 2.0 + 0.9375]);
        assert_close(&found[1], &[-0.5 - 1.75, -1.0 - 1.75]);
        assert_close(&found[2], &[0.75 - 1.125; 2]);
    }

    #[test]
    fn samples_that_share_nothing_are_compared_as_wholes_and_equal_ones_cancel() {
        let rewards = [vec![0.5, 1.0], vec![2.0], vec![-1.0, 0.0, 3.0]];
        let whole = leave_one_out_advantages(&[1.5, 2.0, 2.0]);
        let found = leave_one_out_by_token(&[&[1, 2], &[3], &[4, 5, 6]], &rewards);
        for (found, whole) in found.iter().zip(whole) {
            assert_close(found, &vec![whole; found.len()]);
        }
        let equal = leave_one_out_by_token(&[&[1, 2], &[1, 2]], &[vec![0.3, 1.0], vec![0.3, 1.0]]);
        assert_eq!(equal, [[0.0, 0.0], [0.0, 0.0]]);
    }

    #[test]
    fn a_sample_cut_short_has_nothing_to_come() {
        let tokens: [&[u32]; 2] = [&[7], &[7, 1]];
        let found = leave_one_out_by_token(&tokens, &[vec![1.0], vec![0.5, 2.0]]);
        assert_close(&found[0], &[1.0 - 2.5]);
        assert_close(&found[1], &[2.5 - 1.0, 2.0 - 0.5]);
    }

    #[test]
    fn a_single_sample_has_nothing_to_be_compared_with() {
        assert_eq!(
            leave_one_out_by_token(&[&[1, 2]], &[vec![0.5, 1.0]]),
            [[1.5, 1.5]]
        );
        assert!(leave_one_out_by_token(&[], &[]).is_empty());
        assert_eq!(leave_one_out_advantages(&[1.5]), [1.5]);
        assert!(leave_one_out_advantages(&[]).is_empty());
        let half = Preference::uniform(2);
        for of_group in [group_relative_advantages, decoupled_group_advantages] {
            assert_eq!(of_group(&half, &[vec![1.5, -2.0]]), [0.0]);
            assert!(of_group(&half, &[]).is_empty());
        }
    }

    #[test]
    fn an_objective_that_tells_nothing_apart_says_nothing() {
        let rewards = [vec![0.1, 1.0], vec![0.1, 2.0], vec![0.1, 3.0]];
        let preference = Preference::new(vec![0.6, 0.4]).expect("a preference");
        // Means 0.1 and 2, deviations 0 and 1; weighed first, it is R = 0.06 + 0.4 r with a deviation of 0.4.
        let softened = 0.4 / 1.0001;
        assert_close(
            &decoupled_group_advantages(&preference, &rewards),
            &[-softened, 0.0, softened],
        );
        assert_close(
            &group_relative_advantages(&preference, &rewards),
            &[-1.0, 0.0, 1.0],
        );
        let first = Preference::vertex(2, 0);
        for of_group in [group_relative_advantages, decoupled_group_advantages] {
            assert_eq!(of_group(&first, &rewards), [0.0; 3]);
        }
    }

    /// A group whose answers are all worth the same teaches nothing, however their mean is rounded. A residue of rounding,
    /// divided by 1e-4 and then whitened, would become an advantage of 1.
    #[test]
    fn equal_answers_have_no_advantages() {
        for count in [2, 3, 7, 64] {
            let rewards = vec![vec![0.1, 1e9 / 3.0, -1e-300]; count];
            let preference = Preference::new(vec![0.2, 0.3, 0.5]).expect("a preference");
            for of_group in [group_relative_advantages, decoupled_group_advantages] {
                assert_eq!(of_group(&preference, &rewards), vec![0.0; count]);
            }
        }
    }

    /// Four answers, each with a right or wrong result and a right or wrong form: what the sum forgets.
    #[test]
    fn weighed_first_or_compared_first_is_not_the_same() {
        let half = Preference::uniform(2);
        // Two groups of answers with rewards 0 or 1: in the first one objective varies, in the second both do.
        let one = [vec![0.0, 1.0], vec![1.0, 1.0]];
        let both = [vec![0.0, 0.0], vec![1.0, 1.0]];
        // Two numbers a and b deviate by |a − b| / √2 from their mean, so that both of them are 1/√2 deviations away.
        let away = 0.5_f64.sqrt();
        assert_close(&group_relative_advantages(&half, &one), &[-away, away]);
        assert_close(&group_relative_advantages(&half, &both), &[-away, away]);
        let softened = 0.5 / (away + 1e-4);
        assert_close(
            &decoupled_group_advantages(&half, &one),
            &[-0.5 * softened, 0.5 * softened],
        );
        assert_close(
            &decoupled_group_advantages(&half, &both),
            &[-softened, softened],
        );
    }

    /// ```python
    /// r = torch.tensor([[0.2, 40.0], [1.1, -10.0], [-0.7, 25.0], [0.4, 5.0]])
    /// s = r @ torch.tensor([0.3, 0.7]); (s - s.mean()) / s.std()
    /// ((r - r.mean(0)) / (r.std(0) + 1e-4)) @ torch.tensor([0.3, 0.7])
    /// (4 * s - s.sum()) / 3
    /// ```
    #[test]
    fn advantages_are_those_of_pytorch() {
        let rewards = [
            vec![0.2, 40.0],
            vec![1.1, -10.0],
            vec![-0.7, 25.0],
            vec![0.4, 5.0],
        ];
        let preference = Preference::new(vec![0.3, 0.7]).expect("a preference");
        assert_close(
            &group_relative_advantages(&preference, &rewards),
            &[
                1.1474697124445188,
                -1.1317194847644108,
                0.4406782452996822,
                -0.45642847297978995,
            ],
        );
        assert_close(
            &decoupled_group_advantages(&preference, &rewards),
            &[
                0.7757760561157965,
                -0.4522037526139439,
                -0.06584238037458506,
                -0.25772992312726756,
            ],
        );
        let returns = rewards.map(|rewards| scalarise(&preference, &rewards));
        assert_close(
            &leave_one_out_advantages(&returns),
            &[
                23.313333333333333,
                -22.99333333333333,
                8.953333333333333,
                -9.273333333333332,
            ],
        );
    }

    fn groups() -> impl Strategy<Value = Vec<Vec<f64>>> {
        prop::collection::vec(prop::collection::vec(-5.0..5.0f64, 3), 1..8)
    }

    fn moved(rewards: &[Vec<f64>], scales: [f64; 3], levels: [f64; 3]) -> Vec<Vec<f64>> {
        let moved = |row: &Vec<f64>| (0..3).map(|i| scales[i] * (row[i] + levels[i])).collect();
        rewards.iter().map(moved).collect()
    }

    fn preferences() -> impl Strategy<Value = Preference> {
        prop::collection::vec(0.01..1.0f64, 3).prop_map(|raw| {
            let sum: f64 = raw.iter().sum();
            Preference::new(raw.iter().map(|weight| weight / sum).collect())
                .expect("on the simplex")
        })
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_advantages_of_a_group_cancel(rewards in groups(), preference in preferences()) {
            for of_group in [group_relative_advantages, decoupled_group_advantages] {
                let total: f64 = of_group(&preference, &rewards).iter().sum();
                prop_assert!(total.abs() < 1e-9);
            }
            let returns: Vec<f64> = rewards.iter().map(|row| scalarise(&preference, row)).collect();
            if returns.len() > 1 {
                prop_assert!(leave_one_out_advantages(&returns).iter().sum::<f64>().abs() < 1e-9);
            }
        }

        /// Compared first, no scale and no level decides the trade-off. Rewards are far enough apart for 1e-4 to be nothing.
        #[test]
        fn prop_scale_and_level_of_an_objective_do_not_matter_where_it_is_compared_first(
            rewards in groups(),
            preference in preferences(),
            scales in prop::array::uniform3(1.0..1e4f64),
            levels in prop::array::uniform3(-5.0..5.0f64),
        ) {
            prop_assume!((0..3).all(|i| Moments::of(rewards.iter().map(|row| row[i])).deviation > 0.1));
            let moved = moved(&rewards, scales, levels);
            let plain = decoupled_group_advantages(&preference, &rewards);
            for (plain, moved) in plain.iter().zip(decoupled_group_advantages(&preference, &moved)) {
                prop_assert!((plain - moved).abs() < 3e-3, "{plain} against {moved}");
            }
        }

        /// Weighed first, the scale of all objectives together and their levels do not matter; that of one does, and
        /// where it is large enough that objective alone decides.
        #[test]
        fn prop_the_largest_scale_decides_where_it_is_weighed_first(
            rewards in groups(),
            preference in preferences(),
            scale in 1e-4..1e4f64,
            levels in prop::array::uniform3(-5.0..5.0f64),
        ) {
            prop_assume!(Moments::of(rewards.iter().map(|row| row[1])).deviation > 0.1);
            let plain = group_relative_advantages(&preference, &rewards);
            let together = moved(&rewards, [scale; 3], levels);
            for (plain, moved) in plain.iter().zip(group_relative_advantages(&preference, &together)) {
                prop_assert!((plain - moved).abs() < 1e-5, "{plain} against {moved}");
            }
            let second = group_relative_advantages(&Preference::vertex(3, 1), &rewards);
            let one = group_relative_advantages(&preference, &moved(&rewards, [1.0, 1e8, 1.0], levels));
            for (second, one) in second.iter().zip(one) {
                prop_assert!((second - one).abs() < 1e-2, "{second} against {one}");
            }
        }

        #[test]
        fn prop_the_order_of_the_objectives_does_not_matter(
            rewards in groups(),
            preference in preferences(),
            turn in 0..3usize,
        ) {
            let turned = |row: &[f64]| {
                let mut row = row.to_vec();
                row.rotate_left(turn);
                row
            };
            let other = Preference::new(turned(preference.weights())).expect("on the simplex");
            let turned: Vec<Vec<f64>> = rewards.iter().map(|row| turned(row)).collect();
            for of_group in [group_relative_advantages, decoupled_group_advantages] {
                let plain = of_group(&preference, &rewards);
                for (plain, turned) in plain.iter().zip(of_group(&other, &turned)) {
                    prop_assert!((plain - turned).abs() < 1e-9);
                }
            }
        }
    }
}
