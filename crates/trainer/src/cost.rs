//! What a training will take on this machine: a few of its steps are done, timed and thrown away.

use std::time::{Duration, Instant};

use panacea_config::Learning;
use panacea_data::{BatchPlan, Example};
use panacea_devices::peak_memory_bytes;
use panacea_methods::Trainings;
use panacea_model::{Decoder, Steering, ValueHead};
use panacea_runs::RunRecord;
use panacea_svd_lora::{FactorSet, Part};

use crate::error::TrainerError;
use crate::schedule::Schedule;
use crate::state::TrainingState;
use crate::step::{read_example, response_log_probs};
use crate::training::Training;
use crate::trainings::Work;

/// What is timed, at least, where there is as much.
const LEAST: usize = 3;

/// What a training will take. Of methods that take several trainings, all of them together.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingCost {
    /// Trainings that the method takes.
    pub trainings: usize,
    /// Optimizer steps of each.
    pub steps: usize,
    /// Numbers that each of them trains.
    pub trained: usize,
    /// Tokens of the records of all steps of all trainings; of RLHF, whose answers are not written yet, nothing is known.
    pub rows: Option<usize>,
    /// Seconds of all steps, and of what is measured and computed for them on the way.
    pub seconds: f64,
    /// The most memory that the process has held by then; the step with the most rows is among those that were done. Only
    /// Linux tells.
    pub peak_memory_bytes: Option<u64>,
    /// Steps that were timed.
    pub timed: usize,
}

impl Work<'_> {
    /// Finds out what `record`'s plan will take, by steps of it that are done until `patience` ends, and a few at least. They change
    /// nothing that is kept. Of RLHF the scorers are asked as in any step.
    pub fn cost(
        &self,
        record: &RunRecord,
        patience: Duration,
    ) -> Result<TrainingCost, TrainerError> {
        let (plan, trainings) = match record.plan.trainings() {
            Trainings::One => (record.plan.clone(), 1),
            Trainings::Each(preferences) => {
                let first = preferences.first().map(|first| record.plan.member(first));
                (
                    first.unwrap_or_else(|| record.plan.clone()),
                    preferences.len(),
                )
            }
        };
        let training = self.training(&plan);
        let mut state = TrainingState::new(&plan, self.model, &record.facts.model_fingerprint)?;
        let critic = state.critic.as_ref();
        let of_critic = critic.map_or(0, |critic| {
            numbers(&critic.adapters().factors, critic.trained_parts())
        });
        let trained = numbers(&state.adapters.factors, state.optimizer.trained_parts()) + of_critic;
        let each = match &plan.method().learning {
            Learning::Supervised(_) => training.supervised_cost(&mut state, patience)?,
            Learning::Rlhf(_) => training.rlhf_cost(&mut state, patience)?,
        };
        let count = trainings as f64;
        Ok(TrainingCost {
            trainings,
            steps: plan.optimizer().total_steps(self.train.len()),
            trained,
            rows: each.rows.map(|rows| rows * trainings),
            // What the first training computes with the adapter off, the others find there.
            seconds: count * each.seconds + each.references,
            peak_memory_bytes: peak_memory_bytes(),
            timed: each.timed,
        })
    }
}

/// How many numbers these parts have; a head has no singular values.
fn numbers(set: &FactorSet, parts: &[Part]) -> usize {
    let sizes = set.0.iter().flat_map(|(name, factors)| {
        let is_head = name == ValueHead::NAME;
        let parts = parts
            .iter()
            .filter(move |part| !(is_head && part.is_singular()));
        parts.map(|&part| factors.part(part).shape().num_elements())
    });
    sizes.sum()
}

/// What one training takes.
struct Each {
    rows: Option<usize>,
    /// Seconds of its steps and of what is measured on the way.
    seconds: f64,
    /// Seconds for log-probabilities under the reference policy that are not known yet.
    references: f64,
    timed: usize,
}

/// Rows, and the seconds that something took for them.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    rows: usize,
    seconds: f64,
}

