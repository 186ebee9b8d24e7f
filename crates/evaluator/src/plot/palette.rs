//! Colours and markers that differ also without colour vision and in grey print.

use super::scene::{Colour, Scene, Xy};

pub(super) const INK: Colour = Colour(0x22, 0x26, 0x2b);
pub(super) const SOFT_INK: Colour = Colour(0x5c, 0x63, 0x6b);
pub(super) const GRID: Colour = Colour(0xea, 0xec, 0xee);
pub(super) const PAPER: Colour = Colour(0xff, 0xff, 0xff);
/// For what belongs to no series: the exact front, the reference, a preference without a dominant objective.
pub(super) const NEUTRAL: Colour = Colour(0x8a, 0x90, 0x96);

/// The colours of Okabe and Ito ("Color Universal Design", 2008), strongest contrasts first, without their
/// yellow, which does not stand out from white paper; then three more, for as many objectives as ten.
const SERIES: [Colour; 10] = [
    Colour(0x00, 0x72, 0xb2),
    Colour(0xd5, 0x5e, 0x00),
    Colour(0x00, 0x9e, 0x73),
    Colour(0xcc, 0x79, 0xa7),
    Colour(0xe6, 0x9f, 0x00),
    Colour(0x56, 0xb4, 0xe9),
    Colour(0x4d, 0x4d, 0x4d),
    Colour(0x6a, 0x3d, 0x9a),
    Colour(0x8c, 0x56, 0x4b),
    Colour(0x9a, 0xa5, 0x00),
];

/// The colour of a series.
pub(super) fn colour(series: usize) -> Colour {
    SERIES[series % SERIES.len()]
}

/// Stroke and gap lengths that tell lines of one colour apart; the first is a plain line.
pub(super) fn dash(series: usize) -> &'static [f64] {
    const DASHES: [&[f64]; 4] = [&[], &[7.0, 4.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0]];
    DASHES[series % DASHES.len()]
}

/// Draws the marker of a series: filled, or with a white inside.
pub(super) fn marker(scene: &mut Scene, series: usize, centre: Xy, radius: f64, filled: bool) {
    let colour = colour(series);
    // A white rim keeps touching markers apart.
    shape(scene, series, centre, radius + 1.2, PAPER);
    shape(scene, series, centre, radius, colour);
    if !filled {
        shape(scene, series, centre, radius - 1.6, PAPER);
    }
}

fn shape(scene: &mut Scene, series: usize, (x, y): Xy, radius: f64, colour: Colour) {
    // Corners of the shape in units of the radius; scaled so that all shapes weigh about the same.
    let corners: &[Xy] = match series % 5 {
        0 => return scene.disc((x, y), radius, colour),
        1 => &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        2 => &[(0.0, -1.3), (1.15, 0.75), (-1.15, 0.75)],
        3 => &[(0.0, -1.3), (1.2, 0.0), (0.0, 1.3), (-1.2, 0.0)],
        _ => &[(0.0, 1.3), (1.15, -0.75), (-1.15, -0.75)],
    };
    scene.polygon(
        corners
            .iter()
            .map(|(dx, dy)| (x + radius * dx, y + radius * dy))
            .collect(),
        colour,
    );
}
