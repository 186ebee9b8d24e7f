//! Rewards of different scales on one scale.

use serde::{Deserialize, Serialize};

/// A running mean and standard deviation, after Welford (1962).
///
/// It is saved with a run: reading it back gives exactly the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normaliser {
    count: u64,
    mean: f64,
    /// Σ (x − mean)².
    squares: f64,
}

impl Normaliser {
    /// Takes a value in.
    ///
    /// # Panics
    /// When the value is not finite: it would spoil all that follow. [`crate::Scorers`] give finite ones only.
    pub fn push(&mut self, value: f64) {
        assert!(value.is_finite(), "a finite value, not {value}");
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// How many values were taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 where there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their standard deviation, with count − 1 in the denominator; 0 for fewer than two values.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        match self.count {
            0 | 1 => 0.0,
            count => (self.squares / (count - 1) as f64).sqrt(),
        }
    }

    /// (x − mean) / deviation; x − mean where the deviation is 0, as it is for fewer than two values.
    #[must_use]
    pub fn normalise(&self, value: f64) -> f64 {
        let deviation = self.deviation();
        let centred = value - self.mean;
        if deviation > 0.0 {
            centred / deviation
        } else {
            centred
        }
    }
}

impl Extend<f64> for Normaliser {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Normaliser {
        let mut normaliser = Normaliser::default();
        normaliser.extend(values.iter().copied());
        normaliser
    }

    #[test]
    fn few_or_equal_values_are_only_centred() {
        assert_eq!(of(&[]).normalise(3.0), 3.0);
        assert_eq!(of(&[2.0]).normalise(3.0), 1.0);
        assert_eq!(of(&[0.1; 7]).normalise(1.1), 1.1 - 0.1);
        assert_eq!(of(&[1.0, 3.0]).normalise(4.0), 2.0 / 2.0_f64.sqrt());
    }

    #[test]
    #[should_panic(expected = "a finite value")]
    fn a_value_that_is_not_finite_is_refused() {
        Normaliser::default().push(f64::NAN);
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn it_agrees_with_the_direct_formulas(values in proptest::collection::vec(-100.0..100.0_f64, 2..50)) {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            let normaliser = of(&values);
            prop_assert!((normaliser.mean() - mean).abs() < 1e-10);
            prop_assert!((normaliser.deviation() - (squares / (n - 1.0)).sqrt()).abs() < 1e-10);
        }

        #[test]
        fn a_saved_one_goes_on_exactly(
            values in proptest::collection::vec(-1e9..1e9_f64, 0..50), next in -1e9..1e9_f64,
        ) {
            let mut kept = of(&values);
            let json = serde_json::to_string(&kept).unwrap();
            let mut read: Normaliser = serde_json::from_str(&json).unwrap();
            let from_toml: Normaliser = toml::from_str(&toml::to_string(&kept).unwrap()).unwrap();
            prop_assert_eq!(from_toml, kept);
            kept.push(next);
            read.push(next);
            prop_assert_eq!(read, kept);
        }
    }
}
