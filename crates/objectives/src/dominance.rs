//! Pareto dominance, for objectives that are maximised.

/// Whether `a` dominates `b`: nowhere below it, and above it somewhere.
#[must_use]
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
}

/// Marks the points that no other point dominates (maximisation). Of equal points only the first is
/// marked, so that the marked ones are a set.
///
/// O(n² m) for n points of m objectives.
#[must_use]
pub fn non_dominated(points: &[Vec<f64>]) -> Vec<bool> {
    points
        .iter()
        .enumerate()
        .map(|(i, point)| {
            points
                .iter()
                .enumerate()
                .all(|(j, other)| j == i || !(dominates(other, point) || (j < i && other == point)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dominated_and_repeated_points_are_not_marked() {
        let points = vec![
            vec![1.0, 3.0],
            vec![2.0, 2.0],
            vec![1.0, 2.0],
            vec![2.0, 2.0],
            vec![3.0, 1.0],
        ];
        assert_eq!(non_dominated(&points), [true, true, false, false, true]);
        assert!(non_dominated(&[]).is_empty());
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        /// Coarse coordinates, so that ties and copies are common.
        #[test]
        fn prop_marked_points_are_a_front_that_covers_all(
            points in prop::collection::vec(prop::collection::vec((0u8..4).prop_map(f64::from), 3), 0..12)
        ) {
            let marks = non_dominated(&points);
            let front: Vec<&Vec<f64>> = points.iter().zip(&marks).filter(|(_, mark)| **mark).map(|(p, _)| p).collect();
            for (i, a) in front.iter().enumerate() {
                for (j, b) in front.iter().enumerate() {
                    prop_assert!(i == j || (!dominates(a, b) && a != b));
                }
            }
            for point in &points {
                prop_assert!(front.iter().any(|f| *f == point || dominates(f, point)));
            }
        }
    }
}
