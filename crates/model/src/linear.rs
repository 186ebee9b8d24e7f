//! A frozen linear layer with an optional SVD-LoRA side path.

use burn_tensor::Tensor;
use panacea_kernels::{Weight, is_thin, linear_add, linear_backward, linear_each, matmul};
use panacea_svd_lora::{FactorSet, SvdLora};

use crate::matrix::Matrix;
use crate::steering::RowSteering;

/// How a pass computes.
#[derive(Debug, Clone)]
pub(crate) struct Mode<'a> {
    /// Who steers it; `None` for the base model.
    pub steering: Option<RowSteering<'a>>,
    /// Whether weights of few bits may be multiplied as integers, with activations rounded to 8 or 16 bits. Only decoding does
    /// that, so that nothing else depends on how they are packed.
    pub rounds: bool,
}

impl Mode<'_> {
    fn adapter(&self, layer: &Linear) -> Option<SvdLora<'_>> {
        self.steering.as_ref()?.adapters.get(&layer.name)
    }
}

/// y = x Wᵀ + b, plus the side path of the adapter with the same name.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `layers.0.q_proj`
    pub name: String,
    /// `[d_out, d_in]`
    pub weight: Matrix,
    /// `[1, d_out]`
    pub bias: Option<Tensor<2>>,
}

impl Linear {
    /// `[d_out, d_in]`
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// `[rows, d_in]` → `[rows, d_out]` of each layer. The first products of the side paths are computed along with
    /// those of the weights.
    pub fn forward_each<const N: usize>(
        layers: [&Self; N],
        x: &Tensor<2>,
        mode: &Mode<'_>,
    ) -> [Tensor<2>; N] {
        let adapters = layers.map(|layer| mode.adapter(layer));
        let v_transposed = adapters.map(|adapter| adapter.map(|a| a.factors.v.clone().transpose()));
        let of_layers = layers.iter().map(|layer| layer.weight.weight(mode.rounds));
        let of_adapters = v_transposed.iter().flatten().map(Weight::Dense);
        let weights: Vec<Weight<'_>> = of_layers.chain(of_adapters).collect();
        let mut products = linear_each(x, &weights);
        let mut projections = products.split_off(N).into_iter();
        let mut products = products.into_iter().zip(layers).zip(adapters);
        std::array::from_fn(|_| {
            let ((y, layer), adapter) = products.next().expect("there is one for each layer");
            let projected = adapter.and_then(|_| projections.next());
            layer.finish(y, projected, mode)
        })
    }

    /// onto `[rows, d_out]` + what the layer makes of `x` `[rows, d_in]`.
    pub fn forward_onto(&self, onto: Tensor<2>, x: &Tensor<2>, mode: &Mode<'_>) -> Tensor<2> {
        if is_thin(x) {
            let [y] = Self::forward_each([self], x, mode);
            return onto + y;
        }
        let y = linear_add(onto, x, self.weight.weight(mode.rounds));
        let adapter = mode.adapter(self);
        self.finish(y, adapter.map(|a| matmul(x, &a.factors.v)), mode)
    }

    /// Adds the bias, and the side path from `projected` x V `[rows, k+m]`, where there are such.
    fn finish(&self, mut y: Tensor<2>, projected: Option<Tensor<2>>, mode: &Mode<'_>) -> Tensor<2> {
        if let Some(bias) = &self.bias {
            y = y + bias.clone();
        }
        let adapter = mode.adapter(self).zip(mode.steering.as_ref());
        if let (Some((adapter, steering)), Some(projected)) = (adapter, projected) {
            y = adapter.add_projected(y, projected, &steering.preferences);
        }
        y
    }

    /// The gradient at `x`, from `dy` at the output, added to `onto` if there is one; the adapter's
    /// gradients are added to `gradients`.
    pub fn backward(
        &self,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        onto: Option<Tensor<2>>,
        steering: &RowSteering<'_>,
        gradients: &mut FactorSet,
    ) -> Tensor<2> {
        let dx = linear_backward(dy, self.weight.weight(false), onto);
        let Some(adapter) = steering.adapters.get(&self.name) else {
            return dx;
        };
        let (dx, factors) = adapter.backward(x, &steering.preferences, dy, dx);
        gradients.accumulate(&self.name, factors);
        dx
    }
}
