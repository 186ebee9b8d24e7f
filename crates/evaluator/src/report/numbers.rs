//! The rows of the tables, the same in the terminal, the page and the report.

use std::fmt;

use panacea_objectives::rounded_weight;

use crate::Front;
use crate::text::preference;

/// With more objectives, a table names the weights of λ that are not 0.
const FEW_OBJECTIVES: usize = 3;

/// A table: its header, and its rows. It is shown with aligned columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<String>,
    /// One entry per column each.
    pub rows: Vec<Vec<String>>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                lines()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (number, line) in lines().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            // Names to the left, numbers to the right.
            write!(f, "{:<width$}", line[0], width = widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
        }
        Ok(())
    }
}

impl Front {
    /// The indicators of each method, its distance from the exact front where that is known, and its cost.
    #[must_use]
    pub fn indicator_table(&self) -> Table {
        indicators(self)
    }

    /// J_i with its standard error at every preference of every method. More than `most` rows of a method
    /// are left out, except for the vertices of the simplex.
    #[must_use]
    pub fn value_table(&self, most: usize) -> Table {
        let mut header = texts(&["method", "λ"]);
        header.extend(self.objectives.iter().cloned());
        let few_objectives = self.objectives.len() <= FEW_OBJECTIVES;
        let lambda = |weights: &[f64]| match few_objectives {
            true => preference(weights),
            false => named_preference(&self.objectives, weights),
        };
        let mut rows = Vec::new();
        for method in &self.methods {
            let few = method.points.len() <= most;
            let is_vertex = |lambda: &[f64]| lambda.contains(&1.0);
            for point in method.points.iter().filter(|p| few || is_vertex(&p.lambda)) {
                let mut row = vec![method.method.clone(), lambda(&point.lambda)];
                let values = point.values.iter().zip(&point.stderr);
                row.extend(values.map(|(value, stderr)| estimate(*value, *stderr)));
                rows.push(row);
            }
        }
        Table { header, rows }
    }
}

/// The indicators of each method.
pub(super) fn indicators(front: &Front) -> Table {
    let ratio = front.exact.is_some();
    let cost = front.methods.iter().any(|method| method.cost.is_some());
    let mut header = texts(&["method", "hypervolume ↑"]);
    if ratio {
        header.extend(texts(&["of the exact ↑", "mean regret ↓", "largest ↓"]));
    }
    header.extend(texts(&[
        "inner product ↑",
        "sparsity ↓",
        "spacing ↓",
        "points",
        "non-dominated",
    ]));
    if cost {
        header.extend(texts(&[
            "trainings",
            "in all",
            "tokens",
            "stored",
            "to switch λ",
        ]));
    }
    let rows = front
        .methods
        .iter()
        .map(|method| {
            let found = &method.indicators;
            let mut row = vec![method.method.clone(), number(found.hypervolume)];
            if ratio {
                row.push(optional(found.hypervolume_ratio));
                row.extend([optional(found.regret_mean), optional(found.regret_max)]);
            }
            row.extend([
                number(found.inner_product),
                optional(found.sparsity),
                optional(found.spacing),
            ]);
            row.extend([
                method.points.len().to_string(),
                found.non_dominated.to_string(),
            ]);
            if cost {
                row.extend(match &method.cost {
                    Some(cost) => [
                        cost.trainings.to_string(),
                        duration(cost.train_seconds),
                        millions(cost.train_tokens as f64),
                        format!("{}B", millions(cost.bytes as f64)),
                        format!("{:.1} ms", cost.switch_seconds * 1e3),
                    ],
                    None => [(); 5].map(|()| dash()),
                });
            }
            row
        })
        .collect();
    Table { header, rows }
}

/// What the rewards of each run were like while it was trained.
pub(super) fn reward_scales(front: &Front) -> Table {
    let runs = front.provenance.iter().flat_map(|of| &of.runs);
    let rows = runs.flat_map(|run| {
        run.reward_scales.iter().map(|scale| {
            vec![
                run.run.clone(),
                scale.objective.clone(),
                number(scale.mean),
                number(scale.deviation),
                scale.answers.to_string(),
            ]
        })
    });
    Table {
        header: texts(&["run", "objective", "mean", "deviation", "answers"]),
        rows: rows.collect(),
    }
}

/// The points of all methods in deviations of the rewards in training; none where the values are no rewards.
pub(super) fn points_in_deviations(front: &Front) -> Table {
    let mut header = texts(&["method", "λ"]);
    header.extend(front.objectives.iter().cloned());
    let scales = front.unit().map(|run| &run.reward_scales);
    let rows = scales.iter().flat_map(|scales| {
        let points = (front.methods.iter())
            .flat_map(|method| method.points.iter().map(move |point| (method, point)));
        points.map(|(method, point)| {
            let mut row = vec![method.method.clone(), preference(&point.lambda)];
            let values = scales.iter().zip(&point.values);
            row.extend(values.map(|(scale, &value)| optional(scale.in_deviations(value))));
            row
        })
    });
    let rows = rows.collect();
    Table { header, rows }
}

