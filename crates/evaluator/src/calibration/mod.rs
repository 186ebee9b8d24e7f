//! Is a reward model right, and is it as often right as it says?
//!
//! A reward model says with which probability p = σ(r_a − r_b) the first of two answers is preferred (Bradley–Terry). On
//! pairs that it was not trained on,
//!
//! ```text
//! agreement    a = y where p > ½, 1 − y where p < ½, ½ between        y the label: 1, 0, or a probability
//! accuracy     mean of a
//! log loss     mean of −y ln p − (1−y) ln(1−p)                        ln 2 = 0.693 for one that knows nothing
//! confidence   c = max(p, 1−p)
//! ECE          Σ_b n_b/n |mean of a in b − mean of c in b|            over bins b of confidence
//! ```
//!
//! ECE is the expected calibration error of Guo et al. 2017 (arXiv:1706.04599), with bins of equal counts (Nguyen and
//! O'Connor 2015, arXiv:1508.05154), so that every bin says something.
//!
//! Preferences often go with length. The rule that prefers the longer answer (or the shorter one, whichever was better on
//! the *training* pairs: [`LengthRule::better`]) is what a reward model must beat to have understood anything else;
//! the difference is taken pair by pair, so that what is hard for both cancels.
//!
//! ```
//! use panacea_evaluator::calibration::{Comparison, LengthRule, ObjectiveCalibration};
//!
//! let pair = |probability, label, lengths| Comparison { probability, label, lengths };
//! let held_out = [pair(0.9, 1.0, [20, 10]), pair(0.3, 0.0, [8, 12]), pair(0.6, 0.0, [9, 7])];
//! let found = ObjectiveCalibration::new("helpfulness", &held_out, LengthRule::Longer)?;
//! assert_eq!((found.pairs, found.accuracy), (3, 2.0 / 3.0));
//! # Ok::<(), panacea_evaluator::EvaluatorError>(())
//! ```

mod report;

pub use report::{CALIBRATION_FILES, CalibrationReport};

use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::statistics::{estimate, paired_difference, wilson_interval};

/// As many bins as there are, where pairs suffice.
const BINS: usize = 10;
/// Parts of equal width, from ½ to 1, of the histogram of confidences.
const PARTS: usize = 20;

/// What is predicted and known of two answers to one prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The predicted probability that the first answer is preferred.
    pub probability: f64,
    /// 1 where the first answer is preferred, 0 where the second is; or the probability that the first is. Pairs
    /// without a preference are not compared.
    pub label: f64,
    /// The lengths of the two answers, in tokens or in whatever unit both have.
    pub lengths: [usize; 2],
}

/// A preference that looks at nothing but lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthRule {
    /// The longer answer is preferred.
    Longer,
    /// The shorter answer is preferred.
    Shorter,
}

impl LengthRule {
    /// The rule that is right more often on pairs of a label (as [`Comparison::label`]) and two lengths: those of the
    /// training set, since chosen on the held-out ones it would know what it is measured on.
    #[must_use]
    pub fn better(pairs: impl IntoIterator<Item = (f64, [usize; 2])>) -> Self {
        let gain: f64 = (pairs.into_iter())
            .map(|(label, lengths)| Self::Longer.agreement(label, lengths) - 0.5)
            .sum();
        if gain >= 0.0 {
            Self::Longer
        } else {
            Self::Shorter
        }
    }

    /// Where answers have one length, the rule is half right.
    fn agreement(self, label: f64, [first, second]: [usize; 2]) -> f64 {
        let longer = agreement(first as f64 - second as f64, label);
        match self {
            Self::Longer => longer,
            Self::Shorter => 1.0 - longer,
        }
    }
}

/// How right a preference for the first answer (positive) or the second (negative) is.
fn agreement(margin: f64, label: f64) -> f64 {
    if margin > 0.0 {
        label
    } else if margin < 0.0 {
        1.0 - label
    } else {
        0.5
    }
}

