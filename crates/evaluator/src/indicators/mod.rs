//! Indicators of a set of points of m objectives, all maximised.

mod hypervolume;
mod inner_product;
mod reference;
mod spacing;
mod sparsity;

pub use hypervolume::{Hypervolume, hypervolume};
pub use inner_product::inner_product;
pub use reference::default_reference;
pub use spacing::spacing;
pub use sparsity::sparsity;

use panacea_objectives::non_dominated;
use serde::{Deserialize, Serialize};

use crate::IndicatorError;

/// The indicators of a plain set of points, as printed in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndicatorSet {
    /// [`hypervolume`] against `reference`.
    pub hypervolume: f64,
    /// [`sparsity`]; null for fewer than two non-dominated points.
    pub sparsity: Option<f64>,
    /// [`spacing`]; null for fewer than two points.
    pub spacing: Option<f64>,
    /// Number of points.
    pub points: usize,
    /// Number of non-dominated points; of equal points one counts.
    pub non_dominated: usize,
    /// Number of points that are not above the reference in every objective, and add nothing to the
    /// hypervolume.
    pub ignored: usize,
    /// Which these are, counted from 1.
    pub ignored_points: Vec<usize>,
    /// The reference.
    pub reference: Vec<f64>,
}

impl IndicatorSet {
    /// Computes all indicators of `points` against `reference`.
    ///
    /// # Errors
    /// When there is no point, the lengths differ, or a number is not finite.
    pub fn new(points: &[Vec<f64>], reference: &[f64]) -> Result<Self, IndicatorError> {
        let Hypervolume { value, ignored } = hypervolume(points, reference)?;
        Ok(Self {
            hypervolume: value,
            sparsity: sparsity(points),
            spacing: spacing(points),
            points: points.len(),
            non_dominated: non_dominated(points).iter().filter(|mark| **mark).count(),
            ignored: ignored.len(),
            ignored_points: ignored.iter().map(|position| position + 1).collect(),
            reference: reference.to_vec(),
        })
    }

    /// What to warn of: points that the hypervolume ignores.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        ignored_warning(&self.ignored_points, self.points, &self.reference)
    }
}

/// The warning about points (counted from 1) that the hypervolume ignores, if there are any.
pub(crate) fn ignored_warning(
    ignored: &[usize],
    points: usize,
    reference: &[f64],
) -> Option<String> {
    if ignored.is_empty() {
        return None;
    }
    let list: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    Some(format!(
        "{} of {points} points (number {}) are not above the reference {reference:?} in every objective and add nothing to the hypervolume",
        ignored.len(),
        list.join(", "),
    ))
}

/// Checks that there are points, of one length, of finite numbers.
pub(crate) fn check_points(points: &[Vec<f64>]) -> Result<(), IndicatorError> {
    let expected = points.first().ok_or(IndicatorError::NoPoints)?.len();
    for (position, point) in points.iter().enumerate() {
        let found = point.len();
        if found != expected || found == 0 {
            return Err(IndicatorError::PointLength {
                point: position + 1,
                found,
                expected: expected.max(1),
            });
        }
        if let Some(objective) = point.iter().position(|value| !value.is_finite()) {
            return Err(IndicatorError::NotFinite {
                point: position + 1,
                objective: objective + 1,
                value: point[objective],
            });
        }
    }
    Ok(())
}

/// Checks that the reference is a finite number per objective.
///
/// # Errors
/// When it has another number of values, or one of them is not finite.
pub fn check_reference(reference: &[f64], objectives: usize) -> Result<(), IndicatorError> {
    if reference.len() != objectives {
        return Err(IndicatorError::ReferenceLength {
            found: reference.len(),
            expected: objectives,
        });
    }
    match reference.iter().position(|value| !value.is_finite()) {
        Some(objective) => Err(IndicatorError::ReferenceNotFinite {
            objective: objective + 1,
            value: reference[objective],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_counts_and_warns() {
        let points = [
            vec![1.0, 2.0],
            vec![2.0, 1.0],
            vec![1.0, 1.0],
            vec![5.0, -1.0],
        ];
        let set = IndicatorSet::new(&points, &[0.0, 0.0]).expect("valid");
        assert_eq!((set.points, set.non_dominated, set.ignored), (4, 3, 1));
        assert_eq!(set.hypervolume, 3.0);
        assert!(set.warning().expect("one is ignored").contains("number 4"));
        let json = serde_json::to_value(&set).expect("plain data");
        assert_eq!(json["hypervolume"], 3.0);
        assert_eq!(json["reference"], serde_json::json!([0.0, 0.0]));
        assert!(
            IndicatorSet::new(&points[..3], &[0.0, 0.0])
                .expect("valid")
                .warning()
                .is_none()
        );
    }
}
