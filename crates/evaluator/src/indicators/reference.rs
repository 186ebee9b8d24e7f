//! The reference point, where none is given.

/// A reference that every point dominates: in each objective the least value of all points, less a tenth
/// of the range of the values (less a tenth of |value|, or 0.1 if that is 0, where they are all equal).
///
/// It depends on the points, so that hypervolumes of different sets compare only under one reference,
/// which is why it is printed beside every hypervolume. Empty without a point.
#[must_use]
pub fn default_reference(points: &[Vec<f64>]) -> Vec<f64> {
    let objectives = points.first().map_or(0, Vec::len);
    (0..objectives)
        .map(|objective| {
            let values = || points.iter().map(|point| point[objective]);
            let least = values().fold(f64::INFINITY, f64::min);
            let greatest = values().fold(f64::NEG_INFINITY, f64::max);
            let scale = [greatest - least, least.abs(), 1.0]
                .into_iter()
                .find(|scale| *scale > 0.0)
                .unwrap_or(1.0);
            least - 0.1 * scale
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_above_it() {
        let points = [vec![-0.7, 0.0, 3.0], vec![-0.9, 0.0, 3.0]];
        let reference = default_reference(&points);
        for (found, expected) in reference.iter().zip([-0.92, -0.1, 2.7]) {
            assert!((found - expected).abs() < 1e-12, "{reference:?}");
        }
        assert!(default_reference(&[]).is_empty());
    }
}
