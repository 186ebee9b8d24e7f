//! A preference: a point λ on the simplex, held so that it cannot be anything else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far a sum of weights may be from 1 before it is a mistake rather than rounding.
pub(crate) const SUM_TOLERANCE: f64 = 1e-6;

/// A point λ of the simplex Δ_m = {λ ≥ 0, Σλ_i = 1}: how much each of m objectives counts.
///
/// ```
/// use panacea_objectives::Preference;
///
/// let preference: Preference = "0.2,0.8".parse()?;
/// assert_eq!(preference.weights(), [0.2, 0.8]);
/// assert_eq!(preference.to_string(), "0.2,0.8");
/// assert!("0.2,0.9".parse::<Preference>().is_err());
/// # Ok::<(), panacea_objectives::PreferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Preference {
    weights: Vec<f64>,
}

/// Why some numbers are not a preference.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PreferenceError {
    /// There is no weight at all.
    #[error("a preference needs one weight per objective, but none was given")]
    Empty,
    /// A weight is NaN or infinite.
    #[error("preference weight {position} is {value}; every weight must be a finite number ≥ 0")]
    NotFinite {
        /// 1-based position of the weight.
        position: usize,
        /// The weight.
        value: f64,
    },
    /// A weight is below 0.
    #[error("preference weight {position} is {value}; every weight must be ≥ 0")]
    Negative {
        /// 1-based position of the weight.
        position: usize,
        /// The weight.
        value: f64,
    },
    /// The weights do not sum to 1.
    #[error(
        "the preference weights {weights:?} sum to {sum}; they must sum to 1 (divide each by {sum})"
    )]
    Sum {
        /// The weights as given.
        weights: Vec<f64>,
        /// Their sum.
        sum: f64,
    },
    /// The weights are all 0.
    #[error("the preference weights {weights:?} are all 0; they must sum to 1")]
    Zero {
        /// The weights as given.
        weights: Vec<f64>,
    },
    /// The preference has another number of weights than there are objectives.
    #[error(
        "the preference {preference} has {found} weight(s), but there are {expected} objective(s); give one weight per objective"
    )]
    Length {
        /// The preference, as `Preference` prints it.
        preference: String,
        /// Number of weights of the preference.
        found: usize,
        /// Number of objectives.
        expected: usize,
    },
    /// A weight in a text is not a number.
    #[error(
        "preference weight {position} is `{text}`, which is not a number; write the weights as in `0.2,0.8`"
    )]
    Parse {
        /// 1-based position of the weight.
        position: usize,
        /// What stands there.
        text: String,
    },
}

impl Preference {
    /// Takes weights that are finite, ≥ 0, and sum to 1 within 1e-6; the sum is then brought to 1.
    ///
    /// # Errors
    /// When the weights are not a point of the simplex.
    pub fn new(weights: Vec<f64>) -> Result<Self, PreferenceError> {
        check(&weights)?;
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(PreferenceError::Sum { weights, sum });
        }
        Ok(Self {
            weights: normalised(weights, sum),
        })
    }

    /// Takes weights that are finite, ≥ 0 and not all 0, whatever their sum, and divides them by it.
    ///
    /// # Errors
    /// When the weights are not such.
    pub fn normalised(mut weights: Vec<f64>) -> Result<Self, PreferenceError> {
        check(&weights)?;
        let sum = weights.iter().sum::<f64>();
        // Numbers near either end of what 64 bits hold: their sum overflows, or says too little of its parts.
        if !sum.is_finite() || sum < f64::MIN_POSITIVE {
            let largest = weights.iter().copied().fold(0.0, f64::max);
            for weight in &mut weights {
                *weight /= largest;
            }
        }
        let sum = weights.iter().sum();
        Ok(Self {
            weights: normalised(weights, sum),
        })
    }

    /// The preference that is all for objective `i`.
    ///
    /// # Panics
    /// When `i` is not below `objectives`.
    #[must_use]
    pub fn vertex(objectives: usize, i: usize) -> Self {
        assert!(
            i < objectives,
            "vertex {i} of a simplex of {objectives} objectives"
        );
        let mut weights = vec![0.0; objectives];
        weights[i] = 1.0;
        Self { weights }
    }

    /// The preference that weighs all objectives alike.
    ///
    /// # Panics
    /// When `objectives` is 0.
    #[must_use]
    pub fn uniform(objectives: usize) -> Self {
        assert!(objectives > 0, "a simplex of 0 objectives has no point");
        Self {
            weights: vec![1.0 / objectives as f64; objectives],
        }
    }

    /// The numbers of a text like `0.2,0.8`.
    pub(crate) fn numbers(text: &str) -> Result<Vec<f64>, PreferenceError> {
        if text.trim().is_empty() {
            return Err(PreferenceError::Empty);
        }
        let number = |(i, weight): (usize, &str)| {
            let weight = weight.trim();
            weight.parse().map_err(|_| PreferenceError::Parse {
                position: i + 1,
                text: weight.to_owned(),
            })
        };
        text.split(',').enumerate().map(number).collect()
    }

    /// Weights that are known to be a point of the simplex up to rounding.
    pub(crate) fn from_simplex(weights: Vec<f64>) -> Self {
        debug_assert!((weights.iter().sum::<f64>() - 1.0).abs() < SUM_TOLERANCE);
        Self { weights }
    }

    /// The weights λ_i, in the order of the objectives.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The number m of objectives.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a preference is never empty")]
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// λ as a person may type it again: `brevity=0.333,detail=0.667`, rounded as [`rounded_weight`] does.
    #[must_use]
    pub fn by_name<T: AsRef<str>>(&self, objectives: &[T]) -> String {
        let named = (objectives.iter().zip(&self.weights))
            .map(|(name, weight)| format!("{}={}", name.as_ref(), rounded_weight(*weight, 3)));
        named.collect::<Vec<_>>().join(",")
    }

    /// Checks that there is one weight per objective.
    ///
    /// # Errors
    /// When there is not; the message names both numbers.
    pub fn expect_len(&self, objectives: usize) -> Result<(), PreferenceError> {
        if self.len() == objectives {
            return Ok(());
        }
        Err(PreferenceError::Length {
            preference: self.to_string(),
            found: self.len(),
            expected: objectives,
        })
    }
}

