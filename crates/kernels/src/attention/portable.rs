//! Attention composed of tensor operations.
//!
//! A GPU takes longer to be told of an operation than to carry out a small one, so segments of like sizes are computed together,
//! padded to the largest of them: that is a block. Query heads that share a key head are folded into the rows of one matrix.

use burn_tensor::{Bool, Device, Int, Tensor, TensorData};

use super::{Heads, Segment, visible_keys};
use crate::matmul::matmul_each;

/// Scores of a block, and elements of its keys, unless one segment alone has more: 128 MiB.
const MOST: usize = 1 << 25;

/// Scores of a block up to which padding does not matter.
const FEW_SCORES: usize = 1 << 22;

/// In place of a hidden score. A weight of it is 0, and where all are hidden, as for padding, no number is NaN: autodiff would
/// carry NaN to every row, though none is taken from there.
const HIDDEN: f32 = -1e30;

/// Segments `[count]`, all with as many queries and keys as the largest of them.
#[derive(Debug, Clone)]
struct Block {
    count: usize,
    own: usize,
    seen: usize,
    /// Rows of the queries, `[count × own]`. Padding repeats a row.
    queries: Tensor<1, Int>,
    /// Rows of the keys, prefix first, `[count × seen]`.
    keys: Tensor<1, Int>,
    /// What each query must not see, `[count, 1, own, seen]`. Queries that are padding see nothing.
    hidden: Tensor<4, Bool>,
}

/// All segments of a batch in blocks, and the way back.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// Of each row, its place among all blocks' queries, `[rows]`.
    of_queries: Tensor<1, Int>,
    /// Of each row, its place among all blocks' keys as one of its own segment, `[rows]`.
    of_keys: Tensor<1, Int>,
    prefixes: Option<Prefixes>,
}

/// Where the gradients at keys lie that segments have for their prefix.
#[derive(Debug, Clone)]
struct Prefixes {
    /// For the first of those that share a prefix, the second and so on: of each row of a prefix, its place among all blocks'
    /// keys, `[rows of prefixes]`; behind the last where a prefix has fewer sharers.
    places: Vec<Tensor<1, Int>>,
    /// Of each row, its place among the rows of prefixes, `[rows]`; behind the last for a row of none.
    of_rows: Tensor<1, Int>,
}

impl Blocks {
    /// `segments` follow each other without a gap behind `given` rows without queries; none is empty.
    pub fn new(
        given: usize,
        segments: &[Segment],
        heads: Heads,
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        let ids = |ids: Vec<usize>| {
            let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
            let count = ids.len();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), device)
        };
        let rows = segments.last().map_or(given, |segment| segment.own.end);
        let (mut of_queries, mut of_keys) = (vec![0; rows - given], vec![0; rows]);
        // Where a row of a prefix is a key of other segments.
        let mut shared: Vec<Vec<usize>> = vec![Vec::new(); rows];
        let (mut blocks, mut queries_before, mut keys_before) = (Vec::new(), 0, 0);
        for members in of_like_sizes(segments, heads) {
            let own = members.iter().map(|segment| segment.own.len()).max();
            let seen = members.iter().map(|segment| segment.seen()).max();
            let (count, own, seen) = (members.len(), own.unwrap_or(0), seen.unwrap_or(0));
            let (mut queries, mut keys) = (Vec::new(), Vec::new());
            let mut hidden = vec![true; count * own * seen];
            for (i, segment) in members.into_iter().enumerate() {
                let Segment { prefix, own: rows } = segment;
                for (at, row) in rows.clone().enumerate() {
                    of_queries[row - given] = queries_before + i * own + at;
                    of_keys[row] = keys_before + i * seen + prefix.len() + at;
                    let first = (i * own + at) * seen;
                    for key in visible_keys(prefix.len() + at, window) {
                        hidden[first + key] = false;
                    }
                }
                for (at, row) in prefix.clone().enumerate() {
                    shared[row].push(keys_before + i * seen + at);
                }
                let padding = std::iter::repeat(rows.start);
                let with_padding = rows.clone().chain(padding.clone()).take(own);
                queries.extend(with_padding.map(|row| row - given));
                keys.extend(prefix.clone().chain(rows.clone()).chain(padding).take(seen));
            }
            queries_before += count * own;
            keys_before += count * seen;
            blocks.push(Block {
                count,
                own,
                seen,
                queries: ids(queries),
                keys: ids(keys),
                hidden: Tensor::from_data(TensorData::new(hidden, [count, 1, own, seen]), device),
            });
        }
        let sharers = shared.iter().map(Vec::len).max().unwrap_or(0);
        let prefixes = (sharers > 0).then(|| {
            let of_prefixes: Vec<&Vec<usize>> =
                shared.iter().filter(|places| !places.is_empty()).collect();
            let place =
                |places: &Vec<usize>, i: usize| places.get(i).copied().unwrap_or(keys_before);
            let of_sharer = |i| ids(of_prefixes.iter().map(|places| place(places, i)).collect());
            let mut before = 0;
            let of_rows = shared.iter().map(|places| {
                if places.is_empty() {
                    return of_prefixes.len();
                }
                before += 1;
                before - 1
            });
            Prefixes {
                of_rows: ids(of_rows.collect()),
                places: (0..sharers).map(of_sharer).collect(),
            }
        });
        Self {
            blocks,
            of_queries: ids(of_queries),
            of_keys: ids(of_keys),
            prefixes,
        }
    }

    /// One row for each row of the batch, from those of all blocks' queries.
    fn rows(&self, of_blocks: Vec<Tensor<2>>) -> Tensor<2> {
        together(of_blocks).select(0, self.of_queries.clone())
    }

    /// The gradient at every row, from those at all blocks' keys: its own and those of all who have it as a prefix, in a fixed
    /// order.
    fn key_gradient(&self, mut of_blocks: Vec<Tensor<2>>) -> Tensor<2> {
        let Some(prefixes) = &self.prefixes else {
            return together(of_blocks).select(0, self.of_keys.clone());
        };
        of_blocks.push(nothing_like(&of_blocks[0]));
        let all = together(of_blocks);
        let own = all.clone().select(0, self.of_keys.clone());
        let each = prefixes.places.iter();
        let each = each.map(|places| all.clone().select(0, places.clone()));
        let Some(shared) = each.reduce(|sum, more| sum + more) else {
            return own;
        };
        let nothing = nothing_like(&shared);
        own + together(vec![shared, nothing]).select(0, prefixes.of_rows.clone())
    }
}

