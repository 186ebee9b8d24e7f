//! A frozen linear layer with an optional SVD-LoRA side path.

use burn::tensor::Tensor;
use panacea_kernels::{matmul, matmul_add, matmul_each};
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

    /// `[rows, d_in]` → `[rows, d_out]` of each layer.
    pub fn forward_each<const N: usize>(
        layers: [&Self; N],
        x: &Tensor<2>,
        steering: Option<&Steering<'_>>,
    ) -> [Tensor<2>; N] {
        let weights = layers.map(|layer| layer.weight.clone().transpose());
        let mut layers = layers.into_iter();
        matmul_each(x, weights.each_ref()).map(|y| {
            let layer = layers.next().expect("there are as many layers as products");
            layer.add_bias_and_side_path(y, x, steering)
        })
    }

    /// onto `[rows, d_out]` + what the layer makes of `x` `[rows, d_in]`.
    pub fn forward_onto(
        &self,
        onto: Tensor<2>,
        x: &Tensor<2>,
        steering: Option<&Steering<'_>>,
    ) -> Tensor<2> {
        let y = matmul_add(onto, x, &self.weight.clone().transpose());
        self.add_bias_and_side_path(y, x, steering)
    }

    fn add_bias_and_side_path(
        &self,
        mut y: Tensor<2>,
        x: &Tensor<2>,
        steering: Option<&Steering<'_>>,
    ) -> Tensor<2> {
        if let Some(bias) = &self.bias {
            y = y + bias.clone();
        }
        match steering.and_then(|s| Some((s.adapters.get(&self.name)?, s))) {
            Some((adapter, steering)) => adapter.add_side_path(y, x, &steering.preferences),
            None => y,
        }
    }

    /// The gradient at `x`, from `dy` at the output, added to `onto` if there is one; the adapter's
    /// gradients are added to `gradients`.
    pub fn backward(
        &self,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        onto: Option<Tensor<2>>,
        steering: &Steering<'_>,
        gradients: &mut FactorSet,
    ) -> Tensor<2> {
        let dx = match onto {
            Some(onto) => matmul_add(onto, dy, &self.weight),
            None => matmul(dy, &self.weight),
        };
        let Some(adapter) = steering.adapters.get(&self.name) else {
            return dx;
        };
        let (dx, factors) = adapter.backward(x, &steering.preferences, dy, dx);
        gradients.accumulate(&self.name, factors);
        dx
    }
}
