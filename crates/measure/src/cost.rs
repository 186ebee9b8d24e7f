//! What measuring a front will take on this machine, and how much of it fits into a part of the training's time.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use panacea_config::Learning;
use panacea_data::Example;
use panacea_model::{Decoder, Generation, Request, Steering, ValueHead};
use panacea_trainer::{References, seconds_per_row};

use crate::error::MeasureError;

/// How long records are read to see how fast this machine is, and how long answers are written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measuring takes this part of the training's time, unless a user asks for more …
const PART: f64 = 0.25;

/// … or the training was so short that nothing could be told apart.
const LEAST_SECONDS: f64 = 15.0;

/// Records and prompts below which nobody would see anything.
const LEAST_RECORDS: usize = 2;
const LEAST_PROMPTS: usize = 2;

/// Tokens of every answer that are timed.
const LEAST_STEPS: usize = 8;
const MOST_STEPS: usize = 32;

/// Prompts that are answered under a preference, where nothing else is asked for: as many as a CPU writes at a time.
pub const USUAL_PROMPTS: usize = Generation::USUAL_LIMIT;

/// How fast this machine is with a model under an adapter, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// For a row of a record that is read under one preference.
    pub row: f64,
    /// For a token of a prompt that is to be answered.
    pub prompt_token: f64,
    /// For a token of each of the answers that are written together.
    pub answer_step: f64,
    /// How many these are.
    pub together: usize,
}

/// What there is to measure, and what a user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// All records that there are.
    pub examples: &'a [Example],
    /// What is known of their log-probabilities under the reference policy.
    pub references: &'a References,
    /// By what they are measured.
    pub learning: &'a Learning,
    /// Preferences that a front is measured at.
    pub preferences: usize,
    /// Records are measured by the answers to their prompts.
    pub by_rewards: bool,
    /// Records, at most; `None`: as many as there is time for.
    pub records: Option<usize>,
    /// Preferences at which prompts are answered for people to read.
    pub answered_at: usize,
    /// Prompts that are answered at each of these; `None`: as many as there is time for.
    pub prompts: Option<usize>,
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
}

/// What is measured, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Records, from the first on.
    pub records: usize,
    /// Seconds for them at all preferences.
    pub record_seconds: f64,
    /// Seconds for all records that there are.
    pub all_seconds: f64,
    /// Prompts that are answered for people to read.
    pub prompts: usize,
    /// Seconds for their answers, at most: one that ends by itself takes less.
    pub answer_seconds: f64,
}

impl Rates {
    /// Reads some of `examples`, and writes the first tokens of answers to some, under `steering`.
    pub fn of(
        decoder: &Decoder,
        steering: &Steering,
        learning: &Learning,
        examples: &[Example],
    ) -> Result<Self, MeasureError> {
        let row = seconds_per_row(decoder, steering, learning, examples, PATIENCE)?;
        // What has a head reads rewards, and writes nothing.
        let (prompt_token, answer_step) = match ValueHead::among(&steering.adapters.factors) {
            Some(_) => (0.0, 0.0),
            None => writing(decoder, steering, examples)?,
        };
        Ok(Self {
            row,
            prompt_token,
            answer_step,
            together: Generation::usual_limit(decoder),
        })
    }

    /// As much of what was asked for as takes a quarter of `train_seconds`, half of it for answers that people read. What a user
    /// asked for by number is taken whole.
    pub fn sample(&self, asked: Asked<'_>, train_seconds: f64) -> Sample {
        let budget = (PART * train_seconds).max(LEAST_SECONDS);
        let all = asked.examples.len();
        let answers = |prompts: usize| {
            asked.answered_at as f64 * self.answers(asked.examples, prompts, asked.max_new_tokens)
        };
        let usual = USUAL_PROMPTS.min(all);
        let fitting = most(usual, budget / 2.0, answers).max(LEAST_PROMPTS.min(usual));
        let prompts = asked.prompts.map_or(fitting, |prompts| prompts.min(all));

        let records = |records: usize| self.records(asked, records);
        // Answers may take less than they could at most, and records are what is asked about.
        let left = (budget - answers(prompts)).max(budget / 2.0);
        let least = LEAST_RECORDS.max(covering(asked.examples)).min(all);
        let fitting = most(all, left, records).max(least);
        let measured = asked.records.map_or(fitting, |records| records.min(all));
        Sample {
            records: measured,
            record_seconds: records(measured),
            all_seconds: records(all),
            prompts,
            answer_seconds: answers(prompts),
        }
    }