impl Sample {
    fn of<T>(
        rows: usize,
        work: impl FnOnce() -> Result<T, TrainerError>,
    ) -> Result<Self, TrainerError> {
        let started = Instant::now();
        work()?;
        Ok(Self {
            rows,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Seconds for a row; `None` without rows.
    fn per_row(samples: impl IntoIterator<Item = Self>) -> Option<f64> {
        let (mut rows, mut seconds) = (0, 0.0);
        for sample in samples {
            rows += sample.rows;
            seconds += sample.seconds;
        }
        (rows > 0).then(|| seconds / rows as f64)
    }
}

/// What `work` returns for each of `items` until `patience` ends, and for a few at least. The first one also pays for memory that the
/// others find there: it counts only where it is alone.
fn timed<T>(
    items: impl IntoIterator<Item = usize>,
    patience: Duration,
    mut work: impl FnMut(usize) -> Result<T, TrainerError>,
) -> Result<Vec<T>, TrainerError> {
    let mut items = items.into_iter();
    let Some(first) = items.next() else {
        return Ok(Vec::new());
    };
    let first = work(first)?;
    let started = Instant::now();
    let mut samples = Vec::new();
    for item in items {
        samples.push(work(item)?);
        if samples.len() >= LEAST && started.elapsed() >= patience {
            break;
        }
    }
    if samples.is_empty() {
        samples.push(first);
    }
    Ok(samples)
}

impl Training<'_> {
    /// Steps take as long as they have rows. Those that are done stand evenly among all steps in the order of their rows, so
    /// that short records and long ones have their share.
    fn supervised_cost(
        &self,
        state: &mut TrainingState,
        patience: Duration,
    ) -> Result<Each, TrainerError> {
        let optimizer = self.plan.optimizer();
        let total = optimizer.total_steps(self.train.len());
        let schedule = Schedule::of(optimizer, total);
        let mut plan = BatchPlan::of_examples(self.train, optimizer.batch_size, self.plan.seed());
        let batches: Vec<Vec<usize>> = (0..total).map(|step| plan.batch(step)).collect();
        let rows: usize = batches.iter().map(|records| self.rows(records)).sum();
        let unknown = self.unknown_references(&batches);

        let mut by_rows: Vec<usize> = (0..total).collect();
        by_rows.sort_by_key(|&step| self.rows(&batches[step]));
        let spread = spread(total).map(|place| by_rows[place]);
        let order = self.most_memory(&batches).into_iter().chain(spread);
        let samples = timed(order, patience, |step| {
            let records: Vec<&Example> = batches[step].iter().map(|&i| &self.train[i]).collect();
            let unknown = records.iter().filter(|record| !self.knows(record));
            let unknown = unknown.map(|record| record.rows()).sum();
            // The step finds them there and is timed without them.
            let reading = Sample::of(unknown, || self.references_of(&records))?;
            let preferences = self.sample_preferences(step);
            let stepping = Sample::of(self.rows(&batches[step]), || {
                self.one_step(state, &records, &preferences, schedule.factor(step))
            })?;
            Ok((reading, stepping))
        })?;
        let stepping = Sample::per_row(samples.iter().map(|(_, stepping)| *stepping));
        let stepping = stepping.unwrap_or(0.0);
        // A pass that does not go back again takes a third.
        let reading = Sample::per_row(samples.iter().map(|(reading, _)| *reading));
        let reading = reading.unwrap_or(stepping / 3.0);
        Ok(Each {
            rows: Some(rows),
            seconds: rows as f64 * stepping + self.measured_rows(total) as f64 * reading,
            references: unknown as f64 * reading,
            timed: samples.len(),
        })
    }

    /// A step takes as long as the answers that are written in it; the first ones stand for all.
    fn rlhf_cost(
        &self,
        state: &mut TrainingState,
        patience: Duration,
    ) -> Result<Each, TrainerError> {
        let optimizer = self.plan.optimizer();
        let total = optimizer.total_steps(self.train.len());
        let schedule = Schedule::of(optimizer, total);
        let mut batches =
            BatchPlan::of_examples(self.train, optimizer.batch_size, self.plan.seed());
        let samples = timed(0..total, patience, |step| {
            let records = batches.batch(step);
            let records: Vec<&Example> = records.iter().map(|&i| &self.train[i]).collect();
            let preferences = self.sample_preferences(step);
            let sample = Sample::of(1, || {
                self.one_step(state, &records, &preferences, schedule.factor(step))
            });
            state.step = step + 1;
            sample
        })?;
        Ok(Each {
            rows: None,
            timed: samples.len(),
            seconds: total as f64 * Sample::per_row(samples).unwrap_or(0.0),
            references: 0.0,
        })
    }

    /// Rows of these records of the training.
    fn rows(&self, records: &[usize]) -> usize {
        records.iter().map(|&i| self.train[i].rows()).sum()
    }

    /// The step that has the micro-batch with the most rows.
    fn most_memory(&self, batches: &[Vec<usize>]) -> Option<usize> {
        let size = self.plan.optimizer().micro_batch_size;
        let most = |step: &usize| {
            let micro_batches = batches[*step].chunks(size);
            micro_batches.map(|records| self.rows(records)).max()
        };
        (0..batches.len()).max_by_key(most)
    }

    fn knows(&self, example: &Example) -> bool {
        !self.plan.method().learning.needs_reference() || self.references.knows(example)
    }

    /// Rows of the records that come up in `batches` and whose log-probabilities under the reference are not known.
    fn unknown_references(&self, batches: &[Vec<usize>]) -> usize {
        let mut drawn = vec![false; self.train.len()];
        batches.iter().flatten().for_each(|&i| drawn[i] = true);
        let drawn = self.train.iter().zip(drawn).filter(|(_, drawn)| *drawn);
        let unknown = drawn.filter(|(example, _)| !self.knows(example));
        unknown.map(|(example, _)| example.rows()).sum()
    }

    /// Rows that are read on the way to measure held-out records.
    fn measured_rows(&self, total: usize) -> usize {
        let Some(every) = self.plan.evaluation().every else {
            return 0;
        };
        let rows: usize = self.measured_examples().iter().map(Example::rows).sum();
        rows * self.measured_preferences().len() * (total / every)
    }
}

/// The numbers below `count` in an order of which each beginning is spread evenly over them: the middle, the quarters, the
/// eighths.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let levels = count.next_power_of_two().trailing_zeros();
    let places = (0..=levels).flat_map(move |level| {
        let parts = 2_usize << level;
        (1..parts).step_by(2).map(move |part| count * part / parts)
    });
    let mut taken = vec![false; count];
    places.filter(move |&place| place < count && !std::mem::replace(&mut taken[place], true))
}

/// Seconds that the network takes under an adapter for a row of a record that goes through it alone, as when a front is measured.
/// Records from all over `examples` are read until `patience` ends; 0 where there are none.
pub fn seconds_per_row(
    model: &Decoder,
    steering: &Steering,
    learning: &Learning,
    examples: &[Example],
    patience: Duration,
) -> Result<f64, TrainerError> {
    let samples = timed(spread(examples.len()), patience, |place| {
        let example = &examples[place];
        Sample::of(example.rows(), || match learning {
            Learning::Supervised(loss) => read_example(model, steering, loss, example),
            Learning::Rlhf(_) => response_log_probs(model, Some(steering), example),
        })
    })?;
    Ok(Sample::per_row(samples).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_beginning_of_the_order_is_spread_evenly_and_the_whole_has_everything_once() {
        for count in [0, 1, 2, 3, 7, 8, 100, 1000] {
            let mut order: Vec<usize> = spread(count).collect();
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
        let first: Vec<usize> = spread(800).take(7).collect();
        assert_eq!(first, [400, 200, 600, 100, 300, 500, 700]);
    }
}
