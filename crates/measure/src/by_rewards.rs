//! The front of a run by what its scorers say of its answers.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use panacea_config::Learning;
use panacea_data::Example;
use panacea_evaluator::{Front, MethodPoints, PointRecords};
use panacea_methods::Served;
use panacea_model::{Generated, Request, Sampling, Steering};
use panacea_objectives::Preference;
use panacea_runs::CountedProgress;
use panacea_trainer::{Judges, PromptText, Scored};
use serde::Serialize;

use crate::error::MeasureError;
use crate::opened::{Measured, Opened};

/// How answers are written.
#[derive(Clone, Copy)]
pub struct Writing {
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// Drawn from the policy's probabilities; otherwise the likeliest token, always.
    pub is_sampled: bool,
}

/// A scored answer, as it is kept beside the front.
#[derive(Serialize)]
pub struct ScoredAnswer {
    lambda: Vec<f64>,
    record: String,
    prompt: String,
    answer: String,
    tokens: usize,
    /// `null` where nothing readable was said.
    rewards: BTreeMap<String, Option<f64>>,
}

impl Opened {
    /// Answers of the policy to prompts, under one preference; without one, those of the model before its training.
    pub fn write_answers(
        &self,
        prompts: &[impl AsRef<[u32]>],
        steering: Option<&Steering>,
        writing: Writing,
    ) -> Result<Vec<Generated>, MeasureError> {
        let decoder = &self.base.decoder;
        let stop = self.base.pretrained.tokenizer()?.stop_ids();
        let prompts = prompts
            .iter()
            .map(AsRef::as_ref)
            .zip(self.policy.plan().seed()..);
        let requests = prompts.map(|(prompt, seed): (&[u32], u64)| Request {
            prompt: prompt.to_vec(),
            steering: steering.cloned(),
            sampling: match writing.is_sampled {
                true => Sampling::exact(),
                false => Sampling::greedy(),
            },
            stop: stop.to_vec(),
            max_new_tokens: writing.max_new_tokens.min(decoder.room_after(prompt)),
            seed,
            likelihoods: None,
        });
        Ok(decoder.generate(requests)?)
    }

