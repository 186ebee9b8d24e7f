//! Curves over one common quantity, a panel each for several settings, with one legend for all.

use super::axis::{Frame, Range};
use super::fonts;
use super::palette::{self, GRID, INK, NEUTRAL, PAPER, SOFT_INK};
use super::scene::{Align, Area, Face, Scene, Xy};

/// What a line chart shows.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Above everything.
    pub title: String,
    /// Below the title: what the numbers are.
    pub subtitle: String,
    /// What x is, the same in all panels.
    pub x: String,
    /// What y is, the same in all panels.
    pub y: String,
    /// The names of the curves.
    pub curves: Vec<String>,
    /// The names of the levels: horizontal lines that the curves are compared with.
    pub levels: Vec<String>,
    /// From left to right, all of one scale.
    pub panels: Vec<Panel>,
}

/// One setting of a line chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What the setting is.
    pub title: String,
    /// The points (x, y) of every curve, in the order of their names and from left to right.
    pub curves: Vec<Vec<(f64, f64)>>,
    /// y of every level, in the order of their names.
    pub levels: Vec<f64>,
}

const EDGE: f64 = 24.0;
const TOP: f64 = 66.0;
/// Within a panel: what stands around its plot.
const LEFT: f64 = 54.0;
const HEAD: f64 = 34.0;
const FOOT: f64 = 48.0;
const RIGHT: f64 = 14.0;
/// The plot of a panel.
const WIDE: f64 = 250.0;
const HIGH: f64 = 250.0;
const MARKER: f64 = 3.4;
/// Of the legend.
const ROW: f64 = 20.0;
const SAMPLE: f64 = 28.0;
const GAP: f64 = 7.0;
const BETWEEN: f64 = 20.0;

const SMALL: Face = Face {
    em: 11.0,
    bold: false,
    colour: SOFT_INK,
};
const TEXT: Face = Face {
    em: 12.0,
    bold: false,
    colour: INK,
};

/// Lays out the chart.
pub(super) fn scene(chart: &LineChart) -> Scene {
    let columns = chart.panels.len().max(1) as f64;
    // The headings need their room where there is a single panel.
    let width = (2.0 * EDGE + columns * (LEFT + WIDE + RIGHT)).max(640.0);
    let rows = legend_rows(chart, width - 2.0 * EDGE);
    let top = TOP + ROW * rows.len() as f64 + HEAD;
    let height = top + HIGH + FOOT + EDGE / 2.0;
    let page = Area {
        left: 0.0,
        top: 0.0,
        right: width,
        bottom: height,
    };
    let mut scene = Scene::new((width, height)).described(&chart.title, chart.subtitle.clone());
    scene.area(page, PAPER);
    let heading = |scene: &mut Scene, text: &str, baseline: f64, face: Face| {
        let text = fonts::shortened(text, face.em, face.bold, width - 2.0 * EDGE);
        scene.text(text, (EDGE, baseline), Align::Left, face);
    };
    let title = Face {
        em: 16.0,
        bold: true,
        colour: INK,
    };
    heading(&mut scene, &chart.title, 30.0, title);
    heading(&mut scene, &chart.subtitle, 50.0, SMALL);
    for (row, entries) in rows.iter().enumerate() {
        legend_row(&mut scene, entries, TOP + ROW * row as f64 + 8.0);
    }
    let (x, y) = ranges(chart);
    for (place, panel) in chart.panels.iter().enumerate() {
        let left = EDGE + LEFT + place as f64 * (LEFT + WIDE + RIGHT);
        let area = Area {
            left,
            top,
            right: left + WIDE,
            bottom: top + HIGH,
        };
        axes(&mut scene, &Frame { area, x, y }, chart, place == 0);
        draw(&mut scene, &Frame { area, x, y }, panel);
    }
    scene
}

