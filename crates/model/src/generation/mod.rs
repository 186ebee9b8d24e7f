//! Generation with a KV cache, as a session: requests come and go while others run, each with its own adapter and λ,
//! sampling, stop tokens and length.
//!
//! A request waits for a slot of the cache. Its prompt is read in one packed pass with those that get a slot at the same
//! time, and is then continued token by token together with all others that have one. A request that is done or
//! cancelled frees its slot for the next. Only rows that need a token are computed, and rows do not see each other, so
//! an answer depends on its neighbours through rounding only. A prompt that a running request has read under the same
//! adapter and λ is not read again: several answers to one prompt read it once.
//!
//! Rows under different λ of one adapter go through the network in one pass; rows under different adapters, or under
//! none, in a pass for each.

mod cache;
mod request;

use std::collections::VecDeque;
use std::sync::Arc;

use burn_tensor::{Device, Tensor};
use panacea_kernels::{
    CacheRow, CacheRows, Heads, Rotation, attention, attention_decode, stay_awake, write_cache,
};
use panacea_svd_lora::Adapters;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::{PackedBatch, Sequence};
use crate::decoder::{Decoder, Logits};
use crate::linear::Mode;
use crate::sampling::{Drawn, likelihood};
use crate::{ModelError, Steering};
use cache::{Cache, LayerCache, Size};
pub use request::{Generated, NewToken, Request, RequestId, StopReason};

/// Answers on their way.
#[derive(Debug)]
pub struct Generation<'m> {
    model: &'m Decoder,
    /// Requests that run together, at most.
    limit: usize,
    waiting: VecDeque<Row>,
    running: Vec<Running>,
    cache: Cache,
    layouts: Vec<Layout>,
    /// Whether the last step let someone in.
    has_admitted: bool,
    next_id: u64,
}

/// A request on its way.
#[derive(Debug)]
struct Row {
    id: RequestId,
    request: Request,
    /// The prompt and what has been drawn.
    seen: Vec<u32>,
    rng: ChaCha8Rng,
}

/// A request that has a slot.
#[derive(Debug)]
struct Running {
    row: Row,
    /// Its row of the caches.
    slot: usize,
    /// The logits behind its prompt, for those who have the same prompt and come in later.
    behind_prompt: Arc<[f32]>,
    is_done: bool,
}

/// An adapter in the layout that products of few rows read.
#[derive(Debug)]
struct Layout {
    of: Arc<Adapters>,
    adapters: Adapters,
}

impl Decoder {
    /// The answers to `requests`, in their order. One that may have no new token has an empty answer.
    pub fn generate(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Generated>, ModelError> {
        let mut generation = Generation::new(self, Generation::USUAL_LIMIT);
        let (mut answers, mut ids) = (Vec::new(), Vec::new());
        for (row, request) in requests.into_iter().enumerate() {
            answers.push(Generated {
                tokens: Vec::new(),
                log_probs: Vec::new(),
                reason: StopReason::Length,
            });
            if request.max_new_tokens == 0 {
                let checked = generation.check(&request);
                checked.map_err(|error| error.in_row(row))?;
                continue;
            }
            let id = generation.push(request);
            ids.push((id.map_err(|error| error.in_row(row))?, row));
        }
        while !generation.is_idle() {
            for new in generation.step()? {
                let place = ids.binary_search_by_key(&new.request, |&(id, _)| id);
                let place = place.expect("every request was pushed above");
                answers[ids[place].1].push(new);
            }
        }
        Ok(answers)
    }

    /// The most tokens that can follow `prompt`; at least 1, so that a prompt without room is refused where
    /// its length is checked.
    pub fn room_after(&self, prompt: &[u32]) -> usize {
        let positions = self.config.max_position_embeddings;
        positions.saturating_sub(prompt.len()).max(1)
    }
}

impl<'m> Generation<'m> {
    /// About as many rows as share one reading of the weights on a CPU.
    pub const USUAL_LIMIT: usize = 16;

    /// A session without a request, which runs so many together, at most.
    pub fn new(model: &'m Decoder, limit: usize) -> Self {
        Self {
            model,
            limit: limit.max(1),
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: Cache::default(),
            layouts: Vec::new(),
            has_admitted: false,
            next_id: 0,
        }
    }