    /// The front of the run over a grid of preferences, by what its scorers say of its answers to the records'
    /// prompts; and the answers.
    pub fn measure_rewards(
        &self,
        grid: &[Preference],
        writing: Writing,
    ) -> Result<(Measured, Vec<ScoredAnswer>), MeasureError> {
        if !matches!(self.yardstick.method().learning, Learning::Rlhf(_)) {
            return Err(MeasureError::NoRewards {
                run: self.run.name(),
            });
        }
        let objectives = self.policy.plan().objective_names();
        let tokenizer = self.base.pretrained.tokenizer()?;
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let (judges, apart) =
            Judges::open(&self.yardstick, &self.base, &decode, tokenizer.stop_ids())?;
        let examples = first_of_each_prompt(self.measured());
        let prompts: Vec<&[u32]> = examples.iter().map(|e| e.prompt.as_slice()).collect();
        let progress =
            CountedProgress::new(grid.len() + 1, format!("answers of {}", self.run.name()));
        let mut kept = Vec::new();
        let mut said: Vec<Vec<Scored>> = Vec::with_capacity(grid.len());
        let mut lengths: Vec<Vec<usize>> = Vec::with_capacity(grid.len());
        let mut switch_seconds = 0.0;
        for preference in grid {
            let started = Instant::now();
            let Served::Adapter(steering) = self.policy.serve(preference)?;
            switch_seconds += started.elapsed().as_secs_f64() / grid.len() as f64;
            let answers = self.write_answers(&prompts, Some(&steering), writing)?;
            let tokens = answers.iter().map(|answer| answer.tokens.as_slice());
            let answered: Vec<(&Example, &[u32])> = examples.iter().copied().zip(tokens).collect();
            let scored = judges.score(&answered)?;
            for ((example, tokens), scored) in answered.iter().zip(&scored) {
                let rewards = scored.verdicts.iter().map(|verdict| verdict.score());
                kept.push(ScoredAnswer {
                    lambda: preference.weights().to_vec(),
                    record: example.source.to_string(),
                    prompt: PromptText::of(&example.words.prompt).text,
                    answer: scored.text.clone(),
                    tokens: tokens.len(),
                    rewards: objectives.iter().cloned().zip(rewards).collect(),
                });
            }
            lengths.push(answered.iter().map(|(_, tokens)| tokens.len()).collect());
            said.push(scored);
            progress.inc();
        }
        let answers = self.write_answers(&prompts, None, writing)?;
        let tokens = answers.iter().map(|answer| answer.tokens.as_slice());
        let untrained: Vec<(&Example, &[u32])> = examples.iter().copied().zip(tokens).collect();
        let untrained = judges.score(&untrained)?;
        progress.inc();
        progress.finish();
        // Every λ, and the model before its training, is measured on the same records.
        let all = || said.iter().chain(std::iter::once(&untrained));
        let is_scored = |record: &usize| all().all(|at| at[*record].rewards().is_some());
        let records: Vec<usize> = (0..examples.len()).filter(is_scored).collect();
        if records.is_empty() {
            return Err(MeasureError::NothingScored {
                run: self.run.name(),
            });
        }
        let values = |said: &[Scored]| -> Vec<Vec<f64>> {
            let rewards = records.iter().filter_map(|&record| said[record].rewards());
            let rewards: Vec<Vec<f64>> = rewards.collect();
            let column = |i: usize| rewards.iter().map(|rewards| rewards[i]).collect();
            (0..objectives.len()).map(column).collect()
        };
        let point = |(place, preference): (usize, &Preference)| {
            let length: usize = records.iter().map(|&record| lengths[place][record]).sum();
            PointRecords {
                lambda: preference.weights().to_vec(),
                records: values(&said[place]),
                labelled: None,
                accuracy: None,
                margin: None,
                response_tokens: Some(length as f64 / records.len() as f64),
            }
        };
        let points: Vec<PointRecords> = grid.iter().enumerate().map(point).collect();
        let kind = match writing.is_sampled {
            true => "sampled",
            false => "greedy",
        };
        let again = match self.measured().len() - examples.len() {
            0 => String::new(),
            again => format!(" {again} more records have a prompt that is answered already."),
        };
        let note = format!(
            "Run {}: rewards of {kind} answers to {} {} prompts at each λ, {} tokens at most.{again}",
            self.run.name(),
            records.len(),
            self.origin,
            writing.max_new_tokens
        );
        let by = format!(
            "rewards of {kind} answers of at most {} tokens",
            writing.max_new_tokens
        );
        let provenance = self.provenance(by, records.len());
        let label = self.policy.plan().method().label();
        let cost = Some(self.cost(switch_seconds)?);
        let untrained = values(&untrained);
        let method =
            MethodPoints::from_records(&label, &objectives, points, Some(&untrained), cost)?;
        let front = Front::new(objectives, vec![method], None, None)?;
        let mut notes = vec![note];
        if records.len() < examples.len() {
            notes.push(format!(
                "Left out at every λ: {} prompts with an answer of which a judge said nothing readable.",
                examples.len() - records.len()
            ));
        }
        notes.extend(apart.iter().map(|path| {
            format!(
                "Reward model {}: weights of its own, beside the policy's.",
                path.display()
            )
        }));
        let measured = Measured {
            front,
            notes,
            provenance,
        };
        Ok((measured, kept))
    }
}

/// Answers to one prompt are no two records, and would make every standard error too small: the first record of each prompt.
fn first_of_each_prompt(examples: &[Example]) -> Vec<&Example> {
    let mut seen = HashSet::new();
    let examples = examples.iter();
    examples
        .filter(|example| seen.insert(example.prompt.as_slice()))
        .collect()
}

#[cfg(test)]
mod tests {
    use panacea_data::{Source, Words};

    use super::*;

    #[test]
    fn a_prompt_is_answered_once() {
        let example = |line: usize, prompt: u32| Example {
            source: Source::new("a.jsonl".as_ref(), line),
            prompt: vec![prompt],
            responses: Vec::new(),
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        };
        let examples = [example(1, 7), example(2, 8), example(3, 7)];
        let lines = first_of_each_prompt(&examples).into_iter();
        assert_eq!(
            lines.map(|example| example.source.line).collect::<Vec<_>>(),
            [1, 2]
        );
    }
}
