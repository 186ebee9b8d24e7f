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

impl Estimate {
    /// The mean in standard errors; `None` where the error is 0, but for what rounding leaves of it.
    #[must_use]
    pub fn in_stderrs(&self) -> Option<f64> {
        (self.stderr > 1e-12 * self.mean.abs()).then(|| self.mean / self.stderr)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_leaves_is_no_error() {
        let of = |values: &[f64]| estimate(values).expect("values").in_stderrs();
        assert_eq!(of(&[0.1; 64]), None);
        assert_eq!(of(&[0.0; 3]), None);
        assert_eq!(of(&[-1.0, 1.0]), Some(0.0));
        let three = of(&[2.0, 3.0, 4.0]).expect("an error");
        assert!((three - 3.0 * 3f64.sqrt()).abs() < 1e-12);
    }
}
