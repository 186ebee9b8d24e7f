//! What is on a plot, in points from its upper left corner.

/// An opaque colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// The colour seen where this one lies on white with the given opacity: an opaque colour looks the
    /// same in every backend.
    pub(super) fn on_white(self, opacity: f64) -> Self {
        let mix = |channel: u8| (255.0 - opacity * (255.0 - f64::from(channel))).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }
}

/// A position, or an extent.
pub(super) type Xy = (f64, f64);

/// Where a text stands with respect to its position on the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Face {
    /// The em, in points.
    pub em: f64,
    pub bold: bool,
    pub colour: Colour,
}

/// One thing on a plot.
#[derive(Clone, Debug)]
pub(super) enum Mark {
    Line {
        points: Vec<Xy>,
        width: f64,
        colour: Colour,
    },
    Polygon {
        points: Vec<Xy>,
        colour: Colour,
    },
    Disc {
        centre: Xy,
        radius: f64,
        colour: Colour,
    },
    /// `upwards`: turned by a quarter to the left, to be read from below to above.
    Text {
        text: String,
        at: Xy,
        align: Align,
        face: Face,
        upwards: bool,
    },
}

/// A plot: its marks in the order in which they are drawn.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// What it is called, and what it shows, in words for who does not see it.
    pub title: String,
    pub description: String,
    pub size: Xy,
    pub marks: Vec<Mark>,
}

impl Scene {
    pub(super) fn new(size: Xy) -> Self {
        Self {
            title: String::new(),
            description: String::new(),
            size,
            marks: Vec::new(),
        }
    }

    /// The same with words for who does not see it.
    pub(super) fn described(self, title: &str, description: String) -> Self {
        Self {
            title: title.to_owned(),
            description,
            ..self
        }
    }

    /// The same marks on a page of this height.
    pub(super) fn cut(mut self, height: f64) -> Self {
        if let Some(Mark::Polygon { points, .. }) = self.marks.first_mut() {
            for (_, y) in points {
                *y = y.min(height);
            }
        }
        self.size.1 = height;
        self
    }

    pub(super) fn line(&mut self, points: Vec<Xy>, width: f64, colour: Colour) {
        self.marks.push(Mark::Line {
            points,
            width,
            colour,
        });
    }

    /// A line in dashes; `dash` holds the lengths of stroke and gap in turn, and is a plain line if empty.
    pub(super) fn dashed(&mut self, points: &[Xy], dash: &[f64], width: f64, colour: Colour) {
        if dash.is_empty() {
            return self.line(points.to_vec(), width, colour);
        }
        let (mut part, mut left) = (0, dash[0]);
        for ends in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (ends[0], ends[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            let at = |d: f64| (x0 + (x1 - x0) * d / length, y0 + (y1 - y0) * d / length);
            let mut done = 0.0;
            while done < length {
                let step = left.min(length - done);
                if part % 2 == 0 {
                    self.line(vec![at(done), at(done + step)], width, colour);
                }
                done += step;
                left -= step;
                if left <= 0.0 {
                    part = (part + 1) % dash.len();
                    left = dash[part];
                }
            }
        }
    }

    pub(super) fn polygon(&mut self, points: Vec<Xy>, colour: Colour) {
        self.marks.push(Mark::Polygon { points, colour });
    }

    pub(super) fn disc(&mut self, centre: Xy, radius: f64, colour: Colour) {
        self.marks.push(Mark::Disc {
            centre,
            radius,
            colour,
        });
    }

    /// A filled rectangle.
    pub(super) fn area(&mut self, area: Area, colour: Colour) {
        let Area {
            left,
            top,
            right,
            bottom,
        } = area;
        self.polygon(
            vec![(left, top), (right, top), (right, bottom), (left, bottom)],
            colour,
        );
    }

    pub(super) fn text(&mut self, text: impl Into<String>, at: Xy, align: Align, face: Face) {
        self.marks.push(Mark::Text {
            text: text.into(),
            at,
            align,
            face,
            upwards: false,
        });
    }

    pub(super) fn text_upwards(
        &mut self,
        text: impl Into<String>,
        at: Xy,
        align: Align,
        face: Face,
    ) {
        self.marks.push(Mark::Text {
            text: text.into(),
            at,
            align,
            face,
            upwards: true,
        });
    }
}

/// A rectangle with sides along the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Area {
    pub(super) fn around((x, y): Xy, radius: f64) -> Self {
        Self {
            left: x - radius,
            top: y - radius,
            right: x + radius,
            bottom: y + radius,
        }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Colour = Colour(0, 0, 0);

    #[test]
    fn dashes_cover_their_share_of_the_line() {
        let mut scene = Scene::new((100.0, 100.0));
        scene.dashed(
            &[(0.0, 0.0), (25.0, 0.0), (25.0, 75.0)],
            &[3.0, 2.0],
            1.0,
            BLACK,
        );
        let drawn: f64 = scene
            .marks
            .iter()
            .map(|mark| match mark {
                Mark::Line { points, .. } => {
                    (points[1].0 - points[0].0) + (points[1].1 - points[0].1)
                }
                other => panic!("{other:?} in a dashed line"),
            })
            .sum();
        assert!((drawn - 60.0).abs() < 1e-9, "{drawn}");
    }

    #[test]
    fn areas_meet_and_contain() {
        let area = Area::around((0.0, 0.0), 2.0);
        assert!(
            area.meets(&Area::around((3.0, 0.0), 2.0))
                && !area.meets(&Area::around((5.0, 0.0), 2.0))
        );
        assert!(
            area.contains(&Area::around((0.5, 0.5), 1.0))
                && !area.contains(&Area::around((1.5, 0.0), 1.0))
        );
    }

    #[test]
    fn colours_are_mixed_with_white() {
        assert_eq!(BLACK.on_white(0.0), Colour(255, 255, 255));
        assert_eq!(Colour(10, 20, 30).on_white(1.0), Colour(10, 20, 30));
    }
}