/// The ranges that hold every panel; y begins at 0 where nothing is below it.
fn ranges(chart: &LineChart) -> (Range, Range) {
    let points = || {
        chart
            .panels
            .iter()
            .flat_map(|panel| panel.curves.iter().flatten())
    };
    let levels = chart.panels.iter().flat_map(|panel| &panel.levels);
    let x = Range::of(points().map(|point| point.0), 0.03);
    let y = Range::of(points().map(|point| point.1).chain(levels.copied()), 0.06);
    let lowest = y.low + 0.06 / 1.12 * y.spread();
    let low = match lowest >= 0.0 {
        true => 0.0,
        false => y.low,
    };
    (x, Range { low, ..y })
}

/// What a row of the legend shows, and what stands behind it.
#[derive(Clone, Copy)]
enum Sample {
    Curve(usize),
    Level(usize),
}

/// The entries of the legend, in as many rows as it takes: it stands above the panels, where no line goes.
fn legend_rows(chart: &LineChart, width: f64) -> Vec<Vec<(Sample, f64, &str)>> {
    let curves = chart.curves.iter().enumerate();
    let curves = curves.map(|(place, name)| (Sample::Curve(place), name));
    let levels = chart.levels.iter().enumerate();
    let levels = levels.map(|(place, name)| (Sample::Level(place), name));
    let mut rows = vec![Vec::new()];
    let mut left = EDGE;
    for (sample, name) in curves.chain(levels) {
        let wide = SAMPLE + GAP + TEXT.em * fonts::width_in_em(name, false);
        if left > EDGE && left + wide > EDGE + width {
            rows.push(Vec::new());
            left = EDGE;
        }
        let last = rows.len() - 1;
        rows[last].push((sample, left, name.as_str()));
        left += wide + BETWEEN;
    }
    rows
}

fn legend_row(scene: &mut Scene, entries: &[(Sample, f64, &str)], middle: f64) {
    for &(sample, left, name) in entries {
        let ends = [(left, middle), (left + SAMPLE, middle)];
        match sample {
            Sample::Curve(place) => {
                curve(scene, ends.to_vec(), place);
                palette::marker(scene, place, (left + SAMPLE / 2.0, middle), MARKER, true);
            }
            Sample::Level(place) => level(scene, &ends, place),
        }
        let at = (left + SAMPLE + GAP, middle + 0.36 * TEXT.em);
        scene.text(name, at, Align::Left, TEXT);
    }
}

fn axes(scene: &mut Scene, frame: &Frame, chart: &LineChart, is_first: bool) {
    let Area {
        left,
        top,
        right,
        bottom,
    } = frame.area;
    for (value, label) in frame.y.ticks(6) {
        let (_, y) = frame.at(frame.x.low, value);
        scene.line(vec![(left, y), (right, y)], 1.0, GRID);
        scene.line(vec![(left - 4.0, y), (left, y)], 1.0, SOFT_INK);
        let at = (left - 8.0, y + 0.36 * SMALL.em);
        scene.text(label, at, Align::Right, SMALL);
    }
    for (value, label) in frame.x.ticks(5) {
        let (x, _) = frame.at(value, frame.y.low);
        scene.line(vec![(x, bottom), (x, bottom + 4.0)], 1.0, SOFT_INK);
        scene.text(label, (x, bottom + 17.0), Align::Centre, SMALL);
    }
    let corner = vec![(left, top), (left, bottom), (right, bottom)];
    scene.line(corner, 1.2, SOFT_INK);
    let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
    scene.text(&chart.x, (middle.0, bottom + 36.0), Align::Centre, SMALL);
    if is_first {
        scene.text_upwards(&chart.y, (left - 44.0, middle.1), Align::Centre, SMALL);
    }
}

