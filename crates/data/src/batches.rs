//! Which examples make the batch of a step: shuffled anew each epoch.
//!
//! The order is a function of (seed, epoch) alone, so the position of a run is one number, its
//! step, and a resumed run sees the batches that an uninterrupted one would have seen. Lengths play no part: batches are
//! packed without padding.
//!
//! Where each example belongs to one objective only (a data set per objective), a random batch may hold many
//! examples of one objective and none of another, so that the other one's weight λ_i has no effect in that step.
//! Such sets are dealt evenly: a batch of B holds about n·B/N examples of a set of n out of N, and where the sets
//! have the same size, it is off by at most one. Within a batch the examples of a set stand together, so that a batch
//! whose records are dealt in turn to several preferences gives each of those an even share as well.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::record::Example;

/// The batches of a run.
#[derive(Debug, Clone)]
pub struct BatchPlan {
    examples: usize,
    /// The set of each example; empty where there is one set.
    sets: Vec<usize>,
    batch_size: usize,
    seed: u64,
    cached: Option<(u64, Vec<Vec<usize>>)>,
}

impl BatchPlan {
    /// Batches of `batch_size` out of so many examples. A batch size of 0 is taken as 1.
    pub fn new(examples: usize, batch_size: usize, seed: u64) -> Self {
        Self {
            examples,
            sets: Vec::new(),
            batch_size: batch_size.max(1),
            seed,
            cached: None,
        }
    }

    /// Batches of these examples. Where every one of them is labelled on a single objective, each batch holds
    /// an even share of each objective's examples.
    pub fn of_examples(examples: &[Example], batch_size: usize, seed: u64) -> Self {
        let plan = Self::new(examples.len(), batch_size, seed);
        match examples.iter().map(Example::only_objective).collect() {
            Some(sets) => plan.dealt(sets),
            None => plan,
        }
    }

    /// Deals the examples of each set evenly to the batches; `sets` names the set of each example.
    fn dealt(mut self, sets: Vec<usize>) -> Self {
        let is_one = sets.windows(2).all(|pair| pair[0] == pair[1]);
        self.sets = if is_one { Vec::new() } else { sets };
        self
    }

    /// Batches in an epoch: every example is in exactly one of them, so one may be smaller.
    pub fn batches_per_epoch(&self) -> usize {
        self.examples.div_ceil(self.batch_size)
    }

    /// The indices of the examples of the batch of `step`, counted from 0 over all epochs.
    /// Empty only where there is no example at all.
    pub fn batch(&mut self, step: usize) -> Vec<usize> {
        let batches_per_epoch = self.batches_per_epoch();
        if batches_per_epoch == 0 {
            return Vec::new();
        }
        let epoch = (step / batches_per_epoch) as u64;
        let batches = match self.cached.take() {
            Some((cached, batches)) if cached == epoch => batches,
            _ => self.epoch(epoch),
        };
        let batch = batches[step % batches_per_epoch].clone();
        self.cached = Some((epoch, batches));
        batch
    }

    /// All batches of an epoch.
    fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(epoch);
        let mut order: Vec<usize> = (0..self.examples).collect();
        order.shuffle(&mut rng);
        if !self.sets.is_empty() {
            order = self.deal(&order, &mut rng);
        }
        let mut batches: Vec<Vec<usize>> = order
            .chunks(self.batch_size)
            .map(<[usize]>::to_vec)
            .collect();
        if !self.sets.is_empty() {
            for batch in &mut batches {
                batch.sort_by_key(|&example| self.sets[example]);
            }
        }
        batches
    }

    /// The order of [`evenly`], with one random u in [0, 1) a set.
    fn deal(&self, order: &[usize], rng: &mut ChaCha8Rng) -> Vec<usize> {
        evenly(order, &self.sets, || rng.random())
    }
}

/// Examples in an order whose every first part holds an even share of each objective's, the very first of each before all others,
/// where each of them is labelled on a single one. Those of an objective keep their order.
pub fn dealt_evenly(examples: Vec<Example>) -> Vec<Example> {
    let sets: Option<Vec<usize>> = examples.iter().map(Example::only_objective).collect();
    let Some(sets) = sets else {
        return examples;
    };
    let order: Vec<usize> = (0..examples.len()).collect();
    let mut examples: Vec<Option<Example>> = examples.into_iter().map(Some).collect();
    let dealt = evenly(&order, &sets, || 0.0).into_iter();
    dealt
        .filter_map(|example| examples[example].take())
        .collect()
}

