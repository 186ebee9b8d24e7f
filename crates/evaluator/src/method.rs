//! From the values of single records to the points of a method.

use crate::EvaluatorError;
use crate::effects::ObjectiveEffect;
use crate::front::{Cost, FrontPoint, MethodFront};
use crate::statistics::{Estimate, ObjectiveOrdering, error_correlation, estimate};

/// The points of a method before they are measured against a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodPoints {
    /// Name of the method, such as `panacea-linear`.
    pub method: String,
    /// One point per preference.
    pub points: Vec<FrontPoint>,
    /// How each objective follows its weight; empty where it is not known.
    pub ordering: Vec<ObjectiveOrdering>,
    /// What λ does to each objective; empty where the values of single records are not known.
    pub effects: Vec<ObjectiveEffect>,
    /// What the method took, where that is known.
    pub cost: Option<Cost>,
}

/// What the records of the evaluation set show under one preference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointRecords {
    /// The preference λ.
    pub lambda: Vec<f64>,
    /// Per objective, the value of each record that is labelled on it (the higher the better; for DPO
    /// −loss), in the same order of records at every point.
    pub records: Vec<Vec<f64>>,
    /// Per objective, which records these are: ascending numbers. `None` where every objective has a value of every record.
    pub labelled: Option<Vec<Vec<usize>>>,
    /// Per objective, the share of records where the policy leans to the preferred response.
    pub accuracy: Option<Vec<f64>>,
    /// Per objective, the mean reward margin.
    pub margin: Option<Vec<f64>>,
    /// Mean number of tokens of the generated answers.
    pub response_tokens: Option<f64>,
}

impl MethodPoints {
    /// The points with their means, standard errors, ordering and effects. `untrained` has the values of the same records
    /// under the model before its training, where these were measured.
    ///
    /// # Errors
    /// When an objective has no record, or the points, or the untrained model, were not evaluated on the same records.
    pub fn from_records(
        method: &str,
        objectives: &[String],
        points: Vec<PointRecords>,
        untrained: Option<&[Vec<f64>]>,
        cost: Option<Cost>,
    ) -> Result<Self, EvaluatorError> {
        check(method, objectives, &points)?;
        check_untrained(method, objectives, &points, untrained)?;
        let ordering = ordering(objectives, &points);
        let effects = ObjectiveEffect::paired(objectives, &points, untrained);
        let points = points
            .into_iter()
            .map(|point| {
                let correlation = correlation(&point);
                let estimates: Vec<Estimate> = point
                    .records
                    .iter()
                    .filter_map(|row| estimate(row))
                    .collect();
                FrontPoint {
                    lambda: point.lambda,
                    values: estimates.iter().map(|e| e.mean).collect(),
                    stderr: estimates.iter().map(|e| e.stderr).collect(),
                    correlation: Some(correlation),
                    non_dominated: false,
                    accuracy: point.accuracy,
                    margin: point.margin,
                    response_tokens: point.response_tokens,
                    exact: None,
                }
            })
            .collect();
        Ok(Self {
            method: method.to_owned(),
            points,
            ordering,
            effects,
            cost,
        })
    }

    /// The values of the points.
    pub(crate) fn values(&self) -> Vec<Vec<f64>> {
        self.points
            .iter()
            .map(|point| point.values.clone())
            .collect()
    }
}

impl From<MethodFront> for MethodPoints {
    fn from(front: MethodFront) -> Self {
        Self {
            method: front.method,
            points: front.points,
            ordering: front.ordering,
            effects: front.effects,
            cost: front.cost,
        }
    }
}

