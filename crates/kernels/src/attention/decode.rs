//! One new query per row against that row's cache.

use std::ops::Range;

use burn_tensor::{Bool, Int, Tensor, TensorData, activation::softmax};

use super::Heads;
#[cfg(feature = "flex")]
use crate::host::{self, Host};
use crate::matmul::matmul_each;
use crate::shape;

/// Multiplications below which a step stays on one thread.
#[cfg(feature = "flex")]
const PARALLEL: usize = 1 << 18;

/// Where the cache of a row of queries lies, and what the query sees of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRow {
    /// The row of the caches.
    pub slot: usize,
    /// Columns that the query sees; at least one. The last of them is its own.
    pub visible: Range<usize>,
}

/// softmax(q kᵀ / √dim) v of one query a row: q `[rows, kv × group × dim]`, keys and values
/// `[slots, kv, columns, dim]` → `[rows, kv × group × dim]`.
///
/// # Panics
/// If the shapes are not these, there is not one of `rows` for each row of q, or one of them sees nothing or more than
/// there is.
pub fn attention_decode(
    q: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    rows: &[CacheRow],
    heads: Heads,
) -> Tensor<2> {
    let (operation, [count, width], cache) = ("attention_decode", q.dims(), keys.dims());
    let queries = heads.check(operation);
    shape::axis(
        operation,
        "q",
        1,
        width,
        queries,
        "for kv × group × dim of `heads`",
    );
    shape::axis(
        operation,
        "keys",
        1,
        cache[1],
        heads.kv,
        "for kv of `heads`",
    );
    shape::axis(
        operation,
        "keys",
        3,
        cache[3],
        heads.dim,
        "for dim of `heads`",
    );
    shape::same(operation, "values", values.dims(), cache, "as in `keys`");
    check_rows(operation, rows, count, "as in `q`", cache, "keys");
    if rows.is_empty() {
        return q;
    }
    #[cfg(feature = "flex")]
    if let Some(out) = on_host::decode(&q, keys, values, rows, heads) {
        return out;
    }
    portable(q, keys, values, rows, heads)
}

/// Writes the keys, or values, of one new token a row, `new` `[rows, kv × dim]`, into the last column that the
/// row sees of `cache` `[slots, kv, columns, dim]`: in place where nobody else holds it.
///
/// # Panics
/// If the shapes are not these, there is not one of `rows` for each row of `new`, or one of them sees nothing or more
/// than there is.
pub fn write_cache(cache: Tensor<4>, new: &Tensor<2>, rows: &[CacheRow]) -> Tensor<4> {
    let (operation, [count, width], [_, kv, _, dim]) = ("write_cache", new.dims(), cache.dims());
    shape::axis(
        operation,
        "new",
        1,
        width,
        kv * dim,
        "as axes 1 and 3 of `cache` have together",
    );
    check_rows(operation, rows, count, "as in `new`", cache.dims(), "cache");
    if cache.dims().contains(&0) {
        return cache;
    }
    #[cfg(feature = "flex")]
    if Host::can_open(&cache)
        && let Some(new) = Host::open(new)
    {
        return on_host::write(cache, new, rows);
    }
    write_portably(cache, new, rows)
}

/// Whether there are `count` rows, as `why` says, and each of them sees a part of the `cache` of that name.
fn check_rows(
    operation: &str,
    rows: &[CacheRow],
    count: usize,
    why: &str,
    cache: [usize; 4],
    name: &str,
) {
    let [slots, _, columns, _] = cache;
    shape::axis(operation, "rows", 0, rows.len(), count, why);
    for (i, CacheRow { slot, visible }) in rows.iter().enumerate() {
        assert!(
            *slot < slots,
            "{operation}: `rows[{i}].slot` is {slot}, expected less than {slots}, axis 0 of `{name}`"
        );
        assert!(
            visible.start < visible.end && visible.end <= columns,
            "{operation}: `rows[{i}].visible` is {visible:?}, expected some of 0..{columns}, axis 2 of `{name}`"
        );
    }
}

fn write_portably(mut cache: Tensor<4>, new: &Tensor<2>, rows: &[CacheRow]) -> Tensor<4> {
    let [_, kv, _, dim] = cache.dims();
    for (index, row) in rows.iter().enumerate() {
        let own = new.clone().slice([index..index + 1, 0..kv * dim]);
        let column = row.visible.end - 1;
        let at = [row.slot..row.slot + 1, 0..kv, column..column + 1, 0..dim];
        cache = cache.slice_assign(at, own.reshape([1, kv, 1, dim]));
    }
    cache
}

fn portable(
    q: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    rows: &[CacheRow],
    heads: Heads,
) -> Tensor<2> {
    let device = q.device();
    let [count, width] = q.dims();
    let columns = rows.iter().map(|row| row.visible.end).max().unwrap_or(0);
    let slots: Vec<i32> = rows.iter().map(|row| row.slot as i32).collect();
    let slots = Tensor::<1, Int>::from_data(TensorData::new(slots, [count]), &device);
    // One matrix a row and key head; what nobody sees is cut off before the rows are copied.
    let [all, ..] = keys.dims();
    let seen = |cache: &Tensor<4>| {
        let cache = cache.clone();
        let cache = cache.slice([0..all, 0..heads.kv, 0..columns, 0..heads.dim]);
        cache.select(0, slots.clone())
    };
    let each = |x: Tensor<4>| {
        let [_, _, rows, width] = x.dims();
        x.reshape([count * heads.kv, rows, width])
    };
    let hidden: Vec<bool> = rows
        .iter()
        .flat_map(|row| (0..columns).map(|column| !row.visible.contains(&column)))
        .collect();
    let hidden = TensorData::new(hidden, [count, 1, 1, columns]);
    let hidden = Tensor::<4, Bool>::from_data(hidden, &device);
    let unseen = hidden.clone().reshape([count, 1, columns, 1]);
    let queries = q.reshape([count, heads.kv, heads.group, heads.dim]) * heads.scale();
    let scores = matmul_each(each(queries), each(seen(keys)).transpose());
    let scores = scores.reshape([count, heads.kv, heads.group, columns]);
    let hidden = hidden.expand(scores.dims());
    let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    // A weight of 0 does not hide what is left of an earlier row, if that is NaN.
    let values = seen(values);
    let hidden = unseen.expand(values.dims());
    let values = values.mask_fill(hidden, 0.0);
    matmul_each(each(weights), each(values)).reshape([count, width])
}

