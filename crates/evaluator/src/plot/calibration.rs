//! How often predicted preferences hold against how sure they are: a panel per objective, all of one scale.

use super::axis::{Frame, Range};
use super::fonts;
use super::palette::{self, GRID, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Face, Scene, Xy};
use crate::calibration::ObjectiveCalibration;

/// Around the panels.
const EDGE: f64 = 24.0;
const TOP: f64 = 78.0;
/// Within a panel: what stands around its plot.
const LEFT: f64 = 62.0;
const HEAD: f64 = 46.0;
const GAP: f64 = 10.0;
const STRIP: f64 = 44.0;
const FOOT: f64 = 46.0;
const RIGHT: f64 = 18.0;
const MARKER: f64 = 4.6;

/// Lays out the plot.
pub(super) fn scene(objectives: &[ObjectiveCalibration], title: &str) -> Scene {
    let columns = match objectives.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        3 | 5 | 6 | 9 => 3,
        _ => 4,
    };
    let side = if columns < 3 { 330.0 } else { 250.0 };
    let [wide, high] = [LEFT + side + RIGHT, HEAD + side + GAP + STRIP + FOOT];
    let rows = objectives.len().div_ceil(columns);
    // The headings need their room where there is a single panel.
    let width = (2.0 * EDGE + columns as f64 * wide).max(640.0);
    let height = TOP + rows as f64 * high + EDGE / 2.0;

    let mut scene = Scene::new((width, height)).described(title, String::new());
    let page = Area {
        left: 0.0,
        top: 0.0,
        right: width,
        bottom: height,
    };
    scene.area(page, PAPER);
    headings(&mut scene, title, width);
    let (x, y) = ranges(objectives);
    let first = (width - columns as f64 * wide) / 2.0;
    for (position, found) in objectives.iter().enumerate() {
        let left = first + (position % columns) as f64 * wide + LEFT;
        let top = TOP + (position / columns) as f64 * high + HEAD;
        let area = Area {
            left,
            top,
            right: left + side,
            bottom: top + side,
        };
        let frame = Frame { area, x, y };
        panel(&mut scene, &frame, found, position);
    }
    scene
}

/// The ranges that hold every panel: from a confidence of ½ on, in tenths.
fn ranges(objectives: &[ObjectiveCalibration]) -> (Range, Range) {
    let bins = || objectives.iter().flat_map(|found| &found.bins);
    let up = |value: f64| ((value * 10.0 - 1e-9).ceil() / 10.0).clamp(0.6, 1.0);
    let surest = up(bins().map(|bin| bin.range[1]).fold(0.5, f64::max));
    let best = (bins().map(|bin| bin.accuracy_interval[1])).fold(surest, f64::max);
    let worst = (bins().map(|bin| bin.accuracy_interval[0])).fold(0.5, f64::min);
    let x = Range {
        // Room for the markers of those that are hardly sure.
        low: 0.5 - 0.03 * (surest - 0.5),
        high: surest,
    };
    let y = Range {
        low: ((worst * 10.0 + 1e-9).floor() / 10.0).max(0.0),
        high: up(best),
    };
    (x, y)
}

fn face(em: f64, bold: bool) -> Face {
    let colour = if bold { INK } else { SOFT_INK };
    Face { em, bold, colour }
}

fn headings(scene: &mut Scene, title: &str, width: f64) {
    let title = fonts::shortened(title, 16.0, true, width - 2.0 * EDGE);
    scene.text(title, (EDGE, 30.0), Align::Left, face(16.0, true));
    for (line, text) in [
        "accuracy of preferences by their confidence, bins of equal counts, bars: 95 % intervals;",
        "dashed: calibrated, hollow: off by more than its bar; below: how many pairs have which confidence",
    ]
    .into_iter()
    .enumerate()
    {
        let baseline = 50.0 + 16.0 * line as f64;
        scene.text(text, (EDGE, baseline), Align::Left, face(11.5, false));
    }
}

fn panel(scene: &mut Scene, frame: &Frame, found: &ObjectiveCalibration, series: usize) {
    let Area {
        left, top, right, ..
    } = frame.area;
    let name = fonts::shortened(&found.objective, 13.0, true, right - left);
    scene.text(name, (left, top - 26.0), Align::Left, face(13.0, true));
    let summary = format!(
        "accuracy {:.3} ± {:.3}, ECE {:.3}, {} pairs",
        found.accuracy, found.accuracy_stderr, found.calibration_error, found.pairs
    );
    let summary = fonts::shortened(&summary, 11.0, false, right - left + RIGHT);
    scene.text(summary, (left, top - 10.0), Align::Left, face(11.0, false));

    axes(scene, frame);
    let diagonal = [0.5, frame.x.high.min(frame.y.high)].map(|c| frame.at(c, c));
    scene.dashed(&diagonal, &[5.0, 4.0], 1.6, NEUTRAL);
    for bin in &found.bins {
        let [low, high] = bin.accuracy_interval;
        bar(scene, frame, bin.confidence, [low, high], series);
    }
    let line: Vec<Xy> = (found.bins.iter())
        .map(|bin| frame.at(bin.confidence, bin.accuracy))
        .collect();
    let colour = palette::colour(series);
    scene.line(line, 1.4, colour.on_white(0.55));
    for bin in &found.bins {
        let [low, high] = bin.accuracy_interval;
        let calibrated = (low..=high).contains(&bin.confidence);
        let at = frame.at(bin.confidence, bin.accuracy);
        palette::marker(scene, series, at, MARKER, calibrated);
    }
    strip(scene, frame, found, series);
}