    /// Adds a request, which runs as soon as a slot is free.
    pub fn push(&mut self, request: Request) -> Result<RequestId, ModelError> {
        self.check(&request)?;
        if request.max_new_tokens == 0 {
            return Err(ModelError::Empty { what: "answer" });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Row {
            id,
            seen: request.prompt.clone(),
            rng: ChaCha8Rng::seed_from_u64(request.seed),
            request,
        });
        Ok(id)
    }

    /// Removes a request, waiting or running. Returns whether it was still there.
    pub fn cancel(&mut self, request: RequestId) -> bool {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|row| row.id != request);
        if let Some(at) = self.running.iter().position(|r| r.row.id == request) {
            self.cache.free.push(self.running.remove(at).slot);
        }
        before > self.waiting.len() + self.running.len()
    }

    /// Requests that have no slot yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that have a slot.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether every request has been answered or cancelled.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Adds one token to the answers of the requests that get a slot now; if none does, to those of all running
    /// requests. A step that gives out slots is followed by one for all running requests, so that none of them starves.
    /// An idle session returns no token.
    pub fn step(&mut self) -> Result<Vec<NewToken>, ModelError> {
        let free = match self.has_admitted && !self.running.is_empty() {
            true => 0,
            false => self.limit.saturating_sub(self.running.len()),
        };
        let newcomers: Vec<Row> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        self.has_admitted = !newcomers.is_empty();
        let new = match newcomers.is_empty() {
            true => self.decode(),
            false => self.admit(newcomers)?,
        };
        let free = &mut self.cache.free;
        self.running.retain(|running| {
            if running.is_done {
                free.push(running.slot);
            }
            !running.is_done
        });
        Ok(new)
    }

