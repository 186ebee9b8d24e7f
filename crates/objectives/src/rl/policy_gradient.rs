//! What the methods do in expectation: in the first epoch, with γ = λ = 1 and nothing whitened, they follow
//! the gradient of E[Σ_i λ_i r_i] − β KL(π ‖ π_ref) exactly. The responses are so few that expectations
//! are sums over all of them.

use super::{
    clipped_policy_term, generalised_advantages, leave_one_out_advantages, leave_one_out_by_token,
    scalarise, sequence_return, token_rewards,
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

/// Responses of two tokens.
struct Tree;

/// A first token, and a second one after it.
const RESPONSES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

impl Tree {
    /// The logits of the first token, and those of the second after either first one.
    const LOGITS: [f64; 6] = [0.4, -0.3, 0.1, 0.6, -0.8, 0.2];
    const REFERENCE: [f64; 6] = [-0.5, 0.2, 0.0, 0.3, 0.4, -0.1];
    /// Σ λ_i r_i of each response: the first token says much of it.
    const REWARDS: [[f64; 2]; 2] = [[2.0, 1.5], [-1.0, -1.5]];

    /// Where the logits of each token of a response stand.
    fn places((first, second): (usize, usize)) -> [(usize, usize); 2] {
        [(0, first), (2 * (1 + first), second)]
    }

    /// Log-probabilities of the tokens of a response.
    fn tokens(logits: [f64; 6], response: (usize, usize)) -> [f64; 2] {
        Self::places(response).map(|(at, token)| log_policy([logits[at], logits[at + 1]])[token])
    }

    /// The probability of a response under the policy.
    fn probability(response: (usize, usize)) -> f64 {
        Self::tokens(Self::LOGITS, response)
            .iter()
            .sum::<f64>()
            .exp()
    }

    /// What each token of a response earns.
    fn token_rewards(response: (usize, usize)) -> Vec<f64> {
        let policy = Self::tokens(Self::LOGITS, response);
        let reference = Self::tokens(Self::REFERENCE, response);
        token_rewards(
            &policy,
            &reference,
            BETA,
            Self::REWARDS[response.0][response.1],
        )
    }

    /// Adds `weight` times the ascent direction of a response to a gradient.
    fn add(gradient: &mut [f64; 6], response: (usize, usize), advantages: &[f64], weight: f64) {
        let policy = Self::tokens(Self::LOGITS, response);
        for (t, (at, token)) in Self::places(response).into_iter().enumerate() {
            let score = score([Self::LOGITS[at], Self::LOGITS[at + 1]], token);
            for (j, score) in score.into_iter().enumerate() {
                gradient[at + j] += weight * ascent(policy[t], advantages[t]) * score;
            }
        }
    }

    /// The gradient of E[r] − β KL(π ‖ π_ref).
    fn gradient() -> [f64; 6] {
        let objective = |logits: [f64; 6]| -> f64 {
            let gain = |response: (usize, usize)| {
                let policy = Self::tokens(logits, response);
                let reference = Self::tokens(Self::REFERENCE, response);
                let reward = Self::REWARDS[response.0][response.1];
                let whole = sequence_return(&policy, &reference, BETA, reward);
                policy.iter().sum::<f64>().exp() * whole
            };
            RESPONSES.into_iter().map(gain).sum()
        };
        differences(objective, Self::LOGITS)
    }
}

/// A critic that says anything of what was written so far changes nothing.
#[test]
fn whatever_the_critic_says_it_is_exact() {
    let (first_value, second_values) = (0.7, [-0.4, 1.9]);
    let mut expected = [0.0; 6];
    for response in RESPONSES {
        let rewards = Tree::token_rewards(response);
        let values = [first_value, second_values[response.0]];
        let advantages = generalised_advantages(&rewards, &values, 1.0, 1.0).advantages;
        Tree::add(
            &mut expected,
            response,
            &advantages,
            Tree::probability(response),
        );
    }
    assert_close(expected, Tree::gradient(), 1e-9);
}

/// Over all triples of samples: some share their first token with one other, with both, with none.
#[test]
fn leaving_one_out_by_token_is_exact_and_varies_less() {
    let responses = || RESPONSES.into_iter();
    let triples = responses()
        .flat_map(|a| responses().flat_map(move |b| responses().map(move |c| [a, b, c])));
    let (mut expected, mut by_token, mut by_whole) = ([0.0; 6], 0.0, 0.0);
    for triple in triples {
        let probability: f64 = triple.into_iter().map(Tree::probability).product();
        let tokens = triple.map(|(first, second)| [first as u32, second as u32]);
        let tokens: Vec<&[u32]> = tokens.iter().map(<[u32; 2]>::as_slice).collect();
        let rewards = triple.map(Tree::token_rewards);
        let returns = rewards.each_ref().map(|rewards| rewards.iter().sum());
        let squares = |advantages: &dyn Fn(usize) -> Vec<f64>| -> f64 {
            let mut gradient = [0.0; 6];
            for (k, response) in triple.into_iter().enumerate() {
                Tree::add(&mut gradient, response, &advantages(k), 1.0 / 3.0);
            }
            gradient.iter().map(|g| g * g).sum()
        };
        let of_tokens = leave_one_out_by_token(&tokens, &rewards);
        let of_wholes = leave_one_out_advantages(&returns);
        by_token += probability * squares(&|k| of_tokens[k].clone());
        by_whole += probability * squares(&|k| vec![of_wholes[k]; 2]);
        for (response, advantages) in triple.into_iter().zip(&of_tokens) {
            Tree::add(&mut expected, response, advantages, probability / 3.0);
        }
    }
    assert_close(expected, Tree::gradient(), 1e-9);
    // Of two unbiased estimates the one with the smaller square varies less. The square of the gradient itself, which
    // both have in common, is left in.
    assert!(by_token < 0.95 * by_whole, "{by_token}, {by_whole}");
}
