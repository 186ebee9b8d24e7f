//! A row of logits in blocks of the vocabulary, of which those are read that decide.
//!
//! Of every block its largest logit is known, and where the row lies on a GPU the sums of its weights: enough to find the
//! block of a drawn token, or the blocks that can hold one of the likeliest. Their logits come from the GPU when they are
//! asked for. What lies on the host is known whole; there, blocks save the sorting of the vocabulary.

use std::borrow::Cow;
use std::ops::Range;

use panacea_kernels::LOGIT_BLOCK;

/// Blocks that are opened at first to find the likeliest tokens, at least.
const FIRST_OPENED: usize = 16;

/// The logits behind one token.
#[derive(Debug)]
pub(crate) struct LogitsRow<'a> {
    vocabulary: usize,
    /// The largest logit of each block.
    largest: Vec<f32>,
    logits: Logits<'a>,
}

#[derive(Debug)]
enum Logits<'a> {
    Here(Cow<'a, [f32]>),
    OnDevice {
        /// Of each block, Σ exp(l − largest) and Σ exp((l − largest) / temperature).
        sums: Vec<[f32; 2]>,
        /// The blocks that have been read.
        read: Vec<Option<Vec<f32>>>,
    },
}

/// Blocks that have to be read first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unread(pub Vec<usize>);

/// What a weight's exponent is divided by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Temperature {
    /// 1: the model's own probabilities.
    OfModel,
    /// That of the row's own sampling.
    OfSampling(f64),
}

impl<'a> LogitsRow<'a> {
    /// One that lies on the host.
    pub fn here(logits: impl Into<Cow<'a, [f32]>>) -> Self {
        let logits = logits.into();
        Self {
            vocabulary: logits.len(),
            largest: logits.chunks(LOGIT_BLOCK).map(largest_of).collect(),
            logits: Logits::Here(logits),
        }
    }

    /// One of so many logits that lies on a device, from its line of [`logit_blocks`](panacea_kernels::logit_blocks).
    pub fn on_device(vocabulary: usize, blocks: &[f32]) -> Self {
        let (blocks, []) = blocks.as_chunks::<3>() else {
            panic!("three numbers are known of each block");
        };
        Self {
            vocabulary,
            largest: blocks.iter().map(|block| block[0]).collect(),
            logits: Logits::OnDevice {
                sums: blocks
                    .iter()
                    .map(|&[_, sum, colder]| [sum, colder])
                    .collect(),
                read: vec![None; blocks.len()],
            },
        }
    }

    /// Takes in a block of which one was told that it is unread.
    pub fn give(&mut self, block: usize, logits: &[f32]) {
        let count = self.tokens(block).len();
        if let Logits::OnDevice { read, .. } = &mut self.logits {
            read[block] = Some(logits[..count].to_vec());
        }
    }

