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
    Colour(0x5a, 0x2d, 0x86),
    Colour(0x8c, 0x57, 0x49),
    Colour(0x97, 0x9f, 0x3a),
];

/// Where a value is in the range of its kind, from 0 to 1, as a shade: the greater, the darker, in grey print too.
pub(super) fn shade(share: f64) -> Colour {
    const LEAST: [f64; 3] = [227.0, 238.0, 246.0];
    const GREATEST: [f64; 3] = [10.0, 61.0, 98.0];
    let share = share.clamp(0.0, 1.0);
    let mix = |k: usize| (LEAST[k] + share * (GREATEST[k] - LEAST[k])).round() as u8;
    Colour(mix(0), mix(1), mix(2))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// How a protanope and a deuteranope see linear red, green and blue (Machado, Oliveira and Fernandes 2009, severity 1).
    const PROTANOPE: [[f64; 3]; 3] = [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ];
    const DEUTERANOPE: [[f64; 3]; 3] = [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ];
    const EVERYBODY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    /// A colour as somebody sees it, in CIE L*a*b* under D65.
    fn seen([r, g, b]: [u8; 3], by: [[f64; 3]; 3]) -> [f64; 3] {
        let linear = [r, g, b].map(|channel| {
            let c = f64::from(channel) / 255.0;
            match c <= 0.04045 {
                true => c / 12.92,
                false => ((c + 0.055) / 1.055).powf(2.4),
            }
        });
        let times = |row: [f64; 3], v: [f64; 3]| row[0] * v[0] + row[1] * v[1] + row[2] * v[2];
        let rgb = by.map(|row| times(row, linear).clamp(0.0, 1.0));
        let f = |t: f64| match t > 216.0 / 24389.0 {
            true => t.cbrt(),
            false => (24389.0 / 27.0 * t + 16.0) / 116.0,
        };
        let x = f(times([0.4124564, 0.3575761, 0.1804375], rgb) / 0.95047);
        let y = f(times([0.2126729, 0.7151522, 0.0721750], rgb));
        let z = f(times([0.0193339, 0.1191920, 0.9503041], rgb) / 1.08883);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// The least distance of two of these colours to any of the three.
    fn least_distance(colours: &[[u8; 3]]) -> f64 {
        let mut least = f64::INFINITY;
        for by in [EVERYBODY, PROTANOPE, DEUTERANOPE] {
            for (k, a) in colours.iter().enumerate() {
                for b in &colours[..k] {
                    let (a, b) = (seen(*a, by), seen(*b, by));
                    let squares = (0..3).map(|i| (a[i] - b[i]).powi(2));
                    least = least.min(squares.sum::<f64>().sqrt());
                }
            }
        }
        least
    }

    /// A difference of 2 is just seen side by side; these are small marks far apart.
    const TOLD_APART: f64 = 15.0;

    #[test]
    fn the_colours_differ_for_the_colour_blind() {
        let series = SERIES.map(|Colour(r, g, b)| [r, g, b]);
        assert!(
            least_distance(&series) >= TOLD_APART,
            "{}",
            least_distance(&series)
        );
        // Red and green of the same lightness are not told apart.
        assert!(least_distance(&[[0xb0, 0x4a, 0x00], [0x7d, 0x64, 0x00]]) < 6.0);
    }

    #[test]
    fn so_do_those_of_the_page_in_light_and_in_dark() {
        let mut looks: Vec<Vec<[u8; 3]>> = vec![Vec::new(), Vec::new()];
        let style = panacea_page::STYLE;
        for series in 0..6 {
            let name = format!("--series-{series}: #");
            for (look, part) in style.split(&name).skip(1).take(2).enumerate() {
                let channel = |k: usize| u8::from_str_radix(&part[k..k + 2], 16).expect("hex");
                looks[look].push([0, 2, 4].map(channel));
            }
        }
        for look in looks {
            assert_eq!(look.len(), 6);
            assert!(
                least_distance(&look) >= TOLD_APART,
                "{look:x?}: {}",
                least_distance(&look)
            );
        }
    }

    #[test]
    fn shades_grow_darker() {
        let grey = |share: f64| {
            let Colour(r, g, b) = shade(share);
            0.3 * f64::from(r) + 0.6 * f64::from(g) + 0.1 * f64::from(b)
        };
        assert!(grey(0.0) - grey(0.5) > 60.0 && grey(0.5) - grey(1.0) > 60.0);
        assert_eq!((shade(-1.0), shade(2.0)), (shade(0.0), shade(1.0)));
    }
}
