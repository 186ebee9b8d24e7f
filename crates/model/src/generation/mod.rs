//! Generation with a KV cache, as a session: requests come and go while others run, each with its own adapter and λ,
//! sampling, stop tokens and length.
//!
//! A request waits for a slot of the cache. Its prompt is read in packed passes with those that are read at the same
//! time, and is then continued token by token together with all others that are written. A request that is done or
//! cancelled frees its slot for the next. Only rows that need a token are computed, and rows do not see each other, so
//! an answer depends on its neighbours through rounding only.
//!
//! A slot knows the tokens whose keys and values it holds, and keeps them until another request gets it. What a slot knows of
//! a newcomer's prompt, from its first token on and under the same adapter and λ, is copied and not read again: several
//! answers to one prompt read it once, requests with the same beginning read that once, and the next turn of a conversation
//! reads what is new. The keys and values of a token are the same sums whoever read it, taken in another order: such an
//! answer, too, is another one's up to rounding. Tokens that were decoded from weights of few bits are read anew, with all bits,
//! as any prompt is.
//!
//! While answers are written, a long prompt is read in pieces, with a token for everybody else between two of them.
//!
//! Rows under different λ of one adapter go through the network in one pass; rows under different adapters, or under
//! none, in a pass for each.

mod cache;
mod draw;
mod request;
mod running;

use std::collections::VecDeque;
use std::sync::Arc;

use burn_tensor::{Device, Tensor};
use panacea_kernels::{
    CacheRow, CacheRows, Rotation, attention, attention_decode, stay_awake, write_cache,
};
use panacea_svd_lora::Adapters;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::{PackedBatch, Sequence};
use crate::decoder::Decoder;
use crate::linear::Mode;
use crate::{ModelError, Steering};
use cache::{Cache, LayerCache, Piece, Size, in_common, steered_alike};
use draw::next_tokens;
pub use request::{Generated, NewToken, Request, RequestId, StopReason};
use running::{Row, Running};

/// Tokens that a step reads while answers are written, at most: how long these stand still.
const PIECE_ON_CPU: usize = 256;
const PIECE_ON_GPU: usize = 2048;

/// Rows that a GPU continues together, where nobody says how many.
const USUAL_LIMIT_ON_GPU: usize = 64;

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
    /// Whether the last step read prompts.
    has_read: bool,
    /// Tokens of prompts that went through the network.
    tokens_read: u64,
    next_id: u64,
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
        let mut generation = Generation::new(self, Generation::usual_limit(self));
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
        self.config.room_after(prompt.len()).max(1)
    }
}

impl<'m> Generation<'m> {
    /// About as many rows as share one reading of the weights on a CPU.
    pub const USUAL_LIMIT: usize = 16;

    /// The same where `model` lies: a GPU reads its weights for more rows in the same time.
    pub fn usual_limit(model: &Decoder) -> usize {
        match model.device == Device::flex() {
            true => Self::USUAL_LIMIT,
            false => USUAL_LIMIT_ON_GPU,
        }
    }

