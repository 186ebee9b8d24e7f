//! Answers of the policy, with all that is known of them when learning begins.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use panacea_data::Example;
use panacea_model::{Decoder, PackedBatch, Request, Sampling, Sequence, Steering, StopReason};
use panacea_objectives::Preference;
use panacea_svd_lora::Adapters;

use crate::divergence::REPETITION_TOKENS;
use crate::error::TrainerError;

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
    /// r_i of each objective, as they were scored.
    pub rewards: Vec<f64>,
    /// What learning makes of them: the same, normalised and clipped where the run does so.
    pub credits: Vec<f64>,
    /// log π, as each token was drawn.
    pub old_log_probs: Vec<f64>,
    /// log π_ref.
    pub reference_log_probs: Vec<f64>,
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

impl Writing {
    /// For prompts with `prompts` others in front: the same seeds as if all were answered together.
    pub fn after(self, prompts: usize) -> Self {
        let answers = (prompts * self.samples) as u64;
        Self {
            seed: self.seed.wrapping_add(answers),
            ..self
        }
    }
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
        let adapters = Arc::new(adapters.clone());
        let mut requests = Vec::with_capacity(prompts.len() * writing.samples);
        for (example, preference) in prompts {
            for _ in 0..writing.samples {
                requests.push(Request {
                    prompt: example.prompt.clone(),
                    steering: Some(Steering {
                        adapters: Arc::clone(&adapters),
                        preference: preference.weights().to_vec(),
                    }),
                    sampling: Sampling::exact(),
                    stop: stop.to_vec(),
                    max_new_tokens: writing
                        .max_new_tokens
                        .min(model.room_after(&example.prompt)),
                    seed: writing.seed.wrapping_add(requests.len() as u64),
                    likelihoods: None,
                });
            }
        }
        let mut written = model.generate(requests)?.into_iter();
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
                        old_log_probs: generated.log_probs,
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
}

