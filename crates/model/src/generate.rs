//! Generation with a KV cache: prompts of different lengths in one batch, each row under its own λ.
//!
//! Prompts are read in one packed pass without padding. Their keys and values are then aligned at the
//! right end of a rectangular cache, so that each new token of all rows is one column.

use std::ops::Range;

use burn::tensor::Tensor;
use panacea_kernels::{Rotation, attention, attention_decode};
use panacea_svd_lora::Adapters;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::{PackedBatch, Sequence};
use crate::decoder::Decoder;
use crate::{ModelError, Sampling};

/// A prompt to be continued.
#[derive(Debug, Clone)]
pub struct GenerateRequest<'a> {
    /// The prompt's tokens; at least one.
    pub prompt: &'a [u32],
    /// λ of this row; ignored without adapters.
    pub preference: &'a [f64],
    /// At most so many new tokens.
    pub max_new_tokens: usize,
    /// The row's own stream of random numbers: its answer does not depend on its neighbours.
    pub seed: u64,
}

/// Why a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token was drawn.
    Stop,
    /// `max_new_tokens` were drawn.
    Length,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub reason: StopReason,
}

/// Keys and values of one layer, `[rows, kv, columns, dim]` each.
struct LayerCache {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Decoder {
    /// Continues every prompt until one of `stop` is drawn, or for its `max_new_tokens`.
    pub fn generate(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        sampling: &Sampling,
        stop: &[u32],
    ) -> Result<Vec<Generated>, ModelError> {
        self.check_requests(requests, adapters, sampling)?;
        let longest = requests.iter().map(|r| r.prompt.len()).max().unwrap_or(0);
        let new_tokens = requests.iter().map(|r| r.max_new_tokens).max().unwrap_or(0);
        let mut rows: Vec<Row> = requests.iter().map(Row::new).collect();
        if new_tokens == 0 {
            return Ok(rows.into_iter().map(Row::finish).collect());
        }

        let (mut caches, mut logits) =
            self.read_prompts(requests, adapters, longest, new_tokens)?;
        let preferences: Vec<f64> = requests
            .iter()
            .flat_map(|r| r.preference.iter().copied())
            .collect();
        for step in 0..new_tokens {
            for (row, logits) in rows.iter_mut().zip(&logits) {
                row.push(logits, sampling, stop);
            }
            if step + 1 == new_tokens || rows.iter().all(|row| row.reason.is_some()) {
                break;
            }
            let steering = adapters.map(|adapters| self.steering(adapters, &preferences));
            let tokens: Vec<u32> = rows.iter().map(Row::last).collect();
            let positions: Vec<usize> = requests.iter().map(|r| r.prompt.len() + step).collect();
            let column = longest + step;
            let visible = self.visible_columns(requests, longest, column);
            let rotation = Rotation::new(&positions, &self.inverse_frequencies, &self.device);
            let mut x = self.embed(&tokens);
            for (layer, cache) in self.layers.iter().zip(&mut caches) {
                let qkv = layer.query_key_value(&x, &rotation, steering.as_ref());
                cache.write(qkv.k, qkv.v, column);
                let LayerCache { keys, values } = cache;
                let attended = attention_decode(qkv.q, keys, values, &visible, layer.heads);
                x = layer.attend_cached(x, steering.as_ref(), attended);
            }
            logits = self.next_logits(x);
        }
        Ok(rows.into_iter().map(Row::finish).collect())
    }

    /// The most tokens that can follow `prompt`; at least 1, so that a prompt without room is refused where
    /// its length is checked.
    pub fn room_after(&self, prompt: &[u32]) -> usize {
        let positions = self.config.max_position_embeddings;
        positions.saturating_sub(prompt.len()).max(1)
    }

    fn check_requests(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        sampling: &Sampling,
    ) -> Result<(), ModelError> {
        sampling.check()?;
        for (row, request) in requests.iter().enumerate() {
            let (found, limit) = (
                request.prompt.len() + request.max_new_tokens,
                self.config.max_position_embeddings,
            );
            if found > limit {
                return Err(ModelError::TooLong { found, limit });
            }
            if let Some(adapters) = adapters {
                let (found, expected) =
                    (request.preference.len(), adapters.config.objectives.len());
                if found != expected {
                    return Err(ModelError::PreferenceLength {
                        row,
                        found,
                        expected,
                    });
                }
            }
        }
        Ok(())
    }