fn check(
    method: &str,
    objectives: &[String],
    points: &[PointRecords],
) -> Result<(), EvaluatorError> {
    for (position, point) in points.iter().enumerate() {
        for (field, found) in [
            ("lambda", point.lambda.len()),
            ("records", point.records.len()),
        ] {
            if found != objectives.len() {
                return Err(EvaluatorError::PointField {
                    method: method.to_owned(),
                    point: position + 1,
                    field,
                    found,
                    expected: objectives.len(),
                });
            }
        }
        for (i, objective) in objectives.iter().enumerate() {
            let (found, expected) = (point.records[i].len(), points[0].records[i].len());
            if found == 0 {
                return Err(EvaluatorError::NoRecords {
                    method: method.to_owned(),
                    point: position + 1,
                    objective: objective.clone(),
                });
            }
            if found != expected {
                return Err(EvaluatorError::RecordCount {
                    method: method.to_owned(),
                    point: position + 1,
                    objective: objective.clone(),
                    found,
                    expected,
                });
            }
        }
        check_labelled(method, objectives, position, point)?;
    }
    Ok(())
}

/// Which records an objective's values are of is said, or they are those of the first objective.
fn check_labelled(
    method: &str,
    objectives: &[String],
    position: usize,
    point: &PointRecords,
) -> Result<(), EvaluatorError> {
    let (method, number) = (method.to_owned(), position + 1);
    let Some(labelled) = &point.labelled else {
        let expected = point.records.first().map_or(0, Vec::len);
        let other = (point.records.iter().map(Vec::len)).position(|found| found != expected);
        return match other {
            Some(i) => Err(EvaluatorError::UnknownRecords {
                method,
                point: number,
                objective: objectives[i].clone(),
                found: point.records[i].len(),
                expected,
            }),
            None => Ok(()),
        };
    };
    if labelled.len() != objectives.len() {
        return Err(EvaluatorError::PointField {
            method,
            point: number,
            field: "labelled",
            found: labelled.len(),
            expected: objectives.len(),
        });
    }
    for ((numbers, values), objective) in labelled.iter().zip(&point.records).zip(objectives) {
        let is_ascending = numbers.is_sorted_by(|a, b| a < b);
        if numbers.len() != values.len() || !is_ascending {
            return Err(EvaluatorError::Labelled {
                method,
                point: number,
                objective: objective.clone(),
                found: match is_ascending {
                    true => format!("{}", numbers.len()),
                    false => "records out of order".to_owned(),
                },
                expected: values.len(),
            });
        }
    }
    Ok(())
}

/// Of every objective with each before it.
fn correlation(point: &PointRecords) -> Vec<Vec<f64>> {
    let all: Vec<usize> = (0..point.records[0].len()).collect();
    let records = |i: usize| match &point.labelled {
        Some(labelled) => &labelled[i][..],
        None => &all[..],
    };
    let of = |i: usize, k: usize| {
        let values = [&point.records[i][..], &point.records[k][..]];
        error_correlation(values, [records(i), records(k)])
    };
    (0..point.records.len())
        .map(|i| (0..i).map(|k| of(i, k)).collect())
        .collect()
}

