//! Points from a file: a CSV, or a JSON array of rows.

use std::path::Path;

use serde_json::Value;

use panacea_files::read_text;

use crate::EvaluatorError;

/// Reads points, one value per objective.
///
/// A file whose first character is `[` is a JSON array of rows, as in `[[1, 2], [3, 4]]`; any other is a
/// CSV of one point a line, with an optional header line (one without any number in it). Empty lines are
/// passed over.
///
/// # Errors
/// When the file cannot be read, holds no point, or a line or row is not as many finite numbers as the
/// first one; the message names it.
pub fn read_points(path: &Path) -> Result<Vec<Vec<f64>>, EvaluatorError> {
    let text = read_text(path)?;
    let text = text.trim_start_matches('\u{feff}');
    let points = match text.trim_start().chars().next() {
        Some('[') => from_json(path, text)?,
        Some('{') => {
            return Err(EvaluatorError::PointsLine {
                path: path.to_owned(),
                line: 1,
                problem: "found a JSON object, expected an array of rows such as [[1, 2], [3, 4]]"
                    .to_owned(),
            });
        }
        _ => from_csv(path, text)?,
    };
    if points.is_empty() {
        return Err(EvaluatorError::NoPoints {
            path: path.to_owned(),
        });
    }
    Ok(points)
}

fn from_csv(path: &Path, text: &str) -> Result<Vec<Vec<f64>>, EvaluatorError> {
    let mut points: Vec<Vec<f64>> = Vec::new();
    let mut columns: Option<usize> = None;
    for (i, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let problem = |problem: String| EvaluatorError::PointsLine {
            path: path.to_owned(),
            line: i + 1,
            problem,
        };
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let is_header =
            columns.is_none() && fields.iter().all(|field| field.parse::<f64>().is_err());
        match columns {
            Some(expected) if expected != fields.len() => {
                return Err(problem(format!(
                    "found {} value(s), expected {expected} as above",
                    fields.len()
                )));
            }
            _ => columns = Some(fields.len()),
        }
        if is_header {
            continue;
        }
        let point = fields
            .iter()
            .enumerate()
            .map(|(column, field)| match field.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(value),
                _ => Err(problem(format!(
                    "column {}: found `{field}`, expected a finite number",
                    column + 1
                ))),
            })
            .collect::<Result<Vec<f64>, _>>()?;
        points.push(point);
    }
    Ok(points)
}

fn from_json(path: &Path, text: &str) -> Result<Vec<Vec<f64>>, EvaluatorError> {
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|source| EvaluatorError::Json {
        path: path.to_owned(),
        source,
    })?;
    let mut points: Vec<Vec<f64>> = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let problem = |problem: String| EvaluatorError::PointsRow {
            path: path.to_owned(),
            row: i + 1,
            problem,
        };
        let Some(values) = row.as_array() else {
            return Err(problem(format!(
                "found {row}, expected an array of numbers"
            )));
        };
        let point = values
            .iter()
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| problem(format!("found {value}, expected a number")))
            })
            .collect::<Result<Vec<f64>, _>>()?;
        if point.is_empty() {
            return Err(problem(
                "found an empty array, expected one number per objective".to_owned(),
            ));
        }
        if let Some(expected) = points.first().map(Vec::len)
            && expected != point.len()
        {
            return Err(problem(format!(
                "found {} value(s), expected {expected} as in row 1",
                point.len()
            )));
        }
        points.push(point);
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Vec<f64>>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("points.txt");
        std::fs::write(&path, text).expect("written");
        read_points(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_are_read() {
        let expected = Ok(vec![vec![1.0, -2.5], vec![3e-1, 4.0]]);
        assert_eq!(read("1,-2.5\n0.3,4\n"), expected);
        assert_eq!(
            read("\u{feff}helpful, concise\r\n 1 , -2.5\r\n\r\n0.3,4\r\n"),
            expected
        );
        assert_eq!(read(" [[1, -2.5],\n [0.3, 4]]"), expected);
        assert_eq!(read("1\n2\n"), Ok(vec![vec![1.0], vec![2.0]]));
    }

    #[test]
    fn mistakes_are_named_with_their_line_or_row() {
        let error = |text: &str| read(text).expect_err("no points");
        assert!(error("").contains("no point"));
        assert!(error("a,b\n").contains("no point"));
        assert!(error("[]").contains("no point"));
        assert!(error("a,b\n1,2\n3\n").contains("line 3: found 1 value(s), expected 2"));
        assert!(error("1,2\n3,x\n").contains("line 2: column 2: found `x`"));
        assert!(error("1,2\n3,NaN\n").contains("found `NaN`"));
        assert!(error("a,b,c\n1,2\n").contains("line 2: found 2 value(s), expected 3"));
        assert!(error("[[1,2],[3]]").contains("row 2: found 1 value"));
        assert!(error("[[1,2],[3,\"x\"]]").contains("row 2: found \"x\""));
        assert!(error("[[1,2],\n[3,]]").contains("line 2"));
        assert!(error("[1,2]").contains("row 1: found 1"));
        assert!(error("{\"points\":[]}").contains("JSON object"));
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = read_points(Path::new("absent.csv"))
            .expect_err("absent")
            .to_string();
        assert!(error.contains("absent.csv"), "{error}");
    }
}