    /// One packed pass over all prompts: caches with the prompts' keys and values at the right end of
    /// their first `longest` columns, and the logits behind each prompt.
    fn read_prompts(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        longest: usize,
        new_tokens: usize,
    ) -> Result<(Vec<LayerCache>, Vec<Vec<f32>>), ModelError> {
        let sequences: Vec<Sequence<'_>> = requests
            .iter()
            .map(|r| Sequence {
                prompt: r.prompt,
                responses: vec![],
                preference: r.preference,
            })
            .collect();
        let batch = PackedBatch::new(&sequences)?;
        let context = self.context(&batch, adapters)?;
        let mut x = self.embed(&batch.tokens);
        let mut caches = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let qkv = layer.query_key_value(&x, &context.rotation, context.steering.as_ref());
            let (attended, _) = attention(&qkv.q, &qkv.k, &qkv.v, &context.visibility);
            x = layer.attend_cached(x, context.steering.as_ref(), attended);
            let rectangle = |packed: Tensor<2>| {
                let (kv, dim) = (layer.heads.kv, layer.heads.dim);
                let shape = [requests.len(), kv, longest + new_tokens, dim];
                let mut cache = Tensor::<4>::zeros(shape, &self.device);
                for (row, segment) in batch.segments.iter().enumerate() {
                    let n = segment.own.len();
                    let own = packed.clone().slice([segment.own.clone(), 0..kv * dim]);
                    let own = own.reshape([1, n, kv, dim]).swap_dims(1, 2);
                    cache = cache
                        .slice_assign([row..row + 1, 0..kv, longest - n..longest, 0..dim], own);
                }
                cache
            };
            caches.push(LayerCache {
                keys: rectangle(qkv.k),
                values: rectangle(qkv.v),
            });
        }
        let last = batch.segments.iter().map(|segment| segment.own.end - 1);
        let x = x.select(0, crate::head::indices(last, &self.device));
        Ok((caches, self.next_logits(x)))
    }

    /// The cache columns that each row sees when the one at `column` was just written: from its prompt's first,
    /// or as far back as the model's window reaches.
    fn visible_columns(
        &self,
        requests: &[GenerateRequest<'_>],
        longest: usize,
        column: usize,
    ) -> Vec<Range<usize>> {
        let window = self.config.sliding_window;
        let in_window = window.map_or(0, |window| (column + 1).saturating_sub(window));
        let first = |request: &GenerateRequest<'_>| (longest - request.prompt.len()).max(in_window);
        requests.iter().map(|r| first(r)..column + 1).collect()
    }
}

impl LayerCache {
    /// Writes one column of keys and values, `[rows, kv × dim]`.
    fn write(&mut self, k: Tensor<2>, v: Tensor<2>, column: usize) {
        let put = |cache: &mut Tensor<4>, new: Tensor<2>| {
            let [rows, kv, _, dim] = cache.dims();
            // The cache is moved out, so that its buffer has one owner and is written in place.
            let empty = Tensor::<4>::zeros([1, 1, 1, 1], &new.device());
            let whole = std::mem::replace(cache, empty);
            let at = [0..rows, 0..kv, column..column + 1, 0..dim];
            *cache = whole.slice_assign(at, new.reshape([rows, kv, 1, dim]));
        };
        put(&mut self.keys, k);
        put(&mut self.values, v);
    }
}

/// A row on its way.
struct Row {
    seen: Vec<u32>,
    prompt: usize,
    limit: usize,
    rng: ChaCha8Rng,
    reason: Option<StopReason>,
}

impl Row {
    fn new(request: &GenerateRequest<'_>) -> Self {
        Self {
            seen: request.prompt.to_vec(),
            prompt: request.prompt.len(),
            limit: request.prompt.len() + request.max_new_tokens,
            rng: ChaCha8Rng::seed_from_u64(request.seed),
            reason: (request.max_new_tokens == 0).then_some(StopReason::Length),
        }
    }

    fn push(&mut self, logits: &[f32], sampling: &Sampling, stop: &[u32]) {
        if self.reason.is_some() {
            return;
        }
        let token = sampling.choose(logits, &self.seen, &mut self.rng);
        if stop.contains(&token) {
            self.reason = Some(StopReason::Stop);
            return;
        }
        self.seen.push(token);
        if self.seen.len() == self.limit {
            self.reason = Some(StopReason::Length);
        }
    }

    fn last(&self) -> u32 {
        self.seen[self.seen.len() - 1]
    }

    fn finish(mut self) -> Generated {
        Generated {
            tokens: self.seen.split_off(self.prompt),
            reason: self.reason.unwrap_or(StopReason::Length),
        }
    }
}
