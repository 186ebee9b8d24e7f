//! The log-softmax of a language-model head at one token per row.

use burn::tensor::{Int, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::host::{self, Host};

/// log softmax(logits) at one `token` of every row, logits `[rows, vocabulary]`; and softmax(logits), of the same
/// shape as logits and in their place, if `keep`.
pub fn log_softmax_at(
    logits: Tensor<2>,
    tokens: &[u32],
    keep: bool,
) -> (Vec<f32>, Option<Tensor<2>>) {
    #[cfg(feature = "flex")]
    if Host::can_open(&logits) {
        let (log_probs, softmax) = on_host(logits, tokens);
        return (log_probs, keep.then_some(softmax));
    }
    portable(logits, tokens, keep)
}

fn portable(logits: Tensor<2>, tokens: &[u32], keep: bool) -> (Vec<f32>, Option<Tensor<2>>) {
    let ids: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    let shape = [ids.len(), 1];
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &logits.device());
    let max = logits.clone().max_dim(1);
    let target = logits.clone().gather(1, ids);
    let exp = (logits - max.clone()).exp();
    let sum = exp.clone().sum_dim(1);
    let log_probs = (target - max - sum.clone().log()).into_data();
    let log_probs = log_probs.convert::<f32>().try_to_vec::<f32>();
    let log_probs = log_probs.expect("the data was just converted to f32");
    (log_probs, keep.then(|| exp / sum))
}

#[cfg(feature = "flex")]
fn on_host(logits: Tensor<2>, tokens: &[u32]) -> (Vec<f32>, Tensor<2>) {
    use rayon::prelude::*;

    let [_, vocabulary] = logits.dims();
    let mut log_probs = vec![0.0; tokens.len()];
    let softmax = host::update(logits, |logits| {
        let rows = logits.par_chunks_mut(vocabulary).zip(tokens);
        rows.zip(&mut log_probs)
            .for_each(|((row, &token), log_prob)| {
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        let max = host::largest(row);
                        let target = row[token as usize] - max;
                        for x in row.iter_mut() {
                            *x = host::exp(*x - max);
                        }
                        let sum = host::sum(row.len(), |i| row[i]);
                        *log_prob = target - sum.ln();
                        let inverse = 1.0 / sum;
                        for x in row.iter_mut() {
                            *x *= inverse;
                        }
                    },
                );
            });
    });
    (log_probs, softmax)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree() {
        let logits = random([9, 1000]) * 30.0;
        let tokens: Vec<u32> = (0..9).map(|row| row * 111).collect();
        let (found, softmax) = log_softmax_at(logits.clone(), &tokens, true);
        let (expected, expected_softmax) = portable(logits.clone(), &tokens, true);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 1e-4,
                "{found} against {expected}"
            );
        }
        assert_close("softmax", &softmax.unwrap(), &expected_softmax.unwrap());
        assert!(log_softmax_at(logits, &tokens, false).1.is_none());
    }

    #[test]
    fn a_broken_logit_is_seen() {
        let mut logits = vec![0.5f32; 40];
        logits[25] = f32::NAN;
        let logits = Tensor::from_data(
            TensorData::new(logits, [2, 20]),
            &burn::tensor::Device::flex(),
        );
        let (log_probs, _) = log_softmax_at(logits, &[0, 0], false);
        assert!(log_probs[0].is_finite() && log_probs[1].is_nan());
    }
}
