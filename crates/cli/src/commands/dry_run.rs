//! `train --dry-run`: what a training and its evaluation will take on this machine.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanBytes, HumanCount};
use panacea_measure::{Asked, Rates, grid};
use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_runs::RunRecord;
use panacea_trainer::{Preparation, References, TrainingCost, TrainingState, Work, computed_by};

use super::eval_front::{MAX_NEW_TOKENS, answered_at, estimate};
use crate::terminal::span;

/// How long steps are timed, where a few do not take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does a few steps and a few evaluations, throws them away, and says what all of it will take. Nothing is written.
pub fn dry_run(prepared: &Preparation, record: &RunRecord, runs: &Path) -> Result<ExitCode> {
    let fingerprint = &record.facts.model_fingerprint;
    let computed_by = computed_by(record.plan.device(), prepared.weights);
    let references = References::read(runs, fingerprint, &computed_by)?;
    prepared.with_work(references, |work| {
        // The evaluation first: the training takes more memory, and the process only tells the most.
        let rates = evaluation_rates(&work, record)?;
        let read = panacea_devices::peak_memory_bytes();
        let cost = work.cost(record, PATIENCE)?;

        let frozen = prepared.pretrained.parameters();
        say!(
            "parameters  {} trained, {} frozen",
            HumanCount(cost.trained as u64),
            HumanCount(frozen as u64)
        );
        say!("training    {}", training(&cost));
        match rates {
            Some(rates) => say!("{}", evaluation(&work, record, rates, &cost)),
            None => say!("evaluation  no records: --eval or data.eval names them"),
        }
        let on_cpu = record.plan.device().starts_with("flex");
        if let (Some(trained), Some(read), true) = (cost.peak_memory_bytes, read, on_cpu) {
            let (trained, read) = (HumanBytes(trained), HumanBytes(read));
            say!("memory      {trained} at most while training, {read} while evaluating");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// How fast held-out records are read, if there are any.
fn evaluation_rates(work: &Work<'_>, record: &RunRecord) -> Result<Option<Rates>> {
    if work.eval.is_empty() {
        return Ok(None);
    }
    let state = TrainingState::new(&record.plan, work.model, &record.facts.model_fingerprint)?;
    let centre = Preference::uniform(record.plan.objectives().len());
    let steering = Steering {
        adapters: Arc::new(state.adapters),
        preference: centre.weights().to_vec(),
    };
    let learning = &record.plan.method().learning;
    Ok(Some(Rates::of(work.model, &steering, learning, work.eval)?))
}

/// What the training takes, in words.
fn training(cost: &TrainingCost) -> String {
    let trainings = match cost.trainings {
        1 => String::new(),
        count => format!("{count} trainings of "),
    };
    let rows = cost.rows.map_or(String::new(), |rows| {
        format!(", {} tokens", HumanCount(rows as u64))
    });
    format!(
        "{trainings}{} steps{rows}: {} ({} steps were timed)",
        HumanCount(cost.steps as u64),
        span(cost.seconds),
        cost.timed
    )
}

/// What `eval-front`, or `eval-reward`, takes behind it, in words.
fn evaluation(work: &Work<'_>, record: &RunRecord, rates: Rates, cost: &TrainingCost) -> String {
    let is_front = !record.plan.method().is_reward_model();
    let preferences = match is_front {
        true => grid(&record.plan, None).len(),
        false => 1,
    };
    let asked = Asked {
        examples: work.eval,
        references: &work.references,
        learning: &record.plan.method().learning,
        preferences,
        by_rewards: record.plan.needs_answers(),
        records: (!is_front).then_some(work.eval.len()),
        answered_at: answered_at(&record.plan).len(),
        prompts: (!is_front).then_some(0),
        max_new_tokens: MAX_NEW_TOKENS,
    };
    estimate("evaluation", asked, rates.sample(asked, cost.seconds))
}
