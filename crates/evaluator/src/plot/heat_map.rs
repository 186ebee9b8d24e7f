//! Every λ as a row: its weights, and what each method's objectives come to there.

use super::axis::Range;
use super::fonts;
use super::pairs::EDGE;
use super::palette::{self, INK, PAPER, SOFT_INK};
use super::scene::{Align, Area, Face, Scene};
use crate::front::{Front, MethodFront};

/// So many methods have a block of their own.
const MOST_METHODS: usize = 3;
const NAMES: f64 = 84.0;
const GAP: f64 = 26.0;

const TEXT: Face = Face {
    em: 10.0,
    bold: false,
    colour: INK,
};
const SOFT: Face = Face {
    em: 11.5,
    bold: false,
    colour: SOFT_INK,
};
const HEAD: Face = Face {
    em: 13.0,
    bold: true,
    colour: INK,
};

/// Draws the map from `top` on; gives where it ends.
pub(super) fn draw(scene: &mut Scene, front: &Front, top: f64) -> f64 {
    let (first, m) = (front.widest(), front.objectives.len());
    let shown: Vec<&MethodFront> = front
        .methods
        .iter()
        .filter(|method| method.is_at(first))
        .take(MOST_METHODS)
        .collect();
    scene.text(
        "λ and what it comes to",
        (EDGE, top + 13.0),
        Align::Left,
        HEAD,
    );
    let mut about = "a row for each λ; darker is more, each objective on its own scale".to_owned();
    if shown.len() < front.methods.len() {
        about += &format!(
            "; {} more methods are left out",
            front.methods.len() - shown.len()
        );
    }
    scene.text(about, (EDGE, top + 31.0), Align::Left, SOFT);

    let room = scene.size.0 - 2.0 * EDGE;
    let columns = ((shown.len() + 1) * m) as f64;
    let wide = ((room - GAP * shown.len() as f64) / columns).min(34.0);
    let high = (480.0 / first.points.len() as f64).clamp(4.0, 14.0);
    let from = top + 50.0 + NAMES;
    let weights = first
        .points
        .iter()
        .map(|point| point.lambda.clone())
        .collect();
    let whole = vec![
        Range {
            low: 0.0,
            high: 1.0
        };
        m
    ];
    let mut blocks: Vec<(String, Vec<Vec<f64>>, Vec<Range>)> =
        vec![("λ".to_owned(), weights, whole)];
    let points = || front.methods.iter().flat_map(|method| &method.points);
    let ranges: Vec<Range> = (0..m).map(|i| Range::of_objective(points(), i)).collect();
    for method in shown {
        let values = method
            .points
            .iter()
            .map(|point| point.values.clone())
            .collect();
        blocks.push((
            format!("J\u{2002}{}", method.method),
            values,
            ranges.clone(),
        ));
    }
    for (place, (name, rows, ranges)) in blocks.iter().enumerate() {
        let left = EDGE + place as f64 * (wide * m as f64 + GAP);
        let title = fonts::shortened(name, SOFT.em, false, wide * m as f64);
        scene.text(title, (left, top + 50.0), Align::Left, SOFT);
        for (i, objective) in front.objectives.iter().enumerate() {
            let x = left + wide * i as f64;
            let name = fonts::shortened(objective, TEXT.em, false, NAMES - 16.0);
            scene.text_upwards(
                name,
                (x + wide / 2.0 + 0.36 * TEXT.em, from - 6.0),
                Align::Left,
                TEXT,
            );
            column(
                scene,
                rows.iter().map(|row| ranges[i].share(row[i])),
                (x, from),
                (wide, high),
            );
        }
    }
    from + high * first.points.len() as f64
}

fn column(
    scene: &mut Scene,
    shares: impl Iterator<Item = f64>,
    (x, top): (f64, f64),
    (wide, high): (f64, f64),
) {
    for (row, share) in shares.enumerate() {
        let above = top + high * row as f64;
        let area = Area {
            left: x,
            top: above,
            right: x + wide,
            bottom: above + high,
        };
        scene.area(area, PAPER);
        // A thin line of paper keeps neighbours apart.
        let inner = Area {
            right: area.right - 1.0,
            bottom: area.bottom - (high / 8.0).min(1.0),
            ..area
        };
        scene.area(inner, palette::shade(share));
    }
}
