//! A scene, drawn into an SVG document or a PNG file.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color as _, FontDesc, FontFamily, FontTransform, RGBColor, ShapeStyle, TextStyle,
};

use super::fonts;
use super::scene::{Align, Colour, Face, Mark, Scene, Xy};
use crate::EvaluatorError;

/// Backend units per point in an SVG: backends count in whole units, and tenths of a point are fine enough.
const SVG_UNITS: f64 = 10.0;
/// Pixels per point of a PNG: sharp on dense screens and in print.
const PNG_PIXELS: usize = 2;
/// Samples per pixel and direction: the bitmap backend smooths little by itself.
const SAMPLES: usize = 3;

/// How a backend sets text: by which size it knows an em, and how far below the given position (the top
/// of the line) the baseline comes to lie. Read off plotters 0.3.7.
struct TextMetrics {
    size_per_em: f64,
    baseline_in_em: f64,
}

const SVG_TEXT: TextMetrics = TextMetrics {
    size_per_em: 1.24,
    baseline_in_em: 0.76,
};
const BITMAP_TEXT: TextMetrics = TextMetrics {
    size_per_em: fonts::LINE_PER_EM,
    baseline_in_em: fonts::LINE_PER_EM / 2.0,
};

/// The scene as an SVG document.
pub(super) fn svg(scene: &Scene) -> Result<String, EvaluatorError> {
    let (width, height) = scene.size;
    let [wide, high] = [width, height].map(|length| (length * SVG_UNITS).round() as u32);
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, (wide, high));
        draw(scene, &mut backend, SVG_UNITS, &SVG_TEXT)?;
    }
    // The document counts in backend units; its size on the page is in points.
    let document = document.replacen(
        &format!("width=\"{wide}\" height=\"{high}\""),
        &format!("width=\"{width}\" height=\"{height}\" role=\"img\""),
        1,
    );
    // What a screen reader says comes first in it.
    let told = [("title", &scene.title), ("desc", &scene.description)];
    let told = told.into_iter().filter(|(_, text)| !text.is_empty());
    let told: String = told
        .map(|(tag, text)| format!("<{tag}>{}</{tag}>\n", escaped(text)))
        .collect();
    let start = document.find('>').map_or(0, |end| end + 1);
    let (opening, rest) = document.split_at(start);
    Ok(format!(
        "{opening}\n{told}{}",
        rest.trim_start_matches('\n')
    ))
}

/// Text as XML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The scene as a PNG file.
pub(super) fn png(scene: &Scene) -> Result<Vec<u8>, EvaluatorError> {
    let scale = PNG_PIXELS * SAMPLES;
    let [wide, high] =
        [scene.size.0, scene.size.1].map(|length| length.round() as usize * PNG_PIXELS);
    let mut samples = vec![255u8; wide * high * SAMPLES * SAMPLES * 3];
    {
        let size = ((wide * SAMPLES) as u32, (high * SAMPLES) as u32);
        let mut backend = BitMapBackend::with_buffer(&mut samples, size);
        draw(scene, &mut backend, scale as f64, &BITMAP_TEXT)?;
    }
    let pixels = averaged(&samples, wide, high);

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, wide as u32, high as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let failed = |error: png::EncodingError| EvaluatorError::Plot(format!("as a PNG: {error}"));
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

/// The mean of the samples of each pixel.
fn averaged(samples: &[u8], wide: usize, high: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(wide * high * 3);
    for y in 0..high {
        for x in 0..wide {
            for channel in 0..3 {
                let mut sum = 0usize;
                for sy in 0..SAMPLES {
                    let row = (y * SAMPLES + sy) * wide * SAMPLES;
                    for sx in 0..SAMPLES {
                        sum += usize::from(samples[(row + x * SAMPLES + sx) * 3 + channel]);
                    }
                }
                pixels.push(((sum + SAMPLES * SAMPLES / 2) / (SAMPLES * SAMPLES)) as u8);
            }
        }
    }
    pixels
}

fn draw<B: DrawingBackend>(
    scene: &Scene,
    backend: &mut B,
    scale: f64,
    metrics: &TextMetrics,
) -> Result<(), EvaluatorError> {
    fonts::load()?;
    let unit =
        |(x, y): Xy| -> (i32, i32) { ((x * scale).round() as i32, (y * scale).round() as i32) };
    for mark in &scene.marks {
        match mark {
            Mark::Line {
                points,
                width,
                colour,
            } => {
                let style = stroke(*colour, (width * scale).round().max(1.0) as u32);
                backend.draw_path(points.iter().copied().map(unit), &style)
            }
            Mark::Polygon { points, colour } => backend.fill_polygon(
                points.iter().copied().map(unit),
                &stroke(*colour, 1).filled(),
            ),
            Mark::Disc {
                centre,
                radius,
                colour,
            } => {
                let radius = (radius * scale).round() as u32;
                backend.draw_circle(unit(*centre), radius, &stroke(*colour, 1).filled(), true)
            }
            Mark::Text {
                text,
                at,
                align,
                face,
                upwards,
            } => {
                let drop = metrics.baseline_in_em * face.em;
                // The top of a line that is read upwards is to the left of its baseline.
                let top = if *upwards {
                    (at.0 - drop, at.1)
                } else {
                    (at.0, at.1 - drop)
                };
                backend.draw_text(
                    text,
                    &text_style(*align, face, *upwards, scale * metrics.size_per_em),
                    unit(top),
                )
            }
        }
        .map_err(|error| EvaluatorError::Plot(error.to_string()))?;
    }
    backend
        .present()
        .map_err(|error| EvaluatorError::Plot(error.to_string()))
}

fn stroke(colour: Colour, width: u32) -> ShapeStyle {
    ShapeStyle::from(RGBColor(colour.0, colour.1, colour.2)).stroke_width(width)
}

fn text_style(align: Align, face: &Face, upwards: bool, size_per_em: f64) -> TextStyle<'static> {
    let horizontal = match align {
        Align::Left => HPos::Left,
        Align::Centre => HPos::Center,
        Align::Right => HPos::Right,
    };
    let turn = if upwards {
        FontTransform::Rotate270
    } else {
        FontTransform::None
    };
    let font = FontDesc::new(
        FontFamily::Name(fonts::FAMILY),
        face.em * size_per_em,
        fonts::style(face.bold),
    );
    TextStyle {
        font: font.transform(turn),
        color: RGBColor(face.colour.0, face.colour.1, face.colour.2).to_backend_color(),
        pos: Pos::new(horizontal, VPos::Top),
    }
}
