//! A front: what one or several methods reach over a grid of preferences (`front.json`).

mod check;
mod deviations;

use std::path::Path;

use panacea_files::{read_text, write_file};
use panacea_objectives::non_dominated;
use serde::{Deserialize, Serialize};

use self::check::check;
use crate::effects::ObjectiveEffect;
use crate::indicators::{check_reference, ignored_warning};
use crate::method::MethodPoints;
use crate::provenance::Provenance;
use crate::statistics::ObjectiveOrdering;
use crate::{EvaluatorError, default_reference, hypervolume, inner_product, spacing, sparsity};

/// The fronts of one or several methods over the same objectives, all maximised; it is `front.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// Names of the objectives, in the order of every list of values.
    pub objectives: Vec<String>,
    /// The reference of the hypervolumes.
    pub reference: Vec<f64>,
    /// One front per method.
    pub methods: Vec<MethodFront>,
    /// The true front, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<ExactFront>,
    /// What was measured, and how; fronts of versions before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// What one method reaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodFront {
    /// Name of the method, such as `panacea-linear`.
    pub method: String,
    /// One point per preference.
    pub points: Vec<FrontPoint>,
    /// The indicators of these points.
    pub indicators: Indicators,
    /// How each objective follows its weight, where the values of single records were at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordering: Vec<ObjectiveOrdering>,
    /// What λ does to each objective, where the values of single records were at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<ObjectiveEffect>,
    /// What the method took; its keys stand beside the others.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What a method takes to train, to keep and to steer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of all its trainings.
    pub train_seconds: f64,
    /// Tokens that went through the network for gradients.
    #[serde(default)]
    pub train_tokens: usize,
    /// Trainings.
    #[serde(default)]
    pub trainings: usize,
    /// Bytes of the adapters that serve every preference.
    #[serde(default)]
    pub bytes: u64,
    /// Seconds from one preference to the next: of making its adapter, where there is anything to make.
    #[serde(default)]
    pub switch_seconds: f64,
}

/// What a method reaches under one preference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// The preference λ.
    pub lambda: Vec<f64>,
    /// J_i of each objective, the higher the better.
    pub values: Vec<f64>,
    /// The standard error of each J_i.
    pub stderr: Vec<f64>,
    /// How the errors of two J_i go together, which the same records have measured: row i has the correlation of the error of
    /// J_i with that of each objective before it, so that the first row is empty. Times both standard errors it is the
    /// covariance. Fronts without the values of single records, and those of versions before it was kept, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Vec<Vec<f64>>>,
    /// Whether no other point of the method dominates this one; of equal points the first.
    #[serde(default)]
    pub non_dominated: bool,
    /// Per objective, the share of the records where the policy leans to the preferred response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Vec<f64>>,
    /// Per objective, the mean reward margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<Vec<f64>>,
    /// Mean number of tokens of the generated answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_tokens: Option<f64>,
    /// The optimum for the same preference, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<ExactPoint>,
}

impl FrontPoint {
    /// The correlation of the errors of J_i and J_k, where it is known.
    #[must_use]
    pub fn correlation_of(&self, i: usize, k: usize) -> Option<f64> {
        match i == k {
            true => Some(1.0),
            false => (self.correlation.as_ref())
                .and_then(|rows| rows.get(i.max(k))?.get(i.min(k)))
                .copied(),
        }
    }
}

/// The optimum for one preference under the aggregation that a method optimises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExactPoint {
    /// J_i of each objective.
    pub values: Vec<f64>,
    /// By how much the method's aggregate falls short of the optimum's; ≥ 0.
    pub regret: f64,
}

/// The indicators of a method's points against the reference of the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Indicators {
    /// [`hypervolume`].
    pub hypervolume: f64,
    /// The hypervolume as a share of that of the optima for the same preferences, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervolume_ratio: Option<f64>,
    /// The mean over the preferences of [`ExactPoint::regret`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_mean: Option<f64>,
    /// The largest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regret_max: Option<f64>,
    /// [`inner_product`].
    pub inner_product: f64,
    /// [`sparsity`]; null for fewer than two non-dominated points.
    pub sparsity: Option<f64>,
    /// [`spacing`]; null for fewer than two points.
    pub spacing: Option<f64>,
    /// Number of non-dominated points.
    #[serde(default)]
    pub non_dominated: usize,
    /// Points, counted from 1, that are not above the reference in every objective.
    #[serde(default)]
    pub ignored_points: Vec<usize>,
}

/// A front known from theory, as points close enough together to draw and to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExactFront {
    /// Points of the front, in order along it where there are two objectives.
    pub values: Vec<Vec<f64>>,
    /// Their hypervolume against the reference of the front; computed when the front is built.
    #[serde(default)]
    pub hypervolume: f64,
}

