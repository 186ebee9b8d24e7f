//! Causal grouped-query attention over packed segments, and its gradient.
//!
//! Every segment's queries see its prefix and, causally, itself. Query heads that share a key head are
//! folded into the rows of one matrix product per key head.

use std::ops::Range;

use burn::tensor::{Bool, Device, Tensor, TensorData, activation::softmax};

use crate::batch::Segment;

/// Numbers of heads and their width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Key/value heads.
    pub kv: usize,
    /// Query heads per key head.
    pub group: usize,
    /// Width of a head.
    pub dim: usize,
}

/// A segment with the mask of what its queries must not see.
#[derive(Debug, Clone)]
pub(crate) struct MaskedSegment {
    prefix: Range<usize>,
    own: Range<usize>,
    /// `[1, group × own, prefix + own]`, `true` = hidden.
    hidden: Tensor<3, Bool>,
}

/// What backward needs of one segment: its attention weights, `[kv, group × own, keys]`.
pub(crate) type Weights = Vec<Tensor<3>>;

impl Heads {
    fn scale(self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    /// `[n, kv × group × dim]` → `[kv, group × n, dim]`
    fn split_queries(self, x: Tensor<2>) -> Tensor<3> {
        let [n, _] = x.dims();
        x.reshape([n, self.kv, self.group, self.dim])
            .permute([1, 2, 0, 3])
            .reshape([self.kv, self.group * n, self.dim])
    }

    /// The inverse of [`Heads::split_queries`].
    fn join_queries(self, x: Tensor<3>) -> Tensor<2> {
        let n = x.dims()[1] / self.group;
        x.reshape([self.kv, self.group, n, self.dim])
            .permute([2, 0, 1, 3])
            .reshape([n, self.kv * self.group * self.dim])
    }

    /// `[n, kv × dim]` → `[kv, n, dim]`
    fn split_keys(self, x: Tensor<2>) -> Tensor<3> {
        let [n, _] = x.dims();
        x.reshape([n, self.kv, self.dim]).swap_dims(0, 1)
    }

    /// The inverse of [`Heads::split_keys`].
    fn join_keys(self, x: Tensor<3>) -> Tensor<2> {
        let [_, n, _] = x.dims();
        x.swap_dims(0, 1).reshape([n, self.kv * self.dim])
    }
}

/// Masks for `segments`; keys `window` or more positions back are hidden where the model has a window.
pub(crate) fn mask_segments(
    segments: &[Segment],
    heads: Heads,
    window: Option<usize>,
    device: &Device,
) -> Vec<MaskedSegment> {
    let mask = |segment: &Segment| {
        let (prefix, own) = (segment.prefix.len(), segment.own.len());
        let keys = prefix + own;
        let hidden: Vec<bool> = (0..heads.group * own)
            .flat_map(|row| {
                let position = prefix + row % own;
                (0..keys).map(move |key| {
                    key > position || window.is_some_and(|window| key + window <= position)
                })
            })
            .collect();
        let shape = [1, heads.group * own, keys];
        MaskedSegment {
            prefix: segment.prefix.clone(),
            own: segment.own.clone(),
            hidden: Tensor::from_data(TensorData::new(hidden, shape), device),
        }
    };
    segments.iter().map(mask).collect()
}

fn rows(x: &Tensor<2>, range: &Range<usize>) -> Tensor<2> {
    let [_, width] = x.dims();
    x.clone().slice([range.clone(), 0..width])
}

/// The rows of the prefix, if there is one, followed by the segment's own.
fn visible(x: &Tensor<2>, segment: &MaskedSegment) -> Tensor<2> {
    if segment.prefix.is_empty() {
        rows(x, &segment.own)
    } else {
        Tensor::cat(vec![rows(x, &segment.prefix), rows(x, &segment.own)], 0)
    }
}

/// softmax(q kᵀ / √dim) v of every segment: q `[rows, kv × group × dim]`, k and v `[rows, kv × dim]` →
/// (`[rows, kv × group × dim]`, attention weights if `keep`).
pub(crate) fn forward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    segments: &[MaskedSegment],
    heads: Heads,
    keep: bool,
) -> (Tensor<2>, Weights) {
    let mut outputs = Vec::with_capacity(segments.len());
    let mut kept = Vec::new();
    for segment in segments {
        let queries = heads.split_queries(rows(q, &segment.own)) * heads.scale();
        let keys = heads.split_keys(visible(k, segment));
        let values = heads.split_keys(visible(v, segment));
        let scores = queries.matmul(keys.transpose());
        let hidden = segment.hidden.clone().expand(scores.dims());
        let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 2);
        outputs.push(heads.join_queries(weights.clone().matmul(values)));
        if keep {
            kept.push(weights);
        }
    }
    (Tensor::cat(outputs, 0), kept)
}

