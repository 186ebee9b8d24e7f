//! Reinforcement learning from rewards: the policy answers, scorers score, and the policy moves towards what scored.
//!
//! A step, as in the paper's RLHF with linear scalarisation:
//!
//! ```text
//! draw prompts and λ;  answer every prompt under its λ;  score: r_i of every answer
//! R = Σ λ_i r_i at an answer's last token, −β (log π − log π_ref) at every token (GRPO: β·k3 in the loss instead)
//! advantages: by a critic that sees λ (GAE), or by the other answers to the same prompt (RLOO, GRPO)
//! a few epochs on these answers: the clipped policy loss, and the critic's clipped squares
//! ```
//!
//! λ is drawn before the answers are, and stays theirs. Reference, policy and critic are one set of base weights: the
//! reference has no adapter, and the critic one of its own.

mod critic;
mod rollout;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use panacea_data::{BoxError, Example, Source};
use panacea_objectives::{
    PolicyTerm, Preference, clipped_policy_term, clipped_value_term, explained_variance,
    generalised_advantages, group_relative_advantages, kl_estimate, leave_one_out_advantages,
    scalarise, sequence_return, token_rewards, whiten,
};
use panacea_rewards::{KnownResponse, Sample, Scorers};
use panacea_svd_lora::FactorSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::metrics::{ObjectiveMetrics, RlhfMetrics};
use crate::training::{Stepped, Training, TrainingState};
use crate::{Collapse, TrainerError};

pub use critic::Critic;
pub use rollout::{Answer, Rollout};
use rollout::{Writing, answers, answers_mut, pack};

/// The stream of the answers' random numbers.
const ANSWER_STREAM: u64 = 2 << 32;

/// Settings of reinforcement learning.
#[derive(Debug, Clone, PartialEq)]
pub struct Rlhf {
    /// β, the price of a nat of KL from the reference.
    pub beta: f64,
    /// How an answer's reward becomes what each token is to be made likelier by.
    pub advantages: Advantages,
    /// Answers to each prompt of a batch.
    pub samples: usize,
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// Updates on the answers of a step.
    pub epochs: usize,
    /// How far a probability may move from where it was when the answers were written, as a ratio.
    pub clip: f64,
    /// KL of an answer from the reference, in nats, beyond which the run is stopped as collapsed.
    pub max_kl: f64,
}

/// Where advantages come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantages {
    /// From a critic, by generalised advantage estimation.
    Gae {
        /// The discount of later rewards.
        gamma: f64,
        /// λ of GAE: 1 trusts the rewards alone, 0 the critic's next value.
        lambda: f64,
        /// How far a value may move from where it was.
        value_clip: f64,
        /// Whether the advantages of a batch are brought to mean 0 and deviation 1.
        whiten: bool,
        /// The critic's learning rate.
        learning_rate: f64,
    },
    /// From the mean of the other answers to the same prompt (Ahmadian et al., 2024).
    Rloo,
    /// From mean and deviation of all answers to the same prompt (Shao et al., 2024).
    Grpo,
}

/// What scores the answers, and what turns tokens into the words that are scored.
pub struct Judges<'a> {
    /// One for each objective.
    pub scorers: Mutex<Scorers>,
    /// The name of the record's own score that each objective looks up, if it does.
    pub own_scores: Vec<Option<String>>,
    /// The prompts of the training records in words.
    pub prompts: HashMap<Source, String>,
    /// From tokens to words.
    pub decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
    /// Tokens that end an answer.
    pub stop: &'a [u32],
}

