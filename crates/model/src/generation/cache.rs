//! Keys and values of the tokens that were read.

use burn_tensor::{Device, Tensor};
use panacea_kernels::Heads;

use crate::Decoder;

/// The columns that a new cache has, at least, unless all requests are shorter.
const FIRST_COLUMNS: usize = 128;

/// Keys and values of all layers.
#[derive(Debug, Default)]
pub struct Cache {
    pub layers: Vec<LayerCache>,
    pub size: Size,
    /// Slots that nobody has.
    pub free: Vec<usize>,
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

impl Cache {
    /// Sees to it that there is room for `size`. What grows, grows to twice what it was, so that little is copied, but to
    /// no more than `limit`, so that short answers take little memory.
    pub fn grow(&mut self, model: &Decoder, size: Size, limit: Size) {
        let doubled = |old: usize, first: usize, needed: usize, limit: usize| match needed > old {
            true => (2 * old).max(first).min(limit).max(needed),
            false => old,
        };
        let old = self.size;
        let new = Size {
            slots: doubled(old.slots, 0, size.slots, limit.slots),
            columns: doubled(old.columns, FIRST_COLUMNS, size.columns, limit.columns),
        };
        if new == old {
            return;
        }
        if self.layers.is_empty() {
            let heads = model.layers.iter().map(|layer| layer.heads);
            let layers = heads.map(|heads| LayerCache::empty(heads, new, &model.device));
            self.layers = layers.collect();
        } else {
            let longer = |cache: Tensor<4>| {
                let [slots, kv, columns, dim] = cache.dims();
                let wider = Tensor::zeros([new.slots, kv, new.columns, dim], &model.device);
                wider.slice_assign([0..slots, 0..kv, 0..columns, 0..dim], cache)
            };
            for layer in &mut self.layers {
                layer.change(longer, longer);
            }
        }
        self.free.extend(old.slots..new.slots);
        self.size = new;
    }

    /// Copies the first `columns` of one slot into another.
    pub fn copy(&mut self, from: usize, to: usize, columns: usize) {
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
