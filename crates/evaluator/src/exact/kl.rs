//! Rewards under a KL penalty: the optimum in closed form.

/// The policy that is optimal for one prompt, and what it reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct KlOptimum {
    /// π*(y|x) of each response of the menu.
    pub policy: Vec<f64>,
    /// J_i = E(r_i) − β KL(π* ‖ π_ref), expected under π*, of each objective.
    pub values: Vec<f64>,
}

/// The maximiser of Σ_i λ_i E(r_i) − β KL(π ‖ π_ref) over all distributions on a menu:
/// π*(y|x) ∝ π_ref(y|x) · exp(Σ_i λ_i r_i(x, y) / β) (Rafailov et al. 2023, eq. 4, for the reward Σ λ_i r_i).
///
/// `reference` holds log π_ref of each response, up to a constant; `rewards[i][y]` is r_i(x, y).
///
/// # Panics
/// When a list of rewards has not one entry per response, or there is not one weight per objective.
#[must_use]
pub fn kl_regularised(
    reference: &[f64],
    rewards: &[Vec<f64>],
    weights: &[f64],
    beta: f64,
) -> KlOptimum {
    assert_eq!(rewards.len(), weights.len(), "one weight per objective");
    let reference = log_normalised(reference);
    let tilted: Vec<f64> = (0..reference.len())
        .map(|y| {
            let reward: f64 = rewards.iter().zip(weights).map(|(r, w)| w * r[y]).sum();
            reference[y] + reward / beta
        })
        .collect();
    let log_policy = log_normalised(&tilted);
    let policy: Vec<f64> = log_policy.iter().map(|log| log.exp()).collect();
    let expected = |of: &dyn Fn(usize) -> f64| -> f64 {
        policy.iter().enumerate().map(|(y, p)| p * of(y)).sum()
    };
    let kl = expected(&|y| log_policy[y] - reference[y]);
    let values = rewards
        .iter()
        .map(|rewards| expected(&|y| rewards[y]) - beta * kl)
        .collect();
    KlOptimum { policy, values }
}

/// x − log Σ exp(x).
fn log_normalised(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = top + x.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    x.iter().map(|x| x - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every policy on a fine grid over three responses does worse, and the best of them comes close.
    #[test]
    fn no_policy_of_a_grid_does_better() {
        let reference: [f64; 3] = [0.5_f64, 0.3, 0.2].map(f64::ln);
        let rewards = vec![vec![1.0, -0.5, 0.2], vec![-1.0, 0.8, 0.3]];
        let (weights, beta) = ([0.35, 0.65], 0.7);
        let optimum = kl_regularised(&reference, &rewards, &weights, beta);
        let best: f64 = optimum
            .values
            .iter()
            .zip(&weights)
            .map(|(v, w)| v * w)
            .sum();

        let aggregate = |policy: [f64; 3]| -> f64 {
            (0..3)
                .filter(|&y| policy[y] > 0.0)
                .map(|y| {
                    let reward = weights[0] * rewards[0][y] + weights[1] * rewards[1][y];
                    policy[y] * (reward - beta * (policy[y].ln() - reference[y]))
                })
                .sum()
        };
        let n = 400;
        let mut best_of_grid = f64::NEG_INFINITY;
        for i in 0..=n {
            for j in 0..=n - i {
                let [p, q] = [i, j].map(|count| f64::from(count) / f64::from(n));
                best_of_grid = best_of_grid.max(aggregate([p, q, 1.0 - p - q]));
            }
        }
        assert!(
            best_of_grid <= best + 1e-12,
            "{best_of_grid} against {best}"
        );
        assert!(best - best_of_grid < 1e-4, "{best_of_grid} against {best}");
    }
}