impl Training<'_> {
    /// One step of reinforcement learning on the prompts of `records`, which are dealt to `preferences`.
    pub(crate) fn rlhf_step(
        &self,
        state: &mut TrainingState,
        rlhf: &Rlhf,
        records: &[&Example],
        preferences: &[Preference],
        factor: f64,
    ) -> Result<Stepped, TrainerError> {
        let step = state.step + 1;
        let judges = self.judges.ok_or(TrainerError::NoJudges)?;
        let prompts: Vec<(&Example, &Preference)> = records
            .iter()
            .zip(preferences.iter().cycle())
            .map(|(&example, preference)| (example, preference))
            .collect();
        let writing = Writing {
            samples: rlhf.samples,
            max_new_tokens: rlhf.max_new_tokens,
            seed: self.answer_seed(state.step),
        };
        let adapters = &state.adapters;
        let mut rollouts = Rollout::write(self.model, adapters, &prompts, writing, judges.stop)?;
        let scored = judges.score(&written(&rollouts))?;
        for (answer, scored) in answers_mut(&mut rollouts).zip(scored) {
            answer.rewards = scored.rewards;
        }
        self.measure(state, &mut rollouts)?;
        rlhf.estimate_advantages(&mut rollouts);
        rlhf.check_kl(step, &rollouts)?;

        let share = 1.0 / answers(&rollouts).count() as f64;
        let (mut clipped, mut grad_norm, mut tokens, mut loss) = (0, 0.0, 0, 0.0);
        for epoch in 1..=rlhf.epochs {
            let update = state.step * rlhf.epochs + epoch;
            let mut gradients = FactorSet::default();
            let mut critic_gradients = FactorSet::default();
            (clipped, loss) = (0, 0.0);
            for micro in rollouts.chunks(self.plan.optimizer().micro_batch_size) {
                let batch = pack(micro)?;
                tokens += batch.rows();
                let memory = self.memory_for(batch.rows());
                let forward = self.model.forward(&batch, &state.adapters, memory)?;
                let mut coefficients = Vec::with_capacity(forward.log_probs.len());
                let mut now = forward.log_probs.iter();
                for answer in answers(micro) {
                    for token in 0..answer.tokens.len() {
                        let now = now.next().expect("there is one for each token");
                        let term = rlhf.token_term(answer, token, *now);
                        clipped += usize::from(term.clipped);
                        loss += share * term.loss;
                        coefficients.push(share * term.d_policy);
                    }
                }
                let tape = forward.tape;
                gradients.add(
                    self.model
                        .backward(&batch, &state.adapters, tape, &coefficients)?,
                );
                if let (Some(critic), Advantages::Gae { value_clip, .. }) =
                    (&state.critic, rlhf.advantages)
                {
                    let slopes = |values: &[f64]| value_slopes(micro, values, value_clip, share);
                    critic_gradients.add(critic.gradient(self.model, &batch, memory, slopes)?);
                }
            }
            grad_norm = self.apply(state, gradients, step, update, factor)?;
            if let Some(critic) = &mut state.critic {
                self.clip_norm(&mut critic_gradients);
                critic.update(&critic_gradients, update, factor);
            }
        }
        let count = answers(&rollouts).map(|a| a.tokens.len()).sum::<usize>();
        Ok(Stepped {
            objectives: self.reward_metrics(&rollouts, preferences),
            aggregate: loss,
            grad_norm,
            tokens,
            rlhf: Some(rlhf_metrics(
                &rollouts,
                clipped as f64 / count.max(1) as f64,
            )),
        })
    }

    /// The seed of a step's answers, from the run's seed and the steps that are finished.
    fn answer_seed(&self, finished: usize) -> u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.plan.seed());
        rng.set_stream(ANSWER_STREAM + finished as u64);
        rng.random()
    }

    /// log π, log π_ref and values of every token of every answer.
    fn measure(
        &self,
        state: &TrainingState,
        rollouts: &mut [Rollout<'_>],
    ) -> Result<(), TrainerError> {
        for micro in rollouts.chunks_mut(self.plan.optimizer().micro_batch_size) {
            let batch = pack(micro)?;
            let policy = self.model.log_probs(&batch, Some(&state.adapters))?;
            let reference = self.model.log_probs(&batch, None)?;
            let values = match &state.critic {
                Some(critic) => Some(critic.values(self.model, &batch)?),
                None => None,
            };
            let ranges: Vec<_> = batch.responses().to_vec();
            for (answer, range) in answers_mut(micro).zip(ranges) {
                answer.policy = policy[range.clone()].to_vec();
                answer.reference = reference[range.clone()].to_vec();
                answer.values = (values.as_ref()).map_or_else(Vec::new, |v| v[range].to_vec());
            }
        }
        Ok(())
    }

    fn reward_metrics(
        &self,
        rollouts: &[Rollout<'_>],
        preferences: &[Preference],
    ) -> Vec<ObjectiveMetrics> {
        let names = self.plan.objective_names().into_iter().enumerate();
        let metrics = |(i, name): (usize, String)| {
            let of = |rollout: &Rollout<'_>| -> Vec<[f64; 2]> {
                let weight = rollout.preference.weights()[i];
                rollout
                    .answers
                    .iter()
                    .map(|a| [weight, a.rewards[i]])
                    .collect()
            };
            let pairs: Vec<[f64; 2]> = rollouts.iter().flat_map(of).collect();
            let weights = preferences.iter().map(|p| p.weights()[i]);
            ObjectiveMetrics {
                name,
                weight: weights.sum::<f64>() / preferences.len() as f64,
                labelled: pairs.len(),
                reward: Some(mean(pairs.iter().map(|[_, reward]| *reward))),
                reward_by_lambda: correlation(&pairs),
                ..ObjectiveMetrics::default()
            }
        };
        names.map(metrics).collect()
    }
}

