//! One standard error around a point, in two objectives at once: an ellipse, since the same records have measured both.
//!
//! It holds the points whose distance from the mean is at most 1, measured by the covariance of the two means. Its box is ± 1
//! standard error on each axis. Of means that are normal, 1 − e^(−1/2) lie in it: 39 %.

use std::f64::consts::TAU;

use super::axis::Frame;
use super::chosen;
use super::legend::{self, Entry};
use super::palette::INK;
use super::scene::{Colour, Scene, Xy};
use crate::front::{Front, FrontPoint, MethodFront};

/// Of more points in one picture than this only those at the ends and in the centre show their errors: all would be a thicket.
const MOST: usize = 24;
/// Of all lines: dark, since they lie on markers of any colour.
const COLOUR: Colour = INK;
const WIDTH: f64 = 0.9;

/// The points of a method that show their errors where objective `i` goes to the right and `j` upwards.
pub(super) fn shown<'a>(
    front: &Front,
    method: &'a MethodFront,
    [i, j]: [usize; 2],
) -> Vec<&'a FrontPoint> {
    if !are_chosen(front) {
        return method.points.iter().collect();
    }
    let ends = chosen::ends(method);
    let mut places: Vec<usize> = [i, j]
        .into_iter()
        .filter_map(|k| ends.get(k).copied())
        .collect();
    places.extend(chosen::centre(method, &ends));
    places.dedup();
    places
        .into_iter()
        .map(|place| &method.points[place])
        .collect()
}

/// Whether only some points show their errors.
fn are_chosen(front: &Front) -> bool {
    front
        .methods
        .iter()
        .map(|method| method.points.len())
        .sum::<usize>()
        > MOST
}

/// Draws the errors of all methods over their markers, where they reach out of these, whose radius is given: ellipses or, where
/// nobody kept how the two errors go together, a bar along each axis.
pub(super) fn draw(
    scene: &mut Scene,
    front: &Front,
    frame: &Frame,
    [i, j]: [usize; 2],
    radius: f64,
) {
    let points = front
        .methods
        .iter()
        .flat_map(|method| shown(front, method, [i, j]));
    for point in points {
        let (x, y) = frame.at(point.values[i], point.values[j]);
        for line in lines(frame, point, [i, j]) {
            if line.iter().any(|at| (at.0 - x).hypot(at.1 - y) > radius) {
                scene.line(line, WIDTH, COLOUR);
            }
        }
    }
}

/// The lines of the error of a point, in points of the page.
pub(super) fn lines(frame: &Frame, point: &FrontPoint, [i, j]: [usize; 2]) -> Vec<Vec<Xy>> {
    let (x, y) = (point.values[i], point.values[j]);
    let (dx, dy) = (point.stderr[i], point.stderr[j]);
    match point.correlation_of(i, j) {
        Some(rho) => {
            let around = ellipse([dx, dy], rho);
            vec![
                around
                    .map(|(right, up)| frame.at(x + right, y + up))
                    .collect(),
            ]
        }
        None => vec![
            vec![frame.at(x - dx, y), frame.at(x + dx, y)],
            vec![frame.at(x, y - dy), frame.at(x, y + dy)],
        ],
    }
}

/// The ellipse vᵀ C⁻¹ v = 1 of C = [dx², ρ dx dy; ρ dx dy, dy²]: the unit circle under the Cholesky factor of C.
fn ellipse([dx, dy]: [f64; 2], rho: f64) -> impl Iterator<Item = Xy> {
    const STEPS: usize = 36;
    let rest = (1.0 - rho * rho).max(0.0).sqrt();
    (0..=STEPS).map(move |step| {
        let (sin, cos) = (TAU * step as f64 / STEPS as f64).sin_cos();
        (dx * cos, dy * (rho * cos + rest * sin))
    })
}