/// All points of all methods.
pub(super) fn points(front: &Front) -> Table {
    let all = || front.methods.iter().flat_map(|method| &method.points);
    let accuracy = all().any(|point| point.accuracy.is_some());
    let margin = all().any(|point| point.margin.is_some());
    let tokens = all().any(|point| point.response_tokens.is_some());
    let each = |name: &str| {
        front
            .objectives
            .iter()
            .map(|objective| format!("{name} {objective}"))
            .collect::<Vec<_>>()
    };

    let mut header = texts(&["method", "λ"]);
    header.extend(each("J"));
    if accuracy {
        header.extend(each("accuracy"));
    }
    if margin {
        header.extend(each("margin"));
    }
    if tokens {
        header.push("answer tokens".to_owned());
    }
    header.push("non-dominated".to_owned());

    let mut rows = Vec::new();
    for method in &front.methods {
        for point in &method.points {
            let mut row = vec![method.method.clone(), preference(&point.lambda)];
            row.extend(
                point
                    .values
                    .iter()
                    .zip(&point.stderr)
                    .map(|(value, stderr)| estimate(*value, *stderr)),
            );
            let list = |values: &Option<Vec<f64>>, decimals: usize| match values {
                Some(values) => values
                    .iter()
                    .map(|value| format!("{value:.decimals$}"))
                    .collect(),
                None => vec![dash(); front.objectives.len()],
            };
            if accuracy {
                row.extend(list(&point.accuracy, 3));
            }
            if margin {
                row.extend(list(&point.margin, 3));
            }
            if tokens {
                row.push(
                    point
                        .response_tokens
                        .map_or_else(dash, |tokens| format!("{tokens:.1}")),
                );
            }
            row.push(if point.non_dominated { "yes" } else { "no" }.to_owned());
            rows.push(row);
        }
    }
    Table { header, rows }
}

/// How each objective follows its weight; without rows where it is not known.
pub(super) fn ordering(front: &Front) -> Table {
    let header = texts(&[
        "method",
        "objective",
        "Kendall's τ",
        "difference of the ends",
        "in standard errors",
        "records",
    ]);
    let rows = front
        .methods
        .iter()
        .flat_map(|method| {
            method
                .ordering
                .iter()
                .map(move |ordering| (method, ordering))
        })
        .map(|(method, ordering)| {
            vec![
                method.method.clone(),
                ordering.objective.clone(),
                ordering
                    .kendall_tau
                    .map_or_else(dash, |tau| format!("{tau:.3}")),
                estimate(ordering.end_difference, ordering.end_difference_stderr),
                ordering
                    .end_difference_in_stderrs
                    .map_or_else(dash, |ratio| format!("{ratio:.1}")),
                ordering.records.to_string(),
            ]
        })
        .collect();
    Table { header, rows }
}

/// A preference by the objectives that weigh anything in it, where the list of all weights would be long.
fn named_preference(objectives: &[String], lambda: &[f64]) -> String {
    let all_alike = lambda
        .iter()
        .all(|weight| (weight - lambda[0]).abs() < 1e-9);
    if all_alike {
        return format!("all {}", rounded_weight(lambda[0], 2));
    }
    let named = objectives
        .iter()
        .zip(lambda)
        .filter(|(_, weight)| **weight > 0.0);
    let named: Vec<String> = named
        .map(|(objective, &weight)| match weight == 1.0 {
            true => objective.clone(),
            false => format!("{objective} {}", rounded_weight(weight, 2)),
        })
        .collect();
    named.join(", ")
}

/// The reference as people read it; `front.json` has all its digits.
pub(super) fn reference(front: &Front) -> String {
    let values: Vec<String> = front.reference.iter().map(|value| number(*value)).collect();
    values.join(", ")
}

pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e5).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(dash, number)
}

pub(crate) fn estimate(value: f64, stderr: f64) -> String {
    format!("{value:.4} ± {stderr:.4}")
}

fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

/// `2.3 M`
fn millions(number: f64) -> String {
    format!("{:.1} M", number / 1e6)
}

pub(crate) fn dash() -> String {
    "–".to_owned()
}

pub(crate) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(number(0.12345), "0.1235");
        assert_eq!(number(1.39e-4), "1.390e-4");
        assert_eq!(number(0.0), "0.0000");
        assert_eq!(duration(1080.0), "18.0 min");
        let names = texts(&["a", "b", "c", "d"]);
        assert_eq!(named_preference(&names, &[0.0, 1.0, 0.0, 0.0]), "b");
        assert_eq!(
            named_preference(&names, &[0.25, 0.0, 0.0, 0.75]),
            "a 0.25, d 0.75"
        );
        assert_eq!(named_preference(&names, &[0.25; 4]), "all 0.25");
    }

    #[test]
    fn a_table_is_aligned() {
        let table = Table {
            header: texts(&["λ", "value"]),
            rows: vec![texts(&["(1, 0)", "−1"]), texts(&["x", "100000"])],
        };
        assert_eq!(
            table.to_string(),
            "λ        value\n(1, 0)      −1\nx       100000"
        );
    }

    #[test]
    fn every_row_has_the_columns_of_its_header() {
        let front = super::super::tests::report().front;
        for table in [indicators(&front), points(&front), ordering(&front)] {
            assert!(!table.rows.is_empty());
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
    }
}