impl Rlhf {
    fn estimate_advantages(&self, rollouts: &mut [Rollout<'_>]) {
        match self.advantages {
            Advantages::Gae {
                gamma,
                lambda,
                whiten: is_whitened,
                ..
            } => {
                for rollout in rollouts.iter_mut() {
                    let preference = rollout.preference;
                    for answer in &mut rollout.answers {
                        let reward = scalarise(preference, &answer.rewards);
                        let (policy, reference) = (&answer.policy, &answer.reference);
                        let rewards = token_rewards(policy, reference, self.beta, reward);
                        let estimate =
                            generalised_advantages(&rewards, &answer.values, gamma, lambda);
                        answer.advantages = estimate.advantages;
                        answer.returns = estimate.returns;
                    }
                }
                if is_whitened {
                    let mut all: Vec<&mut [f64]> = answers_mut(rollouts)
                        .map(|answer| answer.advantages.as_mut_slice())
                        .collect();
                    whiten(&mut all, false);
                }
            }
            Advantages::Rloo => {
                for rollout in rollouts.iter_mut() {
                    let preference = rollout.preference;
                    let total = |answer: &Answer| {
                        let reward = scalarise(preference, &answer.rewards);
                        sequence_return(&answer.policy, &answer.reference, self.beta, reward)
                    };
                    let returns: Vec<f64> = rollout.answers.iter().map(total).collect();
                    rollout.spread(&leave_one_out_advantages(&returns));
                }
            }
            Advantages::Grpo => {
                for rollout in rollouts.iter_mut() {
                    let rewards = rollout.answers.iter().map(|a| a.rewards.clone());
                    let rewards: Vec<Vec<f64>> = rewards.collect();
                    rollout.spread(&group_relative_advantages(rollout.preference, &rewards));
                }
            }
        }
    }

    /// The policy's loss at one token of an answer, whose log π is `now`. GRPO has the KL penalty here, the others in
    /// their rewards.
    fn token_term(&self, answer: &Answer, token: usize, now: f64) -> PolicyTerm {
        let advantage = answer.advantages[token];
        let mut term = clipped_policy_term(now, answer.policy[token], advantage, self.clip);
        if self.advantages == Advantages::Grpo {
            let kl = kl_estimate(now, answer.reference[token]);
            term.loss += self.beta * kl.k3;
            term.d_policy += self.beta * kl.d_k3;
        }
        term
    }

    fn check_kl(&self, step: usize, rollouts: &[Rollout<'_>]) -> Result<(), Collapse> {
        let kl = mean(answers(rollouts).map(Answer::kl));
        if kl <= self.max_kl {
            return Ok(());
        }
        Err(Collapse {
            step,
            kl,
            limit: self.max_kl,
        })
    }
}

impl Answer {
    /// log π − log π_ref of the whole answer.
    pub fn kl(&self) -> f64 {
        let tokens = self.policy.iter().zip(&self.reference);
        tokens.map(|(policy, reference)| policy - reference).sum()
    }
}

/// An answer in words, with r_i of each objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The words.
    pub text: String,
    /// The rewards.
    pub rewards: Vec<f64>,
}

impl Judges<'_> {
    /// Scores answers, each given with the record whose prompt it answers.
    pub fn score(&self, answers: &[(&Example, &[u32])]) -> Result<Vec<Scored>, TrainerError> {
        // The words first, since samples borrow them.
        let mut texts = Vec::with_capacity(answers.len());
        let mut records: HashMap<&Source, (String, Vec<KnownResponse>)> = HashMap::new();
        for (example, tokens) in answers {
            texts.push((self.decode)(tokens).map_err(TrainerError::Decode)?);
            if !records.contains_key(&example.source) {
                let known = self.known_responses(example)?;
                records.insert(&example.source, (example.source.to_string(), known));
            }
        }
        let sample = |((example, tokens), text)| -> Sample<'_> {
            let (example, tokens): (&Example, &[u32]) = (example, tokens);
            let (origin, known) = &records[&example.source];
            Sample {
                prompt: &self.prompts[&example.source],
                response: text,
                response_tokens: tokens.len(),
                reference: known.first().map(|response| response.text.as_str()),
                known,
                origin,
            }
        };
        let samples: Vec<Sample<'_>> = (answers.iter().copied())
            .zip(texts.iter().map(String::as_str))
            .map(sample)
            .collect();
        let mut scorers = (self.scorers.lock()).expect("nothing panics while it scores");
        let rewards = scorers.score(&samples)?;
        let rewards = (0..answers.len())
            .map(|index| rewards.iter().map(|of_scorer| of_scorer[index]).collect());
        let rewards: Vec<Vec<f64>> = rewards.collect();
        let scored = texts.into_iter().zip(rewards);
        Ok(scored
            .map(|(text, rewards)| Scored { text, rewards })
            .collect())
    }

    /// The record's own responses, with its scores of them.
    fn known_responses(&self, example: &Example) -> Result<Vec<KnownResponse>, TrainerError> {
        let mut known = Vec::with_capacity(example.responses.len());
        for tokens in &example.responses {
            known.push(KnownResponse {
                text: (self.decode)(tokens).map_err(TrainerError::Decode)?,
                scores: BTreeMap::new(),
            });
        }
        for judgement in &example.judgements {
            let scores = &mut known[judgement.response].scores;
            for (name, score) in self.own_scores.iter().zip(&judgement.labels) {
                if let (Some(name), Some(score)) = (name, score) {
                    scores.insert(name.clone(), *score);
                }
            }
        }
        Ok(known)
    }
}

