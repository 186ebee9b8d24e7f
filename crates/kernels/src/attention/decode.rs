//! One new query per row against that row's cache.

use std::ops::Range;

#[cfg(feature = "gpu")]
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::{Bool, Device, Int, Tensor, TensorData, activation::softmax};

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

/// One for each row of queries, told to a device once for all layers.
#[derive(Debug, Clone)]
pub struct CacheRows {
    rows: Vec<CacheRow>,
    /// Slot, first column and the one behind the last, `[rows × 3]`, where there is a GPU.
    #[cfg(feature = "gpu")]
    on_gpu: Option<CubeTensor>,
}

impl CacheRows {
    /// For tensors that lie on `device`.
    #[cfg_attr(
        not(feature = "gpu"),
        expect(unused_variables, reason = "only GPUs are told")
    )]
    pub fn new(rows: Vec<CacheRow>, device: &Device) -> Self {
        Self {
            #[cfg(feature = "gpu")]
            on_gpu: on_gpu::tell(&rows, device),
            rows,
        }
    }
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
    rows: &CacheRows,
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
    check_rows(operation, &rows.rows, count, "as in `q`", cache, "keys");
    if count == 0 {
        return q;
    }
    #[cfg(feature = "flex")]
    if let Some(out) = on_host::decode(&q, keys, values, &rows.rows, heads) {
        return out;
    }
    #[cfg(feature = "gpu")]
    if let Some(out) = on_gpu::decode(&q, keys, values, rows, heads) {
        return out;
    }
    portable(q, keys, values, &rows.rows, heads)
}