/// One row of zeros.
fn nothing_like(x: &Tensor<2>) -> Tensor<2> {
    let [_, width] = x.dims();
    Tensor::zeros([1, width], (&x.device(), x.dtype()))
}

fn together(mut tensors: Vec<Tensor<2>>) -> Tensor<2> {
    match tensors.len() {
        1 => tensors.remove(0),
        _ => Tensor::cat(tensors, 0),
    }
}

impl Segment {
    pub(super) fn seen(&self) -> usize {
        self.prefix.len() + self.own.len()
    }
}

/// Segments in groups that are worth computing together, smaller ones first.
pub(super) fn of_like_sizes(segments: &[Segment], heads: Heads) -> Vec<Vec<&Segment>> {
    let mut sorted: Vec<&Segment> = segments.iter().collect();
    sorted.sort_by_key(|segment| (segment.own.len(), segment.seen()));
    let mut groups: Vec<Vec<&Segment>> = Vec::new();
    let (mut widest, mut needed) = (0, 0);
    for segment in sorted {
        let (own, seen) = (segment.own.len(), segment.seen());
        // The last one so far has the most queries.
        let joins = groups.last().is_some_and(|group| {
            let keys = (group.len() + 1) * widest.max(seen);
            let padded = keys * own * heads.queries();
            let needed = needed + own * seen * heads.queries();
            padded <= MOST
                && keys * heads.kv * heads.dim <= MOST
                && (padded <= FEW_SCORES || padded <= 2 * needed)
        });
        if !joins {
            groups.push(Vec::new());
            (widest, needed) = (0, 0);
        }
        widest = widest.max(seen);
        needed += own * seen * heads.queries();
        if let Some(group) = groups.last_mut() {
            group.push(segment);
        }
    }
    groups
}

impl Block {
    /// `[rows, kv × group × width]` → `[count × kv, group × own, width]`
    fn queries(&self, x: &Tensor<2>, heads: Heads) -> Tensor<3> {
        let [_, all] = x.dims();
        let width = all / heads.queries();
        x.clone()
            .select(0, self.queries.clone())
            .reshape([self.count, self.own, heads.queries(), width])
            .swap_dims(1, 2)
            .reshape([self.count * heads.kv, heads.group * self.own, width])
    }

    /// The inverse of [`Block::queries`] but for the order of the rows.
    fn join_queries(&self, x: Tensor<3>, heads: Heads) -> Tensor<2> {
        let [_, _, width] = x.dims();
        x.reshape([self.count, heads.queries(), self.own, width])
            .swap_dims(1, 2)
            .reshape([self.count * self.own, heads.queries() * width])
    }

    /// `[rows, kv × dim]` → `[count × kv, seen, dim]`
    fn keys(&self, x: &Tensor<2>, heads: Heads) -> Tensor<3> {
        x.clone()
            .select(0, self.keys.clone())
            .reshape([self.count, self.seen, heads.kv, heads.dim])
            .swap_dims(1, 2)
            .reshape([self.count * heads.kv, self.seen, heads.dim])
    }

    /// The inverse of [`Block::keys`] but for the order of the rows.
    fn join_keys(&self, x: Tensor<3>, heads: Heads) -> Tensor<2> {
        x.reshape([self.count, heads.kv, self.seen, heads.dim])
            .swap_dims(1, 2)
            .reshape([self.count * self.seen, heads.kv * heads.dim])
    }

