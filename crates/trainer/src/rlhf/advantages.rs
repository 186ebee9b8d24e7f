//! The advantage of each token of an answer, and the policy's loss at that token.

use panacea_config::{Advantages, Rlhf};
use panacea_objectives::{
    PolicyTerm, clipped_policy_term, generalised_advantages, group_relative_advantages,
    kl_estimate, leave_one_out_by_token, scalarise, token_rewards,
};

use crate::rlhf::rollout::{Answer, Rollout};

/// Advantages, and with a critic returns, from rewards, log-probabilities and values.
pub fn estimate_advantages(rlhf: &Rlhf, rollouts: &mut [Rollout<'_>]) {
    for rollout in rollouts {
        match rlhf.advantages {
            Advantages::Gae { gamma, lambda, .. } => {
                let rewards = token_rewards_of(rlhf, rollout);
                for (answer, rewards) in rollout.answers.iter_mut().zip(rewards) {
                    let estimate = generalised_advantages(&rewards, &answer.values, gamma, lambda);
                    answer.advantages = estimate.advantages;
                    answer.returns = estimate.returns;
                }
            }
            Advantages::Rloo => {
                let rewards = token_rewards_of(rlhf, rollout);
                let tokens = rollout.answers.iter().map(|a| a.tokens.as_slice());
                let tokens: Vec<&[u32]> = tokens.collect();
                let advantages = leave_one_out_by_token(&tokens, &rewards);
                for (answer, advantages) in rollout.answers.iter_mut().zip(advantages) {
                    answer.advantages = advantages;
                }
            }
            Advantages::Grpo => {
                let rewards = rollout.answers.iter().map(|a| a.credits.clone());
                let rewards: Vec<Vec<f64>> = rewards.collect();
                rollout.spread(&group_relative_advantages(rollout.preference, &rewards));
            }
        }
    }
}

/// The reward of each token of each answer: the price of leaving the reference, and at the end what it scored.
fn token_rewards_of(rlhf: &Rlhf, rollout: &Rollout<'_>) -> Vec<Vec<f64>> {
    let of = |answer: &Answer| {
        let reward = scalarise(rollout.preference, &answer.credits);
        token_rewards(&answer.policy, &answer.reference, rlhf.beta, reward)
    };
    rollout.answers.iter().map(of).collect()
}

/// The policy's loss at one token of an answer, whose log π is `now`. GRPO has the KL penalty here, the others in
/// their rewards.
pub fn token_term(rlhf: &Rlhf, answer: &Answer, token: usize, now: f64) -> PolicyTerm {
    let advantage = answer.advantages[token];
    let mut term = clipped_policy_term(now, answer.policy[token], advantage, rlhf.clip);
    if rlhf.advantages == Advantages::Grpo {
        let kl = kl_estimate(now, answer.reference[token]);
        term.loss += rlhf.beta * kl.k3;
        term.d_policy += rlhf.beta * kl.d_k3;
    }
    term
}
