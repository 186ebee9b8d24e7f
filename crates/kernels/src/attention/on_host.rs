//! Attention on the CPU, a block of queries and a head at a time: scores of a block stay in the cache.

use std::ops::Range;

use burn_tensor::Tensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{Heads, Segment, Visibility, visible_keys};
use crate::fresh::new_rows;
use crate::host::{self, Host, Matrix, Write, dot, exp, product_into};

/// Queries of a block: 64 queries × 1024 keys × 4 bytes = 256 KiB of scores fit into a second-level cache.
const BLOCK: usize = 64;

/// Queries, keys and values.
pub(super) struct Operands {
    q: Host,
    k: Host,
    v: Host,
}

impl Operands {
    pub fn open(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>) -> Option<Self> {
        Some(Self {
            q: Host::open(q)?.contiguous(),
            k: Host::open(k)?.contiguous(),
            v: Host::open(v)?.contiguous(),
        })
    }
}

/// What forward gave, and the gradient at its output.
pub(super) struct Result {
    out: Host,
    log_sum: Host,
    d_out: Host,
}

impl Result {
    pub fn open(out: &Tensor<2>, log_sum: &Tensor<2>, d_out: &Tensor<2>) -> Option<Self> {
        Some(Self {
            out: Host::open(out)?.contiguous(),
            log_sum: Host::open(log_sum)?.contiguous(),
            d_out: Host::open(d_out)?.contiguous(),
        })
    }
}

/// Rows `block` of a segment, counted from its first, with the keys that the last of them sees.
struct Block<'a> {
    segment: &'a Segment,
    block: Range<usize>,
    window: Option<usize>,
    /// Rows that have keys and no queries.
    given: usize,
}

impl Block<'_> {
    fn all(visibility: &Visibility) -> Vec<Block<'_>> {
        let blocks = |segment| Block::of(segment, visibility);
        visibility.segments.iter().flat_map(blocks).collect()
    }

    fn of<'a>(
        segment: &'a Segment,
        visibility: &Visibility,
    ) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let Visibility { window, given, .. } = *visibility;
        let own = segment.own.len();
        (0..own).step_by(BLOCK).map(move |start| Block {
            segment,
            block: start..(start + BLOCK).min(own),
            window,
            given,
        })
    }

    fn len(&self) -> usize {
        self.block.len()
    }

    /// Its rows among the queries.
    fn rows(&self) -> Range<usize> {
        let first = self.segment.own.start - self.given;
        first + self.block.start..first + self.block.end
    }

    fn keys(&self) -> usize {
        self.segment.prefix.len() + self.block.end
    }

    /// Where keys and values lie: (first column of the scores, rows among the keys), the prefix before the
    /// segment's own.
    fn key_runs(&self) -> [(usize, Range<usize>); 2] {
        let own = self.segment.own.start;
        [
            (0, self.segment.prefix.clone()),
            (self.segment.prefix.len(), own..own + self.block.end),
        ]
    }

    /// Columns of the scores that row `i` of the block sees.
    fn visible(&self, i: usize) -> Range<usize> {
        visible_keys(
            self.segment.prefix.len() + self.block.start + i,
            self.window,
        )
    }
}

/// `rows` of head `head` in a matrix of `heads` heads, all `dim` wide.
fn head_rows(
    values: &[f32],
    rows: Range<usize>,
    head: usize,
    heads: usize,
    dim: usize,
) -> Matrix<'_> {
    let width = heads * dim;
    let start = (rows.start * width + head * dim).min(values.len());
    Matrix::new(&values[start..], [rows.len(), dim], [width, 1])
}

/// Columns `first..first + count` of a block's matrix of `columns` columns.
fn columns(values: &[f32], rows: usize, columns: usize, first: usize, count: usize) -> Matrix<'_> {
    Matrix::new(&values[first..], [rows, count], [columns, 1])
}

