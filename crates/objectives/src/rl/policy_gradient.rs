//! What the methods do in expectation: in the first epoch, with γ = λ = 1 and nothing whitened, they follow
//! the gradient of E[Σ_i λ_i r_i] − β KL(π ‖ π_ref) exactly. The responses are so few that expectations
//! are sums over all of them.

use super::{
    clipped_policy_term, generalised_advantages, leave_one_out_advantages, scalarise,
    sequence_return, token_rewards,
};
use crate::{Preference, log_sigmoid};

const BETA: f64 = 0.3;

/// The log-probabilities of two tokens with these logits.
fn log_policy([a, b]: [f64; 2]) -> [f64; 2] {
    [log_sigmoid(a - b), log_sigmoid(b - a)]
}

/// ∂log π(y)/∂logits.
fn score(logits: [f64; 2], y: usize) -> [f64; 2] {
    let mut score = log_policy(logits).map(|log| -log.exp());
    score[y] += 1.0;
    score
}

/// −∂loss/∂log π of a token whose policy is still the one that wrote it.
fn ascent(log_prob: f64, advantage: f64) -> f64 {
    -clipped_policy_term(log_prob, log_prob, advantage, f64::INFINITY).d_policy
}

fn differences<const N: usize>(objective: impl Fn([f64; N]) -> f64, at: [f64; N]) -> [f64; N] {
    let step = 1e-5;
    std::array::from_fn(|j| {
        let shifted = |shift: f64| {
            let mut moved = at;
            moved[j] += shift;
            objective(moved)
        };
        (shifted(step) - shifted(-step)) / (2.0 * step)
    })
}

fn assert_close<const N: usize>(found: [f64; N], expected: [f64; N], tolerance: f64) {
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < tolerance,
            "{found} against {expected}"
        );
    }
}

/// Two responses of one token each.
struct Menu {
    logits: [f64; 2],
    reference: [f64; 2],
    /// Σ λ_i r_i of each response.
    rewards: [f64; 2],
}

impl Menu {
    fn new() -> Self {
        let preference = Preference::new(vec![0.3, 0.7]).expect("a preference");
        Self {
            logits: [0.4, -0.3],
            reference: log_policy([-0.5, 0.2]),
            rewards: [[1.0, -0.5], [-0.2, 0.8]].map(|rewards| scalarise(&preference, &rewards)),
        }
    }

    /// E[r] − β KL(π ‖ π_ref).
    fn objective(&self, logits: [f64; 2]) -> f64 {
        let log_policy = log_policy(logits);
        let gain = |y: usize| self.rewards[y] - BETA * (log_policy[y] - self.reference[y]);
        (0..2).map(|y| log_policy[y].exp() * gain(y)).sum()
    }

    /// ∂objective/∂logit_j = π_j (g_j − Σ_y π_y g_y) with g_y = r_y − β log(π_y / π_ref,y).
    fn gradient(&self) -> [f64; 2] {
        let log_policy = log_policy(self.logits);
        let mean = self.objective(self.logits);
        [0, 1].map(|y| {
            let gain = self.rewards[y] - BETA * (log_policy[y] - self.reference[y]);
            log_policy[y].exp() * (gain - mean)
        })
    }
}

#[test]
fn the_closed_form_is_the_gradient() {
    let menu = Menu::new();
    let numeric = differences(|logits| menu.objective(logits), menu.logits);
    assert_close(menu.gradient(), numeric, 1e-9);
}

#[test]
fn without_a_critic_to_say_anything_it_is_exact() {
    let menu = Menu::new();
    let log_policy = log_policy(menu.logits);
    let mut expected = [0.0; 2];
    for (y, log_prob) in log_policy.into_iter().enumerate() {
        let rewards = token_rewards(&[log_prob], &[menu.reference[y]], BETA, menu.rewards[y]);
        let advantage = generalised_advantages(&rewards, &[0.0], 1.0, 1.0).advantages[0];
        for (sum, score) in expected.iter_mut().zip(score(menu.logits, y)) {
            *sum += log_prob.exp() * ascent(log_prob, advantage) * score;
        }
    }
    assert_close(expected, menu.gradient(), 1e-14);
}

#[test]
fn leaving_one_out_is_exact_over_all_pairs_of_samples() {
    let menu = Menu::new();
    let log_policy = log_policy(menu.logits);
    let of = |y: usize| {
        sequence_return(
            &[log_policy[y]],
            &[menu.reference[y]],
            BETA,
            menu.rewards[y],
        )
    };
    let mut expected = [0.0; 2];
    for pair in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        let probability = (log_policy[pair[0]] + log_policy[pair[1]]).exp();
        let advantages = leave_one_out_advantages(&pair.map(of));
        for (y, advantage) in pair.into_iter().zip(advantages) {
            for (sum, score) in expected.iter_mut().zip(score(menu.logits, y)) {
                *sum += probability * 0.5 * ascent(log_policy[y], advantage) * score;
            }
        }
    }
    assert_close(expected, menu.gradient(), 1e-14);
}

/// Responses of two tokens: a critic that says anything of what was written so far changes nothing.
#[test]
fn whatever_the_critic_says_it_is_exact() {
    // The logits of the first token, and those of the second after either first one.
    let logits = [0.4, -0.3, 0.1, 0.6, -0.8, 0.2];
    let reference = [-0.5, 0.2, 0.0, 0.3, 0.4, -0.1];
    let rewards = [[0.5, -1.0], [0.8, 0.1]];
    let (first_value, second_values) = (0.7, [-0.4, 1.9]);

    let tokens = |logits: [f64; 6], first: usize, second: usize| {
        let after = 2 * (1 + first);
        [
            log_policy([logits[0], logits[1]])[first],
            log_policy([logits[after], logits[after + 1]])[second],
        ]
    };
    let responses = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let objective = |logits: [f64; 6]| -> f64 {
        let gain = |(first, second): (usize, usize)| {
            let policy = tokens(logits, first, second);
            let reference = tokens(reference, first, second);
            let whole = sequence_return(&policy, &reference, BETA, rewards[first][second]);
            policy.iter().sum::<f64>().exp() * whole
        };
        responses.into_iter().map(gain).sum()
    };

    let mut expected = [0.0; 6];
    for (first, second) in responses {
        let policy = tokens(logits, first, second);
        let reference = tokens(reference, first, second);
        let probability = policy.iter().sum::<f64>().exp();
        let rewards = token_rewards(&policy, &reference, BETA, rewards[first][second]);
        let values = [first_value, second_values[first]];
        let advantages = generalised_advantages(&rewards, &values, 1.0, 1.0).advantages;
        let places = [(0, first), (2 * (1 + first), second)];
        for (t, (at, token)) in places.into_iter().enumerate() {
            let score = score([logits[at], logits[at + 1]], token);
            for (j, score) in score.into_iter().enumerate() {
                expected[at + j] += probability * ascent(policy[t], advantages[t]) * score;
            }
        }
    }
    assert_close(expected, differences(objective, logits), 1e-9);
}