    /// Seconds for the first `count` records at all preferences.
    fn records(&self, asked: Asked<'_>, count: usize) -> f64 {
        let preferences = asked.preferences as f64;
        let first = &asked.examples[..count];
        if asked.by_rewards {
            // The model before its training answers as well.
            return (preferences + 1.0) * self.answers(first, count, asked.max_new_tokens);
        }
        let rows: usize = match asked.learning {
            // The same responses to the same prompt are read once.
            Learning::Supervised(_) => {
                let distinct: HashMap<_, usize> = (first.iter())
                    .map(|example| ((&example.prompt, &example.responses), example.rows()))
                    .collect();
                distinct.into_values().sum()
            }
            Learning::Rlhf(_) => first.iter().map(Example::rows).sum(),
        };
        let needed = asked.learning.needs_reference();
        let unknown = first
            .iter()
            .filter(|example| needed && !asked.references.knows(example));
        let unknown: usize = unknown.map(Example::rows).sum();
        // Without a reference the model before its training is read once more.
        let untrained = if needed { unknown } else { rows };
        self.row * (preferences * rows as f64 + untrained as f64)
    }

    /// Seconds for answers to the first `count` prompts at one preference, at most.
    fn answers(&self, examples: &[Example], count: usize, max_new_tokens: usize) -> f64 {
        let prompts = examples.iter().take(count);
        let tokens: usize = prompts.map(|example| example.prompt.len()).sum();
        let rounds = count.div_ceil(self.together);
        self.prompt_token * tokens as f64 + self.answer_step * (rounds * max_new_tokens) as f64
    }
}

/// How many examples, from the first on, are labelled on every objective that any of them is labelled on.
fn covering(examples: &[Example]) -> usize {
    let mut covered = BTreeSet::new();
    let mut count = 0;
    for (position, example) in examples.iter().enumerate() {
        let labels = example.judgements.iter().map(|of| of.labels.iter());
        for (objective, label) in labels.flat_map(Iterator::enumerate) {
            if label.is_some() && covered.insert(objective) {
                count = position + 1;
            }
        }
    }
    count
}

/// The largest number up to `limit` whose `seconds`, which grow with it, are no more than `budget`; 0 if none is.
fn most(limit: usize, budget: f64, seconds: impl Fn(usize) -> f64) -> usize {
    let (mut fits, mut too_many) = (0, limit + 1);
    while fits + 1 < too_many {
        let middle = fits + (too_many - fits) / 2;
        match seconds(middle) <= budget {
            true => fits = middle,
            false => too_many = middle,
        }
    }
    fits
}

/// Seconds for a token of a prompt, and for a token of every answer of a full session.
fn writing(
    decoder: &Decoder,
    steering: &Steering,
    examples: &[Example],
) -> Result<(f64, f64), MeasureError> {
    let together = Generation::usual_limit(decoder);
    let mut session = Generation::new(decoder, together);
    for example in examples.iter().take(together) {
        // More than are written before it was timed long enough.
        let room = decoder.room_after(&example.prompt).min(2 * MOST_STEPS);
        session.push(Request {
            steering: Some(steering.clone()),
            ..Request::greedy(example.prompt.clone(), room)
        })?;
    }
    let (mut reading, mut writing, mut steps) = (0.0, 0.0, 0_usize);
    let patience = PATIENCE.as_secs_f64();
    while !session.is_idle() && (steps < LEAST_STEPS || (writing < patience && steps < MOST_STEPS))
    {
        let (read, started) = (session.tokens_read(), Instant::now());
        session.step()?;
        let seconds = started.elapsed().as_secs_f64();
        match session.tokens_read() > read {
            true => reading += seconds,
            false => {
                writing += seconds;
                steps += 1;
            }
        }
    }
    let per = |seconds: f64, count: f64| if count > 0.0 { seconds / count } else { 0.0 };
    Ok((
        per(reading, session.tokens_read() as f64),
        per(writing, steps as f64),
    ))
}

