//! Fronts of any number of objectives, in parallel coordinates: one axis per objective, one line per
//! preference, in the colour of the objective that weighs most in it.

use super::axis::{Range, number};
use super::fonts;
use super::legend::{self, Entry, Sample};
use super::palette::{self, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Colour, Face, Scene, Xy};
use crate::front::{Front, FrontPoint};

const HEIGHT: f64 = 596.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 546.0;
const LEFT: f64 = 84.0;

/// Lays out the plot.
pub(super) fn scene(front: &Front, title: &str) -> Scene {
    let objectives = front.objectives.len();
    let gap = if objectives > 6 { 110.0 } else { 170.0 };
    let right = LEFT + gap * (objectives.max(3) - 1) as f64;
    let entries = entries(front);
    let legend_left = right + 60.0;
    let width = (legend_left + legend::size(&entries).0 + 20.0).max(720.0);

    let mut scene = Scene::new((width, HEIGHT));
    scene.area(
        Area {
            left: 0.0,
            top: 0.0,
            right: width,
            bottom: HEIGHT,
        },
        PAPER,
    );
    scene.text(
        fonts::shortened(title, 16.0, true, width - 80.0),
        (40.0, 30.0),
        Align::Left,
        Face {
            em: 16.0,
            bold: true,
            colour: INK,
        },
    );
    scene.text(
        "one line per preference λ; strong: non-dominated, pale: dominated; every axis has its own scale, higher is better",
        (40.0, 50.0),
        Align::Left,
        Face { em: 11.5, bold: false, colour: SOFT_INK },
    );

    let axes: Vec<Axis> = (0..objectives)
        .map(|objective| {
            let values = front
                .methods
                .iter()
                .flat_map(|m| &m.points)
                .map(|point| point.values[objective]);
            let share = if objectives > 1 {
                objective as f64 / (objectives - 1) as f64
            } else {
                0.5
            };
            Axis {
                x: LEFT + share * (right - LEFT),
                range: Range::of(values, 0.05),
            }
        })
        .collect();
    // Pale lines first: the front lies on top.
    for non_dominated in [false, true] {
        for (series, method) in front.methods.iter().enumerate() {
            for point in method
                .points
                .iter()
                .filter(|point| point.non_dominated == non_dominated)
            {
                draw_point(&mut scene, &axes, point, palette::dash(series));
            }
        }
    }
    for (axis, name) in axes.iter().zip(&front.objectives) {
        draw_axis(&mut scene, axis, name, gap);
    }
    legend::draw(&mut scene, &entries, (legend_left, TOP));
    let reference: Vec<String> = front
        .reference
        .iter()
        .map(|value| number(*value, 3))
        .collect();
    scene.text(
        format!("reference of the hypervolume: ({})", reference.join(", ")),
        (40.0, HEIGHT - 16.0),
        Align::Left,
        Face {
            em: 11.5,
            bold: false,
            colour: SOFT_INK,
        },
    );
    scene
}

struct Axis {
    x: f64,
    range: Range,
}

impl Axis {
    fn at(&self, value: f64) -> Xy {
        (self.x, BOTTOM - self.range.share(value) * (BOTTOM - TOP))
    }
}

fn draw_axis(scene: &mut Scene, axis: &Axis, name: &str, gap: f64) {
    let face = Face {
        em: 11.0,
        bold: false,
        colour: SOFT_INK,
    };
    scene.line(vec![(axis.x, TOP - 6.0), (axis.x, BOTTOM)], 1.4, SOFT_INK);
    for (value, label) in axis.range.ticks(6) {
        let (x, y) = axis.at(value);
        scene.line(vec![(x - 4.0, y), (x, y)], 1.0, SOFT_INK);
        // On paper of its own, since lines cross here.
        let width = face.em * fonts::width_in_em(&label, face.bold);
        scene.area(
            Area {
                left: x - 8.0 - width,
                top: y - 7.0,
                right: x - 6.0,
                bottom: y + 7.0,
            },
            PAPER,
        );
        scene.text(label, (x - 7.0, y + 0.36 * face.em), Align::Right, face);
    }
    let face = Face {
        em: 13.0,
        bold: true,
        colour: INK,
    };
    let name = fonts::shortened(&format!("J\u{2002}{name}"), face.em, face.bold, gap - 10.0);
    scene.text(name, (axis.x, TOP - 16.0), Align::Centre, face);
}

fn draw_point(scene: &mut Scene, axes: &[Axis], point: &FrontPoint, dash: &[f64]) {
    let colour = colour(point).on_white(if point.non_dominated { 0.9 } else { 0.3 });
    let line: Vec<Xy> = axes
        .iter()
        .zip(&point.values)
        .map(|(axis, value)| axis.at(*value))
        .collect();
    scene.dashed(
        &line,
        dash,
        if point.non_dominated { 1.8 } else { 1.2 },
        colour,
    );
    for at in line {
        scene.disc(at, 2.6, colour);
    }
}

/// The colour of the objective that weighs most; neutral where several do.
fn colour(point: &FrontPoint) -> Colour {
    let greatest = point
        .lambda
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let mut dominant = (0..point.lambda.len()).filter(|&i| point.lambda[i] > greatest - 1e-9);
    match (dominant.next(), dominant.next()) {
        (Some(objective), None) => palette::colour(objective),
        _ => NEUTRAL,
    }
}

fn entries<'a>(front: &'a Front) -> Vec<Entry<'a>> {
    let line = |colour: Colour, dash: &'static [f64]| -> Sample<'static> {
        Box::new(move |scene, (x, y)| {
            scene.dashed(
                &[(x - legend::SAMPLE, y), (x + legend::SAMPLE, y)],
                dash,
                2.2,
                colour,
            );
        })
    };
    let mut entries: Vec<Entry> = front
        .objectives
        .iter()
        .enumerate()
        .map(|(i, objective)| Entry {
            sample: line(palette::colour(i).on_white(0.9), &[]),
            text: format!("λ mostly {objective}"),
        })
        .collect();
    if front
        .methods
        .iter()
        .flat_map(|m| &m.points)
        .any(|point| colour(point) == NEUTRAL)
    {
        entries.push(Entry {
            sample: line(NEUTRAL, &[]),
            text: "no single one".to_owned(),
        });
    }
    for (series, method) in front.methods.iter().enumerate() {
        entries.push(Entry {
            sample: line(INK, palette::dash(series)),
            text: method.method.clone(),
        });
    }
    entries
}
