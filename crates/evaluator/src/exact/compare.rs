//! How far a method is from the exact optimum.

use panacea_objectives::{Aggregation, Preference};

use super::{KlProblem, MenuProblem, SftProblem};
use crate::front::{ExactFront, ExactPoint};
use crate::method::MethodPoints;

/// A problem whose best values are known, whatever the preference. J_i of every objective is concave, so
/// that linear scalarisation reaches every point of the front.
pub trait KnownOptima {
    /// The J_i where Σ_i w_i J_i is greatest, for weights w ≥ 0, at least one of them positive.
    fn best_linear(&self, weights: &[f64]) -> Vec<f64>;

    /// The J_i where min_i λ_i (J_i − z_i) is greatest, for an ideal z, or the smooth maximum of
    /// λ_i (z_i − J_i) with this `smoothing` least; `None` for a problem that knows linear scalarisation
    /// only.
    fn best_tchebycheff(
        &self,
        _preference: &Preference,
        _ideal: &[f64],
        _smoothing: f64,
    ) -> Option<Vec<f64>> {
        None
    }
}

impl KnownOptima for MenuProblem {
    fn best_linear(&self, weights: &[f64]) -> Vec<f64> {
        self.linear(weights).values
    }

    fn best_tchebycheff(
        &self,
        preference: &Preference,
        ideal: &[f64],
        smoothing: f64,
    ) -> Option<Vec<f64>> {
        Some(self.tchebycheff(preference, ideal, smoothing).values)
    }
}

impl KnownOptima for KlProblem {
    fn best_linear(&self, weights: &[f64]) -> Vec<f64> {
        self.optimum(weights).values
    }
}

impl KnownOptima for SftProblem {
    fn best_linear(&self, weights: &[f64]) -> Vec<f64> {
        self.optimum(weights).values
    }
}

impl ExactFront {
    /// The optima of linear scalarisation at `preferences`: every point of the front, since all J_i are
    /// concave.
    #[must_use]
    pub fn of(problem: &impl KnownOptima, preferences: &[Preference]) -> Self {
        let optimum = |preference: &Preference| problem.best_linear(preference.weights());
        Self::new(preferences.iter().map(optimum).collect())
    }
}

impl MethodPoints {
    /// Puts beside every point the optimum for its preference under `aggregation`, and the regret; nothing
    /// where the problem does not know that optimum, or the λ of the point is not a preference.
    pub fn compare(&mut self, problem: &impl KnownOptima, aggregation: &Aggregation) {
        for point in &mut self.points {
            let preference = Preference::new(point.lambda.clone()).ok();
            point.exact =
                preference.and_then(|at| at_optimum(problem, aggregation, &at, &point.values));
        }
    }
}

/// The optimum at `preference`, and how far `values` are from it.
fn at_optimum(
    problem: &impl KnownOptima,
    aggregation: &Aggregation,
    preference: &Preference,
    values: &[f64],
) -> Option<ExactPoint> {
    let optimum = match aggregation {
        Aggregation::Linear => problem.best_linear(preference.weights()),
        Aggregation::Tchebycheff { ideal, smoothing } => {
            let ideal = ideal_or_zero(ideal, preference.weights().len());
            problem.best_tchebycheff(preference, &ideal, *smoothing)?
        }
    };
    let loss = |values: &[f64]| {
        let losses: Vec<Option<f64>> = values.iter().map(|value| Some(-value)).collect();
        aggregation.aggregate(preference, &losses).value
    };
    Some(ExactPoint {
        regret: loss(values) - loss(&optimum),
        values: optimum,
    })
}