#[cfg(feature = "flex")]
mod on_host {
    use pulp::Arch;

    use super::*;
    use crate::host::{dot, exp};
    use crate::team;

    pub fn decode(
        q: &Tensor<2>,
        keys: &Tensor<4>,
        values: &Tensor<4>,
        rows: &[CacheRow],
        heads: Heads,
    ) -> Option<Tensor<2>> {
        let q = Host::open(q)?.contiguous();
        let [_, kv, columns, dim] = keys.dims();
        let (keys, values) = (Host::open(keys)?, Host::open(values)?);
        let (keys, values) = (keys.contiguous(), values.contiguous());
        let (q, keys, values) = (q.values(), keys.values(), values.values());

        let width = heads.group * dim;
        let mut out = vec![0.0; rows.len() * kv * width];
        // One key head of a row, with the queries that share it.
        let head = |(index, out): (usize, &mut [f32])| {
            let CacheRow { slot, visible } = &rows[index / kv];
            let start = (slot * kv + index % kv) * columns;
            let cache = (start + visible.start) * dim..(start + visible.end) * dim;
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let queries = q[index * width..(index + 1) * width].chunks_exact(dim);
                    for (query, out) in queries.zip(out.chunks_exact_mut(dim)) {
                        attend(
                            query,
                            &keys[cache.clone()],
                            &values[cache.clone()],
                            heads,
                            out,
                        );
                    }
                },
            );
        };
        let seen: usize = rows.iter().map(|row| row.visible.len()).sum();
        let work = 2 * seen * kv * width;
        if work < PARALLEL {
            out.chunks_exact_mut(width).enumerate().for_each(head);
        } else {
            team::for_each(out.chunks_exact_mut(width).enumerate().collect(), head);
        }
        Some(host::tensor(out, [rows.len(), kv * width]))
    }

    pub fn write(cache: Tensor<4>, new: Host, rows: &[CacheRow]) -> Tensor<4> {
        let [_, kv, columns, dim] = cache.dims();
        let new = new.contiguous();
        let new = new.values();
        host::update(cache, |cache| {
            for (row, new) in rows.iter().zip(new.chunks_exact(kv * dim)) {
                for (head, new) in new.chunks_exact(dim).enumerate() {
                    let start = ((row.slot * kv + head) * columns + row.visible.end - 1) * dim;
                    cache[start..start + dim].copy_from_slice(new);
                }
            }
        })
    }

    /// One query against the keys that it sees; `out` holds zeros.
    #[inline(always)]
    fn attend(query: &[f32], keys: &[f32], values: &[f32], heads: Heads, out: &mut [f32]) {
        let scale = heads.scale() as f32;
        let keys = keys.chunks_exact(heads.dim);
        let mut weights: Vec<f32> = keys.map(|key| dot(query, key) * scale).collect();
        let max = host::largest(&weights);
        for weight in &mut weights {
            *weight = exp(*weight - max);
        }
        let inverse = 1.0 / host::sum(weights.len(), |i| weights[i]);
        for (weight, value) in weights.iter().zip(values.chunks_exact(heads.dim)) {
            let weight = weight * inverse;
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{address, assert_close, random};

    /// Rows that see different parts of their caches, one of them a single column; slots in another order.
    fn rows(count: usize, columns: usize) -> Vec<CacheRow> {
        let row = |index| CacheRow {
            slot: count - index,
            visible: match index {
                0 => 4..5,
                _ => index * 3..columns - 5 * index,
            },
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn both_forms_agree() {
        let heads = Heads {
            kv: 3,
            group: 2,
            dim: 20,
        };
        for (count, columns) in [(1, 9), (4, 700)] {
            let q = random([count, 120]);
            let rows = rows(count, columns);
            // What no row sees may be anything.
            let cache = || {
                let cache = random([count + 1, 3, columns, 20]);
                rows.iter().fold(cache, |cache, row| {
                    let unseen = row.visible.end..columns;
                    let at = [row.slot..row.slot + 1, 0..3, unseen.clone(), 0..20];
                    let nan = Tensor::full([1, 3, unseen.len(), 20], f32::NAN, &cache.device());
                    cache.slice_assign(at, nan)
                })
            };
            let (keys, values) = (cache(), cache());
            let found = attention_decode(q.clone(), &keys, &values, &rows, heads);
            let expected = portable(q, &keys, &values, &rows, heads);
            assert_close("decode", &found, &expected);
            let new = random([count, 60]);
            let keys = random([count + 1, 3, columns, 20]);
            let found = write_cache(keys.clone(), &new, &rows);
            write_portably(keys, &new, &rows)
                .into_data()
                .assert_eq(&found.into_data(), true);
        }
    }

    #[test]
    fn a_cache_is_written_in_place() {
        let cache = random([3, 1, 8, 4]);
        let before = address(&cache);
        let cache = write_cache(cache, &random([1, 4]), &rows(2, 18)[..1]);
        assert_eq!(address(&cache), before);
    }
}