pub(super) fn forward(operands: &Operands, visibility: &Visibility) -> (Tensor<2>, Tensor<2>) {
    let heads = visibility.heads;
    let (q, k, v) = (
        operands.q.values(),
        operands.k.values(),
        operands.v.values(),
    );
    let width = heads.queries() * heads.dim;
    let rows = q.len() / width;
    let mut out = vec![0.0f32; rows * width];
    let mut log_sum = vec![0.0f32; rows * heads.queries()];

    let blocks = Block::all(visibility);
    let mut tasks = Vec::with_capacity(blocks.len());
    let (mut out_rest, mut log_sum_rest) = (&mut out[..], &mut log_sum[..]);
    for block in blocks {
        let (own_out, rest) = out_rest.split_at_mut(block.len() * width);
        out_rest = rest;
        let (own_log_sum, rest) = log_sum_rest.split_at_mut(block.len() * heads.queries());
        log_sum_rest = rest;
        tasks.push((block, own_out, own_log_sum));
    }
    tasks.into_par_iter().for_each(|(block, out, log_sum)| {
        let mut scores = vec![0.0f32; block.len() * block.keys()];
        for head in 0..heads.queries() {
            block_scores(&mut scores, &block, q, k, heads, head);
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    softmax_rows(&mut scores, &block, |i, log| {
                        log_sum[i * heads.queries() + head] = log
                    });
                },
            );
            let out = &mut out[head * heads.dim..];
            let mut write = Write::Over;
            for (first, run) in block.key_runs() {
                if run.is_empty() {
                    continue;
                }
                let weights = columns(&scores, block.len(), block.keys(), first, run.len());
                let values = head_rows(v, run, head / heads.group, heads.kv, heads.dim);
                product_into(out, width, write, weights, values, 1.0, false);
                write = Write::Onto;
            }
        }
    });
    (
        host::tensor(out, [rows, width]),
        host::tensor(log_sum, [rows, heads.queries()]),
    )
}

/// q kᵀ / √dim of a block and a head; what is hidden holds anything.
fn block_scores(
    scores: &mut [f32],
    block: &Block<'_>,
    q: &[f32],
    k: &[f32],
    heads: Heads,
    head: usize,
) {
    let queries = head_rows(q, block.rows(), head, heads.queries(), heads.dim);
    for (first, run) in block.key_runs() {
        let keys = head_rows(k, run, head / heads.group, heads.kv, heads.dim).transposed();
        let scale = heads.scale() as f32;
        product_into(
            &mut scores[first..],
            block.keys(),
            Write::Over,
            queries,
            keys,
            scale,
            false,
        );
    }
}

/// Scores → weights in place, 0 where hidden; `log_sum` is told log Σ exp of each row.
#[inline(always)]
fn softmax_rows(scores: &mut [f32], block: &Block<'_>, mut log_sum: impl FnMut(usize, f32)) {
    for (i, row) in scores.chunks_exact_mut(block.keys()).enumerate() {
        let visible = block.visible(i);
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
        let row = &mut row[visible];
        let max = host::largest(row);
        for x in row.iter_mut() {
            *x = exp(*x - max);
        }
        let sum = host::sum(row.len(), |j| row[j]);
        let inverse = 1.0 / sum;
        for x in row.iter_mut() {
            *x *= inverse;
        }
        log_sum(i, max + sum.ln());
    }
}

pub(super) fn backward(
    operands: &Operands,
    result: &Result,
    visibility: &Visibility,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let heads = visibility.heads;
    let (queries, dim) = (heads.queries(), heads.dim);
    let rows = operands.q.values().len() / (queries * dim);
    let families = families(&visibility.segments);

    // A task is a query head of a prompt with all its responses: nobody else writes to its gradients. Those
    // of heads that share keys are added up afterwards.
    let new = || vec![0.0f32; rows * queries * dim];
    let (mut d_q, mut d_k, mut d_v) = (new(), new(), new());
    let mut tasks = Vec::new();
    let (mut q_rest, mut k_rest, mut v_rest) = (&mut d_q[..], &mut d_k[..], &mut d_v[..]);
    for family in &families {
        for head in 0..queries {
            let count = family.rows.len() * dim;
            let (d_q, rest) = q_rest.split_at_mut(count);
            q_rest = rest;
            let (d_k, rest) = k_rest.split_at_mut(count);
            k_rest = rest;
            let (d_v, rest) = v_rest.split_at_mut(count);
            v_rest = rest;
            tasks.push((family, head, [d_q, d_k, d_v]));
        }
    }
    tasks.into_par_iter().for_each(|(family, head, gradients)| {
        head_backward(operands, result, visibility, family, head, gradients);
    });

    let at = |family: &Family<'_>, head: usize, row: usize| {
        let start = (family.rows.start * queries + head * family.rows.len() + row) * dim;
        start..start + dim
    };
    let family_of: Vec<&Family<'_>> = families
        .iter()
        .flat_map(|family| family.rows.clone().map(move |_| family))
        .collect();
    let join = |d: &[f32], heads: usize, group: usize| {
        let values = new_rows(rows, heads * dim, |first, chunk| {
            chunk.fill_runs(heads * dim, |i, out| {
                let family = family_of[first + i];
                let row = first + i - family.rows.start;
                out.fill_runs(dim, |head, out| {
                    let members = || head * group..(head + 1) * group;
                    out.fill(|j| members().map(|h| d[at(family, h, row)][j]).sum())
                })
            })
        });
        host::tensor(values, [rows, heads * dim])
    };
    (
        join(&d_q, queries, 1),
        join(&d_k, heads.kv, heads.group),
        join(&d_v, heads.kv, heads.group),
    )
}

