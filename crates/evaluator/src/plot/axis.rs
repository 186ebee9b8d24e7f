//! Ranges, round numbers and their labels.

use panacea_objectives::rounded_weight;

use super::scene::Area;

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

/// A number with a true minus sign.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| c == '0' || c == '.') => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// A preference as a label: `(0.5, 0.5)`, with at most two decimals.
pub(super) fn preference(lambda: &[f64]) -> String {
    let weights: Vec<String> = (lambda.iter())
        .map(|&weight| rounded_weight(weight, 2))
        .collect();
    format!("({})", weights.join(", "))
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
    fn a_single_value_has_a_range_around_it() {
        let range = Range::of([3.0], 0.1);
        assert!(range.low < 3.0 && range.high > 3.0);
        assert!(Range::of([], 0.1).spread() > 0.0);
    }

    #[test]
    fn preferences_are_short() {
        assert_eq!(preference(&[1.0, 0.0]), "(1, 0)");
        assert_eq!(preference(&[1.0 / 3.0, 2.0 / 3.0]), "(0.33, 0.67)");
    }
}
