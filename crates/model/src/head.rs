//! The language-model head, only where a target counts.

use burn::tensor::{Device, Int, Tensor, TensorData};
use panacea_kernels::{head_log_probs, matmul};

use crate::batch::Target;

/// Row indices as a tensor.
pub(crate) fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|v| v as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Log-probabilities of `targets` under softmax(h Wᵀ): h `[rows, hidden]`, W `[vocabulary, hidden]`.
///
/// If `keep`, also ∂log p/∂h of each target, `[targets, hidden]`. Scaled by an objective's coefficients later, it is
/// the gradient at h, and the logits are never needed again.
pub(crate) fn log_probs(
    h: &Tensor<2>,
    weight: &Tensor<2>,
    targets: &[Target],
    keep: bool,
) -> (Vec<f64>, Option<Tensor<2>>) {
    let rows = indices(targets.iter().map(|t| t.row), &h.device());
    let tokens: Vec<u32> = targets.iter().map(|t| t.token).collect();
    let (log_probs, slopes) = head_log_probs(&h.clone().select(0, rows), weight, &tokens, keep);
    (log_probs.into_iter().map(f64::from).collect(), slopes)
}

/// Reads one number from a hidden state: v = h w + b.
#[derive(Debug, Clone)]
pub struct ScalarHead {
    /// w `[1, hidden]`
    pub weight: Tensor<2>,
    /// b `[1, 1]`
    pub bias: Tensor<2>,
}

impl ScalarHead {
    /// A head that reads 0 from everything.
    pub fn zeros(hidden: usize, device: &Device) -> Self {
        Self {
            weight: Tensor::zeros([1, hidden], device),
            bias: Tensor::zeros([1, 1], device),
        }
    }

    /// v at the row of every target, of h `[rows, hidden]`; and the states that were read, `[targets, hidden]`.
    pub(crate) fn apply(&self, h: &Tensor<2>, targets: &[Target]) -> (Vec<f64>, Tensor<2>) {
        let rows = indices(targets.iter().map(|t| t.row), &h.device());
        let states = h.clone().select(0, rows);
        let values = matmul(&states, &self.weight.clone().transpose()) + self.bias.clone();
        let values = values.into_data().try_into_vec_as::<f64>();
        (values.expect("any float can be an f64"), states)
    }

    /// ∂v/∂h of every target `[targets, hidden]`, and the gradient of Σ coefficient · v at the head.
    pub(crate) fn backward(&self, states: &Tensor<2>, coefficients: &[f64]) -> (Tensor<2>, Self) {
        let device = states.device();
        let values: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
        let shape = [1, values.len()];
        let sum = values.iter().sum::<f32>();
        let coefficients = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let gradient = Self {
            weight: matmul(&coefficients, states),
            bias: Tensor::full([1, 1], sum, &device),
        };
        (self.weight.clone().expand(states.dims()), gradient)
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
    let device = slopes.device();
    let [n, hidden] = slopes.dims();
    let coefficients: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
    let coefficients = Tensor::<2>::from_data(TensorData::new(coefficients, [n, 1]), &device);
    Tensor::zeros([rows, hidden], &device).select_assign(
        0,
        indices(targets.iter().map(|t| t.row), &device),
        slopes * coefficients,
        burn::tensor::IndexingUpdateOp::Add,
    )
}
