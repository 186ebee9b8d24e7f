//! Keys and values of the tokens that were read, and which tokens these are.

use std::sync::Arc;

use burn_tensor::{Device, Tensor};
use panacea_kernels::Heads;

use super::Request;
use crate::{Decoder, Steering};

/// The columns that a new cache has, at least, unless all requests are shorter.
const FIRST_COLUMNS: usize = 128;

/// Bytes up to which a cache grows for the sake of what may be asked again, 1 GiB. Requests that run together get all they need.
const BUDGET: usize = 1 << 30;

/// Keys and values of all layers.
#[derive(Debug)]
pub struct Cache {
    pub layers: Vec<LayerCache>,
    pub slots: Vec<Slot>,
    size: Size,
    pub budget: usize,
    /// Counts the slots that were given back.
    clock: u64,
}

/// A row of the caches.
#[derive(Debug, Default)]
pub struct Slot {
    /// Whether a request has it.
    pub is_taken: bool,
    /// The tokens whose keys and values stand in it, from column 0 on.
    pub known: Vec<u32>,
    /// So many of the first were read with all bits, as prompts are.
    pub exact: usize,
    /// What `known` was read under. As long as a slot has it, no other adapter can lie where this one lies.
    steering: Option<Steering>,
    /// When it was given back last.
    given_back: u64,
}

/// How many rows a cache has, and how many tokens each of them can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub slots: usize,
    pub columns: usize,
}

/// Keys and values of one layer, `[slots, kv, columns, dim]` each. A row's tokens stand from column 0 on.
#[derive(Debug)]
pub struct LayerCache {
    pub keys: Tensor<4>,
    pub values: Tensor<4>,
}

/// A piece of a prompt that a pass reads.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    pub slot: usize,
    /// Tokens in front of it.
    pub known: usize,
    /// Its first row in the pass.
    pub row: usize,
    /// Its tokens.
    pub count: usize,
}

impl Slot {
    /// How many tokens of the request's prompt have their keys and values here. The last of them is not counted: what follows
    /// it is only known when it is read.
    pub fn knows(&self, request: &Request) -> usize {
        match steered_alike(self.steering.as_ref(), request.steering.as_ref()) {
            true => in_common(&self.known[..self.exact], &request.prompt),
            false => 0,
        }
    }
}

/// Whether what one reads is what the other would read: the same adapter, and a λ that is equal, not only close.
pub fn steered_alike(a: Option<&Steering>, b: Option<&Steering>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(&a.adapters, &b.adapters) && a.preference == b.preference,
        _ => false,
    }
}

/// How many tokens of `prompt` but its last one `tokens` begin with.
pub fn in_common(tokens: &[u32], prompt: &[u32]) -> usize {
    let but_last = &prompt[..prompt.len() - 1];
    let both = tokens.iter().zip(but_last);
    both.take_while(|(a, b)| a == b).count()
}

