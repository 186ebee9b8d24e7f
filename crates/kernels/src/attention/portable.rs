//! Attention composed of tensor operations. Query heads that share a key head are folded into the rows of
//! one matrix product per key head.

use std::ops::Range;

use burn_tensor::Tensor;

use super::{Heads, Segment, Visibility};

impl Heads {
    /// `[n, kv × group × width]` → `[kv, group × n, width]`
    fn split_queries(self, x: Tensor<2>) -> Tensor<3> {
        let [n, all] = x.dims();
        let width = all / self.queries();
        x.reshape([n, self.kv, self.group, width])
            .permute([1, 2, 0, 3])
            .reshape([self.kv, self.group * n, width])
    }

    /// The inverse of [`Heads::split_queries`].
    fn join_queries(self, x: Tensor<3>) -> Tensor<2> {
        let [_, all, width] = x.dims();
        let n = all / self.group;
        x.reshape([self.kv, self.group, n, width])
            .permute([2, 0, 1, 3])
            .reshape([n, self.queries() * width])
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

fn rows(x: &Tensor<2>, range: &Range<usize>) -> Tensor<2> {
    let [_, width] = x.dims();
    x.clone().slice([range.clone(), 0..width])
}

/// The rows of the prefix, if there is one, followed by the segment's own.
fn visible(x: &Tensor<2>, segment: &Segment) -> Tensor<2> {
    if segment.prefix.is_empty() {
        rows(x, &segment.own)
    } else {
        Tensor::cat(vec![rows(x, &segment.prefix), rows(x, &segment.own)], 0)
    }
}

/// q kᵀ / √dim of segment `i`, −∞ where hidden: `[kv, group × own, keys]`.
fn scores(q: &Tensor<2>, k: &Tensor<2>, visibility: &Visibility, i: usize) -> Tensor<3> {
    let (heads, segment) = (visibility.heads, &visibility.segments[i]);
    let queries = heads.split_queries(rows(q, &segment.own)) * heads.scale();
    let scores = queries.matmul(heads.split_keys(visible(k, segment)).transpose());
    let hidden = visibility.hidden[i].clone().expand(scores.dims());
    scores.mask_fill(hidden, f32::NEG_INFINITY)
}

pub(super) fn forward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    visibility: &Visibility,
) -> (Tensor<2>, Tensor<2>) {
    let heads = visibility.heads;
    let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
    for (i, segment) in visibility.segments.iter().enumerate() {
        let scores = scores(q, k, visibility, i);
        let max = scores.clone().max_dim(2);
        let exp = (scores - max.clone()).exp();
        let sum = exp.clone().sum_dim(2);
        let values = heads.split_keys(visible(v, segment));
        outputs.push(heads.join_queries(exp.matmul(values) / sum.clone()));
        log_sums.push(heads.join_queries(max + sum.log()));
    }
    (Tensor::cat(outputs, 0), Tensor::cat(log_sums, 0))
}

pub(super) fn backward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    out: &Tensor<2>,
    log_sum: &Tensor<2>,
    d_out: &Tensor<2>,
    visibility: &Visibility,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let heads = visibility.heads;
    let mut d_queries = Vec::new();
    // Segments follow each other without a gap, a prompt before its responses: each collects its own
    // gradient first, and responses add to that of their prompt.
    let (mut d_keys, mut d_values): (Vec<Tensor<2>>, Vec<Tensor<2>>) = (Vec::new(), Vec::new());
    let mut prompt = 0;
    for (i, segment) in visibility.segments.iter().enumerate() {
        let own = |x: &Tensor<2>| heads.split_queries(rows(x, &segment.own));
        let weights = (scores(q, k, visibility, i) - own(log_sum)).exp();
        let keys = heads.split_keys(visible(k, segment));
        let values = heads.split_keys(visible(v, segment));
        let d_output = own(d_out);

        let d_value = weights.clone().transpose().matmul(d_output.clone());
        let along = (d_output.clone() * own(out)).sum_dim(2);
        let d_weights = d_output.matmul(values.transpose());
        let d_scores = weights * (d_weights - along) * heads.scale();
        d_queries.push(heads.join_queries(d_scores.clone().matmul(keys)));
        let d_key = d_scores.transpose().matmul(own(q));

        let prefix = segment.prefix.len();
        if prefix == 0 {
            prompt = i;
        }
        for (d, all) in [(d_key, &mut d_keys), (d_value, &mut d_values)] {
            let d = heads.join_keys(d);
            let [seen, _] = d.dims();
            all.push(rows(&d, &(prefix..seen)));
            if prefix > 0 {
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
