//! Selected λ in parallel coordinates, one axis per objective: where one objective alone counts, the centre, and the best of each
//! method. All λ together would be a thicket.

use super::axis::Range;
use super::fonts;
use super::legend::{self, Entry};
use super::pairs::{self, EDGE};
use super::palette::{self, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Colour, Face, Scene, Xy};
use crate::effects::places;
use crate::front::{Front, FrontPoint, MethodFront};

const HIGH: f64 = 250.0;
const HEAD: Face = Face {
    em: 13.0,
    bold: true,
    colour: INK,
};
const SOFT: Face = Face {
    em: 11.5,
    bold: false,
    colour: SOFT_INK,
};

/// A page of its own, for a single objective.
pub(super) fn scene(front: &Front, title: &str) -> Scene {
    let mut scene = Scene::new((720.0, 4000.0));
    let subtitle = "the better, the higher";
    let top = pairs::headings(&mut scene, title, subtitle, &[]);
    let bottom = draw(&mut scene, front, &pairs::ranges(front), top);
    scene.cut(bottom + 16.0)
}

/// A line of the picture.
struct Line<'a> {
    point: &'a FrontPoint,
    colour: Colour,
    dash: &'static [f64],
    name: String,
}

/// Draws the axes, the lines and their legend from `top` on; gives where they end.
pub(super) fn draw(scene: &mut Scene, front: &Front, ranges: &[Range], top: f64) -> f64 {
    let lines = lines(front, ranges);
    scene.text("Selected λ", (EDGE, top + 13.0), Align::Left, HEAD);
    let about = format!(
        "a line for each; every axis has its own scale; λ of one objective and the centre: {}",
        front.methods[0].method
    );
    let room = scene.size.0 - 2.0 * EDGE;
    scene.text(
        fonts::shortened(&about, SOFT.em, false, room),
        (EDGE, top + 31.0),
        Align::Left,
        SOFT,
    );
    let entries: Vec<Entry<'_>> = lines.iter().map(entry).collect();
    let from = top + 42.0 + legend::rows(scene, &entries, (EDGE, top + 42.0), room) + 34.0;

    let m = ranges.len();
    let gap = (room - 70.0) / m.max(2) as f64;
    let x = |i: usize| EDGE + 50.0 + gap * (i as f64 + if m == 1 { 0.5 } else { 0.0 });
    let at = |i: usize, value: f64| -> Xy { (x(i), from + HIGH * (1.0 - ranges[i].share(value))) };
    for line in &lines {
        let places: Vec<Xy> = (0..m).map(|i| at(i, line.point.values[i])).collect();
        scene.dashed(&places, line.dash, 2.0, line.colour);
        for place in places {
            scene.disc(place, 3.0, line.colour);
        }
    }
    for (i, name) in front.objectives.iter().enumerate() {
        axis(scene, &ranges[i], (x(i), from), name, gap);
    }
    from + HIGH + 8.0
}

fn axis(scene: &mut Scene, range: &Range, (x, top): Xy, name: &str, gap: f64) {
    let face = Face {
        em: 10.0,
        bold: false,
        colour: SOFT_INK,
    };
    scene.line(vec![(x, top - 4.0), (x, top + HIGH)], 1.2, SOFT_INK);
    for (value, label) in range.ticks(4) {
        let y = top + HIGH * (1.0 - range.share(value));
        scene.line(vec![(x - 4.0, y), (x, y)], 1.0, SOFT_INK);
        // On paper of its own, since lines cross here.
        let width = face.em * fonts::width_in_em(&label, false);
        let paper = Area {
            left: x - 8.0 - width,
            top: y - 6.5,
            right: x - 5.5,
            bottom: y + 6.5,
        };
        scene.area(paper, PAPER);
        scene.text(label, (x - 7.0, y + 0.36 * face.em), Align::Right, face);
    }
    let face = Face {
        em: 11.5,
        bold: true,
        colour: INK,
    };
    scene.text(
        fonts::shortened(name, face.em, true, gap - 8.0),
        (x, top - 14.0),
        Align::Centre,
        face,
    );
}

/// The places where one objective weighs most and the centre, of the first method; and what is best of each method.
fn lines<'a>(front: &'a Front, ranges: &[Range]) -> Vec<Line<'a>> {
    let first = &front.methods[0];
    let lambdas: Vec<&[f64]> = first.points.iter().map(|point| &point.lambda[..]).collect();
    let ends = places(&lambdas, ranges.len()).unwrap_or_default();
    let end = |(i, place): (usize, &usize)| Line {
        point: &first.points[*place],
        colour: palette::colour(i),
        dash: palette::dash(usize::from(i > 4)),
        name: format!("λ {}", front.objectives[i]),
    };
    let mut lines: Vec<Line<'_>> = ends.iter().enumerate().map(end).collect();
    if let Some(centre) = centre(first, &ends) {
        lines.push(Line {
            point: &first.points[centre],
            colour: NEUTRAL,
            dash: &[],
            name: "λ in the centre".to_owned(),
        });
    }
    for (series, method) in front.methods.iter().enumerate() {
        if let (Some(point), true) = (best(method, ranges), ranges.len() > 1) {
            let name = format!("best on average, {}", method.method);
            lines.push(Line {
                point,
                colour: INK,
                dash: palette::dash(series + 1),
                name,
            });
        }
    }
    lines
}

/// The point that is nearest to equal weights, where it is none of the ends.
fn centre(method: &MethodFront, ends: &[usize]) -> Option<usize> {
    let distance = |point: &FrontPoint| -> f64 {
        let equal = 1.0 / point.lambda.len() as f64;
        point
            .lambda
            .iter()
            .map(|weight| (weight - equal).powi(2))
            .sum()
    };
    let all = method.points.iter().map(distance).enumerate();
    let nearest = all.min_by(|a, b| a.1.total_cmp(&b.1));
    nearest
        .map(|(place, _)| place)
        .filter(|place| !ends.contains(place))
}

/// The point that is highest on average over the axes.
fn best<'a>(method: &'a MethodFront, ranges: &[Range]) -> Option<&'a FrontPoint> {
    let height = |point: &FrontPoint| -> f64 {
        ranges
            .iter()
            .zip(&point.values)
            .map(|(range, value)| range.share(*value))
            .sum()
    };
    method
        .points
        .iter()
        .max_by(|a, b| height(a).total_cmp(&height(b)))
}

fn entry<'a>(line: &Line<'_>) -> Entry<'a> {
    let (colour, dash) = (line.colour, line.dash);
    Entry {
        sample: Box::new(move |scene, (x, y)| {
            scene.dashed(
                &[(x - legend::SAMPLE, y), (x + legend::SAMPLE, y)],
                dash,
                2.2,
                colour,
            );
        }),
        text: line.name.clone(),
    }
}
