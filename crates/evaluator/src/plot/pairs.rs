//! One objective against another in a small panel, with its errors; several panels make a picture of many objectives.

use super::axis::{Frame, Range};
use super::errors;
use super::fonts;
use super::legend::{self, Entry};
use super::palette::{self, GRID, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Face, Scene, Xy};
use crate::front::Front;

/// What stands around a panel.
#[derive(Clone, Copy)]
pub(super) struct Rim {
    /// The numbers and the name of x below.
    pub below: bool,
    /// The numbers of y to the left, and its name that far away.
    pub left: Option<f64>,
    /// The em of the numbers; names have a little more.
    pub em: f64,
    /// About as many numbers on each axis.
    pub ticks: usize,
}

/// The range of each objective over all methods and the exact front.
pub(super) fn ranges(front: &Front) -> Vec<Range> {
    let points = || front.methods.iter().flat_map(|method| &method.points);
    let range = |i: usize| {
        let at_points = points().filter_map(|point| Some(&point.exact.as_ref()?.values));
        let exact = front
            .exact
            .iter()
            .flat_map(|exact| &exact.values)
            .chain(at_points);
        let shown = Range::of_objective(points(), i).with(exact.map(|values| values[i]));
        Range::of([shown.low, shown.high], 0.05)
    };
    (0..front.objectives.len()).map(range).collect()
}

/// Objective `i` to the right and `j` upwards.
pub(super) fn panel(scene: &mut Scene, front: &Front, frame: &Frame, [i, j]: [usize; 2], rim: Rim) {
    axes(scene, frame, rim);
    names(scene, front, frame.area, [i, j], rim);
    for values in front.exact.iter().flat_map(|exact| &exact.values) {
        scene.disc(
            frame.at(values[i], values[j]),
            exact_radius(rim),
            NEUTRAL.on_white(0.6),
        );
    }
    for (series, method) in front.methods.iter().enumerate() {
        for filled in [false, true] {
            let shown = method.points.iter().filter(|p| p.non_dominated == filled);
            for point in shown {
                let at = frame.at(point.values[i], point.values[j]);
                palette::marker(scene, series, at, radius(rim), filled);
            }
        }
    }
    errors::draw(scene, front, frame, [i, j], radius(rim));
}

fn radius(rim: Rim) -> f64 {
    0.3 * rim.em
}

fn exact_radius(rim: Rim) -> f64 {
    0.45 * rim.em
}

fn axes(scene: &mut Scene, frame: &Frame, rim: Rim) {
    let Area {
        left,
        top,
        right,
        bottom,
    } = frame.area;
    let face = Face {
        em: rim.em,
        bold: false,
        colour: SOFT_INK,
    };
    for (value, label) in frame.x.ticks(rim.ticks) {
        let (x, _) = frame.at(value, frame.y.low);
        scene.line(vec![(x, top), (x, bottom)], 1.0, GRID);
        let wide = 0.5 * face.em * fonts::width_in_em(&label, false);
        // A number at an edge would run into the next panel's.
        if rim.below && x - wide > left - 4.0 && x + wide < right + 4.0 {
            scene.text(label, (x, bottom + 1.4 * rim.em), Align::Centre, face);
        }
    }
    for (value, label) in frame.y.ticks(rim.ticks) {
        let (_, y) = frame.at(frame.x.low, value);
        scene.line(vec![(left, y), (right, y)], 1.0, GRID);
        if rim.left.is_some() && y - 0.5 * rim.em > top - 4.0 && y + 0.5 * rim.em < bottom + 4.0 {
            scene.text(label, (left - 5.0, y + 0.36 * rim.em), Align::Right, face);
        }
    }
    let border = [
        (left, top),
        (right, top),
        (right, bottom),
        (left, bottom),
        (left, top),
    ];
    scene.line(border.to_vec(), 1.0, SOFT_INK.on_white(0.6));
}

/// Room that the rim takes: to the left, and below.
pub(super) fn room(rim: Rim, ranges: &[Range]) -> Xy {
    let labels = ranges.iter().flat_map(|range| range.ticks(rim.ticks));
    let widest = labels.map(|(_, label)| rim.em * fonts::width_in_em(&label, false));
    let left = widest.fold(0.0, f64::max) + 12.0 + 1.8 * rim.em;
    (left, 3.6 * rim.em)
}

fn names(scene: &mut Scene, front: &Front, area: Area, [i, j]: [usize; 2], rim: Rim) {
    let face = Face {
        em: rim.em + 1.0,
        bold: false,
        colour: INK,
    };
    let name = |k: usize, room: f64| fonts::shortened(&front.objectives[k], face.em, false, room);
    let middle = (
        (area.left + area.right) / 2.0,
        (area.top + area.bottom) / 2.0,
    );
    if rim.below {
        let name = name(i, area.right - area.left);
        scene.text(
            name,
            (middle.0, area.bottom + 3.1 * rim.em),
            Align::Centre,
            face,
        );
    }
    if let Some(left) = rim.left {
        let name = name(j, area.bottom - area.top);
        scene.text_upwards(
            name,
            (area.left - left + 1.2 * rim.em, middle.1),
            Align::Centre,
            face,
        );
    }
}

/// A legend's entry for each method and, where it is known, for the exact front.
pub(super) fn entries(front: &Front, em: f64) -> Vec<Entry<'_>> {
    let rim = Rim {
        below: false,
        left: None,
        em,
        ticks: 0,
    };
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (series, method) in front.methods.iter().enumerate() {
        entries.push(Entry {
            sample: Box::new(move |scene, at| palette::marker(scene, series, at, 4.5, true)),
            text: method.method.clone(),
        });
    }
    if front.exact.is_some() {
        entries.push(Entry {
            sample: Box::new(move |scene, at| {
                scene.disc(at, exact_radius(rim), NEUTRAL.on_white(0.6))
            }),
            text: "exact front at the same λ".to_owned(),
        });
    }
    entries.extend(errors::entry(front));
    entries
}

/// The title, what the picture shows and its legend, at the top; gives where they end.
pub(super) fn headings(
    scene: &mut Scene,
    title: &str,
    subtitle: &str,
    entries: &[Entry<'_>],
) -> f64 {
    let (width, height) = scene.size;
    scene.area(
        Area {
            left: 0.0,
            top: 0.0,
            right: width,
            bottom: height,
        },
        PAPER,
    );
    let room = width - 2.0 * EDGE;
    let bold = Face {
        em: 16.0,
        bold: true,
        colour: INK,
    };
    scene.text(
        fonts::shortened(title, bold.em, true, room),
        (EDGE, 30.0),
        Align::Left,
        bold,
    );
    let soft = Face {
        em: 11.5,
        bold: false,
        colour: SOFT_INK,
    };
    scene.text(
        fonts::shortened(subtitle, soft.em, false, room),
        (EDGE, 50.0),
        Align::Left,
        soft,
    );
    64.0 + legend::rows(scene, entries, (EDGE, 64.0), room)
}

/// Around a picture.
pub(super) const EDGE: f64 = 24.0;
