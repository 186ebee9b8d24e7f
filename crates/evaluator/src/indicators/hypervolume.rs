//! The hypervolume indicator, exact.

use std::ops::Range;

use super::{check_points, check_reference};
use crate::IndicatorError;

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

    let dimension = reference.len();
    let mut boxes: Vec<f64> = Vec::with_capacity(points.len() * dimension);
    let mut ignored = Vec::new();
    for (position, point) in points.iter().enumerate() {
        let sides = point
            .iter()
            .zip(reference)
            .map(|(value, reference)| value - reference);
        if sides.clone().all(|side| side > 0.0) {
            boxes.extend(sides);
        } else {
            ignored.push(position);
        }
    }
    let mut levels: Vec<Level> = (0..dimension).map(|_| Level::default()).collect();
    Ok(Hypervolume {
        value: union_volume(&highest_first(&boxes, dimension), dimension, &mut levels),
        ignored,
    })
}

/// Boxes [0, b], their sides box after box, in descending order of the last side.
fn highest_first(boxes: &[f64], dimension: usize) -> Vec<f64> {
    let last = boxes
        .chunks_exact(dimension)
        .map(|sides| sides[dimension - 1]);
    let mut order: Vec<(f64, usize)> = last.zip(0..).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut sorted = Vec::with_capacity(boxes.len());
    for (_, index) in order {
        sorted.extend_from_slice(&boxes[index * dimension..(index + 1) * dimension]);
    }
    sorted
}

/// The buffers of a union of boxes of one dimension, used again for the next one.
#[derive(Default)]
struct Level {
    /// The bases of the boxes so far that lie in no other base, in descending order of their last side.
    front: Vec<f64>,
    /// What of it counts for one base, cut to that base and measured from the floor (see [`find_floor`]).
    cut: Vec<f64>,
    stairs: Stairs,
}

/// The volume of the union of boxes that come in descending order of their last side.
fn union_volume(boxes: &[f64], dimension: usize, levels: &mut [Level]) -> f64 {
    match dimension {
        1 => boxes.first().copied().unwrap_or(0.0),
        2 => union_area(boxes),
        3 => levels[0].stairs.sweep(boxes),
        // The compiler knows how many sides there are here, and unrolls the loops over them.
        4 => sum_of_gains(boxes, &mut [0.0; 3], levels),
        5 => sum_of_gains(boxes, &mut [0.0; 4], levels),
        _ => sum_of_gains(boxes, &mut vec![0.0; dimension - 1], levels),
    }
}

/// The volume of the union of boxes by what each one adds: its height times what its base (all sides but the last)
/// adds to the union of the bases before it, all of them at least as high (the exclusive volumes of WFG: While,
/// Bradstreet, Barone 2012; one dimension less by the order, as in HV4D+: Guerreiro and Fonseca 2018).
#[inline(always)]
fn sum_of_gains(boxes: &[f64], floor: &mut [f64], levels: &mut [Level]) -> f64 {
    let base = floor.len();
    let (level, levels) = levels.split_first_mut().expect("a level a dimension");
    level.front.clear();
    let mut volume = 0.0;
    for sides in boxes.chunks_exact(base + 1) {
        volume += sides[base] * gain(&sides[..base], floor, level, levels);
    }
    volume
}

/// What a base adds to the union of the front, which it joins: its volume above the floor, less what the front covers
/// of that. What was sorted stays sorted when it is cut.
#[inline(always)]
fn gain(sides: &[f64], floor: &mut [f64], level: &mut Level, levels: &mut [Level]) -> f64 {
    let (dimension, last) = (sides.len(), sides.len() - 1);
    let Level { front, cut, .. } = level;
    let Some(lower) = find_floor(front, sides, floor) else {
        return 0.0;
    };
    cut.clear();
    for row in front[..lower.end * dimension].chunks_exact(dimension) {
        if (0..last).fold(true, |above, i| above & (row[i] > floor[i])) {
            cut.extend_from_slice(row);
        }
    }
    for row in cut.chunks_exact_mut(dimension) {
        for ((value, side), floor) in row.iter_mut().zip(sides).zip(&*floor) {
            *value = value.min(*side) - floor;
        }
    }
    let own: f64 = sides.iter().zip(&*floor).map(|(a, b)| a - b).product();
    let covered = union_volume(cut, dimension, levels);
    join(front, sides, lower);
    own - covered
}

/// The least corner of what the front leaves of a base: where a row of the front is as long on all sides but one, it
/// covers all up to its own length there (the bounds of Bringmann and Friedrich 2012). A row that reaches no further
/// than the floor on some side has no part in what is left, which spares most of them.
///
/// Returns which rows are lower than the base (shorter on the last side), down to the one that is the floor for that
/// side; nothing when the base lies in a row.
#[inline(always)]
fn find_floor(front: &[f64], sides: &[f64], floor: &mut [f64]) -> Option<Range<usize>> {
    let last = sides.len() - 1;
    floor.fill(0.0);
    let mut start = 0;
    for row in front.chunks_exact(sides.len()) {
        if row[last] < sides[last] {
            break;
        }
        start += 1;
        let shorter = |i: &usize| row[*i] < sides[*i];
        // Of many sides, most rows are shorter on two.
        if last > 3 && (0..last).filter(shorter).count() > 1 {
            continue;
        }
        // No branch here: the processor could not foresee it.
        for (i, floor) in floor[..last].iter_mut().enumerate() {
            let others = (0..last).filter(|j| *j != i);
            let reach = others.fold(row[i], |reach, j| if shorter(&j) { 0.0 } else { reach });
            *floor = if reach > *floor { reach } else { *floor };
        }
    }
    if floor[0] >= sides[0] {
        return None;
    }
    let mut end = start;
    for row in front.chunks_exact(sides.len()).skip(start) {
        if (0..last).fold(true, |covers, i| covers & (row[i] >= sides[i])) {
            floor[last] = row[last];
            break;
        }
        end += 1;
    }
    Some(start..end)
}

