//! The hypervolume indicator, exact.

use super::{check_points, check_reference};
use crate::IndicatorError;
use panacea_objectives::dominates;

/// The hypervolume of a set of points, and which of them have no part in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypervolume {
    /// The measure.
    pub value: f64,
    /// Positions (0-based) of the points that are not above the reference in every objective.
    pub ignored: Vec<usize>,
}

/// The measure of the region that the points dominate and that dominates the reference
/// (maximisation; Zitzler and Thiele 1998):
///
/// ```text
/// HV = volume of  ∪_p [r_1, p_1] × … × [r_m, p_m]
/// ```
///
/// A point that is not strictly above the reference in every objective adds nothing; it is reported.
///
/// ```
/// use panacea_evaluator::hypervolume;
///
/// let points = [vec![3.0, 1.0], vec![1.0, 2.0], vec![9.0, -1.0]];
/// let found = hypervolume(&points, &[0.0, 0.0])?;
/// assert_eq!((found.value, found.ignored), (4.0, vec![2]));
/// # Ok::<(), panacea_evaluator::IndicatorError>(())
/// ```
///
/// # Errors
/// When there is no point, the lengths differ, or a number is not finite.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> Result<Hypervolume, IndicatorError> {
    check_points(points)?;
    check_reference(reference, points[0].len())?;

    let mut boxes = Vec::new();
    let mut ignored = Vec::new();
    for (position, point) in points.iter().enumerate() {
        if point
            .iter()
            .zip(reference)
            .all(|(value, reference)| value > reference)
        {
            boxes.push(
                point
                    .iter()
                    .zip(reference)
                    .map(|(value, reference)| value - reference)
                    .collect(),
            );
        } else {
            ignored.push(position);
        }
    }
    Ok(Hypervolume {
        value: union_volume(without_dominated(boxes)),
        ignored,
    })
}

/// The volume of the union of the boxes [0, b], none of which contains another.
///
/// The idea of WFG (While, Bradstreet, Barone 2012): box by box, its volume less the part that the boxes
/// after it cover, which is again a union of boxes, each cut to the box. With the boxes in ascending
/// order of their last side, every cut box has the last side of the box that cuts: it is factored out and
/// the union is of one dimension less.
fn union_volume(mut boxes: Vec<Vec<f64>>) -> f64 {
    let Some(last) = boxes.first().map(|first| first.len() - 1) else {
        return 0.0;
    };
    match last {
        0 => return boxes.iter().map(|sides| sides[0]).fold(0.0, f64::max),
        1 => return union_area(boxes),
        _ => {}
    }
    boxes.sort_by(|a, b| a[last].total_cmp(&b[last]));
    let mut volume = 0.0;
    for (position, sides) in boxes.iter().enumerate() {
        let cut = boxes[position + 1..]
            .iter()
            .map(|later| {
                later[..last]
                    .iter()
                    .zip(sides)
                    .map(|(a, b)| a.min(*b))
                    .collect()
            })
            .collect();
        let own: f64 = sides[..last].iter().product();
        volume += sides[last] * (own - union_volume(without_dominated(cut)));
    }
    volume
}

/// The area of the union of rectangles [0, a] × [0, b], none of which contains another: from the widest
/// to the narrowest, each adds a strip above the ones before.
fn union_area(mut rectangles: Vec<Vec<f64>>) -> f64 {
    rectangles.sort_by(|a, b| b[0].total_cmp(&a[0]));
    let (mut area, mut height) = (0.0, 0.0);
    for rectangle in &rectangles {
        if rectangle[1] > height {
            area += rectangle[0] * (rectangle[1] - height);
            height = rectangle[1];
        }
    }
    area
}

