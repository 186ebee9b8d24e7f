//! Answers to one prompt that are compared.

use std::collections::HashSet;

use panacea_elicit::{Candidate, Session, ranges, spread_preferences};
use panacea_methods::Served;
use panacea_model::{Decoder, Request, Sampling, StopReason};
use panacea_objectives::Preference;
use panacea_pretrained::{ChatTokenizer, JsonObject, Message};
use panacea_serving::Policy;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use crate::error::InterviewError;

/// What is asked of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// As a conversation.
    pub messages: Vec<Message>,
    /// What the chat template sees beside it, such as `tools`.
    pub variables: JsonObject,
    /// As the model reads it.
    pub tokens: Vec<u32>,
}

/// An answer of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenAnswer {
    /// The λ that it was written at.
    pub preference: Preference,
    /// The words.
    pub text: String,
    /// Its tokens, at least one: the one that ends the turn too, where the model drew it.
    pub tokens: Vec<u32>,
}

/// Different answers to one prompt, with their scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    prompt: Prompt,
    answers: Vec<WrittenAnswer>,
    candidates: Vec<Candidate>,
}

/// `count` preferences at which to write the answers to the next prompt of a session: spread over the simplex, and different for
/// every question.
#[must_use]
pub fn spread(session: &Session, count: usize) -> Vec<Preference> {
    let mut rng = ChaCha8Rng::seed_from_u64(session.header().seed);
    // No stream that the session draws its questions from.
    rng.set_stream(u64::MAX - session.entries().len() as u64);
    spread_preferences(session.belief().objectives(), count, &mut rng)
}

/// How answers are written.
#[derive(Debug, Clone)]
pub struct Writing {
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The seed of the first answer; the others count up from it.
    pub seed: u64,
}

impl Writing {
    /// How answers that are compared are written: at a temperature, 0 being the likeliest token always, and without the least
    /// likely twentieth.
    #[must_use]
    pub fn new(max_new_tokens: usize, temperature: f64, seed: u64) -> Self {
        Self {
            max_new_tokens,
            sampling: Sampling {
                repetition_penalty: 1.0,
                temperature,
                top_k: 0,
                top_p: if temperature == 0.0 { 1.0 } else { 0.95 },
            },
            seed,
        }
    }
}

/// Answers of a run to a prompt, one at each preference, written in one batch.
///
/// # Errors
/// When the prompt leaves no room for an answer, or the run cannot be served.
pub fn write_answers(
    decoder: &Decoder,
    tokenizer: &ChatTokenizer,
    policy: &Policy,
    prompt: &Prompt,
    preferences: &[Preference],
    writing: &Writing,
) -> Result<Vec<WrittenAnswer>, InterviewError> {
    let mut requests = Vec::with_capacity(preferences.len());
    for (preference, index) in preferences.iter().zip(0..) {
        let Served::Adapter(steering) = policy.serve(preference)?;
        requests.push(Request {
            prompt: prompt.tokens.clone(),
            steering: Some(steering),
            sampling: writing.sampling.clone(),
            stop: tokenizer.stop_ids().to_vec(),
            max_new_tokens: writing
                .max_new_tokens
                .min(decoder.room_after(&prompt.tokens)),
            seed: writing.seed.wrapping_add(index),
            likelihoods: None,
        });
    }
    let answers = decoder.generate(requests)?;
    let answers = answers.into_iter().zip(preferences);
    answers
        .map(|(answer, preference)| {
            let mut tokens = answer.tokens;
            let text = tokenizer.decode(&tokens, true)?;
            if let StopReason::Stop(token) = answer.reason {
                tokens.push(token);
            }
            Ok(WrittenAnswer {
                preference: policy.answering(preference).clone(),
                text,
                tokens,
            })
        })
        .collect()
}

impl Prompt {
    /// A conversation that the assistant is to answer.
    ///
    /// # Errors
    /// When the chat template refuses it.
    pub fn new(
        messages: Vec<Message>,
        variables: JsonObject,
        tokenizer: &ChatTokenizer,
    ) -> Result<Self, InterviewError> {
        Ok(Self {
            tokens: tokenizer.prompt_with(&messages, &variables)?.into_ids(),
            messages,
            variables,
        })
    }

    /// The name of an answer to it: the same text to the same conversation has the same one.
    fn id(&self, text: &str) -> String {
        let mut hash = Sha256::new();
        let mut part = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for message in &self.messages {
            part(&message.role);
            part(message.text());
            for (key, value) in &message.more {
                part(key);
                part(&value.to_string());
            }
        }
        for (name, value) in &self.variables {
            part(name);
            part(&value.to_string());
        }
        hash.update(text);
        let hash = hash.finalize();
        hash.iter()
            .take(10)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Pool {
    /// Answers to a prompt with the scores of each, `[answers][m]`; those without scores are left out. Of answers with the same text,
    /// but for space around it, the first stays.
    ///
    /// # Panics
    /// When there are more or fewer scores than answers.
    #[must_use]
    pub fn new(prompt: Prompt, answers: Vec<WrittenAnswer>, scores: Vec<Option<Vec<f64>>>) -> Self {
        assert_eq!(answers.len(), scores.len(), "scores of each answer");
        let mut seen = HashSet::new();
        let scored = answers.into_iter().zip(scores);
        let scored = scored.filter_map(|(answer, scores)| Some((answer, scores?)));
        let different = scored.filter(|(answer, _)| seen.insert(answer.text.trim().to_owned()));
        let (answers, scores): (Vec<_>, Vec<_>) = different.unzip();
        let candidates = answers
            .iter()
            .zip(scores)
            .map(|(answer, scores)| Candidate {
                id: prompt.id(&answer.text),
                preference: Some(answer.preference.clone()),
                scores,
            });
        Self {
            candidates: candidates.collect(),
            answers,
            prompt,
        }
    }

    /// What they answer.
    #[must_use]
    pub fn prompt(&self) -> &Prompt {
        &self.prompt
    }

    /// The answers; no two have the same text.
    #[must_use]
    pub fn answers(&self) -> &[WrittenAnswer] {
        &self.answers
    }

    /// Them with their scores, in the same order: those that a text had in an earlier question of `session`, where it was in one.
    pub(crate) fn candidates(&self, session: &Session) -> Vec<Candidate> {
        let known = |candidate: &Candidate| {
            let known = session.known_scores(&candidate.id);
            Candidate {
                scores: known.map_or_else(|| candidate.scores.clone(), <[f64]>::to_vec),
                ..candidate.clone()
            }
        };
        self.candidates.iter().map(known).collect()
    }

    /// The largest range of an objective's scores.
    pub(crate) fn range(&self) -> f64 {
        let rows = self
            .candidates
            .iter()
            .map(|candidate| &candidate.scores[..]);
        let objectives = rows.clone().next().map_or(0, <[f64]>::len);
        ranges(rows, objectives).fold(0.0, f64::max)
    }
}
