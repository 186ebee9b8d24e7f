//! Which examples make the batch of a step: shuffled anew each epoch, of similar lengths.
//!
//! The order is a function of (seed, epoch) alone, so the position of a run is one number, its
//! step, and a resumed run sees the batches that an uninterrupted one would have seen.
//!
//! With buckets an epoch is shuffled, taken in windows of [`WINDOW`] batches, sorted by length
//! within each window, cut into batches, and the batches are shuffled. Batches then hold little
//! padding, and which examples meet still changes from epoch to epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Batches whose examples are sorted together. More of them: less padding, and examples of one
/// length meet each other more often.
const WINDOW: usize = 32;

/// The batches of a run.
#[derive(Debug, Clone)]
pub struct BatchPlan {
    lengths: Vec<usize>,
    batch_size: usize,
    seed: u64,
    bucketed: bool,
    cached: Option<(u64, Vec<Vec<usize>>)>,
}

impl BatchPlan {
    /// Batches of `batch_size` out of examples with these `lengths` in tokens
    /// ([`Example::length`](crate::Example::length)). A batch size of 0 is taken as 1.
    pub fn new(lengths: Vec<usize>, batch_size: usize, seed: u64, bucketed: bool) -> Self {
        Self {
            lengths,
            batch_size: batch_size.max(1),
            seed,
            bucketed,
            cached: None,
        }
    }

    /// Batches in an epoch: every example is in exactly one of them, so one may be smaller.
    pub fn batches_per_epoch(&self) -> usize {
        self.lengths.len().div_ceil(self.batch_size)
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
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        order.shuffle(&mut rng);
        if self.bucketed {
            for window in order.chunks_mut(WINDOW * self.batch_size) {
                window.sort_by_key(|&example| self.lengths[example]);
            }
        }
        let mut batches: Vec<Vec<usize>> = order
            .chunks(self.batch_size)
            .map(<[usize]>::to_vec)
            .collect();
        if self.bucketed {
            batches.shuffle(&mut rng);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(count: usize) -> Vec<usize> {
        (0..count).map(|i| 20 + (i * 7919) % 400).collect()
    }

    #[test]
    fn prop_every_example_is_in_every_epoch_exactly_once() {
        for (count, size, bucketed) in [
            (1000, 8, true),
            (1003, 8, true),
            (7, 3, false),
            (2, 5, true),
        ] {
            let mut plan = BatchPlan::new(lengths(count), size, 3, bucketed);
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
        let mut forward = BatchPlan::new(lengths(101), 4, 11, true);
        let all: Vec<Vec<usize>> = (0..90).map(|step| forward.batch(step)).collect();
        for step in (0..90).rev() {
            let mut resumed = BatchPlan::new(lengths(101), 4, 11, true);
            assert_eq!(resumed.batch(step), all[step]);
            assert_eq!(forward.batch(step), all[step]);
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch: usize| {
            let mut plan = BatchPlan::new(lengths(64), 4, seed, true);
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
        let mut plan = BatchPlan::new(lengths(30), 8, 0, true);
        let mut sizes: Vec<usize> = (0..4).map(|i| plan.batch(i).len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [6, 8, 8, 8]);
    }

    #[test]
    fn buckets_pad_less_and_come_in_no_order_of_length() {
        let lengths = lengths(1024);
        let padded = |bucketed| {
            let mut plan = BatchPlan::new(lengths.clone(), 8, 5, bucketed);
            let batches: Vec<usize> = (0..128)
                .map(|i| plan.batch(i).iter().map(|&e| lengths[e]).max().unwrap())
                .collect();
            (batches.iter().sum::<usize>() * 8, batches)
        };
        let tokens: usize = lengths.iter().sum();
        let (with_buckets, longest) = padded(true);
        let (without, _) = padded(false);
        assert!(
            with_buckets < tokens * 11 / 10,
            "{with_buckets} of {tokens}"
        );
        assert!(without > tokens * 14 / 10, "{without} of {tokens}");
        let rises = longest.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((40..88).contains(&rises), "{rises} rises");
    }

    /// The order is part of what a resumed run relies on: a new version of the generator or of
    /// the shuffle must not change it unnoticed. Values of this implementation.
    #[test]
    fn the_order_of_a_seed_stays() {
        let mut plan = BatchPlan::new((0..8).collect(), 2, 42, true);
        let order: Vec<Vec<usize>> = (0..8).map(|step| plan.batch(step)).collect();
        let first = [[0, 1], [2, 3], [4, 5], [6, 7]];
        let second = [[4, 5], [0, 1], [6, 7], [2, 3]];
        assert_eq!(order, [first, second].concat());

        // Where lengths are equal, sorting moves nothing and the shuffle shows.
        for bucketed in [false, true] {
            let mut plan = BatchPlan::new(vec![1; 8], 2, 42, bucketed);
            let order: Vec<Vec<usize>> = (0..4).map(|step| plan.batch(step)).collect();
            assert_eq!(order, [[7, 1], [5, 4], [6, 0], [3, 2]], "{bucketed}");
        }
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(BatchPlan::new(vec![], 4, 0, true).batch(3).is_empty());
        assert_eq!(BatchPlan::new(vec![5], 0, 0, true).batch(3), [0]);
    }
}