    /// A session without a request, which runs so many together, at most.
    pub fn new(model: &'m Decoder, limit: usize) -> Self {
        Self {
            model,
            limit: limit.max(1),
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: Cache::new(),
            layouts: Vec::new(),
            has_read: false,
            tokens_read: 0,
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
            self.cache.give_back(self.running.remove(at).slot);
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

    /// Tokens of prompts that went through the network so far. All others were known.
    pub fn tokens_read(&self) -> u64 {
        self.tokens_read
    }

    /// Reads prompts, or adds one token to each answer that is being written; a prompt that has been read to its end gets its
    /// first token. A step that reads is followed by one that writes, so that nobody starves: while answers are written, a
    /// step reads a piece of a long prompt, and may return no token. An idle session returns none.
    pub fn step(&mut self) -> Result<Vec<NewToken>, ModelError> {
        self.give_slots();
        self.begin();
        let reads = self.running.iter().any(|r| self.is_read(r));
        let writes = self.running.iter().any(|r| self.is_written(r));
        self.has_read = reads && !(writes && self.has_read);
        let new = match self.has_read {
            true => self.read(if writes { self.piece() } else { usize::MAX })?,
            false => self.decode(),
        };
        let cache = &mut self.cache;
        self.running.retain(|running| {
            if running.is_done {
                cache.give_back(running.slot);
            }
            !running.is_done
        });
        Ok(new)
    }

    /// Tokens that a step reads while answers are written, at most.
    fn piece(&self) -> usize {
        match self.model.device == Device::flex() {
            true => PIECE_ON_CPU,
            false => PIECE_ON_GPU,
        }
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

    /// Lays out the adapters of all who run for decoding, where that is not done yet. Layouts that nobody needs go.
    fn lay_out(&mut self) {
        let rows = self.running.iter().map(|r| &r.row);
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

    /// Gives slots to those who wait, as long as there are any, and sees to it that all who run have room.
    fn give_slots(&mut self) {
        let running = self.running.len();
        while self.running.len() < self.limit
            && let Some(row) = self.waiting.pop_front()
        {
            self.running.push(Running {
                slot: self.cache.take(&row.request, self.limit),
                row,
                cached: None,
                is_done: false,
            });
        }
        if self.running.len() > running {
            self.lay_out();
        }
        let rows = || self.running.iter().map(|r| &r.row);
        let columns = rows().map(|row| row.seen.len()).max().unwrap_or(0);
        let limit = Size {
            slots: self.limit,
            columns: rows()
                .chain(&self.waiting)
                .map(|row| row.request.limit())
                .max()
                .unwrap_or(0),
        };
        let moved = self.cache.grow(self.model, columns, limit);
        for running in &mut self.running {
            running.slot = moved[running.slot];
        }
    }

    /// Lets newcomers begin behind what is known of their prompts. One who would read much of what another is about to read
    /// waits for it.
    fn begin(&mut self) {
        for index in 0..self.running.len() {
            let Running {
                row, slot, cached, ..
            } = &self.running[index];
            if cached.is_some() {
                continue;
            }
            let request = &row.request;
            let known = self.cache.knows(request);
            let others = self.running.iter().filter(|other| self.is_read(other));
            let others = others.map(|other| &other.row.request);
            let coming = others
                .filter(|o| steered_alike(o.steering.as_ref(), request.steering.as_ref()))
                .map(|other| in_common(&other.prompt, &request.prompt))
                .max();
            let gain = coming.unwrap_or(0).saturating_sub(known);
            if gain == 0 || 2 * gain < request.prompt.len() - known {
                let cached = self.cache.begin(*slot, request);
                self.running[index].cached = Some(cached);
            }
        }
    }

    /// Whether a part of its prompt is to be read in a pass over prompts.
    fn is_read(&self, running: &Running) -> bool {
        let known = self.cache.slots[running.slot].known.len();
        // A last token alone is decoded like those of answers, unless that would read weights of few bits.
        let alone = usize::from(!self.model.is_packed());
        running.cached.is_some() && known + alone < running.row.request.prompt.len()
    }

    /// Whether its next token is to be decoded.
    fn is_written(&self, running: &Running) -> bool {
        running.cached.is_some() && !self.is_read(running)
    }

    /// Reads up to `most` tokens of the prompts of those who are not written yet.
    fn read(&mut self, mut most: usize) -> Result<Vec<NewToken>, ModelError> {
        let mut readers = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            if most > 0 && self.is_read(running) {
                let known = self.cache.slots[running.slot].known.len();
                let count = most.min(running.row.request.prompt.len() - known);
                most -= count;
                readers.push((index, count));
            }
        }
        let mut new = Vec::new();
        for readers in by_adapter(readers, |&(index, _)| self.running[index].row.adapter()) {
            new.extend(self.read_together(&readers)?);
        }
        Ok(new)
    }

    /// One packed pass over so many tokens of the prompts of some who run, which have one adapter: fills their caches, and draws
    /// the first token of those whose prompt it reads to its end.
    fn read_together(&mut self, readers: &[(usize, usize)]) -> Result<Vec<NewToken>, ModelError> {
        let model = self.model;
        let (mut prompts, mut pieces, mut rows) = (Vec::new(), Vec::new(), 0);
        for &(index, count) in readers {
            let Running { row, slot, .. } = &self.running[index];
            let known = self.cache.slots[*slot].known.len();
            let sequence = Sequence {
                prompt: &row.request.prompt[..known + count],
                responses: vec![],
                preference: row.preference(),
            };
            prompts.push((sequence, known));
            pieces.push(Piece {
                slot: *slot,
                known,
                row: rows,
                count,
            });
            rows += count;
        }
        let batch = PackedBatch::behind(&prompts)?;
        let (first, _) = readers[0];
        let adapters = adapters_of(&self.layouts, &self.running[first].row.request);
        let context = model.context(&batch, adapters)?;
        let mut x = model.embed(&batch.tokens);
        for (layer, cache) in model.layers.iter().zip(&mut self.cache.layers) {
            let sight = &context.sights[layer.sight];
            let qkv = layer.query_key_value(&x, &sight.rotation, &context.mode);
            let (keys, values) = cache.behind_known(&pieces, &qkv.k, &qkv.v);
            let (attended, _) = attention(&qkv.q, &keys, &values, &sight.visibility);
            x = layer.attend_cached(x, &context.mode, attended);
            cache.write(&pieces, &qkv.k, &qkv.v);
        }
        self.tokens_read += rows as u64;

        let (mut at_end, mut last) = (Vec::new(), Vec::new());
        for (&(index, _), piece) in readers.iter().zip(&pieces) {
            let prompt = &self.running[index].row.request.prompt;
            let slot = &mut self.cache.slots[piece.slot];
            let end = piece.known + piece.count;
            slot.known.extend_from_slice(&prompt[piece.known..end]);
            slot.exact = end;
            if end == prompt.len() {
                at_end.push(index);
                last.push(piece.row + piece.count - 1);
            }
        }
        if at_end.is_empty() {
            return Ok(Vec::new());
        }
        let x = x.select(0, crate::head::indices(last.into_iter(), &model.device));
        let logits = model.logits_of(&x, &context.mode);
        let ended = (self.running.iter_mut().enumerate())
            .filter_map(|(index, r)| at_end.binary_search(&index).is_ok().then_some(r));
        Ok(next_tokens(logits, &mut ended.collect::<Vec<_>>()))
    }

    /// The next token of everyone whose answer is being written.
    fn decode(&mut self) -> Vec<NewToken> {
        // The CPU decodes more rows another way, which is slower and multiplies no integers.
        let is_on_cpu = self.model.device == Device::flex();
        let most_rows = if is_on_cpu {
            Self::USUAL_LIMIT
        } else {
            usize::MAX
        };
        let is_written: Vec<bool> = (self.running.iter().map(|r| self.is_written(r))).collect();
        let writers = self.running.iter_mut().zip(is_written);
        let writers = writers.filter_map(|(running, is_written)| is_written.then_some(running));
        let is_packed = self.model.is_packed();
        let mut new = Vec::new();
        for mut group in by_adapter(writers.collect(), |r| r.row.adapter()) {
            let adapters = adapters_of(&self.layouts, &group[0].row.request);
            for rows in group.chunks_mut(most_rows) {
                let caches = &mut self.cache.layers;
                let mut decode = || decode_rows(self.model, adapters, rows, caches);
                let logits = if is_on_cpu {
                    stay_awake(decode)
                } else {
                    decode()
                };
                for running in rows.iter() {
                    let Row { seen, request, .. } = &running.row;
                    let slot = &mut self.cache.slots[running.slot];
                    self.tokens_read += u64::from(slot.known.len() < request.prompt.len());
                    slot.known.push(seen[seen.len() - 1]);
                    slot.exact += usize::from(!is_packed);
                }
                new.extend(next_tokens(logits, rows));
            }
        }
        new
    }
}

/// The logits behind the last token of every one of `rows`, `[rows, vocabulary]`; its keys and values are added to its cache.
fn decode_rows(
    model: &Decoder,
    adapters: Option<&Adapters>,
    rows: &[&mut Running],
    caches: &mut [LayerCache],
) -> Tensor<2> {
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
        rounds: true,
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
    model.logits_of(&x, &mode)
}

/// `items` in groups of one adapter each, in the order in which the adapters come first.
fn by_adapter<T>(items: Vec<T>, adapter: impl Fn(&T) -> Option<*const Adapters>) -> Vec<Vec<T>> {
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
    Some(
        &layout
            .expect("it was laid out when it got its place")
            .adapters,
    )
}

fn layout<'a>(layouts: &'a [Layout], adapters: &Arc<Adapters>) -> Option<&'a Layout> {
    (layouts.iter()).find(|layout| Arc::ptr_eq(&layout.of, adapters))
}
