//! Generation with a KV cache: prompts of different lengths, each under its own λ.
//!
//! A prompt waits for a place in the cache, is read in one packed pass with those that come in with it, and is then
//! continued token by token together with all others at work. Whoever is done leaves the place to the next: no row
//! is computed for nothing, and none sees another. A prompt that someone at work has read under the same λ is not read
//! again: several answers to one prompt read it once.

use std::collections::VecDeque;
use std::rc::Rc;

use burn_tensor::Tensor;
use panacea_kernels::{CacheRow, Rotation, attention, attention_decode, stay_awake, write_cache};
use panacea_svd_lora::Adapters;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::{PackedBatch, Sequence};
use crate::decoder::{Decoder, Logits};
use crate::linear::Mode;
use crate::sampling::Drawn;
use crate::{ModelError, Sampling};

/// Rows that are continued together, at most: about as many as share one reading of the weights on a CPU.
const PLACES: usize = 16;

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
    /// This stop token was drawn.
    Stop(u32),
    /// `max_new_tokens` were drawn.
    Length,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// The logarithm of the probability that each of `tokens` was drawn with, and behind them that of the stop token, if
    /// one was drawn. With [`Sampling::exact`] it is log p under the model.
    pub log_probs: Vec<f64>,
    /// Why it ended.
    pub reason: StopReason,
}

/// A request at work.
struct Seat {
    /// Its index.
    request: usize,
    /// Its row of the caches.
    slot: usize,
    /// The logits behind its prompt, for those who have the same prompt and come in later.
    behind_prompt: Rc<[f32]>,
}