    /// The largest of all logits.
    pub(super) fn max(&self) -> f64 {
        let all = self.largest.iter().copied();
        f64::from(all.fold(f32::NEG_INFINITY, f32::max))
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens of a block.
    fn tokens(&self, block: usize) -> Range<usize> {
        block * LOGIT_BLOCK..((block + 1) * LOGIT_BLOCK).min(self.vocabulary)
    }

    fn block(&self, block: usize) -> Result<&[f32], Unread> {
        match &self.logits {
            Logits::Here(logits) => Ok(&logits[self.tokens(block)]),
            Logits::OnDevice { read, .. } => read[block].as_deref().ok_or(Unread(vec![block])),
        }
    }

    pub(super) fn logit(&self, token: u32) -> Result<f64, Unread> {
        let (block, at) = (token as usize / LOGIT_BLOCK, token as usize % LOGIT_BLOCK);
        Ok(f64::from(self.block(block)?[at]))
    }

    /// Of each block, Σ exp((l − max) / temperature).
    pub(super) fn weights(&self, temperature: Temperature) -> Vec<f64> {
        let max = self.max();
        let (which, divisor) = match temperature {
            Temperature::OfModel => (0, 1.0),
            Temperature::OfSampling(divisor) => (1, divisor),
        };
        let weight = |logit: f32| ((f64::from(logit) - max) / divisor).exp();
        match &self.logits {
            Logits::Here(logits) => {
                let blocks = logits.chunks(LOGIT_BLOCK);
                let sum = |block: &[f32]| block.iter().map(|&logit| weight(logit)).sum();
                blocks.map(sum).collect()
            }
            Logits::OnDevice { sums, .. } => {
                let blocks = self.largest.iter().zip(sums);
                let sum = |(&largest, sums): (_, &[f32; 2])| match weight(largest) {
                    // The sums of a block that has nothing but −∞ are no numbers.
                    0.0 => 0.0,
                    weight => weight * f64::from(sums[which]),
                };
                blocks.map(sum).collect()
            }
        }
    }

    /// The first token of the largest logit.
    pub(super) fn argmax(&self) -> Result<u32, Unread> {
        let first_of_largest = |logits: &[f32]| {
            let mut best = 0;
            for (i, &logit) in logits.iter().enumerate() {
                if logit > logits[best] {
                    best = i;
                }
            }
            best
        };
        let block = first_of_largest(&self.largest);
        let at = first_of_largest(self.block(block)?);
        Ok((block * LOGIT_BLOCK + at) as u32)
    }

    /// The token at which Σ exp((l − max) / temperature), token by token, goes beyond the share `u` of all of it.
    pub(super) fn at_share(
        &self,
        u: f64,
        weights: &[f64],
        temperature: f64,
    ) -> Result<u32, Unread> {
        let mut left = u * weights.iter().sum::<f64>();
        let passed = weights.iter().position(|weight| {
            let is_here = left < *weight;
            left -= if is_here { 0.0 } else { *weight };
            is_here
        });
        // Rounding may leave a little behind the last one that has any weight.
        let Some(block) = passed.or_else(|| weights.iter().rposition(|&weight| weight > 0.0))
        else {
            return self.argmax();
        };
        let logits = self.block(block)?;
        let max = self.max();
        let own: Vec<f64> = (logits.iter())
            .map(|&logit| ((f64::from(logit) - max) / temperature).exp())
            .collect();
        // The block's sum as the device has it is another one in its last digits.
        let mut left = left / weights[block] * own.iter().sum::<f64>();
        let at = own.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let at = at.or_else(|| own.iter().rposition(|&weight| weight > 0.0));
        Ok((block * LOGIT_BLOCK + at.unwrap_or(0)) as u32)
    }

    /// The likeliest tokens, in order, ties by their numbers: as many as `enough` says, which is asked with more and more of them,
    /// or all. It needs `least` of them.
    pub(super) fn likeliest(
        &self,
        least: usize,
        enough: impl Fn(&[(u32, f32)]) -> Option<usize>,
    ) -> Result<Vec<(u32, f32)>, Unread> {
        let mut blocks: Vec<usize> = (0..self.largest.len()).collect();
        blocks.sort_by(|&a, &b| self.largest[b].total_cmp(&self.largest[a]));
        let mut opened = FIRST_OPENED.max(least.div_ceil(LOGIT_BLOCK));
        opened = opened.min(blocks.len());
        loop {
            // What a block that is not opened holds is no larger than this.
            let bound = blocks.get(opened).map(|&next| self.largest[next]);
            let unread = blocks[..opened].iter().copied();
            let unread: Vec<usize> = unread.filter(|&b| self.block(b).is_err()).collect();
            if !unread.is_empty() {
                return Err(Unread(unread));
            }
            let mut certain = Vec::new();
            for &block in &blocks[..opened] {
                let logits = self.block(block)?.iter().copied();
                let tokens = self.tokens(block).map(|token| token as u32).zip(logits);
                certain.extend(tokens.filter(|&(_, l)| bound.is_none_or(|bound| l > bound)));
            }
            certain.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            match (enough(&certain), bound) {
                (Some(count), _) => {
                    certain.truncate(count);
                    return Ok(certain);
                }
                (None, None) => return Ok(certain),
                (None, Some(_)) => {}
            }
            opened = (4 * opened).min(blocks.len());
        }
    }
}

/// The largest number but NaN. Several at a time, which a fold with `f32::max` is not.
fn largest_of(numbers: &[f32]) -> f32 {
    let (groups, rest) = numbers.as_chunks::<16>();
    let mut largest = [f32::NEG_INFINITY; 16];
    for group in groups {
        for (largest, &number) in largest.iter_mut().zip(group) {
            *largest = if number > *largest { number } else { *largest };
        }
    }
    let all = largest.iter().chain(rest).copied();
    all.fold(f32::NEG_INFINITY, f32::max)
}
