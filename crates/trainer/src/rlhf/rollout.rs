//! Answers of the policy, with all that is known of them when learning begins.

use panacea_data::Example;
use panacea_model::{Decoder, GenerateRequest, PackedBatch, Sampling, Sequence, StopReason};
use panacea_objectives::Preference;
use panacea_svd_lora::Adapters;

use crate::TrainerError;

/// The answers to one prompt, under one λ.
#[derive(Debug, Clone)]
pub struct Rollout<'a> {
    /// The record of the prompt.
    pub example: &'a Example,
    /// The λ that the answers were written under, and learn under.
    pub preference: &'a Preference,
    /// The answers; each ends with a stop token, unless it was cut.
    pub answers: Vec<Answer>,
}

/// One answer. Lists have an entry a token.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// r_i of each objective.
    pub rewards: Vec<f64>,
    /// log π when it was written.
    pub policy: Vec<f64>,
    /// log π_ref.
    pub reference: Vec<f64>,
    /// What the critic expected before each token; empty without a critic.
    pub values: Vec<f64>,
    /// How much better each token was than expected.
    pub advantages: Vec<f64>,
    /// What the critic should have expected; empty without a critic.
    pub returns: Vec<f64>,
}

/// How answers are written.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    /// Answers to a prompt.
    pub samples: usize,
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// The seed of the step.
    pub seed: u64,
}

impl<'a> Rollout<'a> {
    /// Has every prompt answered under its λ, from the policy as it is: temperature 1, nothing cut off.
    pub fn write(
        model: &Decoder,
        adapters: &Adapters,
        prompts: &[(&'a Example, &'a Preference)],
        writing: Writing,
        stop: &[u32],
    ) -> Result<Vec<Self>, TrainerError> {
        let mut requests = Vec::with_capacity(prompts.len() * writing.samples);
        for (example, preference) in prompts {
            for _ in 0..writing.samples {
                requests.push(GenerateRequest {
                    prompt: &example.prompt,
                    preference: preference.weights(),
                    max_new_tokens: writing
                        .max_new_tokens
                        .min(model.room_after(&example.prompt)),
                    seed: writing.seed.wrapping_add(requests.len() as u64),
                });
            }
        }
        let mut written = model
            .generate(&requests, Some(adapters), &Sampling::exact(), stop)?
            .into_iter();
        let mut answers = || {
            let answers = written.by_ref().take(writing.samples);
            answers
                .map(|generated| {
                    let mut tokens = generated.tokens;
                    if let StopReason::Stop(token) = generated.reason {
                        tokens.push(token);
                    }
                    Answer {
                        tokens,
                        ..Answer::default()
                    }
                })
                .collect()
        };
        Ok(prompts
            .iter()
            .map(|&(example, preference)| Self {
                example,
                preference,
                answers: answers(),
            })
            .collect())
    }

    /// Gives every token of answer k the advantage `of_answers[k]`.
    pub fn spread(&mut self, of_answers: &[f64]) {
        for (answer, &advantage) in self.answers.iter_mut().zip(of_answers) {
            answer.advantages = vec![advantage; answer.tokens.len()];
        }
    }

    /// The prompt once, and the answers behind it.
    pub fn sequence(&self) -> Sequence<'_> {
        Sequence {
            prompt: &self.example.prompt,
            responses: self.answers.iter().map(|a| a.tokens.as_slice()).collect(),
            preference: self.preference.weights(),
        }
    }
}

/// The answers of all rollouts, in the order in which a packed batch of them has its responses.
pub fn answers<'a>(rollouts: &'a [Rollout<'_>]) -> impl Iterator<Item = &'a Answer> {
    rollouts.iter().flat_map(|rollout| &rollout.answers)
}

/// The same, to be changed.
pub fn answers_mut<'a>(rollouts: &'a mut [Rollout<'_>]) -> impl Iterator<Item = &'a mut Answer> {
    rollouts.iter_mut().flat_map(|rollout| &mut rollout.answers)
}

/// All rollouts in one pass.
pub fn pack(rollouts: &[Rollout<'_>]) -> Result<PackedBatch, TrainerError> {
    let sequences: Vec<Sequence<'_>> = rollouts.iter().map(Rollout::sequence).collect();
    Ok(PackedBatch::new(&sequences)?)
}