/// An order in which the examples of each set keep their own, at even distances: the j-th of n is at (j + u) / n of the way,
/// with the u of its set. `sets` names the set of each example.
fn evenly(order: &[usize], sets: &[usize], mut offset: impl FnMut() -> f64) -> Vec<usize> {
    let count = sets.iter().max().map_or(0, |&last| last + 1);
    let mut of_set = vec![Vec::new(); count];
    for &example in order {
        of_set[sets[example]].push(example);
    }
    let mut placed = Vec::with_capacity(order.len());
    for set in of_set {
        let (offset, count) = (offset(), set.len() as f64);
        let places = (0..set.len()).map(|j| (j as f64 + offset) / count);
        placed.extend(places.zip(set));
    }
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    placed.into_iter().map(|(_, example)| example).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Judgement;
    use crate::record::Source;

    #[test]
    fn prop_every_example_is_in_every_epoch_exactly_once() {
        for (count, size) in [(1000, 8), (1003, 8), (7, 3), (2, 5)] {
            let mut plan = BatchPlan::new(count, size, 3);
            let per_epoch = plan.batches_per_epoch();
            for epoch in 0..3 {
                let mut seen: Vec<usize> = (0..per_epoch)
                    .flat_map(|i| plan.batch(epoch * per_epoch + i))
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn prop_a_batch_does_not_depend_on_what_was_asked_before() {
        let mut forward = BatchPlan::new(101, 4, 11);
        let all: Vec<Vec<usize>> = (0..90).map(|step| forward.batch(step)).collect();
        for step in (0..90).rev() {
            let mut resumed = BatchPlan::new(101, 4, 11);
            assert_eq!(resumed.batch(step), all[step]);
            assert_eq!(forward.batch(step), all[step]);
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch: usize| {
            let mut plan = BatchPlan::new(64, 4, seed);
            (0..16usize)
                .map(|i| plan.batch(epoch * 16 + i))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn all_batches_are_full_but_one() {
        let mut plan = BatchPlan::new(30, 8, 0);
        let mut sizes: Vec<usize> = (0..4).map(|i| plan.batch(i).len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [6, 8, 8, 8]);
    }

    #[test]
    fn a_first_part_has_its_share_of_every_data_set() {
        let example = |line: usize, objective: usize| Example {
            source: Source::new(std::path::Path::new("all.jsonl"), line),
            prompt: Vec::new(),
            responses: vec![Vec::new()],
            judgements: vec![Judgement {
                response: 0,
                against: None,
                labels: (0..3).map(|i| (i == objective).then_some(1.0)).collect(),
            }],
            scores: Vec::new(),
            words: crate::record::Words::default(),
        };
        let all: Vec<Example> = (0..9)
            .map(|line| example(line, [0, 0, 0, 0, 1, 1, 2, 2, 2][line]))
            .collect();
        let lines = |examples: Vec<Example>| -> Vec<usize> {
            examples.iter().map(|example| example.source.line).collect()
        };
        assert_eq!(lines(dealt_evenly(all)), [0, 4, 6, 1, 7, 2, 5, 8, 3]);

        // Where one says something about two objectives, all stay as they are.
        let mut both = vec![example(0, 0), example(1, 0), example(2, 1)];
        both[0].judgements[0].labels[1] = Some(1.0);
        assert_eq!(lines(dealt_evenly(both)), [0, 1, 2]);
    }

    /// The examples of each set in each of `batches`.
    fn shares(batches: &[Vec<usize>], sets: &[usize], count: usize) -> Vec<Vec<usize>> {
        let of = |batch: &Vec<usize>| {
            let in_set = |set| {
                batch
                    .iter()
                    .filter(|&&example| sets[example] == set)
                    .count()
            };
            (0..count).map(in_set).collect()
        };
        batches.iter().map(of).collect()
    }

    fn dealt(sets: &[usize], size: usize) -> BatchPlan {
        BatchPlan::new(sets.len(), size, 9).dealt(sets.to_vec())
    }

    #[test]
    fn prop_sets_are_dealt_evenly_and_every_example_comes_once() {
        // In the order of files: one set after the other.
        let set = |set: usize, examples: usize| std::iter::repeat_n(set, examples);
        let equal: Vec<usize> = (0..3).flat_map(|i| set(i, 28)).collect();
        let unequal: Vec<usize> = set(0, 90).chain(set(1, 7)).chain(set(2, 31)).collect();
        for (sets, size, off) in [
            (&equal, 6, 0.0),
            (&equal, 8, 1.0),
            (&unequal, 8, 2.0),
            (&unequal, 5, 2.0),
        ] {
            let mut plan = dealt(sets, size);
            let per_epoch = plan.batches_per_epoch();
            let counts = [0, 1, 2].map(|i| sets.iter().filter(|&&set| set == i).count());
            for epoch in 0..5 {
                let batches: Vec<Vec<usize>> = (0..per_epoch)
                    .map(|i| plan.batch(epoch * per_epoch + i))
                    .collect();
                let mut seen = batches.concat();
                seen.sort_unstable();
                assert_eq!(seen, (0..sets.len()).collect::<Vec<_>>());
                for (batch, shares) in batches.iter().zip(shares(&batches, sets, 3)) {
                    for (share, count) in shares.iter().zip(counts) {
                        let even = (count * batch.len()) as f64 / sets.len() as f64;
                        assert!(
                            (*share as f64 - even).abs() <= off,
                            "{shares:?} of {counts:?}"
                        );
                    }
                }
            }
            let mut resumed = dealt(sets, size);
            let last = 5 * per_epoch - 1;
            assert_eq!(resumed.batch(last), plan.batch(last));
        }
    }

    #[test]
    fn preferences_that_share_a_batch_get_a_share_of_every_set() {
        let sets: Vec<usize> = (0..80).map(|example| example / 20).collect();
        let mut plan = dealt(&sets, 8);
        for step in 0..20 {
            let batch = plan.batch(step);
            for group in 0..2 {
                let dealt: Vec<usize> = batch.iter().skip(group).step_by(2).copied().collect();
                assert_eq!(shares(&[dealt], &sets, 4), [[1, 1, 1, 1]]);
            }
        }
    }

    #[test]
    fn examples_of_single_objectives_make_the_sets() {
        let example = |labels: [Option<f64>; 2]| Example {
            source: Source::new("a.jsonl".as_ref(), 1),
            prompt: vec![1, 2],
            responses: vec![vec![3]],
            judgements: vec![Judgement::single(labels.to_vec())],
            scores: Vec::new(),
            words: crate::Words::default(),
        };
        let (first, second) = ([Some(1.0), None], [None, Some(1.0)]);
        let mut examples: Vec<Example> = [first, second]
            .into_iter()
            .flat_map(|labels| vec![example(labels); 8])
            .collect();
        let single = BatchPlan::of_examples(&examples, 4, 17);
        assert_eq!(single.sets, [[0; 8], [1; 8]].concat());
        // One that speaks for both leaves nothing to deal, and so do examples of a single objective.
        examples.push(example([Some(1.0), Some(1.0)]));
        assert!(BatchPlan::of_examples(&examples, 4, 17).sets.is_empty());
        assert!(
            BatchPlan::of_examples(&examples[..8], 4, 17)
                .sets
                .is_empty()
        );
    }

    /// The order is part of what a resumed run relies on: a new version of the generator or of
    /// the shuffle must not change it unnoticed. Values of this implementation.
    #[test]
    fn the_order_of_a_seed_stays() {
        let mut plan = BatchPlan::new(8, 2, 42);
        let order: Vec<Vec<usize>> = (0..4).map(|step| plan.batch(step)).collect();
        assert_eq!(order, [[7, 1], [5, 4], [6, 0], [3, 2]]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(BatchPlan::new(0, 4, 0).batch(3).is_empty());
        assert_eq!(BatchPlan::new(1, 0, 0).batch(3), [0]);
    }
}
