//! Attention on GPUs: segments in blocks, as in its portable form, with two products forward and five backward, and one launch for
//! everything before, between and behind them.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
use burn_cubecl::tensor::CubeTensor;
use burn_tensor::{DType, Device, Int, Tensor as BurnTensor, TensorData};

use super::portable::{Output, of_like_sizes};
use super::{Heads, Segment, visible_keys};
use crate::gpu::tensor;
use crate::launch::{
    a_cube_each, a_thread_each, binds, max_of_cube, open_ints, operands, room, sum_of_cube,
};
use crate::matmul::matmul_each;

/// The row of a place that holds none.
const NONE: i32 = -1;

/// Segments `[count]`, all with places for as many queries and keys as the largest of them.
#[derive(Debug, Clone)]
struct Block {
    count: usize,
    own: usize,
    seen: usize,
    /// The row of each query among the queries, or [`NONE`], `[count × own]`.
    queries: CubeTensor,
    /// The row of each key among the keys, prefix first, or [`NONE`], `[count × seen]`.
    keys: CubeTensor,
    /// From and up to which key of its segment each query sees, `[count × own × 2]`; nothing where there is none.
    visible: CubeTensor,
    /// Where those of each row's keys begin in `places`, and behind them where the last ones end, `[rows + 1]`.
    starts: CubeTensor,
    /// Places of keys, row by row. A row of a prefix has several.
    places: CubeTensor,
}

/// All segments of a batch.
#[derive(Debug, Clone)]
pub(super) struct Blocks(Vec<Block>);

impl Blocks {
    /// `segments` follow each other without a gap behind `given` rows without queries; none is empty. `None` where the device is
    /// no GPU.
    pub fn new(
        given: usize,
        segments: &[Segment],
        heads: Heads,
        window: Option<usize>,
        device: &Device,
    ) -> Option<Self> {
        let rows = segments.last().map_or(given, |segment| segment.own.end);
        let ids = |ids: Vec<i32>| {
            let count = ids.len();
            let ids = TensorData::new(ids, [count]);
            open_ints(BurnTensor::<1, Int>::from_data(ids, (device, DType::I32)))
        };
        let block = |members: Vec<&Segment>| {
            let own = members.iter().map(|segment| segment.own.len()).max();
            let seen = members.iter().map(|segment| segment.seen()).max();
            let (count, own, seen) = (members.len(), own.unwrap_or(0), seen.unwrap_or(0));
            let mut queries = vec![NONE; count * own];
            let mut keys = vec![NONE; count * seen];
            let mut visible = vec![0; count * own * 2];
            let mut places = vec![Vec::new(); rows];
            for (i, Segment { prefix, own: rows }) in members.into_iter().enumerate() {
                for (at, row) in rows.clone().enumerate() {
                    let place = i * own + at;
                    queries[place] = (row - given) as i32;
                    let keys = visible_keys(prefix.len() + at, window);
                    visible[2 * place] = keys.start as i32;
                    visible[2 * place + 1] = keys.end as i32;
                }
                for (at, row) in prefix.clone().chain(rows.clone()).enumerate() {
                    let place = i * seen + at;
                    keys[place] = row as i32;
                    places[row].push(place as i32);
                }
            }
            let mut starts = vec![0; rows + 1];
            for (row, places) in places.iter().enumerate() {
                starts[row + 1] = starts[row] + places.len() as i32;
            }
            Some(Block {
                count,
                own,
                seen,
                queries: ids(queries)?,
                keys: ids(keys)?,
                visible: ids(visible)?,
                starts: ids(starts)?,
                places: ids(places.concat())?,
            })
        };
        let blocks = of_like_sizes(segments, heads).into_iter().map(block);
        let blocks = blocks.collect::<Option<Vec<Block>>>()?;
        let fits = blocks
            .iter()
            .all(|block| binds(&block.queries, MOST_BUFFERS));
        fits.then_some(Self(blocks))
    }

