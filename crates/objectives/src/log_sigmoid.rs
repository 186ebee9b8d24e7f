//! The logistic function and its logarithm, accurate at both ends.

/// log σ(x) = −log(1 + e^(−x)), without overflow for large −x and without losing the tail for large x.
#[must_use]
pub fn log_sigmoid(x: f64) -> f64 {
    // For x < 0, −log(1 + e^(−x)) = x − log(1 + e^x): the exponent is never positive.
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// σ(x) = 1 / (1 + e^(−x)), without overflow and with full relative accuracy for large −x.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_finite_and_exact_at_the_ends() {
        assert_eq!(log_sigmoid(-1000.0), -1000.0);
        assert_eq!(log_sigmoid(0.0), -std::f64::consts::LN_2);
        // −log(1 + e^−50) = −e^−50 to first order; the naive form gives 0.
        assert!((log_sigmoid(50.0) / -(-50.0f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!(log_sigmoid(1000.0), 0.0);
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(-1000.0), 0.0);
        assert!((sigmoid(-40.0) / (-40.0f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!(sigmoid(1000.0), 1.0);
        assert!(log_sigmoid(f64::NAN).is_nan() && sigmoid(f64::NAN).is_nan());
    }

    #[test]
    fn the_logarithm_agrees_with_the_function() {
        for i in -200..=200 {
            let x = f64::from(i) / 10.0;
            assert!(
                (log_sigmoid(x) - sigmoid(x).ln()).abs() < 1e-14 * (1.0 + x.abs()),
                "{x}"
            );
        }
    }
}