    /// q kᵀ / √dim, [`HIDDEN`] where hidden: `[count × kv, group × own, seen]`.
    fn scores(&self, queries: Tensor<3>, keys: Tensor<3>, heads: Heads) -> Tensor<3> {
        let scores = matmul_each(queries * heads.scale(), keys.transpose());
        let folded = scores.dims();
        let scores = scores.reshape([self.count, heads.queries(), self.own, self.seen]);
        let hidden = self.hidden.clone().expand(scores.dims());
        scores.mask_fill(hidden, HIDDEN).reshape(folded)
    }
}

pub(super) fn forward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    heads: Heads,
    blocks: &Blocks,
) -> (Tensor<2>, Tensor<2>) {
    let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
    for block in &blocks.blocks {
        let scores = block.scores(block.queries(q, heads), block.keys(k, heads), heads);
        let max = scores.clone().max_dim(2);
        let exp = (scores - max.clone()).exp();
        let sum = exp.clone().sum_dim(2);
        let output = matmul_each(exp, block.keys(v, heads)) / sum.clone();
        outputs.push(block.join_queries(output, heads));
        log_sums.push(block.join_queries(max + sum.log(), heads));
    }
    (blocks.rows(outputs), blocks.rows(log_sums))
}

/// What [`forward`] gave, and the gradient at its output.
pub(super) struct Output<'a> {
    pub out: &'a Tensor<2>,
    pub log_sum: &'a Tensor<2>,
    pub d_out: &'a Tensor<2>,
}

pub(super) fn backward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    output: &Output<'_>,
    heads: Heads,
    blocks: &Blocks,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let (mut d_queries, mut d_keys, mut d_values) = (Vec::new(), Vec::new(), Vec::new());
    // Rows of ∂o ⊙ o, summed over each head.
    let [rows, width] = q.dims();
    let along = (output.d_out.clone() * output.out.clone())
        .reshape([rows, heads.queries(), width / heads.queries()])
        .sum_dim(2)
        .reshape([rows, heads.queries()]);
    for block in &blocks.blocks {
        let (queries, keys) = (block.queries(q, heads), block.keys(k, heads));
        let scores = block.scores(queries.clone(), keys.clone(), heads);
        // Of padding, all weights are 0, and so is what follows from them.
        let weights = (scores - block.queries(output.log_sum, heads)).exp();
        let d_output = block.queries(output.d_out, heads);
        let d_value = matmul_each(weights.clone().transpose(), d_output.clone());
        let d_weights = matmul_each(d_output, block.keys(v, heads).transpose());
        let d_scores = weights * (d_weights - block.queries(&along, heads)) * heads.scale();
        d_queries.push(block.join_queries(matmul_each(d_scores.clone(), keys), heads));
        d_keys.push(block.join_keys(matmul_each(d_scores.transpose(), queries), heads));
        d_values.push(block.join_keys(d_value, heads));
    }
    let d_keys = blocks.key_gradient(d_keys);
    let d_values = blocks.key_gradient(d_values);
    (blocks.rows(d_queries), d_keys, d_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_few_and_neither_large_nor_mostly_padding() {
        let heads = Heads {
            kv: 8,
            group: 4,
            dim: 128,
        };
        // Prompts of 40, 500 and 3000 tokens, each with a short and a long response.
        let (mut segments, mut end) = (Vec::new(), 0);
        for prompt in [40, 500, 3000].repeat(6) {
            let prefix = end..end + prompt;
            segments.push(Segment {
                prefix: 0..0,
                own: prefix.clone(),
            });
            end += prompt;
            for own in [7, 300] {
                segments.push(Segment {
                    prefix: prefix.clone(),
                    own: end..end + own,
                });
                end += own;
            }
        }
        let groups = of_like_sizes(&segments, heads);
        let mut members: Vec<usize> = Vec::new();
        for group in &groups {
            let area = |segment: &&Segment| segment.own.len() * segment.seen() * heads.queries();
            let needed: usize = group.iter().map(area).sum();
            let own = group.iter().map(|segment| segment.own.len()).max();
            let seen = group.iter().map(|segment| segment.seen()).max();
            let padded = group.len() * own.unwrap_or(0) * seen.unwrap_or(0) * heads.queries();
            assert!(group.len() == 1 || padded <= MOST, "{padded}");
            assert!(
                padded <= FEW_SCORES.max(2 * needed),
                "{padded} for {needed}"
            );
            members.extend(group.iter().map(|segment| segment.own.start));
        }
        assert!(groups.len() < segments.len() / 2, "{} blocks", groups.len());
        // Each is in one of them.
        members.sort_unstable();
        let mut all: Vec<usize> = segments.iter().map(|segment| segment.own.start).collect();
        all.sort_unstable();
        assert_eq!(members, all);
    }
}