/// A prompt and the responses behind it.
struct Family<'a> {
    rows: Range<usize>,
    segments: &'a [Segment],
}

fn families(segments: &[Segment]) -> Vec<Family<'_>> {
    let is_same = |_: &Segment, next: &Segment| !next.prefix.is_empty();
    segments
        .chunk_by(is_same)
        .map(|segments| Family {
            rows: segments[0].own.start..segments[segments.len() - 1].own.end,
            segments,
        })
        .collect()
}

/// Gradients at queries, keys and values of one query head, `[rows of the family, dim]` each.
fn head_backward(
    operands: &Operands,
    result: &Result,
    visibility: &Visibility,
    family: &Family<'_>,
    head: usize,
    [d_q, d_k, d_v]: [&mut [f32]; 3],
) {
    let heads = visibility.heads;
    let (queries, kv, dim) = (heads.queries(), heads.kv, heads.dim);
    let (q, k, v) = (
        operands.q.values(),
        operands.k.values(),
        operands.v.values(),
    );
    let (out, log_sum, d_out) = (
        result.out.values(),
        result.log_sum.values(),
        result.d_out.values(),
    );
    let scale = heads.scale() as f32;
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    let blocks = family.segments.iter();
    for block in blocks.flat_map(|segment| Block::of(segment, visibility)) {
        let (n, keys) = (block.len(), block.keys());
        weights.resize(n * keys, 0.0);
        d_scores.resize(n * keys, 0.0);
        block_scores(&mut weights, &block, q, k, heads, head);
        let d_output = head_rows(d_out, block.rows(), head, queries, dim);
        for (first, run) in block.key_runs() {
            let values = head_rows(v, run, head / heads.group, kv, dim).transposed();
            product_into(
                &mut d_scores[first..],
                keys,
                Write::Over,
                d_output,
                values,
                1.0,
                false,
            );
        }
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let rows = weights
                    .chunks_exact_mut(keys)
                    .zip(d_scores.chunks_exact_mut(keys));
                for (i, (weights, d_scores)) in rows.enumerate() {
                    let row = block.rows().start + i;
                    let at = (row * queries + head) * dim..(row * queries + head + 1) * dim;
                    let along = dot(&out[at.clone()], &d_out[at]);
                    let log_sum = log_sum[row * queries + head];
                    let visible = block.visible(i);
                    for hidden in [0..visible.start, visible.end..keys] {
                        weights[hidden.clone()].fill(0.0);
                        d_scores[hidden].fill(0.0);
                    }
                    let visible = weights[visible.clone()]
                        .iter_mut()
                        .zip(&mut d_scores[visible]);
                    for (weight, d_score) in visible {
                        *weight = exp(*weight - log_sum);
                        *d_score = *weight * (*d_score - along) * scale;
                    }
                }
            },
        );

        let own_queries = head_rows(q, block.rows(), head, queries, dim);
        let origin = family.rows.start;
        let d_q = &mut d_q[(block.rows().start - origin) * dim..];
        let mut write = Write::Over;
        for (first, run) in block.key_runs() {
            if run.is_empty() {
                continue;
            }
            let weights = columns(&weights, n, keys, first, run.len());
            let d_scores = columns(&d_scores, n, keys, first, run.len());
            let at = (run.start - origin) * dim;
            let keys = head_rows(k, run, head / heads.group, kv, dim);
            product_into(d_q, dim, write, d_scores, keys, 1.0, false);
            write = Write::Onto;
            let d_k = &mut d_k[at..];
            product_into(
                d_k,
                dim,
                Write::Onto,
                d_scores.transposed(),
                own_queries,
                1.0,
                false,
            );
            let d_v = &mut d_v[at..];
            product_into(
                d_v,
                dim,
                Write::Onto,
                weights.transposed(),
                d_output,
                1.0,
                false,
            );
        }
    }
}