fn check_untrained(
    method: &str,
    objectives: &[String],
    points: &[PointRecords],
    untrained: Option<&[Vec<f64>]>,
) -> Result<(), EvaluatorError> {
    let (Some(untrained), Some(first)) = (untrained, points.first()) else {
        return Ok(());
    };
    for (i, objective) in objectives.iter().enumerate() {
        let (found, expected) = (untrained.get(i).map_or(0, Vec::len), first.records[i].len());
        if found != expected {
            return Err(EvaluatorError::UntrainedCount {
                method: method.to_owned(),
                objective: objective.clone(),
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn ordering(objectives: &[String], points: &[PointRecords]) -> Vec<ObjectiveOrdering> {
    objectives
        .iter()
        .enumerate()
        .filter_map(|(i, objective)| {
            let weights: Vec<f64> = points.iter().map(|point| point.lambda[i]).collect();
            let records: Vec<&[f64]> = points
                .iter()
                .map(|point| point.records[i].as_slice())
                .collect();
            ObjectiveOrdering::new(objective, &weights, &records)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives() -> Vec<String> {
        vec!["helpful".to_owned(), "concise".to_owned()]
    }

    fn point(weight: f64, helpful: &[f64], concise: &[f64]) -> PointRecords {
        PointRecords {
            lambda: vec![weight, 1.0 - weight],
            records: vec![helpful.to_vec(), concise.to_vec()],
            ..PointRecords::default()
        }
    }

    #[test]
    fn records_become_means_errors_and_an_ordering() {
        let of_records = |point: PointRecords| PointRecords {
            labelled: Some(vec![vec![0, 1], vec![1]]),
            ..point
        };
        let points = vec![
            of_records(point(1.0, &[-0.5, -0.7], &[-0.9])),
            of_records(point(0.0, &[-0.8, -1.0], &[-0.4])),
        ];
        let method =
            MethodPoints::from_records("m", &objectives(), points, None, None).expect("valid");
        assert!((method.points[0].values[0] + 0.6).abs() < 1e-15);
        assert!((method.points[0].stderr[0] - 0.1).abs() < 1e-15);
        assert_eq!(method.ordering[0].kendall_tau, Some(1.0));
        assert!((method.ordering[1].end_difference - 0.5).abs() < 1e-15);
        assert_eq!(method.ordering[1].end_difference_in_stderrs, None);
    }

    /// The covariance of two means over n records is that of the records divided by n.
    #[test]
    fn errors_of_two_objectives_are_correlated_as_their_records_are() {
        let (a, b) = ([0.5, -1.0, 2.0, 0.25, 1.5], [1.0, 0.0, 0.5, -1.0, 3.0]);
        let method =
            MethodPoints::from_records("m", &objectives(), vec![point(1.0, &a, &b)], None, None)
                .expect("valid");
        let point = &method.points[0];
        let n = a.len() as f64;
        let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
        let products = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b));
        let direct = products.sum::<f64>() / (n - 1.0) / n;
        let kept = point.correlation_of(0, 1).expect("known") * point.stderr[0] * point.stderr[1];
        assert!((kept - direct).abs() < 1e-15, "{kept}, {direct}");
        assert_eq!(point.correlation_of(1, 0), point.correlation_of(0, 1));
        assert_eq!(point.correlation_of(1, 1), Some(1.0));
        assert_eq!(
            point.correlation.as_ref().map(|rows| rows[0].len()),
            Some(0)
        );
    }

    #[test]
    fn which_records_are_labelled_must_be_said() {
        let error = |labelled| {
            let point = PointRecords {
                labelled,
                ..point(1.0, &[1.0, 2.0], &[3.0])
            };
            MethodPoints::from_records("m", &objectives(), vec![point], None, None)
                .expect_err("invalid")
                .to_string()
        };
        for (labelled, expected) in [
            (
                None,
                "m, point 1: 1 value(s) of objective `concise`, but 2 of the first",
            ),
            (
                Some(vec![vec![0, 1]]),
                "labelled has 1 value(s), expected 2",
            ),
            (
                Some(vec![vec![0, 1], vec![0, 1]]),
                "`labelled` of objective `concise` names 2, expected 1 record(s)",
            ),
            (
                Some(vec![vec![1, 1], vec![0]]),
                "`labelled` of objective `helpful` names records out of order, expected 2",
            ),
        ] {
            let said = error(labelled);
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn points_on_other_records_are_refused() {
        let error = |points| {
            MethodPoints::from_records("m", &objectives(), points, None, None)
                .expect_err("invalid")
                .to_string()
        };
        let missing = error(vec![point(1.0, &[1.0], &[])]);
        assert!(
            missing.contains("no evaluation record is labelled on objective `concise`"),
            "{missing}"
        );
        let other = error(vec![
            point(1.0, &[1.0], &[1.0]),
            point(0.0, &[1.0, 2.0], &[1.0]),
        ]);
        assert!(
            other.contains("m, point 2: 2 record(s) on objective `helpful`"),
            "{other}"
        );
        let short = error(vec![PointRecords {
            lambda: vec![1.0],
            ..point(1.0, &[1.0], &[1.0])
        }]);
        assert!(short.contains("lambda has 1"), "{short}");
    }
}
