//! The measured front that a person chooses on, and what a wrong choice costs.

use panacea_objectives::Preference;

use crate::belief::Belief;
use crate::candidates::ranges;
use crate::error::{ElicitError, check_numbers};

/// The smallest range but 0: with values below 1e100, regrets in units of it are finite.
const SMALLEST_RANGE: f64 = 1e-100;

/// A point of a measured front.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontPoint {
    /// The λ that was served.
    pub preference: Preference,
    /// J ∈ R^m: the value of each objective there, larger is better, in the unit of the candidates' scores.
    pub values: Vec<f64>,
}

/// The points that a person's λ chooses among. A person with λ likes point a by λ·J_a, and regrets it by
/// max_b λ·J_b − λ·J_a. All regrets are relative to the range of the front: the largest spread, over its points, of any one
/// objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Front {
    objectives: usize,
    points: Vec<FrontPoint>,
    /// `[m × points]`: the values once more, objective by objective, so that the utilities of all points take m passes.
    values: Vec<f64>,
    range: f64,
}

impl Front {
    /// A front of at least one point.
    ///
    /// # Errors
    /// When there is no point, one has not m finite values and a λ of m weights, with m that of the first, or all are so nearly
    /// the same that regret in units of their range could not be told.
    pub fn new(points: Vec<FrontPoint>) -> Result<Self, ElicitError> {
        let objectives = points.first().ok_or(ElicitError::EmptyFront)?.values.len();
        if objectives < 2 {
            return Err(ElicitError::TooFewObjectives(objectives));
        }
        for (place, point) in points.iter().enumerate() {
            let what = format!("point {} of the front", place + 1);
            check_numbers(&what, &point.values, objectives)?;
            let fits = point.preference.expect_len(objectives);
            fits.map_err(|source| ElicitError::Preference { what, source })?;
        }
        let rows = points.iter().map(|point| &point.values[..]);
        let range = ranges(rows, objectives).fold(0.0, f64::max);
        if range > 0.0 && range < SMALLEST_RANGE {
            return Err(ElicitError::FrontRange(range));
        }
        let of_objective = |i: usize| points.iter().map(move |point| point.values[i]);
        Ok(Self {
            objectives,
            values: (0..objectives).flat_map(of_objective).collect(),
            range,
            points,
        })
    }

    /// Its points, in the order given.
    #[must_use]
    pub fn points(&self) -> &[FrontPoint] {
        &self.points
    }

