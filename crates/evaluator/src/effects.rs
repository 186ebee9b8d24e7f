//! What λ does to each objective: differences between the ends of the grid, and from the model before its training.

use panacea_objectives::Estimate;
use serde::{Deserialize, Serialize};

use crate::front::FrontPoint;
use crate::method::PointRecords;
use crate::statistics::paired_difference;

/// Differences of one objective i, each at the point where λ_i is greatest (its vertex, where the grid has it) less somewhere
/// else. Positive is what λ is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveEffect {
    /// The objective.
    pub objective: String,
    /// Less J_i where λ_k is greatest, for each objective k; 0 at its own place.
    pub over_each: Vec<Estimate>,
    /// Less the mean of J_i over the places of the other objectives; null where no other place differs from its own.
    pub over_others: Option<Estimate>,
    /// Less J_i of the model before its training; null where that was not measured.
    pub over_untrained: Option<Estimate>,
    /// Records that the differences are means over, where these were paired. An error of 0 over several of them is certainty, and
    /// over one, or where it was not measured, none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<usize>,
}

const NOTHING: Estimate = Estimate {
    mean: 0.0,
    stderr: 0.0,
};

impl ObjectiveEffect {
    /// The effects on every objective from the values of single records: what the records have in common cancels. There is
    /// nothing without a point. `untrained` has, per objective, the values of the same records before the training.
    pub(crate) fn paired(
        objectives: &[String],
        points: &[PointRecords],
        untrained: Option<&[Vec<f64>]>,
    ) -> Vec<Self> {
        let lambdas: Vec<&[f64]> = points.iter().map(|point| &point.lambda[..]).collect();
        let Some(places) = places(&lambdas, objectives.len()) else {
            return Vec::new();
        };
        let effect = |(i, objective): (usize, &String)| {
            let at = |place: usize| &points[place].records[i][..];
            let own = at(places[i]);
            let less = |other: &[f64]| paired_difference(own, other).unwrap_or(NOTHING);
            let others = others(&places, i);
            let mean = |record: usize| -> f64 {
                let each = others.iter().map(|&place| at(place)[record]);
                each.sum::<f64>() / others.len() as f64
            };
            let mean: Vec<f64> = (0..own.len()).map(mean).collect();
            Self {
                objective: objective.clone(),
                over_each: places.iter().map(|&place| less(at(place))).collect(),
                over_others: (!others.is_empty()).then(|| less(&mean)),
                over_untrained: untrained.map(|untrained| less(&untrained[i])),
                records: Some(own.len()),
            }
        };
        objectives.iter().enumerate().map(effect).collect()
    }

    /// The effects on every objective from means and their standard errors alone, as if these were of different records: with
    /// the same records the true errors are smaller.
    pub(crate) fn unpaired(objectives: &[String], points: &[FrontPoint]) -> Vec<Self> {
        let lambdas: Vec<&[f64]> = points.iter().map(|point| &point.lambda[..]).collect();
        let Some(places) = places(&lambdas, objectives.len()) else {
            return Vec::new();
        };
        let effect = |(i, objective): (usize, &String)| {
            let at = |place: usize| Estimate {
                mean: points[place].values[i],
                stderr: points[place].stderr[i],
            };
            let own = at(places[i]);
            let less = |other: Estimate| Estimate {
                mean: own.mean - other.mean,
                stderr: own.stderr.hypot(other.stderr),
            };
            let others = others(&places, i);
            let mean = |of: fn(Estimate) -> f64| {
                others.iter().map(|&place| of(at(place))).sum::<f64>() / others.len() as f64
            };
            let over_each = places.iter().map(|&place| match place == places[i] {
                true => NOTHING,
                false => less(at(place)),
            });
            Self {
                objective: objective.clone(),
                over_each: over_each.collect(),
                // Errors that go together do not shrink in a mean.
                over_others: (!others.is_empty()).then(|| {
                    less(Estimate {
                        mean: mean(|of| of.mean),
                        stderr: mean(|of| of.stderr),
                    })
                }),
                over_untrained: None,
                records: None,
            }
        };
        objectives.iter().enumerate().map(effect).collect()
    }
}

/// For each objective, the point where its weight is greatest; of several the first. `None` without a point.
pub(crate) fn places(lambdas: &[&[f64]], objectives: usize) -> Option<Vec<usize>> {
    let place = |i: usize| {
        let points = 0..lambdas.len();
        points.reduce(|best, point| match lambdas[point][i] > lambdas[best][i] {
            true => point,
            false => best,
        })
    };
    (0..objectives).map(place).collect()
}

/// The places of the other objectives, where they are not the own one.
fn others(places: &[usize], i: usize) -> Vec<usize> {
    let others = places.iter().copied();
    others.filter(|&place| place != places[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("o{i}")).collect()
    }

    /// Three vertices and the centre; J_i of record r is r (which pairing removes) + a multiple of λ_i.
    fn points(step: f64) -> Vec<PointRecords> {
        let lambdas = [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
            [1.0 / 3.0; 3],
        ];
        let point = |lambda: [f64; 3]| PointRecords {
            lambda: lambda.to_vec(),
            records: (0..3)
                .map(|i| {
                    (0..4)
                        .map(|r| 10.0 * f64::from(r) + step * lambda[i])
                        .collect()
                })
                .collect(),
            ..PointRecords::default()
        };
        lambdas.map(point).to_vec()
    }

    #[test]
    fn pairing_removes_what_records_share() {
        let untrained = vec![vec![-1.0, 9.0, 19.0, 29.0]; 3];
        let effects = ObjectiveEffect::paired(&objectives(3), &points(2.0), Some(&untrained));
        let certain = |mean: f64| Estimate { mean, stderr: 0.0 };
        assert_eq!(effects[1].over_each, [2.0, 0.0, 2.0].map(certain));
        assert_eq!(effects[1].over_others, Some(certain(2.0)));
        assert_eq!(effects[1].over_untrained, Some(certain(3.0)));
        assert_eq!(effects[2].objective, "o2");
        assert_eq!(effects[2].records, Some(4));
    }

    #[test]
    fn without_records_errors_add_up() {
        let point = |lambda: [f64; 2], values: [f64; 2]| FrontPoint {
            lambda: lambda.to_vec(),
            values: values.to_vec(),
            stderr: vec![0.3, 0.4],
            ..FrontPoint::default()
        };
        let points = [point([0.9, 0.1], [2.0, 1.0]), point([0.2, 0.8], [0.5, 3.0])];
        let effects = ObjectiveEffect::unpaired(&objectives(2), &points);
        let found = effects[0].over_others.expect("another place");
        assert_eq!(found.mean, 1.5);
        assert!((found.stderr - 0.3 * 2f64.sqrt()).abs() < 1e-15);
        assert_eq!(effects[0].over_each[0], NOTHING);
        assert_eq!(effects[1].over_each[0].mean, 2.0);
    }

    #[test]
    fn one_objective_or_one_point_has_no_other_place() {
        let one = ObjectiveEffect::paired(
            &objectives(1),
            &[PointRecords {
                lambda: vec![1.0],
                records: vec![vec![1.0, 2.0]],
                ..PointRecords::default()
            }],
            None,
        );
        assert_eq!((one.len(), one[0].over_others), (1, None));
        let centre = ObjectiveEffect::paired(&objectives(3), &points(1.0)[3..], None);
        assert!(centre.iter().all(|effect| effect.over_others.is_none()));
        assert_eq!(ObjectiveEffect::paired(&objectives(3), &[], None), []);
    }
}