    fn lie_with(&self, x: &CubeTensor) -> bool {
        self.0.iter().all(|block| block.queries.device == x.device)
    }
}

/// Buffers of the kernel that has most of them.
const MOST_BUFFERS: usize = 10;

/// Where element `i` of a block's queries or keys, `[count, heads, length, dim]`, lies in a batch `[rows, heads × dim]`: its
/// row, or [`NONE`], and its column.
#[cube]
fn in_batch(
    i: usize,
    ids: &LinearView<'_, i32>,
    heads: usize,
    length: usize,
    dim: usize,
) -> (i32, usize) {
    let line = i / dim;
    let head = line / length % heads;
    let block = line / length / heads;
    let row = ids.read(block * length + line % length);
    (row, head * dim + i % dim)
}

/// Element `i` of a block's queries or keys, from a batch; 0 where there is none.
#[cube]
fn gathered(
    x: &LinearView<'_, f32>,
    i: usize,
    ids: &LinearView<'_, i32>,
    heads: usize,
    length: usize,
    dim: usize,
) -> f32 {
    let (row, column) = in_batch(i, ids, heads, length, dim);
    let mut value = 0.0_f32;
    if row >= 0 {
        value = x.read(row as usize * heads * dim + column);
    }
    value
}

/// A thread for each element of a block's queries, and behind those for each of its keys. The first of `queries` is
/// multiplied by `scale`.
#[cube(launch)]
fn gather_kernel(
    queries: Sequence<LinearView<'static, f32>>,
    keys: Sequence<LinearView<'static, f32>>,
    of_queries: LinearView<'_, i32>,
    of_keys: LinearView<'_, i32>,
    mut gathered_queries: Sequence<LinearViewMut<'static, f32>>,
    mut gathered_keys: Sequence<LinearViewMut<'static, f32>>,
    heads: usize,
    kv: usize,
    dim: usize,
    own: usize,
    seen: usize,
    scale: f32,
) {
    let all = gathered_queries[0].shape();
    if ABSOLUTE_POS < all {
        let i = ABSOLUTE_POS;
        #[unroll]
        for x in 0..queries.len() {
            let mut value = gathered(&queries[x], i, &of_queries, heads, own, dim);
            if x == 0 {
                value *= scale;
            }
            gathered_queries.index_mut(x).write(i, value);
        }
    } else {
        let i = ABSOLUTE_POS - all;
        if i < gathered_keys[0].shape() {
            #[unroll]
            for x in 0..keys.len() {
                let value = gathered(&keys[x], i, &of_keys, kv, seen, dim);
                gathered_keys.index_mut(x).write(i, value);
            }
        }
    }
}

/// Element `i` of a block's queries to its place in a batch, times `scale`.
#[cube]
fn scatter(
    of_x: &LinearView<'_, f32>,
    i: usize,
    queries: &LinearView<'_, i32>,
    x: &mut LinearViewMut<'_, f32>,
    heads: usize,
    own: usize,
    dim: usize,
    scale: f32,
) {
    let (row, column) = in_batch(i, queries, heads, own, dim);
    if row >= 0 {
        x.write(row as usize * heads * dim + column, of_x.read(i) * scale);
    }
}

/// A thread for each element of a block's queries. Every row of the batch is one block's.
#[cube(launch)]
fn scatter_kernel(
    of_x: LinearView<'_, f32>,
    queries: LinearView<'_, i32>,
    mut x: LinearViewMut<'_, f32>,
    heads: usize,
    own: usize,
    dim: usize,
) {
    if ABSOLUTE_POS < of_x.shape() {
        scatter(&of_x, ABSOLUTE_POS, &queries, &mut x, heads, own, dim, 1.0);
    }
}