/// What the lines mean, where there are any.
pub(super) fn entry<'a>(front: &Front) -> Option<Entry<'a>> {
    let points = || front.methods.iter().flat_map(|method| &method.points);
    if points().all(|point| point.stderr.iter().all(|stderr| *stderr == 0.0)) {
        return None;
    }
    let is_ellipse = points().all(|point| point.correlation.is_some());
    let which = match are_chosen(front) {
        true => " at the ends and in the centre of λ",
        false => "",
    };
    let what = match is_ellipse {
        true => "1 standard error of both means",
        false => "± 1 standard error",
    };
    Some(Entry {
        sample: Box::new(move |scene, (x, y)| {
            if is_ellipse {
                let around = ellipse([legend::SAMPLE - 3.0, 5.5], 0.5);
                scene.line(
                    around.map(|(right, up)| (x + right, y - up)).collect(),
                    WIDTH,
                    COLOUR,
                );
            } else {
                scene.line(vec![(x - 7.0, y), (x + 7.0, y)], WIDTH, COLOUR);
                scene.line(vec![(x, y - 7.0), (x, y + 7.0)], WIDTH, COLOUR);
            }
        }),
        text: format!("{what}{which}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::axis::Range;
    use super::super::scene::Area;
    use super::*;

    const CASES: [([f64; 2], f64); 5] = [
        ([0.3, 0.1], 0.0),
        ([0.3, 0.1], 0.6),
        ([0.02, 0.5], -0.9),
        ([1.0, 1.0], 0.99),
        ([2.0, 0.7], -1.0),
    ];

    #[test]
    fn its_box_is_one_standard_error_on_each_axis() {
        for ([dx, dy], rho) in CASES {
            let greatest = |of: fn(Xy) -> f64| ellipse([dx, dy], rho).map(of).fold(0.0, f64::max);
            // 36 corners miss the ends by less than 1 − cos(5°).
            let near = |found: f64, end: f64| found <= end * (1.0 + 1e-12) && found > 0.996 * end;
            assert!(near(greatest(|at| at.0), dx) && near(greatest(|at| -at.0), dx));
            assert!(near(greatest(|at| at.1), dy) && near(greatest(|at| -at.1), dy));
        }
    }

    /// Every corner is at a distance of 1, measured along the axes that C's eigenvectors are, in roots of its eigenvalues.
    #[test]
    fn its_axes_are_those_of_the_covariance() {
        for ([dx, dy], rho) in CASES.into_iter().filter(|(_, rho)| rho.abs() < 1.0) {
            let (a, b, c) = (dx * dx, dy * dy, rho * dx * dy);
            let half = 0.5 * (a - b).hypot(2.0 * c);
            let (large, small) = (0.5 * (a + b) + half, 0.5 * (a + b) - half);
            let (sin, cos) = (0.5 * (2.0 * c).atan2(a - b)).sin_cos();
            let (mut longest, mut shortest) = (0.0f64, f64::INFINITY);
            for (x, y) in ellipse([dx, dy], rho) {
                let (along, across) = (cos * x + sin * y, cos * y - sin * x);
                let distance = along * along / large + across * across / small;
                assert!((distance - 1.0).abs() < 1e-9, "{distance}");
                longest = longest.max(x.hypot(y));
                shortest = shortest.min(x.hypot(y));
            }
            assert!(longest <= large.sqrt() * (1.0 + 1e-12));
            assert!(shortest >= small.sqrt() * (1.0 - 1e-9));
        }
    }

    fn point(correlation: Option<Vec<Vec<f64>>>) -> FrontPoint {
        FrontPoint {
            lambda: vec![0.5, 0.5],
            values: vec![2.0, 3.0],
            stderr: vec![0.5, 0.25],
            correlation,
            ..FrontPoint::default()
        }
    }

    #[test]
    fn without_a_correlation_it_is_two_bars() {
        let range = Range {
            low: 0.0,
            high: 4.0,
        };
        let area = Area::around((20.0, 20.0), 20.0);
        let frame = Frame {
            area,
            x: range,
            y: range,
        };
        let bars = lines(&frame, &point(None), [0, 1]);
        assert_eq!(
            bars,
            [[(15.0, 10.0), (25.0, 10.0)], [(20.0, 12.5), (20.0, 7.5)]]
        );
        let around = lines(&frame, &point(Some(vec![vec![], vec![1.0]])), [0, 1]);
        assert_eq!(around.len(), 1);
        // Errors that are one: a line from corner to corner of the box. Upwards is less.
        assert_eq!((around[0][0], around[0][18]), ((25.0, 7.5), (15.0, 12.5)));
    }

    #[test]
    fn of_many_points_those_at_the_ends_and_the_centre_are_enough() {
        let points = |steps: u32| {
            let at = |step: u32| {
                let weight = f64::from(step) / f64::from(steps);
                FrontPoint {
                    lambda: vec![weight, 1.0 - weight],
                    ..point(None)
                }
            };
            (0..=steps).map(at).collect::<Vec<_>>()
        };
        let front = |steps: u32| {
            let method = crate::MethodPoints {
                method: "m".to_owned(),
                points: points(steps),
                ordering: Vec::new(),
                effects: Vec::new(),
                cost: None,
            };
            let names = ["a", "b"].map(str::to_owned);
            Front::new(names.to_vec(), vec![method], None, None).expect("valid")
        };
        let weights = |front: &Front| -> Vec<f64> {
            let shown = shown(front, &front.methods[0], [0, 1]);
            shown.iter().map(|point| point.lambda[0]).collect()
        };
        assert_eq!(weights(&front(4)), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(weights(&front(40)), [1.0, 0.0, 0.5]);
        let text = |steps| entry(&front(steps)).expect("there are errors").text;
        assert_eq!(text(4), "± 1 standard error");
        assert!(text(40).ends_with("at the ends and in the centre of λ"));
    }
}
