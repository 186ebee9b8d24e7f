//! A step on labelled records.

use panacea_data::Example;
use panacea_model::MemoryPolicy;
use panacea_objectives::{Loss, Preference, mean};
use panacea_runs::{LogProbLevels, NearestVertex, ObjectiveMetrics};
use panacea_svd_lora::Adapters;

use crate::error::TrainerError;
use crate::evaluation::{margin_and_accuracy, references};
use crate::state::TrainingState;
use crate::step::{BatchResult, Objective, Prepared, batch_gradient};
use crate::training::{Stepped, Training};

impl Training<'_> {
    /// Algorithm 1 on labelled records: the losses of a batch, their aggregate under λ, one gradient step.
    pub(crate) fn loss_step(
        &self,
        state: &mut TrainingState,
        loss: &Loss,
        records: &[&Example],
        preferences: &[Preference],
        factor: f64,
    ) -> Result<Stepped, TrainerError> {
        let step = state.step + 1;
        let reference = self.references_of(records)?;
        let batch: Vec<Prepared<'_>> = records
            .iter()
            .zip(&reference)
            .map(|(&example, reference)| Prepared { example, reference })
            .collect();
        let result = self.gradient(&state.adapters, loss, &batch, preferences)?;
        let mut objectives =
            objective_metrics(self.plan.objective_names(), &batch, &result, preferences);
        if self.plan.method().is_reward_model() {
            // What it reads of a response is no log-probability.
            objectives
                .iter_mut()
                .for_each(|o| o.log_prob = LogProbLevels::default());
        }
        let losses = objectives.iter().map(|o| (o.name.as_str(), o.loss));
        self.guard().check_losses(step, losses, result.aggregate)?;
        let grad_norm = self.apply(state, result.gradients, step, step, factor)?;
        Ok(Stepped {
            objectives,
            aggregate: result.aggregate,
            token_loss: match loss {
                Loss::Sft(_) => token_loss(&batch, &result.outputs),
                _ => None,
            },
            rlhf: None,
            grad_norm,
            tokens: result.tokens,
        })
    }

    /// Log-probabilities of a batch under the reference policy; each record's are computed when it is first drawn,
    /// alone, so that they do not depend on its neighbours.
    pub(crate) fn references_of(
        &self,
        records: &[&Example],
    ) -> Result<Vec<Vec<f64>>, TrainerError> {
        references(
            self.references,
            self.model,
            &self.plan.method().learning,
            records.iter().copied(),
            || (),
        )
    }

    fn gradient(
        &self,
        adapters: &Adapters,
        loss: &Loss,
        batch: &[Prepared<'_>],
        preferences: &[Preference],
    ) -> Result<BatchResult, TrainerError> {
        let objective = Objective {
            loss,
            aggregation: &self.plan.method().aggregation,
        };
        let micro_batch_size = self.plan.optimizer().micro_batch_size;
        let memory = self.memory_policy(batch);
        batch_gradient(
            &self.lanes(adapters),
            objective,
            batch,
            preferences,
            micro_batch_size,
            memory,
        )
    }

    /// What a forward pass over the longest micro-batch of `batch` should keep.
    fn memory_policy(&self, batch: &[Prepared<'_>]) -> MemoryPolicy {
        let micro_batches = batch.chunks(self.plan.optimizer().micro_batch_size);
        let rows = |records: &[Prepared<'_>]| -> usize {
            records.iter().map(|record| record.example.rows()).sum()
        };
        self.memory_for(self.model, micro_batches.map(rows).max().unwrap_or(0))
    }
}

/// What a step came to on every objective.
fn objective_metrics(
    names: Vec<String>,
    batch: &[Prepared<'_>],
    result: &BatchResult,
    preferences: &[Preference],
) -> Vec<ObjectiveMetrics> {
    let of_objective = |(i, name): (usize, String)| {
        let terms = || result.terms.iter().flat_map(|record| record.of(i));
        let losses: Vec<f64> = terms().map(|term| term.loss).collect();
        let (margin, accuracy) = margin_and_accuracy(terms());
        let of_each: Vec<(f64, Option<f64>)> = (preferences.iter().zip(&result.losses))
            .map(|(preference, losses)| (preference.weights()[i], losses[i]))
            .collect();
        ObjectiveMetrics {
            name,
            nearest: NearestVertex::among(&of_each),
            loss: mean(losses.iter().copied()),
            weight: result.weights[i],
            labelled: losses.len(),
            margin,
            accuracy,
            log_prob: log_prob_levels(batch, &result.outputs, i),
            reward: None,
            normalised_reward: None,
            reward_by_lambda: None,
            scale: None,
            unreadable: None,
        }
    };
    names.into_iter().enumerate().map(of_objective).collect()
}

/// −log π of a response token, the mean over all response tokens of the batch.
fn token_loss(batch: &[Prepared<'_>], log_probs: &[Vec<f64>]) -> Option<f64> {
    let responses = batch.iter().flat_map(|record| &record.example.responses);
    let tokens: usize = responses.map(Vec::len).sum();
    let log_probs: f64 = log_probs.iter().flatten().sum();
    (tokens > 0).then(|| -log_probs / tokens as f64)
}

/// Mean log-probabilities per token of what objective `i` prefers and of what it does not.
fn log_prob_levels(batch: &[Prepared<'_>], policy: &[Vec<f64>], i: usize) -> LogProbLevels {
    let mut levels: [Vec<f64>; 4] = Default::default();
    for (record, policy) in batch.iter().zip(policy) {
        for judgement in &record.example.judgements {
            let Some(label) = judgement.labels[i] else {
                continue;
            };
            for response in judgement.responses() {
                let tokens = record.example.responses[response].len() as f64;
                let is_chosen = (response == judgement.response) == (label >= 0.5);
                let side = usize::from(!is_chosen);
                levels[side].push(policy[response] / tokens);
                if let Some(reference) = record.reference.get(response) {
                    levels[2 + side].push(reference / tokens);
                }
            }
        }
    }
    LogProbLevels {
        policy_chosen: mean(levels[0].iter().copied()),
        policy_rejected: mean(levels[1].iter().copied()),
        reference_chosen: mean(levels[2].iter().copied()),
        reference_rejected: mean(levels[3].iter().copied()),
    }
}

#[cfg(test)]
mod tests {
    use panacea_data::{Source, Words};

    use super::*;

    #[test]
    fn every_token_of_a_batch_counts_the_same_in_the_loss_of_a_token() {
        let example = |responses: &[usize]| Example {
            source: Source {
                file: "made-up".into(),
                line: 1,
            },
            prompt: vec![1],
            responses: responses.iter().map(|&tokens| vec![2; tokens]).collect(),
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        };
        let examples = [example(&[3]), example(&[1, 2])];
        let batch = examples.each_ref().map(|example| Prepared {
            example,
            reference: &[],
        });
        // Six tokens; the mean of the means would be 2.
        let log_probs = [vec![-9.0], vec![-1.0, -4.0]];
        assert_eq!(token_loss(&batch, &log_probs), Some(14.0 / 6.0));
        assert_eq!(token_loss(&[], &[]), None);
    }
}
