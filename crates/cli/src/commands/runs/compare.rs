//! `runs compare`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use panacea_evaluator::Front;
use panacea_runs::{RunFolder, RunSummary, Unlike};
use serde_json::{Value, json};

use super::show::evaluation_text;
use super::{Evaluated, state_text};

/// Two runs, and what they have in common.
struct Comparison {
    names: [String; 2],
    /// Keys of the plans that differ.
    differences: Vec<Unlike>,
    /// Numbers of the last steps, by name.
    metrics: Vec<(String, Option<f64>, Option<f64>)>,
    fronts: Result<Fronts, String>,
}

/// Two fronts of one kind.
struct Fronts {
    /// Both, under one reference.
    front: Front,
    /// What was measured of each run, in words.
    measured: [String; 2],
}

pub fn run(runs: &Path, names: [&str; 2], json: bool) -> Result<()> {
    let summary = |name: &str| -> Result<RunSummary> {
        Ok(RunSummary::of(&RunFolder::find(runs, Some(name))?)?)
    };
    let (one, other) = (summary(names[0])?, summary(names[1])?);
    let state = |run: &RunSummary| format!("{}: {}", run.folder.name(), state_text(run));
    let (Some(first), Some(second)) = (&one.record, &other.record) else {
        bail!(
            "a run that is broken cannot be compared: {}; {}",
            state(&one),
            state(&other)
        );
    };
    let comparison = Comparison {
        names: names.map(str::to_owned),
        differences: first.unlike(second)?,
        metrics: final_metrics(&one, &other),
        fronts: fronts(&one, &other)?,
    };
    if json {
        let text = serde_json::to_string_pretty(&comparison.to_json())?;
        say!("{text}");
        return Ok(());
    }
    say!("{}\n{}\n", state(&one), state(&other));
    say!("{}\n{}", comparison.plans(), comparison.last_steps());
    match comparison.fronts {
        Ok(Fronts { front, measured }) => {
            say!(
                "fronts\n  {}\n{}",
                measured.join("\n  "),
                front.indicator_table()
            );
            let reference: Vec<_> = front.reference.iter().map(|r| format!("{r:.4}")).collect();
            say!("reference of the hypervolume: {}", reference.join(", "));
            for warning in front.warnings() {
                warn!("{warning}");
            }
        }
        Err(reason) => say!("fronts\n  they cannot be compared: {reason}"),
    }
    Ok(())
}

impl Comparison {
    /// Each key that differs, with both values.
    fn plans(&self) -> String {
        let [one, other] = &self.names;
        if self.differences.is_empty() {
            return "plan: the same\n".to_owned();
        }
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let differences = self.differences.iter().map(|(key, a, b)| {
            format!(
                "  {key}\n    {one}: {}\n    {other}: {}\n",
                shown(a),
                shown(b)
            )
        });
        format!("plan\n{}", differences.collect::<String>())
    }

    /// A table of the numbers of the last steps.
    fn last_steps(&self) -> String {
        let [one, other] = &self.names;
        let length = |text: &String| text.chars().count();
        let metrics = || self.metrics.iter();
        let name = metrics().map(|(name, ..)| length(name)).max().unwrap_or(0);
        let [a, b] = [one, other].map(|name| length(name).max(9));
        let number = |value: &Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
        };
        let rows = metrics().map(|(metric, first, second)| {
            format!(
                "  {metric:<name$}  {:>a$}  {:>b$}\n",
                number(first),
                number(second)
            )
        });
        format!(
            "last step\n  {:<name$}  {one:>a$}  {other:>b$}\n{}",
            "",
            rows.collect::<String>()
        )
    }

    fn to_json(&self) -> Value {
        let differences = self.differences.iter();
        let differences = differences.map(|(key, a, b)| json!({"key": key, "a": a, "b": b}));
        let metrics = self.metrics.iter();
        let metrics = metrics.map(|(metric, a, b)| json!({"metric": metric, "a": a, "b": b}));
        json!({
            "a": self.names[0],
            "b": self.names[1],
            "differences": differences.collect::<Vec<Value>>(),
            "metrics": metrics.collect::<Vec<Value>>(),
            "fronts": match &self.fronts {
                Ok(fronts) => json!({"comparable": true, "front": fronts.front, "measured": fronts.measured}),
                Err(reason) => json!({"comparable": false, "reason": reason}),
            },
        })
    }
}

