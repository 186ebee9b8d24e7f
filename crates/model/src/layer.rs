//! One decoder layer: attention and a gated MLP, each behind an RMSNorm and a residual; forward and gradient.

use burn_tensor::Tensor;
use panacea_kernels::{
    Gate, Heads, Rotation, Visibility, attention, attention_backward, gated, gated_backward,
    rms_norm, rms_norm_backward,
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
#[derive(Debug)]
pub(crate) struct Layer {
    pub heads: Heads,
    /// Which of the model's kinds of attention it has: the index into [`Context::sights`].
    pub sight: usize,
    pub attention_norm: RmsNorm,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Qwen3's and Gemma's norms of every query and key head; where a model divides by another root than √head_dim, the
    /// queries' makes up for it.
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
    /// Gemma's norms of what attention and the MLP put out.
    pub output_norms: Option<(RmsNorm, RmsNorm)>,
    pub mlp_norm: RmsNorm,
    pub gate_kind: Gate,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// What all layers of a pass share.
pub(crate) struct Context<'a> {
    /// One for each kind of attention.
    pub sights: Vec<Sight>,
    pub mode: Mode<'a>,
}

/// Who sees whom, and where each row stands, in layers of one kind.
pub(crate) struct Sight {
    pub visibility: Visibility,
    pub rotation: Rotation,
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
    /// What attention and the MLP put out, where it is normed.
    before_output_norms: Option<(Tensor<2>, Tensor<2>)>,
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

/// x + linear(input), or x + norm(linear(input)) and what was normed.
fn add_output(
    linear: &Linear,
    norm: Option<&RmsNorm>,
    x: Tensor<2>,
    input: &Tensor<2>,
    mode: &Mode<'_>,
) -> (Tensor<2>, Option<Tensor<2>>) {
    match norm {
        None => (linear.forward_onto(x, input, mode), None),
        Some(norm) => {
            let [output] = Linear::forward_each([linear], input, mode);
            (x + norm.forward(&output), Some(output))
        }
    }
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
        let before_output_norms = match self.output_norms {
            Some(_) => 2 * hidden,
            None => 0,
        };
        before_output_norms
            + 2 * hidden
            + 2 * queries
            + 2 * keys
            + self.heads.queries()
            + 2 * middle
            + before_norm
    }

    /// `[rows, hidden]` → the same shape, and what [`Layer::backward`] needs if `keep`.
    pub fn forward(
        &self,
        x: Tensor<2>,
        context: &Context<'_>,
        keep: bool,
    ) -> (Tensor<2>, Option<Saved>) {
        let (mode, sight) = (&context.mode, &context.sights[self.sight]);
        let qkv = self.query_key_value(&x, &sight.rotation, mode);
        let (attended, log_sum) = attention(&qkv.q, &qkv.k, &qkv.v, &sight.visibility);
        let (middle, attention_output) = self.add_attention(x.clone(), &attended, mode);
        let (gate, up) = self.gate_up(&middle, mode);
        let product = gated(self.gate_kind, &gate, &up);
        let (y, mlp_output) = self.add_mlp(middle.clone(), &product, mode);
        let saved = keep.then_some(Saved {
            x,
            qkv,
            attended,
            log_sum,
            middle,
            gate,
            up,
            before_output_norms: attention_output.zip(mlp_output),
        });
        (y, saved)
    }

    /// The part of the layer after attention, for generation: computes its output from its input `x` and `attended`.
    pub fn attend_cached(&self, x: Tensor<2>, mode: &Mode<'_>, attended: Tensor<2>) -> Tensor<2> {
        let (middle, _) = self.add_attention(x, &attended, mode);
        let (gate, up) = self.gate_up(&middle, mode);
        self.add_mlp(middle, &gated(self.gate_kind, &gate, &up), mode)
            .0
    }

    /// x + o(attended), and what was normed before it was added, where it is normed.
    fn add_attention(
        &self,
        x: Tensor<2>,
        attended: &Tensor<2>,
        mode: &Mode<'_>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let norm = self.output_norms.as_ref().map(|(norm, _)| norm);
        add_output(&self.o, norm, x, attended, mode)
    }

    /// middle + down(product), and what was normed before it was added, where it is normed.
    fn add_mlp(
        &self,
        middle: Tensor<2>,
        product: &Tensor<2>,
        mode: &Mode<'_>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let norm = self.output_norms.as_ref().map(|(_, norm)| norm);
        add_output(&self.down, norm, middle, product, mode)
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
        let [q, k] = rotation.apply_each([q, k]);
        QueryKeyValue {
            q,
            k,
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
            before_output_norms,
        } = saved;
        let sight = &context.sights[self.sight];
        let (attention_output, mlp_output) = before_output_norms.unzip();
        let norms = self.output_norms.as_ref();
        let (attention_norm, mlp_norm) = norms.map(|(a, m)| (a, m)).unzip();
        // The gradient at what attention or the MLP put out, from that behind its norm.
        let before =
            |norm: Option<&RmsNorm>, output: Option<Tensor<2>>, d: &Tensor<2>| match (norm, output)
            {
                (Some(norm), Some(output)) => norm.backward(&output, d.clone(), None),
                _ => d.clone(),
            };

        let product = gated(self.gate_kind, &gate, &up);
        let d_output = before(mlp_norm, mlp_output, &dy);
        let d_product = (self.down).backward(&product, &d_output, None, steering, gradients);
        drop(d_output);
        drop(product);
        let (d_gate, d_up) = gated_backward(self.gate_kind, gate, up, d_product);
        let normed = self.mlp_norm.forward(&middle);
        let d_normed = (self.gate).backward(&normed, &d_gate, None, steering, gradients);
        let d_normed = (self.up).backward(&normed, &d_up, Some(d_normed), steering, gradients);
        let d_middle = self.mlp_norm.backward(&middle, d_normed, Some(dy));

        let d_output = before(attention_norm, attention_output, &d_middle);
        let d_attended = (self.o).backward(&attended, &d_output, None, steering, gradients);
        drop(d_output);
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
            &sight.visibility,
        );
        let [mut d_q, mut d_k] = sight.rotation.apply_backward_each([d_q, d_k]);
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