    /// The number m of objectives.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.objectives
    }

    /// The largest spread of an objective over the points.
    #[must_use]
    pub fn range(&self) -> f64 {
        self.range
    }

    /// `direction`·J of every point; `direction`, `[m]`, may be any. `utilities` is used again for its memory.
    fn utilities(&self, direction: &[f64], utilities: &mut Vec<f64>) {
        utilities.clear();
        utilities.resize(self.points.len(), 0.0);
        let columns = self.values.chunks_exact(self.points.len());
        for (&weight, column) in direction.iter().zip(columns) {
            for (utility, value) in utilities.iter_mut().zip(column) {
                *utility += weight * value;
            }
        }
    }

    /// In units of the range; 0 where all points are the same.
    fn relative(&self, regret: f64) -> f64 {
        match self.range > 0.0 {
            true => regret / self.range,
            false => 0.0,
        }
    }

    /// Whether it is a front for m = `objectives`.
    pub(crate) fn expect_objectives(&self, objectives: usize) -> Result<(), ElicitError> {
        if self.objectives != objectives {
            return Err(ElicitError::Length {
                what: "each point of the front".to_owned(),
                found: self.objectives,
                expected: objectives,
            });
        }
        Ok(())
    }

    fn expect_point(&self, chosen: usize) -> Result<(), ElicitError> {
        if chosen >= self.points.len() {
            let points = self.points.len();
            return Err(ElicitError::NoSuchPoint { chosen, points });
        }
        Ok(())
    }

    /// The point that a belief chooses: the one of the largest expected utility, which is λ̂·J.
    ///
    /// # Errors
    /// When the belief has another number of objectives.
    pub fn choice(&self, belief: &Belief) -> Result<usize, ElicitError> {
        self.expect_objectives(belief.objectives())?;
        let mut utilities = Vec::new();
        self.utilities(&belief.mean_weights(), &mut utilities);
        let mut chosen = 0;
        for (place, &utility) in utilities.iter().enumerate() {
            if utility > utilities[chosen] {
                chosen = place;
            }
        }
        Ok(chosen)
    }

    /// The λ to serve a person of whom `belief` is known: that of the point that it chooses. Expected regret is of this one.
    /// [`Belief::mean`] says what the person wants, which is another λ wherever the model does not put the best answer for λ̂
    /// at λ̂; what it costs to serve that one nobody measured.
    ///
    /// # Errors
    /// When the belief has another number of objectives.
    pub fn preference_for(&self, belief: &Belief) -> Result<&Preference, ElicitError> {
        Ok(&self.points[self.choice(belief)?].preference)
    }

    /// What a person whose utility is `direction`·J loses by point `chosen`, relative to the range. `direction`, `[m]`, is a λ,
    /// or anything else that a person may want.
    ///
    /// # Errors
    /// When there is no such point or `direction` is not m finite numbers.
    pub fn regret(&self, direction: &[f64], chosen: usize) -> Result<f64, ElicitError> {
        check_numbers("what the person wants", direction, self.objectives)?;
        self.expect_point(chosen)?;
        let mut utilities = Vec::new();
        self.utilities(direction, &mut utilities);
        Ok(self.relative(largest(&utilities) - utilities[chosen]))
    }

    /// The regret that a belief expects of point `chosen`: its mean over the guesses, relative to the range.
    ///
    /// # Errors
    /// When there is no such point or the belief has another number of objectives.
    pub fn expected_regret_of(&self, belief: &Belief, chosen: usize) -> Result<f64, ElicitError> {
        self.expect_objectives(belief.objectives())?;
        self.expect_point(chosen)?;
        let mut utilities = Vec::new();
        let mut regret = 0.0;
        for (preference, _, weight) in belief.guesses() {
            self.utilities(preference, &mut utilities);
            // Difference by difference: none is negative, and values far from 0 do not drown what lies between them.
            regret += weight * (largest(&utilities) - utilities[chosen]);
        }
        Ok(self.relative(regret))
    }

    /// The regret that a belief expects of what it chooses, relative to the range: what asking on could still gain.
    ///
    /// # Errors
    /// When the belief has another number of objectives.
    pub fn expected_regret(&self, belief: &Belief) -> Result<f64, ElicitError> {
        self.expected_regret_of(belief, self.choice(belief)?)
    }
}