/// Keys and values of one layer, `[slots, kv, columns, dim]` each. A row's tokens stand from column 0 on.
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
        let adapters = adapters.map(Adapters::laid_out_by_columns);
        let adapters = adapters.as_ref();
        let mut rows: Vec<Row> = requests.iter().map(Row::new).collect();
        let mut waiting: VecDeque<usize> = (0..rows.len()).collect();
        waiting.retain(|&request| !rows[request].is_done());
        let mut free: Vec<usize> = (0..waiting.len().min(PLACES)).collect();
        let mut caches = self.empty_caches(free.len(), requests);
        let mut seats: Vec<Seat> = Vec::new();
        loop {
            seats.retain(|seat| {
                let is_done = rows[seat.request].is_done();
                if is_done {
                    free.push(seat.slot);
                }
                !is_done
            });
            let count = free.len().min(waiting.len());
            if count > 0 {
                let newcomers: Vec<(usize, usize)> =
                    waiting.drain(..count).zip(free.drain(..count)).collect();
                let first = seats.len();
                self.seat(requests, adapters, &newcomers, &mut seats, &mut caches)?;
                for seat in &seats[first..] {
                    rows[seat.request].push(&seat.behind_prompt, sampling, stop);
                }
                // Some may be done with their first token.
                continue;
            }
            if seats.is_empty() {
                return Ok(rows.into_iter().map(Row::finish).collect());
            }
            let decode = || self.decode(requests, adapters, &seats, &rows, &mut caches);
            let logits = stay_awake(decode);
            for (seat, logits) in seats.iter().zip(logits.rows()) {
                rows[seat.request].push(logits, sampling, stop);
            }
        }
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
            if request.prompt.is_empty() {
                let what = "prompt";
                return Err(ModelError::Empty { row, what });
            }
            self.check_tokens(request.prompt.iter().copied())?;
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

    fn empty_caches(&self, slots: usize, requests: &[GenerateRequest<'_>]) -> Vec<LayerCache> {
        let length = |r: &GenerateRequest<'_>| r.prompt.len() + r.max_new_tokens;
        let columns = requests.iter().map(length).max().unwrap_or(0);
        if slots == 0 {
            return Vec::new();
        }
        let cache = |heads: panacea_kernels::Heads| {
            Tensor::zeros([slots, heads.kv, columns, heads.dim], &self.device)
        };
        let caches = self.layers.iter().map(|layer| LayerCache {
            keys: cache(layer.heads),
            values: cache(layer.heads),
        });
        caches.collect()
    }

    /// Adds a seat for each of `newcomers`, requests with their slots: reads their prompts, but where someone has read the
    /// same already.
    fn seat(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        newcomers: &[(usize, usize)],
        seats: &mut Vec<Seat>,
        caches: &mut [LayerCache],
    ) -> Result<(), ModelError> {
        let is_same = |a: usize, b: usize| {
            let (a, b) = (&requests[a], &requests[b]);
            a.prompt == b.prompt && a.preference == b.preference
        };
        let mut readers: Vec<(usize, usize)> = Vec::new();
        let mut others = Vec::new();
        for &(request, slot) in newcomers {
            let at_work = seats.iter().map(|seat| seat.request);
            let mut known = at_work.chain(readers.iter().map(|reader| reader.0));
            if known.any(|other| is_same(other, request)) {
                others.push((request, slot));
            } else {
                readers.push((request, slot));
            }
        }
        if !readers.is_empty() {
            let logits = self.read_prompts(requests, adapters, &readers, caches)?;
            let read = readers.into_iter().zip(logits.rows());
            seats.extend(read.map(|((request, slot), logits)| Seat {
                request,
                slot,
                behind_prompt: logits.into(),
            }));
        }
        for (request, slot) in others {
            let source = seats.iter().find(|seat| is_same(seat.request, request));
            let source = source.expect("it is at work, or was read just now");
            for cache in &mut *caches {
                cache.copy(source.slot, slot, requests[request].prompt.len());
            }
            let behind_prompt = Rc::clone(&source.behind_prompt);
            seats.push(Seat {
                request,
                slot,
                behind_prompt,
            });
        }
        Ok(())
    }

    /// One packed pass over the prompts of `readers`, requests with their slots: fills their caches, and gives the logits
    /// behind each prompt.
    fn read_prompts(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        readers: &[(usize, usize)],
        caches: &mut [LayerCache],
    ) -> Result<Logits, ModelError> {
        let sequence = |&(request, _): &(usize, usize)| Sequence {
            prompt: requests[request].prompt,
            responses: vec![],
            preference: requests[request].preference,
        };
        let sequences: Vec<Sequence<'_>> = readers.iter().map(sequence).collect();
        let batch = PackedBatch::new(&sequences)?;
        let context = self.context(&batch, adapters)?;
        let mut x = self.embed(&batch.tokens);
        for (layer, cache) in self.layers.iter().zip(caches) {
            let qkv = layer.query_key_value(&x, &context.rotation, &context.mode);
            let (attended, _) = attention(&qkv.q, &qkv.k, &qkv.v, &context.visibility);
            x = layer.attend_cached(x, &context.mode, attended);
            let (kv, dim) = (layer.heads.kv, layer.heads.dim);
            let fill = |mut cache: Tensor<4>, packed: Tensor<2>| {
                for (&(_, slot), segment) in readers.iter().zip(&batch.segments) {
                    let n = segment.own.len();
                    let own = packed.clone().slice([segment.own.clone(), 0..kv * dim]);
                    let own = own.reshape([1, n, kv, dim]).swap_dims(1, 2);
                    let at = [slot..slot + 1, 0..kv, 0..n, 0..dim];
                    cache = cache.slice_assign(at, own);
                }
                cache
            };
            cache.change(|keys| fill(keys, qkv.k), |values| fill(values, qkv.v));
        }
        let last = batch.segments.iter().map(|segment| segment.own.end - 1);
        let x = x.select(0, crate::head::indices(last, &self.device));
        Ok(self.next_logits(x, &context.mode))
    }

    /// The logits behind the last token of every seat, whose keys and values are added to its cache.
    fn decode(
        &self,
        requests: &[GenerateRequest<'_>],
        adapters: Option<&Adapters>,
        seats: &[Seat],
        rows: &[Row],
        caches: &mut [LayerCache],
    ) -> Logits {
        let at_work = || seats.iter().map(|seat| &rows[seat.request]);
        let tokens: Vec<u32> = at_work().map(Row::last).collect();
        let positions: Vec<usize> = at_work().map(|row| row.seen.len() - 1).collect();
        let window = self.config.sliding_window;
        let cache_row = |(seat, row): (&Seat, &Row)| {
            let end = row.seen.len();
            CacheRow {
                slot: seat.slot,
                visible: window.map_or(0, |window| end.saturating_sub(window))..end,
            }
        };
        let cache_rows: Vec<CacheRow> = seats.iter().zip(at_work()).map(cache_row).collect();
        let preferences = seats
            .iter()
            .flat_map(|seat| requests[seat.request].preference);
        let preferences: Vec<f64> = preferences.copied().collect();
        let mode = Mode {
            steering: adapters.map(|adapters| self.steering(adapters, &preferences)),
            reads_packed: true,
        };
        let rotation = Rotation::new(&positions, &self.inverse_frequencies, &self.device);
        let mut x = self.embed(&tokens);
        for (layer, cache) in self.layers.iter().zip(caches) {
            let qkv = layer.query_key_value(&x, &rotation, &mode);
            cache.change(
                |keys| write_cache(keys, &qkv.k, &cache_rows),
                |values| write_cache(values, &qkv.v, &cache_rows),
            );
            let LayerCache { keys, values } = cache;
            let attended = attention_decode(qkv.q, keys, values, &cache_rows, layer.heads);
            x = layer.attend_cached(x, &mode, attended);
        }
        self.next_logits(x, &mode)
    }
}

impl LayerCache {
    /// Copies the first `columns` of one slot into another.
    fn copy(&mut self, from: usize, to: usize, columns: usize) {
        let copy = |cache: Tensor<4>| {
            let [_, kv, _, dim] = cache.dims();
            let at = |slot: usize| [slot..slot + 1, 0..kv, 0..columns, 0..dim];
            // A product has a buffer of its own: the cache's then has one owner again, and is written in place.
            let own = cache.clone().slice(at(from)).mul_scalar(1.0);
            cache.slice_assign(at(to), own)
        };
        self.change(copy, copy);
    }

    /// Hands the caches over, so that their buffers have one owner and are written in place.
    fn change(
        &mut self,
        keys: impl FnOnce(Tensor<4>) -> Tensor<4>,
        values: impl FnOnce(Tensor<4>) -> Tensor<4>,
    ) {
        let take = |cache: &mut Tensor<4>| {
            let empty = Tensor::zeros([1, 1, 1, 1], &cache.device());
            std::mem::replace(cache, empty)
        };
        self.keys = keys(take(&mut self.keys));
        self.values = values(take(&mut self.values));
    }
}

/// A row on its way.
struct Row {
    seen: Vec<u32>,
    prompt: usize,
    limit: usize,
    log_probs: Vec<f64>,
    rng: ChaCha8Rng,
    reason: Option<StopReason>,
}

impl Row {
    fn new(request: &GenerateRequest<'_>) -> Self {
        Self {
            seen: request.prompt.to_vec(),
            prompt: request.prompt.len(),
            limit: request.prompt.len() + request.max_new_tokens,
            log_probs: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(request.seed),
            reason: (request.max_new_tokens == 0).then_some(StopReason::Length),
        }
    }

    fn push(&mut self, logits: &[f32], sampling: &Sampling, stop: &[u32]) {
        if self.reason.is_some() {
            return;
        }
        let Drawn { token, log_prob } = sampling.choose(logits, &self.seen, &mut self.rng);
        self.log_probs.push(log_prob);
        if stop.contains(&token) {
            self.reason = Some(StopReason::Stop(token));
            return;
        }
        self.seen.push(token);
        if self.seen.len() == self.limit {
            self.reason = Some(StopReason::Length);
        }
    }

    fn is_done(&self) -> bool {
        self.reason.is_some()
    }

    fn last(&self) -> u32 {
        self.seen[self.seen.len() - 1]
    }

    fn finish(mut self) -> Generated {
        Generated {
            tokens: self.seen.split_off(self.prompt),
            log_probs: self.log_probs,
            reason: self.reason.unwrap_or(StopReason::Length),
        }
    }
}
