//! Mean and deviation of a few numbers, and what to do where nothing deviates.

/// The mean of some numbers, and their sample deviation (n − 1 in the denominator, as in `torch.std`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// The mean.
    pub mean: f64,
    /// The deviation; 0 for fewer than two numbers, and where the numbers differ by rounding alone.
    pub deviation: f64,
}

impl Moments {
    pub fn of(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let (mut count, mut sum, mut greatest) = (0.0, 0.0, 0.0_f64);
        for number in numbers.clone() {
            count += 1.0;
            sum += number;
            greatest = greatest.max(number.abs());
        }
        let mean = sum / count;
        let squares: f64 = numbers.map(|number| (number - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0)).sqrt();
        // Equal numbers deviate from their mean by the rounding of the sum; to divide by that would make
        // advantages out of nothing.
        let rounding = 2.0 * count * f64::EPSILON * greatest;
        let is_rounding = count < 2.0 || deviation <= rounding;
        Self {
            mean,
            deviation: if is_rounding { 0.0 } else { deviation },
        }
    }

    /// (x − mean) / deviation, and 0 where nothing deviates.
    pub fn standardised(&self, number: f64) -> f64 {
        self.softly_standardised(number, 0.0)
    }

    /// (x − mean) / (deviation + softening), and 0 where nothing deviates.
    pub fn softly_standardised(&self, number: f64, softening: f64) -> f64 {
        let distance = number - self.mean;
        if self.deviation == 0.0 {
            // Not a plain 0: what is not a number stays so.
            0.0 * distance
        } else {
            distance / (self.deviation + softening)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[f64]) -> Moments {
        Moments::of(numbers.iter().copied())
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        // Deviations −3, −1, 1, 3 from the mean 5: √(20 / 3).
        let moments = of(&[2.0, 4.0, 6.0, 8.0]);
        assert_eq!(moments.mean, 5.0);
        assert!((moments.deviation - (20.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(moments.standardised(5.0), 0.0);
    }

    #[test]
    fn equal_numbers_do_not_deviate_however_their_sum_is_rounded() {
        for count in [1, 3, 7, 1000, 100_003] {
            for number in [0.1, -1e-300, 1e9 / 3.0] {
                let moments = of(&vec![number; count]);
                assert_eq!(moments.deviation, 0.0, "{count} times {number}");
                assert_eq!(moments.standardised(number), 0.0);
            }
        }
    }

    #[test]
    fn a_small_deviation_is_not_taken_for_rounding() {
        let moments = of(&[1.0, 1.0 + 1e-12, 1.0 - 1e-12]);
        assert!((moments.standardised(1.0 + 1e-12) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        for numbers in [&[f64::NAN][..], &[1.0, f64::NAN], &[f64::INFINITY, 1.0]] {
            assert!(of(numbers).standardised(numbers[0]).is_nan(), "{numbers:?}");
        }
    }
}
