//! RMSNorm, y = x / √(mean(x²) + ε) ⊙ w, and its gradient.

use burn::tensor::Tensor;

/// A frozen RMSNorm over the last axis.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    /// `[1, width]`
    pub weight: Tensor<2>,
    pub epsilon: f64,
}

impl RmsNorm {
    /// 1 / √(mean(x²) + ε) of every row: `[rows, width]` → `[rows, 1]`.
    fn inverse_rms(&self, x: &Tensor<2>) -> Tensor<2> {
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        (mean_square + self.epsilon).sqrt().recip()
    }

    /// `[rows, width]` → the same shape.
    pub fn forward(&self, x: &Tensor<2>) -> Tensor<2> {
        x.clone() * self.inverse_rms(x) * self.weight.clone()
    }

    /// The gradient at `x`, from `dy` at the output. With x̂ = x / rms and g = dy ⊙ w:
    /// dx = (g − x̂ · mean(g ⊙ x̂)) / rms.
    pub fn backward(&self, x: &Tensor<2>, dy: Tensor<2>) -> Tensor<2> {
        let inverse = self.inverse_rms(x);
        let normed = x.clone() * inverse.clone();
        let g = dy * self.weight.clone();
        let along = (g.clone() * normed.clone()).mean_dim(1);
        (g - normed * along) * inverse
    }

    /// [`RmsNorm::forward`] over every head: `[rows, heads × width]` → the same shape.
    pub fn forward_heads(&self, x: &Tensor<2>) -> Tensor<2> {
        let (shape, per_head) = self.heads(x);
        self.forward(&per_head).reshape(shape)
    }

    /// [`RmsNorm::backward`] over every head.
    pub fn backward_heads(&self, x: &Tensor<2>, dy: Tensor<2>) -> Tensor<2> {
        let (shape, per_head) = self.heads(x);
        let (_, dy) = self.heads(&dy);
        self.backward(&per_head, dy).reshape(shape)
    }

    fn heads(&self, x: &Tensor<2>) -> ([usize; 2], Tensor<2>) {
        let [rows, all] = x.dims();
        let [_, width] = self.weight.dims();
        ([rows, all], x.clone().reshape([rows * all / width, width]))
    }
}
