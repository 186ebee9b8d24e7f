//! Ranges, round numbers and their labels.

use super::scene::Area;
use crate::front::FrontPoint;
use crate::text::number;

/// No axis and no scale of shades is shorter than so many mean standard errors of its values, so that what differs by chance
/// looks as close as it is.
pub(super) const LEAST_IN_ERRORS: f64 = 8.0;

/// A range of values that an axis shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub low: f64,
    pub high: f64,
}

impl Range {
    /// The range of some values, with a margin of `margin` of their spread on both sides. A single value
    /// gets a range around it.
    pub(super) fn of(values: impl IntoIterator<Item = f64>, margin: f64) -> Self {
        let (low, high) = values
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return Self {
                low: 0.0,
                high: 1.0,
            };
        }
        let spread = high - low;
        let margin = if spread > 0.0 {
            margin * spread
        } else {
            0.5 * low.abs().max(1.0)
        };
        Self {
            low: low - margin,
            high: high + margin,
        }
    }

    /// The range of objective `i` over these points, widened where it is small beside their errors.
    pub(super) fn of_objective<'a>(
        points: impl Iterator<Item = &'a FrontPoint> + Clone,
        i: usize,
    ) -> Self {
        let ends = |point: &FrontPoint| {
            let (value, error) = (point.values[i], point.stderr[i]);
            [value - error, value + error]
        };
        let errors: Vec<f64> = points.clone().map(|point| point.stderr[i]).collect();
        let error = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        Self::of(points.flat_map(ends), 0.0).at_least(LEAST_IN_ERRORS * error)
    }

    /// The same range where it is as wide as `spread`; otherwise one of that width around it.
    pub(super) fn at_least(self, spread: f64) -> Self {
        let missing = (spread - self.spread()).max(0.0);
        Self {
            low: self.low - 0.5 * missing,
            high: self.high + 0.5 * missing,
        }
    }

    /// The range that holds both.
    pub(super) fn with(self, values: impl IntoIterator<Item = f64>) -> Self {
        let ends = [self.low, self.high];
        Self::of(values.into_iter().chain(ends), 0.0)
    }

    pub(super) fn spread(&self) -> f64 {
        self.high - self.low
    }

    /// Where in the range a value lies: 0 at the low end, 1 at the high one.
    pub(super) fn share(&self, value: f64) -> f64 {
        (value - self.low) / self.spread()
    }

    pub(super) fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Round numbers in the range, about `count` of them, with their labels.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = self.spread() / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * (1.0 - 1e-9))
            .unwrap_or(10.0 * power);
        // As many decimals as the step has: one more for the quarters.
        let mut decimals = (-step.log10().floor()).max(0.0) as usize;
        if ((step / power) - 2.5).abs() < 1e-9 && power < 10.0 {
            decimals += 1;
        }
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|multiple| {
                let value = multiple as f64 * step;
                (value, number(value, decimals))
            })
            .collect()
    }
}

/// The mapping from values to a plot area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub area: Area,
    pub x: Range,
    pub y: Range,
}

impl Frame {
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.area.left + self.x.share(x) * (self.area.right - self.area.left),
            self.area.bottom - self.y.share(y) * (self.area.bottom - self.area.top),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, count: usize) -> Vec<String> {
        Range { low, high }
            .ticks(count)
            .into_iter()
            .map(|(_, label)| label)
            .collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(labels(-1.02, -0.68, 6), ["−1.0", "−0.9", "−0.8", "−0.7"]);
        assert_eq!(
            labels(0.0, 1.0, 5),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(-0.05, 0.06, 5),
            ["−0.050", "−0.025", "0.000", "0.025", "0.050"]
        );
        assert_eq!(labels(-3.0, 14.0, 4), ["0", "5", "10"]);
        assert_eq!(labels(0.0, 100.0, 4), ["0", "25", "50", "75", "100"]);
        assert_eq!(labels(-1e-3, 1e-3, 2), ["−0.001", "0.000", "0.001"]);
    }

    #[test]
    fn noise_does_not_fill_an_axis() {
        let point = |value: f64| FrontPoint {
            values: vec![value],
            stderr: vec![0.1],
            ..FrontPoint::default()
        };
        let noise = [point(1.0), point(1.02), point(0.97)];
        let range = Range::of_objective(noise.iter(), 0);
        assert!((range.spread() - 0.1 * LEAST_IN_ERRORS).abs() < 1e-12);
        assert!(
            (range.low + range.high - 1.99).abs() < 1e-12,
            "around the points"
        );
        let front = [point(1.0), point(3.0)];
        let range = Range::of_objective(front.iter(), 0);
        assert!((range.low - 0.9).abs() < 1e-12 && (range.high - 3.1).abs() < 1e-12);
    }

    #[test]
    fn a_single_value_has_a_range_around_it() {
        let range = Range::of([3.0], 0.1);
        assert!(range.low < 3.0 && range.high > 3.0);
        assert!(Range::of([], 0.1).spread() > 0.0);
    }
}