#[cfg(test)]
mod tests {
    use panacea_config::{Overrides, Plan, Spec};
    use panacea_data::{Judgement, Source, Words};

    use super::*;

    /// Where answers could take all of the time, records still get half of it.
    #[test]
    fn answers_leave_time_for_records() {
        let plan = "[model]\npath = \"m\"\n[data]\ntrain = \"t\"\n[[objective]]\nname = \"a\"\nchosen = true\n[method]\nloss = \"sft\"";
        let plan = Plan::resolve(Spec::from_toml(plan, "it"), &Overrides::default()).unwrap();
        let example = |line: usize| Example {
            source: Source::new("a.jsonl".as_ref(), line),
            prompt: vec![line as u32; 5],
            responses: vec![vec![2; 5]],
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        };
        let examples: Vec<Example> = (0..40).map(example).collect();
        let rows = examples[0].rows() as f64;
        let asked = Asked {
            examples: &examples,
            references: &References::in_memory(),
            learning: &plan.method().learning,
            preferences: 1,
            by_rewards: false,
            records: None,
            answered_at: 3,
            prompts: None,
            max_new_tokens: 256,
        };
        let rates = |answer_step: f64| Rates {
            row: 0.3 / rows,
            prompt_token: 0.0,
            answer_step,
            together: 16,
        };
        // Two prompts take 77 s at most, of 15 s; a record is read under the adapter and without it.
        let sample = rates(0.1).sample(asked, 1.0);
        assert_eq!((sample.prompts, sample.records), (2, 12));
        // No more than there are; and all of the time where answers take none.
        let sample = rates(0.0).sample(asked, 1.0);
        assert_eq!((sample.prompts, sample.records), (16, 25));
        let sample = rates(0.0).sample(asked, 100.0);
        assert_eq!((sample.prompts, sample.records), (16, 40));

        // The same responses to the same prompt are read once.
        let same = vec![example(7); 40];
        let asked = Asked {
            examples: &same,
            ..asked
        };
        let sample = rates(0.1).sample(asked, 1.0);
        assert_eq!((sample.records, sample.record_seconds), (40, 0.6));
    }

    #[test]
    fn every_objective_has_a_record_at_least() {
        let example = |line: usize, labels: [Option<f64>; 3]| Example {
            source: Source::new("a.jsonl".as_ref(), line),
            prompt: Vec::new(),
            responses: vec![Vec::new()],
            judgements: vec![Judgement {
                response: 0,
                against: None,
                labels: labels.to_vec(),
            }],
            scores: Vec::new(),
            words: Words::default(),
        };
        // Nothing is labelled on the third.
        let examples = [
            example(1, [Some(1.0), None, None]),
            example(2, [Some(0.0), None, None]),
            example(3, [Some(1.0), Some(1.0), None]),
            example(4, [None, Some(1.0), None]),
        ];
        assert_eq!(covering(&examples), 3);
        assert_eq!(covering(&[]), 0);
    }

    #[test]
    fn the_most_that_fits_is_found() {
        for limit in 0..20 {
            for budget in 0..30 {
                let expected = (0..=limit).rev().find(|&n| 2 * n <= budget).unwrap_or(0);
                assert_eq!(most(limit, budget as f64, |n| 2.0 * n as f64), expected);
            }
        }
        assert_eq!(most(5, -1.0, |n| n as f64), 0);
    }
}
