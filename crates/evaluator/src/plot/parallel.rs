//! Selected λ in parallel coordinates, one axis per objective: where one objective alone counts, the centre, and the best of each
//! method. All λ together would be a thicket.

use super::axis::Range;
use super::chosen;
use super::fonts;
use super::legend::{self, Entry};
use super::pairs::{self, EDGE};
use super::palette::{self, INK, NEUTRAL, SOFT_INK};
use super::scene::{Align, Colour, Face, Scene, Xy};
use crate::front::{Front, FrontPoint, MethodFront};
use crate::text::number;

const HIGH: f64 = 280.0;
/// The numbers at the ends of an axis.
const END: Face = Face {
    em: 10.0,
    bold: false,
    colour: SOFT_INK,
};
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
        "a line for each ± 1 standard error, every axis on its own scale{}; λ of one objective and the centre: {}",
        if lines.iter().any(|line| line.point.exact.is_some()) {
            ", short strokes: the exact optimum"
        } else {
            ""
        },
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
    let from = top + 42.0 + legend::rows(scene, &entries, (EDGE, top + 42.0), room) + 40.0;

    let m = ranges.len();
    let gap = (room - 100.0) / (m.max(2) - 1) as f64;
    let x = |i: usize| EDGE + 50.0 + gap * (i as f64 + if m == 1 { 0.5 } else { 0.0 });
    let y = |i: usize, value: f64| from + HIGH * (1.0 - ranges[i].share(value));
    // Beside each other, or the errors of one would hide those of the next.
    let step = (0.5 * gap / lines.len() as f64).min(6.0);
    for (place, line) in lines.iter().enumerate() {
        let aside = step * (place as f64 - 0.5 * (lines.len() - 1) as f64);
        let values = line.point.values.iter().enumerate();
        let places: Vec<Xy> = values
            .map(|(i, value)| (x(i) + aside, y(i, *value)))
            .collect();
        scene.dashed(&places, line.dash, 1.6, line.colour);
        for (i, &(x, _)) in places.iter().enumerate() {
            let (value, error) = (line.point.values[i], line.point.stderr[i]);
            let whisker = vec![(x, y(i, value - error)), (x, y(i, value + error))];
            scene.line(whisker, 1.2, line.colour);
            scene.disc(places[i], 2.6, line.colour);
            if let Some(exact) = &line.point.exact {
                let y = y(i, exact.values[i]);
                scene.line(vec![(x - 4.5, y), (x + 4.5, y)], 1.6, line.colour);
            }
        }
    }
    for (i, name) in front.objectives.iter().enumerate() {
        axis(scene, &ranges[i], (x(i), from), name, gap);
    }
    from + HIGH + 20.0
}

/// With its name and its two ends, which no line crosses.
fn axis(scene: &mut Scene, range: &Range, (x, top): Xy, name: &str, gap: f64) {
    scene.line(vec![(x, top), (x, top + HIGH)], 1.2, SOFT_INK);
    let decimals = (2.0 - range.spread().log10().floor()).clamp(0.0, 9.0) as usize;
    for (value, baseline) in [(range.high, top - 6.0), (range.low, top + HIGH + 14.0)] {
        let end = number(value, decimals);
        scene.text(end, (x, baseline), Align::Centre, END);
    }
    let face = Face {
        em: 11.5,
        bold: true,
        colour: INK,
    };
    scene.text(
        fonts::shortened(name, face.em, true, (gap - 8.0).min(130.0)),
        (x, top - 21.0),
        Align::Centre,
        face,
    );
}

/// The places where one objective weighs most and the centre, of the widest method; and what is best of each method.
fn lines<'a>(front: &'a Front, ranges: &[Range]) -> Vec<Line<'a>> {
    let first = front.widest();
    let ends = match first.points.len() {
        // What is best is all that there is.
        1 => Vec::new(),
        _ => chosen::ends(first),
    };
    let end = |(i, place): (usize, &usize)| Line {
        point: &first.points[*place],
        colour: palette::colour(i),
        dash: palette::dash(usize::from(i > 4)),
        name: format!("λ {}", front.objectives[i]),
    };
    let mut lines: Vec<Line<'_>> = ends.iter().enumerate().map(end).collect();
    if let Some(centre) = chosen::centre(first, &ends) {
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
