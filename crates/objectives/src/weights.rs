//! Weights as people write them, before it is known which objectives they are about.

use std::fmt;
use std::str::FromStr;

use crate::preference::{SUM_TOLERANCE, check};
use crate::{Preference, PreferenceError};

/// Weights on objectives, in their order (`0.2,0.8`) or by name (`brevity=2,detail=1`), of any positive sum. By name, an
/// objective that is not named has 0.
///
/// ```
/// use panacea_objectives::Weights;
///
/// let objectives = ["brevity", "detail"];
/// let weights: Weights = "detail=3,brevity=1".parse()?;
/// assert_eq!(weights.preference(&objectives)?.weights(), [0.25, 0.75]);
/// assert_eq!("detail=3".parse::<Weights>()?.preference(&objectives)?.weights(), [0.0, 1.0]);
/// let error = "tone=3,brevity=1".parse::<Weights>()?.preference(&objectives).unwrap_err();
/// assert_eq!(error.to_string(), "there is no objective `tone`; there are brevity, detail");
/// # Ok::<(), panacea_objectives::WeightsError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// One for each objective, in the order of the objectives.
    InOrder(Vec<f64>),
    /// Of objectives by their names; the others have 0.
    ByName(Vec<(String, f64)>),
}

/// Why weights are no preference over the objectives that there are.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightsError {
    /// A name that no objective has.
    #[error("there is no objective `{name}`; there are {objectives}")]
    Unknown {
        /// The name.
        name: String,
        /// The objectives that there are.
        objectives: String,
    },
    /// An objective with two weights.
    #[error("objective `{name}` has two weights")]
    Twice {
        /// The objective.
        name: String,
    },
    /// Some weights have a name and others have none.
    #[error("`{text}`: give every weight a name, as in `a=0.2,b=0.8`, or none, as in `0.2,0.8`")]
    Mixed {
        /// The weights as they were written.
        text: String,
    },
    /// The weight of an objective is no number.
    #[error("the weight of `{name}` is `{text}`, which is not a number")]
    NotANumber {
        /// The objective.
        name: String,
        /// What stands there.
        text: String,
    },
    /// The weight of an objective is not a finite number that is 0 or more.
    #[error("the weight of `{name}` is {value}; every weight must be a finite number ≥ 0")]
    OutOfRange {
        /// The objective.
        name: String,
        /// Its weight.
        value: f64,
    },
    /// The numbers are no preference.
    #[error(transparent)]
    Preference(#[from] PreferenceError),
}

impl Weights {
    /// The preference over `objectives` that these weights are; they are divided by their sum.
    ///
    /// # Errors
    /// Where a weight is negative or not finite, or all are 0; without names, where not every objective has exactly one; with
    /// names, where one is unknown or stands twice.
    pub fn preference<T: AsRef<str>>(&self, objectives: &[T]) -> Result<Preference, WeightsError> {
        let by_name = match self {
            Self::InOrder(weights) => {
                let preference = Preference::normalised(weights.clone())?;
                preference.expect_len(objectives.len())?;
                return Ok(preference);
            }
            Self::ByName(by_name) => by_name,
        };
        let mut weights = vec![None; objectives.len()];
        for (name, value) in by_name {
            let (name, value) = (name.clone(), *value);
            let place = objectives.iter().position(|known| known.as_ref() == name);
            let Some(place) = place else {
                let names: Vec<&str> = objectives.iter().map(AsRef::as_ref).collect();
                let objectives = names.join(", ");
                return Err(WeightsError::Unknown { name, objectives });
            };
            if !(value.is_finite() && value >= 0.0) {
                return Err(WeightsError::OutOfRange { name, value });
            }
            if weights[place].replace(value).is_some() {
                return Err(WeightsError::Twice { name });
            }
        }
        let weights = weights.into_iter().map(Option::unwrap_or_default);
        Ok(Preference::normalised(weights.collect())?)
    }