impl ExactFront {
    /// An exact front through these points.
    #[must_use]
    pub fn new(values: Vec<Vec<f64>>) -> Self {
        Self {
            values,
            hypervolume: 0.0,
        }
    }
}

impl MethodFront {
    /// Whether it was measured at the λ of another one.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let lambdas = |of: &Self| -> Vec<Vec<f64>> {
            of.points.iter().map(|point| point.lambda.clone()).collect()
        };
        lambdas(self) == lambdas(other)
    }
}

impl Front {
    /// Builds a front: checks the points, and computes what depends on all of them. Without a
    /// `reference` it is [`default_reference`] of the exact front, or, where that is not known, of all
    /// points of all methods.
    ///
    /// # Errors
    /// When there is nothing to show, a list has not one finite number per objective, or two methods
    /// have the same name.
    pub fn new(
        objectives: Vec<String>,
        methods: Vec<MethodPoints>,
        reference: Option<Vec<f64>>,
        exact: Option<ExactFront>,
    ) -> Result<Self, EvaluatorError> {
        check(&objectives, &methods)?;
        let reference = match (reference, &exact) {
            (Some(reference), _) => reference,
            (None, Some(exact)) => default_reference(&exact.values),
            (None, None) => {
                let all: Vec<Vec<f64>> = methods.iter().flat_map(MethodPoints::values).collect();
                default_reference(&all)
            }
        };
        check_reference(&reference, objectives.len())?;
        let exact = match exact {
            Some(exact) => {
                let volume = hypervolume(&exact.values, &reference)?.value;
                Some(ExactFront {
                    hypervolume: volume,
                    ..exact
                })
            }
            None => None,
        };
        let methods = methods
            .into_iter()
            .map(|method| measured(method, &reference))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            objectives,
            reference,
            methods,
            exact,
            provenance: None,
        })
    }

    /// Puts the fronts of several runs, each with the run's name, into one, under one reference. A method
    /// that occurs in several runs is named `method (run)`. The first exact front is kept.
    ///
    /// # Errors
    /// When there is no run, the objectives differ, or as [`Front::new`].
    pub fn overlay(
        runs: Vec<(String, Front)>,
        reference: Option<Vec<f64>>,
    ) -> Result<Self, EvaluatorError> {
        let Some((first, objectives)) = runs
            .first()
            .map(|(run, front)| (run.clone(), front.objectives.clone()))
        else {
            return Err(EvaluatorError::Empty {
                objectives: 0,
                methods: 0,
            });
        };
        if let Some((run, front)) = runs
            .iter()
            .find(|(_, front)| front.objectives != objectives)
        {
            return Err(EvaluatorError::Objectives {
                run: run.clone(),
                found: front.objectives.clone(),
                first,
                expected: objectives,
            });
        }
        let names: Vec<String> = runs
            .iter()
            .flat_map(|(_, front)| front.methods.iter().map(|m| m.method.clone()))
            .collect();
        let occurs_twice = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
        let exact = runs.iter().find_map(|(_, front)| front.exact.clone());
        let mut methods = Vec::new();
        for (run, front) in runs {
            for mut method in front.methods {
                if occurs_twice(&method.method) {
                    method.method = format!("{} ({run})", method.method);
                }
                methods.push(MethodPoints::from(method));
            }
        }
        Self::new(objectives, methods, reference, exact)
    }

    /// The method with the most points, the first of several: one may have been measured at a single λ.
    pub(crate) fn widest(&self) -> &MethodFront {
        let methods = self.methods.iter().rev();
        let widest = methods.max_by_key(|method| method.points.len());
        widest.expect("a front has methods")
    }

    /// What to warn of: points that the hypervolumes ignore, and methods that were not measured at the same λ.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let ignored = self.methods.iter().filter_map(|method| {
            let ignored = &method.indicators.ignored_points;
            ignored_warning(ignored, method.points.len(), &self.reference)
                .map(|warning| format!("{}: {warning}", method.method))
        });
        let are_alike = self.methods.windows(2).all(|two| two[0].is_at(&two[1]));
        let unlike = (!are_alike).then(|| {
            "The methods were not measured at the same λ: inner product, regret and the share of the exact hypervolume are each over \
             a method's own."
                .to_owned()
        });
        ignored.chain(unlike).collect()
    }

    /// Reads a `front.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not of the form.
    pub fn read(path: &Path) -> Result<Self, EvaluatorError> {
        serde_json::from_str(&read_text(path)?).map_err(|source| EvaluatorError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes a `front.json`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EvaluatorError> {
        Ok(write_file(path, self.to_json().as_bytes())?)
    }

    /// The contents of a `front.json`.
    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a front is plain data");
        json + "\n"
    }
}