/// An empty ideal means z = 0.
fn ideal_or_zero(ideal: &[f64], objectives: usize) -> Vec<f64> {
    if ideal.is_empty() {
        vec![0.0; objectives]
    } else {
        ideal.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::{Comparison, KlMenu, Menu};
    use crate::{Front, FrontPoint};

    fn problem() -> MenuProblem {
        let comparison = |first, second, labels: [f64; 2]| Comparison {
            first,
            second,
            labels: labels.to_vec(),
        };
        let menu = Menu {
            responses: 3,
            comparisons: vec![
                comparison(0, 1, [0.8, 0.3]),
                comparison(1, 2, [0.7, 0.2]),
                comparison(0, 2, [0.9, 0.4]),
            ],
        };
        MenuProblem::new(2, vec![menu]).unwrap()
    }

    fn method(name: &str, values: impl Fn(&[f64]) -> Vec<f64>) -> MethodPoints {
        let point = |weight: f64| {
            let lambda = vec![weight, 1.0 - weight];
            FrontPoint {
                values: values(&lambda),
                stderr: vec![0.0; 2],
                lambda,
                ..FrontPoint::default()
            }
        };
        MethodPoints {
            method: name.to_owned(),
            points: [1.0, 0.5, 0.0].map(point).to_vec(),
            ordering: Vec::new(),
            effects: Vec::new(),
            cost: None,
        }
    }

    #[test]
    fn an_optimal_method_has_no_regret_and_the_whole_hypervolume() {
        let problem = problem();
        let ideal = problem.ideal();
        let tchebycheff = |smoothing| Aggregation::Tchebycheff {
            ideal: ideal.clone(),
            smoothing,
        };
        let preference = |lambda: &[f64]| Preference::new(lambda.to_vec()).unwrap();
        let mut methods = [
            method("linear", |lambda| problem.linear(lambda).values),
            method("tchebycheff", |lambda| {
                problem.tchebycheff(&preference(lambda), &ideal, 0.0).values
            }),
            method("smooth", |lambda| {
                problem
                    .tchebycheff(&preference(lambda), &ideal, 0.05)
                    .values
            }),
            // One policy for all: the optimum of λ = (½, ½).
            method("fixed", |_| problem.linear(&[0.5, 0.5]).values),
        ];
        methods[0].compare(&problem, &Aggregation::Linear);
        methods[1].compare(&problem, &tchebycheff(0.0));
        methods[2].compare(&problem, &tchebycheff(0.05));
        methods[3].compare(&problem, &Aggregation::Linear);

        let grid = [1.0, 0.5, 0.0].map(|w| Preference::new(vec![w, 1.0 - w]).unwrap());
        let exact = ExactFront::of(&problem, &grid);
        let names = ["a", "b"].map(str::to_owned).to_vec();
        let front = Front::new(names, methods.to_vec(), None, Some(exact)).unwrap();
        for method in &front.methods[..3] {
            let found = &method.indicators;
            assert!(
                (found.hypervolume_ratio.unwrap() - 1.0).abs() < 1e-6,
                "{found:?}"
            );
            assert!(found.regret_max.unwrap().abs() < 1e-8, "{found:?}");
        }
        let fixed = &front.methods[3].indicators;
        assert!(fixed.hypervolume_ratio.unwrap() < 0.95, "{fixed:?}");
        let (mean, max) = (fixed.regret_mean.unwrap(), fixed.regret_max.unwrap());
        assert!(mean > 0.0 && max > mean, "{mean}, {max}");
        let middle = front.methods[3].points[1].exact.as_ref().unwrap();
        assert!(middle.regret.abs() < 1e-12);
    }

    #[test]
    fn rewards_under_a_penalty_are_compared_alike() {
        let menu = KlMenu {
            reference: vec![-1.0, -1.5, -0.8],
            rewards: vec![vec![1.0, -1.0], vec![-0.5, 0.8], vec![0.2, 0.3]],
        };
        let problem = KlProblem::new(2, 0.4, vec![menu]).unwrap();
        let mut steered = method("steered", |lambda| problem.optimum(lambda).values);
        let mut fixed = method("fixed", |_| problem.optimum(&[0.5, 0.5]).values);
        steered.compare(&problem, &Aggregation::Linear);
        fixed.compare(&problem, &Aggregation::Linear);

        let grid = [1.0, 0.5, 0.0].map(|w| Preference::new(vec![w, 1.0 - w]).unwrap());
        let exact = ExactFront::of(&problem, &grid);
        let names = ["a", "b"].map(str::to_owned).to_vec();
        let front = Front::new(names, vec![steered, fixed], None, Some(exact)).unwrap();
        let [steered, fixed] = [0, 1].map(|method| &front.methods[method].indicators);
        assert_eq!(steered.hypervolume_ratio, Some(1.0));
        assert_eq!(steered.regret_max, Some(0.0));
        assert!(fixed.hypervolume_ratio.unwrap() < 0.95, "{fixed:?}");
        assert!(fixed.regret_max.unwrap() > 0.01, "{fixed:?}");
    }

    #[test]
    fn an_optimum_that_is_not_known_leaves_no_trace() {
        let menu = KlMenu {
            reference: vec![0.0; 2],
            rewards: vec![vec![1.0, -1.0], vec![-0.5, 0.8]],
        };
        let problem = KlProblem::new(2, 0.4, vec![menu]).unwrap();
        let mut points = method("fixed", |_| vec![0.0; 2]);
        points.compare(&problem, &Aggregation::Linear);
        assert!(points.points.iter().all(|point| point.exact.is_some()));
        let tchebycheff = Aggregation::Tchebycheff {
            ideal: vec![],
            smoothing: 0.0,
        };
        points.compare(&problem, &tchebycheff);
        assert!(points.points.iter().all(|point| point.exact.is_none()));
    }
}