/// Writes the keys, or values, of one new token a row, `new` `[rows, kv × dim]`, into the last column that the
/// row sees of `cache` `[slots, kv, columns, dim]`: in place where nobody else holds it.
///
/// # Panics
/// If the shapes are not these, there is not one of `rows` for each row of `new`, or one of them sees nothing or more
/// than there is.
pub fn write_cache(cache: Tensor<4>, new: &Tensor<2>, rows: &CacheRows) -> Tensor<4> {
    let (operation, [count, width], [_, kv, _, dim]) = ("write_cache", new.dims(), cache.dims());
    shape::axis(
        operation,
        "new",
        1,
        width,
        kv * dim,
        "as axes 1 and 3 of `cache` have together",
    );
    let of_rows = &rows.rows;
    check_rows(
        operation,
        of_rows,
        count,
        "as in `new`",
        cache.dims(),
        "cache",
    );
    if cache.dims().contains(&0) {
        return cache;
    }
    #[cfg(feature = "flex")]
    if Host::can_open(&cache)
        && let Some(new) = Host::open(new)
    {
        return on_host::write(cache, new, of_rows);
    }
    #[cfg(feature = "gpu")]
    let cache = match on_gpu::write(cache, new, rows) {
        Ok(written) => return written,
        Err(cache) => cache,
    };
    write_portably(cache, new, of_rows)
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

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::{DType, Device, Int, Tensor as BurnTensor, TensorData};

    use super::{CacheRow, CacheRows};
    use crate::attention::Heads;
    use crate::gpu::tensor;
    use crate::launch::{
        MOST_THREADS, a_cube_each, a_thread_each, max_of_cube, open_ints, operands, room, single,
        sum_of_cube,
    };

    /// `None` where the device is no GPU, or nothing is to be told.
    pub fn tell(rows: &[CacheRow], device: &Device) -> Option<CubeTensor> {
        let of_row = |row: &CacheRow| [row.slot, row.visible.start, row.visible.end];
        let told: Vec<i32> = rows.iter().flat_map(of_row).map(|x| x as i32).collect();
        if told.is_empty() {
            return None;
        }
        let told = TensorData::new(told, [3 * rows.len()]);
        open_ints(BurnTensor::<1, Int>::from_data(told, (device, DType::I32)))
    }

    /// A cube for each query of each head. As many keys as it has threads are taken at a time; what was summed before is
    /// multiplied by how much the largest score grows (Milakov and Gimelshein, 2018).
    #[cube(launch)]
    fn decode_kernel(
        q: LinearView<'_, f32>,
        keys: LinearView<'_, f32>,
        values: LinearView<'_, f32>,
        rows: LinearView<'_, i32>,
        mut out: LinearViewMut<'_, f32>,
        lines: usize,
        columns: usize,
        kv: usize,
        group: usize,
        dim: usize,
        scale: f32,
        #[comptime] threads: usize,
    ) {
        if CUBE_POS >= lines {
            terminate!();
        }
        let unit = UNIT_POS as usize;
        let row = CUBE_POS / (kv * group);
        let head = CUBE_POS % (kv * group) / group;
        let slot = rows.read(3 * row) as usize;
        let end = rows.read(3 * row + 2) as usize;
        let cache = (slot * kv + head) * columns;
        // Of the values, each thread adds up one column, of every `parts`-th of the keys.
        let parts = threads / dim;
        let (part, column) = (unit / dim, unit % dim);
        let mut weights = Shared::new_slice(threads);
        let mut max = f32::new(-1e30);
        let mut sum = 0.0_f32;
        let mut output = 0.0_f32;
        let mut first = rows.read(3 * row + 1) as usize;
        while first < end {
            let key = first + unit;
            let mut score = f32::new(-1e30);
            if key < end {
                let mut dot = 0.0_f32;
                let mut i = 0;
                while i < dim {
                    dot += q.read(CUBE_POS * dim + i) * keys.read((cache + key) * dim + i);
                    i += 1;
                }
                score = dot * scale;
            }
            let before = max;
            let largest = max_of_cube(score, threads);
            if largest > max {
                max = largest;
            }
            let shrunk = (before - max).exp();
            let mut weight = 0.0_f32;
            if key < end {
                weight = (score - max).exp();
            }
            sum = sum * shrunk + sum_of_cube(weight, threads);
            weights[unit] = weight;
            sync_cube();
            output *= shrunk;
            if part < parts {
                let mut i = part;
                while i < threads && first + i < end {
                    output += weights[i] * values.read((cache + first + i) * dim + column);
                    i += parts;
                }
            }
            // Nobody writes weights again before all have read them.
            sync_cube();
            first += threads;
        }
        weights[unit] = output;
        sync_cube();
        if unit < dim {
            let mut total = 0.0_f32;
            let mut i = 0;
            while i < parts {
                total += weights[i * dim + unit];
                i += 1;
            }
            out.write(CUBE_POS * dim + unit, total / sum);
        }
    }

    /// A thread for each element.
    #[cube(launch)]
    fn write_kernel(
        new: LinearView<'_, f32>,
        rows: LinearView<'_, i32>,
        mut cache: LinearViewMut<'_, f32>,
        columns: usize,
        kv: usize,
        dim: usize,
    ) {
        if ABSOLUTE_POS < new.shape() {
            let line = ABSOLUTE_POS / dim;
            let (row, head) = (line / kv, line % kv);
            let slot = rows.read(3 * row) as usize;
            let column = rows.read(3 * row + 2) as usize - 1;
            let at = ((slot * kv + head) * columns + column) * dim + ABSOLUTE_POS % dim;
            cache.write(at, new.read(ABSOLUTE_POS));
        }
    }

    /// One launch. `None` where the tensors do not lie on one GPU, or a head is wider than a cube.
    pub fn decode(
        q: &BurnTensor<2>,
        keys: &BurnTensor<4>,
        values: &BurnTensor<4>,
        rows: &CacheRows,
        heads: Heads,
    ) -> Option<BurnTensor<2>> {
        let ([count, width], [_, _, columns, _]) = (q.dims(), keys.dims());
        let told = rows.on_gpu.clone()?;
        let [q] = operands([q])?;
        let [keys, values] = operands([keys, values])?;
        let together = [&keys, &told].iter().all(|x| x.device == q.device);
        if !together || heads.dim > MOST_THREADS {
            return None;
        }
        let seen = rows.rows.iter().map(|row| row.visible.len()).max()?;
        let out = room(&q, [count, width]);
        let lines = count * heads.queries();
        let (cubes, threads) = a_cube_each(&q, lines, seen.max(heads.dim));
        decode_kernel::launch(
            &out.client,
            cubes,
            threads,
            q.into_linear_view(),
            keys.into_linear_view(),
            values.into_linear_view(),
            told.into_linear_view(),
            out.clone().into_linear_view(),
            lines,
            columns,
            heads.kv,
            heads.group,
            heads.dim,
            heads.scale() as f32,
            threads.num_elems() as usize,
        );
        Some(tensor(out))
    }

    /// One launch, in place where nobody else holds the cache; the cache alone where the tensors do not lie on one GPU.
    #[expect(
        clippy::result_large_err,
        reason = "a cache that cannot be written comes back"
    )]
    pub fn write(
        cache: BurnTensor<4>,
        new: &BurnTensor<2>,
        rows: &CacheRows,
    ) -> Result<BurnTensor<4>, BurnTensor<4>> {
        let [_, kv, columns, dim] = cache.dims();
        let (Some(told), Some([new])) = (rows.on_gpu.clone(), operands([new])) else {
            return Err(cache);
        };
        let usable = operands([&cache]).is_some_and(|[cache]| cache.device == new.device);
        if !usable || told.device != new.device {
            return Err(cache);
        }
        let cache = single(cache);
        let (cubes, threads) = a_thread_each(&new, new.meta.num_elements());
        write_kernel::launch(
            &cache.client,
            cubes,
            threads,
            new.into_linear_view(),
            told.into_linear_view(),
            cache.clone().into_linear_view(),
            columns,
            kv,
            dim,
        );
        Ok(tensor(cache))
    }
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
            let told = CacheRows::new(rows.clone(), &q.device());
            let found = attention_decode(q.clone(), &keys, &values, &told, heads);
            let expected = portable(q, &keys, &values, &rows, heads);
            assert_close("decode", &found, &expected);
            let new = random([count, 60]);
            let keys = random([count + 1, 3, columns, 20]);
            let found = write_cache(keys.clone(), &new, &told);
            write_portably(keys, &new, &rows)
                .into_data()
                .assert_eq(&found.into_data(), true);
        }
    }

    #[test]
    fn a_cache_is_written_in_place() {
        let cache = random([3, 1, 8, 4]);
        let before = address(&cache);
        let rows = CacheRows::new(rows(2, 18)[..1].to_vec(), &cache.device());
        let cache = write_cache(cache, &random([1, 4]), &rows);
        assert_eq!(address(&cache), before);
    }
}