fn measured(method: MethodPoints, reference: &[f64]) -> Result<MethodFront, EvaluatorError> {
    let values = method.values();
    let lambdas: Vec<Vec<f64>> = method
        .points
        .iter()
        .map(|point| point.lambda.clone())
        .collect();
    let marks = non_dominated(&values);
    let volume = hypervolume(&values, reference)?;
    // Of every point, or of none.
    let exact: Option<Vec<&ExactPoint>> = (method.points.iter())
        .map(|point| point.exact.as_ref())
        .collect();
    let exact_volume = match &exact {
        Some(exact) => {
            let values: Vec<Vec<f64>> = exact.iter().map(|point| point.values.clone()).collect();
            Some(hypervolume(&values, reference)?.value)
        }
        None => None,
    };
    let regrets: Option<Vec<f64>> =
        exact.map(|exact| exact.iter().map(|point| point.regret).collect());
    let indicators = Indicators {
        hypervolume: volume.value,
        hypervolume_ratio: exact_volume
            .filter(|exact| *exact > 0.0)
            .map(|exact| volume.value / exact),
        regret_mean: (regrets.as_ref())
            .map(|regrets| regrets.iter().sum::<f64>() / regrets.len() as f64),
        regret_max: (regrets.as_ref())
            .map(|regrets| regrets.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        inner_product: inner_product(&lambdas, &values)
            .expect("the points were checked: there are some"),
        sparsity: sparsity(&values),
        spacing: spacing(&values),
        non_dominated: marks.iter().filter(|mark| **mark).count(),
        ignored_points: volume.ignored.iter().map(|position| position + 1).collect(),
    };
    let points = method
        .points
        .into_iter()
        .zip(marks)
        .map(|(point, non_dominated)| FrontPoint {
            non_dominated,
            ..point
        })
        .collect();
    Ok(MethodFront {
        method: method.method,
        points,
        indicators,
        ordering: method.ordering,
        effects: method.effects,
        cost: method.cost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(lambda: [f64; 2], values: [f64; 2]) -> FrontPoint {
        FrontPoint {
            lambda: lambda.to_vec(),
            values: values.to_vec(),
            stderr: vec![0.1, 0.1],
            ..FrontPoint::default()
        }
    }

    fn method(name: &str) -> MethodPoints {
        MethodPoints {
            method: name.to_owned(),
            points: vec![
                point([1.0, 0.0], [3.0, 1.0]),
                point([0.5, 0.5], [0.5, 0.5]),
                point([0.0, 1.0], [1.0, 2.0]),
            ],
            ordering: Vec::new(),
            effects: Vec::new(),
            cost: Some(Cost {
                train_seconds: 12.5,
                ..Cost::default()
            }),
        }
    }

    fn objectives() -> Vec<String> {
        vec!["helpful".to_owned(), "concise".to_owned()]
    }

    #[test]
    fn it_is_measured_against_the_reference() {
        let mut measured = method("a");
        for (point, regret) in measured.points.iter_mut().zip([0.1, 0.5, 0.3]) {
            let values = vec![3.0, 2.0];
            point.exact = Some(ExactPoint { values, regret });
        }
        let exact = ExactFront::new(vec![vec![3.0, 2.0]]);
        let front = Front::new(
            objectives(),
            vec![measured],
            Some(vec![0.0, 0.0]),
            Some(exact),
        )
        .expect("valid");
        let indicators = &front.methods[0].indicators;
        assert_eq!(indicators.hypervolume, 4.0);
        assert_eq!(indicators.hypervolume_ratio, Some(4.0 / 6.0));
        assert_eq!(
            (indicators.regret_mean, indicators.regret_max),
            (Some(0.3), Some(0.5))
        );
        assert!((indicators.inner_product - (3.0 + 0.5 + 2.0) / 3.0).abs() < 1e-15);
        assert_eq!(indicators.sparsity, Some(5.0));
        assert_eq!(indicators.non_dominated, 2);
        let marks: Vec<bool> = front.methods[0]
            .points
            .iter()
            .map(|p| p.non_dominated)
            .collect();
        assert_eq!(marks, [true, false, true]);
        assert!(front.warnings().is_empty());
    }

    #[test]
    fn the_file_has_the_agreed_keys_and_reads_back() {
        let front =
            Front::new(objectives(), vec![method("panacea-linear")], None, None).expect("valid");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("front.json");
        front.write(&path).expect("written");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("there")).expect("JSON");
        assert_eq!(json["objectives"][0], "helpful");
        assert_eq!(json["reference"], serde_json::json!([0.25, 0.35]));
        let method = &json["methods"][0];
        assert_eq!(method["method"], "panacea-linear");
        assert_eq!(method["train_seconds"], 12.5);
        for key in ["lambda", "values", "stderr"] {
            assert_eq!(
                method["points"][0][key].as_array().map(Vec::len),
                Some(2),
                "{key}"
            );
        }
        for key in ["hypervolume", "inner_product", "sparsity", "spacing"] {
            assert!(method["indicators"][key].is_number(), "{key}");
        }
        assert!(
            json.get("exact").is_none() && method["indicators"].get("hypervolume_ratio").is_none()
        );
        assert_eq!(Front::read(&path).expect("reads back"), front);
    }

    #[test]
    fn a_file_with_the_agreed_keys_alone_is_read() {
        let text = r#"{"objectives":["a"],"reference":[0.0],"methods":[{"method":"discrete","points":[
            {"lambda":[1.0],"values":[2.0],"stderr":[0.1]}],
            "indicators":{"hypervolume":2.0,"inner_product":2.0,"sparsity":null,"spacing":null}}]}"#;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("front.json");
        std::fs::write(&path, text).expect("written");
        assert_eq!(
            Front::read(&path).expect("reads").methods[0].points[0].values,
            [2.0]
        );
        let front = Front::read(&path).expect("reads");
        assert_eq!(front.methods[0].points[0].correlation, None);
        std::fs::write(&path, "{\"objectives\":\n 3}").expect("written");
        let error = Front::read(&path).expect_err("not a front").to_string();
        assert!(error.contains("front.json: line 2"), "{error}");
    }

    #[test]
    fn runs_are_overlaid_under_one_reference() {
        let one =
            Front::new(objectives(), vec![method("panacea-linear")], None, None).expect("valid");
        let mut worse = method("panacea-linear");
        worse.points[1] = point([0.5, 0.5], [-5.0, -5.0]);
        let other =
            Front::new(objectives(), vec![worse, method("discrete")], None, None).expect("valid");
        let both = Front::overlay(
            vec![
                ("first".to_owned(), one.clone()),
                ("second".to_owned(), other),
            ],
            None,
        )
        .expect("same objectives");
        let names: Vec<&str> = both.methods.iter().map(|m| m.method.as_str()).collect();
        assert_eq!(
            names,
            [
                "panacea-linear (first)",
                "panacea-linear (second)",
                "discrete"
            ]
        );
        assert!(both.reference.iter().all(|r| *r < -5.0));
        assert!(both.methods[0].indicators.hypervolume > one.methods[0].indicators.hypervolume);
    }

    #[test]
    fn mistakes_are_named() {
        let build = |method: MethodPoints, reference| {
            Front::new(objectives(), vec![method], reference, None)
                .expect_err("invalid")
                .to_string()
        };
        let mut short = method("m");
        short.points[1].stderr.pop();
        assert!(build(short, None).contains("m, point 2: stderr has 1 value(s), expected 2"));
        let mut infinite = method("m");
        infinite.points[2].values[1] = f64::NAN;
        assert!(build(infinite, None).contains("m: point 3, objective 2: NaN"));
        assert!(build(method("m"), Some(vec![0.0])).contains("reference has 1"));
        for (rows, part) in [
            (vec![vec![0.1]], "rows of [1] numbers"),
            (vec![vec![], vec![0.1, 0.2]], "rows of [0, 2] numbers"),
            (vec![vec![], vec![-1.5]], "-1.5"),
            (vec![vec![], vec![f64::NAN]], "NaN"),
        ] {
            let mut correlated = method("m");
            correlated.points[1].correlation = Some(rows);
            let error = build(correlated, None);
            let expected = format!("m, point 2: correlation has {part}, expected");
            assert!(error.starts_with(&expected), "{error}");
        }
        let mut effects = method("m");
        effects.effects = vec![ObjectiveEffect {
            objective: "helpful".to_owned(),
            over_each: Vec::new(),
            over_others: None,
            over_untrained: None,
            records: None,
        }];
        assert!(build(effects, None).contains("m: effects on or over 0 objective(s), expected 2"));
        let empty = MethodPoints {
            points: Vec::new(),
            ..method("m")
        };
        assert!(build(empty, None).contains("there is no point"));
        let twice = Front::new(objectives(), vec![method("m"), method("m")], None, None)
            .expect_err("invalid");
        assert!(twice.to_string().contains("`m`"));
        assert!(Front::new(Vec::new(), Vec::new(), None, None).is_err());
    }

    #[test]
    fn points_that_do_not_exceed_the_reference_are_warned_of() {
        let front =
            Front::new(objectives(), vec![method("m")], Some(vec![0.5, 0.0]), None).expect("valid");
        assert_eq!(front.methods[0].indicators.ignored_points, [2]);
        let warning = front.warnings().join("\n");
        assert!(
            warning.contains("m: 1 of 3 points (number 2)") && warning.contains("[0.5, 0.0]"),
            "{warning}"
        );
    }
}