fn axes(scene: &mut Scene, frame: &Frame) {
    let Area {
        left,
        top,
        right,
        bottom,
    } = frame.area;
    let small = face(11.0, false);
    for (value, label) in frame.y.ticks(5) {
        let (_, y) = frame.at(0.5, value);
        scene.line(vec![(left, y), (right, y)], 1.0, GRID);
        scene.line(vec![(left - 4.0, y), (left, y)], 1.0, SOFT_INK);
        scene.text(
            label,
            (left - 8.0, y + 0.36 * small.em),
            Align::Right,
            small,
        );
    }
    let base = bottom + GAP + STRIP;
    for (value, label) in frame.x.ticks(5) {
        let (x, _) = frame.at(value, frame.y.low);
        scene.line(vec![(x, top), (x, bottom)], 1.0, GRID);
        scene.line(vec![(x, base), (x, base + 4.0)], 1.0, SOFT_INK);
        scene.text(label, (x, base + 17.0), Align::Centre, small);
    }
    let corner = vec![(left, top), (left, bottom), (right, bottom)];
    scene.line(corner, 1.2, SOFT_INK);
    scene.line(vec![(left, base), (right, base)], 1.2, SOFT_INK);
    let middle = (left + right) / 2.0;
    scene.text(
        "confidence",
        (middle, base + 34.0),
        Align::Centre,
        face(12.0, false),
    );
    scene.text_upwards(
        "accuracy",
        (left - 42.0, (top + bottom) / 2.0),
        Align::Centre,
        face(12.0, false),
    );
}

fn bar(scene: &mut Scene, frame: &Frame, confidence: f64, ends: [f64; 2], series: usize) {
    let colour = palette::colour(series).on_white(0.45);
    let [low, high] = ends.map(|end| frame.at(confidence, end));
    scene.line(vec![low, high], 1.3, colour);
    for (x, y) in [low, high] {
        scene.line(vec![(x - 3.0, y), (x + 3.0, y)], 1.3, colour);
    }
}

/// The histogram of confidences, as high as its highest column.
fn strip(scene: &mut Scene, frame: &Frame, found: &ObjectiveCalibration, series: usize) {
    let highest = found.histogram.iter().copied().max().unwrap_or(0).max(1);
    let base = frame.area.bottom + GAP + STRIP;
    let part = 0.5 / found.histogram.len() as f64;
    let colour = palette::colour(series).on_white(0.45);
    for (position, &count) in found.histogram.iter().enumerate() {
        let from = 0.5 + part * position as f64;
        if count == 0 || from >= frame.x.high - 1e-9 {
            continue;
        }
        let (left, _) = frame.at(from, frame.y.low);
        let (right, _) = frame.at(from + part, frame.y.low);
        let column = Area {
            left: left + 0.8,
            top: base - STRIP * count as f64 / highest as f64,
            right: right - 0.8,
            bottom: base,
        };
        scene.area(column, colour);
    }
    let top = base - STRIP;
    scene.text(
        highest.to_string(),
        (frame.area.left - 8.0, top + 8.0),
        Align::Right,
        face(9.5, false),
    );
    scene.text(
        "0",
        (frame.area.left - 8.0, base + 1.0),
        Align::Right,
        face(9.5, false),
    );
}

#[cfg(test)]
mod tests {
    use super::super::scene::Mark;
    use super::super::{calibration_png, calibration_svg};
    use super::*;
    use crate::calibration::{Comparison, LengthRule};

    /// Pairs of a model whose probabilities are `sharper` times as sure as they should be.
    fn objective(name: &str, pairs: u32, sharper: f64) -> ObjectiveCalibration {
        let comparisons: Vec<Comparison> = (0..pairs)
            .map(|i| {
                // Spread by the golden ratio, evenly and in no order.
                let spread = |k: f64| (f64::from(i) * k).fract();
                let margin = 4.0 * (spread(0.618_033_988_749_895) - 0.5);
                let truth = 1.0 / (1.0 + (-margin).exp());
                Comparison {
                    probability: 1.0 / (1.0 + (-margin * sharper).exp()),
                    label: f64::from(u8::from(spread(0.754_877_666_246_692) < truth)),
                    lengths: [10 + i as usize % 7, 10 + i as usize % 5],
                }
            })
            .collect();
        ObjectiveCalibration::new(name, &comparisons, LengthRule::Longer).expect("valid")
    }

    fn objectives(count: u32) -> Vec<ObjectiveCalibration> {
        (0..count)
            .map(|i| {
                objective(
                    &format!("<objective & {i}>"),
                    300 + 100 * i,
                    0.4 + 0.4 * f64::from(i % 5),
                )
            })
            .collect()
    }

    #[test]
    fn every_objective_has_its_panel_inside_the_page() {
        for count in [1, 2, 3, 5, 10] {
            let objectives = objectives(count);
            let scene = scene(&objectives, "Calibration");
            let (width, height) = scene.size;
            let names = scene.marks.iter().filter(
                |mark| matches!(mark, Mark::Text { text, .. } if text.starts_with("<objective")),
            );
            assert_eq!(names.count(), count as usize);
            for mark in &scene.marks {
                let points = match mark {
                    Mark::Line { points, .. } | Mark::Polygon { points, .. } => points.clone(),
                    Mark::Disc { centre, .. } => vec![*centre],
                    Mark::Text { at, .. } => vec![*at],
                };
                for (x, y) in points {
                    assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y));
                }
            }
        }
    }

    #[test]
    fn files_are_drawn_for_one_pair_as_for_many() {
        for objectives in [vec![objective("one", 1, 1.0)], objectives(2)] {
            let svg = calibration_svg(&objectives, "A <title>").expect("drawn");
            assert!(svg.contains("A &lt;title&gt;") && !svg.contains("NaN"));
            assert!(
                calibration_png(&objectives, "A title")
                    .expect("drawn")
                    .starts_with(b"\x89PNG")
            );
        }
    }
}
