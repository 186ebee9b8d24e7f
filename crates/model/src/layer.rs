//! One decoder layer: attention and SwiGLU, each behind an RMSNorm and a residual; forward and gradient.

use burn::tensor::{Tensor, activation::sigmoid};
use panacea_svd_lora::FactorSet;

use crate::attention::{self, Heads, MaskedSegment, Weights};
use crate::linear::{Linear, Steering};
use crate::norm::RmsNorm;
use crate::rope::Rotation;

/// The weights of a layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub heads: Heads,
    pub attention_norm: RmsNorm,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Qwen3's norms of every query and key head.
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
    pub mlp_norm: RmsNorm,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// What all layers of a pass share.
pub(crate) struct Context<'a> {
    pub segments: Vec<MaskedSegment>,
    pub rotation: Rotation,
    pub steering: Option<Steering<'a>>,
}

/// What backward needs of a forward pass; norms and products that cost little are computed again.
#[derive(Debug)]
pub(crate) struct Saved {
    x: Tensor<2>,
    attention: QueryKeyValue,
    weights: Weights,
    attended: Tensor<2>,
    middle: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
}

/// Queries and keys after norm and rotation, values; and, where heads are normed, what was normed.
#[derive(Debug)]
pub(crate) struct QueryKeyValue {
    /// `[rows, kv × group × dim]`
    pub q: Tensor<2>,
    /// `[rows, kv × dim]`
    pub k: Tensor<2>,
    /// `[rows, kv × dim]`
    pub v: Tensor<2>,
    before_norm: Option<(Tensor<2>, Tensor<2>)>,
}

impl Layer {
    /// The projections, in the order in which they are named everywhere.
    pub fn projections(&self) -> [&Linear; 7] {
        [
            &self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down,
        ]
    }

    /// `[rows, hidden]` → the same shape, and what [`Layer::backward`] needs if `keep`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &Context<'_>,
        keep: bool,
    ) -> (Tensor<2>, Option<Saved>) {
        let steering = context.steering.as_ref();
        let attention = self.query_key_value(&x, &context.rotation, steering);
        let QueryKeyValue { q, k, v, .. } = &attention;
        let (attended, weights) = attention::forward(q, k, v, &context.segments, self.heads, keep);
        let middle = x.clone() + self.o.forward(&attended, steering);
        let (gate, up) = self.gate_up(&middle, steering);
        let y = middle.clone() + self.down.forward(&swiglu(&gate, &up), steering);
        let saved = keep.then_some(Saved {
            x,
            attention,
            weights,
            attended,
            middle,
            gate,
            up,
        });
        (y, saved)
    }

    /// One new token per row, against caches that already hold its key and value (see [`attention::decode`]).
    pub fn attend_cached(
        &self,
        x: Tensor<2>,
        steering: Option<&Steering<'_>>,
        attended: Tensor<2>,
    ) -> Tensor<2> {
        let middle = x + self.o.forward(&attended, steering);
        let (gate, up) = self.gate_up(&middle, steering);
        middle + self.down.forward(&swiglu(&gate, &up), steering)
    }

    /// Queries, keys and values of `x` `[rows, hidden]`, ready for attention.
    pub fn query_key_value(
        &self,
        x: &Tensor<2>,
        rotation: &Rotation,
        steering: Option<&Steering<'_>>,
    ) -> QueryKeyValue {
        let normed = self.attention_norm.forward(x);
        let mut q = self.q.forward(&normed, steering);
        let mut k = self.k.forward(&normed, steering);
        let v = self.v.forward(&normed, steering);
        let mut before_norm = None;
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            before_norm = Some((q.clone(), k.clone()));
            q = q_norm.forward_heads(&q);
            k = k_norm.forward_heads(&k);
        }
        QueryKeyValue {
            q: rotation.apply(q),
            k: rotation.apply(k),
            v,
            before_norm,
        }
    }

    fn gate_up(
        &self,
        middle: &Tensor<2>,
        steering: Option<&Steering<'_>>,
    ) -> (Tensor<2>, Tensor<2>) {
        let normed = self.mlp_norm.forward(middle);
        (
            self.gate.forward(&normed, steering),
            self.up.forward(&normed, steering),
        )
    }

    /// The gradient at the layer's input, from `dy` at its output; adapters' gradients are added.
    pub fn backward(
        &self,
        saved: Saved,
        dy: Tensor<2>,
        context: &Context<'_>,
        steering: &Steering<'_>,
        gradients: &mut FactorSet,
    ) -> Tensor<2> {
        let Saved {
            x,
            attention,
            weights,
            attended,
            middle,
            gate,
            up,
        } = saved;

        let product = swiglu(&gate, &up);
        let d_product = self
            .down
            .backward(&product, dy.clone(), steering, gradients);
        let (d_gate, d_up) = swiglu_backward(gate, up, d_product);
        let normed = self.mlp_norm.forward(&middle);
        let d_normed = self.gate.backward(&normed, d_gate, steering, gradients)
            + self.up.backward(&normed, d_up, steering, gradients);
        let d_middle = dy + self.mlp_norm.backward(&middle, d_normed);

        let d_attended = self
            .o
            .backward(&attended, d_middle.clone(), steering, gradients);
        let QueryKeyValue {
            q,
            k,
            v,
            before_norm,
        } = attention;
        let (d_q, d_k, d_v) = attention::backward(
            &q,
            &k,
            &v,
            &weights,
            &d_attended,
            &context.segments,
            self.heads,
        );
        let mut d_q = context.rotation.apply_backward(d_q);
        let mut d_k = context.rotation.apply_backward(d_k);
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&self.qk_norm, &before_norm) {
            d_q = q_norm.backward_heads(q, d_q);
            d_k = k_norm.backward_heads(k, d_k);
        }
        let normed = self.attention_norm.forward(&x);
        let d_normed = self.q.backward(&normed, d_q, steering, gradients)
            + self.k.backward(&normed, d_k, steering, gradients)
            + self.v.backward(&normed, d_v, steering, gradients);
        d_middle + self.attention_norm.backward(&x, d_normed)
    }
}

/// silu(gate) ⊙ up
fn swiglu(gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
    gate.clone() * sigmoid(gate.clone()) * up.clone()
}

/// Gradients at gate and up: with σ = sigmoid(gate), ∂up = d ⊙ gate σ, ∂gate = d ⊙ up ⊙ σ (1 + gate (1 − σ)).
fn swiglu_backward(gate: Tensor<2>, up: Tensor<2>, d: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let sigma = sigmoid(gate.clone());
    let silu = gate * sigma.clone();
    let slope = sigma.clone() + silu.clone() - silu.clone() * sigma;
    (d.clone() * up * slope, d * silu)
}
