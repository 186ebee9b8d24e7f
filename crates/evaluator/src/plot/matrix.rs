//! Fronts of four objectives and more: any two against each other, selected λ in parallel coordinates, and all λ as a heat map.

use super::axis::{Frame, Range};
use super::heat_map;
use super::pairs::{self, EDGE, Rim};
use super::parallel;
use super::scene::{Area, Scene};
use crate::front::Front;

const WIDTH: f64 = 980.0;
const BETWEEN: f64 = 4.0;

/// Lays out the plot.
pub(super) fn scene(front: &Front, title: &str) -> Scene {
    let ranges = pairs::ranges(front);
    let mut scene = Scene::new((WIDTH, 8000.0));
    let subtitle = "one point per preference λ, higher is better; hollow: dominated in all objectives together";
    let entries = pairs::entries(front, 10.0);
    let top = pairs::headings(&mut scene, title, subtitle, &entries) + 8.0;
    let top = panels(&mut scene, front, &ranges, top) + 30.0;
    let top = parallel::draw(&mut scene, front, &ranges, top) + 30.0;
    let bottom = heat_map::draw(&mut scene, front, top);
    scene.cut(bottom + 16.0)
}

/// Objective k + 1 upwards in row k, all before it from left to right; gives where they end.
fn panels(scene: &mut Scene, front: &Front, ranges: &[Range], top: f64) -> f64 {
    let count = ranges.len() - 1;
    let (em, ticks) = if count > 5 { (8.5, 2) } else { (10.0, 3) };
    let mut rim = Rim {
        below: true,
        left: None,
        em,
        ticks,
    };
    let (left, below) = pairs::room(rim, ranges);
    let wide = ((WIDTH - 2.0 * EDGE - left) / count as f64 - BETWEEN).min(200.0);
    let high = if count > 5 { 0.72 * wide } else { 0.8 * wide };
    for row in 0..count {
        for column in 0..=row {
            let from = EDGE + left + column as f64 * (wide + BETWEEN);
            let above = top + row as f64 * (high + BETWEEN);
            let area = Area {
                left: from,
                top: above,
                right: from + wide,
                bottom: above + high,
            };
            rim.below = row + 1 == count;
            rim.left = (column == 0).then_some(left);
            let frame = Frame {
                area,
                x: ranges[column],
                y: ranges[row + 1],
            };
            pairs::panel(scene, front, &frame, [column, row + 1], rim);
        }
    }
    top + count as f64 * (high + BETWEEN) + below
}
