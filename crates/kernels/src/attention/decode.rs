//! One new query per row against that row's cache.

use burn::tensor::{Bool, Tensor, activation::softmax};

use super::Heads;

/// q `[rows, kv × group × dim]`, keys and values `[rows, kv, columns, dim]`, hidden `[rows, 1, 1, columns]`
/// (`true` = not seen) → `[rows, kv × group × dim]`.
pub fn attention_decode(
    q: Tensor<2>,
    keys: Tensor<4>,
    values: Tensor<4>,
    hidden: Tensor<4, Bool>,
    heads: Heads,
) -> Tensor<2> {
    let [rows, width] = q.dims();
    let queries = q.reshape([rows, heads.kv, heads.group, heads.dim]) * heads.scale();
    let scores = queries.matmul(keys.transpose());
    let hidden = hidden.expand(scores.dims());
    let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    weights.matmul(values).reshape([rows, width])
}
