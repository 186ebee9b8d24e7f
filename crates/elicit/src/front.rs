//! The measured front that a person chooses on, and what a wrong choice costs.

use panacea_objectives::Preference;

use crate::belief::Belief;
use crate::error::{ElicitError, check_numbers};
use crate::particles::dot;

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
    /// When there is no point, or one has not m finite values and a λ of m weights, with m that of the first.
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
        let spread = |i: usize| {
            let values = points.iter().map(|point| point.values[i]);
            values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min)
        };
        let range = (0..objectives).map(spread).fold(0.0, f64::max);
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
            true => (regret / self.range).max(0.0),
            false => 0.0,
        }
    }

    /// The point that a belief chooses: the one of the largest expected utility, which is λ̂·J.
    ///
    /// # Panics
    /// When the belief has another number of objectives.
    #[must_use]
    pub fn choice(&self, belief: &Belief) -> usize {
        assert_eq!(belief.objectives(), self.objectives, "number of objectives");
        let mut utilities = Vec::new();
        self.utilities(&belief.mean_weights(), &mut utilities);
        let mut chosen = 0;
        for (place, &utility) in utilities.iter().enumerate() {
            if utility > utilities[chosen] {
                chosen = place;
            }
        }
        chosen
    }

    /// What a person whose utility is `direction`·J loses by point `chosen`, relative to the range. `direction`, `[m]`, is a λ,
    /// or anything else that a person may want.
    ///
    /// # Panics
    /// When there is no such point or `direction` has another number of objectives.
    #[must_use]
    pub fn regret(&self, direction: &[f64], chosen: usize) -> f64 {
        assert_eq!(direction.len(), self.objectives, "number of objectives");
        let mut utilities = Vec::new();
        self.utilities(direction, &mut utilities);
        self.relative(largest(&utilities) - utilities[chosen])
    }

    /// The regret that a belief expects of point `chosen`: its mean over the guesses, relative to the range.
    ///
    /// # Panics
    /// When there is no such point or the belief has another number of objectives.
    #[must_use]
    pub fn expected_regret_of(&self, belief: &Belief, chosen: usize) -> f64 {
        assert_eq!(belief.objectives(), self.objectives, "number of objectives");
        let mut utilities = Vec::new();
        let mut best = 0.0;
        for (preference, _, weight) in belief.guesses() {
            self.utilities(preference, &mut utilities);
            best += weight * largest(&utilities);
        }
        let chosen = dot(&belief.mean_weights(), &self.points[chosen].values);
        self.relative(best - chosen)
    }

    /// The regret that a belief expects of what it chooses, relative to the range: what asking on could still gain.
    ///
    /// # Panics
    /// When the belief has another number of objectives.
    #[must_use]
    pub fn expected_regret(&self, belief: &Belief) -> f64 {
        self.expected_regret_of(belief, self.choice(belief))
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
        assert_eq!(front.regret(&[1.0, 0.0], 1), 0.25);
        assert_eq!(front.regret(&[0.5, 0.5], 1), 0.0);
        assert_eq!(front.regret(&[0.0, 1.0], 0), 1.0);
        // A person who wants less of the first.
        assert_eq!(front.regret(&[-1.0, 1.0], 2), 0.0);
    }

    /// Under the prior E max_b λ·J_b is an integral over λ_1 = t: 2t above 3/4, 2(1 − t) below 1/4, 1.5 between.
    #[test]
    fn expected_regret_is_the_mean_over_the_guesses() {
        let front = front();
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        assert_eq!(front.choice(&belief), 1);
        let expected = (2.0 * (1.0 - 0.75_f64.powi(2)) + 1.5 * 0.5 - 1.5) / 2.0;
        let found = front.expected_regret(&belief);
        assert!((found - expected).abs() < 0.005, "{found}, not {expected}");
        assert!(front.expected_regret_of(&belief, 0) > 0.3);
    }

    #[test]
    fn one_point_is_regretted_by_nobody() {
        let front = Front::new(vec![point("1,0", &[1.0, 0.0])]).expect("a front");
        let belief = Belief::new(2, &Settings::default(), 1).expect("a belief");
        assert_eq!(front.expected_regret(&belief), 0.0);
    }

    #[test]
    fn broken_fronts_are_refused_with_the_point_named() {
        let message = |points| Front::new(points).expect_err("no front").to_string();
        assert_eq!(message(vec![]), "the front has no point");
        let short = vec![point("1,0", &[1.0, 0.0]), point("0,1", &[1.0])];
        assert!(message(short).starts_with("point 2 of the front has 1 number(s)"));
        let endless = vec![point("1,0", &[1.0, f64::INFINITY])];
        assert!(message(endless).contains("number 2 of point 1 of the front is inf"));
        let other = vec![point("1,0,0", &[1.0, 0.0])];
        assert!(message(other).contains("the preference of point 1 of the front"));
    }
}
