//! Fronts of three objectives: each objective over the triangle of λ, and any two of them against each other.

use super::axis::{Frame, Range};
use super::fonts;
use super::pairs::{self, EDGE, Rim};
use super::palette::{self, GRID, INK, SOFT_INK};
use super::scene::{Align, Area, Face, Scene, Xy};
use crate::front::{Front, MethodFront};
use crate::text;

const WIDTH: f64 = 940.0;
const GAP: f64 = 18.0;
/// Of a cell with a triangle.
const CELL: f64 = (WIDTH - 2.0 * EDGE - 2.0 * GAP) / 3.0;
const SIDE: f64 = 196.0;
const RISE: f64 = SIDE * 0.866;
/// Above a triangle: the name and the upper corner's; below: the lower corners' and the scale.
const HEAD: f64 = 46.0;
const FOOT: f64 = 62.0;
/// So many methods have triangles of their own.
const MOST_METHODS: usize = 3;
const RIM: Rim = Rim {
    below: true,
    left: None,
    em: 10.5,
    ticks: 4,
};

const TEXT: Face = Face {
    em: 11.5,
    bold: false,
    colour: SOFT_INK,
};
const NAME: Face = Face {
    em: 13.0,
    bold: true,
    colour: INK,
};

/// Lays out the plot.
pub(super) fn scene(front: &Front, title: &str) -> Scene {
    let shown = &front.methods[..front.methods.len().min(MOST_METHODS)];
    let several = front.methods.len() > 1;
    let row = HEAD + RISE + FOOT + if several { 22.0 } else { 0.0 };
    let panel = 200.0;
    let entries = pairs::entries(front, RIM.em);
    let (left, below) = pairs::room(RIM, &pairs::ranges(front));
    // Taller than it can be, and cut below where it ends.
    let mut scene = Scene::new((WIDTH, 4000.0));
    let subtitle = "triangles: J_i at every measured λ, the darker the higher; below: one point per λ, hollow: dominated";
    let mut top = pairs::headings(&mut scene, title, subtitle, &entries) + 6.0;
    for method in shown {
        if several {
            let face = Face { em: 12.5, ..NAME };
            scene.text(&method.method, (EDGE, top + 14.0), Align::Left, face);
        }
        let from = top + if several { 22.0 } else { 0.0 };
        for i in 0..3 {
            triangle(
                &mut scene,
                front,
                method,
                i,
                (EDGE + i as f64 * (CELL + GAP), from),
            );
        }
        top += row;
    }
    if front.methods.len() > MOST_METHODS {
        let left_out = front.methods.len() - MOST_METHODS;
        let text = format!("Triangles of {left_out} more methods are left out.");
        scene.text(text, (EDGE, top + 10.0), Align::Left, TEXT);
        top += 20.0;
    }
    let ranges = pairs::ranges(front);
    for (place, [i, j]) in [[0, 1], [0, 2], [1, 2]].into_iter().enumerate() {
        let from = EDGE + place as f64 * (CELL + GAP) + left;
        let area = Area {
            left: from,
            top: top + 8.0,
            right: EDGE + place as f64 * (CELL + GAP) + CELL,
            bottom: top + 8.0 + panel,
        };
        let frame = Frame {
            area,
            x: ranges[i],
            y: ranges[j],
        };
        let rim = Rim {
            left: Some(left),
            ..RIM
        };
        pairs::panel(&mut scene, front, &frame, [i, j], rim);
    }
    scene.cut(top + 8.0 + panel + below + 14.0)
}