/// A thread for each element of a block's queries, and behind those for each of the batch's keys, which adds up what the block
/// has for it.
#[cube(launch)]
fn scatter_gradients_kernel(
    of_q: LinearView<'_, f32>,
    of_k: LinearView<'_, f32>,
    of_v: LinearView<'_, f32>,
    queries: LinearView<'_, i32>,
    starts: LinearView<'_, i32>,
    places: LinearView<'_, i32>,
    mut d_q: LinearViewMut<'_, f32>,
    mut d_k: LinearViewMut<'_, f32>,
    mut d_v: LinearViewMut<'_, f32>,
    heads: usize,
    kv: usize,
    dim: usize,
    own: usize,
    seen: usize,
    scale: f32,
    #[comptime] is_onto: bool,
) {
    if ABSOLUTE_POS < of_q.shape() {
        let i = ABSOLUTE_POS;
        scatter(&of_q, i, &queries, &mut d_q, heads, own, dim, scale);
    } else {
        let i = ABSOLUTE_POS - of_q.shape();
        if i < d_k.shape() {
            let row = i / dim / kv;
            let head = i / dim % kv;
            let mut of_key = 0.0_f32;
            let mut of_value = 0.0_f32;
            if is_onto {
                of_key = d_k.read(i);
                of_value = d_v.read(i);
            }
            let mut each = starts.read(row);
            let end = starts.read(row + 1);
            while each < end {
                let place = places.read(each as usize) as usize;
                let line = (place / seen * kv + head) * seen + place % seen;
                of_key += of_k.read(line * dim + i % dim);
                of_value += of_v.read(line * dim + i % dim);
                each += 1;
            }
            d_k.write(i, of_key);
            d_v.write(i, of_value);
        }
    }
}

/// A cube for each query of each head: softmax of its scores, in place, and the logarithm of the sum.
#[cube(launch)]
fn softmax_kernel(
    mut scores: LinearViewMut<'_, f32>,
    queries: LinearView<'_, i32>,
    visible: LinearView<'_, i32>,
    mut log_sum: LinearViewMut<'_, f32>,
    heads: usize,
    own: usize,
    seen: usize,
    lines: usize,
    #[comptime] threads: usize,
) {
    if CUBE_POS >= lines {
        terminate!();
    }
    let head = CUBE_POS / own % heads;
    let place = CUBE_POS / own / heads * own + CUBE_POS % own;
    let from = visible.read(2 * place) as usize;
    let end = visible.read(2 * place + 1) as usize;
    let first = CUBE_POS * seen;
    let mut max = f32::new(-1e30);
    let mut key = from + UNIT_POS as usize;
    while key < end {
        let score = scores.read(first + key);
        if score > max {
            max = score;
        }
        key += threads;
    }
    let max = max_of_cube(max, threads);
    let mut sum = 0.0_f32;
    let mut key = from + UNIT_POS as usize;
    while key < end {
        let weight = (scores.read(first + key) - max).exp();
        scores.write(first + key, weight);
        sum += weight;
        key += threads;
    }
    let sum = sum_of_cube(sum, threads);
    // Each thread reads what it wrote itself: the keys are dealt out from `from` on in both loops.
    let mut key = from + UNIT_POS as usize;
    while key < end {
        scores.write(first + key, scores.read(first + key) / sum);
        key += threads;
    }
    let mut key = UNIT_POS as usize;
    while key < seen {
        if key < from || key >= end {
            scores.write(first + key, 0.0);
        }
        key += threads;
    }
    let row = queries.read(place);
    if UNIT_POS == 0 && row >= 0 {
        log_sum.write(row as usize * heads + head, max + sum.ln());
    }
}

