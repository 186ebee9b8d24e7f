//! Boxes of text that keep out of each other's way: the legend, and labels at points.

use super::fonts;
use super::palette::{GRID, INK, PAPER};
use super::scene::{Align, Area, Face, Scene, Xy};

/// Draws the sample of a legend's row around a position.
pub(super) type Sample<'a> = Box<dyn Fn(&mut Scene, Xy) + 'a>;

/// A row of a legend: a sample, and what stands behind it.
pub(super) struct Entry<'a> {
    pub sample: Sample<'a>,
    pub text: String,
}

const EM: f64 = 12.0;
const ROW: f64 = 20.0;
const PADDING: f64 = 10.0;
/// Half the width of a sample.
pub(super) const SAMPLE: f64 = 14.0;
const GAP: f64 = 8.0;

/// The size of a legend.
pub(super) fn size(entries: &[Entry]) -> Xy {
    let text = entries
        .iter()
        .map(|entry| EM * fonts::width_in_em(&entry.text, false))
        .fold(0.0, f64::max);
    (
        2.0 * PADDING + 2.0 * SAMPLE + GAP + text,
        2.0 * PADDING + ROW * entries.len() as f64 - 4.0,
    )
}

/// Draws a legend with its upper left corner at a position.
pub(super) fn draw(scene: &mut Scene, entries: &[Entry], (left, top): Xy) {
    let (width, height) = size(entries);
    let area = Area {
        left,
        top,
        right: left + width,
        bottom: top + height,
    };
    scene.area(area, PAPER);
    let corners = [
        (area.left, area.top),
        (area.right, area.top),
        (area.right, area.bottom),
        (area.left, area.bottom),
        (area.left, area.top),
    ];
    scene.line(corners.to_vec(), 1.0, GRID);
    for (row, entry) in entries.iter().enumerate() {
        let middle = top + PADDING + ROW * row as f64 + 8.0;
        (entry.sample)(scene, (left + PADDING + SAMPLE, middle));
        let face = Face {
            em: EM,
            bold: false,
            colour: INK,
        };
        scene.text(
            &entry.text,
            (left + PADDING + 2.0 * SAMPLE + GAP, middle + 0.36 * EM),
            Align::Left,
            face,
        );
    }
}

/// Draws entries side by side from a position, in as many rows as they take in this width; gives the height of these.
pub(super) fn rows(scene: &mut Scene, entries: &[Entry], (left, top): Xy, width: f64) -> f64 {
    let face = Face {
        em: EM,
        bold: false,
        colour: INK,
    };
    let (mut x, mut row) = (left, 0.0);
    for entry in entries {
        let wide = 2.0 * SAMPLE + GAP + EM * fonts::width_in_em(&entry.text, false);
        if x > left && x + wide > left + width {
            (x, row) = (left, row + 1.0);
        }
        let middle = top + ROW * row + 8.0;
        (entry.sample)(scene, (x + SAMPLE, middle));
        let text = (x + 2.0 * SAMPLE + GAP, middle + 0.36 * EM);
        scene.text(&entry.text, text, Align::Left, face);
        x += wide + 2.0 * GAP;
    }
    ROW * (row + 1.0)
}

/// A place in `area` where a box of this size covers no obstacle: a corner, or else somewhere between.
pub(super) fn free_place(area: Area, (width, height): Xy, obstacles: &[Area]) -> Option<Area> {
    /// Places from one end to the other.
    const STEPS: usize = 8;
    let margin = 10.0;
    let [across, down] = [
        area.right - area.left - 2.0 * margin - width,
        area.bottom - area.top - 2.0 * margin - height,
    ];
    let corners = [(0, STEPS), (STEPS, 0), (STEPS, STEPS), (0, 0)];
    let between = (0..=STEPS)
        .rev()
        .flat_map(|y| (0..=STEPS).map(move |x| (x, y)));
    let place = |(x, y): (usize, usize)| {
        let part = |room: f64, step: usize| margin + room * step as f64 / STEPS as f64;
        let (left, top) = (area.left + part(across, x), area.top + part(down, y));
        Area {
            left,
            top,
            right: left + width,
            bottom: top + height,
        }
    };
    let mut places = corners.into_iter().chain(between).map(place);
    places.find(|place| !obstacles.iter().any(|obstacle| place.meets(obstacle)))
}

/// Places a label of this size beside a point, outside of the obstacles and inside `area` if that can be;
/// `None` where it would cover another label.
pub(super) fn beside(
    (x, y): Xy,
    (width, height): Xy,
    area: Area,
    obstacles: &[Area],
    labels: &[Area],
) -> Option<Area> {
    let places = |gap: f64| {
        let [right, left, middle] = [x + gap, x - gap - width, x - width / 2.0];
        let [above, below, level] = [y - gap - height, y + gap, y - height / 2.0];
        // Above and to the right is away from what is worse; then the other sides.
        [
            (right, above),
            (right, level),
            (middle, above),
            (left, above),
            (right, below),
            (middle, below),
            (left, level),
            (left, below),
        ]
    };
    [places(8.0), places(16.0)]
        .concat()
        .into_iter()
        .map(|(left, top)| Area {
            left,
            top,
            right: left + width,
            bottom: top + height,
        })
        .filter(|place| !labels.iter().any(|label| label.meets(place)))
        .min_by_key(|place| {
            let covered = obstacles
                .iter()
                .filter(|obstacle| place.meets(obstacle))
                .count();
            covered + if area.contains(place) { 0 } else { 1000 }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Area = Area {
        left: 0.0,
        top: 0.0,
        right: 100.0,
        bottom: 100.0,
    };

    #[test]
    fn the_legend_goes_where_nothing_is() {
        let lower_left = Area::around((20.0, 80.0), 5.0);
        let corner = free_place(PAGE, (30.0, 20.0), &[lower_left]).expect("three are free");
        assert_eq!((corner.right, corner.top), (90.0, 10.0));
        assert_eq!(free_place(PAGE, (30.0, 20.0), &[PAGE]), None);
        // With all corners taken, it stands between two of them.
        let corners = [(5.0, 5.0), (95.0, 5.0), (5.0, 95.0), (95.0, 95.0)];
        let taken = corners.map(|at| Area::around(at, 12.0));
        let place = free_place(PAGE, (30.0, 20.0), &taken).expect("there is room");
        assert!(PAGE.contains(&place) && !taken.iter().any(|taken| taken.meets(&place)));
        assert_eq!((place.left, place.bottom), (22.5, 90.0));
    }

    #[test]
    fn labels_stay_inside_and_off_each_other() {
        let place = beside((95.0, 5.0), (30.0, 10.0), PAGE, &[], &[]).expect("a place");
        assert!(PAGE.contains(&place));
        assert_eq!(beside((50.0, 50.0), (30.0, 10.0), PAGE, &[], &[PAGE]), None);
    }
}
