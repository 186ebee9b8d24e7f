//! Whether the points of methods make a front.

use std::collections::HashSet;

use crate::EvaluatorError;
use crate::indicators::check_points;
use crate::method::MethodPoints;

/// Every list of a point has one finite number per objective, and no two methods have one name.
pub(super) fn check(objectives: &[String], methods: &[MethodPoints]) -> Result<(), EvaluatorError> {
    if objectives.is_empty() || methods.is_empty() {
        return Err(EvaluatorError::Empty {
            objectives: objectives.len(),
            methods: methods.len(),
        });
    }
    let mut names = HashSet::new();
    for method in methods {
        if !names.insert(&method.method) {
            return Err(EvaluatorError::DuplicateMethod(method.method.clone()));
        }
        for (position, point) in method.points.iter().enumerate() {
            let lists = [
                ("lambda", Some(&point.lambda)),
                ("values", Some(&point.values)),
                ("stderr", Some(&point.stderr)),
                ("accuracy", point.accuracy.as_ref()),
                ("margin", point.margin.as_ref()),
            ];
            for (field, list) in lists {
                if let Some(list) = list
                    && list.len() != objectives.len()
                {
                    return Err(EvaluatorError::PointField {
                        method: method.method.clone(),
                        point: position + 1,
                        field,
                        found: list.len(),
                        expected: objectives.len(),
                    });
                }
            }
        }
        check_correlations(method, objectives.len())?;
        check_effects(method, objectives.len())?;
        check_points(&method.values()).map_err(|source| EvaluatorError::Method {
            method: method.method.clone(),
            source,
        })?;
    }
    Ok(())
}

/// A correlation for every two objectives of a point, each between −1 and 1, or there are none.
fn check_correlations(method: &MethodPoints, objectives: usize) -> Result<(), EvaluatorError> {
    for (position, point) in method.points.iter().enumerate() {
        let Some(rows) = &point.correlation else {
            continue;
        };
        let found: Vec<usize> = rows.iter().map(Vec::len).collect();
        let outside = rows
            .iter()
            .flatten()
            .find(|rho| !(-1.0..=1.0).contains(*rho));
        if found != (0..objectives).collect::<Vec<_>>() || outside.is_some() {
            return Err(EvaluatorError::Correlation {
                method: method.method.clone(),
                point: position + 1,
                found: match outside {
                    Some(rho) => format!("{rho}"),
                    None => format!("rows of {found:?} numbers"),
                },
                objectives,
            });
        }
    }
    Ok(())
}

/// The effects of a method are of every objective over every objective, or there are none.
fn check_effects(method: &MethodPoints, objectives: usize) -> Result<(), EvaluatorError> {
    let lists = method.effects.iter().map(|effect| effect.over_each.len());
    let lists = lists.chain((!method.effects.is_empty()).then_some(method.effects.len()));
    match lists.into_iter().find(|found| *found != objectives) {
        Some(found) => Err(EvaluatorError::Effects {
            method: method.method.clone(),
            found,
            expected: objectives,
        }),
        None => Ok(()),
    }
}