/// A cube for each query of each head: the weights P in place of its scores, and P ⊙ (∂P − Σ P ⊙ ∂P) in place of ∂P.
#[cube(launch)]
fn softmax_backward_kernel(
    mut scores: LinearViewMut<'_, f32>,
    mut d_weights: LinearViewMut<'_, f32>,
    queries: LinearView<'_, i32>,
    visible: LinearView<'_, i32>,
    log_sum: LinearView<'_, f32>,
    heads: usize,
    own: usize,
    seen: usize,
    lines: usize,
    #[comptime] threads: usize,
) {
    if CUBE_POS >= lines {
        terminate!();
    }
    let head = CUBE_POS / own % heads;
    let place = CUBE_POS / own / heads * own + CUBE_POS % own;
    let from = visible.read(2 * place) as usize;
    let end = visible.read(2 * place + 1) as usize;
    let first = CUBE_POS * seen;
    let row = queries.read(place);
    let mut shift = 0.0_f32;
    if row >= 0 {
        shift = log_sum.read(row as usize * heads + head);
    }
    let mut along = 0.0_f32;
    let mut key = UNIT_POS as usize;
    while key < seen {
        let mut weight = 0.0_f32;
        if key >= from && key < end {
            weight = (scores.read(first + key) - shift).exp();
            along += weight * d_weights.read(first + key);
        }
        scores.write(first + key, weight);
        key += threads;
    }
    let along = sum_of_cube(along, threads);
    // Each thread reads what it wrote itself.
    let mut key = UNIT_POS as usize;
    while key < seen {
        let at = first + key;
        let mut d_score = 0.0_f32;
        if key >= from && key < end {
            d_score = scores.read(at) * (d_weights.read(at) - along);
        }
        d_weights.write(at, d_score);
        key += threads;
    }
}

/// What a block has of `queries`, the first of them times 1 / √dim, `[count × kv, group × own, dim]`, and of `keys`,
/// `[count × kv, seen, dim]`.
fn gather<const Q: usize, const K: usize>(
    block: &Block,
    queries: &[CubeTensor; Q],
    keys: &[CubeTensor; K],
    heads: Heads,
) -> ([BurnTensor<3>; Q], [BurnTensor<3>; K]) {
    let Block {
        count, own, seen, ..
    } = *block;
    let q_shape = [count * heads.kv, heads.group * own, heads.dim];
    let k_shape = [count * heads.kv, seen, heads.dim];
    let of_queries = queries.each_ref().map(|x| room(x, q_shape));
    let of_keys = keys.each_ref().map(|x| room(x, k_shape));
    let elements = q_shape.iter().product::<usize>() + k_shape.iter().product::<usize>();
    let (cubes, threads) = a_thread_each(&block.queries, elements);
    let view = |x: &CubeTensor| x.clone().into_linear_view();
    gather_kernel::launch(
        &block.queries.client,
        cubes,
        threads,
        queries.iter().map(view).collect(),
        keys.iter().map(view).collect(),
        view(&block.queries),
        view(&block.keys),
        of_queries.iter().map(view).collect(),
        of_keys.iter().map(view).collect(),
        heads.queries(),
        heads.kv,
        heads.dim,
        own,
        seen,
        heads.scale() as f32,
    );
    (of_queries.map(tensor), of_keys.map(tensor))
}

/// As [`super::attention`]. `None` where the tensors do not lie on one GPU.
pub(super) fn forward(
    q: &BurnTensor<2>,
    k: &BurnTensor<2>,
    v: &BurnTensor<2>,
    heads: Heads,
    blocks: &Blocks,
) -> Option<(BurnTensor<2>, BurnTensor<2>)> {
    let [rows, width] = q.dims();
    let [q, k, v] = operands([q, k, v])?;
    if !blocks.lie_with(&q) {
        return None;
    }
    let out = room(&q, [rows, width]);
    let log_sum = room(&q, [rows, heads.queries()]);
    let (client, queries, keys) = (out.client.clone(), [q], [k, v]);
    for block in &blocks.0 {
        let Block {
            count, own, seen, ..
        } = *block;
        let ([of_q], [of_k, of_v]) = gather(block, &queries, &keys, heads);
        let scores = matmul_each(of_q, of_k.transpose());
        let [opened] = operands([&scores])?;
        let lines = count * heads.queries() * own;
        let (cubes, threads) = a_cube_each(&out, lines, seen);
        softmax_kernel::launch(
            &client,
            cubes,
            threads,
            opened.into_linear_view(),
            block.queries.clone().into_linear_view(),
            block.visible.clone().into_linear_view(),
            log_sum.clone().into_linear_view(),
            heads.queries(),
            own,
            seen,
            lines,
            threads.num_elems() as usize,
        );
        let [of_out] = operands([&matmul_each(scores, of_v)])?;
        let (cubes, threads) = a_thread_each(&out, of_out.meta.num_elements());
        scatter_kernel::launch(
            &client,
            cubes,
            threads,
            of_out.into_linear_view(),
            block.queries.clone().into_linear_view(),
            out.clone().into_linear_view(),
            heads.queries(),
            own,
            heads.dim,
        );
    }
    Some((tensor(out), tensor(log_sum)))
}