/// What held-out pairs say about a reward model on one objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveCalibration {
    /// The objective.
    pub objective: String,
    /// Number of pairs.
    pub pairs: usize,
    /// The share of pairs where the prediction agrees with the label.
    pub accuracy: f64,
    /// The standard error of the accuracy.
    pub accuracy_stderr: f64,
    /// [`wilson_interval`] of the accuracy.
    pub accuracy_interval: [f64; 2],
    /// The accuracy of [`LengthRule::Longer`].
    pub longer_accuracy: f64,
    /// The accuracy of [`LengthRule::Shorter`].
    pub shorter_accuracy: f64,
    /// The rule of the two that is compared with.
    pub baseline: LengthRule,
    /// Its accuracy.
    pub baseline_accuracy: f64,
    /// The standard error of its accuracy.
    pub baseline_stderr: f64,
    /// The accuracy less the baseline's.
    pub gain: f64,
    /// The standard error of that difference, paired by pair.
    pub gain_stderr: f64,
    /// The difference in standard errors; null where the error is 0.
    pub gain_in_stderrs: Option<f64>,
    /// The mean log loss, in nats.
    pub log_loss: f64,
    /// The standard error of the log loss.
    pub log_loss_stderr: f64,
    /// The expected calibration error.
    pub calibration_error: f64,
    /// About what a model that is calibrated exactly would show as an error on so few pairs:
    /// Σ_b n_b/n √(2/π) s_b, with s_b the standard error of the accuracy in bin b by its confidences, √(Σ c(1−c))/n_b.
    pub calibration_error_by_chance: f64,
    /// Bins of confidence, of equal counts but that equal confidences are not parted; the least sure ones first.
    pub bins: Vec<ReliabilityBin>,
    /// Pairs by confidence in parts of equal width, from ½ to 1.
    pub histogram: Vec<usize>,
}

/// Pairs of about one confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of pairs.
    pub pairs: usize,
    /// The least and the greatest confidence.
    pub range: [f64; 2],
    /// The mean confidence.
    pub confidence: f64,
    /// The share of pairs where the prediction agrees with the label.
    pub accuracy: f64,
    /// [`wilson_interval`] of the accuracy.
    pub accuracy_interval: [f64; 2],
}

/// How sure a prediction is, and how right.
#[derive(Clone, Copy)]
struct Judgement {
    confidence: f64,
    agreement: f64,
}

impl ObjectiveCalibration {
    /// Measures predictions on held-out pairs, beside a length rule that was chosen on the training pairs.
    ///
    /// # Errors
    /// When there is no pair, or a probability or a label is not between 0 and 1.
    pub fn new(
        objective: &str,
        comparisons: &[Comparison],
        baseline: LengthRule,
    ) -> Result<Self, EvaluatorError> {
        check(objective, comparisons)?;
        let empty = || EvaluatorError::NoComparisons(objective.to_owned());
        let each = |value: &dyn Fn(&Comparison) -> f64| -> Vec<f64> {
            comparisons.iter().map(value).collect()
        };
        let right = each(&|c| agreement(c.probability - 0.5, c.label));
        let by_length = each(&|c| baseline.agreement(c.label, c.lengths));
        let longer = each(&|c| LengthRule::Longer.agreement(c.label, c.lengths));
        let accuracy = estimate(&right).ok_or_else(empty)?;
        let baseline_accuracy = estimate(&by_length).ok_or_else(empty)?;
        let longer_accuracy = estimate(&longer).ok_or_else(empty)?.mean;
        let gain = paired_difference(&right, &by_length).ok_or_else(empty)?;
        let log_loss = estimate(&each(&log_loss)).ok_or_else(empty)?;

        let mut judgements: Vec<Judgement> = (comparisons.iter().zip(&right))
            .map(|(comparison, &agreement)| Judgement {
                confidence: comparison.probability.max(1.0 - comparison.probability),
                agreement,
            })
            .collect();
        judgements.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
        let binned = bins(&judgements);
        let share = |bin: &[Judgement]| bin.len() as f64 / judgements.len() as f64;
        let bins: Vec<ReliabilityBin> = binned.iter().map(|bin| ReliabilityBin::of(bin)).collect();
        let calibration_error = (binned.iter().zip(&bins))
            .map(|(judged, bin)| share(judged) * (bin.accuracy - bin.confidence).abs())
            .sum();
        let by_chance = binned.iter().map(|bin| {
            let variance: f64 = (bin.iter().map(|j| j.confidence * (1.0 - j.confidence))).sum();
            // The mean size of a normal deviation is √(2/π) of its standard deviation.
            let mean_size = (variance * std::f64::consts::FRAC_2_PI).sqrt() / bin.len() as f64;
            share(bin) * mean_size
        });
        Ok(Self {
            objective: objective.to_owned(),
            pairs: comparisons.len(),
            accuracy: accuracy.mean,
            accuracy_stderr: accuracy.stderr,
            accuracy_interval: wilson_interval(accuracy.mean, comparisons.len()),
            longer_accuracy,
            shorter_accuracy: 1.0 - longer_accuracy,
            baseline,
            baseline_accuracy: baseline_accuracy.mean,
            baseline_stderr: baseline_accuracy.stderr,
            gain: gain.mean,
            gain_stderr: gain.stderr,
            gain_in_stderrs: gain.in_stderrs(),
            log_loss: log_loss.mean,
            log_loss_stderr: log_loss.stderr,
            calibration_error,
            calibration_error_by_chance: by_chance.sum(),
            bins,
            histogram: histogram(&judgements),
        })
    }
}