/// Whether all are finite and ≥ 0, and one is above 0.
pub(crate) fn check(weights: &[f64]) -> Result<(), PreferenceError> {
    if weights.is_empty() {
        return Err(PreferenceError::Empty);
    }
    for (i, &value) in weights.iter().enumerate() {
        let position = i + 1;
        if !value.is_finite() {
            return Err(PreferenceError::NotFinite { position, value });
        }
        if value < 0.0 {
            return Err(PreferenceError::Negative { position, value });
        }
    }
    if weights.iter().all(|&weight| weight == 0.0) {
        let weights = weights.to_vec();
        return Err(PreferenceError::Zero { weights });
    }
    Ok(())
}

/// Divides by the sum, unless the sum is 1 up to the rounding of the addition itself: weights that were
/// written out and read back stay the same numbers.
fn normalised(mut weights: Vec<f64>, sum: f64) -> Vec<f64> {
    if (sum - 1.0).abs() > weights.len() as f64 * f64::EPSILON {
        for weight in &mut weights {
            *weight /= sum;
        }
    }
    weights
}

impl TryFrom<Vec<f64>> for Preference {
    type Error = PreferenceError;

    fn try_from(weights: Vec<f64>) -> Result<Self, PreferenceError> {
        Self::new(weights)
    }
}

impl From<Preference> for Vec<f64> {
    fn from(preference: Preference) -> Self {
        preference.weights
    }
}

impl FromStr for Preference {
    type Err = PreferenceError;

    /// Reads weights separated by commas, as in `0.2,0.8`.
    fn from_str(text: &str) -> Result<Self, PreferenceError> {
        Self::new(Self::numbers(text)?)
    }
}

impl fmt::Display for Preference {
    /// Writes the weights separated by commas; [`FromStr`] reads them back to the same numbers. With a precision, as in
    /// `{:.3}`, they are rounded as [`rounded_weight`] does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, weight) in self.weights.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match f.precision() {
                Some(decimals) => f.write_str(&rounded_weight(*weight, decimals))?,
                None => write!(f, "{weight}")?,
            }
        }
        Ok(())
    }
}

/// A weight for people to read: at most so many decimals, and no zeros at the end.
///
/// ```
/// # use panacea_objectives::rounded_weight;
/// assert_eq!(rounded_weight(1.0 / 3.0, 3), "0.333");
/// assert_eq!(rounded_weight(1.0, 3), "1");
/// ```
#[must_use]
pub fn rounded_weight(weight: f64, decimals: usize) -> String {
    let text = format!("{weight:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(weights: Vec<f64>) -> String {
        Preference::new(weights)
            .expect_err("not a preference")
            .to_string()
    }

    #[test]
    fn what_is_not_on_the_simplex_is_refused_with_the_weight_named() {
        assert!(message(vec![]).contains("none was given"));
        assert!(message(vec![0.5, f64::NAN]).contains("weight 2 is NaN"));
        assert!(message(vec![1.5, -0.5]).contains("weight 2 is -0.5"));
        assert!(message(vec![0.5, 0.6]).contains("sum to 1.1"));
        assert!(message(vec![0.0, 0.0]).contains("all 0"));
        assert!(
            "0.5,x"
                .parse::<Preference>()
                .unwrap_err()
                .to_string()
                .contains("weight 2 is `x`")
        );
        assert!("".parse::<Preference>().is_err());
        assert!("0.5,0.5,".parse::<Preference>().is_err());
    }

    #[test]
    fn another_number_of_weights_names_both() {
        let error = Preference::uniform(2)
            .expect_len(3)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("0.5,0.5 has 2") && error.contains("3 objective"),
            "{error}"
        );
        assert!(Preference::uniform(2).expect_len(2).is_ok());
    }

    #[test]
    fn a_sum_within_the_tolerance_is_brought_to_one() {
        let preference = Preference::new(vec![0.333_333_3; 3]).expect("a thirds preference");
        assert!((preference.weights().iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn serde_reads_an_array_and_validates_it() {
        let preference: Preference = serde_json::from_str("[0.25, 0.75]").expect("valid");
        assert_eq!(preference.weights(), [0.25, 0.75]);
        assert_eq!(
            serde_json::to_string(&preference).expect("plain"),
            "[0.25,0.75]"
        );
        assert!(serde_json::from_str::<Preference>("[0.25, 0.5]").is_err());
    }

    #[test]
    fn people_read_fewer_digits_than_programs() {
        let thirds = Preference::uniform(3);
        assert_eq!(format!("{thirds:.3}"), "0.333,0.333,0.333");
        assert_eq!(format!("{:.3}", Preference::vertex(2, 0)), "1,0");
        assert_eq!(thirds.to_string().parse(), Ok(thirds));
        assert_eq!(rounded_weight(10.0, 0), "10");
    }
}