/// Gradients at q, k and v, from `d_out` at the output. With P the weights of a segment:
/// ∂v = Pᵀ ∂o, ∂P = ∂o vᵀ, ∂S = P ⊙ (∂P − rowsum(∂P ⊙ P)), ∂q = ∂S k / √dim, ∂k = ∂Sᵀ q / √dim.
pub(crate) fn backward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    weights: &Weights,
    d_out: &Tensor<2>,
    segments: &[MaskedSegment],
    heads: Heads,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let mut d_queries = Vec::with_capacity(segments.len());
    // Segments follow each other without a gap, a prompt before its responses: each collects its own
    // gradient first, and responses add to that of their prompt.
    let mut d_keys: Vec<Tensor<2>> = Vec::with_capacity(segments.len());
    let mut d_values: Vec<Tensor<2>> = Vec::with_capacity(segments.len());
    for (segment, weights) in segments.iter().zip(weights) {
        let queries = heads.split_queries(rows(q, &segment.own));
        let keys = heads.split_keys(visible(k, segment));
        let values = heads.split_keys(visible(v, segment));
        let d_output = heads.split_queries(rows(d_out, &segment.own));

        let d_value = weights.clone().transpose().matmul(d_output.clone());
        let d_weights = d_output.matmul(values.transpose());
        let along = (d_weights.clone() * weights.clone()).sum_dim(2);
        let d_scores = weights.clone() * (d_weights - along) * heads.scale();
        d_queries.push(heads.join_queries(d_scores.clone().matmul(keys)));
        let d_key = d_scores.transpose().matmul(queries);

        let prefix = segment.prefix.len();
        for (d, all) in [(d_key, &mut d_keys), (d_value, &mut d_values)] {
            let d = heads.join_keys(d);
            let [seen, _] = d.dims();
            all.push(rows(&d, &(prefix..seen)));
            if prefix > 0 {
                let prompt = segments
                    .iter()
                    .position(|s| s.own == segment.prefix)
                    .expect("the prefix of a segment is a segment in front of it");
                all[prompt] = all[prompt].clone() + rows(&d, &(0..prefix));
            }
        }
    }
    (
        Tensor::cat(d_queries, 0),
        Tensor::cat(d_keys, 0),
        Tensor::cat(d_values, 0),
    )
}

/// One query per row against that row's cache: q `[rows, kv × group × dim]`, k and v
/// `[rows, kv, keys, dim]`, hidden `[rows, 1, 1, keys]` → `[rows, kv × group × dim]`.
pub(crate) fn decode(
    q: Tensor<2>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Tensor<4, Bool>,
    heads: Heads,
) -> Tensor<2> {
    let [rows, width] = q.dims();
    let queries = q.reshape([rows, heads.kv, heads.group, heads.dim]) * heads.scale();
    let scores = queries.matmul(k.transpose());
    let hidden = hidden.expand(scores.dims());
    let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    weights.matmul(v).reshape([rows, width])
}
