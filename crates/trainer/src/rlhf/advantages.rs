//! The advantage of each token of an answer, and the policy's loss at that token.

use panacea_config::{Advantages, Rlhf};
use panacea_objectives::{
    PolicyTerm, clipped_policy_term, decoupled_group_advantages, generalised_advantages,
    group_relative_advantages, kl_estimate, leave_one_out_by_token, scalarise, token_rewards,
    whiten,
};

use crate::rlhf::rollout::{Answer, Rollout, answers_mut};

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
            Advantages::Grpo => rollout.spread(&group_relative_advantages(
                rollout.preference,
                &credits(rollout),
            )),
            Advantages::Gdpo { .. } => rollout.spread(&decoupled_group_advantages(
                rollout.preference,
                &credits(rollout),
            )),
        }
    }
}

/// Whitens the advantages of all answers of a step, where the method does so.
pub fn whiten_advantages(rlhf: &Rlhf, rollouts: &mut [Rollout<'_>]) {
    match rlhf.advantages {
        Advantages::Gae { whiten: true, .. } => {
            let all = answers_mut(rollouts).map(|answer| answer.advantages.as_mut_slice());
            whiten(&mut all.collect::<Vec<_>>(), false);
        }
        // One number an answer: a long one must not count more often than a short one.
        Advantages::Gdpo { whiten: true } => {
            let answers = answers_mut(rollouts).filter(|answer| !answer.advantages.is_empty());
            let mut answers: Vec<&mut Answer> = answers.collect();
            let mut of_each: Vec<f64> = answers.iter().map(|a| a.advantages[0]).collect();
            whiten(&mut [&mut of_each], false);
            for (answer, advantage) in answers.iter_mut().zip(of_each) {
                answer.advantages.fill(advantage);
            }
        }
        Advantages::Gae { .. } | Advantages::Rloo | Advantages::Grpo | Advantages::Gdpo { .. } => {}
    }
}

/// What the answers to a prompt are worth, objective by objective.
fn credits(rollout: &Rollout<'_>) -> Vec<Vec<f64>> {
    let credits = rollout.answers.iter().map(|a| a.credits.clone());
    credits.collect()
}

/// The reward of each token of each answer: the price of leaving the reference, and at the end what it scored.
fn token_rewards_of(rlhf: &Rlhf, rollout: &Rollout<'_>) -> Vec<Vec<f64>> {
    let of = |answer: &Answer| {
        let reward = scalarise(rollout.preference, &answer.credits);
        token_rewards(
            &answer.old_log_probs,
            &answer.reference_log_probs,
            rlhf.beta,
            reward,
        )
    };
    rollout.answers.iter().map(of).collect()
}

/// The policy's loss at one token of an answer, whose log π is `now`. GRPO and GDPO have the KL penalty here, the others
/// in their rewards.
pub fn token_term(rlhf: &Rlhf, answer: &Answer, token: usize, now: f64) -> PolicyTerm {
    let advantage = answer.advantages[token];
    let mut term = clipped_policy_term(now, answer.old_log_probs[token], advantage, rlhf.clip);
    if let Advantages::Grpo | Advantages::Gdpo { .. } = rlhf.advantages {
        let kl = kl_estimate(now, answer.reference_log_probs[token]);
        term.loss += rlhf.beta * kl.k3;
        term.d_policy += rlhf.beta * kl.d_k3;
    }
    term
}

#[cfg(test)]
mod tests {
    use panacea_config::{Learning, Overrides, Plan, Spec};
    use panacea_data::{Example, Source, Words};
    use panacea_objectives::Preference;

    use super::*;

    fn rlhf(keys: &str) -> Rlhf {
        let text = format!(
            "model = {{ path = 'm' }}\ndata = {{ train = 't' }}\nmethod = {{ loss = 'rlhf' }}\n\
             rlhf = {{ {keys} }}\n\
             objective = [{{ name = 'a', reward = {{ rule = 'conciseness' }} }}, {{ name = 'b', reward = {{ rule = 'keywords', words = ['x'] }} }}]"
        );
        let spec = Spec::from_toml(&text, "test.toml");
        let plan = Plan::resolve(spec, &Overrides::default()).unwrap();
        match &plan.method().learning {
            Learning::Rlhf(rlhf) => rlhf.clone(),
            Learning::Supervised(_) => panic!("it learns from rewards"),
        }
    }

    fn answer(tokens: usize, credits: [f64; 2]) -> Answer {
        Answer {
            tokens: vec![5; tokens],
            credits: credits.to_vec(),
            ..Answer::default()
        }
    }

    fn example() -> Example {
        Example {
            source: Source {
                file: "prompts".into(),
                line: 1,
            },
            prompt: vec![1],
            responses: Vec::new(),
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        }
    }

    /// Two prompts with two answers each. With λ = (½, ½), A = ±0.5 √½ to the first, where one objective differs, and twice
    /// that to the second, where both do (1e-4 aside). Σ A² = 1.25, three of four numbers are free: deviation √(1.25 / 3).
    #[test]
    fn gdpo_whitens_answers_whatever_their_length() {
        let (example, half) = (example(), Preference::uniform(2));
        let rollout = |answers: [Answer; 2]| Rollout {
            example: &example,
            preference: &half,
            answers: answers.into(),
        };
        let mut rollouts = [
            rollout([answer(3, [0.0, 1.0]), answer(1, [1.0, 1.0])]),
            rollout([answer(7, [9.0, 0.0]), answer(2, [2.0, -4.0])]),
        ];
        let rlhf = rlhf("advantages = 'gdpo'");
        estimate_advantages(&rlhf, &mut rollouts);
        whiten_advantages(&rlhf, &mut rollouts);
        let unit = 0.5 * 0.5_f64.sqrt() / (1.25_f64 / 3.0).sqrt();
        let expected = [-unit, unit, 2.0 * unit, -2.0 * unit];
        for (answer, expected) in rollouts.iter().flat_map(|r| &r.answers).zip(expected) {
            assert_eq!(answer.advantages.len(), answer.tokens.len());
            for found in &answer.advantages {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{found} against {expected}"
                );
            }
        }
    }
}
