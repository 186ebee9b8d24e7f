//! One decoder layer: attention and SwiGLU, each behind an RMSNorm and a residual; forward and gradient.

use burn_tensor::Tensor;
use panacea_kernels::{
    Heads, Rotation, Visibility, attention, attention_backward, rms_norm, rms_norm_backward,
    swiglu, swiglu_backward,
};
use panacea_svd_lora::FactorSet;

use crate::linear::{Linear, Mode};
use crate::steering::RowSteering;

/// A frozen RMSNorm over the last axis.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    /// `[1, width]`
    pub weight: Tensor<2>,
    pub epsilon: f64,
}

impl RmsNorm {
    /// `[rows, width]` → the same shape.
    pub fn forward(&self, x: &Tensor<2>) -> Tensor<2> {
        rms_norm(x, &self.weight, self.epsilon)
    }

    /// The gradient at `x`, from `dy` at the output, added to `onto` if there is one.
    pub fn backward(&self, x: &Tensor<2>, dy: Tensor<2>, onto: Option<Tensor<2>>) -> Tensor<2> {
        rms_norm_backward(x, &self.weight, self.epsilon, dy, onto)
    }

    /// [`RmsNorm::forward`] over every head: `[rows, heads × width]` → the same shape.
    fn forward_heads(&self, x: &Tensor<2>) -> Tensor<2> {
        self.forward(&self.heads(x)).reshape(x.dims())
    }

    /// [`RmsNorm::backward`] over every head.
    fn backward_heads(&self, x: &Tensor<2>, dy: Tensor<2>) -> Tensor<2> {
        let dx = self.backward(&self.heads(x), self.heads(&dy), None);
        dx.reshape(x.dims())
    }

    fn heads(&self, x: &Tensor<2>) -> Tensor<2> {
        let [rows, all] = x.dims();
        let [_, width] = self.weight.dims();
        x.clone().reshape([rows * all / width, width])
    }
}

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
    pub visibility: Visibility,
    pub rotation: Rotation,
    pub mode: Mode<'a>,
}

/// What backward needs of a forward pass; norms and products that cost little are computed again.
#[derive(Debug)]
pub(crate) struct Saved {
    x: Tensor<2>,
    qkv: QueryKeyValue,
    attended: Tensor<2>,
    log_sum: Tensor<2>,
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

    /// The same, to be changed.
    pub fn projections_mut(&mut self) -> [&mut Linear; 7] {
        [
            &mut self.q,
            &mut self.k,
            &mut self.v,
            &mut self.o,
            &mut self.gate,
            &mut self.up,
            &mut self.down,
        ]
    }

    /// Numbers that [`Saved`] holds of each row.
    pub fn kept_per_row(&self) -> usize {
        let [queries, hidden] = self.q.shape();
        let [keys, _] = self.k.shape();
        let [middle, _] = self.gate.shape();
        let before_norm = if self.qk_norm.is_some() {
            queries + keys
        } else {
            0
        };
        2 * hidden + 2 * queries + 2 * keys + self.heads.queries() + 2 * middle + before_norm
    }

    /// `[rows, hidden]` → the same shape, and what [`Layer::backward`] needs if `keep`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &Context<'_>,
        keep: bool,
    ) -> (Tensor<2>, Option<Saved>) {
        let mode = &context.mode;
        let qkv = self.query_key_value(&x, &context.rotation, mode);
        let (attended, log_sum) = attention(&qkv.q, &qkv.k, &qkv.v, &context.visibility);
        let middle = self.o.forward_onto(x.clone(), &attended, mode);
        let (gate, up) = self.gate_up(&middle, mode);
        let y = (self.down).forward_onto(middle.clone(), &swiglu(&gate, &up), mode);
        let saved = keep.then_some(Saved {
            x,
            qkv,
            attended,
            log_sum,
            middle,
            gate,
            up,
        });
        (y, saved)
    }

    /// The part of the layer after attention, for generation: computes its output from its input `x` and `attended`.
    pub fn attend_cached(&self, x: Tensor<2>, mode: &Mode<'_>, attended: Tensor<2>) -> Tensor<2> {
        let middle = self.o.forward_onto(x, &attended, mode);
        let (gate, up) = self.gate_up(&middle, mode);
        (self.down).forward_onto(middle, &swiglu(&gate, &up), mode)
    }

    /// Queries, keys and values of `x` `[rows, hidden]`, ready for attention.
    pub fn query_key_value(
        &self,
        x: &Tensor<2>,
        rotation: &Rotation,
        mode: &Mode<'_>,
    ) -> QueryKeyValue {
        let normed = self.attention_norm.forward(x);
        let [mut q, mut k, v] = Linear::forward_each([&self.q, &self.k, &self.v], &normed, mode);
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

    fn gate_up(&self, middle: &Tensor<2>, mode: &Mode<'_>) -> (Tensor<2>, Tensor<2>) {
        let normed = self.mlp_norm.forward(middle);
        let [gate, up] = Linear::forward_each([&self.gate, &self.up], &normed, mode);
        (gate, up)
    }

    /// The gradient at the layer's input, from `dy` at its output; adapters' gradients are added.
    pub fn backward(
        &self,
        saved: Saved,
        dy: Tensor<2>,
        context: &Context<'_>,
        steering: &RowSteering<'_>,
        gradients: &mut FactorSet,
    ) -> Tensor<2> {
        let Saved {
            x,
            qkv,
            attended,
            log_sum,
            middle,
            gate,
            up,
        } = saved;

        let product = swiglu(&gate, &up);
        let d_product = (self.down).backward(&product, &dy, None, steering, gradients);
        drop(product);
        let (d_gate, d_up) = swiglu_backward(gate, up, d_product);
        let normed = self.mlp_norm.forward(&middle);
        let d_normed = (self.gate).backward(&normed, &d_gate, None, steering, gradients);
        let d_normed = (self.up).backward(&normed, &d_up, Some(d_normed), steering, gradients);
        let d_middle = self.mlp_norm.backward(&middle, d_normed, Some(dy));

        let d_attended = (self.o).backward(&attended, &d_middle, None, steering, gradients);
        let QueryKeyValue {
            q,
            k,
            v,
            before_norm,
        } = qkv;
        let (d_q, d_k, d_v) = attention_backward(
            &q,
            &k,
            &v,
            &attended,
            &log_sum,
            &d_attended,
            &context.visibility,
        );
        let mut d_q = context.rotation.apply_backward(d_q);
        let mut d_k = context.rotation.apply_backward(d_k);
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&self.qk_norm, &before_norm) {
            d_q = q_norm.backward_heads(q, d_q);
            d_k = k_norm.backward_heads(k, d_k);
        }
        let normed = self.attention_norm.forward(&x);
        let d_normed = (self.q).backward(&normed, &d_q, None, steering, gradients);
        let d_normed = (self.k).backward(&normed, &d_k, Some(d_normed), steering, gradients);
        let d_normed = (self.v).backward(&normed, &d_v, Some(d_normed), steering, gradients);
        (self.attention_norm).backward(&x, d_normed, Some(d_middle))
    }
}