/// The boxes that are not contained in another one.
fn without_dominated(mut boxes: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut kept: Vec<Vec<f64>> = Vec::with_capacity(boxes.len());
    // Large first, so that most are dropped at the first comparison.
    boxes.sort_by(|a, b| b.iter().sum::<f64>().total_cmp(&a.iter().sum()));
    for candidate in boxes {
        if !kept
            .iter()
            .any(|other| *other == candidate || dominates(other, &candidate))
        {
            kept.retain(|other| !dominates(&candidate, other));
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
        hypervolume(points, reference).expect("valid points").value
    }

    /// The volume of a union of boxes from the reference by inclusion and exclusion.
    fn by_inclusion_exclusion(points: &[Vec<f64>], reference: &[f64]) -> f64 {
        (1u32..1 << points.len())
            .map(|subset| {
                let meet = |objective: usize| {
                    (0..points.len())
                        .filter(|p| subset >> p & 1 == 1)
                        .map(|p| points[p][objective])
                        .fold(f64::INFINITY, f64::min)
                };
                let sides = (0..reference.len()).map(|i| (meet(i) - reference[i]).max(0.0));
                let sign = if subset.count_ones() % 2 == 1 {
                    1.0
                } else {
                    -1.0
                };
                sign * sides.product::<f64>()
            })
            .sum()
    }

    /// Up to seven points of 1 to 6 objectives; a coarse grid in one case of two, so that ties, copies and
    /// points at the reference are common.
    fn points() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1usize..=6, any::<bool>()).prop_flat_map(|(objectives, coarse)| {
            let value =
                (-0.2..1.0f64).prop_map(move |v| if coarse { (v * 4.0).round() / 4.0 } else { v });
            prop::collection::vec(prop::collection::vec(value, objectives), 1..8)
        })
    }

    proptest! {
        #[test]
        fn prop_it_is_the_union_by_inclusion_and_exclusion(points in points()) {
            let reference = vec![0.0; points[0].len()];
            let inside: Vec<Vec<f64>> = points.iter().filter(|p| p.iter().all(|v| *v > 0.0)).cloned().collect();
            let found = hypervolume(&points, &reference).expect("valid");
            prop_assert!((found.value - by_inclusion_exclusion(&inside, &reference)).abs() < 1e-12);
            prop_assert_eq!(found.ignored.len(), points.len() - inside.len());
        }

        #[test]
        fn prop_the_order_of_points_and_objectives_does_not_matter(points in points(), turn in 0usize..6) {
            let reference: Vec<f64> = (0..points[0].len()).map(|i| -0.1 * i as f64).collect();
            let turned = |row: &[f64]| {
                let mut row = row.to_vec();
                let turn = turn % row.len();
                row.rotate_left(turn);
                row
            };
            let mut others: Vec<Vec<f64>> = points.iter().map(|p| turned(p)).collect();
            others.reverse();
            prop_assert!((volume(&points, &reference) - volume(&others, &turned(&reference))).abs() < 1e-12);
        }

        #[test]
        fn prop_moving_everything_changes_nothing(points in points(), shift in -3.0..3.0f64) {
            let reference = vec![-0.25; points[0].len()];
            let moved: Vec<Vec<f64>> = points.iter().map(|p| p.iter().map(|v| v + shift).collect()).collect();
            let moved_reference: Vec<f64> = reference.iter().map(|v| v + shift).collect();
            prop_assert!((volume(&points, &reference) - volume(&moved, &moved_reference)).abs() < 1e-9);
        }

        #[test]
        fn prop_it_grows_with_points_and_with_their_values(points in points(), position in 0usize..8, gain in 0.0..0.5f64) {
            let reference = vec![0.0; points[0].len()];
            let all = volume(&points, &reference);
            if points.len() > 1 {
                prop_assert!(volume(&points[1..], &reference) <= all + 1e-12);
            }
            let mut better = points.clone();
            let position = position % better.len();
            better[position].iter_mut().for_each(|value| *value += gain);
            prop_assert!(volume(&better, &reference) >= all - 1e-12);
        }
    }

    #[test]
    fn bad_points_are_named() {
        let error = |points: &[Vec<f64>], reference: &[f64]| {
            hypervolume(points, reference)
                .expect_err("invalid")
                .to_string()
        };
        assert!(error(&[], &[0.0]).contains("no point"));
        assert!(error(&[vec![1.0, 2.0], vec![1.0]], &[0.0, 0.0]).contains("point 2 has 1 value"));
        assert!(error(&[vec![1.0, f64::NAN]], &[0.0, 0.0]).contains("point 1, objective 2: NaN"));
        assert!(error(&[vec![1.0, 2.0]], &[0.0]).contains("the reference has 1 value"));
        assert!(error(&[vec![1.0, 2.0]], &[0.0, f64::INFINITY]).contains("objective 2 is inf"));
    }
}
