//! From answers to their scores.

use std::sync::{Mutex, PoisonError};

use panacea_methods::Served;
use panacea_model::{Decoder, PackedBatch, Sequence, Steering};
use panacea_objectives::Preference;
use panacea_reward_models::Base;
use panacea_rewards::{Sample, Scorers};
use panacea_serving::Policy;
use panacea_trainer::{PromptText, open_scorers};

use crate::error::InterviewError;
use crate::pool::{Prompt, WrittenAnswer};
use crate::yardstick::{Kind, Yardstick};

/// A [`Yardstick`], opened.
pub struct Criteria {
    yardstick: Yardstick,
    opened: Opened,
}

enum Opened {
    /// What the policy is at λ = e_i, for each objective.
    Vertices(Vec<Steering>),
    Scorers(Mutex<Scorers>),
}

impl Criteria {
    /// Opens what scores the answers of `policy`; programs are started, and reward models are read.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open(
        yardstick: Yardstick,
        policy: &Policy,
        base: &Base,
    ) -> Result<Self, InterviewError> {
        let plan = policy.plan();
        let opened = match yardstick.kind {
            Kind::LogRatios => {
                let objectives = plan.objectives().len();
                let vertex = |objective| {
                    let vertex = Preference::vertex(objectives, objective);
                    let Served::Adapter(steering) = policy.serve(&vertex)?;
                    Ok(steering)
                };
                let vertices = (0..objectives).map(vertex);
                Opened::Vertices(vertices.collect::<Result<_, InterviewError>>()?)
            }
            Kind::Rewards { .. } => {
                let (scorers, _) = open_scorers(plan, base)?;
                Opened::Scorers(Mutex::new(scorers))
            }
        };
        Ok(Self { yardstick, opened })
    }

    /// What the scores are.
    #[must_use]
    pub fn yardstick(&self) -> &Yardstick {
        &self.yardstick
    }

    /// r ∈ R^m of each answer to a prompt; nothing where a judge said nothing readable and the run leaves such answers out. It
    /// computes on the calling thread.
    ///
    /// # Errors
    /// When the prompt is too long for the model, or a scorer fails.
    pub fn score(
        &self,
        decoder: &Decoder,
        prompt: &Prompt,
        answers: &[WrittenAnswer],
    ) -> Result<Vec<Option<Vec<f64>>>, InterviewError> {
        if answers.is_empty() {
            return Ok(Vec::new());
        }
        match (&self.opened, &self.yardstick.kind) {
            (Opened::Vertices(vertices), _) => {
                let ratios = log_ratios(decoder, vertices, prompt, answers)?;
                Ok(ratios.into_iter().map(Some).collect())
            }
            (Opened::Scorers(scorers), kind) => {
                let PromptText { text, turns } = PromptText::of(&prompt.messages);
                let samples: Vec<Sample<'_>> = (answers.iter())
                    .map(|answer| Sample {
                        prompt: &text,
                        turns: &turns,
                        variables: Some(&prompt.variables),
                        response: &answer.text,
                        response_tokens: answer.tokens.len(),
                        reference: None,
                        references: &[],
                        known: &[],
                        origin: "this prompt",
                    })
                    .collect();
                // A scorer that panicked says so again when it is asked.
                let mut scorers = scorers.lock().unwrap_or_else(PoisonError::into_inner);
                let said = scorers.score(&samples)?;
                let rewards = |index: usize| -> Option<Vec<f64>> {
                    said.iter()
                        .map(|of_scorer| of_scorer[index].score())
                        .collect()
                };
                let rewards = (0..answers.len()).map(rewards);
                Ok(match kind {
                    Kind::Rewards { memory, rlhf } => {
                        let credits = |rewards: Vec<f64>| memory.credits(rlhf, &rewards);
                        rewards.map(|rewards| rewards.map(credits)).collect()
                    }
                    Kind::LogRatios => rewards.collect(),
                })
            }
        }
    }
}

/// log π(y given x; λ = e_i) − log π_base(y given x) of each answer, `[answers][m]`. The answers share the prompt, which is read
/// once for each λ and once for the base model.
fn log_ratios(
    decoder: &Decoder,
    vertices: &[Steering],
    prompt: &Prompt,
    answers: &[WrittenAnswer],
) -> Result<Vec<Vec<f64>>, InterviewError> {
    let sums = |steering: Option<&Steering>| -> Result<Vec<f64>, InterviewError> {
        let sequence = Sequence {
            prompt: &prompt.tokens,
            responses: answers.iter().map(|answer| &answer.tokens[..]).collect(),
            preference: steering.map_or(&[][..], |steering| &steering.preference),
        };
        let batch = PackedBatch::new(&[sequence])?;
        let adapters = steering.map(|steering| &*steering.adapters);
        Ok(batch.sums(&decoder.log_probs(&batch, adapters)?))
    };
    let base = sums(None)?;
    let steered = vertices.iter().map(|vertex| sums(Some(vertex)));
    let steered = steered.collect::<Result<Vec<_>, _>>()?;
    let scores = base.iter().enumerate().map(|(index, base)| {
        let ratios = steered.iter().map(|sums| sums[index] - base);
        ratios.collect()
    });
    Ok(scores.collect())
}
