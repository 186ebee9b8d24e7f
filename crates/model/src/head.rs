//! The language-model head, only where a target counts.

use burn_tensor::{Device, Int, Tensor, TensorData};
use panacea_kernels::{Weight, head_log_probs, matmul};
use panacea_svd_lora::{FactorSet, Factors};

use crate::batch::Target;

/// Row indices as a tensor.
pub(crate) fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|v| v as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// What lies on a device, row by row.
pub(crate) fn numbers(x: Tensor<2>) -> Vec<f32> {
    let numbers = x.into_data().try_into_vec_as::<f32>();
    numbers.expect("any float can be an f32")
}

/// Log-probabilities of `targets` under softmax(h Wᵀ): h `[rows, hidden]`, W `[vocabulary, hidden]`.
///
/// Logits are capped softly at `cap`, if there is one. If `keep`, also ∂log p/∂h of each target, `[targets, hidden]`. Scaled
/// by an objective's coefficients later, it is the gradient at h, and the logits are never needed again.
pub(crate) fn log_probs(
    h: &Tensor<2>,
    weight: Weight<'_>,
    targets: &[Target],
    cap: Option<f64>,
    keep: bool,
) -> (Vec<f64>, Option<Tensor<2>>) {
    let rows = indices(targets.iter().map(|t| t.row), &h.device());
    let tokens: Vec<u32> = targets.iter().map(|t| t.token).collect();
    let (log_probs, slopes) =
        head_log_probs(&h.clone().select(0, rows), weight, &tokens, cap, keep);
    (log_probs.into_iter().map(f64::from).collect(), slopes)
}

/// Reads numbers from a hidden state: v = h Wᵀ + b.
#[derive(Debug, Clone)]
pub struct ValueHead {
    /// W `[outputs, hidden]`
    pub weight: Tensor<2>,
    /// b `[1, outputs]`
    pub bias: Tensor<2>,
}

impl ValueHead {
    /// The name of a head among an adapter's factors.
    pub const NAME: &'static str = "value_head";

    /// A head that reads 0 from everything.
    pub fn zeros(outputs: usize, hidden: usize, device: &Device) -> Self {
        Self {
            weight: Tensor::zeros([outputs, hidden], device),
            bias: Tensor::zeros([1, outputs], device),
        }
    }

    /// How many numbers it reads.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// W and b as numbers on the host, row by row.
    pub fn into_numbers(self) -> (Vec<f32>, Vec<f32>) {
        (numbers(self.weight), numbers(self.bias))
    }

    /// The head as factors of an adapter, so that it is trained, saved and loaded with it: U is W, V is b, and there are no
    /// singular values.
    pub fn into_factors(self) -> Factors {
        let none = Tensor::zeros([1, 1], &self.weight.device());
        Factors {
            u: self.weight,
            v: self.bias,
            sigma: none.clone(),
            s: none,
        }
    }

    /// The head that stands among `factors`, if one does.
    pub fn among(factors: &FactorSet) -> Option<Self> {
        let head = factors.0.get(Self::NAME)?;
        Some(Self {
            weight: head.u.clone(),
            bias: head.v.clone(),
        })
    }

    /// Takes the head out of `factors`, if one stands there: what is left adapts matrices of the network alone.
    pub fn take_from(factors: &mut FactorSet) -> Option<Self> {
        let head = factors.0.remove(Self::NAME)?;
        Some(Self {
            weight: head.u,
            bias: head.v,
        })
    }

    /// v at the row of every target, of h `[rows, hidden]`: `[targets × outputs]`, target by target; and the states
    /// that were read, `[targets, hidden]`.
    pub(crate) fn apply(&self, h: &Tensor<2>, targets: &[Target]) -> (Vec<f64>, Tensor<2>) {
        let rows = indices(targets.iter().map(|t| t.row), &h.device());
        let states = h.clone().select(0, rows);
        let values = matmul(&states, &self.weight.clone().transpose()) + self.bias.clone();
        let values = values.into_data().try_into_vec_as::<f64>();
        (values.expect("any float can be an f64"), states)
    }

    /// The gradient of Σ coefficient · v, coefficients `[targets × outputs]`: at the state of every target
    /// `[targets, hidden]`, and at the head.
    pub(crate) fn backward(&self, states: &Tensor<2>, coefficients: &[f64]) -> (Tensor<2>, Self) {
        let values: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
        let shape = [states.dims()[0], self.outputs()];
        let coefficients = Tensor::<2>::from_data(TensorData::new(values, shape), &states.device());
        let gradient = Self {
            weight: matmul(&coefficients.clone().transpose(), states),
            bias: coefficients.clone().sum_dim(0),
        };
        (matmul(&coefficients, &self.weight), gradient)
    }
}

/// The gradient at h `[rows, hidden]` of Σ coefficient · log p, from the slopes that [`log_probs`] kept.
/// Several targets may stand behind one row (the last of a shared prompt): they add up.
pub(crate) fn backward(
    slopes: Tensor<2>,
    targets: &[Target],
    coefficients: &[f64],
    rows: usize,
) -> Tensor<2> {
    let n = slopes.dims()[0];
    let coefficients: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
    let coefficients =
        Tensor::<2>::from_data(TensorData::new(coefficients, [n, 1]), &slopes.device());
    scatter(slopes * coefficients, targets, rows)
}

/// Adds `gradients` `[targets, hidden]` at the rows that the targets were read from: `[rows, hidden]`.
pub(crate) fn scatter(gradients: Tensor<2>, targets: &[Target], rows: usize) -> Tensor<2> {
    let device = gradients.device();
    let [_, hidden] = gradients.dims();
    Tensor::zeros([rows, hidden], &device).select_assign(
        0,
        indices(targets.iter().map(|t| t.row), &device),
        gradients,
        burn_tensor::IndexingUpdateOp::Add,
    )
}
