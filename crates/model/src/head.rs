//! The language-model head, only where a target counts and only in chunks.

use burn::tensor::{Device, Int, Tensor, TensorData};
use panacea_kernels::{log_softmax_at, matmul};

use crate::batch::Target;

/// Rows of logits that exist at once: 128 × 49,152 × 4 bytes = 24 MiB for SmolLM2's vocabulary.
const CHUNK: usize = 128;

/// Row indices as a tensor.
pub(crate) fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|v| v as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Log-probabilities of `targets` under softmax(h Wᵀ): h `[rows, hidden]`, W `[vocabulary, hidden]`.
///
/// If `keep`, also ∂log p/∂h of each target, `[targets, hidden]`: W[token] − Σ_v p_v W[v]. Scaled by an
/// objective's coefficients later, it is the gradient at h, and the logits are never needed again.
pub(crate) fn log_probs(
    h: &Tensor<2>,
    weight: &Tensor<2>,
    targets: &[Target],
    keep: bool,
) -> (Vec<f64>, Option<Tensor<2>>) {
    let device = h.device();
    let mut log_probs = Vec::with_capacity(targets.len());
    let mut slopes = Vec::new();
    for chunk in targets.chunks(CHUNK) {
        let rows = h
            .clone()
            .select(0, indices(chunk.iter().map(|t| t.row), &device));
        let tokens: Vec<u32> = chunk.iter().map(|t| t.token).collect();
        let logits = matmul(&rows, &weight.clone().transpose());
        let (values, softmax) = log_softmax_at(logits, &tokens, keep);
        log_probs.extend(values.into_iter().map(f64::from));
        if let Some(softmax) = softmax {
            let tokens = indices(tokens.into_iter().map(|t| t as usize), &device);
            slopes.push(weight.clone().select(0, tokens) - matmul(&softmax, weight));
        }
    }
    let slopes = keep.then(|| {
        if slopes.is_empty() {
            Tensor::zeros([0, h.dims()[1]], &device)
        } else {
            Tensor::cat(slopes, 0)
        }
    });
    (log_probs, slopes)
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