fn draw(scene: &mut Scene, frame: &Frame, panel: &Panel) {
    let Area {
        left, top, right, ..
    } = frame.area;
    let bold = Face {
        em: 13.0,
        bold: true,
        colour: INK,
    };
    let title = fonts::shortened(&panel.title, bold.em, bold.bold, right - left);
    scene.text(title, (left, top - 12.0), Align::Left, bold);
    for (place, &value) in panel.levels.iter().enumerate() {
        let ends = [frame.x.low, frame.x.high].map(|x| frame.at(x, value));
        level(scene, &ends, place);
    }
    let at = |points: &[(f64, f64)]| -> Vec<Xy> {
        points.iter().map(|&(x, y)| frame.at(x, y)).collect()
    };
    // The first ones lie on top.
    for (place, points) in panel.curves.iter().enumerate().rev() {
        curve(scene, at(points), place);
    }
    for (place, points) in panel.curves.iter().enumerate().rev() {
        for centre in at(points) {
            palette::marker(scene, place, centre, MARKER, true);
        }
    }
}

fn curve(scene: &mut Scene, points: Vec<Xy>, place: usize) {
    scene.line(points, 1.8, palette::colour(place).on_white(0.8));
}

/// No level is a plain line, which curves are.
fn level(scene: &mut Scene, ends: &[Xy], place: usize) {
    scene.dashed(ends, palette::dash(place + 1), 1.8, NEUTRAL);
}

#[cfg(test)]
mod tests {
    use super::super::scene::Mark;
    use super::super::{lines_png, lines_svg};
    use super::*;

    fn chart(panels: usize) -> LineChart {
        let panel = |place: usize| {
            let falling = |by: f64| {
                let points = (0..=20).map(f64::from);
                points.map(|x| (x, 0.3 * (-by * x).exp())).collect()
            };
            Panel {
                title: format!("<setting & {place}>"),
                curves: [0.05, 0.1, 0.2, 0.4].map(falling).to_vec(),
                levels: vec![0.32, 0.1],
            }
        };
        LineChart {
            title: "A <title> & more".into(),
            subtitle: "means".into(),
            x: "answers".into(),
            y: "regret".into(),
            curves: ["one", "two", "three", "four"].map(str::to_owned).to_vec(),
            levels: ["above", "between"].map(str::to_owned).to_vec(),
            panels: (0..panels).map(panel).collect(),
        }
    }

    #[test]
    fn any_number_of_panels_is_drawn() {
        for panels in [0, 1, 3, 5] {
            let svg = lines_svg(&chart(panels)).expect("drawn");
            assert!(svg.contains("A &lt;title&gt; &amp; more"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
            assert_eq!(svg.matches("setting &amp;").count(), panels);
        }
        assert!(lines_png(&chart(3)).expect("drawn").starts_with(b"\x89PNG"));
    }

    #[test]
    fn everything_is_on_the_page_and_the_legend_above_the_plots() {
        let mut long = chart(1);
        // A legend of more than one row.
        long.curves[1] = "a name of many words that takes the better part of a whole row".into();
        for chart in [chart(3), long] {
            let scene = scene(&chart);
            let (mut lowest_text, mut highest_curve) = (0.0_f64, f64::MAX);
            for mark in &scene.marks {
                match mark {
                    Mark::Line { points, .. } | Mark::Polygon { points, .. } => {
                        for &(x, y) in points {
                            assert!((0.0..=scene.size.0).contains(&x), "{x}");
                            assert!((0.0..=scene.size.1).contains(&y), "{y}");
                        }
                        if points.len() == 21 {
                            let highest = points.iter().map(|point| point.1);
                            highest_curve = highest.fold(highest_curve, f64::min);
                        }
                    }
                    Mark::Text { text, at, .. } if chart.levels.contains(text) => {
                        lowest_text = lowest_text.max(at.1);
                    }
                    _ => {}
                }
            }
            assert!(lowest_text > 0.0 && lowest_text < highest_curve);
        }
    }

    #[test]
    fn y_begins_at_zero_unless_something_is_below() {
        let mut chart = chart(2);
        assert_eq!(ranges(&chart).1.low, 0.0);
        chart.panels[0].levels[0] = -0.1;
        assert!(ranges(&chart).1.low < -0.1);
    }
}