    /// What a person should be told of weights that are no λ as they stand: `brevity=2,detail=1, divided by their sum, 3`.
    #[must_use]
    pub fn division(&self) -> Option<String> {
        let sum: f64 = match self {
            Self::InOrder(weights) => weights.iter().sum(),
            Self::ByName(weights) => weights.iter().map(|(_, weight)| weight).sum(),
        };
        let is_divided = (sum - 1.0).abs() > SUM_TOLERANCE;
        is_divided.then(|| format!("{self}, divided by their sum, {sum}"))
    }
}

impl FromStr for Weights {
    type Err = WeightsError;

    fn from_str(text: &str) -> Result<Self, WeightsError> {
        if !text.contains('=') {
            let weights = Preference::numbers(text)?;
            // What no objectives could make right is refused before they are known.
            check(&weights)?;
            return Ok(Self::InOrder(weights));
        }
        let named = text.split(',').map(|part| {
            let (name, weight) = part.split_once('=').ok_or_else(|| WeightsError::Mixed {
                text: text.to_owned(),
            })?;
            let (name, weight) = (name.trim().to_owned(), weight.trim());
            match weight.parse() {
                Ok(weight) => Ok((name, weight)),
                Err(_) => Err(WeightsError::NotANumber {
                    name,
                    text: weight.to_owned(),
                }),
            }
        });
        Ok(Self::ByName(named.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = match self {
            Self::InOrder(weights) => weights.iter().map(f64::to_string).collect(),
            Self::ByName(weights) => (weights.iter())
                .map(|(name, weight)| format!("{name}={weight}"))
                .collect(),
        };
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVES: [&str; 3] = ["help", "brevity", "tone"];

    fn preference(text: &str) -> Result<Vec<f64>, String> {
        let weights: Result<Weights, _> = text.parse();
        let preference = weights.and_then(|weights| {
            let again: Weights = weights.to_string().parse().unwrap();
            assert_eq!(again.to_string(), weights.to_string());
            weights.preference(&OBJECTIVES)
        });
        match preference {
            Ok(preference) => Ok(preference.weights().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn weights_are_taken_in_order_or_by_name_and_divided_by_their_sum() {
        assert_eq!(preference("2,1,1"), Ok(vec![0.5, 0.25, 0.25]));
        let by_name = preference(" tone = 1, help=2 ,brevity=1");
        assert_eq!(by_name, Ok(vec![0.5, 0.25, 0.25]));
        // Who is not named has nothing.
        assert_eq!(preference("tone=3,help=1"), Ok(vec![0.25, 0.0, 0.75]));
        assert_eq!(preference("brevity=1e-300"), Ok(vec![0.0, 1.0, 0.0]));
        // Sums that would overflow are no infinity.
        let largest = preference("1e308,1e308,0").unwrap();
        assert_eq!(largest, [0.5, 0.5, 0.0]);
        let smallest = preference("5e-324,0,0").unwrap();
        assert_eq!(smallest, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_division_is_told() {
        let told = |text: &str| text.parse::<Weights>().unwrap().division();
        let by_name = told("tone=2, help=1").unwrap();
        assert_eq!(by_name, "tone=2,help=1, divided by their sum, 3");
        assert_eq!(told("0.2,0.3,0.5"), None);
        assert_eq!(told("help=1"), None);
    }

    #[test]
    fn what_is_no_preference_is_refused_by_name() {
        let refused = [
            ("", "none was given"),
            ("1,2", "has 2 weight(s), but there are 3"),
            ("1,x,1", "weight 2 is `x`"),
            ("1,-1,1", "weight 2 is -1"),
            ("1,nan,1", "weight 2 is NaN"),
            ("0,0,0", "all 0"),
            ("help=1,brevity=1,polish=1", "no objective `polish`"),
            ("help=1,tone=-1", "the weight of `tone` is -1;"),
            ("help=NaN", "the weight of `help` is NaN;"),
            ("help=inf,tone=1", "the weight of `help` is inf;"),
            ("help=0,tone=0", "all 0"),
            ("help=1,help=2,tone=1", "`help` has two weights"),
            ("help=1,2,3", "give every weight a name"),
            ("help=1,brevity=,tone=1", "weight of `brevity` is ``"),
        ];
        for (text, reason) in refused {
            let error = preference(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