/// What the last step of each says, by the name of the number.
fn final_metrics(one: &RunSummary, other: &RunSummary) -> Vec<(String, Option<f64>, Option<f64>)> {
    let number =
        |run: &RunSummary, pointer: &str| run.last_step.as_ref()?.pointer(pointer)?.as_f64();
    let mut rows = Vec::new();
    let mut add = |name: String, pointer: &str| {
        let values = (number(one, pointer), number(other, pointer));
        if values != (None, None) {
            rows.push((name, values.0, values.1));
        }
    };
    add("aggregated loss".to_owned(), "/aggregate");
    let names = |run: &RunSummary| {
        run.record
            .as_ref()
            .map(|record| record.plan.objective_names())
    };
    let names: BTreeSet<String> = [one, other]
        .into_iter()
        .filter_map(names)
        .flatten()
        .collect();
    for name in names {
        for key in ["reward", "loss", "margin", "accuracy"] {
            let pointer = name.replace('~', "~0").replace('/', "~1");
            add(
                format!("{name}, {key}"),
                &format!("/objectives/{pointer}/{key}"),
            );
        }
    }
    rows
}

/// The newest fronts of the two that were measured alike, under one reference; else why there are none.
fn fronts(one: &RunSummary, other: &RunSummary) -> Result<Result<Fronts, String>> {
    let mut all = Vec::new();
    for run in [one, other] {
        let (evaluations, broken) = Evaluated::all(run)?;
        for problem in broken {
            warn!("{problem}");
        }
        if evaluations.is_empty() {
            return Ok(Err(format!("run {} was not measured", run.folder.name())));
        }
        all.push(evaluations);
    }
    let mut reason = None;
    for first in all[0].iter().rev() {
        for second in all[1].iter().rev() {
            match not_comparable(first, second) {
                None => {
                    let pair = [(one, first), (other, second)];
                    let measured = pair.map(|(run, evaluated)| {
                        let text = evaluation_text(run.steps, evaluated);
                        format!("{}, evaluation {text}", run.folder.name())
                    });
                    let pair = pair.map(|(run, evaluated)| (run.folder.name(), alone(evaluated)));
                    let front = Front::overlay(pair.into(), None)?;
                    return Ok(Ok(Fronts { front, measured }));
                }
                Some(found) => reason = reason.or(Some(found)),
            }
        }
    }
    Ok(Err(reason.unwrap_or_default()))
}

/// Why two evaluations are not of one kind.
fn not_comparable(one: &Evaluated, other: &Evaluated) -> Option<String> {
    let names = |front: &Front| front.objectives.join(", ");
    if one.front.objectives != other.front.objectives {
        let [one, other] = [one, other].map(|evaluated| names(&evaluated.front));
        return Some(format!("their objectives are others: {one} and {other}"));
    }
    match (one.provenance(), other.provenance()) {
        (Some(one), Some(other)) => one.not_comparable(other),
        _ => Some(
            "one was measured by a version that did not note the records; measure it again with eval-front"
                .to_owned(),
        ),
    }
}

/// What the run itself reaches, without others that it was measured with.
fn alone(evaluated: &Evaluated) -> Front {
    let mut front = evaluated.front.clone();
    front.methods.truncate(1);
    if let Some(method) = front.methods.first_mut()
        && let Some((label, _)) = method.method.rsplit_once(" (")
    {
        method.method = label.to_owned();
    }
    front
}