/// Every answer with its record.
fn written<'a>(rollouts: &'a [Rollout<'_>]) -> Vec<(&'a Example, &'a [u32])> {
    let of = |rollout: &'a Rollout<'_>| {
        let tokens = rollout
            .answers
            .iter()
            .map(|answer| answer.tokens.as_slice());
        tokens.map(|tokens| (rollout.example, tokens))
    };
    rollouts.iter().flat_map(of).collect()
}

/// The slopes of the critic's loss at the values of all answers.
fn value_slopes(rollouts: &[Rollout<'_>], values: &[f64], clip: f64, share: f64) -> Vec<f64> {
    let mut values = values.iter();
    let mut slopes = Vec::with_capacity(values.len());
    for answer in answers(rollouts) {
        for (old, target) in answer.values.iter().zip(&answer.returns) {
            let value = values.next().expect("there is one for each token");
            let term = clipped_value_term(*value, *old, *target, clip);
            slopes.push(share * term.d_value);
        }
    }
    slopes
}

fn rlhf_metrics(rollouts: &[Rollout<'_>], clip_fraction: f64) -> RlhfMetrics {
    let tokens = || answers(rollouts).flat_map(|a| a.policy.iter());
    let flat = |of: fn(&Answer) -> &[f64]| -> Vec<f64> {
        answers(rollouts)
            .flat_map(|a| of(a).iter().copied())
            .collect()
    };
    let returns = flat(|a| &a.returns);
    RlhfMetrics {
        kl: mean(answers(rollouts).map(Answer::kl)),
        entropy: mean(tokens().map(|log_prob| -log_prob)),
        answer_tokens: mean(answers(rollouts).map(|a| a.tokens.len() as f64)),
        clip_fraction,
        explained_variance: explained_variance(&flat(|a| &a.values), &returns),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// Pearson's correlation of the two columns; `None` where one of them does not vary.
fn correlation(pairs: &[[f64; 2]]) -> Option<f64> {
    let means = [0, 1].map(|column| mean(pairs.iter().map(|pair| pair[column])));
    let sum = |a: usize, b: usize| -> f64 {
        let product = |pair: &[f64; 2]| (pair[a] - means[a]) * (pair[b] - means[b]);
        pairs.iter().map(product).sum()
    };
    let spread = (sum(0, 0) * sum(1, 1)).sqrt();
    (spread > 1e-12).then(|| sum(0, 1) / spread)
}