/// Puts a base into the front, in front of the lower rows, and takes out those that lie in it: they are in `lower`, as
/// the row after lies in no other and would contain them.
#[inline(always)]
fn join(front: &mut Vec<f64>, sides: &[f64], lower: Range<usize>) {
    let dimension = sides.len();
    let mut kept = lower.start;
    for row in lower.clone() {
        let (row, to) = (row * dimension, kept * dimension);
        let inside = (0..dimension).fold(true, |inside, i| inside & (front[row + i] <= sides[i]));
        for i in 0..dimension {
            front[to + i] = front[row + i];
        }
        kept += usize::from(!inside);
    }
    front.drain(kept * dimension..lower.end * dimension);
    front.extend_from_slice(sides);
    front[lower.start * dimension..].rotate_right(dimension);
}

/// The area of the union of rectangles [0, a] × [0, b]: from the highest to the lowest, each adds a strip on the
/// right of the ones before.
fn union_area(rectangles: &[f64]) -> f64 {
    let (mut area, mut width) = (0.0, 0.0);
    for rectangle in rectangles.chunks_exact(2) {
        if rectangle[0] > width {
            area += rectangle[1] * (rectangle[0] - width);
            width = rectangle[0];
        }
    }
    area
}

/// The union of rectangles [0, x] × [0, y]: its corners, x ascending and y descending, and its area.
#[derive(Default)]
struct Stairs {
    corners: Vec<(f64, f64)>,
    area: f64,
}

impl Stairs {
    /// The volume of the union of boxes that come from the highest to the lowest: between two heights it is the area of
    /// the union of all rectangles above, which grows by one at a time (Beume, Fonseca, López-Ibáñez, Paquete,
    /// Vahrenhold 2009).
    fn sweep(&mut self, boxes: &[f64]) -> f64 {
        self.corners.clear();
        self.area = 0.0;
        let (mut volume, mut height) = (0.0, 0.0);
        for sides in boxes.chunks_exact(3) {
            volume += self.area * (height - sides[2]);
            height = sides[2];
            self.add(sides[0], sides[1]);
        }
        volume + self.area * height
    }

    fn add(&mut self, x: f64, y: f64) {
        let right = self.corners.partition_point(|corner| corner.0 < x);
        let height_at = |corner: Option<&(f64, f64)>| corner.map_or(0.0, |corner| corner.1);
        if height_at(self.corners.get(right)) >= y {
            return;
        }
        // The corners in (left, right) lie in the new rectangle; from each to the next on its left the union is
        // as high as the corner.
        let left = self.corners[..right].partition_point(|corner| corner.1 > y);
        let mut from = left.checked_sub(1).map_or(0.0, |left| self.corners[left].0);
        for &(corner_x, corner_y) in &self.corners[left..right] {
            self.area += (corner_x - from) * (y - corner_y);
            from = corner_x;
        }
        self.area += (x - from) * (y - height_at(self.corners.get(right)));
        // One as far to the right, but lower, lies in it too.
        let right =
            right + usize::from(self.corners.get(right).is_some_and(|corner| corner.0 == x));
        if left == right {
            self.corners.insert(left, (x, y));
        } else {
            self.corners[left] = (x, y);
            self.corners.drain(left + 1..right);
        }
    }
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

    /// Up to seven points, as [`points_up_to`].
    fn points() -> impl Strategy<Value = Vec<Vec<f64>>> {
        points_up_to(7)
    }

    /// Points of 1 to 6 objectives; a coarse grid in one case of two, so that ties, copies and points at the
    /// reference are common.
    fn points_up_to(most: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1usize..=6, any::<bool>()).prop_flat_map(move |(objectives, coarse)| {
            let value =
                (-0.2..1.0f64).prop_map(move |v| if coarse { (v * 4.0).round() / 4.0 } else { v });
            prop::collection::vec(prop::collection::vec(value, objectives), 1..=most)
        })
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_on_a_grid_it_counts_the_cells(
            points in (1usize..=7).prop_flat_map(|objectives| {
                prop::collection::vec(prop::collection::vec(0u32..=4, objectives), 1..=40)
            })
        ) {
            let objectives = points[0].len() as u32;
            let covers = |point: &[u32], cell: u32| (0u32..).zip(point).all(|(i, value)| cell / 4u32.pow(i) % 4 < *value);
            let cells = (0..4u32.pow(objectives)).filter(|cell| points.iter().any(|point| covers(point, *cell)));
            let as_numbers: Vec<Vec<f64>> = points.iter().map(|p| p.iter().map(|v| f64::from(*v)).collect()).collect();
            prop_assert_eq!(volume(&as_numbers, &vec![0.0; points[0].len()]), cells.count() as f64);
        }

        #[test]
        fn prop_it_is_the_union_by_inclusion_and_exclusion(points in points()) {
            let reference = vec![0.0; points[0].len()];
            let inside: Vec<Vec<f64>> = points.iter().filter(|p| p.iter().all(|v| *v > 0.0)).cloned().collect();
            let found = hypervolume(&points, &reference).expect("valid");
            prop_assert!((found.value - by_inclusion_exclusion(&inside, &reference)).abs() < 1e-12);
            prop_assert_eq!(found.ignored.len(), points.len() - inside.len());
        }

        #[test]
        fn prop_the_order_of_points_and_objectives_does_not_matter(points in points_up_to(40), turn in 0usize..6) {
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
