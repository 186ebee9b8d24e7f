//! How a person answers a comparison: the probability of each answer, given what the person wants.

use panacea_objectives::sigmoid;
use serde::{Deserialize, Serialize};

/// What a person said about two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The left one is better.
    Left,
    /// The right one is better.
    Right,
    /// Neither is better.
    AboutEqual,
    /// The person did not say. It changes nothing.
    Skip,
}

/// The probability of each answer to "left or right?", as a function of one number:
/// x = λ·(r(left) − r(right)) / τ, how much better left is in units of the person's taste noise τ.
///
/// Without ties, the person means left with probability σ(x) (Bradley–Terry). With ties, after Bıyık et al.
/// ("APReL", 2022), with δ = `tie`:
///
/// ```text
/// P(left) = σ(x − δ)    P(right) = σ(−x − δ)    P(about equal) = 1 − both = (e^{2δ} − 1)·P(left)·P(right)
/// ```
///
/// With probability γ = `slip` the person says another answer than the one meant, each other one alike: of K
/// answers each has γ/(K−1) + (1 − γK/(K−1))·P, which is γ + (1 − 2γ)·σ(x) without ties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChoiceModel {
    tie: Option<f64>,
    /// γ/(K−1)
    floor: f64,
    /// 1 − γK/(K−1)
    meant: f64,
    /// e^{2δ} − 1
    tie_factor: f64,
}

impl ChoiceModel {
    /// With slips γ in (0, ½), and the threshold δ > 0 of ties where these are offered. [`Settings`](crate::Settings)
    /// checks both.
    pub(crate) fn new(slip: f64, tie: Option<f64>) -> Self {
        let others = if tie.is_some() { 2.0 } else { 1.0 };
        Self {
            tie,
            floor: slip / others,
            meant: 1.0 - slip * (others + 1.0) / others,
            tie_factor: (2.0 * tie.unwrap_or(0.0)).exp_m1(),
        }
    }

    /// Whether "about equal" can be answered.
    #[must_use]
    pub fn offers_ties(&self) -> bool {
        self.tie.is_some()
    }

    /// The probabilities of left, right and about equal at x. They sum to 1; the last is 0 where ties are not offered.
    #[must_use]
    pub fn probabilities(&self, x: f64) -> [f64; 3] {
        [Answer::Left, Answer::Right, Answer::AboutEqual].map(|answer| self.probability(answer, x))
    }

    /// The probability of one answer at x; 1 for [`Answer::Skip`], which says nothing about x.
    #[must_use]
    pub fn probability(&self, answer: Answer, x: f64) -> f64 {
        let tie = self.tie.unwrap_or(0.0);
        let meant = match answer {
            Answer::Left => sigmoid(x - tie),
            Answer::Right => sigmoid(-x - tie),
            Answer::AboutEqual if self.tie.is_none() => return 0.0,
            Answer::AboutEqual => self.tie_factor * (sigmoid(x - tie) * sigmoid(-x - tie)),
            Answer::Skip => return 1.0,
        };
        self.floor + self.meant * meant
    }

    /// The entropy of the answer at x, in nats.
    #[must_use]
    pub fn entropy(&self, x: f64) -> f64 {
        entropy(self.probabilities(x))
    }
}

/// −Σ p ln p, in nats.
#[must_use]
pub(crate) fn entropy(probabilities: [f64; 3]) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    probabilities.map(term).iter().sum()
}

/// Rows of the table for every 1 of x.
const PER_UNIT: f64 = 128.0;
/// The |x| at which the table ends: there σ is 1 up to 4e-11.
const END: f64 = 24.0;

/// [`ChoiceModel`] by looking up: a question is chosen among a million values of x, and the exact formula takes several
/// exponentials and three logarithms for each. Rows are 1/128 apart and joined by straight lines, which is wrong by less than
/// 5e-6. Both signs of x have their rows, since a branch on the sign is guessed wrong half of the time.
pub(crate) struct ChoiceTable {
    /// At x = row / 128 − 24: the probability of left, of right, and the entropy of the answer.
    rows: Vec<[f64; 3]>,
}

impl ChoiceTable {
    pub(crate) fn new(model: &ChoiceModel) -> Self {
        let row = |row: u32| {
            let x = f64::from(row) / PER_UNIT - END;
            let [left, right, _] = model.probabilities(x);
            [left, right, model.entropy(x)]
        };
        // One row beyond the end, so that a place at the end has a row after it.
        let rows = (0..=(2.0 * END * PER_UNIT) as u32 + 1).map(row).collect();
        Self { rows }
    }

    /// The probability of left, of right, and the entropy of the answer, at x.
    #[inline(always)]
    pub(crate) fn at(&self, x: f64) -> [f64; 3] {
        let place = (x.clamp(-END, END) + END) * PER_UNIT;
        let row = place as u32;
        let share = place - f64::from(row);
        let (low, high) = (&self.rows[row as usize], &self.rows[row as usize + 1]);
        [0, 1, 2].map(|i| low[i] + share * (high[i] - low[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> impl Iterator<Item = ChoiceModel> {
        let slips = [1e-6, 0.1, 0.3];
        let ties = [None, Some(0.1), Some(1.5)];
        slips
            .into_iter()
            .flat_map(move |slip| ties.map(|tie| ChoiceModel::new(slip, tie)))
    }

    #[test]
    fn the_probabilities_sum_to_one_and_turn_round_with_the_sides() {
        for model in models() {
            for i in -400..=400 {
                let x = f64::from(i) / 8.0;
                let [left, right, equal] = model.probabilities(x);
                assert!((left + right + equal - 1.0).abs() < 1e-12, "{model:?} {x}");
                assert_eq!(model.probabilities(-x), [right, left, equal]);
                assert_eq!(equal > 0.0, model.offers_ties());
            }
        }
    }

    #[test]
    fn without_ties_a_slip_turns_the_answer_round() {
        let model = ChoiceModel::new(0.1, None);
        let meant = sigmoid(0.7);
        let left = model.probability(Answer::Left, 0.7);
        assert!((left - (0.9 * meant + 0.1 * (1.0 - meant))).abs() < 1e-15);
        assert_eq!(model.probability(Answer::AboutEqual, 0.0), 0.0);
    }

    #[test]
    fn a_tie_is_likeliest_between_equals() {
        let model = ChoiceModel::new(1e-6, Some(0.1));
        let equal = model.probability(Answer::AboutEqual, 0.0);
        let meant = 1.0 - 2.0 * sigmoid(-0.1);
        assert!((equal - meant).abs() < 2e-6, "{equal} {meant}");
        assert!(equal > model.probability(Answer::AboutEqual, 0.5));
    }

    #[test]
    fn the_table_agrees_with_the_formula() {
        for model in models() {
            let table = ChoiceTable::new(&model);
            for i in -40_000..=40_000 {
                let x = f64::from(i) / 1300.0;
                let [left, right, entropy] = table.at(x);
                let exact = model.probabilities(x);
                assert!((left - exact[0]).abs() < 1e-6, "{model:?} {x}");
                assert!((right - exact[1]).abs() < 1e-6, "{model:?} {x}");
                let error = entropy - model.entropy(x);
                assert!(error.abs() < 5e-6, "{model:?} {x}: {error}");
            }
            for x in [f64::INFINITY, -f64::INFINITY, 1e300] {
                assert!(table.at(x).iter().all(|value| value.is_finite()));
            }
        }
    }
}
