//! The front of two objectives in the plane.

use super::axis::{Frame, Range};
use super::errors;
use super::fonts;
use super::legend::{self, Entry};
use super::palette::{self, GRID, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Face, Scene, Xy};
use crate::front::{Front, FrontPoint, MethodFront};
use crate::text::preference;

const SIZE: Xy = (920.0, 640.0);
const AREA: Area = Area {
    left: 88.0,
    top: 66.0,
    right: 894.0,
    bottom: 572.0,
};
const MARKER: f64 = 5.2;

/// Lays out the plot.
pub(super) fn scene(front: &Front, title: &str) -> Scene {
    let frame = frame(front);
    let reference = reference(front, &frame);
    let obstacles = obstacles(front, &frame, reference);
    let entries = entries(front, reference.is_some());
    let legend = legend::free_place(AREA, legend::size(&entries), &obstacles);
    // Where the legend would cover something, it stands beside the plot.
    let (width, height) = legend::size(&entries);
    let (legend, page) = match legend {
        Some(corner) => (corner, SIZE),
        None => {
            let left = SIZE.0;
            let beside = Area {
                left,
                top: AREA.top,
                right: left + width,
                bottom: AREA.top + height,
            };
            (beside, (SIZE.0 + width + 20.0, SIZE.1))
        }
    };

    let mut scene = Scene::new(page);
    scene.area(
        Area {
            left: 0.0,
            top: 0.0,
            right: page.0,
            bottom: page.1,
        },
        PAPER,
    );
    headings(&mut scene, title);
    axes(&mut scene, &frame, &front.objectives);
    if let Some(exact) = &front.exact {
        let points = exact.values.iter().map(|v| frame.at(v[0], v[1])).collect();
        scene.line(points, 2.5, NEUTRAL.on_white(0.7));
    }
    if let Some(at) = reference {
        cross(&mut scene, at);
    }
    for (series, method) in front.methods.iter().enumerate() {
        let line: Vec<Xy> = sorted_front(method)
            .into_iter()
            .map(|point| at(&frame, point))
            .collect();
        scene.line(line, 2.0, palette::colour(series).on_white(0.75));
    }
    for (series, method) in front.methods.iter().enumerate() {
        // Hollow ones first: the front lies on top.
        for filled in [false, true] {
            for point in method
                .points
                .iter()
                .filter(|point| point.non_dominated == filled)
            {
                palette::marker(&mut scene, series, at(&frame, point), MARKER, filled);
            }
        }
    }
    errors::draw(&mut scene, front, &frame, [0, 1], MARKER);
    legend::draw(&mut scene, &entries, (legend.left, legend.top));
    annotate(&mut scene, front, &frame, &obstacles, legend);
    scene
}

/// The ranges that hold all points with their errors; and the reference where it is near.
fn frame(front: &Front) -> Frame {
    let range = |objective: usize| {
        let points = front.methods.iter().flat_map(|method| &method.points);
        let exact = front
            .exact
            .iter()
            .flat_map(|exact| &exact.values)
            .map(|values| values[objective]);
        let shown = Range::of_objective(points, objective).with(exact);
        let reference = front.reference[objective];
        // Farther away it would squeeze the front into a corner.
        let near = shown.low - 0.3 * shown.spread();
        let low = if (near..shown.low).contains(&reference) {
            reference
        } else {
            shown.low
        };
        Range::of([low, shown.high], 0.08)
    };
    Frame {
        area: AREA,
        x: range(0),
        y: range(1),
    }
}

fn headings(scene: &mut Scene, title: &str) {
    scene.text(
        fonts::shortened(title, 16.0, true, AREA.right - AREA.left),
        (AREA.left, 30.0),
        Align::Left,
        Face {
            em: 16.0,
            bold: true,
            colour: INK,
        },
    );
    scene.text(
        "one point per preference λ; filled: non-dominated, hollow: dominated",
        (AREA.left, 50.0),
        Align::Left,
        Face {
            em: 11.5,
            bold: false,
            colour: SOFT_INK,
        },
    );
}

fn axes(scene: &mut Scene, frame: &Frame, objectives: &[String]) {
    let Area {
        left,
        top,
        right,
        bottom,
    } = AREA;
    let face = Face {
        em: 12.0,
        bold: false,
        colour: SOFT_INK,
    };
    for (value, label) in frame.x.ticks(8) {
        let (x, _) = frame.at(value, frame.y.low);
        scene.line(vec![(x, top), (x, bottom)], 1.0, GRID);
        scene.line(vec![(x, bottom), (x, bottom + 5.0)], 1.0, SOFT_INK);
        scene.text(label, (x, bottom + 20.0), Align::Centre, face);
    }
    for (value, label) in frame.y.ticks(7) {
        let (_, y) = frame.at(frame.x.low, value);
        scene.line(vec![(left, y), (right, y)], 1.0, GRID);
        scene.line(vec![(left - 5.0, y), (left, y)], 1.0, SOFT_INK);
        scene.text(label, (left - 10.0, y + 0.36 * face.em), Align::Right, face);
    }
    scene.line(
        vec![(left, top), (left, bottom), (right, bottom)],
        1.2,
        SOFT_INK,
    );

    let face = Face {
        em: 14.0,
        bold: false,
        colour: INK,
    };
    let name = |objective: &str| {
        // An en space: the tail of the J makes a plain one look closed.
        let name = fonts::shortened(&format!("J\u{2002}{objective}"), face.em, face.bold, 320.0);
        format!("{name} (higher is better)")
    };
    scene.text(
        name(&objectives[0]),
        ((left + right) / 2.0, bottom + 48.0),
        Align::Centre,
        face,
    );
    scene.text_upwards(
        name(&objectives[1]),
        (26.0, (top + bottom) / 2.0),
        Align::Centre,
        face,
    );
}

