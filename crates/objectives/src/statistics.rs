//! Means, and how sure they are.

use serde::{Deserialize, Serialize};

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// s/√n, with s the sample standard deviation (n−1 in the denominator); 0 for a single value, which
    /// shows no spread.
    pub stderr: f64,
}

/// The mean of `values` with its standard error; `None` without a value.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let (mean, count) = (mean(values.iter().copied())?, values.len() as f64);
    let stderr = if values.len() > 1 {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / (count - 1.0) / count).sqrt()
    } else {
        0.0
    };
    Some(Estimate { mean, stderr })
}

/// The mean of `values`; `None` without a value.
#[must_use]
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}
