//! Plots of a front, of the calibration of reward models, and of curves, as SVG and as PNG.
//!
//! A plot is laid out once, as a scene of marks in points, and then drawn by a backend: what a file
//! format needs does not reach the layout. Text is set in DejaVu Sans, which is part of the binary, so
//! that a machine without any font draws the same picture.

mod axis;
mod calibration;
mod chosen;
mod errors;
mod fonts;
mod front_2d;
mod heat_map;
mod legend;
mod lines;
mod matrix;
mod pairs;
mod palette;
mod parallel;
mod render;
mod scene;
mod simplex;

use crate::calibration::ObjectiveCalibration;
use crate::report::numbers;
use crate::{EvaluatorError, Front, MethodFront};
use scene::Scene;

pub use lines::{LineChart, Panel};

/// The plot of a front as an SVG document: for two objectives the front in the plane, for three a triangle of λ for each and any
/// two against each other, for more any two against each other, selected λ in parallel coordinates and all of them as a heat map.
///
/// # Errors
/// When the drawing fails.
pub fn svg(front: &Front, title: &str) -> Result<String, EvaluatorError> {
    render::svg(&scene(front, title))
}

/// The same plot as the bytes of a PNG file.
///
/// # Errors
/// When the drawing fails.
pub fn png(front: &Front, title: &str) -> Result<Vec<u8>, EvaluatorError> {
    render::png(&scene(front, title))
}

/// How often predicted preferences hold against how sure they are, one panel per objective, as an SVG document.
///
/// # Errors
/// When the drawing fails.
pub fn calibration_svg(
    objectives: &[ObjectiveCalibration],
    title: &str,
) -> Result<String, EvaluatorError> {
    render::svg(&calibration::scene(objectives, title))
}

/// The same plot as the bytes of a PNG file.
///
/// # Errors
/// When the drawing fails.
pub fn calibration_png(
    objectives: &[ObjectiveCalibration],
    title: &str,
) -> Result<Vec<u8>, EvaluatorError> {
    render::png(&calibration::scene(objectives, title))
}

/// Curves, a panel for each setting, as an SVG document.
///
/// # Errors
/// When the drawing fails.
pub fn lines_svg(chart: &LineChart) -> Result<String, EvaluatorError> {
    render::svg(&lines::scene(chart))
}

/// The same plot as the bytes of a PNG file.
///
/// # Errors
/// When the drawing fails.
pub fn lines_png(chart: &LineChart) -> Result<Vec<u8>, EvaluatorError> {
    render::png(&lines::scene(chart))
}

fn scene(front: &Front, title: &str) -> Scene {
    let scene = match front.objectives.len() {
        0 | 1 => parallel::scene(front, title),
        2 => front_2d::scene(front, title),
        3 => simplex::scene(front, title),
        _ => matrix::scene(front, title),
    };
    scene.described(title, described(front))
}

/// What the points of each method come to, and what the front says, in words.
fn described(front: &Front) -> String {
    let method = |method: &MethodFront| {
        let range = |(i, objective): (usize, &String)| {
            let values = || method.points.iter().map(|point| point.values[i]);
            let ends = [values().reduce(f64::min), values().reduce(f64::max)];
            let [low, high] = ends.map(|end| end.map_or_else(numbers::dash, numbers::number));
            format!("{objective} from {low} to {high}")
        };
        let ranges: Vec<String> = front.objectives.iter().enumerate().map(range).collect();
        let (name, points) = (&method.method, method.points.len());
        format!("{name}, {points} preferences: {}.", ranges.join(", "))
    };
    let methods = front.methods.iter().map(method);
    methods.chain(front.verdict()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExactFront, FrontPoint, MethodPoints};
    use panacea_objectives::simplex_grid;

    /// Points on a sphere, with the names of methods and objectives hostile to XML.
    fn front(objectives: usize, methods: usize) -> Front {
        let names = (0..objectives)
            .map(|i| format!("<objective & {i}>"))
            .collect();
        let methods = (0..methods)
            .map(|method| MethodPoints {
                method: format!("method \"{method}\" <b>"),
                points: simplex_grid(objectives, 4)
                    .iter()
                    .map(|preference| FrontPoint {
                        lambda: preference.weights().to_vec(),
                        values: preference
                            .weights()
                            .iter()
                            .map(|w| w.sqrt() - 0.1 * method as f64)
                            .collect(),
                        stderr: vec![0.02; objectives],
                        ..FrontPoint::default()
                    })
                    .collect(),
                ordering: Vec::new(),
                effects: Vec::new(),
                cost: None,
            })
            .collect();
        let exact =
            (objectives == 2).then(|| ExactFront::new(vec![vec![0.0, 1.2], vec![1.2, 0.0]]));
        Front::new(names, methods, None, exact).expect("valid")
    }

    #[test]
    fn every_number_of_objectives_and_methods_is_drawn() {
        for (objectives, methods) in [(1, 1), (2, 1), (2, 7), (3, 2), (3, 7), (4, 1), (10, 2)] {
            let front = front(objectives, methods);
            let svg = svg(&front, "A <title> & more").expect("drawn");
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
            assert!(
                svg.contains("A &lt;title&gt; &amp; more"),
                "text is escaped"
            );
            assert!(svg.contains("objective &amp; 0"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn who_does_not_see_it_is_told() {
        let svg = svg(&front(3, 1), "A <title> & more").expect("drawn");
        let [opening, title, desc] = [0, 1, 2].map(|line| svg.lines().nth(line).expect("a line"));
        assert!(opening.contains("role=\"img\""), "{opening}");
        assert_eq!(title, "<title>A &lt;title&gt; &amp; more</title>");
        let range = "&lt;objective &amp; 0&gt; from 0.0000 to 1.0000";
        let expected = format!("<desc>method \"0\" &lt;b&gt;, 15 preferences: {range}, ");
        assert!(desc.starts_with(&expected), "{desc}");
    }

    #[test]
    fn a_front_of_one_single_point_is_drawn() {
        let point = FrontPoint {
            lambda: vec![0.5, 0.5],
            values: vec![0.0, 0.0],
            stderr: vec![0.0, 0.0],
            ..FrontPoint::default()
        };
        let method = MethodPoints {
            method: "m".into(),
            points: vec![point],
            ordering: Vec::new(),
            effects: Vec::new(),
            cost: None,
        };
        let front =
            Front::new(vec!["a".into(), "b".into()], vec![method], None, None).expect("valid");
        assert!(!svg(&front, "").expect("drawn").contains("NaN"));
    }

    #[test]
    fn the_png_shows_text_without_any_font_of_the_system() {
        let bytes = png(&front(2, 2), "Title").expect("drawn");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes))
            .read_info()
            .expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small enough")];
        let info = reader.next_frame(&mut pixels).expect("one frame");
        assert!(info.width >= 1600 && info.height >= 1000);
        // The title is the only thing in the first rows, and it is dark on white.
        let rows = &pixels[..info.width as usize * 3 * 60];
        let dark = rows
            .chunks(3)
            .filter(|pixel| pixel.iter().all(|channel| *channel < 100))
            .count();
        assert!(dark > 100, "{dark} dark pixels in the title");
    }
}
