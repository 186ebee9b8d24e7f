//! Who scores the answers.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Mutex;

use panacea_config::Plan;
use panacea_data::{BoxError, Example, LabelSource, Source};
use panacea_pretrained::Message;
use panacea_reward_models::{Base, RewardModels};
use panacea_rewards::{KnownResponse, Sample, Scorer, ScorerSpec, Scorers, Turn};

use crate::error::TrainerError;

/// What scores the answers, and what turns tokens into the words that are scored.
pub struct Judges<'a> {
    /// One for each objective.
    pub scorers: Mutex<Scorers>,
    /// The name of the record's own score that each objective looks up, if it does.
    pub own_scores: Vec<Option<String>>,
    /// The prompts of the records in words.
    pub prompts: HashMap<Source, PromptText>,
    /// From tokens to words.
    pub decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
    /// Tokens that end an answer.
    pub stop: &'a [u32],
}

/// A prompt in words.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptText {
    /// As one text.
    pub text: String,
    /// Turn by turn.
    pub turns: Vec<Turn>,
}

/// An answer in words, with r_i of each objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The words.
    pub text: String,
    /// The rewards.
    pub rewards: Vec<f64>,
}

impl PromptText {
    /// A conversation in words: its only message, or all of them with their speakers.
    pub fn of(messages: &[Message]) -> Self {
        let text = match messages {
            [only] => only.content.clone(),
            many => {
                let turns = many.iter().map(|m| format!("{}: {}", m.role, m.content));
                turns.collect::<Vec<_>>().join("\n")
            }
        };
        let turns = messages.iter().map(|message| Turn {
            role: message.role.clone(),
            content: message.content.clone(),
        });
        Self {
            text,
            turns: turns.collect(),
        }
    }
}

impl<'a> Judges<'a> {
    /// What scores the answers to `prompts`, as the objectives of `plan` have it. Programs are started and reward models
    /// are opened here; those that stand on the weights of `base` share them, and the others come back by their paths.
    pub fn open(
        plan: &Plan,
        base: &Base,
        prompts: &[(Source, Vec<Message>)],
        decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
        stop: &'a [u32],
    ) -> Result<(Self, Vec<PathBuf>), TrainerError> {
        let sources = plan.objectives().iter().map(|objective| &objective.source);
        let specs = sources.filter_map(|source| match source {
            LabelSource::Reward(spec) => Some(&**spec),
            _ => None,
        });
        let specs: Vec<&ScorerSpec> = specs.collect();
        let mut models = RewardModels::new(base.decoder.device(), Some(base));
        let mut scorers: Vec<Box<dyn Scorer>> = Vec::with_capacity(specs.len());
        for spec in &specs {
            scorers.push(match spec {
                ScorerSpec::Model(model) => models.scorer(model)?,
                other => other.build()?,
            });
        }
        let own = specs.iter().map(|spec| spec.record_score());
        let in_words =
            (prompts.iter()).map(|(source, messages)| (source.clone(), PromptText::of(messages)));
        let judges = Self {
            scorers: Mutex::new(Scorers::new(scorers)),
            own_scores: own.map(|name| name.map(str::to_owned)).collect(),
            prompts: in_words.collect(),
            decode,
            stop,
        };
        Ok((judges, models.apart().cloned().collect()))
    }
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
            let prompt = &self.prompts[&example.source];
            Sample {
                prompt: &prompt.text,
                turns: &prompt.turns,
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