/// As [`super::attention_backward`]. `None` where the tensors do not lie on one GPU.
pub(super) fn backward(
    q: &BurnTensor<2>,
    k: &BurnTensor<2>,
    v: &BurnTensor<2>,
    output: &Output<'_>,
    heads: Heads,
    blocks: &Blocks,
) -> Option<(BurnTensor<2>, BurnTensor<2>, BurnTensor<2>)> {
    let [q, k, v, log_sum, d_out] = operands([q, k, v, output.log_sum, output.d_out])?;
    if !blocks.lie_with(&q) {
        return None;
    }
    let rows = q.meta.shape()[0];
    let d_q = room(&q, [rows, heads.queries() * heads.dim]);
    let [d_k, d_v] = [(); 2].map(|()| room(&q, [rows, heads.kv * heads.dim]));
    let (client, queries, keys) = (q.client.clone(), [q, d_out], [k, v]);
    for (i, block) in blocks.0.iter().enumerate() {
        let Block {
            count, own, seen, ..
        } = *block;
        let ([of_q, of_d_out], [of_k, of_v]) = gather(block, &queries, &keys, heads);
        let scores = matmul_each(of_q.clone(), of_k.clone().transpose());
        let d_weights = matmul_each(of_d_out.clone(), of_v.transpose());
        let lines = count * heads.queries() * own;
        let [opened, opened_d] = operands([&scores, &d_weights])?;
        let (cubes, threads) = a_cube_each(&d_q, lines, seen);
        softmax_backward_kernel::launch(
            &client,
            cubes,
            threads,
            opened.into_linear_view(),
            opened_d.into_linear_view(),
            block.queries.clone().into_linear_view(),
            block.visible.clone().into_linear_view(),
            log_sum.clone().into_linear_view(),
            heads.queries(),
            own,
            seen,
            lines,
            threads.num_elems() as usize,
        );
        let (weights, d_scores) = (scores, d_weights);
        let of_d_v = matmul_each(weights.transpose(), of_d_out);
        let of_d_q = matmul_each(d_scores.clone(), of_k);
        // The queries have the factor 1 / √dim already.
        let of_d_k = matmul_each(d_scores.transpose(), of_q);
        let [of_d_q, of_d_k, of_d_v] = operands([&of_d_q, &of_d_k, &of_d_v])?;
        let elements = of_d_q.meta.num_elements() + d_k.meta.num_elements();
        let (cubes, threads) = a_thread_each(&d_q, elements);
        scatter_gradients_kernel::launch(
            &client,
            cubes,
            threads,
            of_d_q.into_linear_view(),
            of_d_k.into_linear_view(),
            of_d_v.into_linear_view(),
            block.queries.clone().into_linear_view(),
            block.starts.clone().into_linear_view(),
            block.places.clone().into_linear_view(),
            d_q.clone().into_linear_view(),
            d_k.clone().into_linear_view(),
            d_v.clone().into_linear_view(),
            heads.queries(),
            heads.kv,
            heads.dim,
            own,
            seen,
            heads.scale() as f32,
            i > 0,
        );
    }
    Some((tensor(d_q), tensor(d_k), tensor(d_v)))
}