fn largest(values: &[f64]) -> f64 {
    let mut largest = f64::MIN;
    for &value in values {
        // Not `max`, which asks for NaN as well.
        largest = if value > largest { value } else { largest };
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn point(preference: &str, values: &[f64]) -> FrontPoint {
        FrontPoint {
            preference: preference.parse().expect("a preference"),
            values: values.to_vec(),
        }
    }

    fn front() -> Front {
        let points = vec![
            point("1,0", &[2.0, 0.0]),
            point("0.5,0.5", &[1.5, 1.5]),
            point("0,1", &[0.0, 2.0]),
        ];
        Front::new(points).expect("a front")
    }

    #[test]
    fn regret_is_the_loss_against_the_best_point_in_units_of_the_range() {
        let front = front();
        assert_eq!(front.range(), 2.0);
        assert_eq!(front.regret(&[1.0, 0.0], 1), Ok(0.25));
        assert_eq!(front.regret(&[0.5, 0.5], 1), Ok(0.0));
        assert_eq!(front.regret(&[0.0, 1.0], 0), Ok(1.0));
        // A person who wants less of the first.
        assert_eq!(front.regret(&[-1.0, 1.0], 2), Ok(0.0));
    }

    /// Under the prior E max_b λ·J_b is an integral over λ_1 = t: 2t above 3/4, 2(1 − t) below 1/4, 1.5 between.
    #[test]
    fn expected_regret_is_the_mean_over_the_guesses() {
        let front = front();
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        assert_eq!(front.choice(&belief), Ok(1));
        let expected = (2.0 * (1.0 - 0.75_f64.powi(2)) + 1.5 * 0.5 - 1.5) / 2.0;
        let found = front.expected_regret(&belief).expect("a regret");
        assert!((found - expected).abs() < 0.005, "{found}, not {expected}");
        assert!(front.expected_regret_of(&belief, 0).expect("a regret") > 0.3);
    }

    /// What all points have in common is no regret, however large it is.
    #[test]
    fn expected_regret_is_not_drowned_by_large_values() {
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        let shifted = |by: f64| {
            let points = front().points.into_iter().map(|mut point| {
                point.values.iter_mut().for_each(|value| *value += by);
                point
            });
            let front = Front::new(points.collect()).expect("a front");
            front.expected_regret(&belief).expect("a regret")
        };
        assert!((shifted(0.0) - shifted(1e9)).abs() < 1e-6);
        assert!(shifted(1e15) >= 0.0);
    }

    /// A model that puts what is best for both objectives at (0.8, 0.2), and something worse at (0.5, 0.5).
    #[test]
    fn on_a_warped_front_the_choice_is_served_and_not_the_mean() {
        let points = vec![
            point("1,0", &[2.0, 0.0]),
            point("0.8,0.2", &[1.5, 1.5]),
            point("0.5,0.5", &[0.6, 1.8]),
            point("0,1", &[0.0, 2.0]),
        ];
        let front = Front::new(points).expect("a front");
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        let served = front.preference_for(&belief).expect("a preference");
        assert_eq!(served.weights(), [0.8, 0.2]);
        assert!((belief.mean().weights()[0] - 0.5).abs() < 0.02);
        let promised = front.expected_regret(&belief).expect("a regret");
        assert_eq!(front.expected_regret_of(&belief, 1), Ok(promised));
        let at_the_mean = front.expected_regret_of(&belief, 2).expect("a regret");
        assert!(at_the_mean > promised + 0.1, "{at_the_mean} {promised}");
    }

    #[test]
    fn what_does_not_fit_a_front_is_refused() {
        let front = front();
        let belief = Belief::new(3, &Settings::default(), 1).expect("a belief");
        let message = |error: ElicitError| error.to_string();
        let other = "each point of the front has 2 number(s), but there are 3 objective(s)";
        assert_eq!(front.choice(&belief).map_err(message), Err(other.into()));
        let refused = front.preference_for(&belief).map_err(message);
        assert_eq!(refused.unwrap_err(), other);
        let refused = front.expected_regret(&belief).map_err(message);
        assert_eq!(refused, Err(other.into()));
        let refused = front.regret(&[1.0], 0).map_err(message);
        assert!(refused.unwrap_err().contains("wants has 1 number(s)"));
        let refused = front.regret(&[1.0, f64::NAN], 0).map_err(message);
        assert!(refused.unwrap_err().contains("number 2 of what the person"));
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        let error = ElicitError::NoSuchPoint {
            chosen: 3,
            points: 3,
        };
        assert_eq!(front.expected_regret_of(&belief, 3), Err(error.clone()));
        assert_eq!(front.regret(&[1.0, 0.0], 3), Err(error));
    }

    #[test]
    fn one_point_is_regretted_by_nobody() {
        let front = Front::new(vec![point("1,0", &[1.0, 0.0])]).expect("a front");
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        assert_eq!(front.expected_regret(&belief), Ok(0.0));
    }

    #[test]
    fn broken_fronts_are_refused_with_the_point_named() {
        let message = |points| Front::new(points).expect_err("no front").to_string();
        assert_eq!(message(vec![]), "the front has no point");
        let short = vec![point("1,0", &[1.0, 0.0]), point("0,1", &[1.0])];
        assert!(message(short).starts_with("point 2 of the front has 1 number(s)"));
        let endless = vec![point("1,0", &[1.0, f64::INFINITY])];
        assert!(message(endless).contains("number 2 of point 1 of the front is inf"));
        let same = vec![point("1,0", &[1e-200, 0.0]), point("0,1", &[0.0, 0.0])];
        assert!(message(same).starts_with("the points of the front are 1e-200 apart"));
        let other = vec![point("1,0,0", &[1.0, 0.0])];
        assert!(message(other).contains("the preference of point 1 of the front"));
    }
}
