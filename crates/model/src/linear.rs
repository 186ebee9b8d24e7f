//! A frozen linear layer with an optional SVD-LoRA side path.

use burn::tensor::Tensor;
use panacea_svd_lora::{Adapters, FactorSet};

/// The adapters that are switched on, and the λ of every row of the batch.
#[derive(Debug, Clone)]
pub(crate) struct Steering<'a> {
    pub adapters: &'a Adapters,
    /// `[rows, m]`
    pub preferences: Tensor<2>,
}

/// y = x Wᵀ + b, plus the side path of the adapter that bears its name.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// `layers.0.q_proj`
    pub name: String,
    /// `[d_out, d_in]`
    pub weight: Tensor<2>,
    /// `[1, d_out]`
    pub bias: Option<Tensor<2>>,
}

impl Linear {
    /// `[d_out, d_in]`
    pub fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    /// `[rows, d_in]` → `[rows, d_out]`.
    pub fn forward(&self, x: &Tensor<2>, steering: Option<&Steering<'_>>) -> Tensor<2> {
        let mut y = x.clone().matmul(self.weight.clone().transpose());
        if let Some(bias) = &self.bias {
            y = y + bias.clone();
        }
        match steering.and_then(|s| Some((s.adapters.get(&self.name)?, s))) {
            Some((adapter, steering)) => y + adapter.side_path(x, &steering.preferences),
            None => y,
        }
    }

    /// The gradient at `x`, from `dy` at the output; the adapter's gradients are added to `gradients`.
    pub fn backward(
        &self,
        x: &Tensor<2>,
        dy: Tensor<2>,
        steering: &Steering<'_>,
        gradients: &mut FactorSet,
    ) -> Tensor<2> {
        let dx = dy.clone().matmul(self.weight.clone());
        let Some(adapter) = steering.adapters.get(&self.name) else {
            return dx;
        };
        let (side, factors) = adapter.backward(x, &steering.preferences, &dy);
        gradients.accumulate(&self.name, factors);
        dx + side
    }
}