impl Cache {
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            slots: Vec::new(),
            size: Size::default(),
            budget: BUDGET,
            clock: 0,
        }
    }

    /// A slot for a request, one of `most`: the free one that knows most of its prompt, unless it knows more that would be
    /// lost; otherwise one that knows nothing, or the one that was given back first.
    pub fn take(&mut self, request: &Request, most: usize) -> usize {
        let free = || (0..self.slots.len()).filter(|&slot| !self.slots[slot].is_taken);
        let knows = |slot: &usize| self.slots[*slot].knows(request);
        let continued = free()
            .filter(|slot| 2 * knows(slot) > self.slots[*slot].known.len())
            .max_by_key(knows);
        let oldest = free().min_by_key(|&slot| {
            let Slot {
                known, given_back, ..
            } = &self.slots[slot];
            (!known.is_empty(), *given_back)
        });
        let may_grow = self.slots.len() < most
            && (self.slots.len() < self.size.slots || 2 * self.bytes(self.size) <= self.budget);
        let slot = match (continued, oldest) {
            (Some(slot), _) => slot,
            (None, Some(slot)) if self.slots[slot].known.is_empty() || !may_grow => slot,
            _ => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
        };
        self.slots[slot].is_taken = true;
        slot
    }

    /// Who had a slot does not need it any more. What it knows stays until somebody else gets it.
    pub fn give_back(&mut self, slot: usize) {
        self.clock += 1;
        let slot = &mut self.slots[slot];
        slot.is_taken = false;
        slot.given_back = self.clock;
    }

    /// The most that any slot knows of the request's prompt.
    pub fn knows(&self, request: &Request) -> usize {
        let known = self.slots.iter().map(|slot| slot.knows(request));
        known.max().unwrap_or(0)
    }

    /// Makes `slot` the request's: it knows what any slot knows of its prompt, and nothing else. Returns how many tokens
    /// these are.
    pub fn begin(&mut self, slot: usize, request: &Request) -> usize {
        let known = self.knows(request);
        if self.slots[slot].knows(request) < known {
            let knows = |source: &Slot| source.knows(request) == known;
            if let Some(source) = self.slots.iter().position(knows) {
                self.copy(source, slot, known);
            }
        }
        let slot = &mut self.slots[slot];
        slot.known.clear();
        slot.known.extend_from_slice(&request.prompt[..known]);
        slot.exact = known;
        slot.steering.clone_from(&request.steering);
        known
    }

    /// Sees to it that there is room for so many columns in each slot. What grows, grows to twice what it was, so that little is
    /// copied, but to no more than `limit`, so that short answers take little memory. Where it would grow beyond its budget, slots
    /// that nobody has go, and columns that nobody needs any more. Returns where each slot is now.
    pub fn grow(&mut self, model: &Decoder, columns: usize, limit: Size) -> Vec<usize> {
        let doubled = |old: usize, first: usize, needed: usize, limit: usize| match needed > old {
            true => (2 * old).max(first).min(limit).max(needed),
            false => old,
        };
        let old = self.size;
        let new_size = |slots: usize| Size {
            slots: doubled(old.slots, 0, slots, limit.slots),
            columns: doubled(old.columns, FIRST_COLUMNS, columns, limit.columns),
        };
        let mut new = new_size(self.slots.len());
        let mut kept: Vec<usize> = (0..self.slots.len()).collect();
        if new != old && self.bytes(new) > self.budget {
            kept.retain(|&slot| self.slots[slot].is_taken);
            new = Size {
                slots: kept.len(),
                columns: match columns > old.columns {
                    true => new.columns,
                    false => doubled(0, FIRST_COLUMNS, columns, limit.columns).min(old.columns),
                },
            };
            // Those who have just got a slot may find more in it than they can take over.
            for slot in &mut self.slots {
                slot.known.truncate(new.columns);
                slot.exact = slot.exact.min(new.columns);
            }
        }
        let mut moved = vec![0; self.slots.len()];
        for (at, &slot) in kept.iter().enumerate() {
            moved[slot] = at;
        }
        if new == old {
            return moved;
        }
        if self.layers.is_empty() {
            let heads = model.layers.iter().map(|layer| layer.heads);
            let layers = heads.map(|heads| LayerCache::empty(heads, new, &model.device));
            self.layers = layers.collect();
        } else {
            let rows = kept.iter().copied().filter(|&slot| slot < old.slots);
            let rows: Vec<usize> = rows.collect();
            let longer = |cache: Tensor<4>| {
                let [slots, kv, columns, dim] = cache.dims();
                let columns = columns.min(new.columns);
                let cache = cache.slice([0..slots, 0..kv, 0..columns, 0..dim]);
                let old = match rows.len() == old.slots {
                    true => cache,
                    false => {
                        cache.select(0, crate::head::indices(rows.iter().copied(), &model.device))
                    }
                };
                let wider = Tensor::zeros([new.slots, kv, new.columns, dim], &model.device);
                match rows.is_empty() {
                    true => wider,
                    false => wider.slice_assign([0..rows.len(), 0..kv, 0..columns, 0..dim], old),
                }
            };
            for layer in &mut self.layers {
                layer.change(longer, longer);
            }
        }
        let mut slots = std::mem::take(&mut self.slots);
        let slots = kept.iter().map(|&slot| std::mem::take(&mut slots[slot]));
        self.slots = slots.collect();
        self.size = new;
        moved
    }

    /// Bytes of a cache of this size.
    fn bytes(&self, size: Size) -> usize {
        let numbers = self.layers.iter().map(|layer| {
            let [_, kv, _, dim] = layer.keys.dims();
            2 * kv * dim
        });
        numbers.sum::<usize>() * size_of::<f32>() * size.slots * size.columns
    }

    /// Copies the first `columns` of one slot into another.
    fn copy(&mut self, from: usize, to: usize, columns: usize) {
        let copy = |cache: Tensor<4>| {
            let [_, kv, _, dim] = cache.dims();
            let at = |slot: usize| [slot..slot + 1, 0..kv, 0..columns, 0..dim];
            // A product has a buffer of its own: the cache's then has one owner again, and is written in place.
            let own = cache.clone().slice(at(from)).mul_scalar(1.0);
            cache.slice_assign(at(to), own)
        };
        for layer in &mut self.layers {
            layer.change(copy, copy);
        }
    }
}

impl LayerCache {
    fn empty(heads: Heads, size: Size, device: &Device) -> Self {
        let zeros = || Tensor::zeros([size.slots, heads.kv, size.columns, heads.dim], device);
        Self {
            keys: zeros(),
            values: zeros(),
        }
    }