/// The position of the reference, where it is in range.
fn reference(front: &Front, frame: &Frame) -> Option<Xy> {
    let [x, y] = [front.reference[0], front.reference[1]];
    (frame.x.contains(x) && frame.y.contains(y)).then(|| frame.at(x, y))
}

fn cross(scene: &mut Scene, (x, y): Xy) {
    let arm = 5.0;
    scene.line(vec![(x - arm, y - arm), (x + arm, y + arm)], 2.0, SOFT_INK);
    scene.line(vec![(x - arm, y + arm), (x + arm, y - arm)], 2.0, SOFT_INK);
}

/// λ at both ends of each method's grid.
fn annotate(scene: &mut Scene, front: &Front, frame: &Frame, obstacles: &[Area], legend: Area) {
    let em = 12.0;
    let mut labels = vec![legend];
    for (series, method) in front.methods.iter().enumerate() {
        let (Some(first), Some(last)) = (method.points.first(), method.points.last()) else {
            continue;
        };
        for point in [first, last].into_iter().take(method.points.len()) {
            let text = format!("λ = {}", preference(&point.lambda));
            let size = (em * fonts::width_in_em(&text, true), em);
            // Where there is no room, the label would hide more than it says.
            if let Some(place) = legend::beside(at(frame, point), size, AREA, obstacles, &labels) {
                let face = Face {
                    em,
                    bold: true,
                    colour: palette::colour(series),
                };
                scene.text(
                    text,
                    (place.left, place.bottom - 0.2 * em),
                    Align::Left,
                    face,
                );
                labels.push(place);
            }
        }
    }
}

fn entries<'a>(front: &'a Front, reference: bool) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry> = Vec::new();
    for (series, method) in front.methods.iter().enumerate() {
        entries.push(Entry {
            sample: Box::new(move |scene, (x, y)| {
                let line = vec![(x - legend::SAMPLE, y), (x + legend::SAMPLE, y)];
                scene.line(line, 2.0, palette::colour(series).on_white(0.75));
                palette::marker(scene, series, (x, y), MARKER, true);
            }),
            text: method.method.clone(),
        });
    }
    if front.exact.is_some() {
        entries.push(Entry {
            sample: Box::new(|scene, (x, y)| {
                let line = vec![(x - legend::SAMPLE, y), (x + legend::SAMPLE, y)];
                scene.line(line, 2.5, NEUTRAL.on_white(0.7));
            }),
            text: "exact front".to_owned(),
        });
    }
    entries.extend(errors::entry(front));
    if reference {
        entries.push(Entry {
            sample: Box::new(cross),
            text: "reference of the hypervolume".to_owned(),
        });
    }
    entries
}

/// What a legend or a label should not cover: markers, errors, lines between them, the reference.
fn obstacles(front: &Front, frame: &Frame, reference: Option<Xy>) -> Vec<Area> {
    let mut obstacles: Vec<Area> = reference
        .map(|at| Area::around(at, 6.0))
        .into_iter()
        .collect();
    let mut along = |line: &[Xy]| {
        for ends in line.windows(2) {
            let ((x0, y0), (x1, y1)) = (ends[0], ends[1]);
            let steps = ((x1 - x0).hypot(y1 - y0) / 6.0).ceil().clamp(1.0, 200.0) as usize;
            for step in 0..=steps {
                let share = step as f64 / steps as f64;
                obstacles.push(Area::around(
                    (x0 + share * (x1 - x0), y0 + share * (y1 - y0)),
                    2.0,
                ));
            }
        }
    };
    for method in &front.methods {
        along(
            &sorted_front(method)
                .into_iter()
                .map(|point| at(frame, point))
                .collect::<Vec<_>>(),
        );
        for point in errors::shown(front, method, [0, 1]) {
            errors::lines(frame, point, [0, 1])
                .iter()
                .for_each(|line| along(line));
        }
    }
    if let Some(exact) = &front.exact {
        along(
            &exact
                .values
                .iter()
                .map(|v| frame.at(v[0], v[1]))
                .collect::<Vec<_>>(),
        );
    }
    for point in front.methods.iter().flat_map(|method| &method.points) {
        obstacles.push(Area::around(at(frame, point), MARKER + 1.5));
    }
    obstacles
}

fn at(frame: &Frame, point: &FrontPoint) -> Xy {
    frame.at(point.values[0], point.values[1])
}

/// The non-dominated points in order of the first objective.
fn sorted_front(method: &MethodFront) -> Vec<&FrontPoint> {
    let mut front: Vec<&FrontPoint> = method
        .points
        .iter()
        .filter(|point| point.non_dominated)
        .collect();
    front.sort_by(|a, b| a.values[0].total_cmp(&b.values[0]));
    front
}
