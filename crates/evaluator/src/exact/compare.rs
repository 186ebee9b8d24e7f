//! How far a method is from the exact optimum.

use panacea_objectives::{Aggregation, Preference};

use super::MenuProblem;
use crate::front::{ExactFront, ExactPoint};
use crate::method::MethodPoints;

impl ExactFront {
    /// The optima of linear scalarisation at `preferences`: every point of the front, since all L_i are
    /// convex.
    #[must_use]
    pub fn of(problem: &MenuProblem, preferences: &[Preference]) -> Self {
        let optimum = |preference: &Preference| problem.linear(preference.weights()).values;
        Self::new(preferences.iter().map(optimum).collect())
    }
}

impl MethodPoints {
    /// Puts beside every point the optimum for its preference under `aggregation`, and the regret.
    pub fn compare(&mut self, problem: &MenuProblem, aggregation: &Aggregation) {
        for point in &mut self.points {
            let optimum = match aggregation {
                Aggregation::Linear => problem.linear(&point.lambda),
                Aggregation::Tchebycheff { ideal } => {
                    problem.tchebycheff(&point.lambda, &ideal_or_zero(ideal, problem))
                }
            };
            let loss = |values: &[f64]| match aggregation {
                Aggregation::Linear => {
                    let weighted = point.lambda.iter().zip(values);
                    -weighted.map(|(weight, value)| weight * value).sum::<f64>()
                }
                Aggregation::Tchebycheff { ideal } => {
                    let ideal = ideal_or_zero(ideal, problem);
                    let distances =
                        (0..values.len()).map(|i| point.lambda[i] * (ideal[i] - values[i]));
                    distances.fold(f64::NEG_INFINITY, f64::max)
                }
            };
            point.exact = Some(ExactPoint {
                regret: loss(&point.values) - loss(&optimum.values),
                values: optimum.values,
            });
        }
    }
}

/// An empty ideal means z = 0.
fn ideal_or_zero(ideal: &[f64], problem: &MenuProblem) -> Vec<f64> {
    if ideal.is_empty() {
        vec![0.0; problem.objectives()]
    } else {
        ideal.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::{Comparison, Menu};
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
            cost: None,
        }
    }

    #[test]
    fn an_optimal_method_has_no_regret_and_the_whole_hypervolume() {
        let problem = problem();
        let ideal = problem.ideal();
        let tchebycheff = Aggregation::Tchebycheff {
            ideal: ideal.clone(),
        };
        let mut methods = [
            method("linear", |lambda| problem.linear(lambda).values),
            method("tchebycheff", |lambda| {
                problem.tchebycheff(lambda, &ideal).values
            }),
            // One policy for all: the optimum of λ = (½, ½).
            method("fixed", |_| problem.linear(&[0.5, 0.5]).values),
        ];
        methods[0].compare(&problem, &Aggregation::Linear);
        methods[1].compare(&problem, &tchebycheff);
        methods[2].compare(&problem, &Aggregation::Linear);

        let grid = [1.0, 0.5, 0.0].map(|w| Preference::new(vec![w, 1.0 - w]).unwrap());
        let exact = ExactFront::of(&problem, &grid);
        let names = ["a", "b"].map(str::to_owned).to_vec();
        let front = Front::new(names, methods.to_vec(), None, Some(exact)).unwrap();
        for method in &front.methods[..2] {
            let found = &method.indicators;
            assert!(
                (found.hypervolume_ratio.unwrap() - 1.0).abs() < 1e-6,
                "{found:?}"
            );
            assert!(found.regret_max.unwrap().abs() < 1e-8, "{found:?}");
        }
        let fixed = &front.methods[2].indicators;
        assert!(fixed.hypervolume_ratio.unwrap() < 0.95, "{fixed:?}");
        let (mean, max) = (fixed.regret_mean.unwrap(), fixed.regret_max.unwrap());
        assert!(mean > 0.0 && max > mean, "{mean}, {max}");
        let middle = front.methods[2].points[1].exact.as_ref().unwrap();
        assert!(middle.regret.abs() < 1e-12);
    }
}