    fn check(&self, request: &Request) -> Result<(), ModelError> {
        let Request {
            prompt,
            steering,
            sampling,
            max_new_tokens,
            ..
        } = request;
        sampling.check()?;
        if prompt.is_empty() {
            return Err(ModelError::Empty { what: "prompt" });
        }
        let vocab_size = self.model.config.vocab_size;
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenOutOfRange { id, vocab_size });
        }
        let limit = self.model.config.max_position_embeddings;
        let found = prompt.len().saturating_add(*max_new_tokens);
        if found > limit {
            return Err(ModelError::TooLong { found, limit });
        }
        if let Some(Steering {
            adapters,
            preference,
        }) = steering
        {
            let (found, expected) = (preference.len(), adapters.config.objectives.len());
            if found != expected || found == 0 {
                return Err(ModelError::PreferenceLength { found, expected });
            }
            // What is not finite would stay in the slot, for those who get it later.
            if let Some(&found) = preference.iter().find(|&&w| !(w as f32).is_finite()) {
                return Err(ModelError::PreferenceWeight { found });
            }
            // One that a request of the session has was looked at when it came.
            if !self.adapters().any(|known| Arc::ptr_eq(known, adapters)) {
                let modules = &adapters.config.target_modules;
                adapters.check(&self.model.adapted_shapes(modules)?)?;
            }
        }
        Ok(())
    }

    /// The adapters of all requests, waiting and running.
    fn adapters(&self) -> impl Iterator<Item = &Arc<Adapters>> {
        let rows = self
            .waiting
            .iter()
            .chain(self.running.iter().map(|r| &r.row));
        let steerings = rows.filter_map(|row| row.request.steering.as_ref());
        steerings.map(|steering| &steering.adapters)
    }

    /// Lays out the adapters of `newcomers` for decoding, where that is not done yet. Layouts that nobody needs go.
    fn lay_out(&mut self, newcomers: &[Row]) {
        let rows = newcomers.iter().chain(self.running.iter().map(|r| &r.row));
        let needed = rows.filter_map(|row| row.request.steering.as_ref());
        let needed: Vec<&Arc<Adapters>> = needed.map(|steering| &steering.adapters).collect();
        let is_needed = |layout: &Layout| needed.iter().any(|of| Arc::ptr_eq(of, &layout.of));
        self.layouts.retain(is_needed);
        for of in needed {
            if layout(&self.layouts, of).is_none() {
                self.layouts.push(Layout {
                    of: Arc::clone(of),
                    adapters: of.laid_out_by_columns(),
                });
            }
        }
    }

    /// Gives every newcomer a slot and reads its prompt, unless someone who runs has read the same; then draws its first
    /// token.
    fn admit(&mut self, newcomers: Vec<Row>) -> Result<Vec<NewToken>, ModelError> {
        self.lay_out(&newcomers);
        let first = self.running.len();
        let size = Size {
            slots: self.running.len() + newcomers.len(),
            columns: newcomers
                .iter()
                .map(|row| row.seen.len())
                .max()
                .unwrap_or(0),
        };
        let running = self.running.iter().map(|r| &r.row);
        let rows = newcomers.iter().chain(&self.waiting).chain(running);
        let limit = Size {
            slots: self.limit,
            columns: rows.map(Row::limit).max().unwrap_or(0),
        };
        self.cache.grow(self.model, size, limit);

        let (mut readers, mut others): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
        for row in newcomers {
            let mut known = self.running.iter().map(|r| &r.row).chain(&readers);
            match known.any(|other| row.reads_the_same_as(other)) {
                true => others.push(row),
                false => readers.push(row),
            }
        }
        for rows in by_adapter(readers, |row| &row.request) {
            self.read_prompts(rows)?;
        }
        for row in others {
            let source = self.running.iter().find(|r| row.reads_the_same_as(&r.row));
            let source = source.expect("it runs, or was read just now");
            let (from, behind_prompt) = (source.slot, Arc::clone(&source.behind_prompt));
            let slot = self.cache.free.remove(0);
            self.cache.copy(from, slot, row.seen.len());
            self.running.push(Running {
                row,
                slot,
                behind_prompt,
                is_done: false,
            });
        }
        let newcomers = self.running[first..].iter_mut();
        Ok(newcomers
            .map(|running| running.draw(&Arc::clone(&running.behind_prompt)))
            .collect())
    }

    /// One packed pass over the prompts of `rows`, which have one adapter: fills their caches, and keeps the logits behind
    /// each prompt.
    fn read_prompts(&mut self, rows: Vec<Row>) -> Result<(), ModelError> {
        let model = self.model;
        let sequences = rows.iter().map(|row| Sequence {
            prompt: &row.request.prompt,
            responses: vec![],
            preference: row.preference(),
        });
        let sequences: Vec<Sequence<'_>> = sequences.collect();
        let batch = PackedBatch::new(&sequences)?;
        let adapters = adapters_of(&self.layouts, &rows[0].request);
        let context = model.context(&batch, adapters)?;
        let slots: Vec<usize> = self.cache.free.drain(..rows.len()).collect();
        let mut x = model.embed(&batch.tokens);
        for (layer, cache) in model.layers.iter().zip(&mut self.cache.layers) {
            let sight = &context.sights[layer.sight];
            let qkv = layer.query_key_value(&x, &sight.rotation, &context.mode);
            let (attended, _) = attention(&qkv.q, &qkv.k, &qkv.v, &sight.visibility);
            x = layer.attend_cached(x, &context.mode, attended);
            let Heads { kv, dim, .. } = layer.heads;
            let fill = |mut cache: Tensor<4>, packed: Tensor<2>| {
                for (&slot, segment) in slots.iter().zip(&batch.segments) {
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
        let x = x.select(0, crate::head::indices(last, &model.device));
        let logits = model.next_logits(x, &context.mode);
        let read = rows.into_iter().zip(slots).zip(logits.rows());
        self.running
            .extend(read.map(|((row, slot), logits)| Running {
                row,
                slot,
                behind_prompt: logits.into(),
                is_done: false,
            }));
        Ok(())
    }

    /// The next token of everyone who has a slot.
    fn decode(&mut self) -> Vec<NewToken> {
        let rows = || self.running.iter().map(|r| &r.row);
        let size = Size {
            slots: self.running.len(),
            columns: rows().map(|row| row.seen.len()).max().unwrap_or(0),
        };
        let limit = Size {
            slots: self.limit,
            columns: rows().map(Row::limit).max().unwrap_or(0),
        };
        self.cache.grow(self.model, size, limit);
        // The CPU decodes more rows another way, which is slower and reads no packed weights.
        let most_rows = match self.model.device == Device::flex() {
            true => Self::USUAL_LIMIT,
            false => usize::MAX,
        };
        let mut new = Vec::with_capacity(self.running.len());
        for mut group in by_adapter(self.running.iter_mut().collect(), |r| &r.row.request) {
            let adapters = adapters_of(&self.layouts, &group[0].row.request);
            for rows in group.chunks_mut(most_rows) {
                let caches = &mut self.cache.layers;
                let logits = stay_awake(|| decode_rows(self.model, adapters, rows, caches));
                for (running, logits) in rows.iter_mut().zip(logits.rows()) {
                    new.push(running.draw(logits));
                }
            }
        }
        new
    }
}

/// The logits behind the last token of every one of `rows`, whose keys and values are added to its cache.
fn decode_rows(
    model: &Decoder,
    adapters: Option<&Adapters>,
    rows: &[&mut Running],
    caches: &mut [LayerCache],
) -> Logits {
    let last = |running: &&mut Running| running.row.seen[running.row.seen.len() - 1];
    let tokens: Vec<u32> = rows.iter().map(last).collect();
    let position = |running: &&mut Running| running.row.seen.len() - 1;
    let positions: Vec<usize> = rows.iter().map(position).collect();
    let cache_rows = |window: Option<usize>| {
        let cache_row = |running: &&mut Running| {
            let end = running.row.seen.len();
            CacheRow {
                slot: running.slot,
                visible: window.map_or(0, |window| end.saturating_sub(window))..end,
            }
        };
        CacheRows::new(rows.iter().map(cache_row).collect(), &model.device)
    };
    // Of every kind of attention, what its layers see and where they stand.
    let sights: Vec<(CacheRows, Rotation)> = (model.attention.iter())
        .map(|kind| {
            let rotation = Rotation::new(&positions, &kind.inverse_frequencies, &model.device);
            (cache_rows(kind.window), rotation)
        })
        .collect();
    let preferences = rows.iter().flat_map(|running| running.row.preference());
    let preferences: Vec<f64> = preferences.copied().collect();
    let mode = Mode {
        steering: adapters.map(|adapters| model.steering(adapters, &preferences)),
        reads_packed: true,
    };
    let mut x = model.embed(&tokens);
    for (layer, cache) in model.layers.iter().zip(caches) {
        let (cache_rows, rotation) = &sights[layer.sight];
        let qkv = layer.query_key_value(&x, rotation, &mode);
        cache.change(
            |keys| write_cache(keys, &qkv.k, cache_rows),
            |values| write_cache(values, &qkv.v, cache_rows),
        );
        let LayerCache { keys, values } = cache;
        let attended = attention_decode(qkv.q, keys, values, cache_rows, layer.heads);
        x = layer.attend_cached(x, &mode, attended);
    }
    model.next_logits(x, &mode)
}

/// `items` in groups of one adapter each, in the order in which the adapters come first.
fn by_adapter<T>(items: Vec<T>, request: impl Fn(&T) -> &Request) -> Vec<Vec<T>> {
    let adapter = |item: &T| {
        let steering = request(item).steering.as_ref();
        steering.map(|steering| Arc::as_ptr(&steering.adapters))
    };
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        let own = groups.iter_mut().find(|g| adapter(&g[0]) == adapter(&item));
        match own {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}

/// The adapter of a request that was pushed, in the layout for decoding.
fn adapters_of<'a>(layouts: &'a [Layout], request: &Request) -> Option<&'a Adapters> {
    let steering = request.steering.as_ref()?;
    let layout = layout(layouts, &steering.adapters);
    Some(&layout.expect("it was laid out when it was pushed").adapters)
}

fn layout<'a>(layouts: &'a [Layout], adapters: &Arc<Adapters>) -> Option<&'a Layout> {
    (layouts.iter()).find(|layout| Arc::ptr_eq(&layout.of, adapters))
}

impl Row {
    fn limit(&self) -> usize {
        self.request.limit()
    }

    fn preference(&self) -> &[f64] {
        (self.request.steering.as_ref()).map_or(&[], |steering| &steering.preference)
    }

    fn reads_the_same_as(&self, other: &Self) -> bool {
        let is_steered_alike = match (&self.request.steering, &other.request.steering) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(&a.adapters, &b.adapters) && a.preference == b.preference
            }
            _ => false,
        };
        is_steered_alike && self.request.prompt == other.request.prompt
    }
}

impl Running {
    fn draw(&mut self, logits: &[f32]) -> NewToken {
        let Row {
            id,
            request,
            seen,
            rng,
        } = &mut self.row;
        let Drawn { token, log_prob } = request.sampling.choose(logits, seen, rng);
        let end = if request.stop.contains(&token) {
            Some(StopReason::Stop(token))
        } else {
            seen.push(token);
            (seen.len() == request.limit()).then_some(StopReason::Length)
        };
        self.is_done = end.is_some();
        let likeliest = request.likelihoods;
        NewToken {
            request: *id,
            token,
            log_prob,
            likelihood: likeliest.map(|count| likelihood(logits, token, count)),
            end,
        }
    }
}