/// The answers of all rollouts, prompt by prompt.
pub fn answers<'a>(rollouts: &'a [Rollout<'_>]) -> impl Iterator<Item = &'a Answer> {
    rollouts.iter().flat_map(|rollout| &rollout.answers)
}

/// The same, to be changed.
pub fn answers_mut<'a>(rollouts: &'a mut [Rollout<'_>]) -> impl Iterator<Item = &'a mut Answer> {
    rollouts.iter_mut().flat_map(|rollout| &mut rollout.answers)
}

/// Rollouts packed for one pass: every prompt once, and behind it the responses that differ.
pub struct Pass {
    /// The tokens.
    pub batch: PackedBatch,
    /// Where among the targets the tokens of each answer stand, in the order of [`answers`]. Equal answers to a prompt
    /// share one place: its log-probabilities hold for each of them, and their coefficients are added up.
    pub places: Vec<Range<usize>>,
    /// The same for the first response of each record itself, if those are asked for.
    pub own: Vec<Range<usize>>,
}

impl Pass {
    /// Packs the answers of `rollouts`.
    pub fn new(rollouts: &[Rollout<'_>]) -> Result<Self, TrainerError> {
        Self::pack(rollouts, false)
    }

    /// Packs the answers, and behind them each record's first response, which is known to be there.
    pub fn with_own(rollouts: &[Rollout<'_>]) -> Result<Self, TrainerError> {
        Self::pack(rollouts, true)
    }

    fn pack(rollouts: &[Rollout<'_>], with_own: bool) -> Result<Self, TrainerError> {
        let mut sequences = Vec::with_capacity(rollouts.len());
        let (mut of_answers, mut of_records) = (Vec::new(), Vec::new());
        let mut first = 0;
        for rollout in rollouts {
            let mut distinct: Vec<&[u32]> = Vec::with_capacity(rollout.answers.len() + 1);
            let mut place = |tokens| {
                let known = distinct.iter().position(|&known| known == tokens);
                first
                    + known.unwrap_or_else(|| {
                        distinct.push(tokens);
                        distinct.len() - 1
                    })
            };
            of_answers.extend(rollout.answers.iter().map(|a| place(a.tokens.as_slice())));
            if with_own {
                of_records.push(place(rollout.example.responses[0].as_slice()));
            }
            first += distinct.len();
            sequences.push(Sequence {
                prompt: &rollout.example.prompt,
                responses: distinct,
                preference: rollout.preference.weights(),
            });
        }
        let batch = PackedBatch::new(&sequences)?;
        let places = |of: Vec<usize>| -> Vec<Range<usize>> {
            of.into_iter()
                .map(|i| batch.responses()[i].clone())
                .collect()
        };
        Ok(Self {
            places: places(of_answers),
            own: places(of_records),
            batch,
        })
    }
}

impl Answer {
    /// log π − log π_ref of the whole answer.
    pub fn kl(&self) -> f64 {
        let tokens = self.old_log_probs.iter().zip(&self.reference_log_probs);
        tokens.map(|(policy, reference)| policy - reference).sum()
    }

    /// The share of its 4-grams of tokens that have stood in it before; `None` for a short answer.
    pub fn repetition(&self) -> Option<f64> {
        if self.tokens.len() < REPETITION_TOKENS {
            return None;
        }
        let all = self.tokens.windows(4);
        let distinct: HashSet<&[u32]> = all.clone().collect();
        Some(1.0 - distinct.len() as f64 / all.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use panacea_pretrained::Pretrained;
    use panacea_svd_lora::SvdLoraConfig;
    use panacea_test_support::TinyModel;

    use super::*;

    fn example(responses: Vec<Vec<u32>>) -> Example {
        Example {
            source: panacea_data::Source {
                file: "prompts".into(),
                line: 1,
            },
            prompt: vec![1, 2],
            responses,
            judgements: Vec::new(),
            scores: Vec::new(),
            words: panacea_data::Words::default(),
        }
    }

    fn answer(tokens: &[u32]) -> Answer {
        Answer {
            tokens: tokens.to_vec(),
            ..Answer::default()
        }
    }

    #[test]
    fn repetition_is_the_share_of_4_grams_seen_before() {
        let counting: Vec<u32> = (0..20).collect();
        assert_eq!(answer(&counting).repetition(), Some(0.0));
        assert_eq!(answer(&counting[..15]).repetition(), None);
        // 17 windows of four, one of them new.
        assert_eq!(answer(&[7; 20]).repetition(), Some(16.0 / 17.0));
        // 13 windows, four of them new.
        let round: Vec<u32> = (0..16).map(|i| i % 4).collect();
        assert_eq!(answer(&round).repetition(), Some(9.0 / 13.0));
    }

    /// Where several tokens end an answer, the one that was drawn is kept, with its own log-probability, and no other stands
    /// within an answer. An answer that reaches its length has none.
    #[test]
    fn an_answer_ends_with_the_stop_token_that_was_drawn() {
        const STOP: [u32; 2] = [1, 4];
        let config = serde_json::json!({
            "model_type": "llama", "vocab_size": 6, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
            "hidden_act": "silu", "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": STOP
        });
        let folder = tempfile::tempdir().unwrap();
        TinyModel::well_behaved(config, 0.3).write_without_tokenizer(folder.path());
        let pretrained = Pretrained::open(folder.path()).unwrap();
        let model = Decoder::load(&pretrained, &panacea_devices::of_environment()).unwrap();
        let config = SvdLoraConfig {
            base_model: "tiny".into(),
            base_fingerprint: "fingerprint".into(),
            rank: 2,
            objectives: vec!["a".into(), "b".into()],
            alpha: 8.0,
            target_modules: vec!["q_proj".into()],
        };
        let shapes = model.adapted_shapes(&config.target_modules).unwrap();
        let mut adapters = Adapters::init(config, &shapes, 0.5, 7, model.device());
        for factors in adapters.factors.0.values_mut() {
            factors.s = factors.s.ones_like();
        }
        let (example, preference) = (example(Vec::new()), Preference::uniform(2));
        let writing = Writing {
            samples: 100,
            max_new_tokens: 3,
            seed: 5,
        };
        let prompts = [(&example, &preference)];
        let rollouts = Rollout::write(&model, &adapters, &prompts, writing, &STOP).unwrap();
        let pass = Pass::new(&rollouts).unwrap();
        let read = model.log_probs(&pass.batch, Some(&adapters)).unwrap();
        let mut ends = [0; 3];
        for (answer, place) in answers(&rollouts).zip(pass.places) {
            let (last, before) = answer.tokens.split_last().unwrap();
            assert!(before.iter().all(|token| !STOP.contains(token)));
            let end = STOP.iter().position(|stop| stop == last).unwrap_or(2);
            ends[end] += 1;
            assert!(end < 2 || answer.tokens.len() == 3, "{:?}", answer.tokens);
            assert_eq!(answer.old_log_probs.len(), answer.tokens.len());
            for (written, read) in answer.old_log_probs.iter().zip(&read[place]) {
                assert!((written - read).abs() < 1e-4, "{written} against {read}");
            }
        }
        assert!(ends.iter().all(|&count| count > 5), "{ends:?}");
    }

    #[test]
    fn equal_answers_to_a_prompt_are_packed_once() {
        let examples = [example(vec![vec![5, 6]]), example(vec![vec![8]])];
        let preference = Preference::uniform(2);
        let rollout = |example, answers: &[&[u32]]| Rollout {
            example,
            preference: &preference,
            answers: answers.iter().map(|tokens| answer(tokens)).collect(),
        };
        let rollouts = [
            rollout(&examples[0], &[&[5, 6], &[7], &[5, 6]]),
            rollout(&examples[1], &[&[5, 6]]),
        ];
        let pass = Pass::new(&rollouts).unwrap();
        assert_eq!(pass.places, [0..2, 2..3, 0..2, 3..5]);
        assert_eq!(pass.batch.targets(), 5);
        assert!(pass.own.is_empty());
        let pass = Pass::with_own(&rollouts).unwrap();
        assert_eq!(pass.places, [0..2, 2..3, 0..2, 3..5]);
        assert_eq!(pass.own, [0..2, 5..6]);
        assert_eq!(pass.batch.targets(), 6);
    }
}