    /// Keys and values of a pass, `[rows, kv × dim]` each, behind those of the tokens in front of its pieces.
    pub fn behind_known(
        &self,
        pieces: &[Piece],
        keys: &Tensor<2>,
        values: &Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let all = |cache: &Tensor<4>, new: &Tensor<2>| {
            let [_, kv, _, dim] = cache.dims();
            let of_piece = |piece: &Piece| {
                let Piece { slot, known, .. } = *piece;
                let known_keys = cache
                    .clone()
                    .slice([slot..slot + 1, 0..kv, 0..known, 0..dim]);
                known_keys.swap_dims(1, 2).reshape([known, kv * dim])
            };
            let known = pieces.iter().filter(|piece| piece.known > 0);
            let mut rows: Vec<Tensor<2>> = known.map(of_piece).collect();
            if rows.is_empty() {
                return new.clone();
            }
            rows.push(new.clone());
            Tensor::cat(rows, 0)
        };
        (all(&self.keys, keys), all(&self.values, values))
    }

    /// Writes what a pass has computed, `[rows, kv × dim]`, behind what is known.
    pub fn write(&mut self, pieces: &[Piece], keys: &Tensor<2>, values: &Tensor<2>) {
        let write = |mut cache: Tensor<4>, new: &Tensor<2>| {
            let [_, kv, _, dim] = cache.dims();
            for &Piece {
                slot,
                known,
                row,
                count,
            } in pieces
            {
                let own = new.clone().slice([row..row + count, 0..kv * dim]);
                let own = own.reshape([1, count, kv, dim]).swap_dims(1, 2);
                let at = [slot..slot + 1, 0..kv, known..known + count, 0..dim];
                cache = cache.slice_assign(at, own);
            }
            cache
        };
        self.change(|cache| write(cache, keys), |cache| write(cache, values));
    }

    /// Hands the caches over, so that their buffers have one owner and are written in place.
    pub fn change(
        &mut self,
        keys: impl FnOnce(Tensor<4>) -> Tensor<4>,
        values: impl FnOnce(Tensor<4>) -> Tensor<4>,
    ) {
        let take = |cache: &mut Tensor<4>| {
            let empty = Tensor::empty([1, 1, 1, 1], &cache.device());
            std::mem::replace(cache, empty)
        };
        self.keys = keys(take(&mut self.keys));
        self.values = values(take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Generation;
    use crate::against_autodiff::common::{config, tiny_model};

    /// Requests that come one after the other keep what they know in slots of their own, until a long one would take all of
    /// these beyond the budget.
    #[test]
    fn what_may_be_asked_again_has_a_budget() {
        let device = Device::flex();
        let config = config("llama", json!({ "max_position_embeddings": 600 }));
        let model = tiny_model(&config, &device);
        let ask = |session: &mut Generation<'_>, first: u32, prompt: usize| {
            let prompt: Vec<u32> = (0..prompt as u32).map(|i| 3 + (first + i) % 30).collect();
            session.push(Request::greedy(prompt, 3)).unwrap();
            let mut cached = 0;
            while !session.is_idle() {
                for new in session.step().unwrap() {
                    cached = new.cached;
                }
            }
            cached
        };
        // 2 layers, 2 heads, 6 numbers, keys and values: 192 bytes a token.
        for kept in [8, 2] {
            let budget = 192 * 23 * kept;
            let mut session = Generation::new(&model, 8);
            session.cache.budget = budget;
            for first in 0..8 {
                assert_eq!(ask(&mut session, first, 20), 0);
            }
            assert_eq!(session.cache.slots.len(), kept);
            assert!(session.cache.bytes(session.cache.size) <= budget);
            // Those that came last, the first of them first.
            for first in 8 - kept as u32..8 {
                assert_eq!(ask(&mut session, first, 20), 19);
            }
            assert_eq!(ask(&mut session, 0, 500), 20 * (kept / 8));
            let columns = session.cache.size.columns;
            assert!(
                columns >= 502
                    && session.cache.bytes(session.cache.size) <= budget.max(192 * columns)
            );
            assert_eq!(ask(&mut session, 0, 500), 499);
            // Many short ones together do not get as many columns as a long one had.
            for first in 0..8 {
                let prompt: Vec<u32> = (0..20).map(|i| 3 + (first + i) % 30).collect();
                session.push(Request::greedy(prompt, 3)).unwrap();
            }
            while !session.is_idle() {
                session.step().unwrap();
            }
            assert_eq!(session.cache.slots.len(), 8);
            assert!(session.cache.bytes(session.cache.size) <= budget.max(192 * 23 * 8));
        }
    }
}