/// One objective over λ, in a cell with this upper left corner.
fn triangle(scene: &mut Scene, front: &Front, method: &MethodFront, i: usize, (left, top): Xy) {
    let middle = left + CELL / 2.0;
    let name = fonts::shortened(
        &format!("J\u{2002}{}", front.objectives[i]),
        NAME.em,
        true,
        CELL / 2.0 - 10.0,
    );
    scene.text(name, (left, top + 14.0), Align::Left, NAME);
    let corners = [
        (middle, top + HEAD),
        (middle - SIDE / 2.0, top + HEAD + RISE),
        (middle + SIDE / 2.0, top + HEAD + RISE),
    ];
    frame(scene, front, corners);
    let points = front.methods.iter().flat_map(|method| &method.points);
    let range = Range::of_objective(points, i);
    let places: Vec<Xy> = method
        .points
        .iter()
        .map(|point| place(&corners, &point.lambda))
        .collect();
    let radius = (0.47 * nearest(&places)).clamp(2.0, 10.0);
    for (point, &at) in method.points.iter().zip(&places) {
        scene.disc(at, radius + 0.8, SOFT_INK.on_white(0.7));
        scene.disc(at, radius, palette::shade(range.share(point.values[i])));
    }
    scale(scene, &range, (left, top + HEAD + RISE + 36.0));
}

/// The triangle, a grid of quarters, and a name at each corner.
fn frame(scene: &mut Scene, front: &Front, corners: [Xy; 3]) {
    for part in [0.25, 0.5, 0.75] {
        for i in 0..3 {
            let on = |other: usize| {
                let weight = |k: usize| {
                    if k == i {
                        part
                    } else if k == other {
                        1.0 - part
                    } else {
                        0.0
                    }
                };
                place(&corners, &[weight(0), weight(1), weight(2)])
            };
            scene.line(vec![on((i + 1) % 3), on((i + 2) % 3)], 1.0, GRID);
        }
    }
    let [a, b, c] = corners;
    scene.line(vec![a, b, c, a], 1.2, SOFT_INK.on_white(0.8));
    let room = CELL / 2.0 - 6.0;
    let name =
        |k: usize| fonts::shortened(&format!("λ {}", front.objectives[k]), TEXT.em, false, room);
    scene.text(name(0), (a.0, a.1 - 15.0), Align::Centre, TEXT);
    scene.text(name(1), (b.0 - 14.0, b.1 + 25.0), Align::Left, TEXT);
    scene.text(name(2), (c.0 + 14.0, c.1 + 25.0), Align::Right, TEXT);
}

/// The shades, with the numbers at both ends.
fn scale(scene: &mut Scene, range: &Range, (left, top): Xy) {
    const STEPS: usize = 40;
    const WIDE: f64 = 110.0;
    let decimals = (2.0 - range.spread().log10().floor()).clamp(0.0, 9.0) as usize;
    let middle = left + CELL / 2.0;
    for step in 0..STEPS {
        let at = |step: usize| middle - WIDE / 2.0 + WIDE * step as f64 / STEPS as f64;
        let area = Area {
            left: at(step),
            top,
            // To the end, under those that come: neighbours that only touch leave a gap in between.
            right: at(STEPS),
            bottom: top + 9.0,
        };
        scene.area(area, palette::shade(step as f64 / (STEPS - 1) as f64));
    }
    let number = |value: f64| text::number(value, decimals);
    scene.text(
        number(range.low),
        (middle - WIDE / 2.0 - 7.0, top + 9.0),
        Align::Right,
        TEXT,
    );
    scene.text(
        number(range.high),
        (middle + WIDE / 2.0 + 7.0, top + 9.0),
        Align::Left,
        TEXT,
    );
}

fn place(corners: &[Xy; 3], lambda: &[f64]) -> Xy {
    let sum = |of: fn(&Xy) -> f64| {
        corners
            .iter()
            .zip(lambda)
            .map(|(at, weight)| weight * of(at))
            .sum()
    };
    (sum(|at| at.0), sum(|at| at.1))
}

/// The least distance of two places; of one alone, infinite.
fn nearest(places: &[Xy]) -> f64 {
    let mut least = f64::INFINITY;
    for (k, a) in places.iter().enumerate() {
        for b in &places[..k] {
            least = least.min((a.0 - b.0).hypot(a.1 - b.1));
        }
    }
    least
}
