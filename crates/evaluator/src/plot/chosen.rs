//! The λ that stand for all of them where all would be too many.

use crate::effects::places;
use crate::front::{FrontPoint, MethodFront};

/// For each objective the place of the point where it weighs most; nothing without a point.
pub(super) fn ends(method: &MethodFront) -> Vec<usize> {
    let lambdas: Vec<&[f64]> = (method.points.iter())
        .map(|point| &point.lambda[..])
        .collect();
    let objectives = lambdas.first().map_or(0, |lambda| lambda.len());
    places(&lambdas, objectives).unwrap_or_default()
}

/// The place of the point that is nearest to equal weights, where it is none of the ends.
pub(super) fn centre(method: &MethodFront, ends: &[usize]) -> Option<usize> {
    let distance = |point: &FrontPoint| -> f64 {
        let equal = 1.0 / point.lambda.len() as f64;
        let apart = point.lambda.iter().map(|weight| (weight - equal).powi(2));
        apart.sum()
    };
    let all = method.points.iter().map(distance).enumerate();
    let nearest = all.min_by(|a, b| a.1.total_cmp(&b.1));
    nearest
        .map(|(place, _)| place)
        .filter(|place| !ends.contains(place))
}
