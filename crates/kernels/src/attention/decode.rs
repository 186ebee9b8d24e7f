//! One new query per row against that row's cache.

use std::ops::Range;

use burn::tensor::{Bool, Tensor, TensorData, activation::softmax};

use super::Heads;

/// Multiplications below which a step stays on one thread.
#[cfg(feature = "flex")]
const PARALLEL: usize = 1 << 18;

/// softmax(q kᵀ / √dim) v of one query a row: q `[rows, kv × group × dim]`, keys and values
/// `[rows, kv, columns, dim]` → `[rows, kv × group × dim]`. Each row sees the columns `visible` of its own cache, at
/// least one.
pub fn attention_decode(
    q: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    visible: &[Range<usize>],
    heads: Heads,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(out) = on_host::decode(&q, keys, values, visible, heads) {
        return out;
    }
    portable(q, keys, values, visible, heads)
}

fn portable(
    q: Tensor<2>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    visible: &[Range<usize>],
    heads: Heads,
) -> Tensor<2> {
    let [rows, width] = q.dims();
    let columns = visible.iter().map(|columns| columns.end).max().unwrap_or(0);
    let seen = |cache: &Tensor<4>| {
        let cache = cache.clone();
        cache.slice([0..rows, 0..heads.kv, 0..columns, 0..heads.dim])
    };
    let hidden: Vec<bool> = visible
        .iter()
        .flat_map(|visible| (0..columns).map(|column| !visible.contains(&column)))
        .collect();
    let hidden = TensorData::new(hidden, [rows, 1, 1, columns]);
    let hidden = Tensor::<4, Bool>::from_data(hidden, &q.device());
    let queries = q.reshape([rows, heads.kv, heads.group, heads.dim]) * heads.scale();
    let scores = queries.matmul(seen(keys).transpose());
    let hidden = hidden.expand(scores.dims());
    let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    weights.matmul(seen(values)).reshape([rows, width])
}

#[cfg(feature = "flex")]
mod on_host {
    use pulp::Arch;
    use rayon::prelude::*;

    use super::*;
    use crate::host::{self, Host, dot, exp};

    pub fn decode(
        q: &Tensor<2>,
        keys: &Tensor<4>,
        values: &Tensor<4>,
        visible: &[Range<usize>],
        heads: Heads,
    ) -> Option<Tensor<2>> {
        let q = Host::open(q)?.contiguous();
        let [rows, kv, columns, dim] = keys.dims();
        let (keys, values) = (Host::open(keys)?, Host::open(values)?);
        let (keys, values) = (keys.contiguous(), values.contiguous());
        let (q, keys, values) = (q.values(), keys.values(), values.values());

        let width = heads.group * dim;
        let mut out = vec![0.0; rows * kv * width];
        // One key head of a row, with the queries that share it.
        let head = |(index, out): (usize, &mut [f32])| {
            let visible = visible[index / kv].clone();
            let cache =
                (index * columns + visible.start) * dim..(index * columns + visible.end) * dim;
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
        let work: usize = visible
            .iter()
            .map(|columns| 2 * columns.len() * kv * width)
            .sum();
        if work < PARALLEL {
            out.chunks_exact_mut(width).enumerate().for_each(head);
        } else {
            out.par_chunks_exact_mut(width).enumerate().for_each(head);
        }
        Some(host::tensor(out, [rows, kv * width]))
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
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree() {
        let heads = Heads {
            kv: 3,
            group: 2,
            dim: 20,
        };
        for (rows, columns) in [(1, 9), (4, 700)] {
            let q = random([rows, 120]);
            let (keys, values) = (
                random([rows, 3, columns, 20]),
                random([rows, 3, columns, 20]),
            );
            // Rows that see different parts of their caches, one of them a single column.
            let visible: Vec<_> = (0..rows).map(|row| row * 3..columns - 5 * row).collect();
            let visible = [&visible[..rows - 1], &[4..5]].concat();
            let found = attention_decode(q.clone(), &keys, &values, &visible, heads);
            let expected = portable(q, &keys, &values, &visible, heads);
            assert_close("decode", &found, &expected);
        }
    }
}
