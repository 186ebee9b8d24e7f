//! The hypervolume indicator, exact.

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

    let mut boxes = Boxes {
        sides: Vec::new(),
        dimension: reference.len(),
    };
    let mut ignored = Vec::new();
    for (position, point) in points.iter().enumerate() {
        let sides = point
            .iter()
            .zip(reference)
            .map(|(value, reference)| value - reference);
        if sides.clone().all(|side| side > 0.0) {
            boxes.sides.extend(sides);
        } else {
            ignored.push(position);
        }
    }
    // Sweeping costs less than looking for boxes in boxes.
    if boxes.dimension > 3 {
        boxes.drop_contained();
    }
    Ok(Hypervolume {
        value: union_volume(&boxes),
        ignored,
    })
}

/// Boxes [0, b] of one dimension: their sides, box after box.
struct Boxes {
    sides: Vec<f64>,
    dimension: usize,
}

impl Boxes {
    fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.sides.chunks_exact(self.dimension)
    }

    fn get(&self, index: usize) -> &[f64] {
        &self.sides[index * self.dimension..(index + 1) * self.dimension]
    }

    /// Drops the boxes that lie in another one.
    fn drop_contained(&mut self) {
        // The largest first: no later box contains an earlier one, and most are dropped at the first comparison.
        let mut order: Vec<(f64, usize)> = self
            .iter()
            .map(|sides| sides.iter().sum())
            .zip(0..)
            .collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut kept: Vec<f64> = Vec::with_capacity(self.sides.len());
        for (_, index) in order {
            let sides = self.get(index);
            if !kept
                .chunks_exact(self.dimension)
                .any(|other| contains(other, sides))
            {
                kept.extend_from_slice(sides);
            }
        }
        self.sides = kept;
    }
}

/// Whether the box with sides `a` contains the one with sides `b`.
fn contains(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a >= b)
}

/// The volume of the union of boxes.
///
/// The idea of WFG (While, Bradstreet, Barone 2012): box by box, its volume less the part that the boxes
/// after it cover, which is again a union of boxes, each cut to the box. With the boxes in ascending
/// order of their last side, every cut box has the last side of the box that cuts: it is factored out and
/// the union is of one dimension less. Three dimensions are swept, and so are the cuts of four.
fn union_volume(boxes: &Boxes) -> f64 {
    let last = boxes.dimension - 1;
    match last {
        0 => return boxes.sides.iter().copied().fold(0.0, f64::max),
        1 => return union_area(boxes),
        2 => return sweep(boxes),
        3 => return cut_and_sweep(boxes),
        _ => {}
    }
    let mut order: Vec<&[f64]> = boxes.iter().collect();
    order.sort_unstable_by(|a, b| a[last].total_cmp(&b[last]));
    let mut volume = 0.0;
    for (position, sides) in order.iter().enumerate() {
        let mut cut = Boxes {
            sides: Vec::with_capacity((order.len() - position - 1) * last),
            dimension: last,
        };
        for later in &order[position + 1..] {
            let sides = later[..last].iter().zip(*sides);
            cut.sides.extend(sides.map(|(a, b)| a.min(*b)));
        }
        cut.drop_contained();
        let own: f64 = sides[..last].iter().product();
        volume += sides[last] * (own - union_volume(&cut));
    }
    volume
}

/// The area of the union of rectangles [0, a] × [0, b]: from the widest to the narrowest, each adds a strip above
/// the ones before.
fn union_area(rectangles: &Boxes) -> f64 {
    let mut order: Vec<&[f64]> = rectangles.iter().collect();
    order.sort_unstable_by(|a, b| b[0].total_cmp(&a[0]));
    let (mut area, mut height) = (0.0, 0.0);
    for rectangle in order {
        if rectangle[1] > height {
            area += rectangle[0] * (rectangle[1] - height);
            height = rectangle[1];
        }
    }
    area
}

/// The volume of the union of boxes of three dimensions.
fn sweep(boxes: &Boxes) -> f64 {
    let mut order: Vec<&[f64]> = boxes.iter().collect();
    order.sort_unstable_by(|a, b| b[2].total_cmp(&a[2]));
    let boxes = order.iter().map(|sides| [sides[0], sides[1], sides[2]]);
    Stairs::default().sweep(boxes, [f64::INFINITY; 2])
}

/// The volume of the union of boxes of four dimensions, as by [`union_volume`]. What was sorted by height stays sorted
/// when it is cut, so that it is sorted once for all boxes.
fn cut_and_sweep(boxes: &Boxes) -> f64 {
    let mut order: Vec<&[f64]> = boxes.iter().collect();
    order.sort_unstable_by(|a, b| a[3].total_cmp(&b[3]));
    let mut by_height: Vec<(usize, &[f64])> = order.iter().copied().enumerate().collect();
    by_height.sort_unstable_by(|(_, a), (_, b)| b[2].total_cmp(&a[2]));
    let mut stairs = Stairs::default();
    let mut volume = 0.0;
    for (position, sides) in order.iter().enumerate() {
        let later = by_height.iter().filter(|(other, _)| *other > position);
        let cut = later.map(|(_, later)| [0, 1, 2].map(|side| later[side].min(sides[side])));
        let covered = stairs.sweep(cut, [sides[0], sides[1]]);
        volume += sides[3] * (sides[0] * sides[1] * sides[2] - covered);
    }
    volume
}

/// The union of rectangles [0, x] × [0, y]: its corners, x ascending and y descending, and its area.
#[derive(Default)]
struct Stairs {
    corners: Vec<(f64, f64)>,
    area: f64,
}

impl Stairs {
    /// The volume of the union of boxes that come from the highest to the lowest, none of them wider than `full`:
    /// between two heights it is the area of the union of all rectangles above, which grows by one at a time (Beume,
    /// Fonseca, López-Ibáñez, Paquete, Vahrenhold 2009).
    fn sweep(&mut self, boxes: impl Iterator<Item = [f64; 3]>, full: [f64; 2]) -> f64 {
        self.corners.clear();
        self.area = 0.0;
        let (mut volume, mut height) = (0.0, 0.0);
        for [x, y, z] in boxes {
            volume += self.area * (height - z);
            height = z;
            self.add(x, y);
            if [x, y] == full {
                break; // Whatever is lower lies below this one.
            }
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
        self.corners.splice(left..right, [(x, y)]);
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