fn check(objective: &str, comparisons: &[Comparison]) -> Result<(), EvaluatorError> {
    for (position, comparison) in comparisons.iter().enumerate() {
        let values = [
            ("probability", comparison.probability),
            ("label", comparison.label),
        ];
        for (field, found) in values {
            if !(0.0..=1.0).contains(&found) {
                return Err(EvaluatorError::Comparison {
                    objective: objective.to_owned(),
                    pair: position + 1,
                    field,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// In nats. A probability that was rounded to 0 or 1 counts as the closest one that is not.
fn log_loss(comparison: &Comparison) -> f64 {
    let Comparison {
        probability, label, ..
    } = *comparison;
    let ln = |p: f64| p.max(f64::EPSILON).ln();
    -label * ln(probability) - (1.0 - label) * ln(1.0 - probability)
}

/// Cuts what is sorted by confidence into parts of about one size: not between equal confidences, so that no part
/// depends on their order.
fn bins(sorted: &[Judgement]) -> Vec<&[Judgement]> {
    let mut bins = Vec::new();
    let mut start = 0;
    for bin in 1..=BINS {
        let mut end = (bin * sorted.len() / BINS).max(start);
        while end > start
            && end < sorted.len()
            && sorted[end].confidence == sorted[end - 1].confidence
        {
            end += 1;
        }
        if end > start {
            bins.push(&sorted[start..end]);
            start = end;
        }
    }
    bins
}

fn histogram(judgements: &[Judgement]) -> Vec<usize> {
    let mut counts = vec![0; PARTS];
    for judgement in judgements {
        let part = (judgement.confidence - 0.5) * 2.0 * PARTS as f64;
        // A confidence of 1 belongs to the last part.
        counts[(part as usize).min(PARTS - 1)] += 1;
    }
    counts
}

impl ReliabilityBin {
    /// Of judgements in order of confidence, at least one.
    fn of(judgements: &[Judgement]) -> Self {
        let count = judgements.len();
        let mean = |value: &dyn Fn(&Judgement) -> f64| {
            judgements.iter().map(value).sum::<f64>() / count as f64
        };
        let accuracy = mean(&|j| j.agreement);
        Self {
            pairs: count,
            range: [judgements[0].confidence, judgements[count - 1].confidence],
            confidence: mean(&|j| j.confidence),
            accuracy,
            accuracy_interval: wilson_interval(accuracy, count),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn pair(probability: f64, label: f64, lengths: [usize; 2]) -> Comparison {
        Comparison {
            probability,
            label,
            lengths,
        }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
    }

    #[test]
    fn four_pairs_by_hand() {
        let pairs = [
            pair(0.8, 1.0, [20, 10]), // right; the longer one is right
            pair(0.6, 0.0, [10, 20]), // wrong; right
            pair(0.1, 0.0, [30, 10]), // right; wrong
            pair(0.3, 0.0, [10, 10]), // right; of one length
        ];
        let found = ObjectiveCalibration::new("a", &pairs, LengthRule::Longer).expect("valid");
        assert_eq!((found.pairs, found.accuracy), (4, 0.75));
        // s² = (3 · 0.25² + 0.75²)/3 = 0.25, over 4.
        close(found.accuracy_stderr, 0.25);
        assert_eq!(found.accuracy_interval, wilson_interval(0.75, 4));
        assert_eq!(
            (found.longer_accuracy, found.shorter_accuracy),
            (0.625, 0.375)
        );
        assert_eq!(found.baseline_accuracy, 0.625);
        // Differences 0, −1, 1, ½ around ⅛: s² = (1/64 + 81/64 + 49/64 + 9/64)/3 = 35/48, over 4.
        close(found.gain, 0.125);
        close(found.gain_stderr, (35.0_f64 / 192.0).sqrt());
        close(
            found.gain_in_stderrs.expect("an error"),
            0.125 / (35.0_f64 / 192.0).sqrt(),
        );
        let loss = -(0.8_f64.ln() + 0.4_f64.ln() + 0.9_f64.ln() + 0.7_f64.ln()) / 4.0;
        close(found.log_loss, loss);
        // A bin each: |0 − 0.6|, |1 − 0.7|, |1 − 0.8|, |1 − 0.9|.
        assert_eq!(found.bins.len(), 4);
        close(found.calibration_error, (0.6 + 0.3 + 0.2 + 0.1) / 4.0);
        let deviations: f64 = ([0.6, 0.7, 0.8, 0.9].iter())
            .map(|c: &f64| (c * (1.0 - c)).sqrt())
            .sum();
        close(
            found.calibration_error_by_chance,
            deviations / 4.0 * (2.0 / std::f64::consts::PI).sqrt(),
        );

        let shorter = ObjectiveCalibration::new("a", &pairs, LengthRule::Shorter).expect("valid");
        assert_eq!(shorter.baseline_accuracy, 0.375);
        close(shorter.gain, 0.375);
    }

    #[test]
    fn labels_may_be_probabilities() {
        let pairs = [pair(0.75, 0.75, [1, 2]), pair(0.25, 0.5, [1, 2])];
        let found = ObjectiveCalibration::new("a", &pairs, LengthRule::Shorter).expect("valid");
        assert_eq!(found.accuracy, 0.625);
        assert_eq!(found.baseline_accuracy, 0.625);
        let (three, one) = (0.75_f64.ln(), 0.25_f64.ln());
        close(
            found.log_loss,
            -(0.75 * three + 0.25 * one + 0.5 * three + 0.5 * one) / 2.0,
        );
    }

    #[test]
    fn bins_have_one_size_and_do_not_part_equal_confidences() {
        let distinct: Vec<_> = (0..25)
            .map(|i| pair(0.5 + f64::from(i) / 64.0, 1.0, [1, 1]))
            .collect();
        let found = ObjectiveCalibration::new("a", &distinct, LengthRule::Longer).expect("valid");
        let sizes: Vec<usize> = found.bins.iter().map(|bin| bin.pairs).collect();
        assert_eq!(sizes, [2, 3, 2, 3, 2, 3, 2, 3, 2, 3]);
        assert_eq!(found.bins[0].range, [0.5, 0.5 + 1.0 / 64.0]);

        // Three confidences, two of which are the same prediction seen from either side.
        let few: Vec<_> = (0..30)
            .map(|i| pair([0.75, 0.25, 0.625][i % 3], 1.0, [1, 1]))
            .collect();
        let found = ObjectiveCalibration::new("a", &few, LengthRule::Longer).expect("valid");
        let sizes: Vec<usize> = found.bins.iter().map(|bin| bin.pairs).collect();
        assert_eq!(sizes, [10, 20]);
        assert_eq!(
            (found.bins[1].confidence, found.bins[1].accuracy),
            (0.75, 0.5)
        );
        assert_eq!((found.histogram[5], found.histogram[10]), (10, 20));
    }

    #[test]
    fn a_calibrated_model_errs_about_as_chance_has_it() {
        // Among the 100 pairs of a confidence c, 100 c are right: no error at all, and a floor of some per cent.
        let mut pairs = Vec::new();
        for percent in (55..=95).step_by(10) {
            for i in 0..100 {
                let right = f64::from(u8::from(i < percent));
                pairs.push(pair(f64::from(percent) / 100.0, right, [1, 1]));
            }
        }
        let found = ObjectiveCalibration::new("a", &pairs, LengthRule::Longer).expect("valid");
        assert_eq!(found.bins.len(), 5);
        close(found.calibration_error, 0.0);
        assert!((0.02..0.05).contains(&found.calibration_error_by_chance));
        for bin in &found.bins {
            let [low, high] = bin.accuracy_interval;
            assert!(low < bin.accuracy && bin.accuracy < high);
        }
    }

    #[test]
    fn certainty_costs_much_but_not_everything() {
        let found = ObjectiveCalibration::new("a", &[pair(1.0, 0.0, [1, 1])], LengthRule::Longer);
        let found = found.expect("valid");
        assert!((30.0..40.0).contains(&found.log_loss));
        assert_eq!((found.accuracy, found.calibration_error), (0.0, 1.0));
        assert_eq!(
            (found.gain_in_stderrs, found.histogram[PARTS - 1]),
            (None, 1)
        );
    }

    #[test]
    fn the_rule_is_the_one_that_is_right_on_the_training_pairs() {
        let longer_wins = (1.0, [2, 1]);
        let shorter_wins = (0.0, [2, 1]);
        assert_eq!(
            LengthRule::better([longer_wins, shorter_wins, longer_wins]),
            LengthRule::Longer
        );
        assert_eq!(
            LengthRule::better([shorter_wins, (1.0, [3, 3])]),
            LengthRule::Shorter
        );
    }

    #[test]
    fn what_is_no_comparison_is_named() {
        let refused = |pairs: &[Comparison]| {
            ObjectiveCalibration::new("helpful", pairs, LengthRule::Longer)
                .expect_err("must be refused")
                .to_string()
        };
        assert!(refused(&[]).contains("`helpful`"));
        let good = pair(0.5, 1.0, [1, 1]);
        let message = refused(&[good, pair(f64::NAN, 1.0, [1, 1])]);
        assert!(
            message.contains("pair 2: the probability is NaN"),
            "{message}"
        );
        let message = refused(&[pair(0.5, 2.0, [1, 1])]);
        assert!(message.contains("pair 1: the label is 2"), "{message}");
    }

    fn any_pair() -> impl Strategy<Value = Comparison> {
        let probability = prop_oneof![0.0..=1.0, (0_u8..=8).prop_map(|n| f64::from(n) / 8.0)];
        let label = prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0];
        (probability, label, [1_usize..5, 1_usize..5]).prop_map(|(p, y, l)| pair(p, y, l))
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        /// The order of the pairs says nothing, nor which answer of a pair is called the first.
        #[test]
        fn prop_order_is_nothing(pairs in prop::collection::vec(any_pair(), 1..60), shift in 0_usize..60) {
            let found = ObjectiveCalibration::new("a", &pairs, LengthRule::Longer).expect("valid");
            let mut turned = pairs.clone();
            turned.rotate_left(shift % pairs.len());
            for c in turned.iter_mut().step_by(2) {
                let [first, second] = c.lengths;
                *c = pair(1.0 - c.probability, 1.0 - c.label, [second, first]);
            }
            let turned = ObjectiveCalibration::new("a", &turned, LengthRule::Longer).expect("valid");
            for (one, two) in [
                (found.accuracy, turned.accuracy),
                (found.gain, turned.gain),
                (found.gain_stderr, turned.gain_stderr),
                (found.log_loss, turned.log_loss),
            ] {
                prop_assert!((one - two).abs() < 1e-9, "{} {}", one, two);
            }
        }

        #[test]
        fn prop_bins_hold_all_pairs_once(pairs in prop::collection::vec(any_pair(), 1..60)) {
            let found = ObjectiveCalibration::new("a", &pairs, LengthRule::Longer).expect("valid");
            prop_assert!(found.bins.len() <= BINS);
            prop_assert_eq!(found.bins.iter().map(|bin| bin.pairs).sum::<usize>(), pairs.len());
            prop_assert_eq!(found.histogram.iter().sum::<usize>(), pairs.len());
            let weighted: f64 = found.bins.iter().map(|bin| bin.accuracy * bin.pairs as f64).sum();
            prop_assert!((weighted / pairs.len() as f64 - found.accuracy).abs() < 1e-9);
            prop_assert!(found.bins.windows(2).all(|two| two[0].range[1] < two[1].range[0]));
            prop_assert!((0.0..=1.0).contains(&found.calibration_error));
        }
    }
}
